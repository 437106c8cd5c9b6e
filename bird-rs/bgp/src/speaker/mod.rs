//! A whole router without IO: protocols, sessions, tables, policy.
//!
//! The shell owns sockets and the clock. It gives each thing that happens to [`Speaker::handle`], executes the
//! [`Output`]s in order, and when its queue of inputs is empty calls [`Speaker::flush`], which decides what changed and
//! sends it: many inputs cost one decision and share messages. [`Speaker::next_deadline`] says when to call with
//! [`Input::Tick`] (which flushes by itself) if nothing happens before.
//!
//! | type | how many | what it is |
//! |---|---|---|
//! | `Instance` | one for each protocol, dynamic peers included | its configuration and state, by [`crate::rib::SourceId`] |
//! | `Session` | one for each BGP peer | the state machine and its channels |
//! | `Tables` | one | tables of both families, interned attributes, update groups |
//! | `Connection` | one for each TCP connection | octets of an unfinished message, octets not yet confirmed |
//! | `Convergence` | one | whether the initial table is complete |
//!
//! Invariants:
//! * the outputs depend on the sequence of inputs and their times, and nothing else;
//! * on one connection at most [`SEND_WINDOW`] octets of UPDATEs, and one batch beyond, wait for a slow peer; what it
//!   did not take coalesces in the tables;
//! * a peer is never sent what it has already, unless it asks for everything again;
//! * nothing that one peer sends ends another's session.
//!
//! RFC 4271, 4456, 4724, 4760, 2918, 7313, 7911, 1997, 2545, 9234. Not here: sockets, the state machine's rules
//! ([`crate::fsm`]), encoding ([`crate::packet`]), routes of the kernel.

mod bfd;
mod channels;
mod connection;
mod converge;
mod dump;
mod export;
mod feed;
mod igp;
mod import;
mod instance;
mod io;
mod kernel;
mod links;
mod listing;
mod merge;
mod monitor;
mod operate;
mod origin;
mod own_limits;
mod packed;
mod pages;
mod query;
mod range;
mod reconfigure;
mod roas;
mod roles;
mod rounds;
mod routes;
mod said;
mod session;
mod show;
mod slot;
mod soften;
mod statics;
mod tables;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tortie_net::{Prefix, RouterId};

pub use self::bfd::{BfdKey, BfdSpec};
pub use self::dump::{DumpCursor, DumpPage};
pub use self::io::{
    Command, ConnectSpec, ExportKind, ExportSpec, FibNextHop, FibRoute, Input, InterfaceAddress, InterfaceLink,
    ListenSpec, Log, LogEvent, Output, Station,
};
pub use self::kernel::{Alien, KernelEntry, KernelSpec};
pub use self::listing::{ExportStage, Listed, ListedNets, ListedTables, Listing, NoListing, Page};
pub use self::monitor::{MonitorCursor, MonitorPage};
pub use self::operate::{MAX_REASON, Operated};
pub use self::pages::{Cursor, FibPage, RoutesPage};
pub use self::roas::{CacheNews, CacheSpec, ListedRoa, ListedSource};
pub use self::show::{
    BgpStatus, BmpStatus, CacheView, ChannelSettings, ChannelStatus, LimitStatus, ProtocolState, ProtocolStatus,
    RangeStatus, RouteQuery, RouteView, Status,
};
pub use self::statics::StaticView;
pub use self::watch::{MAX_WATCHERS, NoWatch, WatchId, Watched};
pub use crate::fsm::{BfdVerdict, ConnId};
pub use crate::rib::Filtered;

use self::connection::Connection;
use self::converge::Convergence;
use self::instance::Instance;
use self::links::Links;
use self::monitor::Monitor;
use self::tables::Tables;
use self::watch::Watcher;
use crate::config::{Config, ProtocolKind};
use crate::fsm::{Event, StopReason};
use crate::rib::SourceId;

/// Octets of UPDATEs that may be unconfirmed on one connection.
pub const SEND_WINDOW: usize = 256 * 1024;

/// The configuration has no `router id`, and a speaker cannot make one up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has no router id")]
pub struct NoRouterId;

