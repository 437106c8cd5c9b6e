//! What the resources of BGP ask of the dataplane: metrics of routes, and where workloads find this node's speaker.
//!
//! Of a BGPConfiguration `default` counts, and before it `node.<name>`, field by field. A BGPPeer counts when it selects
//! workloads and this node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tortie_model::resource::{BgpConfigurationSpec, BgpPeerSpec, WorkloadEndpoint};
use tortie_model::{Key, Kind, Object};
use tortie_net::NodeName;

use crate::graph::replace;

/// A metric that a route may be given: what the kernel takes, and Calico's documents may say.
const METRICS: std::ops::RangeInclusive<u32> = 1..=2_147_483_646;
/// Calico's "normal route priority".
const METRIC: u32 = 1024;

/// The metrics of routes, each of IPv4's and of IPv6's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteMetrics {
    /// To workloads of this node.
    pub workloads: [u32; 2],
    /// Learned from peers.
    pub learned: [u32; 2],
}

impl Default for RouteMetrics {
    fn default() -> Self {
        RouteMetrics {
            workloads: [METRIC; 2],
            learned: [METRIC; 2],
        }
    }
}

impl RouteMetrics {
    /// FelixConfiguration says so of all routes; what BGPConfiguration says of those that are learned counts before it.
    pub(crate) fn of(felix: [Option<u32>; 2], bgp: [Option<u32>; 2]) -> Self {
        let own = felix.map(|m| possible(m).unwrap_or(METRIC));
        RouteMetrics {
            workloads: own,
            learned: [0, 1].map(|family| possible(bgp[family]).unwrap_or(own[family])),
        }
    }
}

fn possible(metric: Option<u32>) -> Option<u32> {
    metric.filter(|m| METRICS.contains(m))
}

/// Where workloads find this node's speaker: these addresses, on the host's side of these veth pairs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalPeering {
    /// At most one of each family.
    pub addresses: Vec<IpAddr>,
    /// The interfaces of workloads that a BGPPeer selects; none when there is no address.
    pub interfaces: BTreeSet<String>,
}

/// What matters of a BGPConfiguration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct BgpFacts {
    addresses: [Option<IpAddr>; 2],
    priorities: [Option<u32>; 2],
}

impl BgpFacts {
    fn of(spec: &BgpConfigurationSpec) -> Self {
        BgpFacts {
            addresses: [
                spec.local_workload_peering_ipv4.map(IpAddr::from),
                spec.local_workload_peering_ipv6.map(IpAddr::from),
            ],
            priorities: [spec.ipv4_normal_route_priority, spec.ipv6_normal_route_priority],
        }
    }
}

/// What is kept of the documents.
#[derive(Debug, Default)]
pub(crate) struct BgpInputs {
    configurations: BTreeMap<String, BgpFacts>,
    /// BGPPeers that are about workloads.
    peers: BTreeMap<String, BgpPeerSpec>,
    /// The labels of endpoints of this node.
    endpoints: BTreeMap<Key, BTreeMap<String, String>>,
}

impl BgpInputs {
    /// A BGPConfiguration or a BGPPeer is this now; `None`: there is none.
    pub(crate) fn apply(&mut self, key: &Key, name: &str, object: Option<&Object>) {
        if key.kind() == Some(Kind::BgpConfiguration) {
            let facts = match object {
                Some(Object::BgpConfiguration(c)) => Some(BgpFacts::of(&c.spec)),
                _ => None,
            };
            replace(&mut self.configurations, &name.to_owned(), facts);
        } else {
            let peer = match object {
                Some(Object::BgpPeer(p)) => Some(&p.spec),
                _ => None,
            };
            let of_workloads = peer.filter(|p| p.local_workload_selector.is_some());
            replace(&mut self.peers, &name.to_owned(), of_workloads.cloned());
        }
    }

    /// An endpoint of this node is this now, or there is none. Gives whether that may matter.
    pub(crate) fn endpoint(&mut self, key: &Key, endpoint: Option<&WorkloadEndpoint>) -> bool {
        let matters = endpoint.is_some() || self.endpoints.contains_key(key);
        replace(&mut self.endpoints, key, endpoint.map(|w| w.metadata.labels.clone()));
        matters
    }

    /// Where workloads find the speaker of this node, which may have labels; `interface` says which one an endpoint has.
    pub(crate) fn peering(
        &self,
        (node, labels): (&NodeName, Option<&BTreeMap<String, String>>),
        interface: impl Fn(&Key) -> Option<String>,
    ) -> LocalPeering {
        let none = BTreeMap::new();
        let labels = labels.unwrap_or(&none);
        let addresses: Vec<IpAddr> = self.together(node).addresses.into_iter().flatten().collect();
        let here = self.peers.values().filter(|p| p.selects(node.as_str(), labels));
        let selectors: Vec<_> = here.filter_map(|p| p.local_workload_selector.as_ref()).collect();
        if addresses.is_empty() || selectors.is_empty() {
            return LocalPeering::default();
        }
        let selected = |labels: &BTreeMap<String, String>| selectors.iter().any(|s| s.matches(labels));
        let endpoints = self.endpoints.iter().filter(|(_, labels)| selected(labels));
        LocalPeering {
            addresses,
            interfaces: endpoints.filter_map(|(key, _)| interface(key)).collect(),
        }
    }

    /// What BGPConfigurations say of metrics on this node.
    pub(crate) fn priorities(&self, node: &NodeName) -> [Option<u32>; 2] {
        self.together(node).priorities
    }

    fn together(&self, node: &NodeName) -> BgpFacts {
        let of = |name: &str| self.configurations.get(name).cloned().unwrap_or_default();
        let (own, all) = (of(&format!("node.{node}")), of("default"));
        BgpFacts {
            addresses: [0, 1].map(|f| own.addresses[f].or(all.addresses[f])),
            priorities: [0, 1].map(|f| own.priorities[f].or(all.priorities[f])),
        }
    }
}
