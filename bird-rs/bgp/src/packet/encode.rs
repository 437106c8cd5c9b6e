//! UPDATEs for a peer: as many prefixes in each as its messages can hold.

use bytes::Bytes;

use super::attributes::{self, EXTENDED_LENGTH, MP_REACH, MP_UNREACH, OPTIONAL, PARTIAL, TABLE, TRANSITIVE};
use super::header::{HEADER, TYPE_UPDATE, frame};
use super::{AfiSafi, Nlri, SessionContext, nlri};
use crate::attr::{Attributes, NextHop};

/// The two length fields of an UPDATE.
const LENGTHS: usize = 4;
/// The header of an attribute with a two-octet length.
const ATTRIBUTE_HEADER: usize = 4;

/// Why a route cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The route has no next hop.
    #[error("the route has no next hop")]
    NoNextHop,
    /// The session cannot carry this next hop for this family.
    #[error("the session cannot carry next hop {next_hop} for {family}")]
    NextHopFamily {
        /// The next hop.
        next_hop: NextHop,
        /// The routes' family.
        family: AfiSafi,
    },
    /// With these attributes not even one prefix fits into a message.
    #[error("the attributes take {octets} octets, more than a message of {max} can hold")]
    TooLong {
        /// What the attributes take.
        octets: usize,
        /// The session's limit for a message.
        max: usize,
    },
}

/// UPDATEs that announce `prefixes` (all of one family) with these attributes. None for no prefixes.
///
/// Only attributes that are set are sent: it is the caller who removes LOCAL_PREF for an external peer and who prepends.
///
/// # Errors
/// When the session cannot carry these attributes; nothing was encoded then.
pub fn announce(
    context: &SessionContext,
    family: AfiSafi,
    attributes: &Attributes,
    prefixes: impl IntoIterator<Item = Nlri>,
) -> Result<Vec<Bytes>, EncodeError> {
    let next_hop = attributes.next_hop.ok_or(EncodeError::NoNextHop)?;
    let mp_prefix = match (family, next_hop) {
        (AfiSafi::Ipv4Unicast, NextHop::V4(_)) => None,
        (AfiSafi::Ipv6Unicast, NextHop::V6 { global, link_local }) => Some(mp_prefix(family, global, link_local)),
        (AfiSafi::Ipv4Unicast, NextHop::V6 { global, link_local }) if context.ext_next_hop => {
            Some(mp_prefix(family, global, link_local))
        }
        (AfiSafi::Ipv4Unicast, NextHop::V6 { .. }) | (AfiSafi::Ipv6Unicast, NextHop::V4(_)) => {
            return Err(EncodeError::NextHopFamily { next_hop, family });
        }
    };
    let list = attribute_list(attributes, context);
    let max = context.max_send();
    let fixed = HEADER + LENGTHS + list.len() + mp_prefix.as_ref().map_or(0, |mp| ATTRIBUTE_HEADER + mp.len());
    let add_path = context.add_path_tx.contains(family);
    // The longest prefix must fit, so that whether a route can be sent does not depend on its length.
    let longest = 1 + usize::from(family.bits() / 8) + if add_path { 4 } else { 0 };
    let Some(room) = max.checked_sub(fixed).filter(|&room| room >= longest) else {
        return Err(EncodeError::TooLong {
            octets: fixed - HEADER - LENGTHS,
            max,
        });
    };
    let bodies = pack(prefixes, add_path, room);
    Ok(bodies
        .map(|nlri| match &mp_prefix {
            None => update(&[], &[&list], &nlri),
            Some(mp) => update(&[], &[&mp_attribute(MP_REACH, mp, &nlri), &list], &[]),
        })
        .collect())
}

/// UPDATEs that withdraw `prefixes`, all of one family. None for no prefixes.
pub fn withdraw(context: &SessionContext, family: AfiSafi, prefixes: impl IntoIterator<Item = Nlri>) -> Vec<Bytes> {
    let add_path = context.add_path_tx.contains(family);
    let fixed = HEADER + LENGTHS + ATTRIBUTE_HEADER + 3;
    pack(prefixes, add_path, context.max_send() - fixed)
        .map(|nlri| match family {
            AfiSafi::Ipv4Unicast => update(&nlri, &[], &[]),
            AfiSafi::Ipv6Unicast => update(&[], &[&mp_attribute(MP_UNREACH, &family_octets(family), &nlri)], &[]),
        })
        .collect()
}

