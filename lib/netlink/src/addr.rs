//! Addresses of interfaces.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use tortie_net::Prefix;

use crate::request::{Connection, RequestError};

impl Connection {
    /// Adds `address/len` to an interface; one that is there already is left as it is.
    ///
    /// An IPv6 address is usable at once: duplicate address detection is left out, because whoever calls has the address
    /// from an allocator that never gives one twice.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_address(&mut self, index: u32, address: IpAddr, len: u8) -> Result<(), RequestError> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = len;
        message.header.family = family(address);
        message.attributes.push(AddressAttribute::Address(address));
        message.attributes.push(AddressAttribute::Local(address));
        if address.is_ipv6() {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        self.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
            .map_err(|e| RequestError::new("add address", format!("{address}/{len}"), e))
    }
}

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// An address of an interface.
pub(crate) struct Found {
    /// The interface's index.
    pub(crate) link: u32,
    pub(crate) address: IpAddr,
    pub(crate) on_link: Prefix,
    pub(crate) secondary: bool,
}

/// Every address of every interface.
pub(crate) fn dump(connection: &mut Connection) -> Result<Vec<Found>, RequestError> {
    let dumped = connection
        .dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))
        .map_err(|e| RequestError::new("list", "addresses", e))?;
    Ok(dumped.into_iter().filter_map(new_address).collect())
}

fn new_address(message: RouteNetlinkMessage) -> Option<Found> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    let (mut local, mut address) = (None, None);
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(a) => local = Some(a),
            AddressAttribute::Address(a) => address = Some(a),
            _ => {}
        }
    }
    // On a point-to-point interface `address` is the other end's, and that is what is on-link.
    let on_link = Prefix::new(address.or(local)?, message.header.prefix_len).ok()?;
    // Of IPv6 the bit means something else: a temporary address.
    let secondary = on_link.is_v4() && message.header.flags.contains(AddressHeaderFlags::Secondary);
    Some(Found {
        link: message.header.index,
        address: local.or(address)?,
        on_link,
        secondary,
    })
}