/// A router without IO.
#[derive(Debug)]
pub struct Speaker {
    /// The latest time that an input came with.
    now: Duration,
    config: Arc<Config>,
    configured_at: Duration,
    router_id: RouterId,
    addresses: Arc<[InterfaceAddress]>,
    links: Links,
    /// Sessions have to be told how their links are.
    links_changed: bool,
    /// Next hops that would be ourselves.
    own: Arc<[IpAddr]>,
    instances: Vec<Option<Instance>>,
    connections: FxHashMap<ConnId, Connection>,
    tables: Tables,
    convergence: Convergence,
    listening: Vec<ListenSpec>,
    exporting: Vec<ExportSpec>,
    monitor: Monitor,
    bfd_wanted: Vec<BfdSpec>,
    /// Of these, the ones that are up.
    bfd_up: BTreeSet<BfdKey>,
    caches: Vec<CacheSpec>,
    /// Of the next session with a cache.
    next_cache: u32,
    /// Of the next session.
    next_key: u32,
    /// Of the last kernel protocol that began to be told anew.
    next_epoch: u32,
    /// The tables of the kernel's that the shell was told of.
    kernel_specs: Vec<KernelSpec>,
    watchers: Vec<Watcher>,
    /// Of the last watcher.
    next_watch: u64,
    /// Of the next dynamic peer.
    next_dynamic: u32,
    stopping: bool,
    /// Nothing is recovered from a restart.
    fresh: bool,
    /// Something happened since the last flush that one may have to follow.
    unflushed: bool,
    /// The next thing to do is not earlier; it may be later, since a peer's timers may have moved on.
    wake_at: Option<Duration>,
    /// Felix was told that what it has is complete.
    fib_in_sync: bool,
    /// What felix was told by a protocol that is gone, until the next flush has told it what there is instead.
    left_by_felix: BTreeMap<Prefix, FibRoute>,
    /// What starting wanted done, for the first call that can say so.
    early: Vec<Output>,
}

impl Speaker {
    /// A router with this configuration. Its first outputs come with the first call of [`Speaker::handle`] or
    /// [`Speaker::flush`]; let that be [`Input::Interfaces`].
    ///
    /// # Errors
    /// When the configuration has no router id.
    pub fn new(now: Duration, config: Arc<Config>) -> Result<Self, NoRouterId> {
        let mut speaker = Speaker {
            now,
            configured_at: now,
            router_id: config.router_id.ok_or(NoRouterId)?,
            convergence: Convergence::default(),
            config: Arc::new(Config::default()),
            addresses: Arc::from([]),
            links: Links::default(),
            links_changed: false,
            own: Arc::from([]),
            instances: Vec::new(),
            connections: FxHashMap::default(),
            tables: Tables::default(),
            listening: Vec::new(),
            exporting: Vec::new(),
            monitor: Monitor::default(),
            bfd_wanted: Vec::new(),
            bfd_up: BTreeSet::new(),
            caches: Vec::new(),
            next_cache: 0,
            next_key: 0,
            next_epoch: 0,
            kernel_specs: Vec::new(),
            watchers: Vec::new(),
            next_watch: 0,
            next_dynamic: 0,
            stopping: false,
            fresh: false,
            unflushed: true,
            wake_at: None,
            fib_in_sync: false,
            left_by_felix: BTreeMap::new(),
            early: Vec::new(),
        };
        let mut early = Vec::new();
        speaker.reconfigure(config, false, &mut early);
        speaker.early = early;
        Ok(speaker)
    }

    /// To be called at once after [`Speaker::new`]: this is no restart. Otherwise peers with graceful restart are told that
    /// what they kept of our routes is still good, until the initial table is complete.
    pub fn start_afresh(&mut self) {
        self.fresh = true;
        self.convergence.nothing_to_recover();
        let sessions = self.instances.iter_mut().flatten().filter_map(Instance::session_mut);
        sessions.for_each(|session| session.peer.start_afresh());
    }

    /// Takes an input and appends what is to be done about it at once. Routes are sent by [`Speaker::flush`].
    pub fn handle(&mut self, now: Duration, input: Input, out: &mut Vec<Output>) {
        self.now = self.now.max(now);
        out.append(&mut self.early);
        // What a peer has taken makes room for what it has still to be told, and nothing else.
        self.unflushed |= !matches!(input, Input::Tick | Input::Sent { .. });
        match input {
            Input::Tick => {
                self.tick(out);
                self.flush(now, out);
            }
            Input::Interfaces(addresses) => self.set_addresses(addresses),
            Input::Links(links) => self.set_links(links),
            Input::Kernel { complete, changes } => self.tables.shared.hops.kernel(complete, changes),
            Input::Learned {
                protocol,
                complete,
                aliens,
            } => self.learn(&protocol, complete, aliens),
            Input::Written { protocol, epoch } => self.written(&protocol, epoch),
            Input::Incoming { conn, local, remote } => self.incoming(conn, local, remote, out),
            Input::Connected { conn, local, remote } => {
                self.connection_event(conn, Event::Connected { conn, local, remote }, out);
            }
            Input::ConnectFailed { conn, reason } => {
                self.connection_event(conn, Event::ConnectFailed { conn, error: reason }, out);
                self.connections.remove(&conn);
            }
            Input::Unguarded { peers, reason } => self.unguarded(peers, &reason),
            Input::Received { conn, bytes } => self.received(conn, bytes, out),
            Input::Closed { conn, reason } => {
                self.connection_event(conn, Event::Closed { conn, error: reason }, out);
                self.connections.remove(&conn);
            }
            Input::Sent { conn, bytes } => self.sent(conn, bytes, out),
            Input::Reconfigure(config) => self.reconfigure(config, false, out),
            Input::ReconfigureSoftly(config) => self.reconfigure(config, true, out),
            Input::Command { protocol, command } => {
                self.operate(now, (&protocol, command), "", out);
            }
            Input::Cache { id, news } => self.cache_says(id, news),
            Input::Bfd { key, verdict } => self.bfd_says(&key, verdict, out),
            Input::Station { protocol, station } => self.station(&protocol, station),
            Input::Stop => self.stop(out),
        }
    }

