//! Seeded faults: a cluster of two nodes that is well, one thing changed at a time, and the cause that is named.
//!
//! n2 has the pod `web/a`, 10.244.1.5, in its block 10.244.1.0/26; n1 asks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tortie_model::ipam::{AffinityState, Block};
use tortie_model::{Key, Object, decode_value};
use tortie_net::Prefix;

use super::facts::*;
use super::walk::{Explanation, Mark, Verdict, explain};

const BLOCK: &str = "10.244.1.0/26";
const POD: &str = "10.244.1.5";

fn net(text: &str) -> Prefix {
    text.parse::<std::net::IpAddr>()
        .map_or_else(|_| text.parse().unwrap(), Prefix::host)
}

/// A document, from the key's last parts and its specification.
fn document(key: &str, spec: &str) -> Object {
    let key: Key = format!("/calico/resources/v3/projectcalico.org/{key}").parse().unwrap();
    let Key::Resource { name, .. } = &key else {
        panic!("a resource")
    };
    let spec: serde_json::Value = serde_json::from_str(spec).unwrap();
    let value = serde_json::json!({"metadata": {"name": name, "labels": {"rack": "r1"}}, "spec": spec});
    decode_value(&key, value).unwrap()
}

fn add(cluster: &mut ClusterFacts, key: &str, spec: &str) {
    let name = key.rsplit('/').next().unwrap().to_owned();
    match document(key, spec) {
        Object::IpPool(pool) => {
            cluster.pools.retain(|p| p.metadata.name != name);
            cluster.pools.push(*pool);
        }
        Object::IpReservation(reservation) => cluster.reservations.push(*reservation),
        Object::Node(node) => drop(cluster.nodes.insert(name, *node)),
        Object::BgpPeer(peer) => drop(cluster.peers.insert(name, *peer)),
        Object::BgpFilter(filter) => drop(cluster.filters.insert(name, *filter)),
        Object::BgpConfiguration(c) => drop(cluster.configurations.insert(name, *c)),
        other => panic!("{other:?}"),
    }
}

fn up(name: &str, peer: &str, source: &str) -> Session {
    Session {
        name: name.to_owned(),
        peer: Some(peer.parse().unwrap()),
        source: Some(source.parse().unwrap()),
        peer_as: 64512,
        local_as: 64512,
        protocol_state: "up".to_owned(),
        state: "Established".to_owned(),
        ..Session::default()
    }
}

fn path(prefix: &str, protocol: &str, next_hop: &str) -> Path {
    Path {
        prefix: net(prefix),
        protocol: protocol.to_owned(),
        best: true,
        reason: "only path".to_owned(),
        refused: None,
        next_hop: next_hop.to_owned(),
        as_path: String::new(),
        communities: Vec::new(),
        stale: false,
    }
}

fn row(prefix: &str, route: &str) -> Row {
    Row {
        prefix: net(prefix),
        class: "bgp".to_owned(),
        route: route.to_owned(),
        state: "programmed".to_owned(),
        reason: String::new(),
        losers: Vec::new(),
    }
}

fn lookup(prefix: &str, ours: bool, device: &str) -> Option<Lookup> {
    Some(Lookup::Route {
        prefix: net(prefix),
        ours,
        text: format!("{prefix} dev {device}"),
        device: device.to_owned(),
    })
}

fn node(bird: BirdFacts, rows: Vec<Row>, kernel: (Option<Lookup>, &[&str])) -> NodeFacts {
    NodeFacts {
        bird: Fact::Known(bird),
        felix: Fact::Known(FelixFacts {
            datastore_in_sync: true,
            fib_in_sync: true,
            revision: 20,
            rows,
        }),
        kernel: Fact::Known(KernelFacts {
            lookup: kernel.0,
            links: kernel.1.iter().map(|l| ((*l).to_owned(), true)).collect(),
            bad_signatures: false,
        }),
    }
}

