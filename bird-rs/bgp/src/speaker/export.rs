//! From a best route to what a peer or felix is told: propagation rules, policy, attribute rules, next hop.
//!
//! RFC 4271 (section 5.1, 9.1.3, 9.2), 4456 (section 8), 1997, 2545, 9234 (section 5), 9494 (section 4.3,
//! 4.6). A pure function of a view and a route; peers with
//! equal views are told the same and share an outbox.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use tortie_net::{Asn, Community, Prefix, RouterId};

use super::io::{FibNextHop, FibRoute};
use super::merge::FibView;
use super::roles;
use super::tables::Shared;
use crate::attr::{Attributes, NextHop};
use crate::config::{NextHopRewrite, Policy};
use crate::filter::{Assigned, Notes, RouteContext, RouteDestination, RouteSource, RunError};
use crate::nexthop::{NextHops, Resolved};
use crate::packet::{AfiSafi, Role};
use crate::rib::{Hop, Learned, Path, SourceKind, Traits};
use crate::roa::RoaTables;

/// A route in a table, with what is known of its source.
#[derive(Debug, Clone, Copy)]
pub(super) struct RouteRef<'a> {
    pub(super) net: Prefix,
    pub(super) learned: &'a Learned,
    pub(super) traits: &'a Traits,
    pub(super) protocol: &'a Arc<str>,
    pub(super) source: RouteSource,
    pub(super) stale: bool,
    /// Where next hops lead; none while a route is being imported, which must not depend on it.
    pub(super) hops: Option<&'a NextHops>,
    pub(super) roas: &'a RoaTables,
}

impl<'a> RouteRef<'a> {
    /// A path of a prefix, with what its number of attributes stands for; `None` when its source is unknown.
    pub(super) fn of(net: Prefix, path: &Path, learned: &'a Learned, shared: &'a Shared) -> Option<Self> {
        let at = usize::from(path.source().0);
        let (protocol, source) = shared.names.get(at)?.as_ref()?;
        Some(RouteRef {
            net,
            learned,
            traits: shared.traits.get(at)?.as_ref()?,
            protocol,
            source: *source,
            stale: path.stale().is_left_over(),
            hops: Some(&shared.hops),
            roas: &shared.roas,
        })
    }
}

/// Why a route is not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// Learned from an internal peer, for an internal peer, neither of them our client; or it was in the client's cluster
    /// before (RFC 4456).
    NotReflected,
    /// NO_ADVERTISE, or NO_EXPORT towards another AS (RFC 1997).
    Community,
    /// It is long-lived stale, and the peer would not know (RFC 9494).
    LongLivedStale,
    /// It may only go to customers (RFC 9234).
    RouteLeak,
    /// The export policy rejected it.
    Policy,
    /// The export policy failed on it.
    Failed(RunError),
    /// There is no next hop that the session can carry.
    NoNextHop,
}

/// What a group of BGP peers is told depends on this, the table, and nothing else.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BgpView {
    pub(super) family: AfiSafi,
    pub(super) policy: Policy,
    /// Are the peers in our AS?
    pub(super) internal: bool,
    /// The cluster that we and they are in when they are our clients.
    pub(super) cluster: Option<RouterId>,
    /// Do we serve them as a route server (RFC 7947)?
    pub(super) route_server: bool,
    pub(super) local_as: Asn,
    /// Ours towards external peers.
    pub(super) role: Option<Role>,
    /// Are external ones told LOCAL_PREF?
    pub(super) allow_local_pref: bool,
    pub(super) obey_communities: bool,
    pub(super) default_local_pref: u32,
    /// Do they know what long-lived stale routes are?
    pub(super) long_lived: bool,
    pub(super) next_hop_self: NextHopRewrite,
    pub(super) next_hop_keep: NextHopRewrite,
    /// What "self" is; none when we have no address that the session can carry.
    pub(super) own: Option<NextHop>,
    /// IPv4 routes may have IPv6 next hops.
    pub(super) extended_next_hop: bool,
    /// The link on which the peers are: next hops on it are told as they are (RFC 4271 section 5.1.3).
    pub(super) interface: Option<Arc<str>>,
    /// The peers are told every path and not the best one alone (RFC 7911).
    pub(super) add_paths: bool,
    /// `secondary`: of the routes that were not learned from this peer, the only one in the group, the best one that may be
    /// told is told.
    pub(super) secondary: Option<IpAddr>,
}

