//! What the datastore says of an address: who has it, which prefix travels for it, and why nobody has it if so.

use std::net::IpAddr;

use tortie_ipam::is_enabled;
use tortie_model::Owner;
use tortie_model::ipam::AffinityState;
use tortie_model::resource::{AllowedUse, EncapMode, IpPool, Node};
use tortie_net::Prefix;

use super::cause::Cause;
use super::facts::{ClusterFacts, EndpointFact, Subject};
use super::service::ServiceNetwork;
use super::walk::{Finding, Mark, Stage};

/// Where packets for the subject are to go.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Destination {
    /// What is asked about.
    pub(super) net: Prefix,
    /// The prefix that travels: a block, or a single address that was borrowed.
    pub(super) prefix: Prefix,
    /// The node that has it; none: it is none of the cluster's.
    pub(super) owner: Option<String>,
    pub(super) endpoint: Option<EndpointFact>,
    pub(super) pool: Option<IpPool>,
    /// A part of a block that is no block: somebody else would have to announce it.
    pub(super) within: Option<(String, Prefix)>,
    /// It is for services.
    pub(super) service: Option<ServiceNetwork>,
}

impl Destination {
    pub(super) fn outside(net: Prefix) -> Self {
        Destination {
            net,
            prefix: net,
            owner: None,
            endpoint: None,
            pool: None,
            within: None,
            service: None,
        }
    }

    /// Do its routes travel by BGP? Those of VXLAN pools come from the datastore.
    pub(super) fn by_bgp(&self) -> bool {
        let vxlan = |p: &IpPool| p.spec.vxlan_mode() != EncapMode::Never;
        !self.pool.as_ref().is_some_and(vxlan)
    }
}

type Answer = (Vec<Finding>, Result<Destination, Cause>);

/// Finds it.
pub(super) fn destination(cluster: &ClusterFacts, subject: &Subject) -> Answer {
    let mut look = Look {
        cluster,
        findings: Vec::new(),
    };
    let answer = match subject {
        Subject::Net(net) => look.net(*net),
        Subject::LostPod(pod) => Err(look.lost(pod)),
    };
    (look.findings, answer)
}

struct Look<'a> {
    cluster: &'a ClusterFacts,
    findings: Vec<Finding>,
}

