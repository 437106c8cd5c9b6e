//! Messages as octets, made from a script's words (RFC 4271, 4760, 6793, 7911, 8950). No code of the product's is used.

use std::net::{IpAddr, Ipv4Addr};

use crate::script::{Announcement, Family, Prefix};

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;
pub(crate) const ROUTE_REFRESH: u8 = 5;

/// What both OPENs agreed on, as far as the form of messages goes, and what a neighbour's routes look like by default.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) asn: u32,
    pub(crate) internal: bool,
    pub(crate) four_octets: bool,
    /// Families in which what we send has path identifiers.
    pub(crate) sends_ids: Vec<Family>,
    /// And what we receive.
    pub(crate) receives_ids: Vec<Family>,
    pub(crate) address: IpAddr,
    /// The neighbour's link-local address, where it has one.
    pub(crate) link_local: Option<IpAddr>,
}

pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![0xff; 16];
    octets.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
    octets.push(kind);
    octets.extend(body);
    octets
}

/// An attribute, its length in two octets only where one will not do.
fn attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut octets = match u8::try_from(value.len()) {
        Ok(length) => vec![flags, kind, length],
        Err(_) => {
            let [high, low] = u16::try_from(value.len()).unwrap().to_be_bytes();
            vec![flags | 0x10, kind, high, low]
        }
    };
    octets.extend(value);
    octets
}

/// An OPEN with these capabilities, each with its code and length.
pub(crate) fn open(asn: u32, hold: u16, id: Ipv4Addr, capabilities: &[u8]) -> Vec<u8> {
    let mut body = vec![4];
    body.extend(u16::try_from(asn).unwrap_or(23_456).to_be_bytes());
    body.extend(hold.to_be_bytes());
    body.extend(id.octets());
    if capabilities.is_empty() {
        body.push(0);
    } else {
        let length = u8::try_from(capabilities.len()).unwrap();
        body.extend([length + 2, 2, length]);
        body.extend(capabilities);
    }
    message(OPEN, &body)
}

pub(crate) fn address(of: IpAddr) -> Vec<u8> {
    match of {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn nlri(prefix: &Prefix, id: Option<u32>) -> Vec<u8> {
    let mut octets: Vec<u8> = id.into_iter().flat_map(u32::to_be_bytes).collect();
    octets.push(prefix.length);
    octets.extend(&address(prefix.address)[..usize::from(prefix.length).div_ceil(8)]);
    octets
}

fn body(withdrawn: &[u8], attributes: &[u8], announced: &[u8]) -> Vec<u8> {
    let mut octets = u16::try_from(withdrawn.len()).unwrap().to_be_bytes().to_vec();
    octets.extend(withdrawn);
    octets.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    octets.extend(attributes);
    octets.extend(announced);
    message(UPDATE, &octets)
}

impl Session {
    fn id(&self, family: Family, id: u32) -> Option<u32> {
        self.sends_ids.contains(&family).then_some(id)
    }

    fn segment(&self, kind: u8, members: &[u32], two_octets: bool) -> Vec<u8> {
        let mut octets = vec![kind, u8::try_from(members.len()).unwrap()];
        for asn in members {
            if two_octets {
                octets.extend(u16::try_from(*asn).unwrap_or(23_456).to_be_bytes());
            } else {
                octets.extend(asn.to_be_bytes());
            }
        }
        octets
    }

    /// ORIGIN, AS_PATH and LOCAL_PREF as the script has them or as such a neighbour would send them, then the rest.
    fn attributes(&self, route: &Announcement, next_hop: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        if !route.without.contains(&1) {
            octets.extend(attribute(0x40, 1, &[route.origin]));
        }
        if !route.without.contains(&2) {
            let own = [(2, vec![self.asn])];
            let path = match &route.path {
                Some(path) => &path[..],
                None if self.internal => &[],
                None => &own[..],
            };
            let all = |two| {
                path.iter()
                    .flat_map(|(kind, members)| self.segment(*kind, members, two))
                    .collect()
            };
            let (plain, wide): (Vec<u8>, Vec<u8>) = (all(!self.four_octets), all(false));
            octets.extend(attribute(0x40, 2, &plain));
            if !self.four_octets && path.iter().any(|(_, members)| members.iter().any(|asn| *asn > 65_535)) {
                octets.extend(attribute(0xc0, 17, &wide));
            }
        }
        octets.extend(next_hop);
        if let Some(preference) = route
            .local_pref
            .or((self.internal && !route.without.contains(&5)).then_some(100))
        {
            octets.extend(attribute(0x40, 5, &preference.to_be_bytes()));
        }
        for (flags, code, value) in &route.others {
            octets.extend(attribute(*flags, *code, value));
        }
        octets
    }

    /// What an announcement's routes become: one UPDATE.
    pub(crate) fn announce(&self, route: &Announcement) -> Vec<u8> {
        let family = route.prefixes[0].family();
        let routes: Vec<u8> = route
            .prefixes
            .iter()
            .flat_map(|prefix| nlri(prefix, self.id(family, route.id)))
            .collect();
        let hops = match (&route.next_hops[..], self.link_local) {
            ([], Some(link_local)) if family == Family::Ipv6 => vec![self.address, link_local],
            ([], _) => vec![self.address],
            (hops, _) => hops.to_vec(),
        };
        let hop: Vec<u8> = hops.iter().copied().flat_map(address).collect();
        if family == Family::Ipv4 && hop.len() == 4 && !route.multiprotocol {
            let hop = attribute(0x40, 3, &hop);
            let hop = if route.without.contains(&3) { Vec::new() } else { hop };
            return body(&[], &self.attributes(route, &hop), &routes);
        }
        let mut reach = family.codes().to_vec();
        reach.push(u8::try_from(hop.len()).unwrap());
        reach.extend(hop);
        reach.push(0);
        reach.extend(routes);
        body(&[], &self.attributes(route, &attribute(0x80, 14, &reach)), &[])
    }

    pub(crate) fn withdraw(&self, prefixes: &[Prefix], id: u32) -> Vec<u8> {
        let family = prefixes[0].family();
        let routes: Vec<u8> = prefixes
            .iter()
            .flat_map(|prefix| nlri(prefix, self.id(family, id)))
            .collect();
        match family {
            Family::Ipv4 => body(&routes, &[], &[]),
            Family::Ipv6 => body(&[], &attribute(0x80, 15, &[&family.codes()[..], &routes].concat()), &[]),
        }
    }

    /// End-of-RIB (RFC 4724 section 2).
    pub(crate) fn end_of_rib(&self, family: Family) -> Vec<u8> {
        match family {
            Family::Ipv4 => body(&[], &[], &[]),
            Family::Ipv6 => body(&[], &attribute(0x80, 15, &family.codes()), &[]),
        }
    }

    pub(crate) fn refresh(&self, family: Family) -> Vec<u8> {
        let [high, low, safi] = family.codes();
        message(ROUTE_REFRESH, &[high, low, 0, safi])
    }
}
