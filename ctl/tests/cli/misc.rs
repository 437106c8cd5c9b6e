//! version, completion, node diags; what is written where.

use serde_json::Value;

use crate::{Typha, tortiectl};

#[test]
fn versions() {
    let typha = Typha::start();
    let own = env!("CARGO_PKG_VERSION");
    let text = typha.run(&["version"]).out;
    for line in [format!("Client Version:    {own}"), format!("typha Version:     {own}")] {
        assert!(text.lines().any(|l| l == line), "no '{line}' in:\n{text}");
    }
    let json: Value = serde_json::from_str(&typha.run(&["version", "-o", "json"]).out).unwrap();
    assert_eq!(
        (&json["Client Version"], &json["typha Version"]),
        (&own.into(), &own.into())
    );
    assert!(json["Cluster GUID"].as_str().is_some_and(|g| g.len() == 32), "{json}");
    // What is known is said, also when a daemon is away.
    let said = typha.run(&["version", "--bird", "unix:/nonexistent/bird.sock"]);
    said.failed(1, &["bird-rs does not answer"]);
    assert!(said.out.contains("typha Version:"), "{}", said.out);
    typha
        .run(&["version", "--felix", "unix:/nonexistent/felix.sock"])
        .failed(1, &["felix does not answer"]);
}

#[test]
fn shells_complete_every_command() {
    for (shell, word) in [
        ("bash", "_tortiectl()"),
        ("zsh", "#compdef tortiectl"),
        ("fish", "complete -c tortiectl"),
    ] {
        let said = tortiectl(&["completion", shell], "");
        assert_eq!(said.status, 0, "{}", said.err);
        assert!(said.out.contains(word), "{shell}");
        for command in ["validate", "label", "diff", "ipam"] {
            assert!(said.out.contains(command), "{shell}: {command}");
        }
    }
    tortiectl(&["completion", "tcsh"], "").failed(64, &["tcsh"]);
}

#[test]
fn the_archive_of_diags_holds_what_the_host_and_typha_say() {
    let typha = Typha::start();
    let dir = tempfile::tempdir().unwrap();
    let logs = tempfile::tempdir().unwrap();
    std::fs::write(logs.path().join("felix.log"), "said").unwrap();
    let said = typha.run(&[
        "node",
        "diags",
        "--dir",
        &dir.path().display().to_string(),
        "--log-dir",
        &logs.path().display().to_string(),
    ]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert_eq!(said.err, "", "progress is for terminals");
    let archive = said.out.trim().to_owned();
    let listed = std::process::Command::new("tar")
        .args(["-tzf", &archive])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for file in [
        "/date",
        "/ip-route-v4",
        "/nodes.yaml",
        "/typha-status",
        "/logs/felix.log",
    ] {
        assert!(listed.lines().any(|l| l.ends_with(file)), "no {file} in:\n{listed}");
    }
    let text = std::process::Command::new("tar")
        .args(["-xzOf", &archive, "--wildcards", "*/typha-status"])
        .output();
    let text = String::from_utf8(text.unwrap().stdout).unwrap();
    assert!(text.contains("datastore: answers"), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&archive).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "only the archive stays"
    );
}

#[test]
fn nothing_is_coloured_or_moves_where_nobody_looks() {
    let typha = Typha::start();
    for args in [
        &["get", "nodes"][..],
        &["bgp", "peers"],
        &["ipam", "show"],
        &["--help"],
        &["get", "gizmos"],
    ] {
        let said = typha.run(args);
        for text in [&said.out, &said.err] {
            assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{args:?}: {text:?}");
        }
    }
}

#[test]
fn what_programs_read_is_json() {
    let typha = Typha::start();
    let status: Value = serde_json::from_str(&typha.run(&["datastore", "status", "-o", "json"]).out).unwrap();
    assert_eq!((&status["clients"], &status["stale"]), (&0.into(), &Value::Null));
    assert_eq!(status["documents"], 1, "ClusterInformation");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    assert_eq!(tortiectl(&["certs", "init", "--dir", &path], "").status, 0);
    let shown = tortiectl(&["certs", "show", &format!("{path}/ca.pem"), "-o", "json"], "");
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(
        (&shown[0]["organization"], &shown[0]["common_name"]),
        (&"tortie:authority".into(), &"Tortie".into())
    );
}