impl Look<'_> {
    fn say(&mut self, mark: Mark, text: String) {
        self.findings.push(Finding {
            stage: Stage::Datastore,
            node: None,
            mark,
            text,
        });
    }

    fn pool(&self, net: Prefix) -> Option<&IpPool> {
        let covering = self.cluster.pools.iter().filter(|p| p.spec.cidr.covers(net));
        covering.max_by_key(|p| p.spec.cidr.len())
    }

    fn net(&mut self, net: Prefix) -> Result<Destination, Cause> {
        let pool = self.pool(net).cloned();
        match &pool {
            Some(pool) => self.say(Mark::Note, described(pool)),
            None => self.say(Mark::Note, format!("no IPPool holds {}", Subject::Net(net))),
        }
        let found = if net.is_host() {
            self.address(net.addr())?
        } else {
            self.block(net)?
        };
        match found {
            Some(found) => self.known(Destination { pool, ..found }),
            None if pool.is_none() && self.cluster.service_network(net).is_some() => self.service(net),
            None if pool.is_none() => Ok(Destination::outside(net)),
            None => Err(self.nobody(net, pool.as_ref())),
        }
    }

    /// An address of a service, as BGPConfiguration has it.
    fn service(&mut self, net: Prefix) -> Result<Destination, Cause> {
        let Some(network) = self.cluster.service_network(net) else {
            return Ok(Destination::outside(net));
        };
        let (subject, field) = (Subject::Net(net).to_string(), network.field);
        let cidr = network.cidr;
        self.say(
            Mark::Note,
            format!("{subject} lies in {cidr} of {field} in BGPConfiguration default"),
        );
        if !network.whole {
            let text = format!(
                "of {cidr} only single addresses of services are announced, and there is no service in the datastore"
            );
            self.say(Mark::Wrong, text);
            return Err(Cause::NoService { subject, field });
        }
        Ok(Destination {
            prefix: cidr,
            service: Some(network),
            ..Destination::outside(net)
        })
    }

    /// Its owner must be there, and the block must be the owner's.
    fn known(&mut self, found: Destination) -> Result<Destination, Cause> {
        let Some(owner) = &found.owner else { return Ok(found) };
        if !self.cluster.nodes.contains_key(owner) {
            self.say(Mark::Wrong, format!("Node {owner} does not exist"));
            let what = Subject::Net(found.net);
            let why = format!("which {what} is on, so nobody peers with it or routes to it");
            let node = owner.clone();
            return Err(Cause::UnknownNode { node, why });
        }
        let claim = self.cluster.affinities.iter().filter(|c| c.node == *owner);
        let covering = claim
            .filter(|c| c.block.covers(found.net))
            .max_by_key(|c| c.block.len());
        match covering {
            Some(claim) if claim.state != AffinityState::Confirmed => {
                let (block, state) = (claim.block, claim.state.as_str());
                self.say(Mark::Wrong, format!("the affinity of {owner} to {block} is {state}"));
                let node = owner.clone();
                Err(Cause::AffinityPending { node, block, state })
            }
            Some(claim) => {
                let text = format!("block {} is {owner}'s, confirmed", claim.block);
                self.say(Mark::Good, text);
                let prefix = claim.block;
                Ok(Destination { prefix, ..found })
            }
            None => {
                let text = format!(
                    "{} travels by itself: it is in no block of {owner}",
                    Subject::Net(found.prefix)
                );
                self.say(Mark::Note, text);
                Ok(found)
            }
        }
    }

    fn address(&mut self, ip: IpAddr) -> Result<Option<Destination>, Cause> {
        let base = Destination::outside(Prefix::host(ip));
        let mut holders = self.cluster.endpoints.iter();
        if let Some(endpoint) = holders.find(|e| e.addresses.iter().any(|a| a.contains(ip))).cloned() {
            let (name, node) = (&endpoint.name, &endpoint.node);
            self.say(Mark::Good, format!("{ip} is the address of {name} on {node}"));
            let owner = Some(endpoint.node.clone());
            let endpoint = Some(endpoint);
            return Ok(Some(Destination {
                owner,
                endpoint,
                ..base
            }));
        }
        let tunnel = self.cluster.nodes.iter().find(|(_, n)| tunnels(n).contains(&ip));
        if let Some((node, _)) = tunnel {
            let owner = Some(node.clone());
            self.say(Mark::Good, format!("{ip} is the address of a tunnel device of {node}"));
            return Ok(Some(Destination { owner, ..base }));
        }
        if let Some(node) = self.cluster.node_at(ip) {
            let text = format!("{ip} is the address of Node {node} itself: the network leads there, not Tortie");
            self.say(Mark::Note, text);
        }
        Ok(None)
    }

    fn block(&mut self, net: Prefix) -> Result<Option<Destination>, Cause> {
        let covering = self.cluster.blocks.iter().filter(|b| b.cidr.covers(net));
        let claims = self.cluster.affinities.iter().filter(|c| c.block.covers(net));
        let owned = covering.filter_map(|b| match &b.affinity {
            Some(Owner::Host(node)) => Some((node.to_string(), b.cidr)),
            Some(Owner::Virtual(_)) | None => None,
        });
        let mut all = owned.chain(claims.map(|c| (c.node.clone(), c.block)));
        let Some((owner, block)) = all.next() else {
            return Ok(None);
        };
        if block != net {
            let text = format!("{net} is a part of block {block} of {owner}, which travels as a whole");
            self.say(Mark::Note, text);
            return Ok(Some(Destination {
                within: Some((owner, block)),
                ..Destination::outside(net)
            }));
        }
        self.say(Mark::Good, format!("{net} is a block of {owner}"));
        Ok(Some(Destination {
            owner: Some(owner),
            ..Destination::outside(net)
        }))
    }

    /// It is in a pool, and nobody has it: why.
    fn nobody(&mut self, net: Prefix, pool: Option<&IpPool>) -> Cause {
        let subject = Subject::Net(net).to_string();
        self.say(Mark::Wrong, format!("nobody has {subject}"));
        let covers =
            |r: &&tortie_model::resource::IpReservation| r.spec.reserved_cidrs.iter().any(|c| c.network().covers(net));
        if let Some(reservation) = self.cluster.reservations.iter().find(covers) {
            let reservation = reservation.metadata.name.clone();
            return Cause::Reserved { subject, reservation };
        }
        if let Some(pool) = pool.filter(|p| !is_enabled(p)) {
            let pool = pool.metadata.name.clone();
            return Cause::PoolDisabled { subject, pool };
        }
        let why = match self.allocated(net) {
            Some(handle) => format!("its block has it for {handle}, of which there is no WorkloadEndpoint"),
            None if net.is_host() => "no WorkloadEndpoint has it, and in its block it is free".to_owned(),
            None => "no node has claimed a block there".to_owned(),
        };
        Cause::NotAssigned { subject, why }
    }

    /// The handle that an address is allocated for.
    fn allocated(&self, net: Prefix) -> Option<String> {
        let ip = net.is_host().then(|| net.addr())?;
        let block = self.cluster.blocks.iter().find(|b| b.cidr.contains(ip))?;
        let index = |ip: IpAddr| match ip {
            IpAddr::V4(a) => u128::from(u32::from(a)),
            IpAddr::V6(a) => u128::from(a),
        };
        let ordinal = usize::try_from(index(ip).checked_sub(index(block.cidr.addr()))?).ok()?;
        let slot = (*block.allocations.get(ordinal)?)?;
        block.attributes.get(slot)?.handle_id.clone()
    }

    /// No endpoint has this pod: why it may have got none.
    fn lost(&mut self, pod: &str) -> Cause {
        let subject = format!("pod {pod}");
        self.say(Mark::Wrong, format!("no WorkloadEndpoint is {pod}'s"));
        let services = "if it is a service: the datastore holds none by name, ask for its address".to_owned();
        self.say(Mark::Note, services);
        let mut usable = self
            .cluster
            .pools
            .iter()
            .filter(|p| p.spec.allows(AllowedUse::Workload))
            .peekable();
        let first = usable.peek().map(|p| p.metadata.name.clone());
        match first {
            Some(pool) if !usable.any(is_enabled) => Cause::PoolDisabled { subject, pool },
            Some(_) => Cause::NotAssigned {
                subject,
                why: "there is no WorkloadEndpoint of it, so no node's felix has attached it".to_owned(),
            },
            None => Cause::NotAssigned {
                subject,
                why: "there is no WorkloadEndpoint of it, and no IPPool to give it an address".to_owned(),
            },
        }
    }
}

fn tunnels(node: &Node) -> Vec<IpAddr> {
    let ipip = node.spec.bgp.as_ref().and_then(|b| b.ipv4_ipip_tunnel_addr);
    let four = [ipip, node.spec.ipv4_vxlan_tunnel_addr];
    let six = node.spec.ipv6_vxlan_tunnel_addr.map(IpAddr::from);
    four.into_iter().flatten().map(IpAddr::from).chain(six).collect()
}

fn described(pool: &IpPool) -> String {
    let spec = &pool.spec;
    let traits = [
        (!is_enabled(pool), "disabled"),
        (spec.disable_bgp_export, "not exported by BGP"),
        (spec.ipip_mode() != EncapMode::Never, "IPIP"),
        (spec.vxlan_mode() != EncapMode::Never, "VXLAN"),
    ];
    let traits: Vec<&str> = traits.into_iter().filter(|(has, _)| *has).map(|(_, t)| t).collect();
    let traits = if traits.is_empty() {
        String::new()
    } else {
        format!(" ({})", traits.join(", "))
    };
    format!("IPPool {}, {}{traits}", pool.metadata.name, spec.cidr)
}
