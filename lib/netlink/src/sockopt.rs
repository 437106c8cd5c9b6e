//! Socket options the standard library and the safe crates do not offer: TCP-MD5 keys (RFC 2385), TCP-AO keys (RFC 5925, in
//! [`ao`]) and the least TTL that is let in (RFC 5082).
//!
//! The only unsafe code of the workspace: one call of `setsockopt` with plain structures of known size.

pub mod ao;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use tortie_net::Prefix;

/// The longest TCP-MD5 key, in octets.
pub const MD5_KEY_MAX: usize = 80;

/// `TCP_MD5SIG_FLAG_PREFIX` of linux/tcp.h.
const FLAG_PREFIX: u8 = 1;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C, align(8))]
struct Md5Signature {
    /// A `struct sockaddr_storage`.
    address: [u8; 128],
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: i32,
    key: [u8; MD5_KEY_MAX],
}

const _: () = assert!(size_of::<Md5Signature>() == 216);

/// Signs segments from and to addresses within `peer` with a key; an empty key ends that. On a listening socket it holds
/// for the connections accepted from there; segments from there without the right signature are dropped.
///
/// An IPv4 peer needs an IPv4 socket, an IPv6 peer an IPv6 one.
///
/// # Errors
/// `InvalidInput` for a key longer than [`MD5_KEY_MAX`]; else the kernel's, for instance when it was built without
/// signatures, or when a key to be removed is not there.
pub fn set_md5_key(socket: &impl AsFd, peer: Prefix, key: &[u8]) -> io::Result<()> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "a TCP-MD5 key has at most 80 octets");
    let mut option = Md5Signature {
        address: socket_address(peer.addr()),
        flags: 0,
        prefix_length: 0,
        key_length: u16::try_from(key.len()).map_err(|_| too_long())?,
        interface: 0,
        key: [0; MD5_KEY_MAX],
    };
    option
        .key
        .get_mut(..key.len())
        .ok_or_else(too_long)?
        .copy_from_slice(key);
    let name = if peer.is_host() {
        libc::TCP_MD5SIG
    } else {
        option.flags = FLAG_PREFIX;
        option.prefix_length = peer.len();
        libc::TCP_MD5SIG_EXT
    };
    set_option(socket, libc::IPPROTO_TCP, name, &option)
}

/// Drops segments that arrive with a lower TTL (hop limit). `family` is any address of the socket's family.
///
/// # Errors
/// The kernel's.
pub fn set_min_ttl(socket: &impl AsFd, family: IpAddr, ttl: u8) -> io::Result<()> {
    let value = i32::from(ttl);
    match family {
        IpAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &value),
        IpAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &value),
    }
}

/// A `struct sockaddr_in` or `struct sockaddr_in6` with port 0, padded.
fn socket_address(addr: IpAddr) -> [u8; 128] {
    let mut out = [0; 128];
    let (family, at, octets) = match addr {
        IpAddr::V4(addr) => (libc::AF_INET, 4, addr.octets().to_vec()),
        IpAddr::V6(addr) => (libc::AF_INET6, 8, addr.octets().to_vec()),
    };
    let family = u16::try_from(family).expect("invariant: address families are small numbers");
    out[..2].copy_from_slice(&family.to_ne_bytes());
    out[at..at + octets.len()].copy_from_slice(&octets);
    out
}

fn set_option<T>(socket: &impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `value` points to `length` initialised octets, of a `repr(C)` structure without padding or an integer, for
    // the duration of the call; the kernel only reads them. The descriptor is borrowed and therefore open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    fn connect_with_key(to: std::net::SocketAddr, key: &[u8]) -> io::Result<TcpStream> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
        set_md5_key(&socket, Prefix::host(to.ip()), key)?;
        socket.connect_timeout(&to.into(), Duration::from_millis(700))?;
        Ok(socket.into())
    }

    #[test]
    fn only_the_right_key_connects() {
        for (addr, peer) in [
            ("127.0.0.1:0", "127.0.0.1/32"),
            ("127.0.0.1:0", "127.0.0.0/8"),
            ("[::1]:0", "::1/128"),
        ] {
            let listener = TcpListener::bind(addr).unwrap();
            set_md5_key(&listener, peer.parse().unwrap(), b"secret").unwrap();
            let to = listener.local_addr().unwrap();
            assert!(connect_with_key(to, b"secret").is_ok(), "{peer}");
            assert!(connect_with_key(to, b"wrong").is_err(), "{peer}");
            assert!(
                TcpStream::connect_timeout(&to, Duration::from_millis(700)).is_err(),
                "{peer}"
            );
            set_md5_key(&listener, peer.parse().unwrap(), b"").unwrap();
            assert!(
                TcpStream::connect_timeout(&to, Duration::from_millis(700)).is_ok(),
                "{peer}"
            );
        }
    }

    #[test]
    fn a_key_that_is_too_long_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = set_md5_key(&listener, "127.0.0.1/32".parse().unwrap(), &[b'x'; 81]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn far_away_peers_are_kept_out() {
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(addr).unwrap();
            let to = listener.local_addr().unwrap();
            set_min_ttl(&listener, to.ip(), 255).unwrap();
            assert!(
                TcpStream::connect_timeout(&to, Duration::from_millis(700)).is_err(),
                "TTL 64 from {addr}"
            );
            let near = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None).unwrap();
            if to.is_ipv4() {
                near.set_ttl_v4(255).unwrap();
            } else {
                near.set_unicast_hops_v6(255).unwrap();
            }
            near.connect_timeout(&to.into(), Duration::from_millis(700)).unwrap();
        }
    }
}
