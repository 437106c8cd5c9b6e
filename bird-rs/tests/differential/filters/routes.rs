//! The routes that filters see: some static with attributes, most from a BGP neighbour, as octets.
//!
//! Numbers come from small pools, the same as those of the generated programs, so that what they ask for is often there.

use std::fmt::Write as _;

use super::random::Random;

/// AS numbers, and numbers of large communities.
pub(super) const NUMBERS: [u32; 9] = [1, 2, 3, 4, 5, 7, 64512, 65010, 4_200_000_000];
/// Halves of communities.
pub(super) const HALVES: [u32; 7] = [1, 2, 3, 4, 5, 100, 65010];
/// IPv4 addresses.
pub(super) const ADDRESSES: [&str; 6] = [
    "10.0.0.1",
    "10.1.0.0",
    "10.77.0.2",
    "1.2.3.4",
    "10.2.3.0",
    "192.168.1.1",
];

/// The routes of one batch.
#[derive(Debug, Clone)]
pub(super) struct Routes {
    /// `protocol static` for both families.
    pub(super) statics: String,
    /// UPDATE messages without their header.
    pub(super) updates: Vec<Vec<u8>>,
    /// How many routes there are in all.
    pub(super) count: usize,
}

/// The prefixes that batches announce anew or withdraw.
const LEARNED: u8 = 20;
const LEARNED6: u8 = 5;

impl Routes {
    pub(super) fn generate(random: &mut Random) -> Self {
        let mut routes = Routes {
            statics: statics(random),
            updates: Vec::new(),
            count: 8,
        };
        for number in 0..LEARNED + LEARNED6 {
            // One that goes may have been announced by the batch before, or not.
            let announced = !random.one_in(8);
            routes.count += usize::from(announced);
            routes.updates.push(match (number < LEARNED, announced) {
                (true, true) => announce(random, number),
                (true, false) => withdraw(&prefix(number)),
                (false, true) => announce6(random, number),
                (false, false) => withdraw6(&prefix6(number)),
            });
        }
        routes
    }
}

fn statics(random: &mut Random) -> String {
    let mut text = String::from("protocol static s4 { ipv4;\n");
    let destinations = ["blackhole", "unreachable", "prohibit", "via 10.77.0.9", "via \"eth0\""];
    for number in 0..5u32 {
        let length = random.pick(&[16, 20, 24]);
        let third = if length == 24 { number } else { 0 };
        let destination = destinations[number as usize];
        let _ = writeln!(
            text,
            "  route 10.{}.{third}.0/{length} {destination} {{ {} }};",
            200 + number,
            attributes(random)
        );
    }
    text += "}\nprotocol static s6 { ipv6;\n";
    for number in 0..3 {
        let _ = writeln!(
            text,
            "  route 2001:db8:{number}::/48 blackhole {{ {} }};",
            attributes(random)
        );
    }
    text + "}\n"
}

/// Attributes of a static route.
fn attributes(random: &mut Random) -> String {
    let mut text = String::new();
    for asn in random.some(&NUMBERS) {
        let _ = write!(text, "bgp_path.prepend({asn}); ");
    }
    for half in random.some(&HALVES) {
        let _ = write!(text, "bgp_community.add(({half},{})); ", random.pick(&HALVES));
    }
    for number in random.some(&NUMBERS[..6]) {
        let _ = write!(
            text,
            "bgp_large_community.add(({number},{},1)); ",
            random.pick(&NUMBERS)
        );
        let _ = write!(text, "bgp_ext_community.add((rt,{number},{})); ", random.pick(&NUMBERS));
    }
    for attribute in random.some(&["bgp_med", "bgp_local_pref", "bgp_otc"]) {
        let _ = write!(text, "{attribute} = {}; ", random.pick(&NUMBERS));
    }
    text
}

// === Octets ===

/// The number's prefix: 10.0.0.0/12 and longer ones.
fn prefix(number: u8) -> Vec<u8> {
    let (high, low) = (number / 5, number % 5);
    match low {
        0 => vec![16, 10, high],
        1 => vec![24, 10, high, low],
        2 => vec![20, 10, high, 16 * low],
        3 => vec![32, 10, high, low, number],
        _ => vec![29, 10, high, 128, 8 * low],
    }
}

fn prefix6(number: u8) -> Vec<u8> {
    vec![48, 0x20, 0x01, 0x0d, 0xb8, 0xff, number]
}

fn attribute(octets: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    octets.extend([flags | 0x10, code]);
    octets.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    octets.extend(value);
}

