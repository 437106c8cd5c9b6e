//! Messages of the BGP Monitoring Protocol (RFC 7854), written.
//!
//! A [`Message`] is a value; [`Message::encode`] makes octets of it. Times are of the process, as everywhere here: whoever
//! encodes adds the time at which the process started.
//!
//! Invariants: AS numbers in mirrored UPDATEs have four octets whatever the session has, so the A flag is never set
//! (section 4.2); the length in the common header is that of the message. Peers are global instance peers without a
//! distinguisher: there is one routing instance.
//!
//! Not here: which messages are sent when (the speaker), the connection to a station (the shell), mirroring of octets
//! (section 4.7), Adj-RIB-Out (RFC 8671) and Loc-RIB (RFC 9069).

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tortie_net::{Asn, RouterId};

use crate::packet::AfiSafi;

const VERSION: u8 = 3;

/// Message types (section 4.1).
const ROUTE_MONITORING: u8 = 0;
const STATISTICS_REPORT: u8 = 1;
const PEER_DOWN: u8 = 2;
const PEER_UP: u8 = 3;
const INITIATION: u8 = 4;
const TERMINATION: u8 = 5;

/// Flags of the per-peer header (section 4.2).
const PEER_IS_IPV6: u8 = 0x80;
const POST_POLICY: u8 = 0x40;

/// Which of a peer's two tables (the L flag).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// As the peer told them.
    Pre,
    /// Accepted by the import policy, as it changed them.
    Post,
}

/// Whose message it is: the per-peer header (section 4.2) without its table and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The peer's address.
    pub address: IpAddr,
    /// Its AS.
    pub asn: Asn,
    /// Its BGP identifier.
    pub router_id: RouterId,
}

/// Why a session ended (section 4.9). Octets are a NOTIFICATION as it was on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownReason {
    /// We closed it and said why.
    LocalNotification(Bytes),
    /// We closed it silently: the event of RFC 4271 section 8.1, zero for none of those.
    LocalSilent(u16),
    /// The peer closed it and said why.
    RemoteNotification(Bytes),
    /// The connection went.
    RemoteSilent,
}

/// A gauge of a Statistics Report (section 4.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// Routes in the peer's Adj-RIB-In (type 7).
    AdjRibIn(u64),
    /// The peer's routes in the Loc-RIB (type 8).
    LocRib(u64),
    /// Type 7 for one family (type 9).
    AdjRibInOf(AfiSafi, u64),
    /// Type 8 for one family (type 10).
    LocRibOf(AfiSafi, u64),
}

/// A message to a station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The first one: sysDescr and sysName.
    Initiation {
        /// What we are; what is beyond 65,535 octets is not sent.
        description: String,
        /// What we are called; what is beyond 65,535 octets is not sent.
        name: String,
    },
    /// The last one: the session was closed administratively.
    Termination,
    /// A session came up.
    PeerUp {
        /// Whose.
        peer: Peer,
        /// When.
        at: Duration,
        /// Our end.
        local: SocketAddr,
        /// The peer's port.
        remote_port: u16,
        /// Our OPEN as it was on the wire.
        sent: Bytes,
        /// The peer's.
        received: Bytes,
    },
    /// A session ended, and with it all routes of the peer.
    PeerDown {
        /// Whose.
        peer: Peer,
        /// When.
        at: Duration,
        /// Why.
        reason: DownReason,
    },
    /// What a peer said, or what became of it.
    Route {
        /// Which peer.
        peer: Peer,
        /// When the routes came.
        at: Duration,
        /// Which table.
        policy: Policy,
        /// One UPDATE.
        update: Bytes,
    },
    /// Numbers.
    Statistics {
        /// Which peer.
        peer: Peer,
        /// When.
        at: Duration,
        /// Which.
        gauges: Vec<Gauge>,
    },
}

