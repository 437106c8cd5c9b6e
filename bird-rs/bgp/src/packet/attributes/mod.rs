//! The attributes we know, one table row each: code, flags, what a malformed one costs, decoder and encoder.
//!
//! MP_REACH_NLRI and MP_UNREACH_NLRI are no rows: they hold routes, not a route's properties (see `update`).

mod as_path;

use std::net::Ipv4Addr;

use tortie_net::{Asn, Community, ExtCommunity, LargeCommunity, RouterId};

use super::wire::Reader;
use super::{FaultReason, SessionContext, Verdict};
use crate::attr::{Aggregator, AsPath, Attributes, NextHop, Origin, Set};

pub(super) use as_path::merge_as4;
use as_path::{decode_as_path, decode_as4_path, encode_as_path, encode_as4_path};

pub(super) const OPTIONAL: u8 = 0x80;
pub(super) const TRANSITIVE: u8 = 0x40;
pub(super) const PARTIAL: u8 = 0x20;
pub(super) const EXTENDED_LENGTH: u8 = 0x10;

pub(super) const ORIGIN: u8 = 1;
pub(super) const AS_PATH: u8 = 2;
pub(super) const NEXT_HOP: u8 = 3;
pub(super) const LOCAL_PREF: u8 = 5;
pub(super) const MP_REACH: u8 = 14;
pub(super) const MP_UNREACH: u8 = 15;

const WELL_KNOWN: u8 = TRANSITIVE;
const NON_TRANSITIVE: u8 = OPTIONAL;
const OPTIONAL_TRANSITIVE: u8 = OPTIONAL | TRANSITIVE;

/// What the rows' decoders fill in.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) attributes: Attributes,
    pub(super) as4_path: Option<AsPath>,
    pub(super) as4_aggregator: Option<Aggregator>,
}

type Decode = fn(&[u8], &SessionContext, &mut Decoded) -> Result<(), FaultReason>;
/// Appends the value; `false` when the route has no such attribute.
type Encode = fn(&Attributes, &SessionContext, &mut Vec<u8>) -> bool;

/// What there is to know about an attribute.
pub(super) struct Spec {
    pub(super) code: u8,
    /// The Optional and Transitive bits it must have.
    pub(super) flags: u8,
    /// Discarded when it comes from another AS.
    pub(super) internal: bool,
    /// What a malformed one costs (RFC 7606 section 7).
    pub(super) malformed: Verdict,
    pub(super) decode: Decode,
    pub(super) encode: Encode,
}

impl Spec {
    pub(super) fn of(code: u8) -> Option<&'static Spec> {
        TABLE.iter().find(|spec| spec.code == code)
    }
}

const fn row(code: u8, flags: u8, malformed: Verdict, decode: Decode, encode: Encode) -> Spec {
    Spec {
        code,
        flags,
        internal: false,
        malformed,
        decode,
        encode,
    }
}

const fn internal(spec: Spec) -> Spec {
    Spec { internal: true, ..spec }
}

/// Sorted by code, the order in which they are sent.
pub(super) static TABLE: [Spec; 15] = [
    row(
        ORIGIN,
        WELL_KNOWN,
        Verdict::TreatAsWithdraw,
        decode_origin,
        encode_origin,
    ),
    row(
        AS_PATH,
        WELL_KNOWN,
        Verdict::TreatAsWithdraw,
        decode_as_path,
        encode_as_path,
    ),
    row(
        NEXT_HOP,
        WELL_KNOWN,
        Verdict::TreatAsWithdraw,
        decode_next_hop,
        encode_next_hop,
    ),
    row(4, NON_TRANSITIVE, Verdict::TreatAsWithdraw, decode_med, encode_med),
    internal(row(
        LOCAL_PREF,
        WELL_KNOWN,
        Verdict::TreatAsWithdraw,
        decode_local_pref,
        encode_local_pref,
    )),
    row(
        6,
        WELL_KNOWN,
        Verdict::DiscardAttribute,
        decode_atomic_aggregate,
        encode_atomic_aggregate,
    ),
    row(
        7,
        OPTIONAL_TRANSITIVE,
        Verdict::DiscardAttribute,
        decode_aggregator,
        encode_aggregator,
    ),
    row(
        8,
        OPTIONAL_TRANSITIVE,
        Verdict::TreatAsWithdraw,
        decode_communities,
        encode_communities,
    ),
    internal(row(
        9,
        NON_TRANSITIVE,
        Verdict::TreatAsWithdraw,
        decode_originator,
        encode_originator,
    )),
    internal(row(
        10,
        NON_TRANSITIVE,
        Verdict::TreatAsWithdraw,
        decode_cluster_list,
        encode_cluster_list,
    )),
    row(
        16,
        OPTIONAL_TRANSITIVE,
        Verdict::TreatAsWithdraw,
        decode_ext_communities,
        encode_ext_communities,
    ),
    row(
        17,
        OPTIONAL_TRANSITIVE,
        Verdict::DiscardAttribute,
        decode_as4_path,
        encode_as4_path,
    ),
    row(
        18,
        OPTIONAL_TRANSITIVE,
        Verdict::DiscardAttribute,
        decode_as4_aggregator,
        encode_as4_aggregator,
    ),
    row(
        32,
        OPTIONAL_TRANSITIVE,
        Verdict::TreatAsWithdraw,
        decode_large_communities,
        encode_large_communities,
    ),
    row(
        35,
        OPTIONAL_TRANSITIVE,
        Verdict::TreatAsWithdraw,
        decode_only_to_customer,
        encode_only_to_customer,
    ),
];

