//! Lists of interface patterns: which addresses of which interfaces they select.

use std::net::IpAddr;

use super::protocol::InterfacePattern;

impl InterfacePattern {
    /// Does a list select an address of an interface? The first pattern that matches decides.
    pub fn selects(list: &[InterfacePattern], interface: &str, address: IpAddr) -> bool {
        let matches = |pattern: &&InterfacePattern| {
            pattern
                .name
                .as_deref()
                .is_none_or(|mask| shell_match(mask.as_bytes(), interface.as_bytes()))
                && pattern.prefix.is_none_or(|prefix| prefix.contains(address))
        };
        list.iter().find(matches).is_some_and(|pattern| pattern.positive)
    }
}

/// Shell patterns with `*` and `?`.
fn shell_match(mask: &[u8], name: &[u8]) -> bool {
    match (mask.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            shell_match(rest, name) || name.split_first().is_some_and(|(_, after)| shell_match(mask, after))
        }
        (Some((b'?', rest)), Some((_, after))) => shell_match(rest, after),
        (Some((expected, rest)), Some((got, after))) => expected == got && shell_match(rest, after),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_patterns() {
        for (mask, name, expected) in [
            ("*", "eth0", true),
            ("eth*", "eth0", true),
            ("eth?", "eth", false),
            ("*0", "eth10", true),
            ("lo", "lo0", false),
        ] {
            assert_eq!(shell_match(mask.as_bytes(), name.as_bytes()), expected, "{mask} {name}");
        }
    }
}
