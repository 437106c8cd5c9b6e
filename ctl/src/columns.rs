//! What `get` shows of each kind: calicoctl's columns.

use serde_json::Value;
use tortie_model::Kind;

/// What a cell may depend on beside its own object.
pub(crate) struct Cluster {
    /// The cluster's AS number, which nodes have that set none.
    pub(crate) as_number: u32,
}

/// A column.
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// Only with `-o wide`.
    pub(crate) wide: bool,
    pub(crate) cell: fn(&Value, &Cluster) -> String,
}

const fn always(title: &'static str, cell: fn(&Value, &Cluster) -> String) -> Column {
    Column {
        title,
        wide: false,
        cell,
    }
}

const fn wide(title: &'static str, cell: fn(&Value, &Cluster) -> String) -> Column {
    Column {
        title,
        wide: true,
        cell,
    }
}

const NAME: Column = always("NAME", |o, _| at(o, "/metadata/name"));

/// The columns of a kind. A kind without any of its own has its name.
pub(crate) fn of(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Node => NODE,
        Kind::IpPool => IP_POOL,
        Kind::BgpPeer => BGP_PEER,
        Kind::BgpConfiguration => BGP_CONFIGURATION,
        Kind::BgpFilter => BGP_FILTER,
        Kind::ClusterInformation => CLUSTER_INFORMATION,
        Kind::IpamConfiguration => IPAM_CONFIGURATION,
        Kind::IpReservation => IP_RESERVATION,
        Kind::WorkloadEndpoint => WORKLOAD_ENDPOINT,
        _ => &[NAME],
    }
}

const NODE: &[Column] = &[
    NAME,
    wide("ASN", |o, cluster| match at(o, "/spec/bgp/asNumber") {
        own if own.is_empty() => format!("({})", cluster.as_number),
        own => own,
    }),
    wide("IPV4", |o, _| at(o, "/spec/bgp/ipv4Address")),
    wide("IPV6", |o, _| at(o, "/spec/bgp/ipv6Address")),
];

const IP_POOL: &[Column] = &[
    NAME,
    always("CIDR", |o, _| at(o, "/spec/cidr")),
    wide("NAT", |o, _| flag(o, "/spec/natOutgoing")),
    wide("IPIPMODE", |o, _| at(o, "/spec/ipipMode")),
    wide("VXLANMODE", |o, _| at(o, "/spec/vxlanMode")),
    wide("DISABLED", |o, _| flag(o, "/spec/disabled")),
    wide("DISABLEBGPEXPORT", |o, _| flag(o, "/spec/disableBGPExport")),
    always("SELECTOR", |o, _| at(o, "/spec/nodeSelector")),
    wide("ASSIGNMENTMODE", |o, _| at(o, "/spec/assignmentMode")),
];

const BGP_PEER: &[Column] = &[
    NAME,
    always("PEERIP", |o, _| at(o, "/spec/peerIP")),
    always("NODE", |o, _| {
        let named = [at(o, "/spec/node"), at(o, "/spec/nodeSelector")];
        named
            .into_iter()
            .find(|n| !n.is_empty())
            .unwrap_or_else(|| "(global)".to_owned())
    }),
    always("ASN", |o, _| at(o, "/spec/asNumber")),
];

const BGP_CONFIGURATION: &[Column] = &[
    NAME,
    always("LOGSEVERITY", |o, _| or_dash(at(o, "/spec/logSeverityScreen"))),
    always("MESHENABLED", |o, _| or_dash(at(o, "/spec/nodeToNodeMeshEnabled"))),
    always("ASNUMBER", |o, _| or_dash(at(o, "/spec/asNumber"))),
];

const BGP_FILTER: &[Column] = &[
    NAME,
    always("NUMEXPORTV4", |o, _| count(o, "/spec/exportV4")),
    always("NUMIMPORTV4", |o, _| count(o, "/spec/importV4")),
    always("NUMEXPORTV6", |o, _| count(o, "/spec/exportV6")),
    always("NUMIMPORTV6", |o, _| count(o, "/spec/importV6")),
];

const CLUSTER_INFORMATION: &[Column] = &[
    NAME,
    always("CLUSTERGUID", |o, _| at(o, "/spec/clusterGUID")),
    always("CLUSTERTYPE", |o, _| at(o, "/spec/clusterType")),
    always("CALICOVERSION", |o, _| at(o, "/spec/calicoVersion")),
    always("DATASTOREREADY", |o, _| at(o, "/spec/datastoreReady")),
];

const IPAM_CONFIGURATION: &[Column] = &[
    NAME,
    always("STRICTAFFINITY", |o, _| flag(o, "/spec/strictAffinity")),
    always("AUTOALLOCATEBLOCKS", |o, _| match at(o, "/spec/autoAllocateBlocks") {
        unset if unset.is_empty() => "true".to_owned(),
        set => set,
    }),
    wide("MAXBLOCKSPERHOST", |o, _| at(o, "/spec/maxBlocksPerHost")),
];

const IP_RESERVATION: &[Column] = &[NAME, wide("CIDRS", |o, _| list(o, "/spec/reservedCIDRs"))];

const WORKLOAD_ENDPOINT: &[Column] = &[
    wide("NAME", |o, _| at(o, "/metadata/name")),
    always("WORKLOAD", |o, _| {
        let named = ["/spec/pod", "/spec/workload", "/spec/containerID"].map(|path| at(o, path));
        named.into_iter().find(|n| !n.is_empty()).unwrap_or_default()
    }),
    always("NODE", |o, _| at(o, "/spec/node")),
    always("NETWORKS", |o, _| list(o, "/spec/ipNetworks")),
    always("INTERFACE", |o, _| at(o, "/spec/interfaceName")),
    wide("PROFILES", |o, _| list(o, "/spec/profiles")),
    wide("NATS", |o, _| {
        let nats = o
            .pointer("/spec/ipNATs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let pairs: Vec<String> = nats
            .map(|n| format!("{}->{}", at(n, "/externalIP"), at(n, "/internalIP")))
            .collect();
        pairs.join(",")
    }),
];

/// A value as text; empty when it is absent.
fn at(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(s)) => s.clone(),
        Some(other) => other.to_string(),
    }
}

fn flag(object: &Value, pointer: &str) -> String {
    object
        .pointer(pointer)
        .and_then(Value::as_bool)
        .unwrap_or(false)
        .to_string()
}

fn count(object: &Value, pointer: &str) -> String {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(0, Vec::len)
        .to_string()
}

fn list(object: &Value, pointer: &str) -> String {
    let items = object.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
