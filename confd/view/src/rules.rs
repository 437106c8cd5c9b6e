//! What a node originates, what its peers get and what felix gets, per family and in Calico's order.

use std::net::IpAddr;

use tortie_model::ipam::AffinityState;
use tortie_model::resource::{EncapMode, IpNat, IpPool};
use tortie_net::Prefix;

use super::cluster::{Cluster, Problems};
use super::filters::{Compiled, community};
use super::mesh::Draft;
use super::problem::ProblemKind;
use super::services::ServiceNetworks;
use super::types::{
    CommunityValue, Family, FamilyView, Origin, Originated, OriginatedAs, PeerKind, ReachableBy, Rule, RuleAction,
    RuleReason,
};
use crate::state::Stored;

/// Said of what only BGP tells others, in a pool whose routes felix makes without it.
const IN_VXLAN_POOL: ProblemKind = ProblemKind::NoEffect {
    reason: "a pool with vxlanMode has it: other nodes make their routes there from blocks alone",
};

/// The families in which the node has an address.
pub(super) fn families(
    cluster: &Cluster<'_>,
    drafts: &[Draft],
    compiled: &Compiled,
    problems: &mut Problems,
) -> Vec<FamilyView> {
    let advertisements = advertisements(cluster, problems);
    let services = ServiceNetworks::new(cluster);
    let mut views = Vec::new();
    for family in Family::ALL {
        let Some(address) = cluster.own.address(family) else {
            continue;
        };
        let family = OneFamily {
            cluster,
            family,
            services: &services,
        };
        let own = family.own_prefixes(problems);
        let originated = family.originated(&own, problems);
        let priorities = compiled.priorities(family.family);
        let is_workload =
            |d: &Draft| d.peer.kind == PeerKind::LocalWorkload && Family::of(d.peer.address) == family.family;
        views.push(FamilyView {
            family: family.family,
            address: address.addr,
            subnet: address.network(),
            originated,
            reachable_by: family.reachable_by(drafts),
            export: family.export(&own, &advertisements),
            kernel: family.kernel(),
            priorities,
            workloads: drafts.iter().any(is_workload),
        });
    }
    views
}

struct OneFamily<'a> {
    cluster: &'a Cluster<'a>,
    family: Family,
    services: &'a ServiceNetworks,
}

