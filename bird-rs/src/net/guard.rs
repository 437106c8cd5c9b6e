//! Whose connections must have come over few hops (RFC 5082), known before anything of theirs is read.

use std::collections::HashMap;
use std::net::IpAddr;

use tortie_bgp::config::{Config, Neighbor, ProtocolKind};
use tortie_net::Prefix;

/// The least TTL that packets of each peer must arrive with.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// Peers with an address, those without `ttl security` too: theirs is not their range's.
    peers: HashMap<IpAddr, Option<u8>>,
    /// Ranges of dynamic peers. Where they overlap the strictest holds, whichever of them is enabled.
    ranges: Vec<(Prefix, Option<u8>)>,
}

impl Guard {
    /// As a configuration has it.
    pub(crate) fn new(config: &Config) -> Self {
        let mut guard = Guard::default();
        // Disabled ones too: they may be enabled at any time.
        for protocol in &config.protocols {
            let ProtocolKind::Bgp(bgp) = &protocol.kind else {
                continue;
            };
            let hops = bgp.transport.multihop.unwrap_or(1);
            let min = bgp.transport.ttl_security.then(|| 0_u8.wrapping_sub(hops));
            match bgp.neighbor {
                // Several protocols may have the same address on different local ones: the strictest holds.
                Neighbor::Address(address) => {
                    let known = guard.peers.entry(address).or_default();
                    *known = min.max(*known);
                }
                Neighbor::Range { prefix, .. } => guard.ranges.push((prefix, min)),
            }
        }
        guard
    }

    /// The least TTL of packets from there; `None`: any.
    pub(crate) fn min_ttl(&self, remote: IpAddr) -> Option<u8> {
        let remote = remote.to_canonical();
        match self.peers.get(&remote) {
            Some(min) => *min,
            None => {
                let ranges = self.ranges.iter().filter(|(range, _)| range.contains(remote));
                ranges.filter_map(|(_, min)| *min).max()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tortie_bgp::config::{NoInclude, parse};

    use super::*;

    #[test]
    fn peers_and_ranges_are_guarded_each_by_its_own_protocol() {
        let session = |name: &str, neighbor: &str, options: &str| {
            format!(
                "protocol bgp {name} {{ local as 1; neighbor {neighbor} external; {options} ipv4 {{ import all; export all; }}; }}\n"
            )
        };
        let text = session("a", "10.0.0.2", "ttl security;")
            + &session("b", "10.0.0.3", "multihop 3; ttl security;")
            + &session("c", "10.1.0.9", "")
            + &session("d", "range 10.1.0.0/16", "ttl security;")
            + &session("e", "range 10.0.0.0/8", "")
            + &session("f", "range fd00::/64", "ttl security; multihop 2;");
        let guard = Guard::new(&parse("x.conf", &text, &mut NoInclude).unwrap());
        for (address, min) in [
            ("10.0.0.2", Some(255)),
            ("10.0.0.3", Some(253)),
            ("10.1.0.9", None),
            ("10.1.0.10", Some(255)),
            ("::ffff:10.1.0.10", Some(255)),
            ("10.2.0.1", None),
            ("fd00::7", Some(254)),
            ("fd01::7", None),
        ] {
            assert_eq!(guard.min_ttl(address.parse().unwrap()), min, "{address}");
        }
    }
}