// === fixed-size values ===

fn exactly_u32(value: &[u8]) -> Result<u32, FaultReason> {
    value
        .try_into()
        .map(u32::from_be_bytes)
        .map_err(|_| FaultReason::Length)
}

fn put_u32(value: Option<u32>, out: &mut Vec<u8>) -> bool {
    out.extend(value.into_iter().flat_map(u32::to_be_bytes));
    value.is_some()
}

fn decode_origin(value: &[u8], _: &SessionContext, out: &mut Decoded) -> Result<(), FaultReason> {
    let [code] = value else { return Err(FaultReason::Length) };
    out.attributes.origin = Origin::from_code(*code).ok_or(FaultReason::Value)?;
    Ok(())
}

fn encode_origin(attributes: &Attributes, _: &SessionContext, out: &mut Vec<u8>) -> bool {
    out.push(attributes.origin.code());
    true
}

/// The address must be one that a packet can be sent to: not 0/8, loopback, multicast or class E.
fn decode_next_hop(value: &[u8], _: &SessionContext, out: &mut Decoded) -> Result<(), FaultReason> {
    let addr = Ipv4Addr::from_bits(exactly_u32(value)?);
    if !is_router_v4(addr) {
        return Err(FaultReason::Value);
    }
    out.attributes.next_hop = Some(NextHop::V4(addr));
    Ok(())
}

/// Can an IPv4 router have this address?
pub(super) fn is_router_v4(addr: Ipv4Addr) -> bool {
    !matches!(addr.octets(), [0 | 127 | 224..=255, ..])
}

/// Only the classic form: a route of another family has its next hop in MP_REACH_NLRI.
fn encode_next_hop(attributes: &Attributes, _: &SessionContext, out: &mut Vec<u8>) -> bool {
    match attributes.next_hop {
        Some(NextHop::V4(addr)) => {
            out.extend(addr.octets());
            true
        }
        Some(NextHop::V6 { .. }) | None => false,
    }
}

fn decode_med(value: &[u8], _: &SessionContext, out: &mut Decoded) -> Result<(), FaultReason> {
    out.attributes.med = Some(exactly_u32(value)?);
    Ok(())
}

fn encode_med(attributes: &Attributes, _: &SessionContext, out: &mut Vec<u8>) -> bool {
    put_u32(attributes.med, out)
}

fn decode_local_pref(value: &[u8], _: &SessionContext, out: &mut Decoded) -> Result<(), FaultReason> {
    out.attributes.local_pref = Some(exactly_u32(value)?);
    Ok(())
}

fn encode_local_pref(attributes: &Attributes, _: &SessionContext, out: &mut Vec<u8>) -> bool {
    put_u32(attributes.local_pref, out)
}

fn decode_atomic_aggregate(value: &[u8], _: &SessionContext, out: &mut Decoded) -> Result<(), FaultReason> {
    if !value.is_empty() {
        return Err(FaultReason::Length);
    }
    out.attributes.atomic_aggregate = true;
    Ok(())
}

fn encode_atomic_aggregate(attributes: &Attributes, _: &SessionContext, _: &mut Vec<u8>) -> bool {
    attributes.atomic_aggregate
}

fn decode_originator(value: &[u8], _: &SessionContext, out: &mut Decoded) -> Result<(), FaultReason> {
    out.attributes.originator_id = Some(RouterId(exactly_u32(value)?));
    Ok(())
}

fn encode_originator(attributes: &Attributes, _: &SessionContext, out: &mut Vec<u8>) -> bool {
    put_u32(attributes.originator_id.map(|id| id.0), out)
}

fn decode_only_to_customer(value: &[u8], _: &SessionContext, out: &mut Decoded) -> Result<(), FaultReason> {
    out.attributes.only_to_customer = Some(Asn(exactly_u32(value)?));
    Ok(())
}

fn encode_only_to_customer(attributes: &Attributes, _: &SessionContext, out: &mut Vec<u8>) -> bool {
    put_u32(attributes.only_to_customer.map(|asn| asn.0), out)
}

// === AGGREGATOR ===

