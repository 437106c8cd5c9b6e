//! Learned routes as octets.

use std::sync::Arc;

use super::intern::{AttrId, Interner};
use super::path::{Hop, Learned};
use crate::attr::{Attributes, Pack, Unpacker, pack_octets, unpack_octets};
use crate::filter::{Krt, RouteDestination};
use crate::nexthop::HopId;

const DESTINATION: u8 = 0b11;
const IGP_METRIC: u8 = 1 << 2;
const KRT: u8 = 1 << 3;
const GATEWAYS: u8 = 1 << 4;
const HOP: u8 = 1 << 5;

impl Pack for Learned {
    fn pack(&self, out: &mut Vec<u8>) {
        let Learned {
            attributes,
            preference,
            destination,
            igp_metric,
            krt,
            gateways,
            hop,
        } = self;
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        out.push(
            destination_code(*destination)
                | bit(igp_metric.is_some(), IGP_METRIC)
                | bit(*krt != Krt::default(), KRT)
                | bit(!gateways.is_empty(), GATEWAYS)
                | bit(hop.is_some(), HOP),
        );
        hop.iter().for_each(|hop| hop.number().pack(out));
        preference.pack(out);
        igp_metric.iter().for_each(|metric| metric.pack(out));
        if *krt != Krt::default() {
            krt.pack(out);
        }
        if !gateways.is_empty() {
            gateways.len().pack(out);
            gateways.iter().for_each(|hop| hop.pack(out));
        }
        attributes.pack(out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let (flags, hop) = unpack_head(from);
        let preference = u16::unpack(from);
        let igp_metric = (flags & IGP_METRIC != 0).then(|| u32::unpack(from));
        let krt = if flags & KRT != 0 {
            Krt::unpack(from)
        } else {
            Krt::default()
        };
        let hops = if flags & GATEWAYS == 0 { 0 } else { usize::unpack(from) };
        Learned {
            preference,
            destination: destination(flags & DESTINATION),
            igp_metric,
            krt,
            gateways: (0..hops).map(|_| Hop::unpack(from)).collect(),
            attributes: Attributes::unpack(from),
            hop,
        }
    }
}

/// The flags, and the next hop, which stands before all else: it is looked at more often than the rest.
fn unpack_head(from: &mut Unpacker<'_>) -> (u8, Option<HopId>) {
    let flags = u8::unpack(from);
    let number = (flags & HOP != 0).then(|| u32::unpack(from));
    (flags, number.and_then(HopId::from_number))
}

impl Interner<Learned> {
    /// The next hop of a route that is held, without unpacking the rest.
    pub fn hop(&self, id: AttrId) -> Option<HopId> {
        unpack_head(&mut self.unpacker(id)).1
    }

    /// The next hops of all routes that are held, some more than once.
    pub fn hops(&self) -> impl Iterator<Item = HopId> {
        self.unpackers().filter_map(|mut from| unpack_head(&mut from).1)
    }
}

impl Pack for Krt {
    fn pack(&self, out: &mut Vec<u8>) {
        let Krt {
            metric,
            source,
            prefsrc,
        } = self;
        out.push(u8::from(metric.is_some()) | u8::from(source.is_some()) << 1 | u8::from(prefsrc.is_some()) << 2);
        metric.iter().chain(source).for_each(|number| number.pack(out));
        prefsrc.iter().for_each(|address| address.pack(out));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let flags = u8::unpack(from);
        Krt {
            metric: (flags & 1 != 0).then(|| u32::unpack(from)),
            source: (flags & 2 != 0).then(|| u32::unpack(from)),
            prefsrc: (flags & 4 != 0).then(|| Pack::unpack(from)),
        }
    }
}

impl Pack for Hop {
    fn pack(&self, out: &mut Vec<u8>) {
        let Hop {
            address,
            interface,
            weight,
            onlink,
        } = self;
        pack_hop((*address, interface.as_deref(), *weight, *onlink), out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let (address, interface, weight, onlink) = unpack_hop(from);
        Hop {
            address,
            interface,
            weight,
            onlink,
        }
    }
}

/// A gateway's parts: the address, the interface, the weight, whether it is on the link by decree.
pub(crate) type HopParts<I> = (Option<std::net::IpAddr>, Option<I>, u16, bool);

/// Appends a gateway.
pub(crate) fn pack_hop((address, interface, weight, onlink): HopParts<&str>, out: &mut Vec<u8>) {
    out.push(u8::from(address.is_some()) | u8::from(interface.is_some()) << 1 | u8::from(onlink) << 2);
    weight.pack(out);
    address.iter().for_each(|address| address.pack(out));
    interface.iter().for_each(|name| pack_octets(name.as_bytes(), out));
}

/// What [`pack_hop`] wrote.
pub(crate) fn unpack_hop(from: &mut Unpacker<'_>) -> HopParts<Arc<str>> {
    let flags = u8::unpack(from);
    let weight = u16::unpack(from);
    let address = (flags & 1 != 0).then(|| Pack::unpack(from));
    let interface = (flags & 2 != 0).then(|| unpack_text(from));
    (address, interface, weight, flags & 4 != 0)
}

/// Text that was packed as octets.
pub(crate) fn unpack_text(from: &mut Unpacker<'_>) -> Arc<str> {
    String::from_utf8_lossy(unpack_octets(from)).into()
}

/// A destination in two bits.
pub(crate) fn destination_code(destination: RouteDestination) -> u8 {
    match destination {
        RouteDestination::Unicast => 0,
        RouteDestination::Blackhole => 1,
        RouteDestination::Unreachable => 2,
        RouteDestination::Prohibit => 3,
    }
}

/// From two bits.
pub(crate) fn destination(code: u8) -> RouteDestination {
    match code {
        0 => RouteDestination::Unicast,
        1 => RouteDestination::Blackhole,
        2 => RouteDestination::Unreachable,
        _ => RouteDestination::Prohibit,
    }
}

#[cfg(test)]
mod tests;
