//! Cluster state digested for the computation: every node's BGP facts, and what the BGPConfigurations resolve to.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use tortie_model::InterfaceAddr;
use tortie_model::resource::{BgpConfiguration, BgpConfigurationSpec, BindMode, Node, Password, PrefixAdvertisement};
use tortie_net::{Asn, NodeName, RouterId};

use super::problem::{Problem, ProblemKind};
use super::types::{Family, Origin, SecretRef, Severity};
use crate::state::{ClusterState, Stored};

/// Problems as they are found.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, object: &Origin, field: &'static str, kind: ProblemKind) {
        self.0.push(Problem {
            object: object.clone(),
            field,
            kind,
        });
    }

    pub(super) fn extend(&mut self, problems: impl Iterator<Item = Problem>) {
        self.0.extend(problems);
    }

    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.0.sort();
        self.0.dedup();
        self.0
    }
}

/// A node's BGP facts.
#[derive(Debug)]
pub(super) struct NodeFacts<'a> {
    pub(super) name: &'a NodeName,
    /// Of its Node resource.
    pub(super) revision: u64,
    pub(super) v4: Option<InterfaceAddr>,
    pub(super) v6: Option<InterfaceAddr>,
    pub(super) asn: Asn,
    pub(super) cluster_id: Option<RouterId>,
    /// None: 179.
    pub(super) listen_port: Option<u16>,
    pub(super) labels: &'a BTreeMap<String, String>,
}

impl NodeFacts<'_> {
    /// Its Node resource.
    pub(super) fn origin(&self) -> Origin {
        node_origin(self.name, self.revision)
    }

    pub(super) fn address(&self, family: Family) -> Option<InterfaceAddr> {
        match family {
            Family::Ipv4 => self.v4,
            Family::Ipv6 => self.v6,
        }
    }

    pub(super) fn has(&self, addr: IpAddr) -> bool {
        self.address(Family::of(addr)).is_some_and(|a| a.addr == addr)
    }

    /// Families both nodes have an address in, IPv4 first.
    pub(super) fn shared(&self, other: &NodeFacts<'_>) -> impl Iterator<Item = Family> {
        let both = |f: &Family| self.address(*f).is_some() && other.address(*f).is_some();
        Family::ALL.into_iter().filter(both)
    }
}

/// The digested state.
#[derive(Debug)]
pub(super) struct Cluster<'a> {
    pub(super) state: &'a ClusterState,
    pub(super) own: NodeFacts<'a>,
    /// All but our own, by name.
    pub(super) others: Vec<NodeFacts<'a>>,
    /// Only looked into: what comes of it has no order.
    by_address: HashMap<IpAddr, usize>,
    global: Option<&'a Stored<BgpConfiguration>>,
    local: Option<&'a Stored<BgpConfiguration>>,
}

impl<'a> Cluster<'a> {
    /// None when our node is not there.
    pub(super) fn new(state: &'a ClusterState, problems: &mut Problems) -> Option<Self> {
        let settings = Settings::new(state);
        let own = facts(&settings, &state.node, state.nodes.get(&state.node)?, problems);
        let others: Vec<NodeFacts<'a>> = state
            .nodes
            .iter()
            .filter(|(name, _)| **name != state.node)
            .map(|(name, stored)| facts(&settings, name, stored, problems))
            .collect();
        let mut by_address = HashMap::with_capacity(2 * others.len());
        for (index, node) in others.iter().enumerate().rev() {
            for a in [node.v4, node.v6].into_iter().flatten() {
                by_address.insert(a.addr, index);
            }
        }
        Some(Cluster {
            state,
            own,
            others,
            by_address,
            global: state.configurations.get("default"),
            local: state.configurations.get(&format!("node.{}", state.node)),
        })
    }

