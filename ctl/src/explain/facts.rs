//! What was collected, as one value: the whole input of the explanation.
//!
//! A fact that is not there says why: nobody asked for it ([`Fact::NotAsked`]), or who was asked did not answer
//! ([`Fact::Failed`]), which is a finding of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tortie_model::ipam::{AffinityState, Block};
use tortie_model::resource::{BgpConfiguration, BgpFilter, BgpPeer, IpPool, IpReservation, Node};
use tortie_net::Prefix;

/// A fact, or why it is not known.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Fact<T> {
    /// It is this.
    Known(T),
    /// It cannot be asked for from here.
    #[default]
    NotAsked,
    /// Who would know did not answer.
    Failed(String),
}

impl<T> Fact<T> {
    pub(super) fn known(&self) -> Option<&T> {
        match self {
            Fact::Known(fact) => Some(fact),
            Fact::NotAsked | Fact::Failed(_) => None,
        }
    }

    /// Why who was asked did not answer.
    pub(super) fn failure(&self) -> Option<&str> {
        match self {
            Fact::Failed(why) => Some(why),
            Fact::Known(_) | Fact::NotAsked => None,
        }
    }
}

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// An address, or a prefix.
    Net(Prefix),
    /// A pod, as `namespace/name`, that has no endpoint. One that has is asked about by its address.
    LostPod(String),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Net(net) if net.is_host() => net.addr().fmt(f),
            Subject::Net(net) => net.fmt(f),
            Subject::LostPod(pod) => write!(f, "pod {pod}"),
        }
    }
}

/// Everything that is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Facts {
    /// What is asked about.
    pub(super) subject: Subject,
    /// The nodes from which it shall be reached, by name.
    pub(super) from: Vec<String>,
    /// The gateway to the datastore.
    pub(super) typha: Fact<TyphaFacts>,
    /// What the cluster is told.
    pub(super) cluster: Fact<ClusterFacts>,
    /// Nodes (and routers that are asked by a name), by name.
    pub(super) nodes: BTreeMap<String, NodeFacts>,
}

/// typha.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct TyphaFacts {
    /// The revision it serves.
    pub(super) revision: u64,
    /// The datastore does not answer: why, and how old the state is.
    pub(super) stale: Option<(String, Duration)>,
}

/// The documents that may matter.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ClusterFacts {
    pub(super) pools: Vec<IpPool>,
    pub(super) reservations: Vec<IpReservation>,
    /// Blocks that overlap what is asked about.
    pub(super) blocks: Vec<Block>,
    /// Claims of nodes on these.
    pub(super) affinities: Vec<Claim>,
    /// Endpoints whose address is asked about.
    pub(super) endpoints: Vec<EndpointFact>,
    pub(super) nodes: BTreeMap<String, Node>,
    /// By name, as confd goes through them.
    pub(super) peers: BTreeMap<String, BgpPeer>,
    pub(super) filters: BTreeMap<String, BgpFilter>,
    /// `default` and `node.<name>`.
    pub(super) configurations: BTreeMap<String, BgpConfiguration>,
}

/// A node's claim on a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) node: String,
    pub(super) block: Prefix,
    pub(super) state: AffinityState,
}

/// A workload's endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EndpointFact {
    /// `namespace/pod`, or the object's name.
    pub(super) name: String,
    pub(super) node: String,
    pub(super) interface: String,
    pub(super) addresses: Vec<Prefix>,
}

/// What the daemons and the kernel of a node say.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct NodeFacts {
    pub(super) bird: Fact<BirdFacts>,
    pub(super) felix: Fact<FelixFacts>,
    pub(super) kernel: Fact<KernelFacts>,
}

/// A bird-rs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct BirdFacts {
    /// The revision of the configuration in force, as confd calls it, and the one asked for last.
    pub(super) applied: String,
    pub(super) desired: String,
    pub(super) sessions: Vec<Session>,
    /// Routes to what is asked about, the refused ones too.
    pub(super) paths: Vec<Path>,
    /// What of these is announced, by session; only sessions that were asked for.
    pub(super) announced: BTreeMap<String, BTreeSet<Prefix>>,
}

/// A BGP session as bird-rs shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Session {
    /// The protocol's name.
    pub(super) name: String,
    pub(super) peer: Option<IpAddr>,
    pub(super) peer_as: u32,
    pub(super) local_as: u32,
    /// `up`, `start`, `down`: as an operator wants it.
    pub(super) protocol_state: String,
    /// RFC 4271 section 8.2.2.
    pub(super) state: String,
    /// Why it last went down or was refused.
    pub(super) last_error: String,
    /// Why the peer could last not be connected to.
    pub(super) connect_failure: String,
    pub(super) source: Option<IpAddr>,
}

impl Session {
    pub(super) fn is_up(&self) -> bool {
        self.state == "Established"
    }

    /// It is down, and nobody on the other side said anything: not even that nobody listens.
    pub(super) fn is_unanswered(&self) -> bool {
        let silent = |text: &str| text.is_empty() || text.contains("timed out") || text.contains("timeout");
        !self.is_up() && self.protocol_state != "down" && silent(&self.connect_failure.to_ascii_lowercase())
    }
}

/// A route in a bird-rs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) prefix: Prefix,
    pub(super) protocol: String,
    pub(super) best: bool,
    /// Why it won, or the comparison it lost.
    pub(super) reason: String,
    /// Why it is not used at all.
    pub(super) refused: Option<String>,
    pub(super) next_hop: String,
    pub(super) as_path: String,
    pub(super) communities: Vec<String>,
    pub(super) stale: bool,
}

/// A felix.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct FelixFacts {
    pub(super) datastore_in_sync: bool,
    pub(super) fib_in_sync: bool,
    pub(super) revision: u64,
    /// Routes it wants to what is asked about.
    pub(super) rows: Vec<Row>,
}

/// A route that felix wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) prefix: Prefix,
    pub(super) class: String,
    /// As `ip route` prints it.
    pub(super) route: String,
    /// `programmed`, `pending`, `failing`, `withheld`, `refused`.
    pub(super) state: String,
    pub(super) reason: String,
    pub(super) losers: Vec<String>,
}

/// The kernel of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct KernelFacts {
    pub(super) lookup: Option<Lookup>,
    /// Its interfaces by name; is it up?
    pub(super) links: BTreeMap<String, bool>,
    /// Segments with a wrong or missing or unexpected TCP-MD5 signature came while this was watched.
    pub(super) bad_signatures: bool,
}

/// What the kernel does with a packet for the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookup {
    /// It takes this route.
    Route {
        prefix: Prefix,
        /// Does felix write routes like this one?
        ours: bool,
        /// As `ip route` prints it.
        text: String,
        device: String,
    },
    /// It has no route, or one that drops: in words.
    Dropped(String),
}