/// What a group of members of one table is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum View {
    Bgp(Box<BgpView>),
    Fib(FibView),
    /// The best routes that a policy accepts, as they are in the table.
    Watch(Policy),
}

impl View {
    /// Are the members told every path and not the best one alone?
    pub(super) fn adds_paths(&self) -> bool {
        match self {
            View::Bgp(view) => view.add_paths,
            View::Fib(_) | View::Watch(_) => false,
        }
    }
}

/// A route as filters see it.
pub(super) fn context<'a>(route: &RouteRef<'a>) -> RouteContext<'a> {
    let learned = route.learned;
    let hop = match ways(learned, route.hops) {
        [only] => Some(only),
        _ => None,
    };
    let link = hop.map_or(route.traits.interface.as_deref(), |h| h.interface.as_deref());
    RouteContext {
        assigned: Assigned::default(),
        net: route.net,
        proto: route.protocol,
        source: route.source,
        from: route.traits.address,
        gw: hop.and_then(|h| h.address).or_else(|| gateway(learned)),
        ifname: link
            .filter(|_| learned.destination == RouteDestination::Unicast)
            .map(Cow::Borrowed),
        dest: learned.destination,
        preference: learned.preference,
        igp_metric: learned.igp_metric.or_else(|| route.hops?.metric(learned.hop?)),
        krt: learned.krt,
        roas: Some(route.roas),
        attributes: Cow::Borrowed(&learned.attributes),
    }
}

/// The gateway that a route without gateways of its own has: its BGP next hop.
fn gateway(learned: &Learned) -> Option<IpAddr> {
    let bgp = learned.attributes.next_hop.map(NextHop::addr);
    bgp.filter(|_| learned.gateways.is_empty() && learned.destination == RouteDestination::Unicast)
}

/// Runs a policy, and keeps what it prints and what it asked of the prefix.
pub(super) fn admit<'p>(
    policy: &'p Policy,
    context: &mut RouteContext<'_>,
    said: &mut Vec<String>,
    notes: &mut Notes<'p>,
) -> Result<(), Held> {
    match policy {
        Policy::All => Ok(()),
        Policy::None => Err(Held::Policy),
        Policy::Filter(filter) => {
            let verdict = filter.run_noting(context, notes);
            said.extend(verdict.messages);
            match verdict.error {
                Some(error) => Err(Held::Failed(error)),
                None if verdict.accepted => Ok(()),
                None => Err(Held::Policy),
            }
        }
    }
}

/// Does a policy let a route pass? What it prints goes nowhere.
pub(super) fn admits(policy: &Policy, context: &mut RouteContext<'_>) -> bool {
    admit(policy, context, &mut Vec::new(), &mut Notes::default()).is_ok()
}

