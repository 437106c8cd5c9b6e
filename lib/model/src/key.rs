//! Typed keys and Calico's etcd key strings.
//!
//! Every string that parses formats back to itself. Names are stored unescaped, so a name with `/` is no name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tortie_net::{NodeName, Prefix};

use crate::kind::Kind;
use crate::report::{REPORTS, ReportKey};

/// Under which every resource lies.
pub const RESOURCES: &str = "/calico/resources/v3/projectcalico.org/";
/// Under which all IPAM documents lie.
pub const IPAM: &str = "/calico/ipam/v2/";
/// Under which allocation blocks of both families lie.
pub const BLOCKS: &str = "/calico/ipam/v2/assignment/";
/// Under which block affinities of nodes lie, by node.
pub const HOSTS: &str = "/calico/ipam/v2/host/";
/// Under which block affinities of virtual owners lie.
pub const VIRTUALS: &str = "/calico/ipam/v2/virtual/";
/// Under which handles lie.
pub const HANDLES: &str = "/calico/ipam/v2/handle/";
/// Under which leases lie: Tortie's own, which Calico's programs do not look at.
pub const LEASES: &str = "/calico/tortie/lease/";
/// The IPAM configuration document.
pub const IPAM_CONFIG: &str = "/calico/ipam/v2/config";

/// Who may take addresses from a block first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Owner {
    /// A node: `host:<node>`.
    Host(NodeName),
    /// An owner that is no node, such as `virtual:load-balancer`.
    Virtual(String),
}

/// Text that names no block owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no block owner: want host:<node> or virtual:<name>")]
pub struct BadOwner(pub String);

impl FromStr for Owner {
    type Err = BadOwner;

    fn from_str(s: &str) -> Result<Self, BadOwner> {
        let bad = || BadOwner(s.to_owned());
        match s.split_once(':') {
            Some(("host", node)) => node.parse().map(Owner::Host).map_err(|_| bad()),
            Some(("virtual", name)) if is_segment(name) => Ok(Owner::Virtual(name.to_owned())),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Host(node) => write!(f, "host:{node}"),
            Owner::Virtual(name) => write!(f, "virtual:{name}"),
        }
    }
}

impl TryFrom<String> for Owner {
    type Error = BadOwner;

    fn try_from(s: String) -> Result<Self, BadOwner> {
        s.parse()
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> String {
        owner.to_string()
    }
}

/// A key of the datastore.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A resource of `projectcalico.org/v3`.
    Resource {
        /// Its kind.
        kind: Kind,
        /// Its namespace: `Some` exactly for namespaced kinds.
        namespace: Option<String>,
        /// Its name.
        name: String,
    },
    /// An allocation block.
    Block(Prefix),
    /// The claim of an owner on a block.
    Affinity {
        /// Whose claim.
        owner: Owner,
        /// On which block.
        cidr: Prefix,
    },
    /// A handle: all addresses of one owner.
    Handle(String),
    /// The IPAM configuration.
    IpamConfig,
    /// Placeholder of a node in IPAM.
    IpamHost(NodeName),
    /// Who does what only one should do.
    Lease(String),
    /// What felix reports of its node.
    Report(Box<ReportKey>),
}

/// A string that is no key of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{key}' is no datastore key: {reason}")]
pub struct BadKey {
    /// What was given.
    pub key: String,
    /// Which part is wrong.
    pub reason: &'static str,
}

impl Key {
    /// The key of a resource. The namespace is dropped for cluster-scoped kinds; a namespaced kind without one gets
    /// `default`.
    pub fn resource(kind: Kind, namespace: Option<&str>, name: &str) -> Key {
        let namespace = kind.namespaced().then(|| namespace.unwrap_or("default").to_owned());
        Key::Resource {
            kind,
            namespace,
            name: name.to_owned(),
        }
    }

    /// What all keys of a kind begin with.
    pub fn collection(kind: Kind) -> String {
        format!("{RESOURCES}{}/", kind.plural())
    }

    /// What the keys of all affinities of a node begin with.
    pub fn affinities_of(node: &NodeName) -> String {
        format!("{HOSTS}{node}/")
    }

    /// The kind, for resources.
    pub fn kind(&self) -> Option<Kind> {
        self.kind_and_name().map(|(kind, _)| kind)
    }

    /// The name of a resource; of what Calico keeps outside of its resources, none.
    pub fn resource_name(&self) -> Option<&str> {
        self.kind_and_name().map(|(_, name)| name)
    }

