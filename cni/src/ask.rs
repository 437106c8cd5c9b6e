//! One command, one call of felix.

use serde_json::Value;

use crate::client::Felix;
use crate::environment::{Command, Target};
use crate::error::{CniError, Code};
use crate::netconf::NetConf;
use crate::result;
use crate::version::SpecVersion;

/// Asks felix, and gives what is to be printed.
pub(crate) async fn ask(command: Command, conf: &NetConf, target: Option<&Target>) -> Result<Option<Value>, CniError> {
    let missing = |field: &str| {
        CniError::new(
            Code::InvalidConfiguration,
            format!("network configuration: field '{field}' missing"),
        )
    };
    match (command, target) {
        (Command::Add, Some(target)) => {
            let made = Felix::connect(conf, command).await?.add(conf, target).await?;
            return Ok(Some(result::added(conf, target, &made)));
        }
        (Command::Del, Some(target)) => {
            Felix::connect(conf, command).await?.del(conf, target).await?;
        }
        (Command::Check, Some(target)) => {
            let previous = conf.prev_result.as_ref().ok_or_else(|| missing("prevResult"))?;
            let expected = result::expected_ips(previous, &target.ifname);
            Felix::connect(conf, command)
                .await?
                .check(conf, target, expected)
                .await?;
        }
        (Command::Gc, _) => {
            let valid = conf
                .valid_attachments
                .as_ref()
                .ok_or_else(|| missing("cni.dev/valid-attachments"))?;
            Felix::connect(conf, command).await?.collect(conf, valid).await?;
        }
        (Command::Status, _) => {
            Felix::connect(conf, command).await?.ready().await?;
        }
        (Command::Version | Command::Add | Command::Del | Command::Check, _) => {}
    }
    Ok(None)
}

/// CHECK came with 0.4.0, GC and STATUS with 1.1.0.
pub(crate) fn allowed(command: Command, version: SpecVersion) -> Result<(), CniError> {
    let since = match command {
        Command::Add | Command::Del | Command::Version => SpecVersion::V0_3_0,
        Command::Check => SpecVersion::V0_4_0,
        Command::Gc | Command::Status => SpecVersion::V1_1_0,
    };
    if version >= since {
        return Ok(());
    }
    Err(CniError::new(
        Code::IncompatibleVersion,
        "the configuration's version does not have this command",
    )
    .details(format!(
        "field 'cniVersion' is '{}', the command came with {}",
        version.as_str(),
        since.as_str()
    )))
}