fn aggregator(value: &[u8], four_octets: bool) -> Result<Aggregator, FaultReason> {
    let mut reader = Reader::new(value);
    let asn = if four_octets {
        reader.u32()
    } else {
        reader.u16().map(u32::from)
    };
    let (Some(asn), Some(addr), true) = (asn, reader.u32(), reader.is_empty()) else {
        return Err(FaultReason::Length);
    };
    if asn == 0 {
        return Err(FaultReason::Value);
    }
    Ok(Aggregator {
        asn: Asn(asn),
        addr: Ipv4Addr::from_bits(addr),
    })
}

fn decode_aggregator(value: &[u8], context: &SessionContext, out: &mut Decoded) -> Result<(), FaultReason> {
    out.attributes.aggregator = Some(aggregator(value, context.four_octet_as)?);
    Ok(())
}

fn encode_aggregator(attributes: &Attributes, context: &SessionContext, out: &mut Vec<u8>) -> bool {
    let Some(Aggregator { asn, addr }) = attributes.aggregator else {
        return false;
    };
    if context.four_octet_as {
        out.extend(asn.0.to_be_bytes());
    } else {
        out.extend(asn.to_two_octets().to_be_bytes());
    }
    out.extend(addr.octets());
    true
}

fn decode_as4_aggregator(value: &[u8], context: &SessionContext, out: &mut Decoded) -> Result<(), FaultReason> {
    if context.four_octet_as {
        return Err(FaultReason::WrongSession);
    }
    out.as4_aggregator = Some(aggregator(value, true)?);
    Ok(())
}

fn encode_as4_aggregator(attributes: &Attributes, context: &SessionContext, out: &mut Vec<u8>) -> bool {
    let Some(Aggregator { asn, addr }) = attributes.aggregator else {
        return false;
    };
    if context.four_octet_as || u16::try_from(asn.0).is_ok() {
        return false;
    }
    out.extend(asn.0.to_be_bytes());
    out.extend(addr.octets());
    true
}

// === lists ===

/// Reads a list of `size` octets each, not empty.
fn list<T>(value: &[u8], size: usize, item: impl Fn(&mut Reader<'_>) -> Option<T>) -> Result<Vec<T>, FaultReason> {
    if value.is_empty() || !value.len().is_multiple_of(size) {
        return Err(FaultReason::Length);
    }
    let mut reader = Reader::new(value);
    Ok(std::iter::from_fn(|| item(&mut reader)).collect())
}

fn decode_communities(value: &[u8], _: &SessionContext, out: &mut Decoded) -> Result<(), FaultReason> {
    let items = list(value, 4, |reader| reader.u32().map(Community))?;
    out.attributes.communities = Set::from_iter(items);
    Ok(())
}

fn encode_communities(attributes: &Attributes, _: &SessionContext, out: &mut Vec<u8>) -> bool {
    out.extend(
        attributes
            .communities
            .iter()
            .flat_map(|community| community.0.to_be_bytes()),
    );
    !attributes.communities.is_empty()
}

fn decode_ext_communities(value: &[u8], _: &SessionContext, out: &mut Decoded) -> Result<(), FaultReason> {
    let items = list(value, 8, |reader| reader.u64().map(ExtCommunity))?;
    out.attributes.ext_communities = Set::from_iter(items);
    Ok(())
}

fn encode_ext_communities(attributes: &Attributes, _: &SessionContext, out: &mut Vec<u8>) -> bool {
    out.extend(
        attributes
            .ext_communities
            .iter()
            .flat_map(|community| community.0.to_be_bytes()),
    );
    !attributes.ext_communities.is_empty()
}

fn decode_large_communities(value: &[u8], _: &SessionContext, out: &mut Decoded) -> Result<(), FaultReason> {
    let items = list(value, 12, |reader| {
        Some(LargeCommunity(reader.u32()?, reader.u32()?, reader.u32()?))
    })?;
    out.attributes.large_communities = Set::from_iter(items);
    Ok(())
}

fn encode_large_communities(attributes: &Attributes, _: &SessionContext, out: &mut Vec<u8>) -> bool {
    for &LargeCommunity(global, first, second) in &attributes.large_communities {
        out.extend([global, first, second].into_iter().flat_map(u32::to_be_bytes));
    }
    !attributes.large_communities.is_empty()
}

fn decode_cluster_list(value: &[u8], _: &SessionContext, out: &mut Decoded) -> Result<(), FaultReason> {
    out.attributes.cluster_list = list(value, 4, |reader| reader.u32().map(RouterId))?.into();
    Ok(())
}

fn encode_cluster_list(attributes: &Attributes, _: &SessionContext, out: &mut Vec<u8>) -> bool {
    out.extend(attributes.cluster_list.iter().flat_map(|id| id.0.to_be_bytes()));
    !attributes.cluster_list.is_empty()
}
