//! From what a peer said to what is used: loop checks, policy.
//!
//! RFC 4271 (section 5.1.3, 6.3, 9.1.2), 4456 (section 8), 9234 (section 5), 9774. What was received is kept beside what the policy made
//! of it, so that a new policy needs no help of the peer.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use tortie_net::{Asn, Prefix, RouterId};

use super::export::{self, Held, RouteRef};
use super::roles;
use super::said::Said;
use crate::attr::{Attributes, NextHop, SegmentKind};
use crate::config::{LocalAsAllowed, Policy};
use crate::filter::{Krt, Notes, RouteDestination, RouteSource};
use crate::nexthop::{HopId, NextHops, Rule};
use crate::packet::Role;
use crate::rib::{AttrId, Filtered, Hop, Imported, Interner, Learned, Traits};
use crate::roa::RoaTables;

/// Imports one route as it came for one prefix after another.
///
/// The policy is asked again only when the prefix makes a difference to it.
#[derive(Debug)]
pub(super) struct Importer<'v> {
    pub(super) view: &'v ImportView,
    /// Of the route as it came. Borrowed: whoever has the importer has a reference.
    pub(super) received: AttrId,
    learned: Learned,
    /// What the last run came to, as a reference of our own, and for which prefixes that holds.
    last: Option<(Imported, Notes<'v>)>,
}

/// What an import needs beside the route.
pub(super) type Means<'a> = (&'a mut Interner<Learned>, &'a mut NextHops, &'a mut Said, &'a RoaTables);

impl<'v> Importer<'v> {
    /// Of a route that is interned.
    pub(super) fn new(view: &'v ImportView, received: AttrId, learned: Learned) -> Self {
        Importer {
            view,
            received,
            learned,
            last: None,
        }
    }

    /// What becomes of the route for this prefix. An accepted one has a new reference.
    pub(super) fn import(&mut self, net: Prefix, means: Means<'_>) -> Imported {
        let (interner, hops, log, roas) = means;
        if let Some((imported, notes)) = &self.last
            && notes.hold_for(net, roas)
        {
            return imported.map(|id| interner.retain(id));
        }
        let mut notes = Notes::default();
        let means = (&mut *interner, hops, log, roas);
        let imported = self.view.import((net, self.received, &self.learned), means, &mut notes);
        let last = (imported.map(|id| interner.retain(id)), notes);
        if let Some((Ok(before), _)) = self.last.replace(last) {
            interner.release(before);
        }
        imported
    }

    /// Gives back what it holds.
    pub(super) fn finish(self, interner: &mut Interner<Learned>) {
        if let Some((Ok(last), _)) = self.last {
            interner.release(last);
        }
    }
}

/// What an import depends on, for one channel.
#[derive(Debug, Clone)]
pub(super) struct ImportView {
    pub(super) protocol: Arc<str>,
    pub(super) source: RouteSource,
    pub(super) traits: Traits,
    pub(super) policy: Policy,
    pub(super) preference: u16,
    /// How next hops become gateways; none for protocols whose routes have their own.
    pub(super) rule: Option<Arc<Rule>>,
    /// For routes that peers told us.
    pub(super) checks: Option<Checks>,
}

/// What a peer's routes are checked for.
#[derive(Debug, Clone)]
pub(super) struct Checks {
    pub(super) internal: bool,
    pub(super) local_as: Asn,
    pub(super) peer_as: Asn,
    /// Ours towards an external peer.
    pub(super) role: Option<Role>,
    pub(super) allow_local_as: LocalAsAllowed,
    pub(super) allow_local_pref: bool,
    pub(super) allow_as_sets: bool,
    pub(super) enforce_first_as: bool,
    pub(super) default_local_pref: u32,
    pub(super) router_id: RouterId,
    /// Of a peer that is our client.
    pub(super) cluster: Option<RouterId>,
    /// The host's addresses.
    pub(super) own: Arc<[IpAddr]>,
}

impl Checks {
    /// The attributes as they are kept: complete, and without what has no meaning here.
    pub(super) fn normalize(&self, mut attributes: Attributes, next_hop: NextHop) -> Attributes {
        attributes.next_hop = Some(next_hop);
        if !self.internal {
            if !self.allow_local_pref {
                attributes.local_pref = None;
            }
            attributes.originator_id = None;
            attributes.cluster_list = Box::default();
        }
        if let Some(role) = self.role {
            roles::mark_received(role, self.peer_as, &mut attributes);
        }
        attributes.local_pref.get_or_insert(self.default_local_pref);
        attributes
    }

    /// Why a route cannot be used, if so.
    fn refuse(&self, attributes: &Attributes) -> Option<Filtered> {
        let path = &attributes.as_path;
        let loops = match self.allow_local_as {
            LocalAsAllowed::Times(times) => path.count(self.local_as) > times as usize,
            LocalAsAllowed::Unlimited => false,
        };
        let has_set = || {
            path.segments()
                .any(|s| matches!(s.kind, SegmentKind::Set | SegmentKind::ConfedSet))
        };
        if loops {
            Some(Filtered::AsLoop)
        } else if self.internal && attributes.originator_id == Some(self.router_id) {
            Some(Filtered::OriginatorLoop)
        } else if self
            .cluster
            .is_some_and(|cluster| self.internal && attributes.cluster_list.contains(&cluster))
        {
            Some(Filtered::ClusterLoop)
        } else if !self.internal && self.enforce_first_as && path.first() != Some(self.peer_as) {
            Some(Filtered::FirstAs)
        } else if !self.allow_as_sets && has_set() {
            Some(Filtered::AsSet)
        } else if self
            .role
            .is_some_and(|role| roles::is_leak(role, self.peer_as, attributes))
        {
            Some(Filtered::RouteLeak)
        } else if attributes.next_hop.is_some_and(|n| self.own.contains(&n.addr())) {
            Some(Filtered::OwnNextHop)
        } else {
            None
        }
    }
}

