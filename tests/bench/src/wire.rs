//! A BGP codec of the tester's own, small and independent of the product's: what it sends is computed once, before the
//! clock runs, and what it reads is only as much as counting needs (RFC 4271, RFC 4760, RFC 6793, RFC 1997).

use std::net::Ipv4Addr;
use std::ops::Range;

use crate::workload::{Import, Prefixes, Workload};

/// The high half of the community that carries a route's version.
const VERSION_TAG: u16 = 65100;
const HEADER: usize = 19;

/// What a message says of one prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Announced, with this version (0 when it carries none).
    Announced(u8),
    /// Withdrawn.
    Withdrawn,
}

/// A message as far as the tester cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// OPEN.
    Open,
    /// UPDATE.
    Update,
    /// NOTIFICATION: code and subcode.
    Notification(u8, u8),
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH or unknown.
    Other,
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xFF; 16];
    out.extend(u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.push(kind);
    out.extend(body);
    out
}

/// An OPEN with four-octet AS numbers and one address family.
pub(crate) fn open(asn: u32, id: Ipv4Addr, v6: bool) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, if v6 { 2 } else { 1 }, 0, 1, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let mut body = vec![4];
    body.extend(u16::try_from(asn).unwrap_or(23456).to_be_bytes());
    body.extend(180u16.to_be_bytes());
    body.extend(id.octets());
    body.push(capabilities.len() as u8 + 2);
    body.extend([2, capabilities.len() as u8]);
    body.extend(capabilities);
    message(1, &body)
}

/// A KEEPALIVE.
pub(crate) fn keepalive() -> Vec<u8> {
    message(4, &[])
}

fn attribute(out: &mut Vec<u8>, flags: u8, code: u8, value: &[u8]) {
    if value.len() > 255 {
        out.extend([flags | 0x10, code]);
        out.extend((value.len() as u16).to_be_bytes());
    } else {
        out.extend([flags, code, value.len() as u8]);
    }
    out.extend(value);
}

fn push_prefix(out: &mut Vec<u8>, prefixes: &Prefixes, index: u32) {
    let (bits, len) = prefixes.bits(index);
    out.push(len);
    out.extend(&bits.to_be_bytes()[..usize::from(len.div_ceil(8))]);
}

/// One to three AS numbers of those on the way.
fn transit(number: u32) -> Vec<u32> {
    let all = [3356, 1299 + number % 5, 20_000 + number % 3000];
    all[..1 + number as usize % 3].to_vec()
}

/// Communities of a provider: where it learned the route, from whom, and sometimes what to do with it.
fn tags(number: u32) -> Vec<u32> {
    let pair = |high: u32, low: u32| high << 16 | low;
    let mut tags = vec![
        pair(3356, 100 + number % 40),
        pair(3356, 2000 + number % 3),
        pair(65000, number % 90),
    ];
    if number.is_multiple_of(10) {
        tags.push(pair(65000, 120));
    }
    tags
}

/// The UPDATEs by which a peer announces its routes with this version.
pub(crate) fn announce(workload: &Workload, peer: u32, version: u8) -> Vec<u8> {
    announce_some(workload, peer, workload.routes_of(peer), version)
}

