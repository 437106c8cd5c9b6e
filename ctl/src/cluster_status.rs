//! node status of every node at once: what their felix wrote of themselves, by way of typha.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};
use tortie_kit::address::Target;
use tortie_model::node_report::{NodeReport, PeerReport};
use tortie_model::report::{REPORTS, ReportOf, StatusReport};
use tortie_model::{Key, Kind, Object, decode};

use crate::cli::{NodeStatusArgs, StatusFormat, Usage};
use crate::node_status::{peer_type, shown_since};
use crate::output::say;
use crate::store::connect;
use crate::table;

/// A node, and what it said last.
#[derive(Debug, Clone, Default, PartialEq)]
struct Seen {
    /// Is there a Node?
    registered: bool,
    /// Does what it said still count?
    alive: bool,
    /// RFC 3339: when it said it; `None`: it never did.
    reported: Option<String>,
    report: NodeReport,
}

impl Seen {
    fn take(&mut self, report: &StatusReport, alive: bool) {
        // Both keys are written together; the one that expires is the newer one if there is a difference.
        if self.alive && !alive {
            return;
        }
        self.alive = alive;
        self.reported = Some(report.time.clone());
        let told = report.extra.get(NodeReport::FIELD).cloned();
        self.report = told.and_then(|t| serde_json::from_value(t).ok()).unwrap_or_default();
    }

    fn state(&self) -> &'static str {
        match (&self.reported, self.alive, self.report.ready) {
            (None, ..) => "unknown",
            (_, false, _) => "down",
            (_, true, false) => "not ready",
            (_, true, true) => "ready",
        }
    }

    fn peers(&self) -> &[PeerReport] {
        self.report.bgp.as_ref().map_or(&[], |b| &b.peers)
    }

    /// Is there anything that should be otherwise?
    fn is_down(&self) -> bool {
        let sessions = self.peers().iter().all(PeerReport::is_established);
        self.state() != "ready" || self.report.failing_total > 0 || self.report.bgp.is_none() || !sessions
    }
}

/// `tortiectl node status` without `--bird`.
pub(crate) async fn show(typha: Option<Target>, args: &NodeStatusArgs) -> Result<()> {
    let typha = typha.ok_or_else(|| {
        Usage::error(
            "whose status? use --typha ADDR (or the environment's TORTIE_TYPHA) for every node, --bird ADDR for one",
        )
    })?;
    let store = connect(Some(typha))?;
    let mut entries = store.list(REPORTS).await?.entries;
    entries.extend(store.list(&Key::collection(Kind::Node)).await?.entries);
    let documents = entries.iter().filter_map(|e| {
        let key: Key = e.key.parse().ok()?;
        let object = decode(&key, &e.value).ok()?;
        Some((key, object))
    });
    let mut nodes = seen(documents);
    let wanted: BTreeSet<&str> = args.nodes.iter().map(String::as_str).collect();
    if let Some(missing) = wanted.iter().find(|name| !nodes.contains_key(**name)) {
        anyhow::bail!("no node {missing}: neither a Node nor a report of it is there");
    }
    nodes.retain(|name, seen| (wanted.is_empty() || wanted.contains(name.as_str())) && (!args.down || seen.is_down()));
    match args.output {
        StatusFormat::Json => {
            let all: Vec<Value> = nodes
                .iter()
                .map(|(name, seen)| as_json(name, seen, args.down))
                .collect::<Result<_>>()?;
            say(&format!("{:#}", Value::Array(all)))
        }
        StatusFormat::Table => say(&text(&nodes, args.down, Timestamp::now())),
    }
}

/// What the documents say of each node, by name.
fn seen(documents: impl Iterator<Item = (Key, Object)>) -> BTreeMap<String, Seen> {
    let mut nodes: BTreeMap<String, Seen> = BTreeMap::new();
    for (key, object) in documents {
        match (key, object) {
            (Key::Resource { name, .. }, Object::Node(_)) => nodes.entry(name).or_default().registered = true,
            (Key::Report(key), Object::StatusReport(report)) => {
                let alive = key.of == ReportOf::Status;
                nodes.entry(key.node.to_string()).or_default().take(&report, alive);
            }
            _ => {}
        }
    }
    nodes
}

