//! Prefixes as the kernel's interval sets have them: disjoint ranges, each with its first address and the one behind its
//! last.

use std::collections::BTreeSet;

use tortie_net::Prefix;

use super::Family;

/// The members of a set as its elements: an address, and whether a range ends before it.
pub(super) fn elements(family: Family, members: &BTreeSet<Prefix>) -> BTreeSet<(Vec<u8>, bool)> {
    let width = if family == Family::V4 { 4 } else { 16 };
    let highest = u128::MAX >> (128 - 8 * width);
    let octets = |n: u128| n.to_be_bytes()[16 - width..].to_vec();
    let mut elements = BTreeSet::new();
    for (first, last) in merged(family, members) {
        elements.insert((octets(first), false));
        if last < highest {
            elements.insert((octets(last + 1), true));
        }
    }
    elements
}

/// Ranges by their first and last address, disjoint and with something between them.
fn merged(family: Family, members: &BTreeSet<Prefix>) -> Vec<(u128, u128)> {
    let of_family = members.iter().filter(|p| family.is_of(p.addr()));
    let mut ranges: Vec<(u128, u128)> = of_family.map(|p| range(*p)).collect();
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn range(prefix: Prefix) -> (u128, u128) {
    let (first, width) = match prefix.addr() {
        std::net::IpAddr::V4(a) => (u128::from(u32::from(a)), 32),
        std::net::IpAddr::V6(a) => (u128::from(a), 128),
    };
    let free = width - u32::from(prefix.len());
    let size_less_one = 1u128.checked_shl(free).map_or(u128::MAX, |size| size - 1);
    (first, first | size_less_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(family: Family, prefixes: &[&str]) -> Vec<String> {
        let members = prefixes.iter().map(|p| p.parse().unwrap()).collect();
        let text = |(octets, end): (Vec<u8>, bool)| {
            let address = match <[u8; 4]>::try_from(octets.clone()) {
                Ok(v4) => std::net::IpAddr::from(v4),
                Err(_) => std::net::IpAddr::from(<[u8; 16]>::try_from(octets).unwrap()),
            };
            format!("{address}{}", if end { " end" } else { "" })
        };
        elements(family, &members).into_iter().map(text).collect()
    }

    #[test]
    fn ranges_are_disjoint_whatever_the_prefixes_are() {
        use Family::{V4, V6};
        assert_eq!(of(V4, &[]), [""; 0]);
        assert_eq!(of(V4, &["10.0.0.0/16", "fd00::/8"]), ["10.0.0.0", "10.1.0.0 end"]);
        assert_eq!(
            of(V4, &["10.0.0.0/16", "10.0.3.0/24", "10.1.0.0/16", "10.3.0.0/16"]),
            ["10.0.0.0", "10.2.0.0 end", "10.3.0.0", "10.4.0.0 end"]
        );
        assert_eq!(of(V4, &["0.0.0.0/0"]), ["0.0.0.0"]);
        assert_eq!(of(V4, &["255.255.255.255/32"]), ["255.255.255.255"]);
        assert_eq!(of(V6, &["::/0", "fd00::1/128"]), ["::"]);
        assert_eq!(of(V6, &["fd00::1/128", "1.2.3.4/32"]), ["fd00::1", "fd00::2 end"]);
        assert_eq!(of(V6, &["ff00::/8"]), ["ff00::"]);
    }
}
