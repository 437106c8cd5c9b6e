//! Addresses of interfaces.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use tortie_net::Prefix;

use crate::request::{Connection, RequestError};

/// An address of an interface, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkAddress {
    /// The interface's index.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of its network in bits: a host's on a point-to-point interface.
    pub len: u8,
    /// IPv4: another address of the interface is in the same network and came first.
    pub secondary: bool,
    /// IPv6: made for privacy, and replaced by another before long.
    pub temporary: bool,
    /// No new connection is to use it.
    pub deprecated: bool,
    /// IPv6: it is not known yet whether another host has it, or one has.
    pub tentative: bool,
    /// It does not expire.
    pub permanent: bool,
}

impl Connection {
    /// Every address of every interface, in the kernel's order.
    ///
    /// # Errors
    /// The kernel's.
    pub fn addresses(&mut self) -> Result<Vec<LinkAddress>, RequestError> {
        self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), link_address)
            .map_err(|e| RequestError::new("list", "addresses", e))
    }

    /// Adds `address/len` to an interface; one that is there already is left as it is.
    ///
    /// An IPv6 address is usable at once: duplicate address detection is left out, because whoever calls has the address
    /// from an allocator that never gives one twice.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_address(&mut self, index: u32, address: IpAddr, len: u8) -> Result<(), RequestError> {
        self.add(of(index, address, len), (address, len))
    }

    /// The same, of one address alone that nothing of this host speaks from by itself: it is there to be spoken to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_silent_address(&mut self, index: u32, address: IpAddr) -> Result<(), RequestError> {
        let len = if address.is_ipv4() { 32 } else { 128 };
        let mut message = of(index, address, len);
        match address {
            IpAddr::V4(_) => message.header.scope = AddressScope::Host,
            // Deprecated from the beginning, and for ever.
            IpAddr::V6(_) => {
                let mut lifetimes = CacheInfo::default();
                (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (0, u32::MAX);
                message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
            }
        }
        self.add(message, (address, len))
    }

    fn add(&mut self, message: AddressMessage, (address, len): (IpAddr, u8)) -> Result<(), RequestError> {
        self.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
            .map_err(|e| RequestError::new("add address", format!("{address}/{len}"), e))
    }
}

impl Connection {
    /// Removes `address/len` from an interface. Nothing there is success.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_address(&mut self, index: u32, address: IpAddr, len: u8) -> Result<(), RequestError> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = len;
        message.header.family = family(address);
        message.attributes.push(AddressAttribute::Local(address));
        match self.change(RouteNetlinkMessage::DelAddress(message), 0) {
            Err(e) if e.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
            other => other.map_err(|e| RequestError::new("remove address", format!("{address}/{len}"), e)),
        }
    }
}

fn of(index: u32, address: IpAddr, len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = len;
    message.header.family = family(address);
    message.attributes.push(AddressAttribute::Address(address));
    message.attributes.push(AddressAttribute::Local(address));
    if address.is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
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
    connection
        .dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), new_address)
        .map_err(|e| RequestError::new("list", "addresses", e))
}

fn link_address(message: RouteNetlinkMessage) -> Option<LinkAddress> {
    let (index, flags) = match &message {
        RouteNetlinkMessage::NewAddress(m) => (m.header.index, m.header.flags),
        _ => return None,
    };
    let has = |flag| flags.contains(flag);
    let found = new_address(message)?;
    let v4 = found.address.is_ipv4();
    Some(LinkAddress {
        link: index,
        address: found.address,
        len: if found.on_link.contains(found.address) {
            found.on_link.len()
        } else {
            Prefix::host(found.address).len()
        },
        secondary: v4 && has(AddressHeaderFlags::Secondary),
        temporary: !v4 && has(AddressHeaderFlags::Secondary),
        deprecated: has(AddressHeaderFlags::Deprecated),
        tentative: has(AddressHeaderFlags::Tentative) || has(AddressHeaderFlags::Dadfailed),
        permanent: has(AddressHeaderFlags::Permanent),
    })
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
