//! The configuration of a router, in a documented subset of BIRD 2's language.
//!
//! [`parse`] turns text into a typed [`Config`] or a list of [`Diagnostic`]s with positions; [`diff`] compares two
//! configurations and says what each protocol needs; the `Display` of a [`Config`] prints it in the language again, so
//! that parsing the print gives an equal value.
//!
//! Invariants: templates, `define`s and includes are resolved; every table and filter that a channel names exists;
//! filters are type checked. A statement outside the subset is an error that names it, never ignored.
//!
//! Not here: reading files (the caller gives a [`Loader`]), opening sockets, applying changes.

mod authentication;
mod bfd;
mod bgp;
mod bmp;
mod commit;
mod diagnostic;
mod diff;
mod interfaces;
mod keywords;
mod lexer;
mod logging;
mod monitor;
mod option;
mod parser;
mod print;
mod print_bfd;
mod print_bgp;
mod protocol;
mod rpki;

pub use authentication::{AoAlgorithm, AoChange, AoKey, AoKeys, AoPreference, Authentication, BadAoKeys};
pub use bfd::{BfdConfig, BfdNeighbor, BfdOptions, BfdTiming, BfdUsage, BgpBfd};
pub use bgp::{
    AddPaths, BgpChannel, BgpConfig, CeaseReasons, DEFAULT_DYNAMIC_LIMIT, Gateway, GracefulRestart, LocalAsAllowed,
    Neighbor, NextHopRewrite, PeerType, Role, Timers, Transport,
};
pub use bmp::BmpConfig;
pub use logging::{LogClass, LogClasses, LogSink, LogTarget, TimeFormat, TimeFormats};
pub use monitor::{MrtConfig, TableChoice};
pub use protocol::{
    Channel, ChannelFamily, DeviceConfig, DirectConfig, FelixConfig, InterfacePattern, KernelConfig, Limit,
    LimitAction, Policy, Protocol, ProtocolKind, StaticConfig, StaticDestination, StaticHop, StaticRoute, Table,
};
pub use rpki::{CacheAddress, RoaChannel, RoaConfig, RoaTable, RpkiConfig};

#[cfg(test)]
mod tests;

pub use commit::Commits;
pub use diagnostic::Diagnostic;
pub use diff::{Action, Change, DYNAMIC_LIMIT, diff};
pub use keywords::is_keyword;
pub use parser::{Names, NoValue, ShowRoute};

use std::sync::Arc;
use std::time::Duration;

use tortie_net::RouterId;

use crate::filter::{Filter, Function};

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `router id`; without it the shell picks one, as BIRD does.
    pub router_id: Option<RouterId>,
    /// `router id from`: among the addresses of which interfaces the shell is to pick it; empty: of all.
    pub router_id_from: Vec<InterfacePattern>,
    /// `hostname`; without it the shell gives the host's.
    pub hostname: Option<Arc<str>>,
    /// `log` targets, in order.
    pub log: Vec<LogTarget>,
    /// `timeformat` of the classes that were set.
    pub time_formats: TimeFormats,
    /// `watchdog warning`: a piece of work that takes longer is logged.
    pub watchdog_warning: Option<Duration>,
    /// `watchdog timeout`: a piece of work that takes longer ends the process.
    pub watchdog_timeout: Option<Duration>,
    /// `graceful restart wait`: after a start, the longest time before routes are announced although some restarting
    /// neighbour has not sent all its routes.
    pub graceful_restart_wait: Duration,
    /// All tables. `master4` and `master6` are always there.
    pub tables: Vec<Table>,
    /// All tables of ROAs.
    pub roa_tables: Vec<RoaTable>,
    /// Functions in order of declaration.
    pub functions: Vec<Arc<Function>>,
    /// Named filters in order of declaration.
    pub filters: Vec<Arc<Filter>>,
    /// Protocols in order of declaration. Names are unique. Shared: a protocol that runs holds the configuration it runs with.
    pub protocols: Vec<Arc<Protocol>>,
    /// All names, for what is asked in their terms.
    pub names: Names,
}

/// Reads the files that `include` names.
pub trait Loader {
    /// The files that a pattern (`*`, `?` and `[..]` as in a shell) names, each with its text, sorted by name. `from` is
    /// the including file's name: a relative pattern is relative to its folder.
    ///
    /// # Errors
    /// What is wrong, in words: a file cannot be read, or a name without a wildcard does not exist.
    fn load(&mut self, from: &str, pattern: &str) -> Result<Vec<(String, String)>, String>;
}

/// A loader for configurations without `include`.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoInclude;

impl Loader for NoInclude {
    fn load(&mut self, _from: &str, _pattern: &str) -> Result<Vec<(String, String)>, String> {
        Err("files cannot be included here".to_owned())
    }
}

/// Parses a configuration. Pure: the files that it includes come from `loader`.
///
/// # Errors
/// All errors that make sense to report at once, in the order of the text; never an empty list.
pub fn parse(file_name: &str, text: &str, loader: &mut dyn Loader) -> Result<Config, Vec<Diagnostic>> {
    parser::parse(file_name, text, loader)
}

/// BIRD's default for `graceful restart wait`.
pub const DEFAULT_GRACEFUL_RESTART_WAIT: Duration = Duration::from_secs(240);

impl Default for Config {
    fn default() -> Self {
        Config {
            router_id: None,
            router_id_from: Vec::new(),
            hostname: None,
            log: Vec::new(),
            time_formats: TimeFormats::default(),
            watchdog_warning: None,
            watchdog_timeout: None,
            graceful_restart_wait: DEFAULT_GRACEFUL_RESTART_WAIT,
            tables: [ChannelFamily::Ipv4, ChannelFamily::Ipv6]
                .map(|family| Table {
                    name: family.default_table().into(),
                    family,
                    sorted: false,
                })
                .into(),
            roa_tables: Vec::new(),
            functions: Vec::new(),
            filters: Vec::new(),
            protocols: Vec::new(),
            names: Names::default(),
        }
    }
}

impl Config {
    /// The protocol of this name.
    pub fn protocol(&self, name: &str) -> Option<&Arc<Protocol>> {
        self.protocols.iter().find(|p| &*p.name == name)
    }
}
