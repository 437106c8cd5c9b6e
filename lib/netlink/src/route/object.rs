//! Nexthop objects (linux/nexthop.h, since Linux 5.3): next hops with an id, which many routes share.
//!
//! A route that names an object costs the kernel less than one with next hops of its own, and replacing the object moves
//! all its routes at once. The price: whoever deletes an object deletes its routes, and so does the kernel when the
//! interface goes down or loses its carrier.
//!
//! Not here: resilient groups, encapsulations, forwarding entries. They are read as [`Body::Other`].

use std::fmt;
use std::sync::Arc;

use super::wire::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, RTNH_F_ONLINK, address_attribute,
    attribute, attributes, family, ip, message, nested, u16_at, u32_at,
};
use super::{IfIndex, NextHop, NextHops, Protocol};

pub(super) const RTM_NEWNEXTHOP: u16 = 104;
pub(super) const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_GROUP_TYPE: u16 = 3;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_FDB: u16 = 11;
/// `struct nexthop_grp`: id, weight, two reserved octets and the weight's high octet.
const MEMBER: usize = 8;

/// The greatest weight of a group's member that every kernel takes.
pub const MEMBER_WEIGHT_MAX: u16 = 255;

/// An object's id in its network namespace, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub u32);

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an object does with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Sends it this way; the weight is 1.
    Single(NextHop),
    /// Sends it by one of other objects, by weights from 1 to 256. Sorted.
    Group(Vec<(ObjectId, u16)>),
    /// Something else. Read, never written.
    Other,
}

/// A nexthop object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its id.
    pub id: ObjectId,
    /// Who made it.
    pub protocol: Protocol,
    /// What it does.
    pub body: Body,
}

/// A change of the kernel's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectChange {
    /// Add it; refused with EEXIST when the id is taken.
    Create(Object),
    /// Put it in the place of the one with its id, under all its routes at once; refused with ENOENT when there is none.
    Replace(Object),
    /// Remove it, and with it, without a word, every route that names it; refused with ENOENT when it is not there.
    Delete(ObjectId),
}

impl ObjectChange {
    /// The object it is about.
    pub fn id(&self) -> ObjectId {
        match self {
            ObjectChange::Create(o) | ObjectChange::Replace(o) => o.id,
            ObjectChange::Delete(id) => *id,
        }
    }
}

// === Encoding ===

pub(super) fn encode(out: &mut Vec<u8>, change: &ObjectChange, sequence: u32, ack: bool) {
    let flags = NLM_F_REQUEST | if ack { NLM_F_ACK } else { 0 };
    match change {
        ObjectChange::Create(object) => {
            let flags = flags | NLM_F_CREATE | NLM_F_EXCL;
            message(out, RTM_NEWNEXTHOP, flags, sequence, |out| encode_object(out, object));
        }
        ObjectChange::Replace(object) => {
            let flags = flags | NLM_F_REPLACE;
            message(out, RTM_NEWNEXTHOP, flags, sequence, |out| encode_object(out, object));
        }
        ObjectChange::Delete(id) => message(out, RTM_DELNEXTHOP, flags, sequence, |out| {
            out.extend([0; 8]);
            attribute(out, NHA_ID, &id.0.to_ne_bytes());
        }),
    }
}

/// A request for every object.
pub(super) fn dump(sequence: u32) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, RTM_GETNEXTHOP, NLM_F_REQUEST | NLM_F_DUMP, sequence, |out| {
        out.extend([0; 8])
    });
    out
}

