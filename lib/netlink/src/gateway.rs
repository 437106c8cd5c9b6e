//! The few routes of an interface that is being set up: to its gateway, and through it.
//!
//! For the inside of a pod. A node's own tables are [`crate::route`]'s.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use tortie_net::Prefix;

use crate::addr::family;
use crate::request::{Connection, RequestError};

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(a) => RouteAddress::Inet(a),
        IpAddr::V6(a) => RouteAddress::Inet6(a),
    }
}

fn message(index: u32, destination: Prefix) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination.addr());
    message.header.destination_prefix_length = destination.len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.kind = RouteType::Unicast;
    if destination.len() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(route_address(destination.addr())));
    }
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

impl Connection {
    /// `destination dev index scope link`, in the main table.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_device_route(&mut self, index: u32, destination: Prefix) -> Result<(), RequestError> {
        let mut route = message(index, destination);
        route.header.scope = RouteScope::Link;
        self.change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)
            .map_err(|e| RequestError::new("add route to", destination, e))
    }

    /// `destination via gateway dev index onlink`, in the main table.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_gateway_route(&mut self, index: u32, destination: Prefix, gateway: IpAddr) -> Result<(), RequestError> {
        let mut route = message(index, destination);
        route.header.scope = RouteScope::Universe;
        route.header.flags = RouteFlags::Onlink;
        route.attributes.push(RouteAttribute::Gateway(route_address(gateway)));
        self.change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)
            .map_err(|e| RequestError::new("add route to", format!("{destination} via {gateway}"), e))
    }

    /// Does the main table have a default route of the family of `gateway`, through it?
    ///
    /// # Errors
    /// The kernel's.
    pub fn has_default_via(&mut self, gateway: IpAddr) -> Result<bool, RequestError> {
        let mut filter = RouteMessage::default();
        filter.header.address_family = family(gateway);
        // The default filters on unicast: say that any kind is wanted.
        filter.header.kind = RouteType::Unspec;
        let wanted = RouteAttribute::Gateway(route_address(gateway));
        let is_it = |message| match message {
            RouteNetlinkMessage::NewRoute(r) => {
                let is_default =
                    r.header.destination_prefix_length == 0 && r.header.table == RouteHeader::RT_TABLE_MAIN;
                (is_default && r.attributes.contains(&wanted)).then_some(())
            }
            _ => None,
        };
        self.dump(RouteNetlinkMessage::GetRoute(filter), is_it)
            .map(|found| !found.is_empty())
            .map_err(|e| RequestError::new("list", "routes", e))
    }
}
