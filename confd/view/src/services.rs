//! Which addresses of services a node announces: whole networks of BGPConfiguration, and single addresses.
//!
//! Calico's rules. A service that keeps to local endpoints (`externalTrafficPolicy: Local`) is announced by the nodes that have
//! a ready one, address by address. Of others the networks are enough, except where there is none: a network of one
//! address stands for the service that has it, and without `serviceLoadBalancerAggregation` each address of a load balancer is
//! announced where anything serves it. A node labelled out of load balancing announces nothing; nobody's kernel gets any.
//!
//! Whether an endpoint counts is asked by family: a service's IPv6 address is no use on a node with an IPv4 endpoint only.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tortie_model::resource::{BgpConfigurationSpec, CidrEntry, Switch};
use tortie_net::{NodeName, Prefix};

use super::cluster::Cluster;
use super::types::{Family, Origin};

/// The label that takes a node out of load balancing.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A service, as far as it is announced.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Service {
    /// The datastore revision of its last change.
    pub revision: u64,
    /// `clusterIPs`; empty for a headless one.
    pub cluster_ips: Vec<IpAddr>,
    /// `externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` and `loadBalancerIP`.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `externalTrafficPolicy: Local`.
    pub local_only: bool,
    /// Endpoints that are ready.
    pub ready: Vec<ReadyEndpoint>,
}

/// An endpoint of a service that takes traffic.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadyEndpoint {
    /// Of this family.
    pub family: Family,
    /// On this node, if it is on one.
    pub node: Option<NodeName>,
}

impl Service {
    fn ready(&self, address: IpAddr, on: Option<&NodeName>) -> bool {
        let family = Family::of(address);
        let counts = |e: &ReadyEndpoint| e.family == family && on.is_none_or(|n| e.node.as_ref() == Some(n));
        self.ready.iter().any(counts)
    }
}

/// Networks of services.
#[derive(Debug, Default)]
pub(super) struct ServiceNetworks {
    /// Originated by this node, sorted, and by which object.
    pub(super) announced: Vec<(Prefix, Origin)>,
    /// Passed on by a route reflector, sorted.
    pub(super) reflected: Vec<Prefix>,
    /// Kept out of the kernel, sorted.
    pub(super) all: Vec<Prefix>,
}

impl ServiceNetworks {
    /// What this node announces, passes on and keeps to itself.
    pub(super) fn new(cluster: &Cluster<'_>) -> Self {
        let Some(global) = cluster.global() else {
            return ServiceNetworks::default();
        };
        let asked = Asked::new(global);
        let excluded = cluster.own.labels.get(EXCLUDED).is_some_and(|v| v == "true");
        let mut announced: BTreeMap<Prefix, Origin> = BTreeMap::new();
        if !excluded {
            for (name, service) in &cluster.state.services {
                let origin = Origin {
                    kind: "Service",
                    name: name.clone(),
                    revision: service.revision,
                };
                for address in asked.single(service, cluster.own.name) {
                    announced.entry(Prefix::host(address)).or_insert_with(|| origin.clone());
                }
            }
            for network in asked.whole() {
                announced.insert(network, cluster.global_origin());
            }
        }
        ServiceNetworks {
            announced: announced.into_iter().collect(),
            reflected: sorted(asked.balancer.iter().chain(&asked.external)),
            all: sorted(asked.cluster.iter().chain(&asked.external).chain(&asked.balancer)),
        }
    }
}

/// The lists of BGPConfiguration.
struct Asked {
    cluster: Vec<Prefix>,
    external: Vec<Prefix>,
    balancer: Vec<Prefix>,
    aggregate: bool,
}

impl Asked {
    fn new(global: &BgpConfigurationSpec) -> Self {
        let networks = |list: &[CidrEntry]| list.iter().map(|e| e.cidr).collect();
        Asked {
            cluster: networks(&global.service_cluster_ips),
            external: networks(&global.service_external_ips),
            balancer: networks(&global.service_load_balancer_ips),
            aggregate: global.service_load_balancer_aggregation != Some(Switch::Disabled),
        }
    }

    /// Networks that are announced as a whole.
    fn whole(&self) -> impl Iterator<Item = Prefix> {
        let balancer = self.balancer.iter().filter(|p| self.aggregate && !p.is_host());
        let external = self.external.iter().filter(|p| !p.is_host());
        self.cluster.iter().chain(external).chain(balancer).copied()
    }

    /// Addresses of this service that `node` announces one by one.
    fn single(&self, service: &Service, node: &NodeName) -> Vec<IpAddr> {
        let within = |list: &[Prefix], a: IpAddr| list.iter().any(|p| p.contains(a));
        let is_one = |list: &[Prefix], a: IpAddr| list.contains(&Prefix::host(a));
        let local = |a: IpAddr| service.local_only && service.ready(a, Some(node));
        let cluster = service.cluster_ips.iter().copied();
        let external = service.external_ips.iter().copied();
        let balancer = service.load_balancer_ips.iter().copied();
        let cluster = cluster.filter(|a| within(&self.cluster, *a) && local(*a));
        let external = external.filter(|a| match service.local_only {
            true => within(&self.external, *a) && local(*a),
            false => is_one(&self.external, *a),
        });
        let balancer = balancer.filter(|a| match (service.local_only, self.aggregate) {
            (true, _) => within(&self.balancer, *a) && local(*a),
            (false, true) => is_one(&self.balancer, *a),
            (false, false) => within(&self.balancer, *a) && service.ready(*a, None),
        });
        cluster.chain(external).chain(balancer).collect()
    }
}

fn sorted<'a>(prefixes: impl Iterator<Item = &'a Prefix>) -> Vec<Prefix> {
    let mut all: Vec<Prefix> = prefixes.copied().collect();
    all.sort();
    all.dedup();
    all
}
