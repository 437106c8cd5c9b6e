//! Static routes and ROAs as the contract's.

use std::sync::Arc;

use tortie_bgp::config::{StaticDestination, StaticHop};
use tortie_bgp::roa::Roa;
use tortie_bgp::speaker::{ListedRoa, StaticView};
use tortie_proto::bird::static_route::Destination;
use tortie_proto::bird::{
    NextHop, RoaPayload, RoaSource, RouteType, StaticNextHop, StaticNextHops, StaticRoute, TableRoa,
};

use crate::engine::Clock;

/// The routes of a static protocol, and its ROAs.
pub(super) fn routes(view: StaticView) -> Vec<StaticRoute> {
    let protocol = view.protocol.to_string();
    let route = |prefix: tortie_net::Prefix, destination| StaticRoute {
        protocol: protocol.clone(),
        prefix: Some(prefix.into()),
        destination: Some(destination),
    };
    let roas = view
        .roas
        .iter()
        .map(|roa| route(roa.prefix(), Destination::Roa(payload(*roa))));
    let routes = view
        .routes
        .iter()
        .map(|(one, usable)| route(one.prefix, destination(&one.destination, usable)));
    routes.chain(roas).collect()
}

fn destination(destination: &StaticDestination, usable: &[bool]) -> Destination {
    match destination {
        StaticDestination::Blackhole => Destination::Dropped(RouteType::Blackhole.into()),
        StaticDestination::Unreachable => Destination::Dropped(RouteType::Unreachable.into()),
        StaticDestination::Prohibit => Destination::Dropped(RouteType::Prohibit.into()),
        StaticDestination::Recursive(via) => Destination::Recursive(tortie_proto::octets(*via)),
        StaticDestination::Via(hops) => Destination::NextHops(StaticNextHops {
            next_hops: hops
                .iter()
                .zip(usable)
                .map(|(hop, usable)| next_hop(hop, *usable))
                .collect(),
        }),
    }
}

fn next_hop(hop: &StaticHop, usable: bool) -> StaticNextHop {
    StaticNextHop {
        next_hop: Some(NextHop {
            address: hop.gateway.map(tortie_proto::octets).unwrap_or_default(),
            interface: hop.interface.clone().unwrap_or_default(),
            weight: hop.weight.into(),
            onlink: hop.onlink,
        }),
        bfd: hop.bfd,
        usable,
    }
}

fn payload(roa: Roa) -> RoaPayload {
    RoaPayload {
        max_length: roa.max_len().into(),
        asn: roa.asn().0,
    }
}

/// A ROA of a table.
pub(super) fn roa(table: &Arc<str>, listed: &ListedRoa, clock: Clock) -> TableRoa {
    let sources = listed.sources.iter().map(|source| RoaSource {
        protocol: source.protocol.to_string(),
        of_cache: source.of_cache,
        preference: source.preference.into(),
        since_unix_ms: clock.unix_ms(source.since),
    });
    TableRoa {
        table: table.to_string(),
        prefix: Some(listed.roa.prefix().into()),
        roa: Some(payload(listed.roa)),
        sources: sources.collect(),
    }
}