/// The same for some of its routes. A route that is announced again has the path it had when the first of these is a
/// multiple of the prefixes in one UPDATE away from its first route.
pub(crate) fn announce_some(workload: &Workload, peer: u32, some: Range<u32>, version: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let rich = workload.import != Import::Plain;
    let before = some.start.saturating_sub(workload.routes_of(peer).start);
    let first_number = before / workload.per_update as u32;
    let indices: Vec<u32> = some.collect();
    for (number, chunk) in (first_number..).zip(indices.chunks(workload.per_update)) {
        let mut attributes = Vec::new();
        attribute(&mut attributes, 0x40, 1, &[0]);
        let mut path = Vec::new();
        if workload.ebgp {
            // As on the Internet, the routes of different UPDATEs have different paths: nothing to share but these few.
            let between = if rich { transit(number) } else { Vec::new() };
            path.extend([2, 2 + between.len() as u8]);
            path.extend(workload.asn_of(peer).to_be_bytes());
            path.extend(between.iter().flat_map(|asn| asn.to_be_bytes()));
            path.extend((1_000_000 + number).to_be_bytes());
        }
        attribute(&mut attributes, 0x40, 2, &path);
        if let Some(first) = chunk.first().filter(|_| !workload.prefixes.v6) {
            let next_hop = workload.next_hop_of(peer, *first, version);
            attribute(&mut attributes, 0x40, 3, &next_hop.octets());
        }
        if !workload.ebgp {
            attribute(&mut attributes, 0x40, 5, &100u32.to_be_bytes());
        }
        let mut community = VERSION_TAG.to_be_bytes().to_vec();
        community.extend(u16::from(version).to_be_bytes());
        if rich {
            community.extend(tags(number).iter().flat_map(|tag| tag.to_be_bytes()));
        }
        attribute(&mut attributes, 0xC0, 8, &community);
        if rich {
            let large = [3356, 1, number % 7, 3356, 2, number % 50];
            let octets: Vec<u8> = large.iter().flat_map(|part: &u32| part.to_be_bytes()).collect();
            attribute(&mut attributes, 0xC0, 32, &octets);
        }
        let mut nlri = Vec::new();
        for index in chunk {
            push_prefix(&mut nlri, &workload.prefixes, *index);
        }
        if workload.prefixes.v6 {
            let mut reach = vec![0, 2, 1, 16];
            reach.extend(workload.next_hop6_of(peer).octets());
            reach.push(0);
            reach.append(&mut nlri);
            attribute(&mut attributes, 0x80, 14, &reach);
        }
        let mut body = vec![0, 0];
        body.extend((attributes.len() as u16).to_be_bytes());
        body.extend(attributes);
        body.extend(nlri);
        out.extend(message(2, &body));
    }
    out
}

/// The UPDATEs by which a peer withdraws its routes.
pub(crate) fn withdraw(workload: &Workload, peer: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let indices: Vec<u32> = workload.routes_of(peer).collect();
    for chunk in indices.chunks(workload.per_update) {
        let mut gone = Vec::new();
        for index in chunk {
            push_prefix(&mut gone, &workload.prefixes, *index);
        }
        let mut body = Vec::new();
        if workload.prefixes.v6 {
            let mut unreach = vec![0, 2, 1];
            unreach.extend(gone);
            let mut attributes = Vec::new();
            attribute(&mut attributes, 0x80, 15, &unreach);
            body.extend([0, 0]);
            body.extend((attributes.len() as u16).to_be_bytes());
            body.extend(attributes);
        } else {
            body.extend((gone.len() as u16).to_be_bytes());
            body.extend(gone);
            body.extend([0, 0]);
        }
        out.extend(message(2, &body));
    }
    out
}

/// Reads whole messages off the front of `buffer`; gives how many octets they took.
///
/// # Errors
/// When what is there is no BGP.
pub(crate) fn read(
    buffer: &[u8],
    prefixes: &Prefixes,
    mut kind: impl FnMut(Kind),
    mut heard: impl FnMut(u32, Heard),
) -> Result<usize, String> {
    let mut at = 0;
    while let Some(header) = buffer.get(at..at + HEADER) {
        let len = usize::from(u16::from_be_bytes([header[16], header[17]]));
        if header[..16] != [0xFF; 16] || len < HEADER {
            return Err(format!("no BGP message at octet {at}: length {len}"));
        }
        let Some(body) = buffer.get(at + HEADER..at + len) else {
            break;
        };
        kind(match header[18] {
            1 => Kind::Open,
            2 => {
                update(body, prefixes, &mut heard).ok_or("an UPDATE that ends in the middle")?;
                Kind::Update
            }
            3 => Kind::Notification(body.first().copied().unwrap_or(0), body.get(1).copied().unwrap_or(0)),
            4 => Kind::Keepalive,
            _ => Kind::Other,
        });
        at += len;
    }
    Ok(at)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])))
}