impl ImportView {
    /// A route as it came, to be interned.
    pub(super) fn received(&self, attributes: Attributes, hops: &mut NextHops) -> Learned {
        let mut learned = Learned {
            attributes,
            preference: self.preference,
            destination: RouteDestination::Unicast,
            igp_metric: None,
            krt: Krt::default(),
            gateways: Box::default(),
            hop: None,
        };
        learned.hop = self.hop(&learned, hops);
        learned
    }

    /// The next hop that a route depends on. One whose gateways a filter set depends on none.
    pub(super) fn hop(&self, learned: &Learned, hops: &mut NextHops) -> Option<HopId> {
        let rule = self.rule.as_ref()?;
        let address = match &*learned.gateways {
            _ if learned.destination != RouteDestination::Unicast => None,
            [] => learned.attributes.next_hop.map(NextHop::addr),
            // `recursive` of a static route.
            [
                Hop {
                    address,
                    interface: None,
                    ..
                },
            ] if self.checks.is_none() => *address,
            _ => None,
        };
        let link_local = match learned.attributes.next_hop {
            Some(NextHop::V6 { link_local, .. }) if learned.gateways.is_empty() => link_local,
            Some(NextHop::V4(_) | NextHop::V6 { .. }) | None => None,
        };
        address.map(|address| hops.id(address, &rule.with_link_local(link_local)))
    }

    /// What becomes of a received route, and what it depends on. An accepted one has a new reference.
    fn import<'v>(
        &'v self,
        (net, received, learned): (Prefix, AttrId, &Learned),
        (interner, hops, log, roas): Means<'_>,
        notes: &mut Notes<'v>,
    ) -> Imported {
        if let Some(why) = self
            .checks
            .as_ref()
            .and_then(|checks| checks.refuse(&learned.attributes))
        {
            return Err(why);
        }
        // What others told may have come while the channel had another preference, or resolved next hops otherwise.
        let hop = self.hop(learned, hops);
        let told = self.checks.is_some() || self.source == RouteSource::Inherit;
        let differs = told && (learned.preference, learned.hop) != (self.preference, hop);
        let now = differs.then(|| Learned {
            preference: self.preference,
            hop,
            ..learned.clone()
        });
        let learned = now.as_ref().unwrap_or(learned);
        let unchanged = |interner: &mut Interner<Learned>, now: Option<Learned>| match now {
            Some(now) => interner.intern(&now),
            None => interner.retain(received),
        };
        match &self.policy {
            Policy::All => return Ok(unchanged(interner, now)),
            Policy::None => return Err(Filtered::ImportPolicy),
            Policy::Filter(_) => {}
        }
        let route = RouteRef {
            net,
            learned,
            traits: &self.traits,
            protocol: &self.protocol,
            source: self.source,
            stale: false,
            hops: None,
            roas,
        };
        let mut lines = Vec::new();
        let filtered = self.filtered(&route, &mut lines, notes);
        log.lines(&self.protocol, lines);
        match filtered {
            Ok(None) => Ok(unchanged(interner, now)),
            Ok(Some(mut changed)) => {
                // Another `bgp_next_hop` is for who is told of the route: what the peer said is where packets go.
                let way = (changed.destination, &changed.gateways) == (learned.destination, &learned.gateways);
                changed.hop = if way { learned.hop } else { self.hop(&changed, hops) };
                Ok(interner.intern(&changed))
            }
            Err(Held::Failed(error)) => {
                log.failed(&self.protocol, net, &error);
                Err(Filtered::ImportPolicy)
            }
            Err(
                Held::Policy
                | Held::NotReflected
                | Held::Community
                | Held::LongLivedStale
                | Held::RouteLeak
                | Held::NoNextHop,
            ) => Err(Filtered::ImportPolicy),
        }
    }

    /// Runs the policy: `None` when it accepts the route as it is.
    fn filtered<'v>(
        &'v self,
        route: &RouteRef<'_>,
        said: &mut Vec<String>,
        notes: &mut Notes<'v>,
    ) -> Result<Option<Learned>, Held> {
        let mut context = export::context(route);
        let gw = context.gw;
        export::admit(&self.policy, &mut context, said, notes)?;
        let learned = route.learned;
        let gateways = if context.gw == gw {
            learned.gateways.clone()
        } else {
            let hop = Hop {
                address: context.gw,
                interface: None,
                weight: 1,
                onlink: false,
            };
            Box::from([hop])
        };
        let before = (learned.preference, learned.destination, learned.igp_metric, learned.krt);
        let after = (context.preference, context.dest, context.igp_metric, context.krt);
        if matches!(context.attributes, Cow::Borrowed(_)) && before == after && gateways == learned.gateways {
            return Ok(None);
        }
        let changed = Learned {
            preference: context.preference,
            destination: context.dest,
            igp_metric: context.igp_metric,
            krt: context.krt,
            gateways,
            hop: None,
            attributes: context.attributes.into_owned(),
        };
        Ok(Some(changed))
    }
}