/// The UPDATE that says that the initial table of the family is complete (RFC 4724 section 2).
pub fn end_of_rib(family: AfiSafi) -> Bytes {
    match family {
        AfiSafi::Ipv4Unicast => update(&[], &[], &[]),
        AfiSafi::Ipv6Unicast => {
            let [high, low, safi] = family_octets(family);
            update(&[], &[&[OPTIONAL, MP_UNREACH, 3, high, low, safi]], &[])
        }
    }
}

fn family_octets(family: AfiSafi) -> [u8; 3] {
    let (afi, safi) = family.codes();
    let [high, low] = afi.to_be_bytes();
    [high, low, safi]
}

/// What stands before the NLRI in MP_REACH_NLRI.
fn mp_prefix(family: AfiSafi, global: std::net::Ipv6Addr, link_local: Option<std::net::Ipv6Addr>) -> Vec<u8> {
    let mut out = family_octets(family).to_vec();
    out.push(if link_local.is_some() { 32 } else { 16 });
    out.extend(global.octets());
    out.extend(link_local.iter().flat_map(std::net::Ipv6Addr::octets));
    out.push(0);
    out
}

fn mp_attribute(code: u8, prefix: &[u8], nlri: &[u8]) -> Vec<u8> {
    let length = u16::try_from(prefix.len() + nlri.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    let mut out = vec![OPTIONAL | EXTENDED_LENGTH, code, high, low];
    out.extend_from_slice(prefix);
    out.extend_from_slice(nlri);
    out
}

/// Everything but the MP attributes, in the order of the codes; attributes we do not know are marked as partial.
pub(super) fn attribute_list(attributes: &Attributes, context: &SessionContext) -> Vec<u8> {
    let mut list = Vec::with_capacity(64);
    let mut value = Vec::new();
    for spec in &TABLE {
        value.clear();
        if (spec.encode)(attributes, context, &mut value) {
            put_attribute(spec.flags, spec.code, &value, &mut list);
        }
    }
    for unknown in &attributes.unknown {
        put_attribute(OPTIONAL | TRANSITIVE | PARTIAL, unknown.code, &unknown.value, &mut list);
    }
    list
}

/// A value of more than 65,535 octets gets a wrong length here; the list is then too long for any message and is not sent.
pub(super) fn put_attribute(flags: u8, code: u8, value: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(value.len()) {
        Ok(length) => out.extend([flags, code, length]),
        Err(_) => {
            let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
            out.extend([flags | attributes::EXTENDED_LENGTH, code]);
            out.extend(length.to_be_bytes());
        }
    }
    out.extend_from_slice(value);
}

/// Cuts prefixes into runs of at most `room` octets.
fn pack(prefixes: impl IntoIterator<Item = Nlri>, add_path: bool, room: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut prefixes = prefixes.into_iter();
    let mut pending: Vec<u8> = Vec::new();
    std::iter::from_fn(move || {
        let mut run = std::mem::take(&mut pending);
        for prefix in prefixes.by_ref() {
            let start = run.len();
            nlri::encode(prefix, add_path, &mut run);
            if run.len() > room {
                pending = run.split_off(start);
                break;
            }
        }
        (!run.is_empty()).then_some(run)
    })
}

fn update(withdrawn: &[u8], attributes: &[&[u8]], nlri: &[u8]) -> Bytes {
    let length = |octets: usize| u16::try_from(octets).unwrap_or(u16::MAX).to_be_bytes();
    let attribute_octets: usize = attributes.iter().map(|list| list.len()).sum();
    let mut body = Vec::with_capacity(LENGTHS + withdrawn.len() + attribute_octets + nlri.len());
    body.extend(length(withdrawn.len()));
    body.extend_from_slice(withdrawn);
    body.extend(length(attribute_octets));
    attributes.iter().for_each(|list| body.extend_from_slice(list));
    body.extend_from_slice(nlri);
    frame(TYPE_UPDATE, &body)
}
