use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use tortie_model::{Key, Kind};

use super::*;
use crate::state::ClusterState;

fn state(node: &str, resources: &[serde_json::Value]) -> ClusterState {
    let mut state = ClusterState::new(node.parse().unwrap());
    for (index, resource) in resources.iter().enumerate() {
        let kind = Kind::from_name(resource["kind"].as_str().unwrap()).unwrap();
        let key = Key::resource(kind, None, resource["metadata"]["name"].as_str().unwrap());
        assert!(state.set(&key.to_string(), resource.to_string().as_bytes(), index as u64 + 1));
    }
    assert!(state.unreadable.is_empty(), "{:?}", state.unreadable);
    state
}

fn view(node: &str, resources: &[serde_json::Value]) -> BgpView {
    compute(&state(node, resources), RouterIdChoice::Auto).unwrap()
}

/// A node of an arbitrary cluster.
#[derive(Debug, Clone)]
struct AnyNode {
    v4: bool,
    v6: bool,
    asn: Option<u32>,
    reflector: bool,
    labels: [bool; 2],
    port: Option<u16>,
}

fn any_node() -> impl Strategy<Value = AnyNode> {
    let asn = prop_oneof![3 => Just(None), 1 => (65000u32..65003).prop_map(Some)];
    let port = prop_oneof![4 => Just(None), 1 => Just(Some(1790))];
    (
        any::<bool>(),
        any::<bool>(),
        asn,
        prop::bool::weighted(0.2),
        any::<[bool; 2]>(),
        port,
    )
        .prop_map(|(v4, v6, asn, reflector, labels, port)| AnyNode {
            v4,
            v6,
            asn,
            reflector,
            labels,
            port,
        })
}