impl BgpView {
    /// What the peers are told of a route.
    pub(super) fn announce<'v>(
        &'v self,
        route: &RouteRef<'_>,
        said: &mut Vec<String>,
        notes: &mut Notes<'v>,
    ) -> Result<Attributes, Held> {
        self.may_propagate(route)?;
        let mut context = context(route);
        admit(&self.policy, &mut context, said, notes)?;
        let before = &route.learned.attributes;
        let next_hop = self.next_hop(route, &context);
        let med_is_ours = context.assigned.med || route.traits.kind == SourceKind::Local;
        let mut attributes = context.attributes.into_owned();
        // What goes up must not have been marked, and a filter must not mark what goes up.
        if self.leaks(before) || self.leaks(&attributes) {
            return Err(Held::RouteLeak);
        }
        attributes.next_hop = Some(next_hop.ok_or(Held::NoNextHop)?);
        if self.internal {
            self.inside(route, &mut attributes);
        } else {
            self.outside(&mut attributes, med_is_ours);
        }
        if !self.long_lived && attributes.communities.contains(Community::LLGR_STALE) {
            self.depreference(&mut attributes)?;
        }
        Ok(attributes)
    }

    /// A long-lived stale route for a peer that would take it for a good one (RFC 9494 section 4.6): only inside the AS,
    /// as the least preferred there, and no further.
    fn depreference(&self, attributes: &mut Attributes) -> Result<(), Held> {
        if !self.internal {
            return Err(Held::LongLivedStale);
        }
        attributes.local_pref = Some(0);
        attributes.communities.insert(Community::NO_EXPORT);
        Ok(())
    }

    fn leaks(&self, attributes: &Attributes) -> bool {
        self.role.is_some_and(|role| roles::would_leak(role, attributes))
    }

    pub(super) fn may_propagate(&self, route: &RouteRef<'_>) -> Result<(), Held> {
        let attributes = &route.learned.attributes;
        match route.traits.kind {
            // What we say to others about routes of our own is for them.
            SourceKind::Local => return Ok(()),
            SourceKind::Ibgp { client } if self.internal && !client && self.cluster.is_none() => {
                return Err(Held::NotReflected);
            }
            SourceKind::Ibgp { .. } | SourceKind::Ebgp => {}
        }
        if self
            .cluster
            .is_some_and(|cluster| attributes.cluster_list.contains(&cluster))
        {
            return Err(Held::NotReflected);
        }
        let communities = &attributes.communities;
        let stays = communities.contains(Community::NO_ADVERTISE)
            || (!self.internal
                && (communities.contains(Community::NO_EXPORT)
                    || communities.contains(Community::NO_EXPORT_SUBCONFED)));
        if self.obey_communities && stays {
            Err(Held::Community)
        } else {
            Ok(())
        }
    }

    /// Towards a peer in our AS (RFC 4271 section 5.1.5, RFC 4456 section 8).
    fn inside(&self, route: &RouteRef<'_>, attributes: &mut Attributes) {
        attributes.local_pref.get_or_insert(self.default_local_pref);
        if let SourceKind::Ibgp { .. } = route.traits.kind {
            attributes.originator_id.get_or_insert(route.traits.router_id);
            // Through both clusters, where they are two.
            let theirs = route.traits.cluster.filter(|theirs| self.cluster != Some(*theirs));
            let clusters = self.cluster.into_iter().chain(theirs);
            attributes.cluster_list = clusters.chain(attributes.cluster_list.iter().copied()).collect();
        }
    }

    /// Towards another AS (RFC 4271 section 5.1.2, 5.1.4, 5.1.5).
    fn outside(&self, attributes: &mut Attributes, med_is_ours: bool) {
        if !self.allow_local_pref {
            attributes.local_pref = None;
        }
        attributes.originator_id = None;
        attributes.cluster_list = Box::default();
        if let Some(role) = self.role {
            roles::mark_announced(role, self.local_as, attributes);
        }
        if self.route_server {
            return;
        }
        attributes.as_path = attributes.as_path.prepend(self.local_as);
        // Only a MED that the export policy set is for this neighbour.
        if !med_is_ours {
            attributes.med = None;
        }
    }

    fn matches(rewrite: NextHopRewrite, source: SourceKind) -> bool {
        match rewrite {
            NextHopRewrite::Off => false,
            NextHopRewrite::On => true,
            NextHopRewrite::Ibgp => matches!(source, SourceKind::Ibgp { .. }),
            NextHopRewrite::Ebgp => source == SourceKind::Ebgp,
        }
    }

    fn carries(&self, next_hop: NextHop) -> bool {
        match (self.family, next_hop) {
            (AfiSafi::Ipv4Unicast, NextHop::V4(_)) | (AfiSafi::Ipv6Unicast, NextHop::V6 { .. }) => true,
            (AfiSafi::Ipv4Unicast, NextHop::V6 { .. }) => self.extended_next_hop,
            (AfiSafi::Ipv6Unicast, NextHop::V4(_)) => false,
        }
    }

    /// What goes as next hop: ours; or the route's, where the session has it so, a filter says it, or the peers can use
    /// it; or the gateway on the link that we share; or ours.
    fn next_hop(&self, route: &RouteRef<'_>, context: &RouteContext<'_>) -> Option<NextHop> {
        let traits = route.traits;
        if Self::matches(self.next_hop_self, traits.kind) {
            return self.own;
        }
        let same_link = |link: Option<&str>| link.is_some() && link == self.interface.as_deref();
        let ours = context.assigned.next_hop || traits.kind == SourceKind::Local;
        let kept = ours || Self::matches(self.next_hop_keep, traits.kind);
        if let Some(given) = context.attributes.next_hop {
            let passed_on = self.internal || same_link(traits.interface.as_deref());
            if kept || (passed_on && self.carries(given) && !is_link_local(given.addr())) {
                return Some(self.on_link(given)).filter(|given| self.carries(*given));
            }
        }
        let gateway = context
            .gw
            .filter(|gw| context.dest == RouteDestination::Unicast && !is_link_local(*gw));
        let gateway = gateway.filter(|_| self.internal || same_link(context.ifname.as_deref()));
        gateway.map(NextHop::from).filter(|gw| self.carries(*gw)).or(self.own)
    }

    /// A link-local address means nothing beyond its link.
    fn on_link(&self, next_hop: NextHop) -> NextHop {
        match next_hop {
            NextHop::V6 { global, .. } if self.interface.is_none() => NextHop::from(IpAddr::V6(global)),
            kept => kept,
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// What felix is told of a route.
pub(super) fn fib<'p>(
    policy: &'p Policy,
    route: &RouteRef<'_>,
    said: &mut Vec<String>,
    notes: &mut Notes<'p>,
) -> Result<FibRoute, Held> {
    let mut context = context(route);
    let before = context.gw;
    admit(policy, &mut context, said, notes)?;
    let next_hops = match context.dest {
        RouteDestination::Unicast if context.gw != before => hop(context.gw, None),
        RouteDestination::Unicast => next_hops(route.learned, route.hops),
        RouteDestination::Blackhole | RouteDestination::Unreachable | RouteDestination::Prohibit => Vec::new(),
    };
    if context.dest == RouteDestination::Unicast && next_hops.is_empty() {
        return Err(Held::NoNextHop);
    }
    Ok(FibRoute {
        next_hops,
        destination: context.dest,
        protocol: route.protocol.clone(),
        krt: context.krt,
        local_pref: context.attributes.local_pref,
        stale: route.stale,
    })
}

pub(super) fn hop(address: Option<IpAddr>, interface: Option<Arc<str>>) -> Vec<FibNextHop> {
    vec![FibNextHop {
        address,
        interface,
        weight: 1,
        onlink: false,
    }]
}

/// Where a route leads: by its next hop as far as that is resolved, else by its own gateways.
fn ways<'a>(learned: &'a Learned, hops: Option<&'a NextHops>) -> &'a [Hop] {
    match learned.hop.and_then(|hop| Some(hops?.get(hop))) {
        Some(Resolved::Reached { hops, .. }) => hops,
        Some(Resolved::Assumed | Resolved::Unreachable) | None => &learned.gateways,
    }
}

/// The gateways of a route: those that its next hop leads to, as far as that is known.
pub(super) fn next_hops(learned: &Learned, hops: Option<&NextHops>) -> Vec<FibNextHop> {
    let given = ways(learned, hops);
    let own = given.iter().map(
        |Hop {
             address,
             interface,
             weight,
             onlink,
         }| FibNextHop {
            address: *address,
            interface: interface.clone(),
            weight: *weight,
            onlink: *onlink,
        },
    );
    let mut hops: Vec<FibNextHop> = own.collect();
    if let (true, Some(address)) = (hops.is_empty(), gateway(learned)) {
        hops = hop(Some(address), None);
    }
    hops
}