fn as_json(name: &str, seen: &Seen, down: bool) -> Result<Value> {
    let mut report = seen.report.clone();
    if let Some(bgp) = report.bgp.as_mut().filter(|_| down) {
        bgp.peers.retain(|p| !p.is_established());
    }
    let mut value = json!({
        "node": name,
        "state": seen.state(),
        "registered": seen.registered,
        "reported": seen.reported,
    });
    if seen.reported.is_some() {
        value["status"] = serde_json::to_value(&report).context("cannot write JSON")?;
    }
    Ok(value)
}

fn text(nodes: &BTreeMap<String, Seen>, down: bool, now: Timestamp) -> String {
    if nodes.is_empty() {
        let all = if down {
            "Every node is ready, and so are its sessions."
        } else {
            "No nodes."
        };
        return all.to_owned();
    }
    let rows: Vec<Vec<String>> = nodes.iter().map(|(name, seen)| row(name, seen, now)).collect();
    let header = ["NODE", "STATE", "FELIX", "ROUTES", "FAILING", "BGP", "REPORTED"];
    let mut text = table::aligned(&header, &rows);
    for (name, seen) in nodes {
        let report = &seen.report;
        let waits = report.waits.iter().filter(|_| seen.alive);
        text.extend(waits.map(|w| format!("\n{name}: not ready: {w}")));
        text.extend(
            report
                .failing
                .iter()
                .map(|f| format!("\n{name}: failing: {}", failing(f))),
        );
        let named = report.failing.len() as u64;
        if report.failing_total > named {
            text.push_str(&format!("\n{name}: failing: {} more", report.failing_total - named));
        }
        if seen.alive && report.bgp.is_none() {
            text.push_str(&format!("\n{name}: bird-rs does not answer"));
        }
    }
    let peers: Vec<Vec<String>> = nodes
        .iter()
        .flat_map(|(name, seen)| seen.peers().iter().map(move |p| (name, p)))
        .filter(|(_, p)| !down || !p.is_established())
        .map(|(name, p)| peer(name, p, now))
        .collect();
    if !peers.is_empty() {
        let header = ["NODE", "PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"];
        text.push_str(&format!("\n\n{}", table::framed(&header, &peers)));
    }
    text
}

fn row(name: &str, seen: &Seen, now: Timestamp) -> Vec<String> {
    let report = &seen.report;
    let (wanted, programmed) = report
        .routes
        .values()
        .fold((0, 0), |(w, p), c| (w + c.wanted, p + c.programmed));
    let up = seen.peers().iter().filter(|p| p.is_established()).count();
    let known = |text: String| if seen.reported.is_some() { text } else { "-".to_owned() };
    vec![
        name.to_owned(),
        seen.state().to_owned(),
        report.versions.get("felix").cloned().unwrap_or_else(|| "-".to_owned()),
        known(format!("{programmed}/{wanted}")),
        known(report.failing_total.to_string()),
        known(format!("{up}/{}", seen.peers().len())),
        seen.reported
            .as_deref()
            .map_or_else(|| "never".to_owned(), |t| since(t, now)),
    ]
}

fn failing(f: &tortie_model::node_report::FailingReport) -> String {
    let since = f.since.as_deref().map(|s| format!(", since {s}")).unwrap_or_default();
    let next = f
        .next_try
        .as_deref()
        .map(|n| format!(", {} tries, next at {n}", f.attempts));
    format!("{}: {}{since}{}", f.object, f.error, next.unwrap_or_default())
}

fn peer(node: &str, p: &PeerReport, now: Timestamp) -> Vec<String> {
    vec![
        node.to_owned(),
        p.address.clone(),
        peer_type(&p.name).to_owned(),
        p.state.clone(),
        since(&p.since, now),
        p.info.clone(),
    ]
}

