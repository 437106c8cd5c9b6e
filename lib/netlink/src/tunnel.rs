//! Tunnel devices (VXLAN, IPIP) and what makes a VXLAN device know its peers: permanent neighbours and forwarding entries.
//!
//! A VXLAN device here learns nothing: which node has which hardware address, and which address packets to it are sent
//! to, is written by whoever owns the device.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteType;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::addr::family;
use crate::link::{MacAddr, check_name, without_statistics};
use crate::request::{Connection, RequestError};

/// What makes one VXLAN device incompatible with another: none of it can be changed in a device that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan {
    /// The network's number.
    pub vni: u32,
    /// The UDP port of the other ends.
    pub port: u16,
    /// The index of the interface that the packets leave by.
    pub parent: u32,
    /// The address that they are sent from.
    pub local: IpAddr,
    /// Does it learn who is where from the packets it gets?
    pub learning: bool,
}

/// Where packets to a hardware address go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FdbEntry {
    /// The hardware address inside.
    pub mac: MacAddr,
    /// The other end's address outside.
    pub host: IpAddr,
}

/// The hardware address of an address on a device's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The address.
    pub address: IpAddr,
    /// Its hardware address.
    pub mac: MacAddr,
}

impl Connection {
    /// Creates a VXLAN device, down and without an address.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken, or the VNI and port by another device.
    pub fn create_vxlan(&mut self, name: &str, vxlan: &Vxlan, mac: MacAddr, mtu: u32) -> Result<(), RequestError> {
        check_name(name)?;
        let local = match vxlan.local {
            IpAddr::V4(a) => InfoVxlan::Local(a),
            IpAddr::V6(a) => InfoVxlan::Local6(a),
        };
        let data = vec![
            InfoVxlan::Id(vxlan.vni),
            InfoVxlan::Port(vxlan.port),
            InfoVxlan::Link(vxlan.parent),
            InfoVxlan::Learning(vxlan.learning),
            local,
        ];
        let mut message = named(name);
        message.attributes.push(LinkAttribute::Address(mac.0.to_vec()));
        message.attributes.push(LinkAttribute::Mtu(mtu));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(data)),
        ]));
        self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(|e| RequestError::new("create VXLAN device", name, e))
    }

    /// Creates an IPIP device without ends of its own: `tunl0` comes so with the kernel's module, which this loads.
    ///
    /// # Errors
    /// `EEXIST` when it is there (now), `EOPNOTSUPP` when the kernel knows no IPIP.
    pub fn create_ipip(&mut self, name: &str) -> Result<(), RequestError> {
        check_name(name)?;
        let mut message = named(name);
        let info = vec![LinkInfo::Kind(InfoKind::IpIp)];
        message.attributes.push(LinkAttribute::LinkInfo(info));
        self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(|e| RequestError::new("create IPIP device", name, e))
    }

    /// What a VXLAN device is made of. `None` when there is no device of this name, or it is no VXLAN device.
    ///
    /// # Errors
    /// The kernel's.
    pub fn vxlan(&mut self, name: &str) -> Result<Option<Vxlan>, RequestError> {
        check_name(name)?;
        let mut message = without_statistics();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.ask(RouteNetlinkMessage::GetLink(message)) {
            Ok(RouteNetlinkMessage::NewLink(link)) => {
                let its_name = |a: &LinkAttribute| matches!(a, LinkAttribute::IfName(n) if n == name);
                Ok(link
                    .attributes
                    .iter()
                    .any(its_name)
                    .then(|| parameters(&link))
                    .flatten())
            }
            Ok(_) => Ok(None),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(RequestError::new("find VXLAN device", name, e)),
        }
    }

    /// Changes the largest packet that an interface takes, in octets.
    ///
    /// # Errors
    /// `ENODEV` when it is gone, `EINVAL` when it cannot.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), RequestError> {
        self.set_link(index, LinkAttribute::Mtu(mtu))
            .map_err(|e| RequestError::new("set MTU of interface", index, e))
    }

    /// Changes the hardware address of an interface.
    ///
    /// # Errors
    /// `ENODEV` when it is gone.
    pub fn set_mac(&mut self, index: u32, mac: MacAddr) -> Result<(), RequestError> {
        self.set_link(index, LinkAttribute::Address(mac.0.to_vec()))
            .map_err(|e| RequestError::new("set hardware address of interface", index, e))
    }

    fn set_link(&mut self, index: u32, attribute: LinkAttribute) -> std::io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(attribute);
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Has packets to a hardware address sent to this host, whatever was there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_fdb(&mut self, index: u32, entry: FdbEntry) -> Result<(), RequestError> {
        let message = RouteNetlinkMessage::NewNeighbour(fdb_message(index, entry));
        self.change(message, NLM_F_CREATE | NLM_F_REPLACE)
            .map_err(|e| RequestError::new("set forwarding of", entry.mac, e))
    }

    /// Removes a forwarding entry. Nothing there is success.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_fdb(&mut self, index: u32, entry: FdbEntry) -> Result<(), RequestError> {
        let message = RouteNetlinkMessage::DelNeighbour(fdb_message(index, entry));
        gone(self.change(message, 0)).map_err(|e| RequestError::new("remove forwarding of", entry.mac, e))
    }

    /// The forwarding entries of a VXLAN device that name a host.
    ///
    /// # Errors
    /// The kernel's.
    pub fn fdb(&mut self, index: u32) -> Result<Vec<FdbEntry>, RequestError> {
        let mut filter = NeighbourMessage::default();
        filter.header.family = AddressFamily::Bridge;
        filter.header.kind = RouteType::Unspec;
        filter.header.ifindex = index;
        let read = |message| {
            let (host, mac) = ends(&neighbour_on(message, index)?)?;
            Some(FdbEntry { mac, host })
        };
        self.dump(RouteNetlinkMessage::GetNeighbour(filter), read)
            .map_err(|e| RequestError::new("list forwarding of interface", index, e))
    }

    /// The permanent neighbours of one family on an interface.
    ///
    /// # Errors
    /// The kernel's.
    pub fn permanent_neighbours(&mut self, index: u32, v4: bool) -> Result<Vec<Neighbour>, RequestError> {
        let mut filter = NeighbourMessage::default();
        filter.header.family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        filter.header.kind = RouteType::Unspec;
        filter.attributes.push(NeighbourAttribute::IfIndex(index));
        let read = |message| {
            let found = neighbour_on(message, index)?;
            let (address, mac) = ends(&found).filter(|_| found.header.state == NeighbourState::Permanent)?;
            Some(Neighbour { address, mac })
        };
        self.dump(RouteNetlinkMessage::GetNeighbour(filter), read)
            .map_err(|e| RequestError::new("list neighbours of interface", index, e))
    }

    /// Removes a neighbour. Nothing there is success.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_neighbour(&mut self, index: u32, address: IpAddr) -> Result<(), RequestError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index;
        message.header.kind = RouteType::Unspec;
        message
            .attributes
            .push(NeighbourAttribute::Destination(destination(address)));
        gone(self.change(RouteNetlinkMessage::DelNeighbour(message), 0))
            .map_err(|e| RequestError::new("remove neighbour", address, e))
    }
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