fn cluster() -> ClusterFacts {
    let mut cluster = ClusterFacts::default();
    add(&mut cluster, "ippools/pool", r#"{"cidr": "10.244.0.0/16"}"#);
    add(
        &mut cluster,
        "nodes/n1",
        r#"{"bgp": {"ipv4Address": "172.30.0.11/24"}}"#,
    );
    add(
        &mut cluster,
        "nodes/n2",
        r#"{"bgp": {"ipv4Address": "172.30.0.12/24"}}"#,
    );
    let mut block = Block::new(net(BLOCK));
    block.affinity = Some("host:n2".parse().unwrap());
    cluster.blocks = vec![block];
    cluster.affinities = vec![Claim {
        node: "n2".to_owned(),
        block: net(BLOCK),
        state: AffinityState::Confirmed,
    }];
    cluster.endpoints = vec![EndpointFact {
        name: "web/a".to_owned(),
        node: "n2".to_owned(),
        interface: "cali1".to_owned(),
        addresses: vec![net(POD)],
    }];
    cluster
}

/// Everything is well.
fn healthy() -> Facts {
    let n1 = BirdFacts {
        sessions: vec![up("Mesh_172_30_0_12", "172.30.0.12", "172.30.0.11")],
        paths: vec![path(BLOCK, "Mesh_172_30_0_12", "172.30.0.12")],
        applied: "r1".to_owned(),
        desired: "r1".to_owned(),
        announced: BTreeMap::from([("Mesh_172_30_0_12".to_owned(), BTreeSet::new())]),
    };
    let n2 = BirdFacts {
        sessions: vec![up("Mesh_172_30_0_11", "172.30.0.11", "172.30.0.12")],
        paths: vec![path(BLOCK, "own_blocks_v4", "")],
        announced: BTreeMap::from([("Mesh_172_30_0_11".to_owned(), BTreeSet::from([net(BLOCK)]))]),
        ..n1.clone()
    };
    let links = &["eth0", "cali1"];
    let learned = row(BLOCK, "10.244.1.0/26 via 172.30.0.12 dev eth0 proto bird metric 1024");
    let attached = row(POD, "10.244.1.5 dev cali1 proto boot scope link metric 1024");
    Facts {
        subject: Subject::Net(net(POD)),
        from: vec!["n1".to_owned()],
        typha: Fact::Known(TyphaFacts {
            revision: 20,
            stale: None,
        }),
        cluster: Fact::Known(cluster()),
        nodes: BTreeMap::from([
            (
                "n1".to_owned(),
                node(n1, vec![learned], (lookup(BLOCK, true, "eth0"), links)),
            ),
            (
                "n2".to_owned(),
                node(n2, vec![attached], (lookup(POD, true, "cali1"), links)),
            ),
        ]),
    }
}

fn known<T>(fact: &mut Fact<T>) -> &mut T {
    match fact {
        Fact::Known(fact) => fact,
        Fact::NotAsked | Fact::Failed(_) => panic!("known in the healthy cluster"),
    }
}

impl Facts {
    fn stored(&mut self) -> &mut ClusterFacts {
        known(&mut self.cluster)
    }

    fn at(&mut self, name: &str) -> &mut NodeFacts {
        self.nodes.get_mut(name).unwrap()
    }

    fn bird_of(&mut self, name: &str) -> &mut BirdFacts {
        known(&mut self.at(name).bird)
    }

    fn felix_of(&mut self, name: &str) -> &mut FelixFacts {
        known(&mut self.at(name).felix)
    }

    fn kernel_of(&mut self, name: &str) -> &mut KernelFacts {
        known(&mut self.at(name).kernel)
    }

    /// n1 has nothing of the route.
    fn lost(&mut self) {
        self.bird_of("n1").paths.clear();
        self.felix_of("n1").rows.clear();
        self.kernel_of("n1").lookup = Some(Lookup::Dropped("the kernel has no route to it".to_owned()));
    }

    /// The session of n1 with n2 is down.
    fn down(&mut self, last_error: &str, connect_failure: &str) {
        self.lost();
        for name in ["n1", "n2"] {
            let session = &mut self.bird_of(name).sessions[0];
            session.state = "Active".to_owned();
            session.protocol_state = "start".to_owned();
        }
        let session = &mut self.bird_of("n1").sessions[0];
        session.last_error = last_error.to_owned();
        session.connect_failure = connect_failure.to_owned();
    }

    /// bird-rs of n1 has the route and does not use it.
    fn refused(&mut self, why: &str) {
        let mut path = path(BLOCK, "Mesh_172_30_0_12", "172.30.0.12");
        (path.best, path.refused) = (false, Some(why.to_owned()));
        self.lost();
        self.bird_of("n1").paths = vec![path];
    }

    /// n2 has the route and does not announce it.
    fn kept(&mut self) {
        self.lost();
        self.bird_of("n2").announced.values_mut().for_each(BTreeSet::clear);
    }

    /// felix of n1 has a candidate that is not in the kernel.
    fn row_is(&mut self, state: &str, reason: &str) {
        let row = &mut self.felix_of("n1").rows[0];
        (row.state, row.reason) = (state.to_owned(), reason.to_owned());
        self.kernel_of("n1").lookup = Some(Lookup::Dropped("the kernel has no route to it".to_owned()));
    }
}

type Seed = fn(&mut Facts);

/// Seeds a fault into the healthy cluster, and looks for the cause and words of its sentence.
fn check(faults: &[(&str, Seed, &str, &[&str])]) {
    for (what, seed, code, words) in faults {
        let mut facts = healthy();
        seed(&mut facts);
        let explanation = explain(&facts);
        let sentence = explanation.sentence();
        let found = explanation.cause.as_ref().map(super::cause::Cause::code);
        assert_eq!(found, Some(*code), "{what}: {sentence}\n{:#?}", explanation.findings);
        assert!(words.iter().all(|w| sentence.contains(w)), "{what}: {sentence}");
        assert!(sentence.ends_with('.'), "{what}: {sentence}");
        assert_eq!(explanation.verdict(), Verdict::Fault, "{what}");
    }
}

#[test]
fn a_healthy_cluster_has_no_cause() {
    let explanation = explain(&healthy());
    assert_eq!(
        (explanation.verdict(), &explanation.cause),
        (Verdict::Healthy, &None),
        "{explanation:#?}"
    );
    assert_eq!(explanation.sentence(), "Nothing is wrong: n1 can reach 10.244.1.5.");
    assert!(
        explanation.findings.iter().all(|f| f.mark != Mark::Wrong),
        "{explanation:#?}"
    );
    let stages: Vec<&str> = explanation.findings.iter().map(|f| f.stage.as_str()).collect();
    for stage in ["typha", "datastore", "rib", "fib", "kernel"] {
        assert!(stages.contains(&stage), "{stage} in {stages:?}");
    }
    let mut by_block = healthy();
    by_block.subject = Subject::Net(net(BLOCK));
    assert_eq!(
        explain(&by_block).verdict(),
        Verdict::Healthy,
        "{:#?}",
        explain(&by_block)
    );
    by_block.subject = Subject::Net(net("10.244.1.8/29"));
    assert_eq!(
        explain(&by_block).verdict(),
        Verdict::Healthy,
        "a part of a block: {:#?}",
        explain(&by_block)
    );
}

#[test]
fn who_was_not_asked_is_named() {
    let mut facts = healthy();
    facts.nodes.remove("n2");
    let explanation = explain(&facts);
    assert_eq!(explanation.verdict(), Verdict::Unclear);
    assert_eq!(
        explanation.sentence(),
        "Nothing wrong was seen, but not asked: bird-rs of n2, felix of n2."
    );
    facts.from.clear();
    facts.nodes.clear();
    assert!(
        explain(&facts).sentence().contains("no node was asked"),
        "{}",
        explain(&facts).sentence()
    );
    // With a fault that the documents show, the other side need not be asked.
    let mut facts = healthy();
    facts.lost();
    facts.nodes.remove("n2");
    add(
        facts.stored(),
        "ippools/pool",
        r#"{"cidr": "10.244.0.0/16", "disableBGPExport": true}"#,
    );
    assert!(
        explain(&facts).sentence().contains("disableBGPExport"),
        "{}",
        explain(&facts).sentence()
    );
}

#[test]
fn faults_of_sessions() {
    check(&[
        (
            "wrong AS",
            |f| f.down("Bad peer AS", ""),
            "wrong-as",
            &["Mesh_172_30_0_12 of n1 with n2 (172.30.0.12)", "Bad peer AS"],
        ),
        (
            "wrong AS, said by the other side",
            |f| {
                f.down("", "");
                f.bird_of("n2").sessions[0].last_error = "Received: Bad peer AS".to_owned();
            },
            "wrong-as",
            &["n2 says: Received: Bad peer AS"],
        ),
        (
            "wrong password",
            |f| {
                f.down("", "Connection timed out");
                f.kernel_of("n2").bad_signatures = true;
            },
            "wrong-password",
            &["TCP-MD5", "Connection timed out"],
        ),
        (
            "max-prefix",
            |f| f.down("Received: Maximum number of prefixes reached", ""),
            "max-prefix",
            &["limit of prefixes"],
        ),
        (
            "session down",
            |f| f.down("Hold timer expired", "No route to host"),
            "session-down",
            &["Hold timer expired", "No route to host"],
        ),
        (
            "taken down by an operator, on the other side",
            |f| {
                f.down("", "");
                f.bird_of("n2").sessions[0].protocol_state = "down".to_owned();
            },
            "session-disabled",
            &["Mesh_172_30_0_11 of n2"],
        ),
        (
            "bird-rs of the owner does not run",
            |f| {
                f.down("", "Connection refused");
                f.at("n2").bird = Fact::Failed("connect: no such file".to_owned());
            },
            "bird-down",
            &["bird-rs on n2", "no such file"],
        ),
        (
            "the same while its routes are kept as stale",
            |f| {
                f.bird_of("n1").sessions[0].state = "Active".to_owned();
                f.bird_of("n1").paths[0].stale = true;
                f.at("n2").bird = Fact::Failed("connect: no such file".to_owned());
            },
            "bird-down",
            &["bird-rs on n2"],
        ),
        (
            "bird-rs of the one who asks does not run, and nothing is left of its routes",
            |f| {
                f.lost();
                f.at("n1").bird = Fact::Failed("connect: refused".to_owned());
            },
            "bird-down",
            &["bird-rs on n1"],
        ),
        (
            "a peer outside is gone",
            |f| {
                f.subject = Subject::Net(net("198.51.100.7"));
                f.lost();
                let mut tor = up("Global_172_30_0_1", "172.30.0.1", "172.30.0.11");
                (tor.state, tor.connect_failure) = ("Active".to_owned(), "No route to host".to_owned());
                f.bird_of("n1").sessions.push(tor);
            },
            "session-down",
            &["Global_172_30_0_1 of n1 with 172.30.0.1", "No route to host"],
        ),
    ]);
}

const TOR: &str = r#"{"peerIP": "172.30.0.1", "asNumber": 65001, "nodeSelector": "rack == 'r9'"}"#;

#[test]
fn faults_of_what_is_configured() {
    check(&[
        (
            "the mesh is off and no BGPPeer matches",
            |f| {
                f.lost();
                f.bird_of("n1").sessions.clear();
                f.bird_of("n2").sessions.clear();
                add(
                    f.stored(),
                    "bgpconfigurations/default",
                    r#"{"nodeToNodeMeshEnabled": false}"#,
                );
                let rr = r#"{"nodeSelector": "rack == 'r9'", "peerSelector": "rr == 'true'"}"#;
                add(f.stored(), "bgppeers/rr", rr);
            },
            "no-peering",
            &[
                "n1 has no BGP session with n2",
                "mesh is disabled",
                "BGPPeer rr: its nodeSelector rack == 'r9' matches no node",
            ],
        ),
        (
            "the nodeSelector of an outer peer matches nobody",
            |f| {
                f.subject = Subject::Net(net("198.51.100.7"));
                f.lost();
                add(f.stored(), "bgppeers/tor", TOR);
            },
            "no-peering",
            &["172.30.0.1", "BGPPeer tor", "rack == 'r9' matches no node"],
        ),
        (
            "the node of an outer peer does not exist",
            |f| {
                f.subject = Subject::Net(net("198.51.100.7"));
                f.lost();
                let tor = r#"{"peerIP": "172.30.0.1", "asNumber": 65001, "node": "n7"}"#;
                add(f.stored(), "bgppeers/tor", tor);
            },
            "no-peering",
            &["its node n7 does not exist"],
        ),
        (
            "confd has not applied a block",
            |f| {
                f.lost();
                f.bird_of("n2").paths.clear();
            },
            "confd-lag",
            &["confd on n2", "10.244.1.0/26", "r1"],
        ),
        (
            "confd has not applied a session",
            |f| {
                f.lost();
                f.bird_of("n1").sessions.clear();
            },
            "confd-lag",
            &["confd on n1", "session with n2 that the node-to-node mesh asks for"],
        ),
        (
            "bird-rs did not take what confd rendered",
            |f| {
                f.lost();
                f.bird_of("n2").paths.clear();
                f.bird_of("n2").desired = "r2".to_owned();
            },
            "config-rejected",
            &["bird-rs on n2", "r1, not r2"],
        ),
    ]);
}

const REJECT: &str = r#"[{"action": "Reject", "cidr": "10.244.1.0/24", "matchOperator": "In"}]"#;

/// A BGPPeer between the nodes with a filter.
fn filtered(facts: &mut Facts, field: &str) {
    let spec = format!(r#"{{"{field}": {REJECT}}}"#);
    add(facts.stored(), "bgpfilters/no-pods", &spec);
    let peer = r#"{"nodeSelector": "all()", "peerSelector": "all()", "filters": ["no-pods"]}"#;
    add(facts.stored(), "bgppeers/all", peer);
}

#[test]
fn faults_of_policy() {
    check(&[
        (
            "import filter",
            |f| {
                f.refused("rejected by the import policy");
                filtered(f, "importV4");
            },
            "import-filter",
            &["n1 rejects 10.244.1.0/26", "rule 1 of importV4 of BGPFilter no-pods"],
        ),
        (
            "export filter",
            |f| {
                f.kept();
                filtered(f, "exportV4");
            },
            "export-filter",
            &[
                "n2 does not announce 10.244.1.0/26 to n1",
                "rule 1 of exportV4 of BGPFilter no-pods",
            ],
        ),
        (
            "disableBGPExport",
            |f| {
                f.kept();
                add(
                    f.stored(),
                    "ippools/pool",
                    r#"{"cidr": "10.244.0.0/16", "disableBGPExport": true}"#,
                );
            },
            "export-disabled",
            &["n2", "IPPool pool"],
        ),
        (
            "AS loop",
            |f| f.refused("own AS in the path"),
            "loop",
            &["own AS in the path"],
        ),
        (
            "cluster loop",
            |f| f.refused("own cluster in the cluster list"),
            "loop",
            &["own cluster"],
        ),
        (
            "next hop unreachable",
            |f| f.refused("next hop is unreachable"),
            "next-hop",
            &["n1 cannot use 10.244.1.0/26", "172.30.0.12"],
        ),
        (
            "beyond the import limit",
            |f| f.refused("beyond the import limit"),
            "max-prefix",
            &["beyond the import limit"],
        ),
        (
            "another path wins",
            |f| {
                let mut loser = f.bird_of("n1").paths[0].clone();
                (loser.best, loser.reason) = (false, "local preference".to_owned());
                let thief = path(BLOCK, "Global_172_30_0_1", "172.30.0.1");
                f.bird_of("n1").paths = vec![thief, loser];
            },
            "other-path",
            &["Global_172_30_0_1", "local preference"],
        ),
    ]);
}

#[test]
fn faults_of_addresses() {
    check(&[
        (
            "no pool",
            |f| {
                f.subject = Subject::Net(net("192.0.2.9"));
                f.lost();
            },
            "no-pool",
            &["No IPPool holds 192.0.2.9"],
        ),
        (
            "not assigned",
            |f| f.subject = Subject::Net(net("10.244.1.9")),
            "not-assigned",
            &["10.244.1.9 is assigned to no workload", "free"],
        ),
        (
            "allocated to nobody that is there",
            |f| {
                f.stored().endpoints.clear();
                let block = &mut f.stored().blocks[0];
                block.allocations = vec![None; 64];
                block.allocations[5] = Some(0);
                block.attributes = vec![serde_json::from_str(r#"{"handle_id": "k8s.x"}"#).unwrap()];
            },
            "not-assigned",
            &["k8s.x", "no WorkloadEndpoint"],
        ),
        (
            "reserved",
            |f| {
                f.subject = Subject::Net(net("10.244.1.9"));
                add(
                    f.stored(),
                    "ipreservations/gateway",
                    r#"{"reservedCIDRs": ["10.244.1.8/30"]}"#,
                );
            },
            "reserved",
            &["IPReservation gateway"],
        ),
        (
            "pool disabled",
            |f| {
                f.subject = Subject::Net(net("10.244.9.9"));
                add(
                    f.stored(),
                    "ippools/pool",
                    r#"{"cidr": "10.244.0.0/16", "disabled": true}"#,
                );
            },
            "pool-disabled",
            &["IPPool pool is disabled"],
        ),
    ]);
}

#[test]
fn faults_of_owners_of_addresses() {
    check(&[
        (
            "a pod without an address because of that",
            |f| {
                f.subject = Subject::LostPod("web/b".to_owned());
                add(
                    f.stored(),
                    "ippools/pool",
                    r#"{"cidr": "10.244.0.0/16", "disabled": true}"#,
                );
            },
            "pool-disabled",
            &["pod web/b"],
        ),
        (
            "no such pod",
            |f| f.subject = Subject::LostPod("web/b".to_owned()),
            "not-assigned",
            &["pod web/b", "no WorkloadEndpoint"],
        ),
        (
            "affinity pending",
            |f| f.stored().affinities[0].state = AffinityState::Pending,
            "affinity-pending",
            &["n2", BLOCK, "pending"],
        ),
        (
            "the node was deleted",
            |f| drop(f.stored().nodes.remove("n2")),
            "unknown-node",
            &["no Node n2", POD],
        ),
        (
            "a node that never was",
            |f| f.from = vec!["n9".to_owned()],
            "unknown-node",
            &["no Node n9"],
        ),
        (
            "typha is old, so what is missing may be there",
            |f| {
                f.subject = Subject::Net(net("10.244.1.9"));
                let stale = Some(("etcd: deadline".to_owned(), Duration::from_secs(90)));
                known(&mut f.typha).stale = stale;
            },
            "typha-stale",
            &["90 s old", "etcd: deadline"],
        ),
        (
            "typha does not answer",
            |f| {
                f.typha = Fact::Failed("refused".to_owned());
                f.cluster = Fact::Failed("refused".to_owned());
            },
            "typha-down",
            &["typha does not answer", "refused"],
        ),
    ]);
}

#[test]
fn faults_of_the_dataplane() {
    check(&[
        (
            "felix's snapshot is stale",
            |f| {
                f.row_is("withheld", "the datastore was not seen yet");
                f.felix_of("n1").datastore_in_sync = false;
            },
            "felix-stale",
            &["felix on n1", "revision 20"],
        ),
        (
            "felix is out of sync and the route is there",
            |f| f.felix_of("n2").datastore_in_sync = false,
            "felix-stale",
            &["felix on n2"],
        ),
        (
            "felix does not run, and the route is lost",
            |f| {
                f.kernel_of("n1").lookup = lookup("0.0.0.0/0", false, "eth0");
                f.at("n1").felix = Fact::Failed("connect: refused".to_owned());
            },
            "felix-down",
            &["felix on n1", "connect: refused"],
        ),
        (
            "felix does not run, and the route is still there",
            |f| f.at("n1").felix = Fact::Failed("connect: refused".to_owned()),
            "felix-down",
            &["felix on n1"],
        ),
        (
            "felix cannot resolve the next hop",
            |f| f.row_is("withheld", "no route to the next hop 172.30.0.12"),
            "next-hop",
            &["172.30.0.12"],
        ),
    ]);
}

#[test]
fn faults_between_daemons_and_kernel() {
    check(&[
        (
            "somebody else's route in its place",
            |f| {
                f.row_is(
                    "failing",
                    "somebody else's route is in its place: 10.244.1.0/26 dev dummy0",
                )
            },
            "foreign-route",
            &["On n1", "dummy0"],
        ),
        (
            "somebody else's more specific route",
            |f| f.kernel_of("n1").lookup = lookup("10.244.1.5/32", false, "dummy0"),
            "foreign-route",
            &["On n1", "dummy0"],
        ),
        (
            "a peer tries to take a part of our own block",
            |f| {
                f.subject = Subject::Net(net("10.244.1.0/27"));
                f.from = vec!["n2".to_owned()];
                let mut stolen = row("10.244.1.0/27", "");
                (stolen.state, stolen.reason) = (
                    "refused".to_owned(),
                    "in 10.244.1.0/26, which this node owns".to_owned(),
                );
                f.felix_of("n2").rows.push(stolen);
                let told = path("10.244.1.0/27", "Global_172_30_0_1", "172.30.0.1");
                f.bird_of("n2").paths.push(told);
            },
            "own-refused",
            &["felix on n2", "which this node owns"],
        ),
        (
            "the endpoint's interface is gone",
            |f| {
                f.felix_of("n2").rows[0].state = "withheld".to_owned();
                f.felix_of("n2").rows[0].reason = "interface cali1 does not exist".to_owned();
                f.kernel_of("n2").links.remove("cali1");
            },
            "interface-missing",
            &["cali1 of web/a", "n2"],
        ),
    ]);
}

#[test]
fn faults_in_the_kernel() {
    check(&[
        (
            "the same, told by felix alone",
            |f| {
                f.felix_of("n2").rows[0].state = "withheld".to_owned();
                f.felix_of("n2").rows[0].reason = "interface cali1 is down".to_owned();
                f.at("n2").kernel = Fact::NotAsked;
            },
            "interface-missing",
            &["cali1 of web/a"],
        ),
        (
            "the tunnel device is gone",
            |f| {
                add(
                    f.stored(),
                    "ippools/pool",
                    r#"{"cidr": "10.244.0.0/16", "ipipMode": "Always"}"#,
                );
                f.row_is("withheld", "interface tunl0 does not exist");
            },
            "tunnel-missing",
            &["tunl0", "IPPool pool", "n1"],
        ),
        (
            "the encapsulation is not the pool's",
            |f| {
                add(
                    f.stored(),
                    "ippools/pool",
                    r#"{"cidr": "10.244.0.0/16", "ipipMode": "Always"}"#,
                );
                f.kernel_of("n1").links.insert("tunl0".to_owned(), true);
            },
            "encapsulation",
            &["wants tunl0", "dev eth0"],
        ),
        (
            "the kernel refuses",
            |f| f.row_is("failing", "No space left on device (ENOSPC)"),
            "kernel-refuses",
            &["ENOSPC"],
        ),
    ]);
}

/// n3 reflects between n1 and n2.
fn reflected() -> Facts {
    let mut facts = healthy();
    let rr = r#"{"bgp": {"ipv4Address": "172.30.0.13/24", "routeReflectorClusterID": "1.0.0.1"}}"#;
    add(facts.stored(), "nodes/n3", rr);
    add(
        facts.stored(),
        "bgpconfigurations/default",
        r#"{"nodeToNodeMeshEnabled": false}"#,
    );
    let peers = r#"{"nodeSelector": "all()", "peerSelector": "rr == 'true'"}"#;
    add(facts.stored(), "bgppeers/rr", peers);
    let n3 = facts.stored().nodes.get_mut("n3").unwrap();
    n3.metadata.labels.insert("rr".to_owned(), "true".to_owned());
    facts.bird_of("n1").sessions = vec![up("Node_172_30_0_13", "172.30.0.13", "172.30.0.11")];
    facts.bird_of("n2").sessions = vec![up("Node_172_30_0_13", "172.30.0.13", "172.30.0.12")];
    facts.bird_of("n2").announced = BTreeMap::from([("Node_172_30_0_13".to_owned(), BTreeSet::from([net(BLOCK)]))]);
    let bird = BirdFacts {
        sessions: vec![
            up("Node_172_30_0_11", "172.30.0.11", "172.30.0.13"),
            up("Node_172_30_0_12", "172.30.0.12", "172.30.0.13"),
        ],
        ..BirdFacts::default()
    };
    facts.nodes.insert("n3".to_owned(), node(bird, Vec::new(), (None, &[])));
    facts.lost();
    facts
}

fn code(facts: &Facts) -> (Option<&'static str>, Explanation) {
    let explanation = explain(facts);
    (explanation.cause.as_ref().map(super::cause::Cause::code), explanation)
}

#[test]
fn a_reflector_on_the_way_is_asked_too() {
    let mut facts = reflected();
    facts.bird_of("n3").sessions[1].state = "Active".to_owned();
    facts.bird_of("n3").sessions[1].last_error = "Bad peer AS".to_owned();
    let (found, explanation) = code(&facts);
    assert_eq!(found, Some("wrong-as"), "{explanation:#?}");
    assert!(
        explanation.sentence().contains("of n3 with n2"),
        "{}",
        explanation.sentence()
    );

    let mut facts = reflected();
    let mut looped = path(BLOCK, "Node_172_30_0_12", "172.30.0.12");
    looped.refused = Some("own cluster in the cluster list".to_owned());
    facts.bird_of("n3").paths = vec![looped];
    let (found, explanation) = code(&facts);
    assert_eq!(found, Some("loop"), "{explanation:#?}");
    assert!(
        explanation.sentence().starts_with("n3 has"),
        "{}",
        explanation.sentence()
    );

    let mut facts = reflected();
    facts.nodes.remove("n3");
    let (found, explanation) = code(&facts);
    assert_eq!(found, None, "{explanation:#?}");
    assert_eq!(explanation.verdict(), Verdict::Unclear);
    let sentence = explanation.sentence();
    assert_eq!(
        sentence,
        "The cause of what is wrong is not known, because not asked: bird-rs of n3."
    );
}

/// n1 announces what BGPConfiguration has for services; nobody's kernel knows of it.
fn of_service(address: &str, spec: &str, told: &str) -> Facts {
    let mut facts = healthy();
    facts.subject = Subject::Net(net(address));
    add(facts.stored(), "bgpconfigurations/default", spec);
    let cluster = facts.stored();
    (cluster.blocks, cluster.affinities, cluster.endpoints) = Default::default();
    for name in ["n1", "n2"] {
        facts.bird_of(name).paths = vec![path(told, "own_blocks_v4", "")];
        facts.felix_of(name).rows.clear();
        facts.kernel_of(name).lookup = Some(Lookup::Dropped("no route".to_owned()));
    }
    facts
}

#[test]
fn an_address_of_a_service_is_announced_and_in_no_kernel() {
    let spec =
        r#"{"serviceClusterIPs": [{"cidr": "10.96.0.0/12"}], "serviceLoadBalancerIPs": [{"cidr": "10.96.7.0/24"}]}"#;
    let facts = of_service("10.96.0.10", spec, "10.96.0.0/12");
    let explanation = explain(&facts);
    assert_eq!(explanation.verdict(), Verdict::Healthy, "{explanation:#?}");
    assert_eq!(
        explanation.sentence(),
        "Nothing is wrong: n1 announces 10.96.0.0/12, in which 10.96.0.10 is."
    );
    let said = explanation
        .findings
        .iter()
        .any(|f| f.text.contains("of serviceClusterIPs"));
    assert!(said, "{explanation:#?}");
    let smaller = of_service("10.96.7.1", spec, "10.96.7.0/24");
    assert_eq!(explain(&smaller).announced, Some(net("10.96.7.0/24")));
}

#[test]
fn why_an_address_of_a_service_is_not_announced() {
    let whole = r#"{"serviceClusterIPs": [{"cidr": "10.96.0.0/12"}]}"#;
    let lags = of_service("10.96.0.10", whole, "10.97.0.0/16");
    assert_eq!(code(&lags).0, Some("confd-lag"));
    let single =
        r#"{"serviceLoadBalancerAggregation": "Disabled", "serviceLoadBalancerIPs": [{"cidr": "192.0.2.0/24"}]}"#;
    let (found, explanation) = code(&of_service("192.0.2.9", single, "10.0.0.0/8"));
    assert_eq!(found, Some("no-service"), "{explanation:#?}");
    assert!(explanation.sentence().contains("serviceLoadBalancerIPs"));
    let mut excluded = of_service("10.96.0.10", whole, "10.97.0.0/16");
    let labels = &mut excluded.stored().nodes.get_mut("n1").unwrap().metadata.labels;
    labels.insert(
        "node.kubernetes.io/exclude-from-external-load-balancers".to_owned(),
        "true".to_owned(),
    );
    assert_eq!(code(&excluded).0, Some("services-excluded"));
    let other = of_service("203.0.113.9", whole, "10.96.0.0/12");
    assert_eq!(code(&other).0, Some("no-pool"), "an address of no list");
}
