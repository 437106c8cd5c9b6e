//! Making sockets the way a peer's configuration asks for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tortie_bgp::speaker::ConnectSpec;
use tortie_netlink::sockopt;

use super::keys::Signed;

/// Connections that wait to be accepted. A node of a large mesh starts with as many at once.
const BACKLOG: i32 = 1024;

/// Linux's own default.
const PLAIN_TTL: u8 = 64;

/// Connects. How long it may take is the state machine's decision. With the keys of a connection that is signed.
///
/// # Errors
/// The system's.
pub(crate) async fn connect(spec: &ConnectSpec) -> io::Result<(TcpStream, Option<Signed>)> {
    let remote = scoped(spec.remote, spec.interface.as_deref())?;
    let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(interface) = &spec.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    if let Some(source) = spec.source {
        let source = scoped(SocketAddr::new(source, 0), spec.interface.as_deref())?;
        socket.bind(&source.into())?;
    }
    let signed = Signed::connecting(&socket, remote.ip(), &spec.authentication)?;
    set_ttl(&socket, remote.ip(), spec.ttl)?;
    if let Some(min) = spec.min_ttl {
        sockopt::set_min_ttl(&socket, remote.ip(), min)?;
    }
    let stream = TcpSocket::from_std_stream(socket.into()).connect(remote).await?;
    Ok((stream, signed))
}

fn set_ttl(socket: &Socket, family: IpAddr, ttl: u8) -> io::Result<()> {
    match family {
        IpAddr::V4(_) => socket.set_ttl_v4(ttl.into()),
        IpAddr::V6(_) => socket.set_unicast_hops_v6(ttl.into()),
    }
}

/// A link-local address says nothing without its interface.
pub(crate) fn scoped(addr: SocketAddr, interface: Option<&str>) -> io::Result<SocketAddr> {
    match (addr, interface) {
        (SocketAddr::V6(v6), Some(interface)) if v6.ip().is_unicast_link_local() => {
            let index = if_nametoindex(interface)?;
            Ok(SocketAddrV6::new(*v6.ip(), v6.port(), 0, index).into())
        }
        _ => Ok(addr),
    }
}

/// A socket that may listen on an address. The IPv6 wildcard is IPv6 only, since TCP-MD5 keys are of one family. What answers a SYN has the
/// listener's TTL, before anybody knows whose it is: a peer that guards itself takes only 255.
///
/// # Errors
/// The system's.
pub(crate) fn bound(addr: SocketAddr, free_bind: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    match addr {
        SocketAddr::V4(_) if free_bind => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) if free_bind => socket.set_freebind_v6(true)?,
        SocketAddr::V4(_) | SocketAddr::V6(_) => {}
    }
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    set_ttl(&socket, addr.ip(), u8::MAX)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Listens on it.
///
/// # Errors
/// The system's.
pub(crate) fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// What a connection that was accepted sends with, and takes: TTL 255 and nothing lower than `min`, both ends of RFC 5082, or
/// without one what any other program has.
///
/// # Errors
/// The system's.
pub(crate) fn guard(stream: &TcpStream, remote: IpAddr, min: Option<u8>) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    let Some(min) = min else {
        return set_ttl(&socket, remote, PLAIN_TTL);
    };
    sockopt::set_min_ttl(stream, remote, min)?;
    set_ttl(&socket, remote, u8::MAX)
}

/// The addresses that "everywhere" means.
pub(crate) fn everywhere(port: u16) -> [SocketAddr; 2] {
    [
        SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
        SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
    ]
}
