//! BFD's UDP sockets: what they ask of the kernel (RFC 5881 sections 4 and 5, RFC 5883 section 5).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::net::if_::if_indextoname;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tortie_bfd::{Hops, Key};

use crate::net::socket::scoped;

/// Of the ports that RFC 5881 section 4 allows to send from.
const FIRST_PORT: u16 = 49_152;
/// Ports tried for a session before it is given up until its next packet.
const PORTS: u16 = 256;
/// All packets (RFC 5881 section 5).
const TTL: u8 = 255;
/// Class selector 6, network control: BFD is not to fail because a queue is full.
const TRAFFIC_CLASS: u32 = 0xc0;
/// No packet of ours or of any peer's without authentication is longer.
const LONGEST: usize = 64;

/// A datagram and its envelope.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Empty when it has gone meanwhile.
    pub(super) interface: String,
    pub(super) ttl: u8,
    octets: [u8; LONGEST],
    length: usize,
}

impl Datagram {
    pub(super) fn octets(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }
}

/// A socket that takes the packets of a family at a port, from everywhere, with the TTL they arrived with.
///
/// # Errors
/// The system's.
pub(super) fn listen(v4: bool, hops: Hops) -> io::Result<tokio::net::UdpSocket> {
    let domain = if v4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    let everywhere: IpAddr = if v4 {
        setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        Ipv6Addr::UNSPECIFIED.into()
    };
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(everywhere, hops.port()).into())?;
    tokio::net::UdpSocket::from_std(socket.into())
}

/// Takes the next datagram of such a socket; `None` for one without an envelope.
///
/// # Errors
/// `WouldBlock` when there is none; else the system's.
pub(super) fn receive(socket: &tokio::net::UdpSocket) -> io::Result<Option<Datagram>> {
    socket.try_io(tokio::io::Interest::READABLE, || {
        let mut octets = [0; LONGEST];
        let mut control = nix::cmsg_space!(nix::libc::in6_pktinfo, nix::libc::in_pktinfo, i32);
        let mut buffers = [IoSliceMut::new(&mut octets)];
        let message = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut buffers,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let length = message.bytes;
        let source = message.address.as_ref().and_then(address);
        let (mut ttl, mut info) = (None, None);
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::Ipv4Ttl(value) | ControlMessageOwned::Ipv6HopLimit(value) => {
                    ttl = u8::try_from(value).ok();
                }
                ControlMessageOwned::Ipv4PacketInfo(packet) => {
                    let to = Ipv4Addr::from(u32::from_be(packet.ipi_addr.s_addr));
                    info = Some((IpAddr::V4(to), u32::try_from(packet.ipi_ifindex).unwrap_or(0)));
                }
                ControlMessageOwned::Ipv6PacketInfo(packet) => {
                    let to = Ipv6Addr::from(packet.ipi6_addr.s6_addr);
                    info = Some((IpAddr::V6(to), packet.ipi6_ifindex));
                }
                _ => {}
            }
        }
        let (Some(source), Some(ttl), Some((destination, index))) = (source, ttl, info) else {
            return Ok(None);
        };
        let name = if_indextoname(index).ok().and_then(|name| name.into_string().ok());
        Ok(Some(Datagram {
            source,
            destination,
            interface: name.unwrap_or_default(),
            ttl,
            octets,
            length,
        }))
    })
}

fn address(from: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = from.as_sockaddr_in().map(|from| IpAddr::V4(from.ip()));
    v4.or_else(|| from.as_sockaddr_in6().map(|from| IpAddr::V6(from.ip())))
}

/// A socket that a session sends from: a port of its own, which it keeps.
///
/// # Errors
/// The system's, for instance when the address is not there.
pub(super) fn sender(key: &Key, next_port: &mut u16) -> io::Result<UdpSocket> {
    let interface = key.interface.as_deref();
    let remote = scoped(SocketAddr::new(key.peer, key.hops.port()), interface)?;
    let socket = Socket::new(Domain::for_address(remote), Type::DGRAM, Some(Protocol::UDP))?;
    match key.peer {
        IpAddr::V4(_) => {
            socket.set_ttl_v4(TTL.into())?;
            socket.set_tos_v4(TRAFFIC_CLASS)?;
        }
        IpAddr::V6(_) => {
            socket.set_unicast_hops_v6(TTL.into())?;
            socket.set_tclass_v6(TRAFFIC_CLASS)?;
        }
    }
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.set_nonblocking(true)?;
    bind(&socket, key, next_port)?;
    socket.connect(&remote.into())?;
    Ok(socket.into())
}

fn bind(socket: &Socket, key: &Key, next_port: &mut u16) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORTS {
        let port = (*next_port).max(FIRST_PORT);
        *next_port = port.wrapping_add(1);
        let local = scoped(SocketAddr::new(key.local, port), key.interface.as_deref())?;
        match socket.bind(&local.into()) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
