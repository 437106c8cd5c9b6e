//! Dumps of tables: MRT's TABLE_DUMP_V2 (RFC 6396 section 4.3), with several paths for one prefix (RFC 8050).
//!
//! A dump is one [`PeerIndex`] and then a [`Rib`] for each prefix, whose entries name peers by their place in the index.
//! Peers' AS numbers are always written in four octets. Attributes are as in an UPDATE, except that IPv6 next hops stand
//! in the short form of MP_REACH_NLRI.
//!
//! Invariants: what [`encode`] writes [`decode`] reads back as an equal value; decoding never panics and never reads
//! beyond a record's length. Not here: files, the clock, which routes are dumped (the speaker).

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tortie_net::{Asn, Prefix, RouterId};

use crate::attr::Attributes;
use crate::packet::{AfiSafi, Nlri, Reader, decode_prefix, decode_rib_entry, encode_nlri, encode_rib_entry};

const TABLE_DUMP_V2: u16 = 13;
const PEER_INDEX_TABLE: u16 = 1;
const HEADER: usize = 12;

/// Flags of a peer's type.
const PEER_IS_IPV6: u8 = 1;
const PEER_HAS_AS4: u8 = 2;

/// A record larger than this is not read: none can need as much.
const MAX_RECORD: usize = 64 * 1024 * 1024;

/// A record of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// PEER_INDEX_TABLE, the first record.
    PeerIndex(PeerIndex),
    /// RIB_IPV4_UNICAST, RIB_IPV6_UNICAST, or their add-path forms.
    Rib(Rib),
}

/// Who dumps, and whose routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIndex {
    /// BGP identifier of the router that dumps.
    pub collector: RouterId,
    /// The table's name: at most 65,535 octets.
    pub view: String,
    /// At most 65,535. Entries name them by their place, from 0.
    pub peers: Vec<Peer>,
}

/// A peer of the router that dumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its BGP identifier; 0.0.0.0 when unknown.
    pub router_id: RouterId,
    /// Its address; 0.0.0.0 stands for the router itself, by custom.
    pub address: IpAddr,
    /// Its AS.
    pub asn: Asn,
}

impl Peer {
    /// Stands for whoever has no peer: the router's own routes.
    pub const LOCAL: Peer = Peer {
        router_id: RouterId(0),
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        asn: Asn(0),
    };
}

/// The paths of one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rib {
    /// Counts the records of a dump, from 0, and wraps.
    pub sequence: u32,
    /// The prefix.
    pub prefix: Prefix,
    /// The entries have path identifiers (RFC 8050).
    pub add_path: bool,
    /// At most 65,535.
    pub entries: Vec<RibEntry>,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RibEntry {
    /// Place of the peer in the index.
    pub peer: u16,
    /// When it came: seconds since 1970.
    pub originated: u32,
    /// Path identifier (RFC 7911); 0 and not written without `add_path`.
    pub path_id: u32,
    /// The attributes. A route of our own that leads nowhere has an unspecified next hop.
    pub attributes: Attributes,
}

/// Why a record cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The list of attributes is longer than 65,535 octets.
    #[error("the attributes of a path to {0} are longer than an entry can hold")]
    Attributes(Prefix),
    /// More than 65,535 of something.
    #[error("a record can have no more than 65535 {0}")]
    TooMany(&'static str),
}

/// Why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Its type or subtype is none that this reads.
    #[error("records of type {kind}, subtype {subtype} are not known here")]
    Unknown {
        /// MRT type.
        kind: u16,
        /// MRT subtype.
        subtype: u16,
    },
    /// Its length field is beyond all reason.
    #[error("a record of {0} octets is too long")]
    TooLong(u32),
    /// Its content is shorter or longer than its fields, or an attribute is malformed.
    #[error("a record of subtype {subtype} is malformed")]
    Malformed {
        /// MRT subtype.
        subtype: u16,
    },
}

/// Appends a record; `time` is in seconds since 1970.
///
/// # Errors
/// When it does not fit into the format; nothing was appended then.
pub fn encode(time: u32, record: &Record, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut body = Vec::with_capacity(64);
    let subtype = match record {
        Record::PeerIndex(index) => {
            encode_index(index, &mut body)?;
            PEER_INDEX_TABLE
        }
        Record::Rib(rib) => {
            encode_rib(rib, &mut body)?;
            subtype(AfiSafi::of(rib.prefix), rib.add_path)
        }
    };
    let length = u32::try_from(body.len()).map_err(|_| EncodeError::TooMany("entries"))?;
    out.extend(time.to_be_bytes());
    out.extend(TABLE_DUMP_V2.to_be_bytes());
    out.extend(subtype.to_be_bytes());
    out.extend(length.to_be_bytes());
    out.append(&mut body);
    Ok(())
}

fn subtype(family: AfiSafi, add_path: bool) -> u16 {
    match (family, add_path) {
        (AfiSafi::Ipv4Unicast, false) => 2,
        (AfiSafi::Ipv6Unicast, false) => 4,
        (AfiSafi::Ipv4Unicast, true) => 8,
        (AfiSafi::Ipv6Unicast, true) => 10,
    }
}

