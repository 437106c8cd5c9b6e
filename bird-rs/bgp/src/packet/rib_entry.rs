//! Path attributes outside of UPDATEs: as an entry of a RIB dump has them (RFC 6396 section 4.3.4).
//!
//! AS numbers have four octets, and MP_REACH_NLRI is cut down to the next hop's length and the next hop.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::attributes::{self, Decoded, MP_REACH, NEXT_HOP, OPTIONAL, PARTIAL, Spec, TRANSITIVE};
use super::encode::{attribute_list, put_attribute};
use super::update::parse_attribute;
use super::wire::Reader;
use super::{AfiSafi, FamilySet, SessionContext};
use crate::attr::{Attributes, NextHop, Partial, UnknownAttribute};

/// What is true of all dumps: nothing depends on the session that a route came from.
fn context() -> SessionContext {
    SessionContext {
        ebgp: false,
        four_octet_as: true,
        families: FamilySet::from_iter(AfiSafi::ALL),
        ..SessionContext::default()
    }
}

/// The attribute list. None when it is longer than a dump's length field can say.
pub(crate) fn encode_rib_entry(attributes: &Attributes) -> Option<Vec<u8>> {
    let mut list = attribute_list(attributes, &context());
    if let Some(NextHop::V6 { global, link_local }) = attributes.next_hop {
        let mut value = vec![if link_local.is_some() { 32 } else { 16 }];
        value.extend(global.octets());
        value.extend(link_local.iter().flat_map(Ipv6Addr::octets));
        put_attribute(OPTIONAL, MP_REACH, &value, &mut list);
    }
    (list.len() <= usize::from(u16::MAX)).then_some(list)
}

/// Reads an attribute list. None when an attribute is cut short, repeated or malformed: a dump is not a peer whose
/// mistakes are to be put up with.
///
/// Of MP_REACH_NLRI both forms are read: many writers put the whole attribute of the UPDATE there.
pub(crate) fn decode_rib_entry(bytes: &[u8]) -> Option<Attributes> {
    let context = context();
    let mut list = Reader::new(bytes);
    let mut decoded = Decoded::default();
    let mut unknown: Vec<UnknownAttribute> = Vec::new();
    let mut seen = [false; 256];
    let mut v6 = None;
    while !list.is_empty() {
        let attribute = parse_attribute(&mut list)?;
        if std::mem::replace(seen.get_mut(usize::from(attribute.code))?, true) {
            return None;
        }
        match (attribute.code, Spec::of(attribute.code)) {
            (MP_REACH, _) => v6 = Some(mp_next_hop(attribute.value)?),
            // Routes of the dumping router itself may have none: 0.0.0.0, which no peer could announce.
            (NEXT_HOP, _) => {
                let octets: [u8; 4] = attribute.value.try_into().ok()?;
                decoded.attributes.next_hop = Some(NextHop::V4(Ipv4Addr::from(octets)));
            }
            (code, Some(spec)) => {
                (spec.decode)(attribute.value, &context, &mut decoded).ok()?;
                let partial = Partial::of(code).filter(|_| attribute.flags & PARTIAL != 0);
                partial
                    .into_iter()
                    .for_each(|one| decoded.attributes.partial.insert(one));
            }
            (code, None) if attribute.flags & TRANSITIVE != 0 => unknown.push(UnknownAttribute {
                code,
                partial: attribute.flags & PARTIAL != 0,
                value: attribute.value.into(),
            }),
            (_, None) => {}
        }
    }
    attributes::merge_as4(&mut decoded);
    unknown.sort_unstable();
    let mut attributes = decoded.attributes;
    attributes.unknown = unknown.into();
    attributes.next_hop = v6.or(attributes.next_hop);
    Some(attributes)
}

/// The abbreviated form begins with the next hop's length, the whole one with an address family, whose first octet is 0.
fn mp_next_hop(value: &[u8]) -> Option<NextHop> {
    let mut reader = Reader::new(value);
    if reader.peek()? == 0 {
        reader.take(3)?;
    }
    let length = reader.u8()?;
    let mut address = || reader.u128().map(Ipv6Addr::from_bits);
    let global = address()?;
    let link_local = match length {
        16 => None,
        32 => Some(address()?),
        _ => return None,
    };
    Some(NextHop::V6 { global, link_local })
}
