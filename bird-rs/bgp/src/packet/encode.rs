//! UPDATEs for a peer: as many prefixes in each as its messages can hold.

use std::iter::Peekable;

use bytes::Bytes;

use super::attributes::{self, EXTENDED_LENGTH, MP_REACH, MP_UNREACH, OPTIONAL, PARTIAL, TABLE, TRANSITIVE};
use super::header::{self, HEADER, TYPE_UPDATE, frame};
use super::{AfiSafi, Nlri, SessionContext, nlri};
use crate::attr::{Attributes, NextHop, Partial};

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
    let mut octets = Vec::new();
    announce_into(context, family, attributes, prefixes, &mut octets)?;
    Ok(header::frames(octets.into()))
}

/// UPDATEs that withdraw `prefixes`, all of one family. None for no prefixes.
pub fn withdraw(context: &SessionContext, family: AfiSafi, prefixes: impl IntoIterator<Item = Nlri>) -> Vec<Bytes> {
    let mut octets = Vec::new();
    withdraw_into(context, family, prefixes, &mut octets);
    header::frames(octets.into())
}

/// Appends what [`announce`] makes; says how many messages.
///
/// # Errors
/// As [`announce`].
pub fn announce_into(
    context: &SessionContext,
    family: AfiSafi,
    attributes: &Attributes,
    prefixes: impl IntoIterator<Item = Nlri>,
    out: &mut Vec<u8>,
) -> Result<u64, EncodeError> {
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
    let mut prefixes = prefixes.into_iter().peekable();
    let mut run = Run::new(context, family, &mut prefixes);
    // The longest prefix must fit, so that whether a route can be sent does not depend on its length.
    let longest = 1 + usize::from(family.bits() / 8) + if run.add_path { 4 } else { 0 };
    let Some(room) = max.checked_sub(fixed).filter(|&room| room >= longest) else {
        return Err(EncodeError::TooLong {
            octets: fixed - HEADER - LENGTHS,
            max,
        });
    };
    Ok(run.messages(out, |run, out| {
        out.extend([0, 0]);
        let length = reserve_length(out);
        match &mp_prefix {
            None => {
                out.extend_from_slice(&list);
                set_length(out, length);
                run.fill(room, out);
            }
            Some(mp) => {
                mp_attribute(MP_REACH, mp, out, |out| run.fill(room, out));
                out.extend_from_slice(&list);
                set_length(out, length);
            }
        }
    }))
}

/// Appends what [`withdraw`] makes; says how many messages.
pub fn withdraw_into(
    context: &SessionContext,
    family: AfiSafi,
    prefixes: impl IntoIterator<Item = Nlri>,
    out: &mut Vec<u8>,
) -> u64 {
    let mut prefixes = prefixes.into_iter().peekable();
    let mut messages = 0;
    while withdraw_message_into(context, family, &mut prefixes, out) {
        messages += 1;
    }
    messages
}

/// Appends one UPDATE that withdraws as many of these prefixes as it can hold, and takes those; `false` when there are none.
pub fn withdraw_message_into(
    context: &SessionContext,
    family: AfiSafi,
    prefixes: &mut Peekable<impl Iterator<Item = Nlri>>,
    out: &mut Vec<u8>,
) -> bool {
    let room = context.max_send() - (HEADER + LENGTHS + ATTRIBUTE_HEADER + 3);
    Run::new(context, family, prefixes).message(out, &|run, out| match family {
        AfiSafi::Ipv4Unicast => {
            let length = reserve_length(out);
            run.fill(room, out);
            set_length(out, length);
            out.extend([0, 0]);
        }
        AfiSafi::Ipv6Unicast => {
            out.extend([0, 0]);
            let length = reserve_length(out);
            mp_attribute(MP_UNREACH, &family_octets(family), out, |out| run.fill(room, out));
            set_length(out, length);
        }
    })
}

/// Prefixes on their way into messages.
struct Run<'a, I: Iterator<Item = Nlri>> {
    prefixes: &'a mut Peekable<I>,
    add_path: bool,
}

