//! What a changed node costs in a cluster of 5,000: `cargo bench -p confd --bench render`.
//!
//! Every node has both families, the mesh is full, some BGPPeers and a filter are there. Rendered are the whole, and
//! then what one changed node leaves to do, each several times; the median counts. It fails when a change takes 50 ms.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // A bench may panic, and looks at the clock.

use std::time::{Duration, Instant};

use confd::apply::Rendered;
use confd::daemon::{Before, render};
use confd::render::GoTemplates;
use confd::state::ClusterState;
use confd::view::RouterIdChoice;
use serde_json::json;
use tortie_model::{Key, Kind};

const NODES: u32 = 5000;
const ROUNDS: u64 = 11;
const GOAL: Duration = Duration::from_millis(50);

fn set(state: &mut ClusterState, revision: u64, kind: Kind, name: &str, spec: &serde_json::Value) {
    let key = Key::resource(kind, None, name).to_string();
    let document = json!({"kind": kind.name(), "metadata": {"name": name}, "spec": spec});
    assert!(state.set(&key, document.to_string().as_bytes(), revision));
}

fn node(state: &mut ClusterState, revision: u64, index: u32, asn: u32) {
    let spec = json!({"bgp": {
        "asNumber": asn,
        "ipv4Address": format!("172.16.{}.{}/16", index / 250, index % 250 + 1),
        "ipv6Address": format!("fd00:30::{:x}/64", index + 1),
    }});
    set(state, revision, Kind::Node, &format!("node-{index}"), &spec);
}

fn cluster() -> ClusterState {
    let mut state = ClusterState::new("node-0".parse().unwrap());
    for index in 0..NODES {
        node(&mut state, u64::from(index) + 1, index, 64512);
    }
    set(
        &mut state,
        9000,
        Kind::IpPool,
        "default",
        &json!({"cidr": "10.0.0.0/8"}),
    );
    let filter = json!({"exportV4": [{"action": "Reject", "cidr": "10.9.0.0/16", "matchOperator": "In"}]});
    set(&mut state, 9001, Kind::BgpFilter, "edge", &filter);
    for tor in 1..=2 {
        let peer = json!({"peerIP": format!("172.31.0.{tor}"), "asNumber": 65001, "filters": ["edge"]});
        set(&mut state, 9001 + tor, Kind::BgpPeer, &format!("tor{tor}"), &peer);
    }
    state
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

fn main() {
    let (engine, mut state) = (GoTemplates::load(None).unwrap(), cluster());
    let timed = |state: &ClusterState, before: &mut Before| -> (Duration, Rendered) {
        let started = Instant::now();
        let (_, rendered) = render(state, RouterIdChoice::Auto, &engine, before).unwrap();
        (started.elapsed(), rendered)
    };
    let whole = median((0..ROUNDS).map(|_| timed(&state, &mut Before::default()).0).collect());
    let mut before = Before::default();
    timed(&state, &mut before);
    let mut changes = Vec::new();
    for round in 0..ROUNDS {
        let asn = 64513 + u32::try_from(round).unwrap();
        node(&mut state, 10_000 + round, 2500, asn);
        let (took, rendered) = timed(&state, &mut before);
        assert_eq!(rendered, timed(&state, &mut Before::default()).1);
        changes.push(took);
    }
    let change = median(changes);
    println!(
        "{NODES} nodes: whole {whole:?}, one changed node {change:?}, {:.0} times less",
        whole.as_secs_f64() / change.as_secs_f64()
    );
    assert!(change < GOAL, "a changed node takes {change:?}: more than {GOAL:?}");
}
