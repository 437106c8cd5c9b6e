//! Addresses of services: the network of BGPConfiguration that they lie in, and who announces it.
//!
//! No kernel gets a route to one: in the cluster kube-proxy takes the packets. What is asked of a node is whether it tells its
//! peers.

use tortie_model::resource::{CidrEntry, Switch};
use tortie_net::Prefix;

use super::cause::Cause;
use super::facts::ClusterFacts;
use super::walk::{Mark, Stage, Walk};

/// The label that takes a node out of load balancing.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A network of services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServiceNetwork {
    pub(super) cidr: Prefix,
    /// Of BGPConfiguration.
    pub(super) field: &'static str,
    /// Is it announced as it is, or are single addresses of services in it?
    pub(super) whole: bool,
}

impl ClusterFacts {
    /// The smallest that holds `net`.
    pub(super) fn service_network(&self, net: Prefix) -> Option<ServiceNetwork> {
        let spec = &self.configurations.get("default")?.spec;
        let aggregated = spec.service_load_balancer_aggregation != Some(Switch::Disabled);
        let list = |field, entries: &[CidrEntry], whole: fn(Prefix) -> bool| -> Vec<ServiceNetwork> {
            let each = entries.iter().map(|e| e.cidr).filter(|cidr| cidr.covers(net));
            let network = |cidr| ServiceNetwork {
                cidr,
                field,
                whole: whole(cidr),
            };
            each.map(network).collect()
        };
        let mut all = list("serviceClusterIPs", &spec.service_cluster_ips, |_| true);
        let several = |cidr: Prefix| !cidr.is_host();
        all.extend(list("serviceExternalIPs", &spec.service_external_ips, several));
        let balanced = if aggregated { several } else { |_| false };
        all.extend(list(
            "serviceLoadBalancerIPs",
            &spec.service_load_balancer_ips,
            balanced,
        ));
        all.into_iter().max_by_key(|n| (n.cidr.len(), n.whole))
    }
}

impl Walk<'_> {
    /// Does a node of the cluster tell its peers of the network, as it should?
    pub(super) fn announces(&mut self, node: &str, network: &ServiceNetwork) -> Option<Cause> {
        let stored = self.cluster().and_then(|c| c.nodes.get(node));
        if stored.is_some_and(|n| n.metadata.labels.get(EXCLUDED).is_some_and(|v| v == "true")) {
            let text = format!("announces no services: its label {EXCLUDED} says so");
            self.find(Stage::Datastore, Some(node), (Mark::Note, text));
            let alone = self.facts.from.len() == 1;
            let node = node.to_owned();
            return alone.then_some(Cause::ServicesExcluded { node, label: EXCLUDED });
        }
        let cidr = network.cidr;
        match self.bird(node) {
            Some(bird) if bird.paths.iter().any(|p| p.prefix == cidr && p.refused.is_none()) => {
                let text =
                    format!("bird-rs has {cidr} for its peers; the kernel gets no route, kube-proxy takes the packets");
                self.good(Stage::Rib, Some(node), text);
                self.announced = Some(cidr);
                None
            }
            Some(_) => Some(self.lags(node, format!("the route to {cidr}, for {}", network.field))),
            None => {
                if self.node(node).and_then(|n| n.bird.failure()).is_none() {
                    self.unasked(Stage::Rib, (node, "bird-rs"));
                }
                None
            }
        }
    }
}
