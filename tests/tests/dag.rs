//! The shape of the workspace: which crate may depend on which, and what cores must not contain.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Every crate's allowed dependencies inside the workspace. A crate not named here fails the test.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tortie-net", &[]),
    ("tortie-replica", &[]),
    ("tortie-proto", &["tortie-net"]),
    ("tortie-model", &["tortie-net"]),
    ("tortie-ipam", &["tortie-net", "tortie-model"]),
    (
        "tortie-ipam-client",
        &["tortie-ipam", "tortie-model", "tortie-net", "tortie-typha-client"],
    ),
    ("tortie-netlink", &["tortie-net", "tortie-replica"]),
    ("tortie-kit", &[]),
    ("tortie-typha-client", &["tortie-kit", "tortie-proto", "tortie-replica"]),
    ("tortie-bgp", &["tortie-net", "tortie-replica"]),
    ("tortie-bfd", &[]),
    ("tortie-calc", &["tortie-net", "tortie-model", "tortie-replica"]),
    (
        "bird-rs",
        &[
            "tortie-bfd",
            "tortie-bgp",
            "tortie-kit",
            "tortie-net",
            "tortie-netlink",
            "tortie-proto",
            "tortie-replica",
        ],
    ),
    (
        "felix",
        &[
            "tortie-calc",
            "tortie-ipam",
            "tortie-ipam-client",
            "tortie-kit",
            "tortie-model",
            "tortie-net",
            "tortie-netlink",
            "tortie-proto",
            "tortie-replica",
            "tortie-typha-client",
        ],
    ),
    ("tortie-bgp-view", &["tortie-model", "tortie-net"]),
    ("tortie-datastore", &[]),
    ("tortie-etcd", &["tortie-datastore"]),
    (
        "confd",
        &[
            "tortie-bgp-view",
            "tortie-datastore",
            "tortie-etcd",
            "tortie-kit",
            "tortie-model",
            "tortie-net",
            "tortie-proto",
            "tortie-replica",
            "tortie-typha-client",
        ],
    ),
    (
        "typha",
        &[
            "tortie-datastore",
            "tortie-etcd",
            "tortie-kit",
            "tortie-model",
            "tortie-proto",
            "tortie-replica",
        ],
    ),
    ("tortie-cni", &["tortie-kit", "tortie-proto"]),
    (
        "tortiectl",
        &[
            "tortie-bgp-view",
            "tortie-ipam",
            "tortie-ipam-client",
            "tortie-kit",
            "tortie-model",
            "tortie-net",
            "tortie-netlink",
            "tortie-proto",
            "tortie-typha-client",
        ],
    ),
    (
        "tortie-bench",
        &[
            "tortie-bgp",
            "tortie-ipam",
            "tortie-ipam-client",
            "tortie-kit",
            "tortie-model",
            "tortie-net",
            "tortie-netlink",
            "tortie-proto",
            "tortie-tests",
            "tortie-typha-client",
        ],
    ),
    (
        "tortie-tests",
        &["tortie-kit", "tortie-net", "tortie-netlink", "tortie-proto"],
    ),
];

/// Cores: no runtime, no sockets, no clock, no randomness, not even through a dependency of a dependency.
const CORES: &[&str] = &[
    "tortie-net",
    "tortie-replica",
    "tortie-model",
    "tortie-ipam",
    "tortie-bgp",
    "tortie-bfd",
    "tortie-calc",
    "tortie-bgp-view",
    "tortie-datastore",
];
const NOT_IN_CORES: &[&str] = &[
    "tokio",
    "mio",
    "socket2",
    "tonic",
    "rtnetlink",
    "netlink-sys",
    "nix",
    "rand",
    "tracing",
];

/// What the source of a core must not say outside its tests.
const NOT_SAID_IN_CORES: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "std::env",
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("run cargo metadata");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn dependencies_point_one_way() {
    let metadata = metadata();
    let allowed: BTreeMap<&str, BTreeSet<&str>> = ALLOWED
        .iter()
        .map(|(name, deps)| (*name, deps.iter().copied().collect()))
        .collect();
    let members: BTreeSet<&str> = list(&metadata, "workspace_members")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut wrong = Vec::new();
    for package in list(&metadata, "packages")
        .iter()
        .filter(|p| members.contains(text(p, "id")))
    {
        let name = text(package, "name");
        let Some(allowed) = allowed.get(name) else {
            wrong.push(format!(
                "{name} is not in the list of crates: say what it may depend on"
            ));
            continue;
        };
        for dep in list(package, "dependencies") {
            let (dep_name, dev) = (text(dep, "name"), dep["kind"] == "dev");
            let ours = dep["path"].is_string();
            if ours && !dev && !allowed.contains(dep_name) {
                wrong.push(format!("{name} must not depend on {dep_name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A program's folder holds what is its own: a library in `lib/` depends on nothing that lives in one.
#[test]
fn libraries_live_beside_libraries() {
    let metadata = metadata();
    let root = text(&metadata, "workspace_root");
    let in_lib = |path: &str| {
        path.strip_prefix(root)
            .is_some_and(|p| p.starts_with("/lib/") || p == "/proto")
    };
    let mut wrong = Vec::new();
    for package in list(&metadata, "packages") {
        let folder = text(package, "manifest_path").trim_end_matches("/Cargo.toml");
        if !in_lib(folder) {
            continue;
        }
        for dep in list(package, "dependencies") {
            if dep["path"].as_str().is_some_and(|path| !in_lib(path)) {
                wrong.push(format!(
                    "{} depends on {}, which lives in {}",
                    text(package, "name"),
                    text(dep, "name"),
                    text(dep, "path")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cores_are_pure() {
    let metadata = metadata();
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"], "nodes")
        .iter()
        .map(|n| (text(n, "id"), n))
        .collect();
    let packages: BTreeMap<&str, &Value> = list(&metadata, "packages").iter().map(|p| (text(p, "id"), p)).collect();
    let mut wrong = Vec::new();
    for (id, package) in &packages {
        let core = text(package, "name");
        if !CORES.contains(&core) {
            continue;
        }
        let mut seen = BTreeSet::new();
        let mut todo = vec![*id];
        while let Some(id) = todo.pop() {
            if !seen.insert(id) {
                continue;
            }
            let name = packages.get(id).map_or("", |p| text(p, "name"));
            if NOT_IN_CORES.contains(&name) {
                wrong.push(format!("{core} reaches {name}"));
            }
            for dep in nodes.get(id).map_or(&[][..], |n| list(n, "deps")) {
                let normal = list(dep, "dep_kinds").iter().any(|k| k["kind"].is_null());
                if normal && let Some(pkg) = dep["pkg"].as_str() {
                    todo.push(pkg);
                }
            }
        }
        wrong.extend(impure_lines(core, text(package, "manifest_path")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lines of a core's sources, outside tests, that name what a core must not use.
fn impure_lines(core: &str, manifest: &str) -> Vec<String> {
    let source = std::path::Path::new(manifest).with_file_name("src");
    let mut wrong = Vec::new();
    let mut folders = vec![source];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("read a core's sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let is_test = path.ends_with("tests.rs") || path.components().any(|c| c.as_os_str() == "tests");
            if is_test || path.extension().is_none_or(|e| e != "rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("read a core's source");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (i, line) in code
                .lines()
                .enumerate()
                .filter(|(_, l)| !l.trim_start().starts_with("//"))
            {
                for word in NOT_SAID_IN_CORES.iter().filter(|w| line.contains(**w)) {
                    wrong.push(format!("{core}: {}:{}: {word}", path.display(), i + 1));
                }
            }
        }
    }
    wrong
}
