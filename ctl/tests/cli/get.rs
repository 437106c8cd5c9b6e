//! get: every kind's columns as golden files, and every way to choose and to print.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tortie_model::{API_VERSION, Key, Kind};

use crate::Typha;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/ctl-get")
}

/// A cluster with the objects of every golden case, and the kinds.
fn cluster() -> (Typha, Vec<Kind>) {
    let typha = Typha::start();
    let mut kinds = Vec::new();
    for entry in std::fs::read_dir(golden()).unwrap() {
        let case = entry.unwrap().path();
        let kind = Kind::from_alias(case.file_name().unwrap().to_str().unwrap()).unwrap();
        let text = std::fs::read_to_string(case.join("input.yaml")).unwrap();
        let objects: Vec<Value> = serde_saphyr::from_str(&text).unwrap();
        for mut object in objects {
            object["apiVersion"] = API_VERSION.into();
            object["kind"] = kind.name().into();
            let meta = &object["metadata"];
            let key = Key::resource(kind, meta["namespace"].as_str(), meta["name"].as_str().unwrap());
            typha.restore(&key.to_string(), &object.to_string());
        }
        kinds.push(kind);
    }
    kinds.sort();
    (typha, kinds)
}

/// calicoctl's columns. `UPDATE=1` writes the expectations anew.
#[test]
fn the_columns_of_every_kind() {
    let (typha, kinds) = cluster();
    let mut failed = Vec::new();
    for kind in &kinds {
        let word = kind.name().to_ascii_lowercase();
        let tables = [
            ("expect.txt", vec!["get", &word]),
            ("expect.wide.txt", vec!["get", &word, "-o", "wide"]),
        ];
        for (file, mut args) in tables {
            if kind.namespaced() {
                args.push("-A");
            }
            let said = typha.run(&args);
            assert_eq!(said.status, 0, "{}", said.err);
            let path = golden().join(&word).join(file);
            if std::env::var("UPDATE").is_ok_and(|v| v == "1") {
                std::fs::write(&path, &said.out).unwrap();
            } else if std::fs::read_to_string(&path).unwrap_or_default() != said.out {
                failed.push(format!("{}:\n{}", path.display(), said.out));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    // Every kind but the one typha writes itself, and two that are no resources of calicoctl's.
    let without = [Kind::ClusterInformation, Kind::BlockAffinity, Kind::LiveMigration];
    let all: Vec<Kind> = Kind::ALL.iter().copied().filter(|k| !without.contains(k)).collect();
    assert_eq!(kinds, all);
    assert!(typha.run(&["get", "clusterinfo"]).out.starts_with("NAME"));
}

#[test]
fn selectors_columns_of_choice_and_templates() {
    let (typha, _) = cluster();
    typha
        .run(&["get", "nodes", "-l", "rack == 'r1'", "-o", "name"])
        .is("node/n1");
    typha
        .run(&["get", "nodes", "-l", "!has(rack)", "-o", "name"])
        .is("node/n2\nnode/n3");
    typha
        .run(&["get", "nodes", "-l", "rack =="])
        .failed(64, &["--selector"]);
    typha
        .run(&["get", "nodes", "-o", "custom-columns=NAME,ASN,labels"])
        .is("\
NAME   ASN       LABELS
n1     (64513)   rack=r1
n2     64600
n3     (64513)");
    typha
        .run(&[
            "get",
            "pools",
            "-o",
            "custom-columns=POOL:.metadata.name,USE:.spec.allowedUses[*]",
        ])
        .is("POOL   USE\na      Workload,Tunnel\nb");
    typha
        .run(&["get", "pools", "-o", "custom-columns=NAME,GIZMO"])
        .failed(64, &["a IPPool has no column 'GIZMO'", "CIDR"]);
    typha
        .run(&["get", "pools", "-o", "gizmo"])
        .failed(64, &["custom-columns=COLUMN"]);
    let template = "go-template={{range .items}}{{.metadata.name}} {{.spec.cidr}};{{end}}";
    typha
        .run(&["get", "pools", "-o", template])
        .is("a 10.244.0.0/16;b fd00:244::/48;");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.tmpl");
    std::fs::write(&file, "{{.spec.cidr}}\n").unwrap();
    typha
        .run(&[
            "get",
            "pool",
            "a",
            "-o",
            &format!("go-template-file={}", file.display()),
        ])
        .is("10.244.0.0/16");
    typha
        .run(&["get", "pool", "a", "-o", "go-template={{"])
        .failed(1, &["go-template: "]);
}

#[test]
fn objects_that_files_name_and_exports() {
    let (typha, _) = cluster();
    let files = "{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: n2}, spec: {}}\n---\n\
                 {apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: a}, spec: {cidr: 10.0.0.0/8}}";
    typha
        .run_with(&["get", "-f", "-", "-o", "name"], files)
        .is("node/n2\nippool/a");
    typha.run(&["get"]).failed(64, &["KIND"]);
    typha
        .run(&["get", "pools", "-f", "-"])
        .failed(64, &["cannot be used with"]);
    let shown = typha.run(&["get", "wep", "n1-cni-abc-eth0", "-n", "web", "--export", "-o", "json"]);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(shown["metadata"], serde_json::json!({"name": "n1-cni-abc-eth0"}));
    let yaml = typha.run(&["get", "pools", "-o", "yaml"]).out;
    let list: Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(
        (&list["kind"], list["items"].as_array().map(Vec::len)),
        (&"IPPoolList".into(), Some(2))
    );
}