fn since(time: &str, now: Timestamp) -> String {
    time.parse().map_or_else(|_| time.to_owned(), |t| shown_since(t, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(key: &str, json: &Value) -> (Key, Object) {
        let key: Key = key.parse().unwrap();
        let object = decode(&key, json.to_string().as_bytes()).unwrap();
        (key, object)
    }

    fn node(name: &str) -> (Key, Object) {
        let json =
            json!({"kind": "Node", "apiVersion": "projectcalico.org/v3", "metadata": {"name": name}, "spec": {}});
        document(&format!("/calico/resources/v3/projectcalico.org/nodes/{name}"), &json)
    }

    fn report(name: &str, key: &str, told: &Value) -> (Key, Object) {
        let json = json!({"time": "2026-05-01T10:00:00Z", "uptime": 1.0, "first_update": false, "tortie": told});
        document(&format!("/calico/felix/v2/no-region/host/{name}/{key}"), &json)
    }

    fn good() -> Value {
        json!({
            "ready": true, "versions": {"felix": "0.1.0"}, "routes": {"bgp": {"wanted": 3, "programmed": 2}},
            "bgp": {"peers": [
                {"address": "172.30.0.12", "name": "Mesh_172_30_0_12", "state": "up", "since": "2026-05-01T09:00:00Z",
                 "info": "Established"},
            ]},
        })
    }

    #[test]
    fn every_node_and_what_is_wrong() {
        let mut bad = good();
        (bad["ready"], bad["waits"]) = (json!(false), json!(["datastore: not connected yet"]));
        bad["failing"] = json!([{"object": "route 10.0.0.0/26", "error": "EBUSY", "attempts": 3,
            "since": "2026-05-01T09:59:00Z", "nextTry": "2026-05-01T10:00:05Z"}]);
        bad["failingTotal"] = json!(2);
        bad["bgp"]["peers"][0]["info"] = json!("Active Socket: Connection refused");
        let documents = [
            node("n1"),
            node("n2"),
            node("n3"),
            node("n4"),
            report("n1", "status", &good()),
            report("n1", "last_reported_status", &bad),
            report("n2", "last_reported_status", &bad),
            report("n2", "status", &bad),
            report("n3", "last_reported_status", &good()),
        ];
        let mut nodes = seen(documents.into_iter());
        let now = "2026-05-01T10:00:30Z".parse().unwrap();
        let want = "\
NODE   STATE       FELIX   ROUTES   FAILING   BGP   REPORTED
n1     ready       0.1.0   2/3      0         1/1   10:00:00
n2     not ready   0.1.0   2/3      2         0/1   10:00:00
n3     down        0.1.0   2/3      0         1/1   10:00:00
n4     unknown     -       -        -         -     never
n2: not ready: datastore: not connected yet
n2: failing: route 10.0.0.0/26: EBUSY, since 2026-05-01T09:59:00Z, 3 tries, next at 2026-05-01T10:00:05Z
n2: failing: 1 more

+------+--------------+-------------------+-------+----------+-----------------------------------+
| NODE | PEER ADDRESS |     PEER TYPE     | STATE |  SINCE   |               INFO                |
+------+--------------+-------------------+-------+----------+-----------------------------------+
| n1   | 172.30.0.12  | node-to-node mesh | up    | 09:00:00 | Established                       |
| n2   | 172.30.0.12  | node-to-node mesh | up    | 09:00:00 | Active Socket: Connection refused |
| n3   | 172.30.0.12  | node-to-node mesh | up    | 09:00:00 | Established                       |
+------+--------------+-------------------+-------+----------+-----------------------------------+";
        assert_eq!(text(&nodes, false, now), want);
        nodes.retain(|_, seen| seen.is_down());
        assert_eq!(nodes.keys().collect::<Vec<_>>(), ["n2", "n3", "n4"]);
        let down = text(&nodes, true, now);
        assert!(
            !down.contains("Established") && down.contains("Connection refused"),
            "{down}"
        );
        let json = as_json("n3", &nodes["n3"], true).unwrap();
        assert_eq!(
            (&json["state"], &json["status"]["bgp"]["peers"]),
            (&json!("down"), &json!([]))
        );
        assert!(as_json("n4", &nodes["n4"], false).unwrap().get("status").is_none());
        assert!(text(&BTreeMap::new(), true, now).starts_with("Every node"));
    }
}
