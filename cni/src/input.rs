//! All that a runtime says, read and validated together. The fuzz target `netconf` is given this and what it uses.

use serde_json::{Map, Value};

use crate::environment::{self, Command, Lookup, Target};
use crate::error::{CniError, Code};
use crate::netconf::{self, NetConf};
use crate::version::SpecVersion;

/// The attachment, for the commands that are about one.
pub(crate) fn target(command: Command, get: Lookup<'_>) -> Result<Option<Target>, CniError> {
    match command {
        Command::Add | Command::Del | Command::Check => environment::target(command, get).map(Some),
        Command::Gc | Command::Status | Command::Version => Ok(None),
    }
}

/// The configuration, as it was read and as it is meant. `version` becomes its own as soon as it is known.
pub(crate) fn configuration(
    command: Command,
    stdin: &[u8],
    version: &mut SpecVersion,
) -> Result<(Map<String, Value>, NetConf), CniError> {
    let (object, spec) = netconf::decode(stdin)?;
    *version = spec;
    let conf = netconf::parse(&object, spec)?;
    allowed(command, spec)?;
    Ok((object, conf))
}

/// Does the configuration's version have the command?
fn allowed(command: Command, version: SpecVersion) -> Result<(), CniError> {
    let since = command.since();
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
