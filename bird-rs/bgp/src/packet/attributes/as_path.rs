//! AS_PATH and AS4_PATH (RFC 4271 section 5.1.2, RFC 6793, RFC 7607).

use tortie_net::Asn;

use super::super::wire::Reader;
use super::super::{FaultReason, SessionContext};
use super::Decoded;
use crate::attr::{AsPath, AsPathBuilder, Attributes, SegmentKind};

fn path(value: &[u8], four_octets: bool) -> Result<AsPath, FaultReason> {
    let mut reader = Reader::new(value);
    let mut path = AsPathBuilder::default();
    while !reader.is_empty() {
        let (kind, count) = (reader.u8(), reader.u8());
        let kind = kind.and_then(SegmentKind::from_code).ok_or(FaultReason::Value)?;
        let count = usize::from(count.filter(|&count| count > 0).ok_or(FaultReason::Length)?);
        let octets = reader
            .take(if four_octets { count * 4 } else { count * 2 })
            .ok_or(FaultReason::Length)?;
        let mut numbers = Reader::new(octets);
        let asns: Vec<Asn> = std::iter::from_fn(|| {
            let asn = if four_octets {
                numbers.u32()
            } else {
                numbers.u16().map(u32::from)
            };
            asn.map(Asn)
        })
        .collect();
        if asns.contains(&Asn(0)) {
            return Err(FaultReason::Value);
        }
        path.push(kind, asns);
    }
    Ok(path.build())
}

pub(super) fn decode_as_path(value: &[u8], context: &SessionContext, out: &mut Decoded) -> Result<(), FaultReason> {
    let path = path(value, context.four_octet_as)?;
    out.attributes.as_path = path;
    Ok(())
}

pub(super) fn encode_as_path(attributes: &Attributes, context: &SessionContext, out: &mut Vec<u8>) -> bool {
    put_path(&attributes.as_path, context.four_octet_as, out);
    true
}

/// Segments of more than 255 numbers are split.
fn put_path(path: &AsPath, four_octets: bool, out: &mut Vec<u8>) {
    for segment in path.segments() {
        for asns in segment.asns.chunks(255) {
            out.extend([segment.kind.code(), u8::try_from(asns.len()).unwrap_or(u8::MAX)]);
            for asn in asns {
                if four_octets {
                    out.extend(asn.0.to_be_bytes());
                } else {
                    out.extend(asn.to_two_octets().to_be_bytes());
                }
            }
        }
    }
}

/// Confederation segments have no business here and are dropped (RFC 6793 section 3).
pub(super) fn decode_as4_path(value: &[u8], context: &SessionContext, out: &mut Decoded) -> Result<(), FaultReason> {
    if context.four_octet_as {
        return Err(FaultReason::WrongSession);
    }
    out.as4_path = Some(without_confederations(&path(value, true)?));
    Ok(())
}

fn without_confederations(path: &AsPath) -> AsPath {
    let mut builder = AsPathBuilder::default();
    for segment in path.segments().filter(|segment| !segment.kind.is_confed()) {
        builder.push(segment.kind, segment.asns.iter().copied());
    }
    builder.build()
}

pub(super) fn encode_as4_path(attributes: &Attributes, context: &SessionContext, out: &mut Vec<u8>) -> bool {
    if context.four_octet_as || attributes.as_path.asns().all(|asn| u16::try_from(asn.0).is_ok()) {
        return false;
    }
    put_path(&without_confederations(&attributes.as_path), true, out);
    true
}

/// Makes of AS_PATH and AS4_PATH the path that a four-octet speaker would have sent (RFC 6793 section 4.2.3).
pub(in crate::packet) fn merge_as4(decoded: &mut Decoded) {
    let attributes = &mut decoded.attributes;
    if let (Some(two_octet), Some(four_octet)) = (attributes.aggregator, decoded.as4_aggregator) {
        if two_octet.asn != Asn::TRANS {
            // Somebody who does not know four octets aggregated: what the others added is not about this route.
            return;
        }
        attributes.aggregator = Some(four_octet);
    }
    let Some(as4_path) = &decoded.as4_path else { return };
    let Some(mut missing) = attributes.as_path.len().checked_sub(as4_path.len()) else {
        return;
    };
    let mut merged = AsPathBuilder::default();
    for segment in attributes.as_path.segments() {
        if segment.kind.is_confed() {
            merged.push(segment.kind, segment.asns.iter().copied());
            continue;
        }
        if missing == 0 {
            break;
        }
        if segment.kind == SegmentKind::Set {
            merged.push(segment.kind, segment.asns.iter().copied());
            missing -= 1;
        } else {
            let count = missing.min(segment.asns.len());
            merged.push(segment.kind, segment.asns.iter().copied().take(count));
            missing -= count;
        }
    }
    for segment in as4_path.segments() {
        merged.push(segment.kind, segment.asns.iter().copied());
    }
    attributes.as_path = merged.build();
}
