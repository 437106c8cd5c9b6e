//! Interfaces: the list, veth pairs, up, removal.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::str::FromStr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecUnspec, InetDevConf, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags,
    LinkInfo, LinkMessage, State,
};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use tortie_net::Prefix;

use crate::addr;
use crate::netns::Netns;
use crate::request::{Connection, RequestError};

/// The kernel's limit of an interface name, without its terminating zero.
pub const NAME_MAX: usize = 15;

/// A hardware address of Ethernet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not six octets in hexadecimal, separated by colons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no MAC address")]
pub struct BadMac(pub String);

impl FromStr for MacAddr {
    type Err = BadMac;

    fn from_str(s: &str) -> Result<Self, BadMac> {
        let octet = |part: &str| match part.len() {
            2 if part.bytes().all(|b| b.is_ascii_hexdigit()) => u8::from_str_radix(part, 16).ok(),
            _ => None,
        };
        let octets: Option<Vec<u8>> = s.split(':').map(octet).collect();
        octets
            .and_then(|o| o.try_into().ok())
            .map(MacAddr)
            .ok_or_else(|| BadMac(s.to_owned()))
    }
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind as the kernel says it ("veth", "vxlan"); none for plain hardware and `lo`.
    pub kind: Option<String>,
    /// Its hardware address, if it is Ethernet's.
    pub mac: Option<MacAddr>,
    /// The index of the interface it is attached to; of a veth: of the other end, in that end's namespace.
    pub peer: Option<u32>,
    /// In octets.
    pub mtu: u32,
    /// Set up by the administrator?
    pub up: bool,
    /// Able to carry packets, as the driver says.
    pub running: bool,
    /// There is a carrier: a cable, or the other end.
    pub carrier: bool,
    /// It reaches all of its link at once.
    pub broadcast: bool,
    /// It can multicast.
    pub multicast: bool,
    /// There is one other end.
    pub point_to_point: bool,
    /// It leads back here.
    pub loopback: bool,
    /// The index of the bridge or VRF that it belongs to.
    pub master: Option<u32>,
    /// Of its addresses, those that another one of the same subnet comes before.
    pub secondary: Vec<IpAddr>,
    /// Its addresses, with the prefix each one makes on-link.
    pub addresses: Vec<(IpAddr, Prefix)>,
}

/// A veth pair to create: one end here, the other in a namespace.
#[derive(Debug, Clone, Copy)]
pub struct VethPair<'a> {
    /// The name of the end in the socket's namespace.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: MacAddr,
    /// The name of the other end.
    pub peer_name: &'a str,
    /// The namespace of the other end.
    pub peer_netns: &'a Netns,
    /// In octets; 0 leaves it to the kernel.
    pub mtu: u32,
}

impl Connection {
    /// Every interface, with its addresses, by index.
    ///
    /// # Errors
    /// The kernel's.
    pub fn links(&mut self) -> Result<Vec<Link>, RequestError> {
        let failed = |e| RequestError::new("list", "interfaces", e);
        let mut links = self
            .dump(RouteNetlinkMessage::GetLink(without_statistics()), new_link)
            .map_err(failed)?;
        links.sort_by_key(|l| l.index);
        for found in addr::dump(self)? {
            let at = links.binary_search_by_key(&found.link, |l| l.index);
            if let Some(link) = at.ok().and_then(|at| links.get_mut(at)) {
                link.secondary.extend(found.secondary.then_some(found.address));
                link.addresses.push((found.address, found.on_link));
            }
        }
        Ok(links)
    }

