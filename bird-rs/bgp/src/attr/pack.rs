//! Values as octets, for keeping many of them: what is not set takes no room, and there is one allocation for thousands.
//!
//! A form of our own for memory only, which nothing but this process reads. It is canonical: equal values have equal
//! octets and the reverse, so that packed values are compared without unpacking them. Every field is named when it is
//! packed, so that one that is added and forgotten here does not compile.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tortie_net::{Asn, Community, ExtCommunity, LargeCommunity, RouterId};

use super::{Aggregator, AsPath, Attributes, NextHop, Origin, Partial, UnknownAttribute};

/// A value that can be packed.
pub trait Pack: Sized {
    /// Appends the value.
    fn pack(&self, out: &mut Vec<u8>);

    /// Takes a value that [`Pack::pack`] wrote.
    fn unpack(from: &mut Unpacker<'_>) -> Self;
}

/// What is left of packed octets.
#[derive(Debug)]
pub struct Unpacker<'a>(&'a [u8]);

impl<'a> Unpacker<'a> {
    /// Reads these octets, which [`Pack::pack`] wrote.
    pub fn new(octets: &'a [u8]) -> Self {
        Unpacker(octets)
    }

    /// The next octets. The caller wrote them itself; what was not written reads as zero.
    fn array<const N: usize>(&mut self) -> [u8; N] {
        debug_assert!(self.0.len() >= N, "read more than was packed");
        let (head, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *head
    }

    fn slice(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at_checked(len).unwrap_or_default();
        self.0 = rest;
        head
    }
}

macro_rules! pack_number {
    ($($number:ty),*) => {$(
        impl Pack for $number {
            fn pack(&self, out: &mut Vec<u8>) {
                out.extend(self.to_ne_bytes());
            }

            fn unpack(from: &mut Unpacker<'_>) -> Self {
                <$number>::from_ne_bytes(from.array())
            }
        }
    )*};
}

pack_number!(u8, u16, u32, u64, u128);

/// Lengths: one octet below 255, five otherwise.
impl Pack for usize {
    fn pack(&self, out: &mut Vec<u8>) {
        match u8::try_from(*self) {
            Ok(short) if short < u8::MAX => short.pack(out),
            _ => {
                u8::MAX.pack(out);
                u32::try_from(*self).unwrap_or(u32::MAX).pack(out);
            }
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        match u8::unpack(from) {
            u8::MAX => u32::unpack(from) as usize,
            short => usize::from(short),
        }
    }
}

impl Pack for IpAddr {
    fn pack(&self, out: &mut Vec<u8>) {
        match self {
            IpAddr::V4(addr) => {
                out.push(4);
                addr.to_bits().pack(out);
            }
            IpAddr::V6(addr) => {
                out.push(6);
                addr.to_bits().pack(out);
            }
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        match u8::unpack(from) {
            4 => IpAddr::V4(Ipv4Addr::from_bits(u32::unpack(from))),
            _ => IpAddr::V6(Ipv6Addr::from_bits(u128::unpack(from))),
        }
    }
}

/// Text and other octets: a length and the octets.
pub(crate) fn pack_octets(octets: &[u8], out: &mut Vec<u8>) {
    octets.len().pack(out);
    out.extend_from_slice(octets);
}

/// What [`pack_octets`] wrote.
pub(crate) fn unpack_octets<'a>(from: &mut Unpacker<'a>) -> &'a [u8] {
    let len = usize::unpack(from);
    from.slice(len)
}

impl Pack for LargeCommunity {
    fn pack(&self, out: &mut Vec<u8>) {
        let LargeCommunity(a, b, c) = *self;
        [a, b, c].iter().for_each(|number| number.pack(out));
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        LargeCommunity(u32::unpack(from), u32::unpack(from), u32::unpack(from))
    }
}

/// Which attributes there are: one bit each, and the small ones whole.
mod flag {
    /// Of ORIGIN: its code; or [`MORE`].
    pub(super) const ORIGIN: u16 = 0b11;
    /// No origin's code: an octet with the code and one with the Partial bits follow.
    pub(super) const MORE: u16 = 0b11;
    pub(super) const ATOMIC_AGGREGATE: u16 = 1 << 2;
    pub(super) const NEXT_HOP_V4: u16 = 1 << 3;
    pub(super) const NEXT_HOP_V6: u16 = 1 << 4;
    pub(super) const LINK_LOCAL: u16 = 1 << 5;
    pub(super) const MED: u16 = 1 << 6;
    pub(super) const LOCAL_PREF: u16 = 1 << 7;
    pub(super) const AGGREGATOR: u16 = 1 << 8;
    pub(super) const COMMUNITIES: u16 = 1 << 9;
    pub(super) const EXT_COMMUNITIES: u16 = 1 << 10;
    pub(super) const LARGE_COMMUNITIES: u16 = 1 << 11;
    pub(super) const ORIGINATOR_ID: u16 = 1 << 12;
    pub(super) const CLUSTER_LIST: u16 = 1 << 13;
    pub(super) const ONLY_TO_CUSTOMER: u16 = 1 << 14;
    pub(super) const UNKNOWN: u16 = 1 << 15;
}

/// Attributes under way to octets: the flags are known when everything else is.
struct Packer<'a> {
    flags: u16,
    out: &'a mut Vec<u8>,
}

