use super::*;

fn round_trip<T: serde::Serialize>(json: &str, typed: &T) {
    let want: Value = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), want);
}

/// Calico's own documents, with a field nobody knows in every object that may grow.
#[test]
fn calicos_documents_survive_a_round_trip() {
    let pool = r#"{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"lab-pool","uid":"0e6c",
        "creationTimestamp":"2026-05-01T10:00:00Z","generation":3},"spec":{"cidr":"10.50.0.0/16","vxlanMode":"Never",
        "ipipMode":"Never","natOutgoing":true,"blockSize":26,"nodeSelector":"all()","allowedUses":["Workload","Tunnel"],
        "assignmentMode":"Automatic","future":{"a":[1]}},"status":{"conditions":[]},"more":1}"#;
    let key = Key::resource(Kind::IpPool, None, "lab-pool");
    let Object::IpPool(p) = decode(&key, pool.as_bytes()).unwrap() else {
        panic!()
    };
    assert_eq!(p.spec.block_size(), 26);
    assert!(p.spec.allows(AllowedUse::Tunnel) && !p.spec.allows(AllowedUse::LoadBalancer));
    round_trip(pool, &p);

    let node = r#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1","labels":{"rack":"r1"}},
        "spec":{"bgp":{"asNumber":64600,"ipv4Address":"172.16.3.11/24","ipv4IPIPTunnelAddr":"10.50.7.64",
        "routeReflectorClusterID":"1.0.0.1"},"orchRefs":[{"nodeName":"n1","orchestrator":"k8s"}],
        "wireguard":{"interfaceIPv4Address":"10.0.0.1"}},"status":{}}"#;
    let Object::Node(n) = decode(&Key::resource(Kind::Node, None, "n1"), node.as_bytes()).unwrap() else {
        panic!()
    };
    assert_eq!(n.spec.bgp_addresses().count(), 1);
    round_trip(node, &n);

    let filter = r#"{"kind":"BGPFilter","apiVersion":"projectcalico.org/v3","metadata":{"name":"f"},"spec":{"exportV4":[
        {"action":"Accept","cidr":"10.50.0.0/16","matchOperator":"In","prefixLength":{"min":16,"max":26},
        "operations":[{"addCommunity":{"value":"64600:20"}}]},{"action":"Reject"}]}}"#;
    let Object::BgpFilter(f) = decode(&Key::resource(Kind::BgpFilter, None, "f"), filter.as_bytes()).unwrap() else {
        panic!()
    };
    round_trip(filter, &f);

    let block = r#"{"cidr":"10.50.7.64/30","affinity":"host:n1","affinity_claim_time":"2026-05-01T10:00:00Z",
        "allocations":[0,null,1,2],"unallocated":[1],"attributes":[
        {"handle_id":"ipip-tunnel-addr-n1","secondary":{"node":"n1","type":"ipipTunnelAddress"}},
        {"handle_id":"k8s-pod-network.6fd1","secondary":{"pod":"web-0"},"alternateOwnerAttrs":{"x":"y"}},
        {"releasedAt":"2026-05-01T10:05:00Z"}],"sequenceNumber":1777630000000000007,
        "sequenceNumberForAllocation":{"0":1777630000000000001,"2":1777630000000000003},"deleted":false,
        "future":18446744073709551615}"#;
    let key = Key::Block("10.50.7.64/30".parse().unwrap());
    let Object::Block(b) = decode(&key, block.as_bytes()).unwrap() else {
        panic!()
    };
    assert_eq!(b.sequence_number, 1_777_630_000_000_000_007);
    round_trip(block, &b);
}

#[test]
fn old_documents_are_read() {
    let cidr: tortie_net::Prefix = "10.50.7.64/26".parse().unwrap();
    let affinity = Key::Affinity {
        owner: crate::key::Owner::Host("n1".parse().unwrap()),
        cidr,
    };
    for old in ["", "{}", r#"{"state":""}"#] {
        let Object::Affinity(a) = decode(&affinity, old.as_bytes()).unwrap() else {
            panic!()
        };
        assert_eq!(a.state, AffinityState::Confirmed, "{old:?}");
    }
    let old = r#"{"cidr":"10.50.7.64/26","hostAffinity":"n1","strictAffinity":false,"affinity":null}"#;
    let Object::Block(b) = decode(&Key::Block(cidr), old.as_bytes()).unwrap() else {
        panic!()
    };
    assert_eq!(b.affinity.unwrap().to_string(), "host:n1");
    let Object::Handle(h) = decode(&Key::Handle("h".into()), br#"{"block":null}"#).unwrap() else {
        panic!()
    };
    assert!(h.block.is_empty());
    let peer = br#"{"metadata":{"name":"p","labels":null},"spec":{"node":"","peerIP":"10.0.0.1","asNumber":"1.1",
        "filters":null,"nextHopMode":""}}"#;
    let Object::BgpPeer(p) = decode(&Key::resource(Kind::BgpPeer, None, "p"), peer).unwrap() else {
        panic!()
    };
    assert!(p.spec.is_global() && p.spec.next_hop_mode.is_none());
    assert_eq!(p.spec.as_number.unwrap().0, 65537);
    let Object::BgpConfiguration(c) = decode(
        &Key::resource(Kind::BgpConfiguration, None, "default"),
        br#"{"metadata":{"name":"default"}}"#,
    )
    .unwrap() else {
        panic!()
    };
    assert!(c.spec.mesh_enabled());
}

#[test]
fn wrong_documents_name_the_object() {
    let key = Key::resource(Kind::IpPool, None, "a");
    for (json, want) in [
        ("{", "IPPool(a): not JSON"),
        ("[]", "IPPool(a): want a JSON object"),
        (r#"{"kind":"Node"}"#, "IPPool(a): kind is Node, the key says IPPool"),
        (
            r#"{"metadata":{"name":"a"},"spec":{}}"#,
            "IPPool(a): error with field spec.cidr = '' (required field is missing)",
        ),
        (
            r#"{"metadata":{"name":"b"},"spec":{"cidr":"10.0.0.0/8"}}"#,
            "IPPool(a): metadata.name is 'b'",
        ),
        (
            r#"{"metadata":{"name":"a"},"spec":{"cidr":"10.0.0.0/8","ipipMode":"Off"}}"#,
            "IPPool(a): error with field spec.ipipMode = 'Off' (must be one of: Never, Always, CrossSubnet)",
        ),
    ] {
        let e = decode(&key, json.as_bytes()).unwrap_err().to_string();
        assert!(e.contains(want), "{json}: {e}");
    }
    let block = Key::Block("10.0.0.0/26".parse().unwrap());
    let e = decode(&block, br#"{"cidr":"10.0.0.64/26"}"#).unwrap_err().to_string();
    assert!(e.contains("cidr is 10.0.0.64/26, the key says 10.0.0.0/26"), "{e}");
}
