//! datastore export, import.

use serde_json::json;

use crate::{Typha, tortiectl};

/// What an export says without its first and last line: keys and documents, octet for octet.
fn documents(export: &str) -> Vec<&str> {
    let lines: Vec<_> = export.lines().collect();
    lines[1..lines.len() - 1].to_vec()
}

fn pool(name: &str, cidr: &str) -> String {
    let spec = json!({ "cidr": cidr });
    let (version, metadata) = ("projectcalico.org/v3", json!({ "name": name }));
    json!({ "apiVersion": version, "kind": "IPPool", "metadata": metadata, "spec": spec }).to_string()
}

#[test]
fn what_is_exported_imports_to_the_same() {
    let first = Typha::start();
    assert_eq!(first.apply(&pool("a", "10.1.0.0/16")).status, 0);
    first.store(
        "/calico/ipam/v2/handle/x",
        r#"{"block":  {"10.1.0.0/26": 1}, "later": 18446744073709551615}"#,
    );
    let exported = first.run(&["datastore", "export"]);
    assert_eq!(exported.status, 0, "{}", exported.err);
    assert_eq!(documents(&exported.out).len(), 3);
    let damaged = exported.out.replacen("10.1.0.0", "10.2.0.0", 1);

    let second = Typha::start();
    second
        .run_with(&["datastore", "import", "-f", "-"], &damaged)
        .failed(1, &["checksum", "changed or damaged"]);
    let cut: String = exported.out.lines().take(3).map(|l| format!("{l}\n")).collect();
    second
        .run_with(&["datastore", "import", "-f", "-"], &cut)
        .failed(1, &["cut off"]);
    let dry = second.run_with(&["datastore", "import", "--dry-run", "-f", "-"], &exported.out);
    assert!(
        dry.out.starts_with("3 documents to be written, 0 to be deleted"),
        "{}",
        dry.out
    );
    let imported = second.run_with(&["datastore", "import", "-f", "-"], &exported.out);
    assert_eq!(imported.status, 0, "{}", imported.err);
    assert!(
        imported.out.contains("the datastore holds the 3 of the file"),
        "{}",
        imported.out
    );
    let again = second.run(&["datastore", "export"]);
    assert_eq!(documents(&again.out), documents(&exported.out));

    // Into what is not empty only on request.
    assert_eq!(second.apply(&pool("b", "10.9.0.0/16")).status, 0);
    let refused = second.run_with(&["datastore", "import", "-f", "-"], &exported.out);
    refused.failed(1, &["not empty", "ippools/b", "--replace"]);
    let replaced = second.run_with(&["datastore", "import", "--replace", "-f", "-"], &exported.out);
    assert!(
        replaced.out.starts_with("0 documents written, 1 deleted"),
        "{}",
        replaced.out
    );
    assert_eq!(
        documents(&second.run(&["datastore", "export"]).out),
        documents(&exported.out)
    );
    tortiectl(&["datastore", "import"], "").failed(64, &["--filename"]);
}
