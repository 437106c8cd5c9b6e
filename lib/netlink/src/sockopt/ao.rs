//! The TCP Authentication Option (RFC 5925), as Linux 6.7 and later have it when built with `CONFIG_TCP_AO`.
//!
//! A socket that is to connect is given all keys and which of them to begin with; a listening one is given the keys of its
//! peers, and connections accepted from there have theirs from the start. On a connection keys come and go while it stands:
//! the key that signs what we send is the one that the peer asks for, and [`request`] asks the peer for one.

use std::io;
use std::os::fd::AsFd;

use tortie_net::Prefix;

use super::{set_option, socket_address};

/// The longest TCP-AO key, in octets (`TCP_AO_MAXKEYLEN`).
pub const AO_KEY_MAX: usize = 80;

/// What an operator is told whose kernel has no TCP-AO.
const NOT_THERE: &str = "this kernel has no TCP-AO: it needs Linux 6.7 or later, built with CONFIG_TCP_AO";

// Of linux/tcp.h.
const TCP_AO_ADD_KEY: i32 = 38;
const TCP_AO_DEL_KEY: i32 = 39;
const TCP_AO_INFO: i32 = 40;

/// The bit fields that all three structures begin their flags with.
const SET_CURRENT: u32 = flag(0);
const SET_RNEXT: u32 = flag(1);

/// The bit of the n-th field of one bit, as C compilers lay them out.
const fn flag(n: u32) -> u32 {
    if cfg!(target_endian = "big") {
        1 << (31 - n)
    } else {
        1 << n
    }
}

/// A key (RFC 5925's master key tuple).
#[derive(Clone, Copy)]
pub struct AoKey<'a> {
    /// The identifier in segments that we sign with it.
    pub send_id: u8,
    /// The identifier in segments that the peer signs with it.
    pub recv_id: u8,
    /// The kernel's name of the algorithm, such as `hmac(sha1)` or `cmac(aes128)`.
    pub algorithm: &'a str,
    /// At most [`AO_KEY_MAX`] octets.
    pub secret: &'a [u8],
}

/// `struct tcp_ao_add`.
#[repr(C, align(8))]
struct Add {
    address: [u8; 128],
    algorithm: [u8; 64],
    interface: i32,
    flags: u32,
    reserved: u16,
    prefix_length: u8,
    send_id: u8,
    recv_id: u8,
    mac_length: u8,
    key_flags: u8,
    key_length: u8,
    key: [u8; AO_KEY_MAX],
}

/// `struct tcp_ao_del`.
#[repr(C, align(8))]
struct Delete {
    address: [u8; 128],
    interface: i32,
    flags: u32,
    reserved: u16,
    prefix_length: u8,
    send_id: u8,
    recv_id: u8,
    current: u8,
    rnext: u8,
    key_flags: u8,
}

/// `struct tcp_ao_info_opt`; its counters are not touched.
#[repr(C, align(8))]
struct Info {
    flags: u32,
    reserved: u16,
    current: u8,
    rnext: u8,
    counters: [u64; 5],
}

const _: () = assert!(size_of::<Add>() == 288 && size_of::<Delete>() == 144 && size_of::<Info>() == 48);

/// Lets a socket sign and check segments from and to addresses within `peer` with one more key. `begin`: with this one, and
/// the peer is asked for it too; not for a socket that listens.
///
/// An IPv4 peer needs an IPv4 socket, an IPv6 peer an IPv6 one.
///
/// # Errors
/// `Unsupported` when the kernel has no TCP-AO; `InvalidInput` for a key or name of an algorithm that is too long; else the
/// kernel's, for instance when it has no such algorithm, when one of the identifiers is taken, or when the peer has a TCP-MD5
/// key.
pub fn add(socket: &impl AsFd, peer: Prefix, key: &AoKey<'_>, begin: bool) -> io::Result<()> {
    let option = addition(peer, key, begin)?;
    set_option(socket, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &option).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => {
            let message = format!("this kernel has no algorithm {}", key.algorithm);
            io::Error::new(io::ErrorKind::Unsupported, message)
        }
        _ => explained(error),
    })
}

/// Takes a key from a socket. `instead`: the identifiers of another key of the socket's, that is used from now on if this
/// one was in use.
///
/// # Errors
/// `Unsupported` when the kernel has no TCP-AO; else the kernel's, for instance when there is no such key, or when it is in
/// use and there is nothing instead.
pub fn remove(socket: &impl AsFd, peer: Prefix, ids: (u8, u8), instead: Option<(u8, u8)>) -> io::Result<()> {
    let removed = set_option(socket, libc::IPPROTO_TCP, TCP_AO_DEL_KEY, &removal(peer, ids, None));
    match (removed, instead) {
        (Err(error), Some(_)) if error.raw_os_error() == Some(libc::EBUSY) => {
            set_option(socket, libc::IPPROTO_TCP, TCP_AO_DEL_KEY, &removal(peer, ids, instead)).map_err(explained)
        }
        (removed, _) => removed.map_err(explained),
    }
}

/// Asks the peer to sign with the key that has this receive identifier, with the next segment that is sent.
///
/// # Errors
/// `Unsupported` when the kernel has no TCP-AO; else the kernel's: above all when the connection is not signed at all, or
/// not with such a key.
pub fn request(connection: &impl AsFd, recv_id: u8) -> io::Result<()> {
    let option = Info {
        flags: SET_RNEXT,
        reserved: 0,
        current: 0,
        rnext: recv_id,
        counters: [0; 5],
    };
    set_option(connection, libc::IPPROTO_TCP, TCP_AO_INFO, &option).map_err(explained)
}

fn addition(peer: Prefix, key: &AoKey<'_>, begin: bool) -> io::Result<Add> {
    let too_long = |what: &'static str| io::Error::new(io::ErrorKind::InvalidInput, what);
    let mut option = Add {
        address: socket_address(peer.addr()),
        algorithm: [0; 64],
        interface: 0,
        flags: if begin { SET_CURRENT | SET_RNEXT } else { 0 },
        reserved: 0,
        prefix_length: peer.len(),
        send_id: key.send_id,
        recv_id: key.recv_id,
        // The default: 96 bits.
        mac_length: 0,
        key_flags: 0,
        key_length: u8::try_from(key.secret.len()).unwrap_or(u8::MAX),
        key: [0; AO_KEY_MAX],
    };
    let room = option.key.get_mut(..key.secret.len());
    room.ok_or_else(|| too_long("a TCP-AO key has at most 80 octets"))?
        .copy_from_slice(key.secret);
    // The last octet stays zero: it ends the name.
    let room = option.algorithm[..63].get_mut(..key.algorithm.len());
    room.ok_or_else(|| too_long("an algorithm's name has at most 63 octets"))?
        .copy_from_slice(key.algorithm.as_bytes());
    Ok(option)
}

fn removal(peer: Prefix, ids: (u8, u8), instead: Option<(u8, u8)>) -> Delete {
    let (current, rnext) = instead.unwrap_or_default();
    Delete {
        address: socket_address(peer.addr()),
        interface: 0,
        flags: if instead.is_some() { SET_CURRENT | SET_RNEXT } else { 0 },
        reserved: 0,
        prefix_length: peer.len(),
        send_id: ids.0,
        recv_id: ids.1,
        current,
        rnext,
        key_flags: 0,
    }
}

/// The one error that needs more than the kernel's words.
fn explained(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOPROTOOPT) => io::Error::new(io::ErrorKind::Unsupported, NOT_THERE),
        _ => error,
    }
}

#[cfg(test)]
mod tests;
