//! Tables of ours that next hops are resolved by (`igp table`): which they are, and what their routes say.

use std::sync::Arc;

use tortie_net::Family;

use super::slot::Slot;
use super::tables::{Shared, Tables};
use crate::config::{BgpChannel, ChannelFamily, Config, ProtocolKind, StaticConfig};
use crate::filter::RouteDestination;
use crate::nexthop::{Igp, Way};
use crate::rib::{Path, PrefixId};

/// Which tables a channel's next hops are resolved by.
pub(super) fn of_channel(channel: &BgpChannel) -> Igp {
    Igp {
        v4: channel.igp_table4.clone(),
        v6: channel.igp_table6.clone(),
    }
}

/// Which table the next hops of recursive static routes are resolved by: the one that is named has a family.
pub(super) fn of_static(config: &Config, of: &StaticConfig) -> Igp {
    let family = |name: &Arc<str>| {
        config
            .tables
            .iter()
            .find(|table| table.name == *name)
            .map(|table| table.family)
    };
    let named = |wanted: ChannelFamily| of.igp_table.clone().filter(|name| family(name) == Some(wanted));
    Igp {
        v4: named(ChannelFamily::Ipv4),
        v6: named(ChannelFamily::Ipv6),
    }
}

impl Tables {
    /// Follows the tables that a configuration resolves next hops by.
    pub(super) fn follow_igp(&mut self, config: &Config) {
        let named = config.protocols.iter().flat_map(|protocol| match &protocol.kind {
            ProtocolKind::Bgp(bgp) => bgp.channels.iter().map(of_channel).collect(),
            ProtocolKind::Static(of) => vec![of_static(config, of)],
            _ => Vec::new(),
        });
        let names = named.flat_map(|igp| [igp.v4, igp.v6]).flatten();
        for name in self.shared.hops.follow_tables(names) {
            // All of it is told with the next flush.
            self.touch_table(&name);
        }
    }
}

impl<F: Family> Slot<F> {
    /// Says what became of these prefixes, if anybody resolves next hops by this table.
    pub(super) fn tell_next_hops(&self, changed: &[PrefixId], shared: &mut Shared) {
        if !shared.hops.follows(&self.name) {
            return;
        }
        let way = |id: &PrefixId| {
            let mut usable = self.table.paths(*id).iter().filter(|path| path.filtered().is_none());
            usable.find_map(|path| way(path, shared))
        };
        let ways: Vec<_> = changed
            .iter()
            .map(|id| (self.table.prefix(*id).erase(), way(id)))
            .collect();
        shared.hops.table(&self.name, ways);
    }
}

/// Where a route leads; `None` when that depends on other routes.
fn way(path: &Path, shared: &Shared) -> Option<Way> {
    let learned = shared.learned.get(path.attrs());
    let hops = match (learned.destination, learned.hop) {
        (RouteDestination::Unicast, Some(hop)) => shared.hops.direct(hop)?.into(),
        (RouteDestination::Unicast, None) => learned.gateways.clone(),
        (RouteDestination::Blackhole | RouteDestination::Unreachable | RouteDestination::Prohibit, _) => Box::default(),
    };
    let told = || learned.hop.and_then(|hop| shared.hops.metric(hop));
    let metric = learned.igp_metric.or(learned.krt.metric).or_else(told);
    Some(Way {
        metric: metric.unwrap_or(0),
        hops,
    })
}
