//! rtnetlink messages as octets (RFC 3549; linux/rtnetlink.h), for routes, links and addresses.
//!
//! Decoding takes any octets: what is cut short or makes no sense is skipped, never a panic. Only what this crate needs
//! of a message is read.

use std::net::IpAddr;
use std::sync::Arc;

use tortie_net::Prefix;

use super::object::{self, Object, ObjectId};
use super::{Change, Filter, IfIndex, Interface, InterfaceAddress, Kind, NextHop, Protocol, Route, Scope};

pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLM_F_CAPPED: u16 = 0x100;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_NH_ID: u16 = 30;
const IFLA_IFNAME: u16 = 3;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// The flags in an attribute's type field: nested, network byte order.
const NLA_TYPE_MASK: u16 = 0x3fff;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const RTM_F_CLONED: u32 = 0x200;
pub(super) const RTNH_F_ONLINK: u8 = 4;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;

const HEADER: usize = 16;

// === Encoding ===

/// Appends the message of a change. The sequence number is how its refusal is recognised.
pub(crate) fn encode_change(out: &mut Vec<u8>, change: &Change, sequence: u32, ack: bool) {
    let (kind, flags, route) = match change {
        Change::Create(r) => (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, r),
        Change::Replace(r) => (RTM_NEWROUTE, NLM_F_REPLACE, r),
        Change::Delete(r) => (RTM_DELROUTE, 0, r),
        Change::Object(change) => return object::encode(out, change, sequence, ack),
    };
    let flags = flags | NLM_F_REQUEST | if ack { NLM_F_ACK } else { 0 };
    message(out, kind, flags, sequence, |out| encode_route(out, route));
}

/// A request for every route that passes the filter, of one family.
pub(crate) fn route_dump(v4: bool, filter: Filter, sequence: u32) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, sequence, |out| {
        let protocol = filter.protocol.map_or(0, |p| p.0);
        out.extend([
            family(v4),
            0,
            0,
            0,
            short_table(filter.table),
            protocol,
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
        attribute(out, RTA_TABLE, &filter.table.to_ne_bytes());
    });
    out
}

/// A request for every interface.
pub(crate) fn link_dump(sequence: u32) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, sequence, |out| {
        out.extend([0; 16])
    });
    out
}

/// A request for every address.
pub(crate) fn address_dump(sequence: u32) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, sequence, |out| {
        out.extend([0; 8])
    });
    out
}

pub(super) fn family(v4: bool) -> u8 {
    if v4 { AF_INET } else { AF_INET6 }
}

/// The table in the header's one octet; RT_TABLE_COMPAT when it does not fit there.
fn short_table(table: u32) -> u8 {
    u8::try_from(table).unwrap_or(252)
}

pub(crate) fn message(out: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = u32::try_from(out.len() - start).expect("invariant: a message is far below 4 GiB");
    patch(out, start, len.to_ne_bytes());
}

pub(crate) fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    nested(out, kind, |out| out.extend_from_slice(value));
}

pub(crate) fn nested(out: &mut Vec<u8>, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0, 0]);
    out.extend(kind.to_ne_bytes());
    body(out);
    let len = u16::try_from(out.len() - start).expect("invariant: the caller bounds an attribute's size");
    patch(out, start, len.to_ne_bytes());
    pad(out);
}

/// Writes a length that was left open.
fn patch<const N: usize>(out: &mut [u8], at: usize, octets: [u8; N]) {
    if let Some(open) = out.get_mut(at..at + N) {
        open.copy_from_slice(&octets);
    }
}

fn pad(out: &mut Vec<u8>) {
    while !out.len().is_multiple_of(4) {
        out.push(0);
    }
}

/// An attribute that is an address.
pub(super) fn address_attribute(out: &mut Vec<u8>, kind: u16, addr: IpAddr) {
    nested(out, kind, |out| octets(out, addr));
}

fn octets(out: &mut Vec<u8>, addr: IpAddr) {
    match addr {
        IpAddr::V4(a) => out.extend_from_slice(&a.octets()),
        IpAddr::V6(a) => out.extend_from_slice(&a.octets()),
    }
}

fn encode_route(out: &mut Vec<u8>, r: &Route) {
    // A route that names an object may have no next hops of its own, not even its flags.
    let own: &[NextHop] = if r.object.is_some() { &[] } else { &r.next_hops };
    let onlink = matches!(own, [hop] if hop.onlink);
    out.extend([family(r.prefix.is_v4()), r.prefix.len(), 0, r.tos]);
    out.extend([short_table(r.table), r.protocol.0, r.scope.0, r.kind.code()]);
    out.extend(u32::from(if onlink { RTNH_F_ONLINK } else { 0 }).to_ne_bytes());
    if r.prefix.len() > 0 {
        address_attribute(out, RTA_DST, r.prefix.addr());
    }
    attribute(out, RTA_TABLE, &r.table.to_ne_bytes());
    if r.metric != 0 {
        attribute(out, RTA_PRIORITY, &r.metric.to_ne_bytes());
    }
    if let Some(source) = r.source {
        address_attribute(out, RTA_PREFSRC, source);
    }
    if let Some(id) = r.object {
        attribute(out, RTA_NH_ID, &id.0.to_ne_bytes());
    }
    match own {
        [] => {}
        [hop] => {
            gateway(out, r, hop);
            if let Some(index) = hop.interface {
                attribute(out, RTA_OIF, &index.0.to_ne_bytes());
            }
        }
        hops => nested(out, RTA_MULTIPATH, |out| {
            hops.iter().for_each(|hop| multipath_hop(out, r, hop))
        }),
    }
}

