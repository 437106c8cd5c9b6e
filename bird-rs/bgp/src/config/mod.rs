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

mod bgp;
mod protocol;

pub use bgp::{
    AddPaths, BgpChannel, BgpConfig, CeaseReasons, Gateway, GracefulRestart, LocalAsAllowed, Neighbor, NextHopRewrite,
    PeerType, Role, Timers, Transport,
};
pub use protocol::{
    Channel, ChannelFamily, DeviceConfig, DirectConfig, FelixConfig, InterfacePattern, KernelConfig, KernelLearn,
    Limit, LimitAction, LogTarget, Policy, Protocol, ProtocolKind, StaticChannel, StaticConfig, StaticDestination,
    StaticHop, StaticRoute, Table, TimeFormat, TimeFormats,
};

use std::sync::Arc;
use std::time::Duration;

use tortie_net::RouterId;

use crate::filter::{Filter, Function};

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `router id`; without it the shell picks one, as BIRD does.
    pub router_id: Option<RouterId>,
    /// `log` targets, in order.
    pub log: Vec<LogTarget>,
    /// `timeformat` of the classes that were set.
    pub time_formats: TimeFormats,
    /// `watchdog warning` in microseconds; accepted, without effect.
    pub watchdog_warning: Option<Duration>,
    /// `watchdog timeout`; accepted, without effect.
    pub watchdog_timeout: Option<Duration>,
    /// `graceful restart wait`: after a start, the longest time before routes are announced although some restarting
    /// neighbour has not sent all its routes.
    pub graceful_restart_wait: Duration,
    /// All tables. `master4` and `master6` are always there.
    pub tables: Vec<Table>,
    /// Functions in order of declaration.
    pub functions: Vec<Arc<Function>>,
    /// Named filters in order of declaration.
    pub filters: Vec<Arc<Filter>>,
    /// Protocols in order of declaration. Names are unique.
    pub protocols: Vec<Protocol>,
}

/// BIRD's default for `graceful restart wait`.
pub const DEFAULT_GRACEFUL_RESTART_WAIT: Duration = Duration::from_secs(240);

impl Default for Config {
    fn default() -> Self {
        Config {
            router_id: None,
            log: Vec::new(),
            time_formats: TimeFormats::default(),
            watchdog_warning: None,
            watchdog_timeout: None,
            graceful_restart_wait: DEFAULT_GRACEFUL_RESTART_WAIT,
            tables: vec![
                Table {
                    name: "master4".into(),
                    family: ChannelFamily::Ipv4,
                },
                Table {
                    name: "master6".into(),
                    family: ChannelFamily::Ipv6,
                },
            ],
            functions: Vec::new(),
            filters: Vec::new(),
            protocols: Vec::new(),
        }
    }
}

impl Config {
    /// The protocol of this name.
    pub fn protocol(&self, name: &str) -> Option<&Protocol> {
        self.protocols.iter().find(|p| &*p.name == name)
    }
}
