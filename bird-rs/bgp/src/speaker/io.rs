//! What goes into a speaker and what comes out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use tortie_net::Prefix;
use tortie_replica::Delta;

use super::bfd::{BfdKey, BfdSpec};
use super::kernel::{Alien, KernelEntry, KernelSpec};
use super::roas::{CacheNews, CacheSpec};
use crate::bmp;
use crate::config::{Authentication, BmpConfig, Config, MrtConfig};
use crate::filter::{Krt, RouteDestination};
use crate::fsm::{BfdVerdict, ConnId};
use crate::nexthop::KernelChange;

/// What the shell tells the speaker.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Time has passed: a deadline was reached, or there is something to flush.
    Tick,
    /// The host's addresses, all of them; replaces the ones before. Wanted once before the first session and on each
    /// change. A shell without them gives none: then no subnet is a connected one.
    Interfaces(Vec<InterfaceAddress>),
    /// The host's interfaces that are up, all of them; replaces the ones before. Wanted before [`Input::Interfaces`] and on
    /// each change. Without any such input every interface is up and has a carrier.
    Links(Vec<InterfaceLink>),
    /// The kernel's routes, those learned by BGP left out: by them BGP next hops are resolved. Without any such input no next
    /// hop is unreachable. Of several routes to a prefix the one that the kernel uses.
    Kernel {
        /// These are all, instead of what was known. So the first ones are to be.
        complete: bool,
        /// What there is now at each prefix.
        changes: Vec<KernelChange>,
    },
    /// Routes of others in the table of a kernel protocol that learns them: of each prefix the one with the lowest metric.
    Learned {
        /// The protocol.
        protocol: Arc<str>,
        /// These are all, instead of what was known.
        complete: bool,
        /// What there is now at each prefix.
        aliens: Vec<(Prefix, Option<Alien>)>,
    },
    /// The routes of the last [`Output::Kernel`] of this protocol and epoch were written, as far as they can be.
    Written {
        /// The protocol.
        protocol: Arc<str>,
        /// From its [`KernelSpec`].
        epoch: u32,
    },
    /// Somebody connected to us. When it is nobody's peer, the answer is [`Output::Close`].
    Incoming {
        /// Its id from now on: [`ConnId::Incoming`], numbered by the shell and never used again.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
        /// The peer's end.
        remote: SocketAddr,
    },
    /// A connection asked for by [`Output::Connect`] stands.
    Connected {
        /// Which.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
        /// The peer's end.
        remote: SocketAddr,
    },
    /// A connection asked for by [`Output::Connect`] could not be made. The id is gone.
    ConnectFailed {
        /// Which.
        conn: ConnId,
        /// The operating system's word.
        reason: String,
    },
    /// Connections from these peers cannot be accepted, since their segments cannot be checked as they have to be: above all
    /// when the kernel cannot do what `authentication` asks for.
    Unguarded {
        /// Whose.
        peers: Prefix,
        /// The operating system's word.
        reason: String,
    },
    /// The next octets of the stream, cut anywhere; the speaker frames. At most a message's worth is buffered.
    Received {
        /// On which connection.
        conn: ConnId,
        /// What was read.
        bytes: Bytes,
    },
    /// The peer or the operating system closed it. The id is gone.
    Closed {
        /// Which.
        conn: ConnId,
        /// The operating system's word; empty when the peer closed it in the regular way.
        reason: String,
    },
    /// So many octets of [`Output::Send`] were written to the socket. This is what lets the speaker send more: it keeps
    /// no more than [`super::SEND_WINDOW`] octets of UPDATEs unconfirmed on a connection.
    Sent {
        /// On which connection.
        conn: ConnId,
        /// How many.
        bytes: usize,
    },
    /// Make this configuration the current one.
    Reconfigure(Arc<Config>),
    /// Likewise, but filters are not applied to the routes that there are: only to what changes from now on.
    ReconfigureSoftly(Arc<Config>),
    /// An operator's command for one protocol.
    Command {
        /// Its name.
        protocol: Arc<str>,
        /// What to do.
        command: Command,
    },
    /// A session with a cache has something to say.
    Cache {
        /// Its number.
        id: u32,
        /// What.
        news: CacheNews,
    },
    /// BFD says something about the path to a peer; only sessions that are wanted count.
    Bfd {
        /// Which session.
        key: BfdKey,
        /// What.
        verdict: BfdVerdict,
    },
    /// How a `protocol bmp` stands with its station. Only one that is connected costs anything; the shell reads
    /// [`super::Speaker::monitored_peers`] at once and passes [`Output::Monitor`] on from then on.
    Station {
        /// Its name.
        protocol: Arc<str>,
        /// What is new.
        station: Station,
    },
    /// The process is about to end. Sessions with graceful restart are closed silently, so that peers keep our routes;
    /// the others are told.
    Stop,
}

