//! What the Node becomes: a pure function of what it is, what other nodes are, what is wanted, and the host's addresses.

use std::net::IpAddr;

use tortie_ipam::IpFamily;
use tortie_model::InterfaceAddr;
use tortie_model::resource::{Node, NodeAddress, NodeAddressType, NodeBgp, NodeSpec, OrchRef};
use tortie_net::{Asn, Prefix, RouterId};

use super::args::Wanted;
use super::autodetect::{Hints, Interface, Method, Undetected, detect, find};

/// What is wanted of one family.
#[derive(Debug, Clone)]
pub(crate) struct FamilyWish {
    pub(crate) family: IpFamily,
    pub(crate) wanted: Wanted,
    pub(crate) method: Method,
    pub(crate) hints: Hints,
}

/// What is wanted of the Node.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) name: String,
    pub(crate) families: [FamilyWish; 2],
    pub(crate) change_address: bool,
    pub(crate) conflict_check: bool,
    pub(crate) asn: Option<Asn>,
    pub(crate) cluster_id: Option<RouterId>,
    pub(crate) k8s_node: Option<String>,
}

/// What a person should hear about the addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Remarks {
    pub(crate) notes: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// Why the node cannot be registered so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unregistered {
    #[error(transparent)]
    Undetected(#[from] Undetected),
    #[error("{family} address {address} is of the other family")]
    WrongFamily { family: IpFamily, address: IpAddr },
    #[error(
        "{family} address {address} is that of Node({other}): two nodes cannot have it; choose another one here, or, if \
         {other} is gone, delete it (tortiectl delete node {other})"
    )]
    Claimed {
        family: IpFamily,
        address: IpAddr,
        other: String,
    },
}

fn address_of(bgp: Option<&NodeBgp>, family: IpFamily) -> Option<InterfaceAddr> {
    bgp.and_then(|b| match family {
        IpFamily::V4 => b.ipv4_address,
        IpFamily::V6 => b.ipv6_address,
    })
}

/// The Node as it is to be, made of the one there is.
pub(crate) fn plan(
    old: Option<&Node>,
    others: &[Node],
    wish: &Wish,
    interfaces: &[Interface],
) -> Result<(Node, Remarks), Unregistered> {
    let mut node = old
        .cloned()
        .unwrap_or_else(|| Node::new(&wish.name, NodeSpec::default()));
    let mut remarks = Remarks::default();
    let mut bgp = node.spec.bgp.take().unwrap_or_default();
    for family in &wish.families {
        let stored = address_of(Some(&bgp), family.family);
        let address = address(stored, family, wish.change_address, (interfaces, &mut remarks))?;
        match family.family {
            IpFamily::V4 => bgp.ipv4_address = address,
            IpFamily::V6 => bgp.ipv6_address = address,
        }
        if let Some(address) = address.filter(|_| wish.conflict_check)
            && let Some(other) = claimant(others, &wish.name, address.addr)
        {
            return Err(Unregistered::Claimed {
                family: family.family,
                address: address.addr,
                other,
            });
        }
    }
    if bgp.ipv4_address.is_none() && bgp.ipv6_address.is_none() {
        remarks
            .warnings
            .push("the node has no address: it speaks no BGP".to_owned());
    }
    bgp.as_number = wish.asn.or(bgp.as_number);
    bgp.route_reflector_cluster_id = wish.cluster_id.or(bgp.route_reflector_cluster_id);
    list_addresses(&mut node.spec, &bgp);
    node.spec.bgp = Some(bgp).filter(|b| *b != NodeBgp::default());
    if let Some(name) = &wish.k8s_node {
        node.spec.orch_refs.retain(|r| r.orchestrator != "k8s");
        node.spec.orch_refs.push(OrchRef {
            node_name: name.clone(),
            orchestrator: "k8s".to_owned(),
        });
    }
    Ok((node, remarks))
}

/// Another node that says the address is its own.
pub(crate) fn claimant(nodes: &[Node], own: &str, address: IpAddr) -> Option<String> {
    let mut others = nodes.iter().filter(|n| n.name() != own);
    let other = others.find(|n| n.spec.bgp_addresses().any(|a| a == address))?;
    Some(other.name().to_owned())
}

/// The BGP addresses among the addresses known of the node, as Calico lists them.
fn list_addresses(spec: &mut NodeSpec, bgp: &NodeBgp) {
    let is_bgp = |a: &NodeAddress| a.kind == Some(NodeAddressType::CalicoNodeIp);
    spec.addresses.retain(|a| !is_bgp(a));
    let own = [bgp.ipv4_address, bgp.ipv6_address].into_iter().flatten();
    spec.addresses.extend(own.map(|a| NodeAddress {
        address: a.to_string(),
        kind: Some(NodeAddressType::CalicoNodeIp),
    }));
}

