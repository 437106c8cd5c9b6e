//! The causes: why a route is not there, or not used, as data. Its text is the sentence that an explanation ends with.

use std::fmt;

use tortie_net::Prefix;

/// A session and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) node: String,
    /// The protocol's name at that node.
    pub(super) session: String,
    /// The other side's address, and its name if it is a node.
    pub(super) peer: String,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {} of {} with {}", self.session, self.node, self.peer)
    }
}

/// Why something cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cause {
    #[error("No IPPool holds {subject}, and no BGP peer that was asked about announces it.")]
    NoPool { subject: String },
    #[error("Nobody has {subject}: IPPool {pool} is disabled, so no addresses are given from it.")]
    PoolDisabled { subject: String, pool: String },
    #[error("Nobody has {subject}: IPReservation {reservation} keeps it from being given to anybody.")]
    Reserved { subject: String, reservation: String },
    #[error("{subject} is assigned to no workload: {why}.")]
    NotAssigned { subject: String, why: String },
    #[error(
        "Nobody announces {subject}: {field} of BGPConfiguration asks for addresses of single services there, and services are \
         known with a Kubernetes datastore only."
    )]
    NoService { subject: String, field: &'static str },
    #[error("{node} announces no addresses of services: its label {label} takes it out of load balancing.")]
    ServicesExcluded { node: String, label: &'static str },
    #[error("There is no Node {node} in the datastore, {why}.")]
    UnknownNode { node: String, why: String },
    #[error("The affinity of {node} to block {block} is {state}, and only a confirmed block is announced.")]
    AffinityPending {
        node: String,
        block: Prefix,
        state: &'static str,
    },
    #[error("bird-rs on {node} does not run or does not answer: {why}.")]
    BirdDown { node: String, why: String },
    #[error("felix on {node} does not run or does not answer: {why}.")]
    FelixDown { node: String, why: String },
    #[error("typha does not answer, so nodes go on with what they last heard: {why}.")]
    TyphaDown { why: String },
    #[error("typha serves a state that is {age_s} s old, because the datastore does not answer: {why}.")]
    TyphaStale { age_s: u64, why: String },
    #[error("felix on {node} is not in sync with typha and works with its last snapshot, of revision {revision}.")]
    FelixStale { node: String, revision: u64 },
    #[error("felix on {node} does not follow bird-rs: the stream of best routes is not in sync.")]
    FibStale { node: String },
    #[error("confd on {node} lags behind the datastore: bird-rs runs revision {applied}, which lacks {missing}.")]
    ConfdLag {
        node: String,
        missing: String,
        applied: String,
    },
    #[error(
        "bird-rs on {node} did not take the configuration that was asked for: it runs revision {applied}, not {desired}."
    )]
    ConfigRejected {
        node: String,
        applied: String,
        desired: String,
    },
    #[error("{node} has no BGP session with {peer}: {why}.")]
    NoPeering { node: String, peer: String, why: String },
    #[error("The {0} was taken down by an operator.")]
    SessionDisabled(Link),
    #[error("The {link} is down: {why}.")]
    SessionDown { link: Link, why: String },
    #[error("The {link} does not come up because the AS numbers do not agree: {why}.")]
    WrongAs { link: Link, why: String },
    #[error("The {link} does not come up because the TCP-MD5 passwords of both sides do not agree: {why}.")]
    WrongPassword { link: Link, why: String },
    #[error("The {link} is over its limit of prefixes: {why}.")]
    MaxPrefix { link: Link, why: String },
    #[error("{node} rejects {prefix} from {session} on import: {filter}.")]
    ImportFilter {
        node: String,
        session: String,
        prefix: Prefix,
        filter: String,
    },
    #[error("{node} does not announce {prefix} to {peer}: {filter}.")]
    ExportFilter {
        node: String,
        peer: String,
        prefix: Prefix,
        filter: String,
    },
    #[error("{node} does not announce {prefix} because IPPool {pool} has disableBGPExport.")]
    ExportDisabled { node: String, pool: String, prefix: Prefix },
    #[error("{node} has {prefix} from {session} and does not use it, because that would be a loop: {why}.")]
    Loop {
        node: String,
        session: String,
        prefix: Prefix,
        why: String,
    },
    #[error("{node} has {prefix} from {session} and does not use it: {why}.")]
    Unusable {
        node: String,
        session: String,
        prefix: Prefix,
        why: String,
    },
    #[error("{node} cannot use {prefix}, because its next hop is unreachable: {why}.")]
    NextHop { node: String, prefix: Prefix, why: String },
    #[error("{node} prefers another route to {prefix}: {winner}.")]
    OtherPath {
        node: String,
        prefix: Prefix,
        winner: String,
    },
    #[error("felix on {node} does not let a peer's route to {prefix} in: {why}.")]
    OwnRefused { node: String, prefix: Prefix, why: String },
    #[error("felix on {node} withholds the route to {prefix}: {why}.")]
    Withheld { node: String, prefix: Prefix, why: String },
    #[error("The interface {interface} of {endpoint} is not there or not up on {node}.")]
    InterfaceMissing {
        node: String,
        interface: String,
        endpoint: String,
    },
    #[error("The tunnel device {device}, which IPPool {pool} needs, is not there or not up on {node}.")]
    TunnelMissing { node: String, device: String, pool: String },
    #[error("The encapsulation on {node} is not the pool's: IPPool {pool} wants {wants}, and the kernel has {has}.")]
    Encapsulation {
        node: String,
        pool: String,
        wants: String,
        has: String,
    },
    #[error("On {node} somebody else's route takes the packets for {subject}: {route}.")]
    ForeignRoute {
        node: String,
        subject: String,
        route: String,
    },
    #[error("The kernel of {node} does not take felix's route to {prefix}: {why}.")]
    KernelRefuses { node: String, prefix: Prefix, why: String },
    #[error("felix on {node} has not made a route to {prefix}: {why}.")]
    FelixLag { node: String, prefix: Prefix, why: String },
    #[error(
        "{node} announces {prefix} to {peer}, where it is not among the routes: it is on its way, or the peer's session is an older one."
    )]
    OnItsWay { node: String, peer: String, prefix: Prefix },
}