impl<'a, I: Iterator<Item = Nlri>> Run<'a, I> {
    fn new(context: &SessionContext, family: AfiSafi, prefixes: &'a mut Peekable<I>) -> Self {
        Run {
            prefixes,
            add_path: context.add_path_tx.contains(family),
        }
    }

    /// Makes messages until there are no prefixes left; says how many.
    fn messages(&mut self, out: &mut Vec<u8>, body: impl Fn(&mut Self, &mut Vec<u8>)) -> u64 {
        let mut count = 0;
        while self.message(out, &body) {
            count += 1;
        }
        count
    }

    /// Makes one, unless there are no prefixes left.
    fn message(&mut self, out: &mut Vec<u8>, body: &impl Fn(&mut Self, &mut Vec<u8>)) -> bool {
        let some = self.prefixes.peek().is_some();
        if some {
            header::append(TYPE_UPDATE, out, |out| body(self, out));
        }
        some
    }

    /// Appends as many as `room` octets hold, of which there is enough for one.
    fn fill(&mut self, room: usize, out: &mut Vec<u8>) {
        let start = out.len();
        while let Some(prefix) = self.prefixes.peek() {
            let before = out.len();
            nlri::encode(*prefix, self.add_path, out);
            if out.len() - start > room {
                return out.truncate(before);
            }
            self.prefixes.next();
        }
    }
}

/// Room for a length of two octets; says where what it is the length of begins.
fn reserve_length(out: &mut Vec<u8>) -> usize {
    out.extend([0, 0]);
    out.len()
}

/// Sets the length of all from `start` on, in the two octets before.
fn set_length(out: &mut [u8], start: usize) {
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    if let Some(octets) = out.get_mut(start - 2..start) {
        octets.copy_from_slice(&length.to_be_bytes());
    }
}

/// The UPDATE that says that the initial table of the family is complete (RFC 4724 section 2).
pub fn end_of_rib(family: AfiSafi) -> Bytes {
    match family {
        AfiSafi::Ipv4Unicast => update(&[], &[]),
        AfiSafi::Ipv6Unicast => {
            let [high, low, safi] = family_octets(family);
            update(&[], &[OPTIONAL, MP_UNREACH, 3, high, low, safi])
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

fn mp_attribute(code: u8, prefix: &[u8], out: &mut Vec<u8>, nlri: impl FnOnce(&mut Vec<u8>)) {
    out.extend([OPTIONAL | EXTENDED_LENGTH, code]);
    let length = reserve_length(out);
    out.extend_from_slice(prefix);
    nlri(out);
    set_length(out, length);
}

/// Everything but the MP attributes, in the order of the codes; attributes we do not know are marked as partial.
pub(super) fn attribute_list(attributes: &Attributes, context: &SessionContext) -> Vec<u8> {
    let mut list = Vec::with_capacity(128);
    for spec in &TABLE {
        let partial = Partial::of(spec.code).is_some_and(|one| attributes.partial.contains(one));
        let flags = if partial { spec.flags | PARTIAL } else { spec.flags };
        let start = list.len();
        list.extend([flags, spec.code, 0]);
        let value = list.len();
        if !(spec.encode)(attributes, context, &mut list) {
            list.truncate(start);
            continue;
        }
        match (u8::try_from(list.len() - value), list.get_mut(value - 1)) {
            (Ok(length), Some(octet)) => *octet = length,
            _ => {
                let long = list.split_off(value);
                list.truncate(start);
                put_attribute(flags, spec.code, &long, &mut list);
            }
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

fn update(withdrawn: &[u8], attributes: &[u8]) -> Bytes {
    let mut body = Vec::with_capacity(LENGTHS + withdrawn.len() + attributes.len());
    for part in [withdrawn, attributes] {
        let length = reserve_length(&mut body);
        body.extend_from_slice(part);
        set_length(&mut body, length);
    }
    frame(TYPE_UPDATE, &body)
}