    /// The other node with this address; of several, the first by name.
    pub(super) fn node_at(&self, addr: IpAddr) -> Option<&NodeFacts<'a>> {
        self.by_address.get(&addr).and_then(|index| self.others.get(*index))
    }

    pub(super) fn global(&self) -> Option<&'a BgpConfigurationSpec> {
        self.global.map(|s| &s.object.spec)
    }

    pub(super) fn global_origin(&self) -> Origin {
        configuration_origin("default", self.global)
    }

    /// The object that sets our AS.
    pub(super) fn own_asn_origin(&self) -> Option<Origin> {
        let node = self.state.nodes.get(self.own.name)?;
        if node.object.spec.bgp.as_ref().is_some_and(|b| b.as_number.is_some()) {
            return Some(self.own.origin());
        }
        self.global()?.as_number.map(|_| self.global_origin())
    }

    pub(super) fn mesh_enabled(&self) -> bool {
        self.global().is_none_or(BgpConfigurationSpec::mesh_enabled)
    }

    pub(super) fn bind_node_ip(&self) -> bool {
        self.global().is_some_and(|g| g.bind_mode == Some(BindMode::NodeIp))
    }

    pub(super) fn severity(&self) -> Severity {
        let of = |s: Option<&'a Stored<BgpConfiguration>>| s.and_then(|s| s.object.spec.log_severity_screen.as_deref());
        match of(self.local)
            .or_else(|| of(self.global))
            .unwrap_or("Info")
            .to_ascii_lowercase()
            .as_str()
        {
            "debug" | "trace" => Severity::Debug,
            "warning" => Severity::Warning,
            "error" => Severity::Error,
            "fatal" => Severity::Fatal,
            _ => Severity::Info,
        }
    }

    pub(super) fn ignored_interfaces(&self) -> Vec<String> {
        let mut all = self.global().map(|g| g.ignored_interfaces.clone()).unwrap_or_default();
        all.sort();
        all.dedup();
        all
    }

    /// Communities by network: those of the node's own configuration when it has any, else the global ones.
    pub(super) fn prefix_advertisements(
        &self,
    ) -> Option<(Origin, &'a BgpConfigurationSpec, &'a [PrefixAdvertisement])> {
        let own = (format!("node.{}", self.own.name), self.local);
        let global = ("default".to_owned(), self.global);
        [own, global].into_iter().find_map(|(name, stored)| {
            let spec = &stored?.object.spec;
            let list = spec.prefix_advertisements.as_slice();
            (!list.is_empty()).then(|| (configuration_origin(&name, stored), spec, list))
        })
    }

    /// The secret behind a password field, if it is there and can be written into a configuration.
    pub(super) fn password(
        &self,
        password: Option<&Password>,
        (object, field): (&Origin, &'static str),
        problems: &mut Problems,
    ) -> Option<SecretRef> {
        let key = password?.secret_key_ref.as_ref()?;
        let secret = SecretRef {
            name: key.name.clone(),
            key: key.key.clone(),
        };
        let Some(value) = self.state.secrets.get(&secret) else {
            problems.add(object, field, ProblemKind::MissingSecret { secret });
            return None;
        };
        match unusable(&value.0) {
            None => Some(secret),
            Some(reason) => {
                let kind = ProblemKind::UnusableSecret {
                    secret,
                    reason: reason.to_owned(),
                };
                problems.add(object, field, kind);
                None
            }
        }
    }
}

/// TCP-MD5 takes 80 octets; a string of the configuration language has no escapes.
fn unusable(password: &str) -> Option<&'static str> {
    if password.is_empty() {
        return Some("it is empty");
    }
    if password.len() > 80 {
        return Some("it is longer than 80 octets");
    }
    let bad = password.chars().any(|c| c == '"' || c.is_control());
    bad.then_some("it has a quotation mark or a control character")
}

fn configuration_origin(name: &str, stored: Option<&Stored<BgpConfiguration>>) -> Origin {
    Origin {
        kind: "BGPConfiguration",
        name: name.to_owned(),
        revision: stored.map_or(0, |s| s.revision),
    }
}

fn node_origin(name: &NodeName, revision: u64) -> Origin {
    Origin {
        kind: "Node",
        name: name.to_string(),
        revision,
    }
}

/// What BGPConfigurations say of nodes: for all, and by node.
struct Settings<'a> {
    global: Option<&'a BgpConfigurationSpec>,
    of_node: BTreeMap<&'a str, &'a BgpConfigurationSpec>,
}

impl<'a> Settings<'a> {
    fn new(state: &'a ClusterState) -> Self {
        let named = state.configurations.iter();
        Settings {
            global: state.configurations.get("default").map(|s| &s.object.spec),
            of_node: named
                .filter_map(|(name, s)| Some((name.strip_prefix("node.")?, &s.object.spec)))
                .collect(),
        }
    }
}

fn facts<'a>(
    settings: &Settings<'a>,
    name: &'a NodeName,
    stored: &'a Stored<Node>,
    problems: &mut Problems,
) -> NodeFacts<'a> {
    let bgp = stored.object.spec.bgp.as_ref();
    let mut of_family = |a: Option<InterfaceAddr>, family: Family, field: &'static str| {
        let a = a?;
        if Family::of(a.addr) == family {
            return Some(a);
        }
        let reason = "the address is of the other family".to_owned();
        problems.add(
            &node_origin(name, stored.revision),
            field,
            ProblemKind::BadValue {
                value: a.to_string(),
                reason,
            },
        );
        None
    };
    let v4 = of_family(bgp.and_then(|b| b.ipv4_address), Family::Ipv4, "spec.bgp.ipv4Address");
    let v6 = of_family(bgp.and_then(|b| b.ipv6_address), Family::Ipv6, "spec.bgp.ipv6Address");
    let (global, local) = (settings.global, settings.of_node.get(name.as_str()));
    NodeFacts {
        name,
        revision: stored.revision,
        v4,
        v6,
        asn: bgp
            .and_then(|b| b.as_number)
            .or(global.and_then(|g| g.as_number))
            .unwrap_or(BgpConfigurationSpec::DEFAULT_ASN),
        cluster_id: bgp.and_then(|b| b.route_reflector_cluster_id),
        listen_port: local.and_then(|l| l.listen_port).or(global.and_then(|g| g.listen_port)),
        labels: &stored.object.metadata.labels,
    }
}
