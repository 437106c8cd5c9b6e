//! What the kernel does with a packet for an address: `ip route get fibmatch`.
//!
//! The answer is the entry of the table that the kernel takes, with every rule of the namespace applied, and not the
//! longest match in some table.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteType,
};
use tortie_net::Prefix;

use crate::addr::family;
use crate::request::{Connection, RequestError};
use crate::route::{IfIndex, Kind, NextHop, Protocol, Route, Scope};

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// It takes this route, of whatever table.
    Route(Route),
    /// No route leads there.
    NoRoute,
    /// A route drops it: blackhole, unreachable or prohibit.
    Dropped(Kind),
}

impl Connection {
    /// Looks up where a packet for `destination` that this host sends would go.
    ///
    /// # Errors
    /// The kernel's, and an answer that is no route.
    pub fn lookup(&mut self, destination: IpAddr) -> Result<Lookup, RequestError> {
        let failed = |source| RequestError::new("look up", destination, source);
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = Prefix::host(destination).len();
        message.header.kind = RouteType::Unspec;
        message.header.flags = RouteFlags::FibMatch;
        let address = match destination {
            IpAddr::V4(a) => RouteAddress::Inet(a),
            IpAddr::V6(a) => RouteAddress::Inet6(a),
        };
        message.attributes.push(RouteAttribute::Destination(address));
        match self.ask(RouteNetlinkMessage::GetRoute(message)) {
            Ok(RouteNetlinkMessage::NewRoute(found)) => {
                let route = route(destination, &found).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
                Ok(match route.kind {
                    Kind::Blackhole | Kind::Unreachable | Kind::Prohibit => Lookup::Dropped(route.kind),
                    Kind::Unicast | Kind::Throw | Kind::Other(_) => Lookup::Route(route),
                })
            }
            Ok(_) => Err(failed(io::ErrorKind::InvalidData.into())),
            // How the kernel names routes that drop: `fib_props` of the IPv4 and `ip6_null_entry` of the IPv6 tables.
            Err(e) => match e.raw_os_error() {
                Some(libc::ENETUNREACH) => Ok(Lookup::NoRoute),
                Some(libc::EINVAL) => Ok(Lookup::Dropped(Kind::Blackhole)),
                Some(libc::EHOSTUNREACH) => Ok(Lookup::Dropped(Kind::Unreachable)),
                Some(libc::EACCES) => Ok(Lookup::Dropped(Kind::Prohibit)),
                _ => Err(failed(e)),
            },
        }
    }
}

fn route(destination: IpAddr, message: &RouteMessage) -> Option<Route> {
    let length = message.header.destination_prefix_length;
    let prefix = Prefix::new(destination, length).ok()?;
    let kind = Kind::from_code(message.header.kind.into());
    let mut route = Route::new(prefix, kind, Protocol(message.header.protocol.into()));
    route.table = message.header.table.into();
    route.metric = 0;
    route.scope = Scope(message.header.scope.into());
    let onlink = message.header.flags.contains(RouteFlags::Onlink);
    let mut only = NextHop {
        gateway: None,
        interface: None,
        weight: 1,
        onlink,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Gateway(address) => only.gateway = ip(address),
            RouteAttribute::Oif(index) => only.interface = Some(IfIndex(*index)),
            RouteAttribute::MultiPath(hops) => {
                let hop = |h: &netlink_packet_route::route::RouteNextHop| NextHop {
                    gateway: h.attributes.iter().find_map(|a| match a {
                        RouteAttribute::Gateway(address) => ip(address),
                        _ => None,
                    }),
                    interface: Some(IfIndex(h.interface_index)),
                    weight: u16::from(h.hops) + 1,
                    onlink: h.flags.contains(RouteNextHopFlags::Onlink),
                };
                route.next_hops = hops.iter().map(hop).collect();
            }
            _ => {}
        }
    }
    if route.next_hops.is_empty() && only.interface.is_some() {
        route.next_hops = Arc::new([only]);
    }
    Some(route.canonical())
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(a) => Some((*a).into()),
        RouteAddress::Inet6(a) => Some((*a).into()),
        _ => None,
    }
}
