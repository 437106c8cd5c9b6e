use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Result<Vec<Manifest>, Vec<Problem>> {
    read_manifests("f", text, "default")
}

#[test]
fn scalars_mean_what_their_field_says() {
    let text = "
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata:
  name: default
  annotations:
    empty:
    quoted: '12'
    tagged: !!str 12
    folded: >-
      two
      lines
spec:
  nodeToNodeMeshEnabled: off
  asNumber: '1.10'
  listenPort: 179
  logSeverityScreen: ~
";
    let manifest = read(text).unwrap().remove(0);
    let want = serde_json::json!({
        "apiVersion": "projectcalico.org/v3",
        "kind": "BGPConfiguration",
        "metadata": {
            "name": "default",
            "annotations": {"empty": "", "quoted": "12", "tagged": "12", "folded": "two lines"},
        },
        "spec": {"nodeToNodeMeshEnabled": false, "asNumber": "1.10", "listenPort": 179},
    });
    assert_eq!(manifest.value, want);
    assert_eq!((manifest.place.line, manifest.lines["spec.listenPort"]), (2, 16));
}

#[test]
fn numbers_are_exact_or_refused() {
    let status = |value: &str| {
        let text =
            format!("apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: n}}\nstatus: {{x: {value}}}\n");
        read(&text)
            .map(|m| m[0].value["status"]["x"].clone())
            .map_err(|p| p[0].to_string())
    };
    assert_eq!(status("18446744073709551615").unwrap(), serde_json::json!(u64::MAX));
    assert_eq!(status("-5").unwrap(), serde_json::json!(-5));
    assert_eq!(status("1.5").unwrap(), serde_json::json!(1.5));
    assert_eq!(status("infinity").unwrap(), serde_json::json!("infinity"));
    assert_eq!(status("[a, {b: null}]").unwrap(), serde_json::json!(["a", {"b": null}]));
    for ambiguous in ["012", "0x1f", ".nan", "-.inf", "0b1"] {
        assert!(
            status(ambiguous).unwrap_err().contains("all readers agree"),
            "{ambiguous}"
        );
    }
}

#[test]
fn hostile_nesting_is_refused_in_bounded_time() {
    for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        assert!(read(&text).unwrap_err()[0].to_string().contains("not YAML"));
    }
    let keys: String = (0..200_000).map(|i| format!("k{i}: 1\n")).collect();
    assert!(read(&keys).is_err());
    assert!(read("a: &a [*a]").unwrap_err()[0].to_string().contains("alias"));
    assert!(
        read("? [a]\n: b").unwrap_err()[0]
            .to_string()
            .contains("a key must be text")
    );
    assert!(
        read("<<: 5\na: 1").unwrap_err()[0]
            .to_string()
            .contains("'<<' wants an object")
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-z0-9:{}\\[\\],&*!|>'\"#%@ \\n<~.-]{0,80}") {
        let _ = read(&text);
    }

    /// Whatever is read and admitted is, written as JSON, read as the same again: `get` and `apply` fit together.
    #[test]
    fn json_is_read_as_itself(name in "[a-z][a-z0-9]{0,8}", len in 8u8..=24, nat: bool, label in "[a-zA-Z0-9]{1,12}") {
        let pool = serde_json::json!({
            "apiVersion": "projectcalico.org/v3", "kind": "IPPool",
            "metadata": {"name": name, "labels": {"l": label}},
            "spec": {"cidr": format!("10.0.0.0/{len}"), "natOutgoing": nat, "blockSize": 26},
        });
        let manifests = read(&pool.to_string()).unwrap();
        prop_assert_eq!(&manifests[0].value, &pool);
    }
}

/// Editors and other tools write tabs, carriage returns and a byte order mark.
#[test]
fn text_of_other_tools() {
    let json =
        "{\n\t\"apiVersion\": \"projectcalico.org/v3\",\n\t\"kind\": \"Node\",\n\t\"metadata\": {\"name\": \"n\"}\n}\n";
    let yaml = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata:\n  name: n\n";
    for text in [
        json,
        yaml,
        &json.replace('\n', "\r\n"),
        &yaml.replace('\n', "\r\n"),
        &format!("\u{feff}{yaml}"),
    ] {
        assert_eq!(read(text).unwrap()[0].key.object_name(), "Node(n)", "{text:?}");
    }
}