    /// The interface of this name, without its addresses. `None` when there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, RequestError> {
        check_name(name)?;
        let mut message = without_statistics();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        // Asked for by name: a list would be as long as the node has workloads, at each of several steps of every one.
        match self.ask(RouteNetlinkMessage::GetLink(message)) {
            // The kernel finds it by an alternative name, too.
            Ok(found) => Ok(new_link(found).filter(|l| l.name == name)),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(RequestError::new("find interface", name, e)),
        }
    }

    /// Creates a veth pair, both ends down. One request: there is no moment at which the peer is visible here.
    ///
    /// The hardware address is part of the request, so nothing on the host renames or re-addresses the end later.
    ///
    /// # Errors
    /// `EEXIST` when either name is taken in its namespace.
    pub fn create_veth(&mut self, pair: &VethPair<'_>) -> Result<(), RequestError> {
        check_name(pair.name)?;
        check_name(pair.peer_name)?;
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(pair.peer_name.to_owned()));
        peer.attributes
            .push(LinkAttribute::NetNsFd(pair.peer_netns.as_raw_fd()));
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(pair.name.to_owned()));
        message.attributes.push(LinkAttribute::Address(pair.mac.0.to_vec()));
        if pair.mtu != 0 {
            peer.attributes.push(LinkAttribute::Mtu(pair.mtu));
            message.attributes.push(LinkAttribute::Mtu(pair.mtu));
        }
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(|e| RequestError::new("create veth", format!("{} - {}", pair.name, pair.peer_name), e))
    }

    /// Sets an interface up.
    ///
    /// # Errors
    /// `ENODEV` when it is gone.
    pub fn set_up(&mut self, index: u32) -> Result<(), RequestError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.change(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(|e| RequestError::new("set up interface", index, e))
    }

    /// Sets an interface up, and has it forward for whoever is behind it, answer for every IPv4 address, and take the
    /// loopback's addresses for routable (`forwarding`, `proxy_arp`, `route_localnet`).
    ///
    /// One request: a sysctl each would be a file opened, read and written, and the kernel has whoever writes `forwarding` try
    /// again and again while another changes an interface.
    ///
    /// # Errors
    /// `ENODEV` when it is gone.
    pub fn set_up_for_workload4(&mut self, index: u32) -> Result<(), RequestError> {
        let mut settings = InetDevConf::default();
        settings.forwarding = 1;
        settings.proxy_arp = 1;
        settings.route_localnet = 1;
        let settings = AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(settings)]);
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![settings]));
        self.change(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(|e| RequestError::new("set up interface", index, e))
    }

    /// Has an interface that is up and has a carrier send from now on.
    ///
    /// The end of a veth pair that is set up first has no carrier yet. When the other end brings it, the kernel lets it send some
    /// time later, from a queue of such events, and drops what is sent before. Giving it a queueing discipline, the one it
    /// would get, does at once what waits in that queue. It is taken away again, and the kernel's own is there as before: a
    /// plugin that limits bandwidth refuses an interface that was given one.
    ///
    /// # Errors
    /// `ENODEV` when it is gone; `EOPNOTSUPP` of a kernel without traffic control.
    pub fn activate(&mut self, index: u32) -> Result<(), RequestError> {
        let failed = |e| RequestError::new("activate interface", index, e);
        let mut message = TcMessage::default();
        message.header.index = i32::try_from(index).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
        message.header.parent = TcHandle::ROOT;
        message.attributes.push(TcAttribute::Kind("noqueue".to_owned()));
        let mut plain = message.clone();
        plain.attributes.clear();
        self.change(
            RouteNetlinkMessage::NewQueueDiscipline(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map_err(failed)?;
        self.change(RouteNetlinkMessage::DelQueueDiscipline(plain), 0)
            .map_err(failed)
    }

    /// Removes an interface; of a veth pair both ends go. Says whether there was one.
    ///
    /// # Errors
    /// The kernel's, other than that it does not exist.
    pub fn remove_link(&mut self, name: &str) -> Result<bool, RequestError> {
        check_name(name)?;
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.change(RouteNetlinkMessage::DelLink(message), 0) {
            Ok(()) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(e) => Err(RequestError::new("remove interface", name, e)),
        }
    }
}

/// Refuses what the kernel would refuse, or read as something else.
///
/// # Errors
/// `InvalidInput` naming the rule.
pub fn check_name(name: &str) -> Result<(), RequestError> {
    let bad = name.is_empty()
        || name.len() > NAME_MAX
        || name == "."
        || name == ".."
        || name
            .bytes()
            .any(|b| b == b'/' || b == b':' || b.is_ascii_whitespace() || b.is_ascii_control());
    if bad {
        let rule = "an interface name has 1 to 15 octets, none of them '/', ':', a space or a control character";
        let shown: String = name.chars().take(64).collect();
        let invalid = io::Error::new(io::ErrorKind::InvalidInput, rule);
        return Err(RequestError::new(
            "use interface name",
            format!("'{}'", shown.escape_debug()),
            invalid,
        ));
    }
    Ok(())
}

/// A question for interfaces. Their counters, which nobody here reads, are most of what an answer costs.
pub(crate) fn without_statistics() -> LinkMessage {
    let mut message = LinkMessage::default();
    let mask = vec![LinkExtentMask::SkipStats];
    message.attributes.push(LinkAttribute::ExtMask(mask));
    message
}

fn new_link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        mac: None,
        peer: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Running),
        carrier: flags.contains(LinkFlags::LowerUp),
        broadcast: flags.contains(LinkFlags::Broadcast),
        multicast: flags.contains(LinkFlags::Multicast),
        point_to_point: flags.contains(LinkFlags::Pointopoint),
        loopback: flags.contains(LinkFlags::Loopback),
        master: None,
        secondary: Vec::new(),
        addresses: Vec::new(),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Link(peer) => link.peer = Some(peer),
            LinkAttribute::Controller(master) => link.master = Some(master),
            LinkAttribute::Address(octets) => link.mac = octets.try_into().ok().map(MacAddr),
            LinkAttribute::OperState(State::Down | State::LowerLayerDown) => link.running = false,
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses() {
        let mac: MacAddr = "ee:ee:ee:00:0a:Ff".parse().unwrap();
        assert_eq!(mac.to_string(), "ee:ee:ee:00:0a:ff");
        for bad in [
            "",
            "ee",
            "ee:ee:ee:ee:ee",
            "ee:ee:ee:ee:ee:ee:ee",
            "gg:ee:ee:ee:ee:ee",
            "+e:ee:ee:ee:ee:ee",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn interface_names() {
        for good in ["eth0", "cali0123456789a", "a"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:1", "0123456789abcdef", "a\n"] {
            let e = check_name(bad).unwrap_err().to_string();
            assert!(e.contains("1 to 15 octets"), "{e}");
        }
    }
}