fn of_subtype(subtype: u16) -> Option<(AfiSafi, bool)> {
    match subtype {
        2 => Some((AfiSafi::Ipv4Unicast, false)),
        4 => Some((AfiSafi::Ipv6Unicast, false)),
        8 => Some((AfiSafi::Ipv4Unicast, true)),
        10 => Some((AfiSafi::Ipv6Unicast, true)),
        _ => None,
    }
}

fn count(len: usize, what: &'static str) -> Result<[u8; 2], EncodeError> {
    u16::try_from(len)
        .map(u16::to_be_bytes)
        .map_err(|_| EncodeError::TooMany(what))
}

fn encode_index(index: &PeerIndex, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.extend(index.collector.0.to_be_bytes());
    out.extend(count(index.view.len(), "octets in the view's name")?);
    out.extend(index.view.as_bytes());
    out.extend(count(index.peers.len(), "peers")?);
    for peer in &index.peers {
        let v6 = if peer.address.is_ipv6() { PEER_IS_IPV6 } else { 0 };
        out.push(PEER_HAS_AS4 | v6);
        out.extend(peer.router_id.0.to_be_bytes());
        match peer.address {
            IpAddr::V4(address) => out.extend(address.octets()),
            IpAddr::V6(address) => out.extend(address.octets()),
        }
        out.extend(peer.asn.0.to_be_bytes());
    }
    Ok(())
}

fn encode_rib(rib: &Rib, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.extend(rib.sequence.to_be_bytes());
    encode_nlri(Nlri::from(rib.prefix), false, out);
    out.extend(count(rib.entries.len(), "entries")?);
    for entry in &rib.entries {
        let list = encode_rib_entry(&entry.attributes).ok_or(EncodeError::Attributes(rib.prefix))?;
        out.extend(entry.peer.to_be_bytes());
        out.extend(entry.originated.to_be_bytes());
        if rib.add_path {
            out.extend(entry.path_id.to_be_bytes());
        }
        out.extend(count(list.len(), "octets of attributes")?);
        out.extend(list);
    }
    Ok(())
}

/// Reads the record that `bytes` begin with: its time, the record, and how many octets it had. None when more octets are
/// needed.
///
/// # Errors
/// When it is none that this reads, or is malformed. The octets to skip are then those of its header's length field.
pub fn decode(bytes: &[u8]) -> Result<Option<(u32, Record, usize)>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let header = (reader.u32(), reader.u16(), reader.u16(), reader.u32());
    let (Some(time), Some(kind), Some(subtype), Some(length)) = header else {
        return Ok(None);
    };
    if kind != TABLE_DUMP_V2 || (subtype != PEER_INDEX_TABLE && of_subtype(subtype).is_none()) {
        return Err(DecodeError::Unknown { kind, subtype });
    }
    let octets = usize::try_from(length)
        .ok()
        .filter(|&octets| octets <= MAX_RECORD)
        .ok_or(DecodeError::TooLong(length))?;
    let Some(body) = reader.take(octets) else {
        return Ok(None);
    };
    let mut body = Reader::new(body);
    let record = match of_subtype(subtype) {
        None => decode_index(&mut body).map(Record::PeerIndex),
        Some(kind) => decode_rib(&mut body, kind).map(Record::Rib),
    };
    match record.filter(|_| body.is_empty()) {
        Some(record) => Ok(Some((time, record, HEADER + octets))),
        None => Err(DecodeError::Malformed { subtype }),
    }
}

fn decode_index(body: &mut Reader<'_>) -> Option<PeerIndex> {
    let collector = RouterId(body.u32()?);
    let name = body.u16()?;
    let view = String::from_utf8_lossy(body.take(name.into())?).into_owned();
    let count = body.u16()?;
    let mut peers = Vec::new();
    for _ in 0..count {
        let kind = body.u8()?;
        let router_id = RouterId(body.u32()?);
        let address = if kind & PEER_IS_IPV6 == 0 {
            IpAddr::V4(Ipv4Addr::from_bits(body.u32()?))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(body.u128()?))
        };
        let asn = if kind & PEER_HAS_AS4 == 0 {
            u32::from(body.u16()?)
        } else {
            body.u32()?
        };
        peers.push(Peer {
            router_id,
            address,
            asn: Asn(asn),
        });
    }
    Some(PeerIndex { collector, view, peers })
}

fn decode_rib(body: &mut Reader<'_>, (family, add_path): (AfiSafi, bool)) -> Option<Rib> {
    let sequence = body.u32()?;
    let length = body.u8()?;
    let prefix = decode_prefix(body.take(usize::from(length.div_ceil(8)))?, length, family)?;
    let count = body.u16()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let (peer, originated) = (body.u16()?, body.u32()?);
        let path_id = if add_path { body.u32()? } else { 0 };
        let list = body.u16()?;
        entries.push(RibEntry {
            peer,
            originated,
            path_id,
            attributes: decode_rib_entry(body.take(list.into())?)?,
        });
    }
    Some(Rib {
        sequence,
        prefix,
        add_path,
        entries,
    })
}
