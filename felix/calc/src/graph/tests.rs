//! Every way of reaching a set of documents must give what computing that set afresh gives.

use proptest::prelude::*;
use tortie_model::decode;
use tortie_model::resource::IpNat;

use super::*;
use crate::bgp::{LocalPeering, RouteMetrics};
use crate::tunnel::Carriage;

type Documents = BTreeMap<Key, Object>;

fn document(key: &str, json: &str) -> (Key, Object) {
    let key: Key = key.parse().unwrap();
    let object = decode(&key, json.as_bytes()).unwrap();
    (key, object)
}

fn endpoint(namespace: &str, node: &str, pod: &str, interface: &str, ips: &[&str]) -> (Key, Object) {
    let name = format!("{node}-k8s-{pod}-eth0");
    let nets: Vec<String> = ips.iter().map(|ip| format!("\"{ip}\"")).collect();
    let json = format!(
        r#"{{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3",
            "metadata":{{"name":"{name}","namespace":"{namespace}"}},
            "spec":{{"orchestrator":"k8s","node":"{node}","pod":"{pod}","endpoint":"eth0",
                     "interfaceName":"{interface}","ipNetworks":[{}]}}}}"#,
        nets.join(",")
    );
    document(
        &format!("/calico/resources/v3/projectcalico.org/workloadendpoints/{namespace}/{name}"),
        &json,
    )
}

/// An endpoint on n1 with a floating address of its first one.
fn floating(pod: &str, interface: &str, ip: &str, external: &str) -> (Key, Object) {
    let (key, object) = endpoint("web", "n1", pod, interface, &[&format!("{ip}/32")]);
    let Object::WorkloadEndpoint(mut endpoint) = object else {
        panic!("another object")
    };
    endpoint.spec.ip_nats = vec![IpNat {
        internal_ip: ip.parse().unwrap(),
        external_ip: external.parse().unwrap(),
    }];
    (key, Object::WorkloadEndpoint(endpoint))
}

