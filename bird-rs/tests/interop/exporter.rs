//! A Prometheus exporter for BIRD, against stock BIRD and against bird-rs, each with the same file and the same
//! neighbour: what it exports must be the same, but for times.

use std::collections::BTreeMap;

use crate::birdc::{FILE, NEIGHBOUR, settled, stock_bird};
use crate::lab::{Lab, Running, eventually, tool};

/// Where the exporter listens, in the namespace of the daemon.
const PORT: u16 = 9324;

/// What the exporter says of the daemon whose socket is `a.ctl`: the value of each of BIRD's metrics.
fn metrics(lab: &Lab) -> BTreeMap<String, String> {
    let mut command = lab.command("a", tool("/usr/bin/prometheus-bird-exporter"));
    command
        .arg("-bird.v2")
        .arg("-bird.socket")
        .arg(lab.path("a.ctl"))
        .arg("-web.listen-address")
        .arg(format!("127.0.0.1:{PORT}"));
    let _exporter = lab.spawn(command, "exporter");
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{PORT}; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; timeout 20 cat <&3"
    );
    let answer = eventually("the exporter answers", || {
        let output = lab.command("a", "bash").arg("-c").arg(&script).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("bird_protocol_up").then_some(text)
    });
    let of_bird = answer.lines().filter(|line| line.starts_with("bird_"));
    let pairs = of_bird.filter_map(|line| line.rsplit_once(' '));
    // A route that the policy rejects is also a withdrawal that is ignored to BIRD, if it knows the prefix otherwise.
    let same = |metric: &str| !metric.contains("uptime") && !metric.contains("withdraw_import_ignore");
    let pairs = pairs.filter(|(metric, _)| same(metric));
    pairs
        .map(|(metric, value)| (metric.to_owned(), value.to_owned()))
        .collect()
}

fn exported(start: impl FnOnce(&Lab) -> Running) -> BTreeMap<String, String> {
    let lab = Lab::new();
    let _neighbour = lab.bird("b", NEIGHBOUR, false);
    let _daemon = start(&lab);
    settled(&lab);
    metrics(&lab)
}

#[test]
fn the_exporter_says_the_same_of_bird_and_of_bird_rs() {
    let birds = exported(stock_bird);
    let ours = exported(|lab| lab.bird_rs("a", FILE));
    let accepted = "bird_protocol_changes_update_import_accept_count";
    let of_up = birds
        .iter()
        .find(|(metric, _)| metric.starts_with(accepted) && metric.contains("\"up\""));
    assert_eq!(of_up.map(|(_, count)| &**count), Some("3"), "{birds:#?}");
    let metrics: std::collections::BTreeSet<_> = birds.keys().chain(ours.keys()).collect();
    let differing = metrics
        .into_iter()
        .filter(|metric| birds.get(*metric) != ours.get(*metric));
    let differing: Vec<String> = differing
        .map(|metric| format!("{metric}: BIRD {:?}, bird-rs {:?}", birds.get(metric), ours.get(metric)))
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
