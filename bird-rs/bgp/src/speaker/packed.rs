//! Routes for felix as octets, to be interned.

use super::io::{FibNextHop, FibRoute};
use crate::attr::{Pack, Unpacker, pack_octets};
use crate::filter::Krt;
use crate::rib::{destination, destination_code, pack_hop, unpack_hop, unpack_text};

const DESTINATION: u8 = 0b11;
const STALE: u8 = 1 << 2;
const KRT: u8 = 1 << 3;
const LOCAL_PREF: u8 = 1 << 4;

impl Pack for FibRoute {
    fn pack(&self, out: &mut Vec<u8>) {
        let FibRoute {
            next_hops,
            destination,
            protocol,
            krt,
            local_pref,
            stale,
        } = self;
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        out.push(
            destination_code(*destination)
                | bit(*stale, STALE)
                | bit(*krt != Krt::default(), KRT)
                | bit(local_pref.is_some(), LOCAL_PREF),
        );
        pack_octets(protocol.as_bytes(), out);
        if *krt != Krt::default() {
            krt.pack(out);
        }
        local_pref.iter().for_each(|number| number.pack(out));
        next_hops.len().pack(out);
        for hop in next_hops {
            let FibNextHop {
                address,
                interface,
                weight,
                onlink,
            } = hop;
            pack_hop((*address, interface.as_deref(), *weight, *onlink), out);
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Self {
        let flags = u8::unpack(from);
        let protocol = unpack_text(from);
        let krt = if flags & KRT != 0 {
            Krt::unpack(from)
        } else {
            Krt::default()
        };
        let local_pref = (flags & LOCAL_PREF != 0).then(|| u32::unpack(from));
        let hops = usize::unpack(from);
        let hop = |_| {
            let (address, interface, weight, onlink) = unpack_hop(from);
            FibNextHop {
                address,
                interface,
                weight,
                onlink,
            }
        };
        FibRoute {
            next_hops: (0..hops).map(hop).collect(),
            destination: destination(flags & DESTINATION),
            protocol,
            krt,
            local_pref,
            stale: flags & STALE != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let hop = |address: &str, interface: Option<&str>| FibNextHop {
            address: address.parse().ok(),
            interface: interface.map(Into::into),
            weight: 7,
            onlink: interface == Some("eth1"),
        };
        let route = FibRoute {
            next_hops: vec![
                hop("10.0.0.1", None),
                hop("fe80::1", Some("eth0")),
                hop("", Some("eth1")),
            ],
            destination: crate::filter::RouteDestination::Unicast,
            protocol: "node1".into(),
            krt: Krt {
                metric: Some(5),
                source: None,
                prefsrc: "10.0.0.9".parse().ok(),
            },
            local_pref: None,
            stale: true,
        };
        let bare = FibRoute {
            next_hops: Vec::new(),
            destination: crate::filter::RouteDestination::Prohibit,
            krt: Krt::default(),
            local_pref: Some(1),
            stale: false,
            ..route.clone()
        };
        for route in [route, bare] {
            let mut octets = Vec::new();
            route.pack(&mut octets);
            assert_eq!(FibRoute::unpack(&mut Unpacker::new(&octets)), route);
        }
    }
}
