//! `ipam.type` host-local and static: the stock plugins give addresses, felix makes the rest.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::{Value, json};
use tortie_proto::felix;

use super::{Node, Ran, run};

/// Where Debian's containernetworking-plugins are.
const PLUGINS: &str = "/usr/lib/cni";

fn invoke(node: &Node, command: &str, container: &str, version: &str, more: &Value) -> Ran {
    let env = [("CNI_CONTAINERID", container), ("CNI_PATH", PLUGINS)];
    run(command, &env, node.conf(version, more.clone()).to_string().as_bytes())
}

/// A node with pod CIDRs, and the section of a network that draws from them.
fn with_pod_cidrs(cidrs: &[&str]) -> (Node, Value) {
    assert!(
        Path::new(PLUGINS).join("host-local").exists(),
        "{PLUGINS}/host-local is missing: make deps"
    );
    let node = Node::new();
    node.felix.0.lock().unwrap().pod_cidrs = cidrs.iter().map(|c| (*c).to_owned()).collect();
    let ipam = json!({"type": "host-local", "subnet": "usePodCidr", "dataDir": node.dir.path().join("ipam")});
    (node, json!({"ipam": ipam}))
}

/// The addresses that host-local has given to anybody.
fn taken(node: &Node) -> Vec<String> {
    let listed = fs::read_dir(node.dir.path().join("ipam/net")).into_iter().flatten();
    let names = listed.map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut taken: Vec<String> = names.filter(|n| n.starts_with("10.") || n.starts_with("fd")).collect();
    taken.sort();
    taken
}

#[test]
fn an_address_of_the_nodes_pod_cidr_is_taken_kept_checked_and_given_back() {
    let (node, more) = with_pod_cidrs(&["10.65.1.0/24", "fd00:65::/64"]);
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let ran = invoke(&node, "ADD", "c1", version, &more);
        assert!(
            ran.ok && ran.stderr.is_empty(),
            "{version}: {} {}",
            ran.stdout,
            ran.stderr
        );
        let result = ran.json();
        assert_eq!(result["cniVersion"], version);
        let given = taken(&node);
        assert_eq!(given.len(), 1, "{given:?}");
        assert_eq!(result["ips"].as_array().unwrap().len(), 1);
        assert_eq!(result["ips"][0]["address"], format!("{}/32", given[0]));
        assert!(
            node.asked().contains(&format!("given_ips: [{:?}]", given[0])),
            "{}",
            node.asked()
        );

        // A runtime that did not hear the answer asks again and hears the same.
        node.felix.0.lock().unwrap().has = vec![format!("{}/32", given[0])];
        let again = invoke(&node, "ADD", "c1", version, &more);
        assert!(again.ok, "{}", again.stdout);
        assert_eq!(again.json(), result);
        assert_eq!(taken(&node), given);
        node.felix.0.lock().unwrap().has.clear();

        if version > "0.3.1" {
            let mut previous = more.clone();
            previous["prevResult"] = result;
            let check = invoke(&node, "CHECK", "c1", version, &previous);
            assert!(check.ok && check.stdout.is_empty(), "{version}: {}", check.stdout);
            let (code, said) = invoke(&node, "CHECK", "c2", version, &previous).error();
            assert!(code != 0 && said.contains("plugin host-local: "), "{code} {said}");
        }
        // Also without any pod CIDR, and again when nothing is left.
        let cidrs = std::mem::take(&mut node.felix.0.lock().unwrap().pod_cidrs);
        for _ in 0..2 {
            let del = invoke(&node, "DEL", "c1", version, &more);
            assert!(del.ok && del.stdout.is_empty(), "{version}: {}", del.stdout);
            assert!(taken(&node).is_empty(), "{:?}", taken(&node));
        }
        node.felix.0.lock().unwrap().pod_cidrs = cidrs;
    }
}