fn node(name: &str, address: &str) -> (Key, Object) {
    resource("Node", name, &format!(r#"{{"bgp":{{"ipv4Address":"{address}"}}}}"#))
}

/// With the ends of its tunnels.
fn tunneled(name: &str, address: &str, ipip: &str, vxlan: &str) -> (Key, Object) {
    let bgp = format!(r#"{{"ipv4Address":"{address}","ipv4IPIPTunnelAddr":"{ipip}"}}"#);
    resource(
        "Node",
        name,
        &format!(r#"{{"bgp":{bgp},"ipv4VXLANTunnelAddr":"{vxlan}"}}"#),
    )
}

fn affinity(node: &str, block: &str, state: &str) -> (Key, Object) {
    let key = format!("/calico/ipam/v2/host/{node}/ipv4/block/{}", block.replace('/', "-"));
    document(&key, &format!(r#"{{"state":"{state}","deleted":false}}"#))
}

fn block(cidr: &str, owner: &str, users: &[&str]) -> (Key, Object) {
    let allocations: Vec<String> = (0..users.len()).map(|i| i.to_string()).collect();
    let attributes: Vec<String> = users
        .iter()
        .map(|n| format!(r#"{{"handle_id":"h-{n}","secondary":{{"node":"{n}"}}}}"#))
        .collect();
    let json = format!(
        r#"{{"cidr":"{cidr}","affinity":"host:{owner}","allocations":[{}],"unallocated":[],"attributes":[{}]}}"#,
        allocations.join(","),
        attributes.join(",")
    );
    document(
        &format!("/calico/ipam/v2/assignment/ipv4/block/{}", cidr.replace('/', "-")),
        &json,
    )
}

fn resource(kind: &str, name: &str, spec: &str) -> (Key, Object) {
    let json = format!(
        r#"{{"kind":"{kind}","apiVersion":"projectcalico.org/v3","metadata":{{"name":"{name}"}},"spec":{spec}}}"#
    );
    let plural = kind.to_lowercase();
    let key = format!("/calico/resources/v3/projectcalico.org/{plural}s/{name}");
    document(&key, &json)
}

fn pool(name: &str, cidr: &str, ipip: &str, vxlan: &str) -> (Key, Object) {
    let spec = format!(r#"{{"cidr":"{cidr}","ipipMode":"{ipip}","vxlanMode":"{vxlan}"}}"#);
    resource("IPPool", name, &spec)
}

fn felix(name: &str, spec: &str) -> (Key, Object) {
    resource("FelixConfiguration", name, spec)
}

fn labelled(name: &str, label: &str) -> (Key, Object) {
    let json = format!(
        r#"{{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{{"name":"{name}","labels":{{"rack":"{label}"}}}},
            "spec":{{"bgp":{{"ipv4Address":"172.30.0.11/24"}},"addresses":[{{"address":"192.0.2.7/24"}},{{"address":"host"}}]}}}}"#
    );
    document(&format!("/calico/resources/v3/projectcalico.org/nodes/{name}"), &json)
}

fn bgp(name: &str, spec: &str) -> (Key, Object) {
    resource("BGPConfiguration", name, spec)
}

fn peer(name: &str, spec: &str) -> (Key, Object) {
    resource("BGPPeer", name, spec)
}

/// An endpoint with a label.
fn router(namespace: &str, node: &str, pod: &str, interface: &str) -> (Key, Object) {
    let (key, object) = endpoint(namespace, node, pod, interface, &["10.244.0.9/32"]);
    let Object::WorkloadEndpoint(mut endpoint) = object else {
        panic!("another object")
    };
    endpoint.metadata.labels.insert("app".into(), "router".into());
    (key, Object::WorkloadEndpoint(endpoint))
}

/// Documents that touch each other in every way there is: several for one key, several claims on one thing.
fn universe() -> Vec<(Key, Object)> {
    vec![
        endpoint("web", "n1", "a", "cali1", &["10.244.0.5/32"]),
        endpoint("web", "n1", "a", "cali2", &["10.244.0.5/32", "10.244.0.6/32"]),
        endpoint("web", "n1", "b", "cali1", &["10.244.0.7/32"]),
        endpoint("web", "n1", "b", "cali2", &["10.244.1.9/32"]),
        endpoint("db", "n1", "c", "cali1", &["10.244.0.8/32"]),
        floating("a", "cali1", "10.244.0.5", "192.0.2.7"),
        floating("b", "cali1", "10.244.0.7", "192.0.2.7"),
        floating("b", "cali2", "10.244.0.7", "192.0.2.8"),
        felix("default", r#"{"floatingIPs":"Enabled"}"#),
        felix("node.n1", r#"{"floatingIPs":"Enabled","ipv6Support":false}"#),
        endpoint("db", "n2", "d", "cali1", &["10.244.1.5/32"]),
        node("n1", "172.30.0.11/24"),
        node("n1", "172.30.0.111/25"),
        node("n2", "172.30.0.12/24"),
        node("n2", "172.30.0.112/24"),
        affinity("n1", "10.244.0.0/26", "confirmed"),
        affinity("n1", "10.244.0.0/26", "pending"),
        affinity("n1", "10.244.1.0/26", "confirmed"),
        affinity("n2", "10.244.1.0/26", "confirmed"),
        affinity("n2", "10.244.1.0/26", "pendingDeletion"),
        affinity("n3", "10.244.1.0/26", "confirmed"),
        block("10.244.0.0/26", "n1", &["n1", "n2", "n3"]),
        block("10.244.0.0/26", "n1", &["n2", "n1"]),
        block("10.244.1.0/26", "n2", &["n2", "n1"]),
        block("10.244.1.0/26", "n1", &["n2", "n2", "n1"]),
        tunneled("n1", "172.30.0.11/24", "10.244.0.61", "10.244.0.62"),
        tunneled("n2", "172.30.1.12/24", "10.244.1.61", "10.244.1.62"),
        tunneled("n3", "172.30.0.13/24", "10.244.1.2", "10.244.1.2"),
        affinity("n3", "10.244.1.2/32", "confirmed"),
        pool("p", "10.244.0.0/16", "Never", "Never"),
        pool("p", "10.244.0.0/16", "Always", "Never"),
        pool("p", "10.244.0.0/16", "CrossSubnet", "Never"),
        pool("p", "10.244.0.0/16", "Never", "Always"),
        pool("p", "10.244.0.0/16", "Never", "CrossSubnet"),
        pool("q", "10.244.1.0/24", "Never", "Always"),
        labelled("n1", "a"),
        router("web", "n1", "a", "cali1"),
        router("db", "n1", "c", "cali2"),
        router("db", "n2", "d", "cali3"),
        bgp(
            "default",
            r#"{"localWorkloadPeeringIPV4":"169.254.0.179","ipv4NormalRoutePriority":700}"#,
        ),
        bgp(
            "node.n1",
            r#"{"localWorkloadPeeringIPV6":"fd12::1","ipv6NormalRoutePriority":800}"#,
        ),
        peer("w", r#"{"asNumber":65401,"localWorkloadSelector":"app == 'router'"}"#),
        peer(
            "w",
            r#"{"asNumber":65401,"localWorkloadSelector":"all()","nodeSelector":"rack == 'a'"}"#,
        ),
        peer("v", r#"{"asNumber":65401,"localWorkloadSelector":"all()","node":"n2"}"#),
        felix("default", r#"{"ipv4NormalRoutePriority":512}"#),
        felix("default", r#"{"vxlanPort":4000,"natPortRange":"5000:6000"}"#),
        felix(
            "rack",
            r#"{"nodeSelector":"rack == 'a'","vxlanPort":4001,"vxlanVNI":5}"#,
        ),
        felix("node.n1", r#"{"vxlanPort":4002}"#),
        felix("node.n2", r#"{"vxlanPort":4003}"#),
    ]
}

fn fresh<'a>(documents: impl Iterator<Item = (&'a Key, &'a Object)>) -> Desired {
    let mut calc = Calc::new("n1".parse().unwrap());
    documents.for_each(|(key, object)| calc.apply(key, Some(object)));
    calc.flush();
    calc.desired().clone()
}

/// One step: set the document with this number in the universe, or delete its key; then perhaps flush.
type Step = (usize, bool, bool);

fn states(steps: &[Step]) -> Vec<Documents> {
    let universe = universe();
    let mut documents = Documents::new();
    let mut states = Vec::new();
    for (i, set, _) in steps {
        let (key, object) = &universe[i % universe.len()];
        if *set {
            documents.insert(key.clone(), object.clone());
        } else {
            documents.remove(key);
        }
        states.push(documents.clone());
    }
    states
}

/// Moves `calc` from one set of documents to the next and checks the result, and that updates alone lead there too.
fn step(calc: &mut Calc, told: &mut Desired, from: &Documents, to: &Documents) -> Result<(), TestCaseError> {
    for key in from.keys().filter(|k| !to.contains_key(k)) {
        calc.apply(key, None);
    }
    for (key, object) in to {
        if from.get(key) != Some(object) {
            calc.apply(key, Some(object));
        }
    }
    for update in calc.flush() {
        prop_assert!(told.apply(&update), "an update that changes nothing: {update:?}");
    }
    prop_assert_eq!(&*told, calc.desired());
    prop_assert_eq!(calc.desired(), &fresh(to.iter()));
    prop_assert_eq!(calc.desired(), &fresh(to.iter().rev()));
    Ok(())
}

fn walk<'a>(sequence: impl Iterator<Item = &'a Documents>) -> Result<Desired, TestCaseError> {
    let (mut calc, mut told) = (Calc::new("n1".parse().unwrap()), Desired::default());
    let empty = Documents::new();
    let mut before = &empty;
    for state in sequence {
        step(&mut calc, &mut told, before, state)?;
        before = state;
    }
    Ok(told)
}

proptest! {
    #[test]
    fn output_is_a_function_of_the_documents(steps in proptest::collection::vec((0usize..80, any::<bool>(), any::<bool>()), 1..24)) {
        let states = states(&steps);
        let last = states.last().unwrap();
        let want = fresh(last.iter());
        let empty = Documents::new();
        // As it happened; reversed and then to the end; with everything gone in between; at once; one by one at will.
        prop_assert_eq!(&walk(states.iter())?, &want);
        prop_assert_eq!(&walk(states.iter().rev().chain([last]))?, &want);
        prop_assert_eq!(&walk(states.iter().flat_map(|s| [&empty, s]))?, &want);
        prop_assert_eq!(&walk([last].into_iter())?, &want);
        let squashed = states.iter().zip(&steps).filter(|(_, (_, _, flush))| *flush).map(|(s, _)| s);
        prop_assert_eq!(&walk(squashed.chain([last]))?, &want);
    }
}

#[test]
fn workloads_find_the_speaker_where_a_peer_selects_them() {
    let mut documents: Documents = [
        labelled("n1", "a"),
        router("web", "n1", "a", "cali1"),
        router("db", "n2", "d", "cali3"),
        endpoint("web", "n1", "b", "cali2", &["10.244.0.7/32"]),
        peer("w", r#"{"asNumber":65401,"localWorkloadSelector":"app == 'router'"}"#),
    ]
    .into_iter()
    .collect();
    let of = |documents: &Documents| fresh(documents.iter()).peering;
    assert_eq!(of(&documents), LocalPeering::default(), "there is no address");
    documents.extend([
        bgp(
            "default",
            r#"{"localWorkloadPeeringIPV4":"169.254.0.179","localWorkloadPeeringIPV6":"fd12::1"}"#,
        ),
        bgp("node.n1", r#"{"localWorkloadPeeringIPV4":"169.254.0.180"}"#),
    ]);
    let found = of(&documents);
    let addresses: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["169.254.0.180", "fd12::1"], "the node's own counts first");
    assert_eq!(found.interfaces, BTreeSet::from(["cali1".to_owned()]));
    documents.extend([peer(
        "w",
        r#"{"asNumber":65401,"localWorkloadSelector":"all()","nodeSelector":"rack == 'a'"}"#,
    )]);
    assert_eq!(of(&documents).interfaces.len(), 2, "of this node, all");
    documents.extend([peer(
        "w",
        r#"{"asNumber":65401,"localWorkloadSelector":"all()","node":"n2"}"#,
    )]);
    assert_eq!(of(&documents), LocalPeering::default(), "another node's");
}

#[test]
fn routes_have_the_metric_that_is_asked_for() {
    let of = |documents: Vec<(Key, Object)>| {
        let documents: Documents = documents.into_iter().collect();
        fresh(documents.iter()).settings.metrics
    };
    assert_eq!(of(vec![]), RouteMetrics::default());
    let felix = || felix("default", r#"{"ipv4NormalRoutePriority":512}"#);
    let found = of(vec![felix()]);
    assert_eq!((found.workloads, found.learned), ([512, 1024], [512, 1024]));
    let bgp = || {
        bgp(
            "default",
            r#"{"ipv4NormalRoutePriority":600,"ipv6NormalRoutePriority":0}"#,
        )
    };
    let found = of(vec![felix(), bgp()]);
    assert_eq!(
        (found.workloads, found.learned),
        ([512, 1024], [600, 1024]),
        "0 is no metric to ask for"
    );
}

#[test]
fn what_a_small_cluster_wants_of_n1() {
    let documents: Documents = [
        endpoint("web", "n1", "b", "cali1", &["10.244.0.7/32"]),
        endpoint("db", "n1", "c", "cali1", &["10.244.0.8/32"]),
        endpoint("db", "n2", "d", "cali9", &["10.244.1.5/32"]),
        node("n1", "172.30.0.11/24"),
        node("n2", "172.30.0.12/24"),
        affinity("n1", "10.244.0.0/26", "confirmed"),
        affinity("n1", "10.244.9.0/26", "pending"),
        affinity("n2", "10.244.1.0/26", "confirmed"),
        affinity("n3", "10.244.2.0/26", "confirmed"),
        block("10.244.0.0/26", "n1", &["n1", "n2"]),
        block("10.244.1.0/26", "n2", &["n2", "n1", "n3"]),
    ]
    .into_iter()
    .collect();
    let d = fresh(documents.iter());
    let endpoints: Vec<_> = d
        .endpoints
        .values()
        .map(|e| (e.interface.as_str(), e.ips[0].to_string()))
        .collect();
    assert_eq!(
        endpoints,
        [("cali1", "10.244.0.8".to_owned())],
        "db/… sorts before web/…; n2's is not ours"
    );
    assert_eq!(
        d.own_blocks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.244.0.0/26"]
    );
    let remote: Vec<_> = d
        .remote
        .iter()
        .map(|(p, r)| format!("{p} {} {:?} {:?}", r.node.as_str(), r.address, r.carriage))
        .collect();
    let want = [
        "10.244.0.1/32 n2 Some(172.30.0.12) Plain",
        "10.244.1.0/26 n2 Some(172.30.0.12) Plain",
        "10.244.1.2/32 n3 None Plain",
        "10.244.2.0/26 n3 None Plain",
    ];
    assert_eq!(remote, want);
    let borrowed: Vec<_> = d
        .borrowed
        .iter()
        .map(|(ip, n)| format!("{ip} {}", n.as_str()))
        .collect();
    assert_eq!(
        borrowed,
        ["10.244.0.1 n2", "10.244.1.2 n3"],
        "n1's own loan is an endpoint"
    );
    assert_eq!(d.node_addresses[0].to_string(), "172.30.0.11/24");
}

/// Calico's worked example: A and B on one subnet, C on another; a pod of C has an address of B's block.
#[test]
fn what_travels_in_a_tunnel() {
    let mut documents: Documents = [
        tunneled("n1", "10.0.0.1/24", "10.244.0.1", "10.244.0.2"),
        tunneled("n2", "10.0.0.2/24", "10.244.1.1", "10.244.1.2"),
        node("n3", "10.0.1.3/24"),
        affinity("n1", "10.244.0.0/26", "confirmed"),
        affinity("n2", "10.244.1.0/26", "confirmed"),
        affinity("n3", "10.244.2.0/26", "confirmed"),
        block("10.244.1.0/26", "n2", &["n2", "n3"]),
    ]
    .into_iter()
    .collect();
    let mut with = |ipip: &str, vxlan: &str| {
        documents.extend([pool("p", "10.244.0.0/16", ipip, vxlan)]);
        let d = fresh(documents.iter());
        let remote = d.remote.values();
        let carriage: Vec<_> = remote.map(|r| (r.carriage, r.vtep.map(|v| v.to_string()))).collect();
        (carriage, d.tunnels)
    };
    let (plain, v4, ipip) = (Carriage::Plain, Tunnel::VxlanV4, Tunnel::Ipip);
    let (in_v4, in_ipip) = (Carriage::Tunnel(v4), Carriage::Tunnel(ipip));
    let b = Some("10.244.1.2".to_owned());
    // In the order of the prefixes: B's block, the address of it that C has, C's block.
    let (remote, tunnels) = with("Never", "Never");
    assert_eq!(remote, [(plain, None), (plain, None), (plain, None)]);
    assert!(tunnels.is_empty());
    let (remote, tunnels) = with("Never", "Always");
    assert_eq!(
        remote,
        [(in_v4, b), (in_v4, None), (in_v4, None)],
        "C has no tunnel address yet"
    );
    let own = tunnels[&v4];
    assert_eq!(
        (own.host, own.address),
        (Some("10.0.0.1".parse().unwrap()), Some("10.244.0.2".parse().unwrap()))
    );
    assert_eq!((own.mac.unwrap()[0], tunnels.len()), (0x66, 1));
    let (remote, _) = with("Never", "CrossSubnet");
    assert_eq!(remote, [(Carriage::SameSubnet(v4), None), (in_v4, None), (in_v4, None)]);
    let (remote, tunnels) = with("Always", "Never");
    assert_eq!(remote, [(in_ipip, None), (in_ipip, None), (in_ipip, None)]);
    assert_eq!(tunnels[&ipip].address, Some("10.244.0.1".parse().unwrap()));
    let (remote, _) = with("CrossSubnet", "Never");
    assert_eq!(
        remote,
        [(Carriage::SameSubnet(ipip), None), (in_ipip, None), (in_ipip, None)]
    );
    let d = fresh(documents.iter());
    let vteps: Vec<_> = d
        .vteps
        .iter()
        .map(|((t, n), v)| (*t, n.as_str(), v.host.to_string()))
        .collect();
    assert_eq!(
        vteps,
        [(v4, "n2", "10.0.0.2".to_owned())],
        "ours is not another's, n3 has none"
    );
}

#[test]
fn a_floating_address_leads_to_the_endpoint_that_has_its_interface() {
    let on = felix("default", r#"{"floatingIPs":"Enabled"}"#);
    let (a, b) = (
        floating("a", "cali1", "10.244.0.5", "192.0.2.7"),
        floating("b", "cali1", "10.244.0.7", "192.0.2.7"),
    );
    let of = |documents: &[&(Key, Object)]| {
        let floating = fresh(documents.iter().map(|(k, o)| (k, o))).floating;
        let text = |(ip, f): (&IpAddr, &Floating)| format!("{ip} {} {}", f.interface, f.to);
        floating.iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(of(&[&a]), [""; 0], "Calico's default is off");
    assert_eq!(of(&[&a, &b, &on]), ["192.0.2.7 cali1 10.244.0.5"], "the lowest key");
    assert_eq!(of(&[&b, &on]), ["192.0.2.7 cali1 10.244.0.7"]);
    let moved = floating("a", "cali9", "10.244.0.5", "192.0.2.9");
    assert_eq!(
        of(&[&moved, &b, &on]),
        ["192.0.2.7 cali1 10.244.0.7", "192.0.2.9 cali9 10.244.0.5"]
    );
}

#[test]
fn zero_is_never_and_a_number_of_others_is_not_taken() {
    let said = felix(
        "default",
        r#"{"routeRefreshInterval":"10s","interfaceRefreshInterval":"0s","deviceRouteProtocol":4,"removeExternalRoutes":true,
            "reportingInterval":"0","reportingTTL":"2m"}"#,
    );
    let settings = fresh([(&said.0, &said.1)].into_iter()).settings;
    let default = Settings::default();
    let ten = std::time::Duration::from_secs(10);
    assert_eq!(
        (settings.refresh.routes, settings.refresh.interfaces),
        (Some(ten), None)
    );
    assert_eq!(settings.refresh.tables, default.refresh.tables);
    assert_eq!(
        (settings.device_route_protocol, settings.remove_external_routes),
        (3, true)
    );
    assert!(settings.report_interval.is_zero() && settings.report_ttl == 12 * ten);
    let own = felix("node.n1", r#"{"deviceRouteProtocol":99}"#);
    let both = [(&said.0, &said.1), (&own.0, &own.1)];
    assert_eq!(fresh(both.into_iter()).settings.device_route_protocol, 99);
}

/// The narrower a document's concern, the more it counts, field by field.
#[test]
fn settings_come_from_the_narrowest_document_that_says_so() {
    let settings = |documents: &[(Key, Object)]| fresh(documents.iter().map(|(k, o)| (k, o))).settings;
    assert_eq!(settings(&[]), Settings::default());
    let default = felix(
        "default",
        r#"{"vxlanPort":4000,"natPortRange":"5000:6000","natOutgoingAddress":"","externalNodesList":["192.0.2.0/24"]}"#,
    );
    let rack = felix(
        "rack",
        r#"{"nodeSelector":"rack == 'a'","vxlanPort":4001,"vxlanVNI":5}"#,
    );
    let own = felix("node.n1", r#"{"vxlanPort":4002,"natPortRange":7000}"#);
    let other = felix("node.n2", r#"{"vxlanPort":4003}"#);
    let of = |s: &Settings| (s.vxlan_port, s.vxlan_vni, s.nat.ports);
    let one = settings(&[default.clone(), rack.clone(), other.clone()]);
    assert_eq!(of(&one), (4000, 4096, Some((5000, 6000))), "not in the rack");
    assert_eq!(one.external_nodes, ["192.0.2.0/24".parse().unwrap()]);
    let all = [own, default, labelled("n1", "a"), rack, other];
    assert_eq!(of(&settings(&all)), (4002, 5, Some((7000, 7000))));
    let moved = [&all[1], &labelled("n1", "b"), &all[3]].map(Clone::clone);
    assert_eq!(of(&settings(&moved)), (4000, 4096, Some((5000, 6000))), "another rack");
    let hosts = fresh(all.iter().map(|(k, o)| (k, o))).hosts;
    let hosts: Vec<_> = hosts.values().flatten().map(ToString::to_string).collect();
    assert_eq!(hosts, ["172.30.0.11", "192.0.2.7"]);
}
