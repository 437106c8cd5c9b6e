//! One command, and what is asked of felix for it.

use serde_json::{Map, Value};

use crate::client::Felix;
use crate::environment::{Command, Target};
use crate::error::{CniError, Code};
use crate::netconf::{Ipam, NetConf};
use crate::{given, result};

/// An invocation, validated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) command: Command,
    pub(crate) conf: &'a NetConf,
    /// The configuration as it was read, for a plugin that it is passed on to.
    pub(crate) object: &'a Map<String, Value>,
    /// Of ADD, DEL and CHECK.
    pub(crate) target: Option<&'a Target>,
    /// Where other plugins are: `CNI_PATH`.
    pub(crate) search: Option<&'a str>,
}

pub(crate) fn missing(field: &str) -> CniError {
    CniError::new(
        Code::InvalidConfiguration,
        format!("network configuration: field '{field}' missing"),
    )
}

/// Asks felix, and gives what is to be printed.
pub(crate) async fn ask(call: &Call<'_>) -> Result<Option<Value>, CniError> {
    let (command, conf) = (call.command, call.conf);
    if let Ipam::Delegate(name) = &conf.ipam {
        return given::ask(call, name).await;
    }
    match (command, call.target) {
        (Command::Add, Some(target)) => {
            let made = Felix::connect(conf, command).await?.add(conf, target, &[]).await?;
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
            Felix::connect(conf, command).await?.ready(false).await?;
        }
        (Command::Version | Command::Add | Command::Del | Command::Check, _) => {}
    }
    Ok(None)
}