impl Cause {
    /// One word for each, for programs.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Cause::NoPool { .. } => "no-pool",
            Cause::PoolDisabled { .. } => "pool-disabled",
            Cause::Reserved { .. } => "reserved",
            Cause::NotAssigned { .. } => "not-assigned",
            Cause::NoService { .. } => "no-service",
            Cause::ServicesExcluded { .. } => "services-excluded",
            Cause::UnknownNode { .. } => "unknown-node",
            Cause::AffinityPending { .. } => "affinity-pending",
            Cause::BirdDown { .. } => "bird-down",
            Cause::FelixDown { .. } => "felix-down",
            Cause::TyphaDown { .. } => "typha-down",
            Cause::TyphaStale { .. } => "typha-stale",
            Cause::FelixStale { .. } => "felix-stale",
            Cause::FibStale { .. } => "fib-stale",
            Cause::ConfdLag { .. } => "confd-lag",
            Cause::ConfigRejected { .. } => "config-rejected",
            Cause::NoPeering { .. } => "no-peering",
            Cause::SessionDisabled(_) => "session-disabled",
            Cause::SessionDown { .. } => "session-down",
            Cause::WrongAs { .. } => "wrong-as",
            Cause::WrongPassword { .. } => "wrong-password",
            Cause::MaxPrefix { .. } => "max-prefix",
            Cause::ImportFilter { .. } => "import-filter",
            Cause::ExportFilter { .. } => "export-filter",
            Cause::ExportDisabled { .. } => "export-disabled",
            Cause::Loop { .. } => "loop",
            Cause::Unusable { .. } => "unusable",
            Cause::NextHop { .. } => "next-hop",
            Cause::OtherPath { .. } => "other-path",
            Cause::OwnRefused { .. } => "own-refused",
            Cause::Withheld { .. } => "withheld",
            Cause::InterfaceMissing { .. } => "interface-missing",
            Cause::TunnelMissing { .. } => "tunnel-missing",
            Cause::Encapsulation { .. } => "encapsulation",
            Cause::ForeignRoute { .. } => "foreign-route",
            Cause::KernelRefuses { .. } => "kernel-refuses",
            Cause::FelixLag { .. } => "felix-lag",
            Cause::OnItsWay { .. } => "on-its-way",
        }
    }
}
