//! What is on a wire: every frame that passes a namespace's interfaces, and which tunnel, if any, it travels in.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::Netns;

/// Every EtherType, as packet(7) wants it.
const ETH_P_ALL: u16 = 0x0003;
/// Frames kept at most.
const FRAMES: usize = 200_000;
/// Octets kept of each: the headers of a tunnel and of what is in it.
const SNAP: usize = 192;
const VXLAN_PORT: u16 = 4789;

/// The header of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Header {
    /// IP in IP (RFC 2003).
    Ipip,
    /// VXLAN (RFC 7348) with this network number.
    Vxlan(u32),
}

/// A packet as it passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    /// The tunnel it was in, and from where to where.
    pub tunnel: Option<(Header, IpAddr, IpAddr)>,
    /// Where it comes from, inside.
    pub from: IpAddr,
    /// Where it goes to, inside.
    pub to: IpAddr,
    /// The length of the whole packet with all its headers, but the frame's.
    pub len: usize,
}

/// A capture that goes on.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Packet>>>,
}

impl Capture {
    /// Starts to listen to every interface in `ns`. Frames from now on are captured.
    ///
    /// # Errors
    /// When the namespace has no raw socket to give.
    pub fn start(ns: &Netns) -> Result<Capture> {
        let socket = ns.within(|| {
            let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).context("open a packet socket")?;
            socket.set_recv_buffer_size(8 * 1024 * 1024)?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            Ok(socket)
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::spawn(move || Ok(listen(socket, &flag)));
        Ok(Capture { stop, thread })
    }

    /// Stops, and gives the IP packets that passed.
    ///
    /// # Errors
    /// When the listener failed.
    pub fn stop(self) -> Result<Vec<Packet>> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(packets) => packets,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn listen(mut socket: Socket, stop: &AtomicBool) -> Vec<Packet> {
    let mut packets = Vec::new();
    let mut buffer = vec![0u8; 65_536];
    let mut end = None;
    loop {
        // Frames that are queued when it is told to stop still count, but there may always be more.
        if stop.load(Ordering::Relaxed) {
            let end = end.get_or_insert_with(|| Instant::now() + Duration::from_millis(200));
            if Instant::now() > *end {
                return packets;
            }
        }
        match socket.read(&mut buffer) {
            Ok(len) if packets.len() < FRAMES => {
                packets.extend(buffer.get(..len.min(SNAP)).and_then(|f| packet(f, len)));
            }
            Ok(_) => {}
            Err(_) if end.is_some() => return packets,
            Err(_) => {}
        }
    }
}

fn packet(frame: &[u8], len: usize) -> Option<Packet> {
    let outer = Ip::read(frame.get(12..14)?, frame.get(14..)?)?;
    let len = len.saturating_sub(14);
    let (tunnel, inner) = match outer.tunnel() {
        Some((header, inner)) => (Some((header, outer.from, outer.to)), inner),
        None => (None, outer),
    };
    Some(Packet {
        tunnel,
        from: inner.from,
        to: inner.to,
        len,
    })
}

struct Ip<'a> {
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    payload: &'a [u8],
}

impl<'a> Ip<'a> {
    fn read(ether_type: &[u8], b: &'a [u8]) -> Option<Ip<'a>> {
        match ether_type {
            [0x08, 0x00] => {
                let at = |i: usize| -> Option<Ipv4Addr> { Some(<[u8; 4]>::try_from(b.get(i..i + 4)?).ok()?.into()) };
                let header = usize::from(b.first()? & 0x0F) * 4;
                Some(Ip {
                    from: at(12)?.into(),
                    to: at(16)?.into(),
                    protocol: *b.get(9)?,
                    payload: b.get(header..)?,
                })
            }
            [0x86, 0xdd] => {
                let at = |i: usize| -> Option<Ipv6Addr> { Some(<[u8; 16]>::try_from(b.get(i..i + 16)?).ok()?.into()) };
                Some(Ip {
                    from: at(8)?.into(),
                    to: at(24)?.into(),
                    protocol: *b.get(6)?,
                    payload: b.get(40..)?,
                })
            }
            _ => None,
        }
    }

    fn tunnel(&self) -> Option<(Header, Ip<'a>)> {
        const IPIP: u8 = 4;
        const UDP: u8 = 17;
        match self.protocol {
            IPIP => Some((Header::Ipip, Ip::read(&[0x08, 0x00], self.payload)?)),
            UDP if self.payload.get(2..4)? == VXLAN_PORT.to_be_bytes() => {
                let vxlan = self.payload.get(8..16)?;
                let vni = u32::from_be_bytes([0, vxlan[4], vxlan[5], vxlan[6]]);
                let frame = self.payload.get(16..)?;
                Some((Header::Vxlan(vni), Ip::read(frame.get(12..14)?, frame.get(14..)?)?))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(protocol: u8, from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut b = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        b.extend(from);
        b.extend(to);
        b.extend(payload);
        b
    }

    fn framed(packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00]);
        frame.extend(packet);
        frame
    }

    #[test]
    fn headers_are_told_from_each_other() {
        let inner = v4(1, [10, 244, 0, 5], [10, 244, 1, 5], &[8, 0]);
        let (node, other) = ([172, 30, 0, 11], [172, 30, 1, 13]);
        let read = |frame: Vec<u8>| packet(&frame, frame.len()).unwrap();
        let plain = read(framed(&inner));
        assert_eq!((plain.tunnel, plain.len), (None, 22));
        let ipip = read(framed(&v4(4, node, other, &inner)));
        assert_eq!(ipip.tunnel, Some((Header::Ipip, node.into(), other.into())));
        assert_eq!((ipip.from, ipip.to, ipip.len), (plain.from, plain.to, 42));
        let mut udp = vec![0x12, 0x34, 0x12, 0xb5, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0x10, 0, 0];
        udp.extend(framed(&inner));
        let vxlan = read(framed(&v4(17, node, other, &udp)));
        assert_eq!(vxlan.tunnel, Some((Header::Vxlan(4096), node.into(), other.into())));
        assert_eq!((vxlan.from, vxlan.len), (plain.from, 72));
        assert_eq!(packet(&[0; 14], 14), None);
    }
}