    fn kind_and_name(&self) -> Option<(Kind, &str)> {
        match self {
            Key::Resource { kind, name, .. } => Some((*kind, name)),
            Key::Block(_)
            | Key::Affinity { .. }
            | Key::Handle(_)
            | Key::IpamConfig
            | Key::IpamHost(_)
            | Key::Lease(_)
            | Key::Report(_) => None,
        }
    }

    /// How messages name the object: `IPPool(default)`, `WorkloadEndpoint(ns/name)`, `IPAMBlock(10.244.0.0/26)`.
    pub fn object_name(&self) -> String {
        match self {
            Key::Resource {
                kind,
                namespace: None,
                name,
            } => format!("{kind}({name})"),
            Key::Resource {
                kind,
                namespace: Some(namespace),
                name,
            } => format!("{kind}({namespace}/{name})"),
            Key::Block(cidr) => format!("IPAMBlock({cidr})"),
            Key::Affinity { owner, cidr } => format!("BlockAffinity({owner}/{cidr})"),
            Key::Handle(id) => format!("IPAMHandle({id})"),
            Key::IpamConfig => "IPAMConfig(default)".to_owned(),
            Key::IpamHost(node) => format!("IPAMHost({node})"),
            Key::Lease(name) => format!("Lease({name})"),
            Key::Report(report) => report.object_name(),
        }
    }
}

fn is_segment(s: &str) -> bool {
    !s.is_empty() && !s.contains('/')
}

/// `10.244.0.0-26` as in keys.
struct KeyCidr(Prefix);

impl fmt::Display for KeyCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.addr(), self.0.len())
    }
}

fn family(cidr: Prefix) -> &'static str {
    if cidr.is_v4() { "ipv4" } else { "ipv6" }
}

fn parse_family_block(text: &str) -> Result<Prefix, &'static str> {
    let (fam, rest) = text.split_once('/').ok_or("want <family>/block/<cidr>")?;
    let cidr = rest.strip_prefix("block/").ok_or("want <family>/block/<cidr>")?;
    let (addr, len) = cidr.rsplit_once('-').ok_or("want the block as <address>-<length>")?;
    let prefix: Prefix = format!("{addr}/{len}")
        .parse()
        .map_err(|_| "the block is no canonical prefix")?;
    if family(prefix) != fam {
        return Err("the block is of the other address family");
    }
    if KeyCidr(prefix).to_string() == cidr {
        Ok(prefix)
    } else {
        Err("the block is not in canonical text form")
    }
}

fn parse_affinity(owner: &str, rest: &str, virtual_owner: bool) -> Result<Key, &'static str> {
    let cidr = parse_family_block(rest)?;
    let owner = if virtual_owner {
        Owner::Virtual(owner.to_owned())
    } else {
        Owner::Host(owner.parse().map_err(|_| "bad node name")?)
    };
    Ok(Key::Affinity { owner, cidr })
}

fn parse_resource(rest: &str) -> Result<Key, &'static str> {
    let (plural, rest) = rest.split_once('/').ok_or("want <plural>/<name>")?;
    let kind = Kind::from_plural(plural).ok_or("unknown kind")?;
    let (namespace, name) = if kind.namespaced() {
        let (namespace, name) = rest
            .split_once('/')
            .ok_or("a namespaced kind wants <namespace>/<name>")?;
        (Some(namespace), name)
    } else {
        (None, rest)
    };
    if !is_segment(name) || namespace.is_some_and(|n| !is_segment(n)) {
        return Err("empty name or a '/' in a name");
    }
    Ok(Key::Resource {
        kind,
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    })
}

fn parse(s: &str) -> Result<Key, &'static str> {
    if let Some(rest) = s.strip_prefix(RESOURCES) {
        return parse_resource(rest);
    }
    if let Some(rest) = s.strip_prefix(BLOCKS) {
        return parse_family_block(rest).map(Key::Block);
    }
    if let Some(rest) = s.strip_prefix(HOSTS) {
        return match rest.split_once('/') {
            None => rest.parse().map(Key::IpamHost).map_err(|_| "bad node name"),
            Some((node, rest)) => parse_affinity(node, rest, false),
        };
    }
    if let Some(rest) = s.strip_prefix(VIRTUALS) {
        return match rest.split_once('/') {
            Some((name, rest)) if is_segment(name) => parse_affinity(name, rest, true),
            _ => Err("want <owner>/<family>/block/<cidr>"),
        };
    }
    if let Some(id) = s.strip_prefix(HANDLES) {
        return if is_segment(id) {
            Ok(Key::Handle(id.to_owned()))
        } else {
            Err("bad handle id")
        };
    }
    if let Some(name) = s.strip_prefix(LEASES) {
        return if is_segment(name) {
            Ok(Key::Lease(name.to_owned()))
        } else {
            Err("bad lease name")
        };
    }
    if let Some(rest) = s.strip_prefix(REPORTS) {
        return ReportKey::parse(rest).map(Key::from);
    }
    if s == IPAM_CONFIG {
        Ok(Key::IpamConfig)
    } else {
        Err("no known root")
    }
}