fn encode_object(out: &mut Vec<u8>, object: &Object) {
    let (family, flags) = match &object.body {
        Body::Single(hop) => {
            let v4 = hop.gateway.is_none_or(|g| g.is_ipv4());
            (family(v4), if hop.onlink { RTNH_F_ONLINK } else { 0 })
        }
        Body::Group(_) | Body::Other => (0, 0),
    };
    out.extend([family, 0, object.protocol.0, 0]);
    out.extend(u32::from(flags).to_ne_bytes());
    attribute(out, NHA_ID, &object.id.0.to_ne_bytes());
    match &object.body {
        Body::Single(hop) => {
            if let Some(index) = hop.interface {
                attribute(out, NHA_OIF, &index.0.to_ne_bytes());
            }
            if let Some(gateway) = hop.gateway {
                address_attribute(out, NHA_GATEWAY, gateway);
            }
        }
        Body::Group(members) => nested(out, NHA_GROUP, |out| {
            for (id, weight) in members {
                out.extend(id.0.to_ne_bytes());
                let [low, high] = weight.saturating_sub(1).to_le_bytes();
                out.extend([low, high, 0, 0]);
            }
        }),
        Body::Other => {}
    }
}

/// An object as the kernel tells of it, without the header of the message: what [`Object::decode`] reads.
#[must_use]
pub fn encoded(object: &Object) -> Vec<u8> {
    let mut out = Vec::new();
    encode_object(&mut out, object);
    out
}

// === Decoding ===

impl Object {
    /// What the kernel says of an object (`struct nhmsg` and attributes), without the header of the message; `None` when it
    /// cannot be read.
    #[must_use]
    pub fn decode(octets: &[u8]) -> Option<Object> {
        decode(octets)
    }
}

pub(super) fn decode(b: &[u8]) -> Option<Object> {
    let [_, _, protocol, _, ..] = *b else { return None };
    let flags = u32_at(b, 4)? as u8;
    let mut id = None;
    let mut hop = NextHop {
        gateway: None,
        interface: None,
        weight: 1,
        onlink: flags & RTNH_F_ONLINK != 0,
    };
    let (mut members, mut other) = (None, false);
    for (kind, value) in attributes(b.get(8..)?) {
        match kind {
            NHA_ID => id = Some(ObjectId(u32_at(value, 0)?)),
            NHA_OIF => hop.interface = Some(IfIndex(u32_at(value, 0)?)),
            NHA_GATEWAY => hop.gateway = Some(ip(value)?),
            NHA_GROUP => members = Some(group(value)),
            NHA_GROUP_TYPE => other |= u16_at(value, 0)? != 0,
            NHA_BLACKHOLE | NHA_ENCAP_TYPE | NHA_FDB => other = true,
            _ => {}
        }
    }
    let body = match members {
        _ if other => Body::Other,
        Some(members) => Body::Group(members),
        None => Body::Single(hop),
    };
    Some(Object {
        id: id?,
        protocol: Protocol(protocol),
        body,
    })
}

fn group(b: &[u8]) -> Vec<(ObjectId, u16)> {
    let member = |m: &[u8]| {
        let weight = u16::from_le_bytes([*m.get(4)?, *m.get(5)?]);
        Some((ObjectId(u32_at(m, 0)?), weight.saturating_add(1)))
    };
    let mut members: Vec<_> = b.chunks_exact(MEMBER).filter_map(member).collect();
    members.sort_unstable();
    members
}

/// The next hops an object stands for, in a route's canonical form; `None` when they cannot be told. `find` knows objects.
pub fn hops_of<'a>(id: ObjectId, find: impl Fn(ObjectId) -> Option<&'a Body>) -> Option<NextHops> {
    let single = |id| match find(id)? {
        Body::Single(hop) => Some(*hop),
        Body::Group(_) | Body::Other => None,
    };
    let Body::Group(members) = find(id)? else {
        return Some(Arc::new([single(id)?]));
    };
    let one = |(id, weight): &(ObjectId, u16)| {
        let weight = if members.len() == 1 { 1 } else { *weight };
        Some(NextHop { weight, ..single(*id)? })
    };
    let mut hops = members.iter().map(one).collect::<Option<Vec<_>>>()?;
    hops.sort_unstable();
    Some(hops.into())
}