impl Message {
    /// Appends the message's octets. `boot` is the time since 1970 at which the process started.
    pub fn encode(&self, boot: Duration, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(VERSION);
        let length_at = out.len();
        out.extend([0; 4]);
        out.push(self.kind());
        match self {
            Message::Route {
                peer,
                at,
                policy,
                update,
            } => {
                put_peer(peer, *policy, boot + *at, out);
                out.extend_from_slice(update);
            }
            Message::Statistics { peer, at, gauges } => {
                put_peer(peer, Policy::Pre, boot + *at, out);
                out.extend(u32::try_from(gauges.len()).unwrap_or(u32::MAX).to_be_bytes());
                gauges.iter().for_each(|gauge| put_gauge(*gauge, out));
            }
            Message::PeerDown { peer, at, reason } => {
                put_peer(peer, Policy::Pre, boot + *at, out);
                put_reason(reason, out);
            }
            Message::PeerUp {
                peer,
                at,
                local,
                remote_port,
                sent,
                received,
            } => {
                put_peer(peer, Policy::Pre, boot + *at, out);
                put_address(local.ip(), out);
                out.extend(local.port().to_be_bytes());
                out.extend(remote_port.to_be_bytes());
                out.extend_from_slice(sent);
                out.extend_from_slice(received);
            }
            Message::Initiation { description, name } => {
                put_tlv(1, description.as_bytes(), out);
                put_tlv(2, name.as_bytes(), out);
            }
            // Type 1 is the reason, reason 0 an administrator's.
            Message::Termination => put_tlv(1, &[0, 0], out),
        }
        let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
        let field = out.iter_mut().skip(length_at);
        field.zip(length.to_be_bytes()).for_each(|(old, new)| *old = new);
    }

    /// Is a station told this that monitors the routes before or after the import policy, as said? Only
    /// [`Message::Route`] depends on it.
    pub fn is_for(&self, pre_policy: bool, post_policy: bool) -> bool {
        match self {
            Message::Route { policy, .. } => match policy {
                Policy::Pre => pre_policy,
                Policy::Post => post_policy,
            },
            Message::Initiation { .. }
            | Message::Termination
            | Message::PeerUp { .. }
            | Message::PeerDown { .. }
            | Message::Statistics { .. } => true,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Message::Route { .. } => ROUTE_MONITORING,
            Message::Statistics { .. } => STATISTICS_REPORT,
            Message::PeerDown { .. } => PEER_DOWN,
            Message::PeerUp { .. } => PEER_UP,
            Message::Initiation { .. } => INITIATION,
            Message::Termination => TERMINATION,
        }
    }
}

fn put_tlv(kind: u16, value: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.extend(kind.to_be_bytes());
    out.extend(length.to_be_bytes());
    out.extend(value.iter().take(usize::from(length)));
}

/// IPv4 addresses stand in the last four of sixteen octets.
fn put_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            out.extend([0; 12]);
            out.extend(address.octets());
        }
        IpAddr::V6(address) => out.extend(address.octets()),
    }
}

fn put_peer(peer: &Peer, policy: Policy, time: Duration, out: &mut Vec<u8>) {
    let v6 = if peer.address.is_ipv6() { PEER_IS_IPV6 } else { 0 };
    let post = if policy == Policy::Post { POST_POLICY } else { 0 };
    out.extend([0, v6 | post]);
    out.extend([0; 8]);
    put_address(peer.address, out);
    out.extend(peer.asn.0.to_be_bytes());
    out.extend(peer.router_id.0.to_be_bytes());
    out.extend(u32::try_from(time.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(time.subsec_micros().to_be_bytes());
}

fn put_reason(reason: &DownReason, out: &mut Vec<u8>) {
    match reason {
        DownReason::LocalNotification(notification) => {
            out.push(1);
            out.extend_from_slice(notification);
        }
        DownReason::LocalSilent(event) => {
            out.push(2);
            out.extend(event.to_be_bytes());
        }
        DownReason::RemoteNotification(notification) => {
            out.push(3);
            out.extend_from_slice(notification);
        }
        DownReason::RemoteSilent => out.push(4),
    }
}

fn put_gauge(gauge: Gauge, out: &mut Vec<u8>) {
    let mut of_family = |kind: u16, family: AfiSafi, value: u64| {
        let (afi, safi) = family.codes();
        let mut octets = afi.to_be_bytes().to_vec();
        octets.push(safi);
        octets.extend(value.to_be_bytes());
        put_tlv(kind, &octets, out);
    };
    match gauge {
        Gauge::AdjRibInOf(family, value) => of_family(9, family, value),
        Gauge::LocRibOf(family, value) => of_family(10, family, value),
        Gauge::AdjRibIn(value) => put_tlv(7, &value.to_be_bytes(), out),
        Gauge::LocRib(value) => put_tlv(8, &value.to_be_bytes(), out),
    }
}