/// An operator's command, as `birdc` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Bring it up.
    Enable,
    /// Take it down and keep it down.
    Disable,
    /// Take it down and up again.
    Restart,
    /// Apply both filters anew, without touching the session.
    Reload,
    /// Apply the import filter anew.
    ReloadIn,
    /// Apply the export filter anew and announce everything again.
    ReloadOut,
}

/// One address of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceAddress {
    /// The interface's name.
    pub interface: Arc<str>,
    /// The address.
    pub address: IpAddr,
    /// The subnet it connects us to (a host prefix when none).
    pub subnet: Prefix,
}

/// An interface of the host that is up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceLink {
    /// Its name.
    pub interface: Arc<str>,
    /// It has a carrier: a cable, or the other end is up.
    pub carrier: bool,
}

/// What the speaker wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Open a TCP connection. Answered later by `Connected` or `ConnectFailed`, unless `Close` comes first.
    Connect {
        /// Its id from now on.
        conn: ConnId,
        /// How.
        spec: ConnectSpec,
    },
    /// Close after what was given to [`Output::Send`] before. No answer; the id is gone.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Write these octets, whole messages, in order. The buffer may be shared with other connections.
    Send {
        /// On which connection.
        conn: ConnId,
        /// What.
        bytes: Bytes,
    },
    /// Listen here and nowhere else; replaces what was wanted before.
    Listen(Vec<ListenSpec>),
    /// The enabled protocols that show others what this router has, all of them; replaces what was wanted before.
    Exports(Vec<ExportSpec>),
    /// Watch these paths and no others; replaces what was wanted before. Sorted by key, each once.
    Bfd(Vec<BfdSpec>),
    /// Speak with these caches and no others; replaces what was wanted before. Where only `timers` differ, the session goes on.
    Caches(Vec<CacheSpec>),
    /// A change of the best routes that `protocol felix` exports. `InSync` comes once, when the initial table is
    /// complete; whoever joins later reads [`super::Speaker::fib`] first.
    Fib(Delta<Prefix, FibRoute>),
    /// For every connected monitoring station that [`bmp::Message::is_for`], in order.
    Monitor(Vec<bmp::Message>),
    /// Stations have missed something: they must be connected to anew.
    MonitorLost,
    /// The tables of the kernel's to write and to learn from, all of them; replaces what was wanted before. What was written
    /// on behalf of one that is gone goes, unless it was to persist.
    Kernels(Vec<KernelSpec>),
    /// Changes of what is to be in one of these tables; answered by [`Input::Written`], and no others come before that.
    Kernel {
        /// Whose table.
        protocol: Arc<str>,
        /// From its [`KernelSpec`].
        epoch: u32,
        /// The changes. `InSync`: everything was told, and nothing else of ours is to be there.
        deltas: Vec<Delta<Prefix, KernelEntry>>,
    },
    /// Something an operator may want to know.
    Log(Log),
}

/// How a `protocol bmp` stands with its station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Station {
    /// It is connected and told things.
    Connected,
    /// It is not, for this reason.
    Lost(String),
}