impl OneFamily<'_> {
    /// What is ours as a whole: confirmed blocks, sorted, and after them pod CIDRs.
    fn own_prefixes(&self, problems: &mut Problems) -> Vec<Originated> {
        let mut own = self.blocks();
        own.extend(self.pod_cidrs(problems));
        own
    }

    /// The pod CIDRs of our Node, if another plugin gives addresses of them.
    fn pod_cidrs(&self, problems: &mut Problems) -> Vec<Originated> {
        let state = self.cluster.state;
        let node = state.nodes.get(&state.node).filter(|_| state.use_pod_cidr);
        let mut all = Vec::new();
        for listed in node.into_iter().flat_map(|n| n.object.pod_cidrs()) {
            let origin = &self.cluster.own.origin();
            match listed {
                Ok(prefix) if self.family.has(prefix) => {
                    if self.in_vxlan_pool(prefix) {
                        problems.add(origin, "status.podCIDRs", IN_VXLAN_POOL);
                    }
                    all.push(Originated {
                        prefix,
                        what: OriginatedAs::PodCidr,
                        origin: origin.clone(),
                    });
                }
                Ok(_) => {}
                Err(value) => {
                    let reason = "it is no prefix".to_owned();
                    problems.add(origin, "status.podCIDRs", ProblemKind::BadValue { value, reason });
                }
            }
        }
        all.sort();
        all
    }

    fn in_vxlan_pool(&self, prefix: Prefix) -> bool {
        let vxlan = |p: &IpPool| p.spec.vxlan_mode() != EncapMode::Never && p.spec.cidr.covers(prefix);
        self.cluster.state.pools.values().any(|s| vxlan(&s.object))
    }

    /// Confirmed blocks of ours, sorted.
    fn blocks(&self) -> Vec<Originated> {
        let state = self.cluster.state;
        let ours = state.affinities.iter().filter(|(prefix, _)| self.family.has(**prefix));
        let confirmed = ours.filter(|(_, s)| s.object.state == AffinityState::Confirmed && !s.object.deleted);
        confirmed
            .map(|(prefix, s)| Originated {
                prefix: *prefix,
                what: OriginatedAs::Block,
                origin: Origin {
                    kind: "BlockAffinity",
                    name: prefix.to_string(),
                    revision: s.revision,
                },
            })
            .collect()
    }

    /// Floating addresses that felix leads to a workload here, for this family.
    fn floating(&self, problems: &mut Problems) -> Vec<Originated> {
        let state = self.cluster.state;
        let mut all = Vec::new();
        if !state.floating_ips() {
            return all;
        }
        for (id, stored) in &state.endpoints {
            let spec = &stored.object.spec;
            let its = |ip: IpAddr| spec.ip_networks.contains(&Prefix::host(ip));
            let leads = |n: &&IpNat| its(n.internal_ip) && Family::of(n.internal_ip) == Family::of(n.external_ip);
            for nat in spec.ip_nats.iter().filter(leads) {
                let prefix = Prefix::host(nat.external_ip);
                if !self.family.has(prefix) || spec.interface_name.is_empty() {
                    continue;
                }
                let origin = endpoint_origin(id, stored.revision);
                if self.in_vxlan_pool(prefix) {
                    problems.add(&origin, "spec.ipNATs", IN_VXLAN_POOL);
                }
                all.push(Originated {
                    prefix,
                    what: OriginatedAs::Floating,
                    origin,
                });
            }
        }
        all
    }

    fn originated(&self, own: &[Originated], problems: &mut Problems) -> Vec<Originated> {
        let mut all = own.to_vec();
        let floating = self.floating(problems).into_iter();
        all.extend(floating.filter(|f| !own.iter().any(|o| o.prefix.covers(f.prefix))));
        for (id, stored) in &self.cluster.state.endpoints {
            let origin = endpoint_origin(id, stored.revision);
            let networks = stored
                .object
                .spec
                .ip_networks
                .iter()
                .copied()
                .filter(|n| self.family.has(*n));
            for prefix in networks.filter(|n| !own.iter().any(|o| o.prefix.covers(*n))) {
                all.push(Originated {
                    prefix,
                    what: OriginatedAs::Borrowed,
                    origin: origin.clone(),
                });
            }
        }
        for (prefix, origin) in self.announced() {
            all.push(Originated {
                prefix: *prefix,
                what: OriginatedAs::Service,
                origin: origin.clone(),
            });
        }
        all.sort();
        // A prefix is a route once, whatever asks for it.
        all.dedup_by(|later, first| later.prefix == first.prefix);
        all
    }

    fn reachable_by(&self, drafts: &[Draft]) -> Vec<ReachableBy> {
        let of_family = drafts.iter().filter(|d| Family::of(d.peer.address) == self.family);
        let mut all: Vec<ReachableBy> = of_family
            .filter_map(|d| {
                let gateway: IpAddr = d.reachable_by?;
                let prefix = Prefix::host(d.peer.address);
                Some(ReachableBy {
                    prefix,
                    gateway,
                    origin: d.peer.origin.clone(),
                })
            })
            .collect();
        all.sort();
        all.dedup_by(|later, first| later.prefix == first.prefix);
        all
    }

    fn announced(&self) -> impl Iterator<Item = &(Prefix, Origin)> {
        self.services.announced.iter().filter(|(p, _)| self.family.has(*p))
    }

    fn of_family<'b>(&'b self, prefixes: &'b [Prefix]) -> impl Iterator<Item = Prefix> + 'b {
        prefixes.iter().copied().filter(|p| self.family.has(*p))
    }

    /// Pools of this family in ascending order of their networks.
    fn pools(&self) -> Vec<(&Stored<IpPool>, Origin)> {
        let state = self.cluster.state;
        let mut pools: Vec<(&Stored<IpPool>, Origin)> = state
            .pools
            .iter()
            .filter(|(_, s)| self.family.has(s.object.spec.cidr))
            .map(|(name, s)| {
                (
                    s,
                    Origin {
                        kind: "IPPool",
                        name: name.clone(),
                        revision: s.revision,
                    },
                )
            })
            .collect();
        pools.sort_by_key(|(s, _)| s.object.spec.cidr);
        pools
    }

    /// Calico's `calico_export_to_bgp_peers`. Its checks of egress interfaces have no counterpart: our speaker does not
    /// learn routes from the kernel.
    fn export(&self, own: &[Originated], advertisements: &[Rule]) -> Vec<Rule> {
        let pools = self.pools();
        let (disabled, enabled): (Vec<_>, Vec<_>) = pools.iter().partition(|(s, _)| s.object.spec.disable_bgp_export);
        let mut rules: Vec<Rule> = disabled
            .into_iter()
            .map(|(s, origin)| {
                rule(
                    s.object.spec.cidr,
                    RuleAction::Reject,
                    RuleReason::ExportDisabled,
                    origin,
                )
            })
            .collect();
        rules.extend(advertisements.iter().filter(|r| self.family.has(r.prefix)).cloned());
        for Originated { prefix, origin, .. } in own {
            let whole = rule(*prefix, RuleAction::Accept, RuleReason::OwnBlock, origin);
            rules.push(Rule { exact: true, ..whole });
            rules.push(rule(*prefix, RuleAction::Reject, RuleReason::InsideOwnBlock, origin));
        }
        let global = self.cluster.global_origin();
        for (prefix, origin) in self.announced() {
            rules.push(rule(*prefix, RuleAction::Accept, RuleReason::Service, origin));
        }
        if self.cluster.own.cluster_id.is_some() {
            let announced = &self.services.announced;
            for prefix in self
                .of_family(&self.services.reflected)
                .filter(|p| !announced.iter().any(|(a, _)| a == p))
            {
                rules.push(rule(prefix, RuleAction::Accept, RuleReason::ReflectedService, &global));
            }
        }
        let accepted = enabled.into_iter();
        rules
            .extend(accepted.map(|(s, origin)| rule(s.object.spec.cidr, RuleAction::Accept, RuleReason::Pool, origin)));
        rules
    }

    /// What felix must not get from BGP, because it knows better.
    fn kernel(&self) -> Vec<Rule> {
        let global = self.cluster.global_origin();
        let services = self.of_family(&self.services.all);
        let mut rules: Vec<Rule> = services
            .map(|p| rule(p, RuleAction::Reject, RuleReason::Service, &global))
            .collect();
        for (stored, origin) in self.pools() {
            if stored.object.spec.vxlan_mode() != EncapMode::Never {
                rules.push(rule(
                    stored.object.spec.cidr,
                    RuleAction::Reject,
                    RuleReason::VxlanPool,
                    &origin,
                ));
            }
        }
        rules
    }
}