fn gateway(out: &mut Vec<u8>, r: &Route, hop: &NextHop) {
    match hop.gateway {
        None => {}
        Some(g) if g.is_ipv4() == r.prefix.is_v4() => address_attribute(out, RTA_GATEWAY, g),
        Some(g) => nested(out, RTA_VIA, |out| {
            out.extend(u16::from(family(g.is_ipv4())).to_ne_bytes());
            octets(out, g);
        }),
    }
}

/// `struct rtnexthop` and its attributes. Weights count from 0 on the wire.
fn multipath_hop(out: &mut Vec<u8>, r: &Route, hop: &NextHop) {
    let start = out.len();
    let hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    out.extend([0, 0, if hop.onlink { RTNH_F_ONLINK } else { 0 }, hops]);
    out.extend(hop.interface.map_or(0, |i| i.0).to_ne_bytes());
    gateway(out, r, hop);
    let len = u16::try_from(out.len() - start).expect("invariant: one next hop is a few dozen octets");
    patch(out, start, len.to_ne_bytes());
}

// === Decoding ===

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// The port of whoever caused it; 0 is the kernel.
    pub(crate) port: u32,
    pub(crate) body: &'a [u8],
}

/// The messages of a datagram, up to the first that is cut short.
pub(crate) struct Frames<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let len = u32_at(self.0, 0)? as usize;
        let whole = self.0.get(..len).filter(|w| w.len() >= HEADER)?;
        let frame = Frame {
            kind: u16_at(whole, 4)?,
            flags: u16_at(whole, 6)?,
            sequence: u32_at(whole, 8)?,
            port: u32_at(whole, 12)?,
            body: whole.get(HEADER..)?,
        };
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(frame)
    }
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// An acknowledgement (errno 0) or a refusal.
    Answer {
        errno: i32,
        message: Option<String>,
    },
    /// The end of a dump, with the error that ended it, if any.
    Done {
        errno: i32,
    },
    /// Messages were lost.
    Overrun,
    Route(Route),
    RouteGone(Route),
    Interface(Interface),
    InterfaceGone(IfIndex),
    Address(InterfaceAddress),
    AddressGone(InterfaceAddress),
    Object(Object),
    ObjectGone(ObjectId),
    /// Something this crate has no use for, or cannot make sense of.
    Ignored,
}

/// Reads a message. Total: what cannot be read is [`Message::Ignored`].
pub(crate) fn decode(frame: &Frame<'_>) -> Message {
    let body = frame.body;
    let some = |m: Option<Message>| m.unwrap_or(Message::Ignored);
    match frame.kind {
        NLMSG_ERROR => answer(frame),
        NLMSG_DONE => Message::Done {
            errno: i32_at(body, 0).map_or(0, |e| e.saturating_neg()),
        },
        NLMSG_OVERRUN => Message::Overrun,
        RTM_NEWROUTE => some(route(body).map(Message::Route)),
        RTM_DELROUTE => some(route(body).map(Message::RouteGone)),
        RTM_NEWLINK => some(interface(body).map(Message::Interface)),
        RTM_DELLINK => some(interface(body).map(|i| Message::InterfaceGone(i.index))),
        RTM_NEWADDR => some(address(body).map(Message::Address)),
        RTM_DELADDR => some(address(body).map(Message::AddressGone)),
        object::RTM_NEWNEXTHOP => some(object::decode(body).map(Message::Object)),
        object::RTM_DELNEXTHOP => some(object::decode(body).map(|o| Message::ObjectGone(o.id))),
        _ => Message::Ignored,
    }
}

pub(super) fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    b.get(at..)?.first_chunk().map(|c| u16::from_ne_bytes(*c))
}

pub(super) fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    b.get(at..)?.first_chunk().map(|c| u32::from_ne_bytes(*c))
}

fn i32_at(b: &[u8], at: usize) -> Option<i32> {
    b.get(at..)?.first_chunk().map(|c| i32::from_ne_bytes(*c))
}

