//! Routes of our own: static and direct.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use tortie_net::Prefix;

use super::bfd;
use super::io::InterfaceAddress;
use super::links::Host;
use crate::attr::Attributes;
use crate::config::{DirectConfig, InterfacePattern, StaticConfig, StaticDestination, StaticHop, StaticRoute};
use crate::filter::{Assigned, Krt, RouteContext, RouteDestination, RouteSource, RunError};
use crate::rib::{Hop, Learned};

/// A route of our own, or why a static one cannot be made.
pub(super) type Made = Result<(Prefix, Learned), (Prefix, RunError)>;

/// The routes of a static protocol that can be used now: those whose gateways are on a link of ours that is up.
pub(super) fn static_routes(config: &StaticConfig, name: &str, host: &Host<'_>, said: &mut Vec<String>) -> Vec<Made> {
    let preference = config.channel.preference;
    let usable = config.routes.iter().filter_map(|route| {
        let (destination, gateways) = destination(&route.destination, config.check_link, host)?;
        let learned = learned(preference, destination, gateways);
        Some(attributed(route, name, learned, said).map_err(|error| (route.prefix, error)))
    });
    usable.collect()
}

fn learned(preference: u16, destination: RouteDestination, gateways: Box<[Hop]>) -> Learned {
    Learned {
        attributes: Attributes::default(),
        preference,
        destination,
        igp_metric: None,
        krt: Krt::default(),
        gateways,
        hop: None,
    }
}

fn destination(
    destination: &StaticDestination,
    check_link: bool,
    host: &Host<'_>,
) -> Option<(RouteDestination, Box<[Hop]>)> {
    let none = Box::default;
    match destination {
        StaticDestination::Blackhole => Some((RouteDestination::Blackhole, none())),
        StaticDestination::Unreachable => Some((RouteDestination::Unreachable, none())),
        StaticDestination::Prohibit => Some((RouteDestination::Prohibit, none())),
        StaticDestination::Recursive(address) => {
            let hop = Hop {
                address: Some(*address),
                interface: None,
                weight: 1,
                onlink: false,
            };
            Some((RouteDestination::Unicast, Box::from([hop])))
        }
        StaticDestination::Via(hops) => {
            let gateways: Box<[Hop]> = hops.iter().filter_map(|hop| via(hop, check_link, host)).collect();
            (!gateways.is_empty()).then_some((RouteDestination::Unicast, gateways))
        }
    }
}

/// A gateway that is on a link of ours. An interface that is named must be up, and have the gateway on a subnet of its own
/// unless the route says `onlink`.
pub(super) fn via(hop: &StaticHop, check_link: bool, host: &Host<'_>) -> Option<Hop> {
    let interface = match (hop.interface.as_deref(), hop.gateway) {
        (Some(name), gateway) => {
            let near = |gateway| {
                let here = host.addresses.iter().filter(|a| &*a.interface == name);
                here.into_iter().any(|a| a.subnet.contains(gateway))
            };
            let reached = hop.onlink || !host.links.known() || gateway.is_none_or(near);
            (reached && host.links.is_up(name)).then(|| Arc::from(name))?
        }
        (None, Some(gateway)) => link_of(gateway, host.addresses)?,
        (None, None) => return None,
    };
    let carried = !check_link || host.links.has_carrier(&interface);
    let usable = carried && (!hop.bfd || is_watched(hop, host));
    usable.then_some(Hop {
        address: hop.gateway,
        interface: Some(interface),
        weight: hop.weight,
        onlink: hop.onlink,
    })
}

/// Does BFD say that the path to the gateway works?
fn is_watched(hop: &StaticHop, host: &Host<'_>) -> bool {
    let key = hop
        .gateway
        .and_then(|gateway| bfd::static_key((gateway, hop.interface.as_deref()), host.addresses));
    key.is_some_and(|key| host.bfd_up.contains(&key))
}

/// The interface on whose subnet an address is; the most specific subnet wins.
fn link_of(address: IpAddr, addresses: &[InterfaceAddress]) -> Option<Arc<str>> {
    let near = addresses.iter().filter(|a| a.subnet.contains(address));
    near.max_by_key(|a| a.subnet.len()).map(|a| a.interface.clone())
}

/// Runs the statements of a static route.
fn attributed(
    route: &StaticRoute,
    name: &str,
    learned: Learned,
    said: &mut Vec<String>,
) -> Result<(Prefix, Learned), RunError> {
    let Some(statements) = &route.attributes else {
        return Ok((route.prefix, learned));
    };
    let mut context = RouteContext {
        assigned: Assigned::default(),
        net: route.prefix,
        proto: name,
        source: RouteSource::Static,
        from: None,
        gw: None,
        ifname: None,
        dest: learned.destination,
        preference: learned.preference,
        igp_metric: None,
        krt: Krt::default(),
        roas: None,
        attributes: Cow::Borrowed(&learned.attributes),
    };
    let verdict = statements.apply(&mut context);
    said.extend(verdict.messages);
    if let Some(error) = verdict.error {
        return Err(error);
    }
    let changed = Learned {
        attributes: context.attributes.into_owned(),
        preference: context.preference,
        destination: context.dest,
        igp_metric: context.igp_metric,
        krt: context.krt,
        gateways: learned.gateways.clone(),
        hop: None,
    };
    Ok((route.prefix, changed))
}

/// The subnets of the interfaces that a direct protocol is about.
pub(super) fn direct_routes(config: &DirectConfig, host: &Host<'_>, is_v4: bool, preference: u16) -> Vec<Made> {
    let wanted = host.addresses.iter().filter(|a| {
        let of_family = a.subnet.is_v4() == is_v4;
        let link_scope = a.address.is_loopback() || matches!(a.address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let carried = !config.check_link || host.links.has_carrier(&a.interface);
        of_family && !link_scope && carried && selected(&config.interfaces, a)
    });
    let route = |a: &InterfaceAddress| {
        let hop = Hop {
            address: None,
            interface: Some(a.interface.clone()),
            weight: 1,
            onlink: false,
        };
        Ok((
            a.subnet,
            learned(preference, RouteDestination::Unicast, Box::from([hop])),
        ))
    };
    wanted.map(route).collect()
}

/// Does an address's interface match? Within a statement the first pattern that matches decides.
pub(super) fn selected(statements: &[Vec<InterfacePattern>], address: &InterfaceAddress) -> bool {
    let selects = |list: &Vec<InterfacePattern>| InterfacePattern::selects(list, &address.interface, address.address);
    statements.is_empty() || statements.iter().any(selects)
}