fn endpoint_origin(id: &str, revision: u64) -> Origin {
    Origin {
        kind: "WorkloadEndpoint",
        name: id.to_owned(),
        revision,
    }
}

fn rule(prefix: Prefix, action: RuleAction, reason: RuleReason, origin: &Origin) -> Rule {
    Rule {
        prefix,
        exact: false,
        action,
        communities: Vec::new(),
        reason,
        origin: origin.clone(),
    }
}

/// `prefixAdvertisements`, names resolved, in order.
fn advertisements(cluster: &Cluster<'_>, problems: &mut Problems) -> Vec<Rule> {
    let Some((origin, spec, list)) = cluster.prefix_advertisements() else {
        return Vec::new();
    };
    let named = |name: &str| {
        let all = spec
            .communities
            .iter()
            .chain(cluster.global().into_iter().flat_map(|g| &g.communities));
        all.into_iter().find(|c| c.name == name).map(|c| c.value.as_str())
    };
    let mut rules = Vec::new();
    for entry in list {
        let mut communities: Vec<CommunityValue> = Vec::new();
        for text in &entry.communities {
            match community(text).or_else(|| named(text).and_then(community)) {
                Some(value) => communities.push(value),
                None => {
                    let kind = ProblemKind::UnknownCommunity {
                        community: text.clone(),
                    };
                    problems.add(&origin, "spec.prefixAdvertisements", kind);
                }
            }
        }
        communities.sort();
        communities.dedup();
        if !communities.is_empty() {
            let base = rule(
                entry.cidr,
                RuleAction::AddCommunities,
                RuleReason::PrefixAdvertisement,
                &origin,
            );
            rules.push(Rule { communities, ..base });
        }
    }
    rules
}