fn path(random: &mut Random) -> Vec<u8> {
    let mut octets = Vec::new();
    let segments = random.pick(&[0, 1, 1, 1, 1, 1, 2, 2, 3]);
    for number in 0..segments {
        let is_set = number > 0 && number % 2 == 1 || random.one_in(10);
        let mut asns: Vec<u32> = (0..=random.below(4)).map(|_| random.pick(&NUMBERS)).collect();
        if is_set {
            asns.sort_unstable();
            asns.dedup();
        }
        octets.extend([if is_set { 1 } else { 2 }, u8::try_from(asns.len()).unwrap()]);
        octets.extend(asns.iter().flat_map(|asn| asn.to_be_bytes()));
    }
    octets
}

/// Numbers in ascending order, each once, as octets.
fn sorted<T: Ord, const N: usize>(mut all: Vec<T>, octets: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    all.sort();
    all.dedup();
    all.into_iter().flat_map(octets).collect()
}

/// All but the next hop, in the order of their codes.
fn path_attributes(random: &mut Random, next_hop: Option<[u8; 4]>) -> Vec<u8> {
    let mut octets = Vec::new();
    attribute(&mut octets, 0x40, 1, &[random.pick(&[0, 0, 1, 2])]);
    let path = path(random);
    attribute(&mut octets, 0x40, 2, &path);
    if let Some(next_hop) = next_hop {
        attribute(&mut octets, 0x40, 3, &next_hop);
    }
    if !random.one_in(4) {
        attribute(&mut octets, 0x80, 4, &random.pick(&NUMBERS).to_be_bytes());
    }
    attribute(&mut octets, 0x40, 5, &random.pick(&NUMBERS).to_be_bytes());
    if !random.one_in(4) {
        let all = random
            .some(&HALVES)
            .into_iter()
            .map(|a| (a, random.pick(&HALVES)))
            .collect();
        let communities = sorted(all, |(a, b)| (a << 16 | b).to_be_bytes());
        if !communities.is_empty() {
            attribute(&mut octets, 0xC0, 8, &communities);
        }
    }
    if random.one_in(3) {
        attribute(&mut octets, 0x80, 9, &[1, 2, 3, random.pick(&[4, 5])]);
        attribute(&mut octets, 0x80, 10, &[10, 0, 0, 1, 1, 2, 3, 4]);
    }
    if !random.one_in(3) {
        let all = random.some(&HALVES).into_iter().map(|key| {
            let (high, low) = (
                random.pick(&[0x0002_0000, 0x0003_0000, 0x4002_0000]),
                random.pick(&NUMBERS),
            );
            u64::from(high | key) << 32 | u64::from(low)
        });
        let communities = sorted(all.collect(), u64::to_be_bytes);
        if !communities.is_empty() {
            attribute(&mut octets, 0xC0, 16, &communities);
        }
    }
    if !random.one_in(3) {
        let all = random
            .some(&NUMBERS)
            .into_iter()
            .map(|a| [a, random.pick(&NUMBERS), random.pick(&NUMBERS)]);
        let communities: Vec<u8> = sorted(all.collect(), |lc: [u32; 3]| {
            let mut octets = [0; 12];
            for (place, number) in octets.chunks_exact_mut(4).zip(lc) {
                place.copy_from_slice(&number.to_be_bytes());
            }
            octets
        });
        if !communities.is_empty() {
            attribute(&mut octets, 0xC0, 32, &communities);
        }
    }
    if random.one_in(4) {
        attribute(&mut octets, 0xC0, 35, &random.pick(&NUMBERS).to_be_bytes());
    }
    octets
}

fn update(withdrawn: &[u8], attributes: &[u8], announced: &[u8]) -> Vec<u8> {
    let mut body = u16::try_from(withdrawn.len()).unwrap().to_be_bytes().to_vec();
    body.extend(withdrawn);
    body.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    body.extend(attributes);
    body.extend(announced);
    body
}

fn announce(random: &mut Random, number: u8) -> Vec<u8> {
    let next_hop = random.pick(&[[10, 77, 0, 2], [10, 77, 0, 9]]);
    let attributes = path_attributes(random, Some(next_hop));
    update(&[], &attributes, &prefix(number))
}

fn withdraw(prefix: &[u8]) -> Vec<u8> {
    update(prefix, &[], &[])
}

fn announce6(random: &mut Random, number: u8) -> Vec<u8> {
    let mut attributes = path_attributes(random, None);
    // fd77::2
    let mut reach = vec![0, 2, 1, 16, 0xfd, 0x77];
    reach.extend([0; 13]);
    reach.extend([2, 0]);
    reach.extend(prefix6(number));
    attribute(&mut attributes, 0x80, 14, &reach);
    update(&[], &attributes, &[])
}

fn withdraw6(prefix: &[u8]) -> Vec<u8> {
    let mut unreach = vec![0, 2, 1];
    unreach.extend(prefix);
    let mut attributes = Vec::new();
    attribute(&mut attributes, 0x80, 15, &unreach);
    update(&[], &attributes, &[])
}
