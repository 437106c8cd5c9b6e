//! `tortie`, the CNI plugin: it checks what the runtime says and asks felix.
//!
//! It holds no credential, touches no datastore and no kernel object. One invocation is one call of felix's endpoint
//! service on a unix socket (and, with `ipam.type` `host-local` or `static`, one of that plugin); felix answers when
//! everything is in place. CNI specification 0.3.0 to 1.1.0: the result goes
//! to standard output in the version asked for, an error too, with exit status 1; warnings go to standard error.
//!
//! `tortie install` puts it where a runtime looks for it.

mod annotations;
mod ask;
mod client;
mod delegate;
mod environment;
mod error;
mod given;
mod input;
mod install;
mod netconf;
mod result;
mod version;

use std::io::{Read, Write};
use std::process::ExitCode;

use serde_json::Value;

use crate::environment::Command;
use crate::error::{CniError, Code};
use crate::version::SpecVersion;

/// The largest network configuration read. A GC's list of 10,000 attachments takes a quarter of it.
const STDIN_MAX: u64 = 4 << 20;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|a| a == "-v" || a == "--version") {
        println!("tortie {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    // What is no UTF-8 is not taken for absent: the checks refuse the character that stands for it.
    let lossy = |name: &str| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned());
    let get = |name: &str| lossy(name).filter(|v| !v.is_empty());
    if std::env::args().nth(1).is_some_and(|a| a == "install") {
        let args: Vec<String> = std::env::args().skip(2).collect();
        return ExitCode::from(install::run(&args, &get));
    }
    let mut version = SpecVersion::CURRENT;
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
    let target = input::target(command, get)?;
    let (object, conf) = input::configuration(command, &stdin()?, version)?;
    for warning in &conf.warnings {
        eprintln!("tortie: {warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CniError::new(Code::Internal, format!("start the runtime: {e}")))?;
    let search = get("CNI_PATH");
    let call = ask::Call {
        command,
        conf: &conf,
        object: &object,
        target: target.as_ref(),
        search: search.as_deref(),
    };
    runtime.block_on(ask::ask(&call))
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