/// How to open a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectSpec {
    /// Where to.
    pub remote: SocketAddr,
    /// The address to bind to.
    pub source: Option<IpAddr>,
    /// The interface to bind to; the scope of a link-local `remote`.
    pub interface: Option<String>,
    /// How segments are signed.
    pub authentication: Authentication,
    /// The TTL to send with.
    pub ttl: u8,
    /// Drop what arrives with a lower TTL (RFC 5082).
    pub min_ttl: Option<u8>,
}

/// A protocol that shows others what this router has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSpec {
    /// Its name.
    pub protocol: Arc<str>,
    /// What to do.
    pub kind: ExportKind,
}

/// What such a protocol does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportKind {
    /// Dump tables now and then.
    Mrt(MrtConfig),
    /// Tell a monitoring station what peers tell us.
    Bmp(BmpConfig),
}

/// Where to listen, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenSpec {
    /// On one address; `None` is every address of both families.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// Listen even if the address is not there yet.
    pub free_bind: bool,
    /// How segments of these peers are signed; the others' are not.
    pub keys: Vec<(Prefix, Authentication)>,
}

/// Where packets of one prefix go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FibRoute {
    /// Gateways; none when `destination` is not unicast.
    pub next_hops: Vec<FibNextHop>,
    /// What is done with packets.
    pub destination: RouteDestination,
    /// The protocol that the route was learned from.
    pub protocol: Arc<str>,
    /// What the kernel is to say of it, or said when it was learned.
    pub krt: Krt,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// Kept over the restart of the peer that told it.
    pub stale: bool,
}

/// One gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FibNextHop {
    /// The address; none when the route is on the link.
    pub address: Option<IpAddr>,
    /// The interface; none when whoever installs the route must find it.
    pub interface: Option<Arc<str>>,
    /// From 1.
    pub weight: u16,
    /// The gateway is on the interface's link although no subnet of it says so.
    pub onlink: bool,
}

/// Something worth a line in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// Whose.
    pub protocol: Arc<str>,
    /// What happened.
    pub event: LogEvent,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum LogEvent {
    /// A session changed its state.
    State {
        /// RFC 4271's name of the state before.
        from: &'static str,
        /// And now.
        to: &'static str,
        /// Why.
        reason: String,
        /// `debug` asks for it.
        traced: bool,
    },
    /// A peer's route could not be used as it came.
    BadRoute {
        /// What was wrong.
        reason: String,
    },
    /// A limit was reached.
    Limit {
        /// `"receive"`, `"import"` or `"export"`.
        kind: &'static str,
        /// The limit.
        limit: u32,
        /// What is done about it.
        action: &'static str,
    },
    /// A range has as many peers as it may, and another one was refused.
    RangeFull {
        /// How many it may have.
        limit: u32,
        /// Connections refused so far.
        refused: u64,
        /// Who was refused last.
        address: IpAddr,
    },
    /// A filter printed a line.
    FilterMessage {
        /// The line.
        text: String,
    },
    /// Filters had more to say than is logged at a time.
    FilterSilenced {
        /// Lines that were dropped.
        lines: u64,
    },
    /// A filter failed on a route, which is rejected.
    FilterFailed {
        /// The route.
        net: Prefix,
        /// Why.
        reason: String,
    },
    /// The protocol has `bfd`, and no `protocol bfd` accepts its sessions: nothing watches the path.
    Unwatched,
    /// Routes of a peer whose session was lost are kept.
    Stale {
        /// How many.
        routes: usize,
        /// Why the session was lost.
        reason: String,
    },
    /// Stale routes of a peer that did not come back in time are kept on, as a last resort (RFC 9494).
    LongLivedStale {
        /// How many.
        routes: usize,
    },
    /// Stale routes that were not announced again are gone.
    Swept {
        /// How many.
        routes: usize,
    },
    /// The initial table is complete.
    Converged,
}