#[test]
fn both_families_by_ranges_and_the_runtimes_wish() {
    let (node, mut more) = with_pod_cidrs(&["10.65.1.0/24", "fd00:65::/64"]);
    let dir = more["ipam"]["dataDir"].clone();
    more["ipam"] = json!({"type": "host-local", "dataDir": dir, "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[{"subnet": "usePodCidr"}], [{"subnet": "usePodCidrIPv6"}]]});
    more["runtimeConfig"] = json!({"ips": ["10.65.1.77"]});
    let ran = invoke(&node, "ADD", "c1", "1.0.0", &more);
    assert!(ran.ok && ran.stderr.is_empty(), "{} {}", ran.stdout, ran.stderr);
    assert_eq!(taken(&node).len(), 2);
    assert_eq!(ran.json()["ips"][0]["address"], "10.65.1.77/32");
    assert!(
        ran.json()["ips"][1]["address"]
            .as_str()
            .unwrap()
            .starts_with("fd00:65::")
    );

    more["ipam"]["routes"] = json!([{"dst": "10.0.0.0/8"}]);
    let ran = invoke(&node, "DEL", "c1", "1.0.0", &more);
    assert!(
        ran.ok && ran.stderr.contains("'ipam.routes'"),
        "{} {}",
        ran.stdout,
        ran.stderr
    );

    let fixed = json!({"ipam": {"type": "static", "addresses": [{"address": "192.0.2.9/24"}]}});
    let ran = invoke(&node, "ADD", "c3", "1.1.0", &fixed);
    assert!(ran.ok, "{}", ran.stdout);
    assert_eq!(ran.json()["ips"][0]["address"], "192.0.2.9/32");
}

#[test]
fn a_pods_annotation_asks_host_local_too() {
    let (node, more) = with_pod_cidrs(&["10.65.1.0/24"]);
    let annotations = json!({"cni.projectcalico.org/ipAddrs": "[\"10.65.1.88\"]"});
    let by_args = json!({"args": {"cni": {"annotations": annotations}}});
    let by_capability = json!({"runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations}});
    // The runtime's own wish comes first.
    let both = json!({"args": {"cni": {"annotations": annotations, "ips": ["10.65.1.99"]}}});
    for (asks, want) in [
        (by_args, "10.65.1.88"),
        (by_capability, "10.65.1.88"),
        (both, "10.65.1.99"),
    ] {
        let mut conf = more.clone();
        conf.as_object_mut().unwrap().extend(asks.as_object().unwrap().clone());
        let ran = invoke(&node, "ADD", "c1", "1.0.0", &conf);
        assert!(ran.ok, "{} {}", ran.stdout, ran.stderr);
        assert_eq!(taken(&node), [want]);
        // The same wish of another pod cannot be met.
        let (_, said) = invoke(&node, "ADD", "c2", "1.0.0", &conf).error();
        assert!(said.contains("plugin host-local: ") && said.contains(want), "{said}");
        assert!(invoke(&node, "DEL", "c1", "1.0.0", &conf).ok);
        assert!(taken(&node).is_empty());
    }
}

#[test]
fn what_felix_refuses_is_given_back() {
    let (node, more) = with_pod_cidrs(&["10.65.1.0/24"]);
    node.felix.0.lock().unwrap().answer = Some(felix::Failure {
        code: 100,
        message: "no kernel".into(),
        details: String::new(),
    });
    let (code, said) = invoke(&node, "ADD", "c1", "1.0.0", &more).error();
    assert!(code == 100 && said.contains("no kernel"), "{code} {said}");
    assert!(taken(&node).is_empty(), "{:?}", taken(&node));
    // A DEL that felix refuses keeps the address: something may still lead to it.
    node.felix.0.lock().unwrap().answer = None;
    assert!(invoke(&node, "ADD", "c1", "1.0.0", &more).ok);
    node.felix.0.lock().unwrap().answer = Some(felix::Failure::default());
    invoke(&node, "DEL", "c1", "1.0.0", &more).error();
    assert_eq!(taken(&node).len(), 1);
}

#[test]
fn what_the_delegate_refuses_is_said_with_its_name() {
    let (node, more) = with_pod_cidrs(&["10.65.1.0/30"]);
    assert!(invoke(&node, "ADD", "c1", "1.0.0", &more).ok);
    let (_, said) = invoke(&node, "ADD", "c2", "1.0.0", &more).error();
    assert!(
        said.contains("plugin host-local: ") && said.contains("no IP addresses available"),
        "{said}"
    );

    node.felix.0.lock().unwrap().pod_cidrs.clear();
    for (command, want) in [("ADD", 11), ("STATUS", 50)] {
        let (code, said) = invoke(&node, command, "c2", "1.1.0", &more).error();
        assert_eq!(code, want, "{said}");
        assert!(said.contains("this node has no IPv4 pod CIDR yet"), "{said}");
    }
    assert_eq!(taken(&node).len(), 1);
}

#[test]
fn status_and_gc_concern_both() {
    let (node, more) = with_pod_cidrs(&["10.65.1.0/24"]);
    let status = invoke(&node, "STATUS", "c1", "1.1.0", &more);
    assert!(status.ok && status.stdout.is_empty(), "{}", status.stdout);
    let conf = node.conf("1.1.0", more.clone()).to_string();
    let (code, said) = run("STATUS", &[("CNI_PATH", "/nonexistent")], conf.as_bytes()).error();
    assert!(
        code == 50 && said.contains("plugin host-local of field 'ipam.type'"),
        "{code} {said}"
    );

    let mut gc = more;
    gc["cni.dev/valid-attachments"] = json!([]);
    let ran = invoke(&node, "GC", "c1", "1.1.0", &gc);
    assert!(ran.ok && ran.stdout.is_empty(), "{}", ran.stdout);
    assert!(node.asked().contains("CollectRequest"), "{}", node.asked());
    // One that fails does not keep the other from collecting.
    let gone = node.conf("1.1.0", gc).to_string();
    let (code, said) = run("GC", &[("CNI_PATH", "/nonexistent")], gone.as_bytes()).error();
    assert!(code == 4 && said.contains("CNI_PATH"), "{code} {said}");
}

/// A plugin host-local that knows GC, writes down what it is asked, and ends with `status`.
fn recorder(folder: &Path, status: u8) -> String {
    let plugin = folder.join("host-local");
    let said = r#"{"cniVersion":"1.1.0","code":999,"msg":"c7 is left"}"#;
    let script = format!(
        "#!/bin/sh\nif [ $CNI_COMMAND = VERSION ]; then\n  echo '{{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"1.1.0\"]}}'\n  \
         exit 0\nfi\ncat > {}/$CNI_COMMAND\nif [ {status} != 0 ]; then echo '{said}'; fi\nexit {status}\n",
        folder.display()
    );
    fs::write(&plugin, script).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{PLUGINS}:/usr/bin:/bin", folder.display())
}

#[test]
fn gc_goes_on_where_felix_fails_and_says_what_both_left() {
    let (node, mut gc) = with_pod_cidrs(&["10.65.1.0/24"]);
    gc["cni.dev/valid-attachments"] = json!([{"containerID": "c1", "ifname": "eth0"}]);
    let conf = node.conf("1.1.0", gc).to_string();
    let folder = tempfile::tempdir().unwrap();
    let collect = |status| {
        let path = recorder(folder.path(), status);
        let _none = fs::remove_file(folder.path().join("GC"));
        let ran = run("GC", &[("CNI_PATH", &path), ("PATH", "/usr/bin:/bin")], conf.as_bytes());
        let told = fs::read_to_string(folder.path().join("GC")).expect("the delegate was asked");
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["cni.dev/valid-attachments"][0]["containerID"], "c1");
        assert_eq!(told["ipam"]["type"], "host-local");
        ran
    };
    let ran = collect(0);
    assert!(ran.ok, "{}", ran.stdout);
    node.felix.0.lock().unwrap().answer = Some(felix::Failure {
        code: 100,
        message: "1 endpoints not collected: containers c9".into(),
        details: "no kernel".into(),
    });
    let (code, said) = collect(0).error();
    assert!(
        code == 100 && said.contains("containers c9") && said.contains("no kernel"),
        "{code} {said}"
    );
    let (code, said) = collect(1).error();
    assert!(
        code == 100 && said.contains("containers c9; plugin host-local: c7 is left"),
        "{code} {said}"
    );
    node.felix.0.lock().unwrap().answer = None;
    let (code, said) = collect(1).error();
    assert!(
        code == 999 && said.starts_with("plugin host-local: c7 is left"),
        "{code} {said}"
    );
}

#[test]
fn a_delegate_that_is_none() {
    let (node, more) = with_pod_cidrs(&["10.65.1.0/24"]);
    let add = |path: &Path| {
        let path = path.display().to_string();
        run(
            "ADD",
            &[("CNI_PATH", &path)],
            node.conf("1.0.0", more.clone()).to_string().as_bytes(),
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("host-local");
    for (program, want) in [
        (
            "/bin/true",
            "plugin host-local gave no addresses: its answer is no JSON",
        ),
        ("/bin/false", "plugin host-local: exit status: 1"),
        ("/etc/passwd", "in no folder of CNI_PATH"),
        ("/nonexistent", "in no folder of CNI_PATH"),
    ] {
        let _none = fs::remove_file(&plugin);
        symlink(program, &plugin).unwrap();
        let (_, said) = add(dir.path()).error();
        assert!(said.contains(want), "{program}: {said}");
    }
    let (code, said) = add(Path::new("relative")).error();
    assert!(code == 4 && said.contains("'relative'"), "{code} {said}");
}