impl Packer<'_> {
    fn number<T: Pack>(&mut self, flag: u16, value: Option<T>) {
        if let Some(value) = value {
            self.flags |= flag;
            value.pack(self.out);
        }
    }

    fn list<T>(&mut self, flag: u16, list: &[T], each: impl Fn(&T, &mut Vec<u8>)) {
        if !list.is_empty() {
            self.flags |= flag;
            list.len().pack(self.out);
            list.iter().for_each(|item| each(item, self.out));
        }
    }

    fn next_hop(&mut self, next_hop: Option<NextHop>) {
        match next_hop {
            None => {}
            Some(NextHop::V4(addr)) => self.number(flag::NEXT_HOP_V4, Some(addr.to_bits())),
            Some(NextHop::V6 { global, link_local }) => {
                self.number(flag::NEXT_HOP_V6, Some(global.to_bits()));
                self.number(flag::LINK_LOCAL, link_local.map(Ipv6Addr::to_bits));
            }
        }
    }
}

/// Attributes under way from octets.
struct Parts<'a, 'b> {
    flags: u16,
    from: &'a mut Unpacker<'b>,
}

impl Parts<'_, '_> {
    fn number<T: Pack>(&mut self, flag: u16) -> Option<T> {
        (self.flags & flag != 0).then(|| T::unpack(self.from))
    }