fn update(body: &[u8], prefixes: &Prefixes, heard: &mut impl FnMut(u32, Heard)) -> Option<()> {
    let withdrawn_len = u16_at(body, 0)?;
    let withdrawn = body.get(2..2 + withdrawn_len)?;
    each_prefix(withdrawn, prefixes, |i| heard(i, Heard::Withdrawn))?;
    let attributes_len = u16_at(body, 2 + withdrawn_len)?;
    let start = 4 + withdrawn_len;
    let attributes = body.get(start..start + attributes_len)?;
    let nlri = body.get(start + attributes_len..)?;

    let (mut version, mut reach) = (0, None);
    let mut at = 0;
    while at < attributes.len() {
        let (flags, code) = (*attributes.get(at)?, *attributes.get(at + 1)?);
        let (len, head) = if flags & 0x10 == 0 {
            (usize::from(*attributes.get(at + 2)?), 3)
        } else {
            (u16_at(attributes, at + 2)?, 4)
        };
        let value = attributes.get(at + head..at + head + len)?;
        match code {
            8 => version = version_of(value).unwrap_or(version),
            14 => reach = Some(value),
            15 => each_prefix(value.get(3..)?, prefixes, |i| heard(i, Heard::Withdrawn))?,
            _ => {}
        }
        at += head + len;
    }
    if let Some(value) = reach {
        let next_hop_len = usize::from(*value.get(3)?);
        each_prefix(value.get(5 + next_hop_len..)?, prefixes, |i| {
            heard(i, Heard::Announced(version))
        })?;
    }
    each_prefix(nlri, prefixes, |i| heard(i, Heard::Announced(version)))
}

fn version_of(communities: &[u8]) -> Option<u8> {
    let tag = VERSION_TAG.to_be_bytes();
    communities.chunks_exact(4).find(|c| c[..2] == tag).map(|c| c[3])
}

fn each_prefix(mut nlri: &[u8], prefixes: &Prefixes, mut found: impl FnMut(u32)) -> Option<()> {
    while let Some((&len, rest)) = nlri.split_first() {
        let octets = usize::from(len.div_ceil(8));
        let address = rest.get(..octets)?;
        let mut bits = [0u8; 16];
        bits.get_mut(..octets)?.copy_from_slice(address);
        if let Some(index) = prefixes.index(u128::from_be_bytes(bits), len) {
            found(index);
        }
        nlri = rest.get(octets..)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Workload;

    fn echo(workload: &Workload, bytes: &[u8]) -> Vec<(u32, Heard)> {
        let mut all = Vec::new();
        let taken = read(bytes, &workload.prefixes, |_| {}, |i, h| all.push((i, h))).unwrap();
        assert_eq!(taken, bytes.len());
        all
    }

    #[test]
    fn what_is_sent_is_what_is_counted() {
        for v6 in [false, true] {
            for ebgp in [false, true] {
                let workload = Workload {
                    ebgp,
                    ..Workload::reflector(3, 7)
                }
                .with_family(v6);
                let announced = echo(&workload, &announce(&workload, 1, 5));
                let want: Vec<_> = workload.routes_of(1).map(|i| (i, Heard::Announced(5))).collect();
                assert_eq!(announced, want);
                let gone = echo(&workload, &withdraw(&workload, 1));
                assert_eq!(
                    gone,
                    workload.routes_of(1).map(|i| (i, Heard::Withdrawn)).collect::<Vec<_>>()
                );
            }
        }
    }

    #[test]
    fn a_route_announced_again_differs_in_its_version_only() {
        let workload = Workload::full_table(40);
        let whole = announce(&workload, 0, 7);
        let (first, second) = (
            announce_some(&workload, 0, 0..20, 7),
            announce_some(&workload, 0, 20..40, 7),
        );
        assert_eq!(whole, [first, second].concat());
    }

    #[test]
    fn a_part_of_a_message_waits_and_noise_is_an_error() {
        let workload = Workload::reflector(1, 4);
        let bytes = announce(&workload, 0, 1);
        let half = read(&bytes[..bytes.len() - 1], &workload.prefixes, |_| {}, |_, _| {}).unwrap();
        assert!(half < bytes.len());
        assert!(read(&[0; 40], &workload.prefixes, |_| {}, |_, _| {}).is_err());
    }
}
