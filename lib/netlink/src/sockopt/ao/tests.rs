use std::mem::offset_of;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::*;

const SHA1: AoKey<'_> = AoKey {
    send_id: 7,
    recv_id: 8,
    algorithm: "hmac(sha1)",
    secret: b"secret",
};

/// Offsets as a C compiler has them for linux/tcp.h.
#[test]
fn the_structures_are_the_kernels() {
    let add = [
        offset_of!(Add, algorithm),
        offset_of!(Add, interface),
        offset_of!(Add, flags),
        offset_of!(Add, reserved),
        offset_of!(Add, prefix_length),
        offset_of!(Add, send_id),
        offset_of!(Add, recv_id),
        offset_of!(Add, mac_length),
        offset_of!(Add, key_flags),
        offset_of!(Add, key_length),
        offset_of!(Add, key),
    ];
    assert_eq!(add, [128, 192, 196, 200, 202, 203, 204, 205, 206, 207, 208]);
    let delete = [
        offset_of!(Delete, interface),
        offset_of!(Delete, flags),
        offset_of!(Delete, reserved),
        offset_of!(Delete, prefix_length),
        offset_of!(Delete, send_id),
        offset_of!(Delete, recv_id),
        offset_of!(Delete, current),
        offset_of!(Delete, rnext),
        offset_of!(Delete, key_flags),
    ];
    assert_eq!(delete, [128, 132, 136, 138, 139, 140, 141, 142, 143]);
    let info = [
        offset_of!(Info, reserved),
        offset_of!(Info, current),
        offset_of!(Info, rnext),
        offset_of!(Info, counters),
    ];
    assert_eq!(info, [4, 6, 7, 8]);
    if cfg!(target_endian = "little") {
        assert_eq!((SET_CURRENT, SET_RNEXT), (1, 2));
    }
}

#[test]
fn a_key_is_laid_out_for_its_peer() {
    let option = addition("192.0.2.0/24".parse().unwrap(), &SHA1, true).unwrap();
    assert_eq!(&option.address[..8], [2, 0, 0, 0, 192, 0, 2, 0]);
    assert_eq!(&option.algorithm[..11], b"hmac(sha1)\0");
    assert_eq!((option.prefix_length, option.send_id, option.recv_id), (24, 7, 8));
    assert_eq!((option.key_length, &option.key[..7]), (6, &b"secret\0"[..]));
    assert_eq!(option.flags, SET_CURRENT | SET_RNEXT);

    let option = removal("2001:db8::/32".parse().unwrap(), (7, 8), Some((3, 4)));
    assert_eq!(&option.address[..12], [10, 0, 0, 0, 0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8]);
    assert_eq!((option.prefix_length, option.current, option.rnext), (32, 3, 4));
}

#[test]
fn what_is_too_long_is_refused() {
    let peer = "192.0.2.1/32".parse().unwrap();
    let secret = AoKey {
        secret: &[b'x'; 81],
        ..SHA1
    };
    let algorithm = AoKey {
        algorithm: &"x".repeat(64),
        ..SHA1
    };
    for key in [secret, algorithm] {
        let error = addition(peer, &key, false).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

fn connect(to: SocketAddr, key: &AoKey<'_>) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
    add(&socket, Prefix::host(to.ip()), key, true)?;
    socket.connect_timeout(&to.into(), Duration::from_millis(700))?;
    Ok(socket.into())
}

/// Where the kernel has TCP-AO, only the right key connects and keys change on the way; where not, that is what the error says.
#[test]
fn only_the_right_key_connects_or_the_kernel_is_named() {
    for (addr, peer) in [("127.0.0.1:0", "127.0.0.0/8"), ("[::1]:0", "::1/128")] {
        let (listener, peer) = (TcpListener::bind(addr).unwrap(), peer.parse().unwrap());
        let to = listener.local_addr().unwrap();
        let theirs = |secret| AoKey {
            send_id: 8,
            recv_id: 7,
            secret,
            ..SHA1
        };
        if let Err(error) = add(&listener, peer, &SHA1, false) {
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            assert_eq!(error.to_string(), NOT_THERE);
            assert_eq!(connect(to, &SHA1).unwrap_err().to_string(), NOT_THERE);
            continue;
        }
        let ours = connect(to, &theirs(b"secret")).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(connect(to, &theirs(b"wrong")).is_err());
        assert!(TcpStream::connect_timeout(&to, Duration::from_millis(700)).is_err());
        // Another key on both sides, and the first one goes, although it is in use.
        let second = AoKey {
            send_id: 1,
            recv_id: 1,
            secret: b"second",
            ..SHA1
        };
        add(&accepted, peer, &second, false).unwrap();
        add(&ours, Prefix::host(to.ip()), &second, false).unwrap();
        request(&accepted, 1).unwrap();
        assert!(request(&accepted, 99).is_err(), "no such key");
        remove(&accepted, peer, (7, 8), Some((1, 1))).unwrap();
        remove(&ours, Prefix::host(to.ip()), (8, 7), Some((1, 1))).unwrap();
        std::io::Write::write_all(&mut &ours, b"x").unwrap();
        accepted.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        std::io::Read::read_exact(&mut &accepted, &mut [0]).unwrap();
    }
}

#[test]
fn a_connection_without_signatures_is_told_from_one_with() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    assert!(request(&accepted, 1).is_err());
}