impl From<ReportKey> for Key {
    fn from(report: ReportKey) -> Self {
        Key::Report(Box::new(report))
    }
}

impl FromStr for Key {
    type Err = BadKey;

    fn from_str(s: &str) -> Result<Self, BadKey> {
        parse(s).map_err(|reason| BadKey {
            key: s.to_owned(),
            reason,
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Resource {
                kind,
                namespace: None,
                name,
            } => write!(f, "{RESOURCES}{}/{name}", kind.plural()),
            Key::Resource {
                kind,
                namespace: Some(namespace),
                name,
            } => {
                write!(f, "{RESOURCES}{}/{namespace}/{name}", kind.plural())
            }
            Key::Block(cidr) => write!(f, "{BLOCKS}{}/block/{}", family(*cidr), KeyCidr(*cidr)),
            Key::Affinity {
                owner: Owner::Host(node),
                cidr,
            } => {
                write!(f, "{HOSTS}{node}/{}/block/{}", family(*cidr), KeyCidr(*cidr))
            }
            Key::Affinity {
                owner: Owner::Virtual(name),
                cidr,
            } => {
                write!(f, "{VIRTUALS}{name}/{}/block/{}", family(*cidr), KeyCidr(*cidr))
            }
            Key::Handle(id) => write!(f, "{HANDLES}{id}"),
            Key::IpamConfig => f.write_str(IPAM_CONFIG),
            Key::IpamHost(node) => write!(f, "{HOSTS}{node}"),
            Key::Lease(name) => write!(f, "{LEASES}{name}"),
            Key::Report(report) => report.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn calicos_own_examples() {
        for text in [
            "/calico/resources/v3/projectcalico.org/ippools/lab-pool",
            "/calico/resources/v3/projectcalico.org/workloadendpoints/web/n1-k8s-web--0-eth0",
            "/calico/resources/v3/projectcalico.org/felixconfigurations/node.n1",
            "/calico/ipam/v2/assignment/ipv4/block/10.50.7.64-26",
            "/calico/ipam/v2/assignment/ipv6/block/fd00:5::40-122",
            "/calico/ipam/v2/host/n1/ipv4/block/10.50.7.64-26",
            "/calico/ipam/v2/virtual/load-balancer/ipv4/block/10.50.7.64-26",
            "/calico/ipam/v2/handle/k8s-pod-network.6fd1",
            "/calico/ipam/v2/config",
            "/calico/ipam/v2/host/n1",
            "/calico/tortie/lease/ipam-gc",
        ] {
            let key: Key = text.parse().unwrap();
            assert_eq!(key.to_string(), text);
        }
        let key: Key = "/calico/ipam/v2/host/n1/ipv4/block/10.50.7.64-26".parse().unwrap();
        let owner = Owner::Host("n1".parse().unwrap());
        assert_eq!(
            key,
            Key::Affinity {
                owner,
                cidr: "10.50.7.64/26".parse().unwrap()
            }
        );
        assert_eq!(key.object_name(), "BlockAffinity(host:n1/10.50.7.64/26)");
    }

    #[test]
    fn not_keys() {
        for text in [
            "",
            "/calico/v1/Ready",
            "/calico/resources/v3/projectcalico.org/gizmos/a",
            "/calico/resources/v3/projectcalico.org/ippools/",
            "/calico/resources/v3/projectcalico.org/ippools/a/b",
            "/calico/resources/v3/projectcalico.org/workloadendpoints/a",
            "/calico/ipam/v2/assignment/ipv6/block/10.50.7.64-26",
            "/calico/ipam/v2/assignment/ipv4/block/10.50.7.65-26",
            "/calico/ipam/v2/assignment/ipv6/block/fd00:5:0::40-122",
            "/calico/ipam/v2/host/N1",
            "/calico/ipam/v2/handle/",
            "/calico/ipam/v2/config/x",
            "/calico/tortie/lease/",
            "/calico/tortie/lease/a/b",
        ] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_formats_back(text in "/calico/(ipam/v2|resources/v3/projectcalico.org)/(host|handle|assignment|nodes|virtual)/[a-z0-9/.:-]{0,30}") {
            if let Ok(key) = text.parse::<Key>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
