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
    /// When it is shown.
    shown: Shown,
    pub(crate) cell: fn(&Value, &Cluster) -> String,
}

/// When a column is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Always,
    /// Only with `-o wide`.
    Wide,
    /// Only when it is asked for by its title.
    Asked,
}

impl Column {
    /// Does this table show it?
    pub(crate) fn is_in(&self, wide: bool) -> bool {
        match self.shown {
            Shown::Always => true,
            Shown::Wide => wide,
            Shown::Asked => false,
        }
    }
}

const fn always(title: &'static str, cell: fn(&Value, &Cluster) -> String) -> Column {
    Column {
        title,
        shown: Shown::Always,
        cell,
    }
}

const fn wide(title: &'static str, cell: fn(&Value, &Cluster) -> String) -> Column {
    Column {
        title,
        shown: Shown::Wide,
        cell,
    }
}

const NAME: Column = always("NAME", |o, _| at(o, "/metadata/name"));

/// Those that every kind has, shown when they are asked for.
const COMMON: &[Column] = &[
    Column {
        title: "NAME",
        shown: Shown::Asked,
        cell: |o, _| at(o, "/metadata/name"),
    },
    Column {
        title: "NAMESPACE",
        shown: Shown::Asked,
        cell: |o, _| at(o, "/metadata/namespace"),
    },
    Column {
        title: "LABELS",
        shown: Shown::Asked,
        cell: |o, _| pairs(o, "/metadata/labels"),
    },
    Column {
        title: "CREATED",
        shown: Shown::Asked,
        cell: |o, _| at(o, "/metadata/creationTimestamp"),
    },
];

/// The column of a kind with this title.
pub(crate) fn titled(kind: Kind, title: &str) -> Option<&'static Column> {
    let mut all = of(kind).iter().chain(COMMON);
    all.find(|c| c.title.eq_ignore_ascii_case(title))
}

/// The titles of a kind's columns.
pub(crate) fn titles(kind: Kind) -> Vec<&'static str> {
    let mut titles: Vec<&str> = of(kind).iter().map(|c| c.title).collect();
    let more = COMMON.iter().map(|c| c.title).filter(|t| !titles.contains(t));
    let more: Vec<&str> = more.collect();
    titles.extend(more);
    titles
}

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
        Kind::GlobalNetworkPolicy
        | Kind::NetworkPolicy
        | Kind::StagedGlobalNetworkPolicy
        | Kind::StagedNetworkPolicy => POLICY,
        Kind::StagedKubernetesNetworkPolicy => KUBERNETES_POLICY,
        Kind::GlobalNetworkSet | Kind::NetworkSet => NETWORK_SET,
        Kind::HostEndpoint => HOST_ENDPOINT,
        Kind::Profile => PROFILE,
        Kind::Tier => TIER,
        Kind::CalicoNodeStatus => NODE_STATUS,
        Kind::FelixConfiguration | Kind::KubeControllersConfiguration | Kind::BlockAffinity | Kind::LiveMigration => {
            &[NAME]
        }
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

const POLICY: &[Column] = &[
    NAME,
    always("TIER", |o, _| match at(o, "/spec/tier") {
        unset if unset.is_empty() => "default".to_owned(),
        tier => tier,
    }),
    wide("ORDER", |o, _| at(o, "/spec/order")),
    wide("SELECTOR", |o, _| at(o, "/spec/selector")),
];

const KUBERNETES_POLICY: &[Column] = &[NAME, wide("SELECTOR", |o, _| pairs(o, "/spec/podSelector/matchLabels"))];

const NETWORK_SET: &[Column] = &[NAME, wide("NETS", |o, _| list(o, "/spec/nets"))];

const HOST_ENDPOINT: &[Column] = &[
    NAME,
    always("NODE", |o, _| at(o, "/spec/node")),
    wide("INTERFACE", |o, _| at(o, "/spec/interfaceName")),
    wide("IPS", |o, _| list(o, "/spec/expectedIPs")),
    wide("PROFILES", |o, _| list(o, "/spec/profiles")),
];

const PROFILE: &[Column] = &[NAME, wide("LABELS", |o, _| pairs(o, "/spec/labelsToApply"))];

const TIER: &[Column] = &[NAME, always("ORDER", |o, _| at(o, "/spec/order"))];

const NODE_STATUS: &[Column] = &[
    NAME,
    always("NODE", |o, _| at(o, "/spec/node")),
    wide("CLASSES", |o, _| list(o, "/spec/classes")),
];

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
pub(crate) fn at(object: &Value, pointer: &str) -> String {
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

/// An object of texts: `a=1,b=2`.
fn pairs(object: &Value, pointer: &str) -> String {
    let fields = object.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    let texts = fields.map(|(name, value)| format!("{name}={}", text(value)));
    texts.collect::<Vec<_>>().join(",")
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// The path of a field: `.spec.cidr`, `.spec.ipNetworks[0]`, `.spec.nets[*]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Item(usize),
    Every,
}

impl Path {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(path: &str) -> Result<Self, String> {
        let bad = |what: &str| format!("'{path}' is no path of a field: {what}");
        let mut steps = Vec::new();
        for part in path
            .strip_prefix('.')
            .ok_or_else(|| bad("it begins with a dot"))?
            .split('.')
        {
            let (name, mut items) = part.find('[').map_or((part, ""), |at| part.split_at(at));
            if name.is_empty() {
                return Err(bad("a name is empty"));
            }
            steps.push(Step::Field(name.to_owned()));
            while !items.is_empty() {
                let open = items.strip_prefix('[').ok_or_else(|| bad("want [number] or [*]"))?;
                let (index, rest) = open.split_once(']').ok_or_else(|| bad("a ] is missing"))?;
                steps.push(match index {
                    "*" => Step::Every,
                    number => Step::Item(number.parse().map_err(|_| bad("want [number] or [*]"))?),
                });
                items = rest;
            }
        }
        Ok(Path(steps))
    }

    /// The field's value as text; of several, all of them; empty when it is absent.
    pub(crate) fn of(&self, value: &Value) -> String {
        let mut found = vec![value];
        for step in &self.0 {
            found = found
                .into_iter()
                .flat_map(|value| match (step, value) {
                    (Step::Field(name), value) => value.get(name).into_iter().collect::<Vec<_>>(),
                    (Step::Item(index), value) => value.get(*index).into_iter().collect(),
                    (Step::Every, Value::Array(items)) => items.iter().collect(),
                    (Step::Every, Value::Object(fields)) => fields.values().collect(),
                    (Step::Every, _) => Vec::new(),
                })
                .collect();
        }
        found.into_iter().map(text).collect::<Vec<_>>().join(",")
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths() {
        let object = json!({"spec": {"nets": ["a", "b"], "ports": [{"n": 1}, {"n": 2}], "none": null, "on": true}});
        let of = |path: &str| Path::parse(path).unwrap().of(&object);
        assert_eq!(of(".spec.nets[1]"), "b");
        assert_eq!(of(".spec.nets[*]"), "a,b");
        assert_eq!(of(".spec.ports[*].n"), "1,2");
        assert_eq!(
            [of(".spec.none"), of(".spec.gone.x"), of(".spec.nets[7]")],
            ["", "", ""]
        );
        assert_eq!(of(".spec.on"), "true");
        for bad in ["spec", ".", ".a..b", ".a[", ".a[x]", ".a[0"] {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_kind_has_a_name_and_no_title_twice() {
        for kind in Kind::ALL {
            let titles = titles(*kind);
            let mut once = titles.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), titles.len(), "{kind}: {titles:?}");
            assert!(titled(*kind, "name").is_some());
        }
    }
}