/// The attributes in `b`, up to the first that is cut short.
pub(crate) fn attributes(mut b: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(b, 0)?);
        let kind = u16_at(b, 2)? & NLA_TYPE_MASK;
        let value = b.get(4..len)?;
        b = b.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn answer(frame: &Frame<'_>) -> Message {
    let errno = i32_at(frame.body, 0).map_or(0, |e| e.saturating_neg());
    let mut message = None;
    if frame.flags & NLM_F_ACK_TLVS != 0 {
        // After the error number comes the request: its header alone when capped, else all of it.
        let request = if frame.flags & NLM_F_CAPPED != 0 {
            HEADER
        } else {
            u32_at(frame.body, 4).unwrap_or(0) as usize
        };
        let rest = frame
            .body
            .get(4usize.saturating_add(request).next_multiple_of(4)..)
            .unwrap_or_default();
        message = attributes(rest)
            .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
            .map(|(_, text)| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
    }
    Message::Answer { errno, message }
}

pub(super) fn ip(b: &[u8]) -> Option<IpAddr> {
    if let Ok(a) = <[u8; 4]>::try_from(b) {
        return Some(a.into());
    }
    <[u8; 16]>::try_from(b).ok().map(IpAddr::from)
}

fn via(b: &[u8]) -> Option<IpAddr> {
    ip(b.get(2..)?)
}

fn route(b: &[u8]) -> Option<Route> {
    let [family, len, _, tos, table, protocol, scope, kind, ..] = *b else {
        return None;
    };
    if u32_at(b, 8)? & RTM_F_CLONED != 0 {
        return None;
    }
    let any = match family {
        AF_INET => IpAddr::from([0; 4]),
        AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let flags = u32_at(b, 8)? as u8;
    let mut prefix = Prefix::new(any, len).ok()?;
    let mut r = Route::new(prefix, Kind::from_code(kind), Protocol(protocol));
    (r.tos, r.table, r.scope, r.metric) = (tos, u32::from(table), Scope(scope), 0);
    let mut hop = NextHop {
        gateway: None,
        interface: None,
        weight: 1,
        onlink: flags & RTNH_F_ONLINK != 0,
    };
    for (kind, value) in attributes(b.get(12..)?) {
        match kind {
            RTA_DST => prefix = Prefix::new(ip(value).filter(|a| a.is_ipv4() == any.is_ipv4())?, len).ok()?,
            RTA_OIF => hop.interface = Some(IfIndex(u32_at(value, 0)?)),
            RTA_GATEWAY => hop.gateway = Some(ip(value)?),
            RTA_VIA => hop.gateway = Some(via(value)?),
            RTA_PRIORITY => r.metric = u32_at(value, 0)?,
            RTA_PREFSRC => r.source = ip(value),
            RTA_TABLE => r.table = u32_at(value, 0)?,
            RTA_MULTIPATH => r.next_hops = multipath(value).into(),
            RTA_NH_ID => r.object = Some(ObjectId(u32_at(value, 0)?)),
            _ => {}
        }
    }
    r.prefix = prefix;
    if r.next_hops.is_empty() && (hop.interface.is_some() || hop.gateway.is_some()) {
        r.next_hops = Arc::new([hop]);
    }
    Some(r.canonical())
}

fn multipath(mut b: &[u8]) -> Vec<NextHop> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(b, 0)?);
        let one = b.get(..len)?;
        let [_, _, flags, hops, ..] = *one else { return None };
        let interface = u32_at(one, 4)?;
        let gateway = attributes(one.get(8..)?).find_map(|(kind, value)| match kind {
            RTA_GATEWAY => ip(value),
            RTA_VIA => via(value),
            _ => None,
        });
        b = b.get(len.next_multiple_of(4)..).unwrap_or_default();
        let interface = (interface != 0).then_some(IfIndex(interface));
        Some(NextHop {
            gateway,
            interface,
            weight: u16::from(hops) + 1,
            onlink: flags & RTNH_F_ONLINK != 0,
        })
    })
    .collect()
}

fn interface(b: &[u8]) -> Option<Interface> {
    let index = IfIndex(u32_at(b, 4)?);
    let flags = u32_at(b, 8)?;
    let (up, carrier) = (flags & IFF_UP != 0, flags & IFF_LOWER_UP != 0);
    // Messages of the bridge family are about ports, not about interfaces.
    if *b.first()? != 0 {
        return None;
    }
    let name = attributes(b.get(16..)?).find(|(kind, _)| *kind == IFLA_IFNAME)?.1;
    let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
    Some(Interface {
        index,
        name,
        up,
        carrier,
    })
}

fn address(b: &[u8]) -> Option<InterfaceAddress> {
    let [_, len, ..] = *b else { return None };
    let interface = IfIndex(u32_at(b, 4)?);
    let (mut local, mut peer) = (None, None);
    for (kind, value) in attributes(b.get(8..)?) {
        match kind {
            IFA_LOCAL => local = ip(value),
            IFA_ADDRESS => peer = ip(value),
            _ => {}
        }
    }
    // IPv4 names its own address LOCAL and the other end of a point-to-point link ADDRESS; IPv6 often has only ADDRESS.
    let address = local.or(peer)?;
    let subnet = Prefix::new(peer.or(local)?, len).ok()?;
    Some(InterfaceAddress {
        interface,
        address,
        subnet,
    })
}

#[cfg(test)]
mod tests;