    fn list<C: FromIterator<T>, T>(&mut self, flag: u16, each: impl Fn(&mut Unpacker<'_>) -> T) -> C {
        let len = if self.flags & flag == 0 {
            0
        } else {
            usize::unpack(self.from)
        };
        (0..len).map(|_| each(self.from)).collect()
    }

    fn next_hop(&mut self) -> Option<NextHop> {
        if let Some(addr) = self.number(flag::NEXT_HOP_V4) {
            return Some(NextHop::V4(Ipv4Addr::from_bits(addr)));
        }
        let global = self.number(flag::NEXT_HOP_V6).map(Ipv6Addr::from_bits)?;
        let link_local = self.number(flag::LINK_LOCAL).map(Ipv6Addr::from_bits);
        Some(NextHop::V6 { global, link_local })
    }
}

impl Pack for Attributes {
    fn pack(&self, out: &mut Vec<u8>) {
        let Attributes {
            origin,
            atomic_aggregate,
            as_path,
            next_hop,
            med,
            local_pref,
            aggregator,
            communities,
            ext_communities,
            large_communities,
            originator_id,
            cluster_list,
            only_to_customer,
            partial,
            unknown,
        } = self;
        let start = out.len();
        let mut flags = if partial.is_empty() {
            u16::from(origin.code())
        } else {
            flag::MORE
        };
        if *atomic_aggregate {
            flags |= flag::ATOMIC_AGGREGATE;
        }
        flags.pack(out);
        if !partial.is_empty() {
            out.extend([origin.code(), partial.0]);
        }
        let words = as_path.words();
        words.len().pack(out);
        words.iter().for_each(|word| word.0.pack(out));
        let mut packer = Packer { flags, out };
        packer.next_hop(*next_hop);
        packer.number(flag::MED, *med);
        packer.number(flag::LOCAL_PREF, *local_pref);
        packer.number(flag::AGGREGATOR, *aggregator);
        packer.list(flag::COMMUNITIES, communities, |c, out| c.0.pack(out));
        packer.list(flag::EXT_COMMUNITIES, ext_communities, |c, out| c.0.pack(out));
        packer.list(flag::LARGE_COMMUNITIES, large_communities, LargeCommunity::pack);
        packer.number(flag::ORIGINATOR_ID, originator_id.map(|id| id.0));
        packer.list(flag::CLUSTER_LIST, cluster_list, |id, out| id.0.pack(out));
        packer.number(flag::ONLY_TO_CUSTOMER, only_to_customer.map(|asn| asn.0));
        packer.list(flag::UNKNOWN, unknown, UnknownAttribute::pack);
        let flags = packer.flags.to_ne_bytes();
        out.iter_mut()
            .skip(start)
            .zip(flags)
            .for_each(|(at, octet)| *at = octet);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let flags = u16::unpack(from);
        let [code, partial] = match flags & flag::ORIGIN {
            flag::MORE => from.array(),
            code => [u8::try_from(code).unwrap_or_default(), 0],
        };
        let words = (0..usize::unpack(from)).map(|_| Asn(u32::unpack(from))).collect();
        let mut parts = Parts { flags, from };
        // In the order in which they were packed.
        Attributes {
            origin: Origin::from_code(code).unwrap_or_default(),
            atomic_aggregate: flags & flag::ATOMIC_AGGREGATE != 0,
            as_path: AsPath::from_words(words),
            next_hop: parts.next_hop(),
            med: parts.number(flag::MED),
            local_pref: parts.number(flag::LOCAL_PREF),
            aggregator: parts.number(flag::AGGREGATOR),
            communities: parts.list(flag::COMMUNITIES, |from| Community(u32::unpack(from))),
            ext_communities: parts.list(flag::EXT_COMMUNITIES, |from| ExtCommunity(u64::unpack(from))),
            large_communities: parts.list(flag::LARGE_COMMUNITIES, LargeCommunity::unpack),
            originator_id: parts.number(flag::ORIGINATOR_ID).map(RouterId),
            cluster_list: parts.list(flag::CLUSTER_LIST, |from| RouterId(u32::unpack(from))),
            only_to_customer: parts.number(flag::ONLY_TO_CUSTOMER).map(Asn),
            partial: Partial(partial),
            unknown: parts.list(flag::UNKNOWN, UnknownAttribute::unpack),
        }
    }
}

impl Pack for Aggregator {
    fn pack(&self, out: &mut Vec<u8>) {
        let Aggregator { asn, addr } = self;
        asn.0.pack(out);
        addr.to_bits().pack(out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        Aggregator {
            asn: Asn(u32::unpack(from)),
            addr: Ipv4Addr::from_bits(u32::unpack(from)),
        }
    }
}

impl Pack for UnknownAttribute {
    fn pack(&self, out: &mut Vec<u8>) {
        let UnknownAttribute { code, partial, value } = self;
        out.extend([*code, u8::from(*partial)]);
        pack_octets(value, out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        UnknownAttribute {
            code: u8::unpack(from),
            partial: u8::unpack(from) != 0,
            value: unpack_octets(from).into(),
        }
    }
}
