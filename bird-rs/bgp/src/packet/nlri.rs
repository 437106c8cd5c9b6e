//! Prefixes on the wire (RFC 4271 section 4.3, RFC 7911).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tortie_net::Prefix;

use super::wire::Reader;
use super::{AfiSafi, Nlri};

/// Reads prefixes to the end. `None`: a length beyond the family's, or octets missing. Bits beyond a prefix's length
/// have no meaning and are cleared.
pub(super) fn decode(bytes: &[u8], family: AfiSafi, add_path: bool) -> Option<Vec<Nlri>> {
    let mut reader = Reader::new(bytes);
    let mut nlri = Vec::with_capacity(bytes.len() / 4);
    while !reader.is_empty() {
        let path_id = if add_path { reader.u32()? } else { 0 };
        let length = reader.u8()?;
        let octets = reader.take(usize::from(length.div_ceil(8)))?;
        nlri.push(Nlri {
            path_id,
            prefix: prefix(octets, length, family)?,
        });
    }
    Some(nlri)
}

pub(crate) fn prefix(octets: &[u8], length: u8, family: AfiSafi) -> Option<Prefix> {
    let mut full = [0; 16];
    full.get_mut(..octets.len())?.copy_from_slice(octets);
    let bits = u128::from_be_bytes(full);
    let addr = match family {
        AfiSafi::Ipv4Unicast => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits >> 96).ok()?)),
        AfiSafi::Ipv6Unicast => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    };
    Prefix::new(addr, length).ok()
}

/// Writes one prefix.
pub(crate) fn encode(nlri: Nlri, add_path: bool, out: &mut Vec<u8>) {
    if add_path {
        out.extend(nlri.path_id.to_be_bytes());
    }
    let length = nlri.prefix.len();
    out.push(length);
    let octets = usize::from(length.div_ceil(8));
    match nlri.prefix.addr() {
        IpAddr::V4(addr) => out.extend_from_slice(addr.octets().get(..octets).unwrap_or_default()),
        IpAddr::V6(addr) => out.extend_from_slice(addr.octets().get(..octets).unwrap_or_default()),
    }
}
