//! What `tortiectl explain` says of a cluster, asked with every node's sockets.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tortie_tests::lab::{Cluster, binary, wait_for};

use crate::traffic::PATIENCE;

/// What `explain` says and how it ends.
struct Said {
    status: Option<i32>,
    json: Value,
}

fn explain(cluster: &Cluster, subject: &str, node: &str) -> Result<Said> {
    let mut command = Command::new(binary("tortiectl")?);
    command.args(["--typha", &cluster.typha_socket(), "explain", subject]);
    command.args(["--node", node, "-o", "json"]);
    for node in cluster.nodes() {
        let name = node.name();
        command.args(["--bird", &format!("{name}={}", node.bird_addr())]);
        command.args(["--felix", &format!("{name}={}", node.felix_addr())]);
        command.args(["--netns", &format!("{name}={}", node.ns().path())]);
    }
    let output = command.output().context("run tortiectl")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    let json = serde_json::from_str(&text).with_context(|| format!("{text}{said}"))?;
    let status = output.status.code();
    Ok(Said { status, json })
}

/// Waits until the cause is this one and the sentence has these words.
pub(crate) fn cause(cluster: &Cluster, (subject, node): (&str, &str), code: &str, words: &[&str]) -> Result<()> {
    let what = format!("{code} as the cause for {subject} from {node}");
    let sentence = wait_for(&what, PATIENCE, || {
        let said = explain(cluster, subject, node)?;
        let sentence = said.json["sentence"].as_str().unwrap_or_default().to_owned();
        let right = said.json["cause"] == code && words.iter().all(|w| sentence.contains(w));
        ensure!(right && said.status == Some(2), "{:#}", said.json);
        Ok(sentence)
    })?;
    println!("{code}: {sentence}");
    Ok(())
}

/// Waits until nothing is wrong.
pub(crate) fn healthy(cluster: &Cluster, subject: &str, node: &str) -> Result<()> {
    wait_for(&format!("{subject} to be well from {node}"), PATIENCE, || {
        let said = explain(cluster, subject, node)?;
        ensure!(said.json["verdict"] == "healthy", "{:#}", said.json);
        ensure!(said.status == Some(0), "exit status {:?}", said.status);
        Ok(())
    })
}