fn address(
    stored: Option<InterfaceAddr>,
    wish: &FamilyWish,
    change: bool,
    (interfaces, remarks): (&[Interface], &mut Remarks),
) -> Result<Option<InterfaceAddr>, Unregistered> {
    let family = wish.family;
    let local = stored.and_then(|s| find(interfaces, s.addr));
    let chosen = match (wish.wanted, stored) {
        (Wanted::Fixed(address, len), _) => fixed(address, len, family, (interfaces, remarks))?,
        (Wanted::None, _) => return Ok(stored),
        (Wanted::Unsaid, None) if family == IpFamily::V6 => return Ok(None),
        (Wanted::Unsaid, Some(stored)) => {
            if local.is_none() {
                remarks.warnings.push(format!(
                    "{family} address {stored} of the Node is on no interface of this host: bring it up, or say --ip \
                     autodetect (--ip6 for IPv6)"
                ));
            }
            return Ok(Some(stored));
        }
        (Wanted::Detect | Wanted::Unsaid, _) => match (detect(&wish.method, family, interfaces, &wish.hints), &local) {
            (Ok(found), Some(live)) if found.address.addr != live.address.addr && !change => {
                remarks.warnings.push(format!(
                    "{family} address stays {}: it is in use, though {} gives {found}; say --change-address to take that one",
                    live.address, wish.method
                ));
                live.address
            }
            (Ok(found), _) => {
                remarks
                    .notes
                    .push(format!("{family} address {found} ({})", wish.method));
                found.address
            }
            (Err(e), Some(live)) => {
                remarks
                    .warnings
                    .push(format!("{family} address stays {}: {e}", live.address));
                live.address
            }
            (Err(e), None) => return Err(e.into()),
        },
    };
    if let Some(stored) = stored.filter(|s| *s != chosen) {
        remarks
            .notes
            .push(format!("{family} address changes from {stored} to {chosen}"));
    }
    Ok(Some(chosen))
}

/// An address a person chose: its length is looked up when it was not said.
fn fixed(
    address: IpAddr,
    len: Option<u8>,
    family: IpFamily,
    (interfaces, remarks): (&[Interface], &mut Remarks),
) -> Result<InterfaceAddr, Unregistered> {
    if address.is_ipv4() != (family == IpFamily::V4) {
        return Err(Unregistered::WrongFamily { family, address });
    }
    let found = find(interfaces, address);
    if found.is_none() {
        remarks.warnings.push(format!(
            "{family} address {address} is on no interface of this host (yet?)"
        ));
    }
    let looked_up = found.map_or(Prefix::host(address).len(), |f| f.address.len);
    Ok(InterfaceAddr {
        addr: address,
        len: len.unwrap_or(looked_up),
    })
}

#[cfg(test)]
mod tests {
    use super::super::autodetect::Address;
    use super::*;

    fn host(addresses: &[(&str, &str)]) -> Vec<Interface> {
        let interface = |(name, address): &(&str, &str)| Interface {
            name: (*name).to_owned(),
            up: true,
            addresses: vec![Address {
                address: address.parse().unwrap(),
                secondary: false,
                temporary: false,
                unusable: false,
                permanent: true,
            }],
        };
        addresses.iter().map(interface).collect()
    }

    fn wish(ip: &str, method: &str) -> Wish {
        let family = |family, wanted: &str| FamilyWish {
            family,
            wanted: wanted.parse().unwrap(),
            method: method.parse().unwrap(),
            hints: Hints::default(),
        };
        Wish {
            name: "n1".to_owned(),
            families: [family(IpFamily::V4, ip), family(IpFamily::V6, "")],
            change_address: false,
            conflict_check: true,
            asn: None,
            cluster_id: None,
            k8s_node: None,
        }
    }

    fn node(name: &str, address: &str) -> Node {
        let bgp = NodeBgp {
            ipv4_address: Some(address.parse().unwrap()),
            ..NodeBgp::default()
        };
        let spec = NodeSpec {
            bgp: Some(bgp),
            ..NodeSpec::default()
        };
        Node::new(name, spec)
    }

    fn planned(old: Option<&Node>, wish: &Wish, host: &[Interface]) -> (String, Remarks) {
        let (node, remarks) = plan(old, &[], wish, host).unwrap();
        let address = node.spec.bgp.and_then(|b| b.ipv4_address);
        (address.map_or("none".to_owned(), |a| a.to_string()), remarks)
    }