fn gone(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

fn destination(address: IpAddr) -> NeighbourAddress {
    match address {
        IpAddr::V4(a) => NeighbourAddress::Inet(a),
        IpAddr::V6(a) => NeighbourAddress::Inet6(a),
    }
}

fn fdb_message(index: u32, entry: FdbEntry) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.header.kind = RouteType::Unspec;
    let mac = NeighbourAttribute::LinkLayerAddress(entry.mac.0.to_vec());
    message.attributes.push(mac);
    let host = NeighbourAttribute::Destination(destination(entry.host));
    message.attributes.push(host);
    message
}

fn neighbour_on(message: RouteNetlinkMessage, index: u32) -> Option<NeighbourMessage> {
    match message {
        RouteNetlinkMessage::NewNeighbour(n) if n.header.ifindex == index => Some(n),
        _ => None,
    }
}

/// Its address and its hardware address.
fn ends(message: &NeighbourMessage) -> Option<(IpAddr, MacAddr)> {
    let address = message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::Destination(d) => ip(d),
        _ => None,
    })?;
    let mac = message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::LinkLayerAddress(octets) => octets.as_slice().try_into().ok(),
        _ => None,
    })?;
    Some((address, MacAddr(mac)))
}

fn ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(a) => Some((*a).into()),
        NeighbourAddress::Inet6(a) => Some((*a).into()),
        // Of a forwarding entry the family says nothing.
        NeighbourAddress::Other(octets) => {
            let v4 = <[u8; 4]>::try_from(octets.as_slice()).map(|o| Ipv4Addr::from(o).into());
            let v6 = <[u8; 16]>::try_from(octets.as_slice()).map(|o| Ipv6Addr::from(o).into());
            v4.or(v6).ok()
        }
        _ => None,
    }
}

fn parameters(link: &LinkMessage) -> Option<Vxlan> {
    let info = link.attributes.iter().find_map(|a| match a {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|i| match i {
            LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
            _ => None,
        }),
        _ => None,
    })?;
    let mut vxlan = Vxlan {
        vni: 0,
        port: 0,
        parent: 0,
        local: Ipv4Addr::UNSPECIFIED.into(),
        learning: false,
    };
    for part in info {
        match part {
            InfoVxlan::Id(vni) => vxlan.vni = *vni,
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::Link(parent) => vxlan.parent = *parent,
            InfoVxlan::Local(a) => vxlan.local = (*a).into(),
            InfoVxlan::Local6(a) => vxlan.local = (*a).into(),
            InfoVxlan::Learning(learning) => vxlan.learning = *learning,
            _ => {}
        }
    }
    Some(vxlan)
}