    /// When to call with [`Input::Tick`] if nothing happens before; now, when there is something to flush.
    ///
    /// Costs nothing: a thousand peers confirm a thousand writes, and after each the shell asks.
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.unflushed { Some(self.now) } else { self.wake_at }
    }

    /// When there is something to do, looking at all there is.
    fn find_deadline(&self) -> Option<Duration> {
        if self.has_work() {
            return Some(self.now);
        }
        let sessions = self.sessions().filter_map(|session| session.peer.next_deadline());
        sessions.chain(self.convergence.deadline()).min()
    }

    /// Something has happened to a peer: it may want to be called earlier.
    fn wake_for(&mut self, source: SourceId) {
        let Some(instance) = self.instance(source) else { return };
        let deadline = instance.session().and_then(|session| session.peer.next_deadline());
        let works = self.has_work_for(instance);
        self.wake_at = self.wake_at.into_iter().chain(deadline).min();
        self.unflushed |= works;
    }

    fn tick(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        let due = self.instances.iter().flatten().filter(|instance| {
            let deadline = instance.session().and_then(|session| session.peer.next_deadline());
            deadline.is_some_and(|deadline| deadline <= now)
        });
        let due: Vec<_> = due.map(|instance| instance.source).collect();
        for source in due {
            self.peer_event(source, Event::Tick, out);
        }
    }

    fn set_addresses(&mut self, mut addresses: Vec<InterfaceAddress>) {
        addresses.sort_unstable();
        addresses.dedup();
        if *addresses == *self.addresses {
            return;
        }
        let links = addresses.iter().map(|a| (a.subnet, a.interface.clone()));
        self.tables.shared.hops.set_links(links.collect());
        self.addresses = addresses.into();
        self.links_changed = true;
        let import = self.find_own();
        for at in 0..self.instances.len() {
            self.originate(at);
            // Views that stay as they are cost nothing. Importing anew looks at every route.
            self.refeed(at, import, true);
        }
    }

    /// Finds out which next hops would be ourselves; says whether they are other ones than before.
    fn find_own(&mut self) -> bool {
        let own: Vec<IpAddr> = own_addresses(&self.addresses, &self.config);
        let changed = own[..] != self.own[..];
        self.own = own.into();
        changed
    }

    fn stop(&mut self, out: &mut Vec<Output>) {
        self.stopping = true;
        let sources: Vec<_> = self
            .instances
            .iter()
            .flatten()
            .map(|instance| instance.source)
            .collect();
        for source in sources {
            self.peer_event(source, Event::Stop(StopReason::ProcessExit), out);
        }
        self.kernels(out);
    }
}

/// The addresses that a peer may take for a next hop. A link-local one is known on its link only, and a node has one for each
/// pod: those count where the link has another address, or a session.
fn own_addresses(addresses: &[InterfaceAddress], config: &Config) -> Vec<IpAddr> {
    let is_link_local = |a: &InterfaceAddress| matches!(a.address, IpAddr::V6(a) if a.is_unicast_link_local());
    let mut links: Vec<&str> = addresses
        .iter()
        .filter(|a| !is_link_local(a))
        .map(|a| &*a.interface)
        .collect();
    links.extend(config.protocols.iter().filter_map(|protocol| match &protocol.kind {
        ProtocolKind::Bgp(bgp) => bgp.interface.as_deref(),
        _ => None,
    }));
    links.sort_unstable();
    let counts = |a: &&InterfaceAddress| !is_link_local(a) || links.binary_search(&&*a.interface).is_ok();
    addresses.iter().filter(counts).map(|a| a.address).collect()
}