    #[test]
    fn a_new_node_gets_what_is_detected_and_what_was_said() {
        let mut wish = wish("", "first-found");
        wish.asn = Some(Asn(65001));
        wish.cluster_id = Some("1.0.0.1".parse().unwrap());
        wish.k8s_node = Some("N1.example".to_owned());
        let (node, remarks) = plan(None, &[], &wish, &host(&[("eth0", "10.0.0.5/24")])).unwrap();
        let json = serde_json::to_value(&node.spec).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "bgp": {"asNumber": 65001, "ipv4Address": "10.0.0.5/24", "routeReflectorClusterID": "1.0.0.1"},
                "orchRefs": [{"nodeName": "N1.example", "orchestrator": "k8s"}],
                "addresses": [{"address": "10.0.0.5/24", "type": "CalicoNodeIP"}]
            })
        );
        assert_eq!(remarks.notes, ["IPv4 address 10.0.0.5/24 on eth0 (first-found)"]);
        assert_eq!(remarks.warnings, [""; 0]);
        let again = plan(Some(&node), &[], &wish, &host(&[("eth0", "10.0.0.5/24")]))
            .unwrap()
            .0;
        assert_eq!(again, node, "a second time changes nothing");
    }

    #[test]
    fn a_live_address_is_never_changed_silently() {
        let both = host(&[("eth0", "10.0.0.5/24"), ("eth1", "10.1.0.5/24")]);
        let old = node("n1", "10.0.0.5/24");
        let (address, remarks) = planned(Some(&old), &wish("autodetect", "interface=eth1"), &both);
        assert_eq!(address, "10.0.0.5/24");
        assert!(remarks.warnings[0].contains("interface=eth1 gives 10.1.0.5/24 on eth1; say --change-address"));
        let mut change = wish("autodetect", "interface=eth1");
        change.change_address = true;
        let (address, remarks) = planned(Some(&old), &change, &both);
        assert_eq!(address, "10.1.0.5/24");
        assert!(
            remarks
                .notes
                .contains(&"IPv4 address changes from 10.0.0.5/24 to 10.1.0.5/24".to_owned())
        );
        // Detection that fails does not take the address away either.
        let (address, remarks) = planned(Some(&old), &wish("autodetect", "first-found"), &both);
        assert_eq!(address, "10.0.0.5/24");
        assert!(remarks.warnings[0].contains("ambiguous"), "{remarks:?}");
        // One that has gone from the host is not live.
        let renumbered = host(&[("eth0", "10.0.0.9/24")]);
        let (address, remarks) = planned(Some(&old), &wish("autodetect", "first-found"), &renumbered);
        assert_eq!(address, "10.0.0.9/24");
        assert!(remarks.notes[1].contains("from 10.0.0.5/24 to 10.0.0.9/24"));
        let (address, remarks) = planned(Some(&old), &wish("", "first-found"), &renumbered);
        assert_eq!((address.as_str(), remarks.warnings.len()), ("10.0.0.5/24", 1));
    }

    #[test]
    fn what_a_person_says_counts() {
        let host = host(&[("eth0", "10.0.0.5/24")]);
        assert_eq!(planned(None, &wish("10.0.0.5", "first-found"), &host).0, "10.0.0.5/24");
        assert_eq!(
            planned(None, &wish("10.0.0.5/16", "first-found"), &host).0,
            "10.0.0.5/16"
        );
        let (address, remarks) = planned(None, &wish("10.9.0.5", "first-found"), &host);
        assert_eq!(address, "10.9.0.5/32");
        assert!(remarks.warnings[0].contains("on no interface"));
        let (address, remarks) = planned(None, &wish("none", "first-found"), &host);
        assert_eq!(address, "none");
        assert!(remarks.warnings[0].contains("speaks no BGP"));
        let refused = plan(None, &[], &wish("fd00::1", "first-found"), &host).unwrap_err();
        assert!(refused.to_string().contains("other family"));
    }

    #[test]
    fn another_nodes_claim_names_it() {
        let host = host(&[("eth0", "10.0.0.5/24")]);
        let others = [node("n1", "10.0.0.5/24"), node("n2", "10.0.0.5/16")];
        let refused = plan(None, &others, &wish("", "first-found"), &host).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("IPv4 address 10.0.0.5 is that of Node(n2)"),
            "{refused}"
        );
        let mut careless = wish("", "first-found");
        careless.conflict_check = false;
        assert!(plan(None, &others, &careless, &host).is_ok());
    }
}
