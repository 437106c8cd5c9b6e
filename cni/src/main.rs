//! `tortie`, the CNI plugin: it checks what the runtime says and asks felix.
//!
//! It holds no credential, touches no datastore and no kernel object. One invocation is one call of felix's endpoint
//! service on a unix socket; felix answers when everything is in place. CNI specification 0.3.0 to 1.1.0: the result goes
//! to standard output in the version asked for, an error too, with exit status 1; warnings go to standard error.

mod client;
mod environment;
mod error;
mod netconf;
mod result;
mod version;

use std::io::{Read, Write};
use std::process::ExitCode;

use serde_json::Value;

use crate::client::Felix;
use crate::environment::{Command, Target};
use crate::error::{CniError, Code};
use crate::netconf::NetConf;
use crate::version::SpecVersion;

/// The largest network configuration read. A GC's list of 10,000 attachments takes a quarter of it.
const STDIN_MAX: u64 = 4 << 20;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|a| a == "-v" || a == "--version") {
        println!("tortie {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let mut version = SpecVersion::CURRENT;
    let get = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let (output, status) = match invoke(&get, &mut version) {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(result)) => (result, ExitCode::SUCCESS),
        Err(e) => (e.to_json(version), ExitCode::FAILURE),
    };
    match writeln!(std::io::stdout(), "{output}") {
        Ok(()) => status,
        Err(e) => {
            eprintln!("tortie: write to standard output: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the environment asks for. `version` becomes the configuration's as soon as it is known, so that an error
/// after that is printed in it.
fn invoke(get: environment::Lookup<'_>, version: &mut SpecVersion) -> Result<Option<Value>, CniError> {
    let command = environment::command(get)?;
    if command == Command::Version {
        return Ok(Some(result::versions()));
    }
    let target = match command {
        Command::Add | Command::Del | Command::Check => Some(environment::target(command, get)?),
        Command::Gc | Command::Status | Command::Version => None,
    };
    let (object, spec) = netconf::decode(&stdin()?)?;
    *version = spec;
    let conf = netconf::parse(&object, spec)?;
    allowed(command, spec)?;
    for warning in &conf.warnings {
        eprintln!("tortie: {warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CniError::new(Code::Internal, format!("start the runtime: {e}")))?;
    runtime.block_on(ask(command, &conf, target.as_ref()))
}

async fn ask(command: Command, conf: &NetConf, target: Option<&Target>) -> Result<Option<Value>, CniError> {
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
fn allowed(command: Command, version: SpecVersion) -> Result<(), CniError> {
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

fn stdin() -> Result<Vec<u8>, CniError> {
    let mut read = Vec::new();
    std::io::stdin()
        .take(STDIN_MAX + 1)
        .read_to_end(&mut read)
        .map_err(|e| CniError::new(Code::Io, format!("read standard input: {e}")))?;
    if read.len() as u64 > STDIN_MAX {
        return Err(CniError::new(
            Code::Decoding,
            format!("standard input has more than {STDIN_MAX} octets"),
        ));
    }
    Ok(read)
}
