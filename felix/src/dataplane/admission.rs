//! What a peer may never take from this node, whatever it advertises.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tortie_calc::Update;
use tortie_model::InterfaceAddr;
use tortie_net::{NodeName, Prefix, PrefixMap};

use super::view::View;
use super::why::Refused;

/// This node's own prefixes, as the datastore has them.
#[derive(Debug, Default)]
pub(super) struct Own {
    blocks: PrefixMap<()>,
    /// Addresses of blocks that a node other than the owner uses: within our own blocks, those peers may take.
    borrowed: BTreeMap<IpAddr, NodeName>,
    addresses: Vec<InterfaceAddr>,
}

impl Own {
    /// Takes what concerns it of an update; gives the prefixes under which the answer may have changed.
    pub(super) fn apply(&mut self, update: &Update) -> Vec<Prefix> {
        match update {
            Update::OwnBlock(block, true) => {
                self.blocks.insert(*block, ());
                vec![*block]
            }
            Update::OwnBlock(block, false) => {
                self.blocks.remove(*block);
                vec![*block]
            }
            Update::Borrowed(ip, node) => {
                match node {
                    Some(node) => self.borrowed.insert(*ip, node.clone()),
                    None => self.borrowed.remove(ip),
                };
                vec![Prefix::host(*ip)]
            }
            Update::NodeAddresses(addresses) => {
                let before = std::mem::replace(&mut self.addresses, addresses.clone());
                before.iter().chain(addresses).map(|a| a.network()).collect()
            }
            Update::Endpoint(..)
            | Update::Remote(..)
            | Update::Pool(..)
            | Update::Tunnel(..)
            | Update::Vtep(..)
            | Update::Host(..)
            | Update::Floating(..)
            | Update::Peering(_)
            | Update::Settings(_) => Vec::new(),
        }
    }

    /// Does this node own this very block?
    pub(super) fn owns(&self, block: Prefix) -> bool {
        self.blocks.get(block).is_some()
    }

    /// May a peer's route to this prefix be used?
    ///
    /// # Errors
    /// Why not.
    pub(super) fn admit(&self, prefix: Prefix, view: &View) -> Result<(), Refused> {
        if prefix.len() == 0 {
            return Err(Refused::DefaultRoute);
        }
        if is_martian(prefix) {
            return Err(Refused::Martian);
        }
        if let Some((block, ())) = self.blocks.longest_match(prefix)
            && !(prefix.is_host() && self.borrowed.contains_key(&prefix.addr()))
        {
            return Err(Refused::OwnBlock(block));
        }
        let own_address = |ip| self.addresses.iter().any(|a| a.addr == ip) || view.is_own(ip);
        if prefix.is_host() && own_address(prefix.addr()) {
            return Err(Refused::NodeAddress);
        }
        let mut stored = self.addresses.iter().map(|a| a.network()).filter(|n| !n.is_host());
        let stored = stored.find(|subnet| subnet.covers(prefix));
        match stored.or_else(|| view.subnet_over(prefix)) {
            Some(subnet) => Err(Refused::NodeSubnet(subnet)),
            None => Ok(()),
        }
    }
}

fn is_martian(prefix: Prefix) -> bool {
    match prefix.addr() {
        IpAddr::V4(a) => {
            a.is_loopback() || a.is_link_local() || a.is_multicast() || a.is_broadcast() || a.octets()[0] == 0
        }
        IpAddr::V6(a) => a.is_loopback() || a.is_unicast_link_local() || a.is_multicast() || a.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::marks::Marks;
    use tortie_netlink::route::{IfIndex, Interface, InterfaceAddress};

    fn p(s: &str) -> Prefix {
        s.parse().unwrap()
    }

    #[test]
    fn what_a_peer_may_not_take() {
        let interface = |index, name: &str| Interface {
            index: IfIndex(index),
            name: name.into(),
            up: true,
            carrier: true,
        };
        let address = |index, text| {
            let (address, subnet) = Prefix::parse_with_address(text).unwrap();
            InterfaceAddress {
                interface: IfIndex(index),
                address,
                subnet,
            }
        };
        let interfaces = vec![interface(1, "lo"), interface(2, "eth0"), interface(3, "cali1")];
        let addresses = vec![
            address(1, "192.0.2.1/32"),
            address(2, "172.30.0.11/24"),
            address(3, "198.51.100.1/24"),
        ];
        let (view, _) = View::load(interfaces, addresses, vec![], Marks::default());
        let mut own = Own::default();
        own.apply(&Update::OwnBlock(p("10.244.0.0/26"), true));
        own.apply(&Update::Borrowed(
            "10.244.0.9".parse().unwrap(),
            Some("n2".parse().unwrap()),
        ));
        own.apply(&Update::NodeAddresses(vec!["10.99.0.1/24".parse().unwrap()]));
        let block = Refused::OwnBlock(p("10.244.0.0/26"));
        let subnet = Refused::NodeSubnet(p("172.30.0.0/24"));
        for (prefix, want) in [
            ("0.0.0.0/0", Err(Refused::DefaultRoute)),
            ("::/0", Err(Refused::DefaultRoute)),
            ("127.0.0.0/8", Err(Refused::Martian)),
            ("169.254.1.1/32", Err(Refused::Martian)),
            ("fe80::/64", Err(Refused::Martian)),
            ("10.244.0.0/26", Err(block)),
            ("10.244.0.8/32", Err(block)),
            ("10.244.0.8/31", Err(block)),
            ("10.244.0.9/32", Ok(())),
            ("10.244.0.0/16", Ok(())),
            ("10.244.1.0/26", Ok(())),
            ("172.30.0.0/24", Err(subnet)),
            ("172.30.0.128/25", Err(subnet)),
            ("172.30.0.11/32", Err(Refused::NodeAddress)),
            ("192.0.2.1/32", Err(Refused::NodeAddress)),
            ("192.0.2.0/24", Ok(())),
            ("10.99.0.7/32", Err(Refused::NodeSubnet(p("10.99.0.0/24")))),
            ("198.51.100.0/25", Ok(())),
        ] {
            assert_eq!(own.admit(p(prefix), &view), want, "{prefix}");
        }
    }
}