fn resources(nodes: &[AnyNode], mesh: bool, peers: &[(u8, u8)]) -> Vec<serde_json::Value> {
    let mut all = vec![serde_json::json!({
        "kind": "BGPConfiguration", "metadata": {"name": "default"}, "spec": {"nodeToNodeMeshEnabled": mesh}
    })];
    for (i, n) in nodes.iter().enumerate() {
        let mut bgp = serde_json::Map::new();
        if n.v4 {
            bgp.insert("ipv4Address".into(), format!("172.30.{}.{}/24", i % 2, i + 1).into());
        }
        if n.v6 {
            bgp.insert("ipv6Address".into(), format!("fd00:30::{:x}/64", i + 1).into());
        }
        if let Some(asn) = n.asn {
            bgp.insert("asNumber".into(), asn.into());
        }
        if n.reflector {
            bgp.insert("routeReflectorClusterID".into(), "224.0.0.1".into());
        }
        let labels: BTreeMap<String, String> = (0..2).map(|l| (format!("l{l}"), n.labels[l].to_string())).collect();
        let name = format!("n{i}");
        all.push(serde_json::json!({
            "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {"bgp": bgp}
        }));
        if let Some(port) = n.port {
            all.push(serde_json::json!({
                "kind": "BGPConfiguration", "metadata": {"name": format!("node.{name}")}, "spec": {"listenPort": port}
            }));
        }
    }
    let selector = |label: u8| match label {
        0 | 1 => format!("l{label} == 'true'"),
        _ => "all()".to_owned(),
    };
    for (i, (local, remote)) in peers.iter().enumerate() {
        all.push(serde_json::json!({
            "kind": "BGPPeer", "metadata": {"name": format!("p{i}")},
            "spec": {"nodeSelector": selector(*local), "peerSelector": selector(*remote)}
        }));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the cluster: two nodes agree on whether they have a session, between which addresses, with which families
    /// and AS numbers; in the mesh exactly one of them dials.
    #[test]
    fn both_ends_of_a_session_agree(
        nodes in prop::collection::vec(any_node(), 2..6),
        mesh in any::<bool>(),
        peers in prop::collection::vec((0u8..3, 0u8..3), 0..3),
    ) {
        let resources = resources(&nodes, mesh, &peers);
        let views: Vec<BgpView> = (0..nodes.len()).map(|i| view(&format!("n{i}"), &resources)).collect();
        for a in &views {
            for p in &a.peers {
                let own = p.source_address.unwrap();
                let b = views.iter().find(|v| Some(&v.node) == p.remote_node.as_ref()).unwrap();
                let back: Vec<_> = b.peers.iter().filter(|q| q.address == own).collect();
                prop_assert_eq!(back.len(), 1, "{} -> {}", a.node, b.node);
                let q = back[0];
                prop_assert_eq!(q.source_address, Some(p.address));
                prop_assert_eq!(q.asn, a.asn);
                prop_assert_eq!(p.asn, b.asn);
                prop_assert_eq!(p.internal, q.internal);
                prop_assert_eq!(p.port, b.listen_port);
                prop_assert_eq!(p.kind == PeerKind::Mesh, q.kind == PeerKind::Mesh);
                prop_assert!(p.kind != PeerKind::Mesh || (p.passive != q.passive));
                prop_assert!(!(p.passive && q.passive), "nobody dials");
                let families = |peer: &PeerView| peer.channels.iter().map(|c| c.family).collect::<Vec<_>>();
                prop_assert_eq!(families(p), families(q));
            }
        }
    }

    /// Names are unique, every channel's policies and every policy's functions exist.
    #[test]
    fn a_view_is_whole(
        nodes in prop::collection::vec(any_node(), 2..6),
        peers in prop::collection::vec((0u8..3, 0u8..3), 0..3),
    ) {
        let view = view("n0", &resources(&nodes, true, &peers));
        let names: BTreeSet<&str> = view.peers.iter().map(|p| p.name.as_str()).collect();
        prop_assert_eq!(names.len(), view.peers.len());
        let addresses: BTreeSet<IpAddr> = view.peers.iter().map(|p| p.address).collect();
        prop_assert_eq!(addresses.len(), view.peers.len());
        for channel in view.peers.iter().flat_map(|p| &p.channels) {
            for name in [&channel.import, &channel.export] {
                prop_assert!(view.policies.iter().any(|p| p.name == *name && p.family == channel.family));
            }
        }
    }
}

#[test]
fn state_keeps_the_last_good_version_of_what_it_cannot_read() {
    let good = serde_json::json!({"kind": "BGPPeer", "metadata": {"name": "tor"}, "spec": {"peerIP": "10.0.0.1", "asNumber": 1}});
    let node = serde_json::json!({"kind": "Node", "metadata": {"name": "n1"}, "spec": {"bgp": {"ipv4Address": "10.0.0.2/24"}}});
    let mut state = state("n1", &[node, good]);
    let key = "/calico/resources/v3/projectcalico.org/bgppeers/tor";
    assert!(state.set(key, br#"{"spec":{"peerIP":"not an address"}}"#, 7));
    let view = compute(&state, RouterIdChoice::Auto).unwrap();
    assert_eq!(view.peers.len(), 1);
    let [problem] = view.problems.as_slice() else {
        panic!("{:?}", view.problems)
    };
    assert_eq!((problem.object.name.as_str(), problem.object.revision), ("tor", 7));
    assert!(state.delete(key));
    let view = compute(&state, RouterIdChoice::Auto).unwrap();
    assert!(view.peers.is_empty() && view.problems.is_empty());
    assert!(!state.delete(key), "deleting again changes nothing");
}

#[test]
fn other_nodes_workloads_and_blocks_are_not_looked_at() {
    let mut state = ClusterState::new("n-1".parse().unwrap());
    let workload = |name: &str, node: &str| {
        let key = format!("/calico/resources/v3/projectcalico.org/workloadendpoints/web/{name}");
        (
            key,
            format!(
                r#"{{"kind":"WorkloadEndpoint","metadata":{{"name":"{name}","namespace":"web"}},"spec":{{"node":"{node}"}}}}"#
            ),
        )
    };
    for (name, node, ours) in [
        ("n--1-k8s-a-eth0", "n-1", true),
        ("n-1-k8s-a-eth0", "n", false),
        ("n--1-k8s-b-eth0", "n", false),
    ] {
        let (key, json) = workload(name, node);
        assert_eq!(state.set(&key, json.as_bytes(), 1), ours, "{name}");
    }
    assert!(!state.set("/calico/ipam/v2/host/n2/ipv4/block/10.0.0.0-26", b"{}", 2));
    assert!(
        state.set("/calico/ipam/v2/host/n-1/ipv4/block/10.0.0.0-26", b"", 2),
        "an empty affinity is confirmed"
    );
    assert!(!state.set("/nonsense", b"{}", 3));
    assert_eq!((state.endpoints.len(), state.affinities.len()), (1, 1));
}

#[test]
fn router_ids() {
    for bad in ["x", "0.0.0.0", "1.2.3", "1.2.3.4.5"] {
        assert!(bad.parse::<RouterIdChoice>().is_err(), "{bad}");
    }
    assert_eq!(
        "10.0.0.1".parse(),
        Ok(RouterIdChoice::Fixed(std::net::Ipv4Addr::new(10, 0, 0, 1).into()))
    );
    let first = |name: &str| {
        hashed(&name.parse().unwrap())
            .to_string()
            .split('.')
            .next()
            .map(|o| o.parse::<u8>())
    };
    for i in 0..500 {
        let octet = first(&format!("node-{i}")).unwrap().unwrap();
        assert!(octet <= 223, "node-{i} has {octet}");
    }
}
