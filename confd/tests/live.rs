//! Reflectors that run FRR, GoBGP and stock BIRD, driven by cluster state: two clients, stock BIRD with files of the same
//! state, get each other's block through the reflector, and a filter of the cluster's takes effect in it.
//!
//! Everything runs in one network namespace, each program at an address of its own.

#![allow(clippy::unwrap_used)] // A test may panic.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use confd::render::{BIRD, Engine, FRR, GOBGP, GoTemplates, for_any_template};
use confd::state::ClusterState;
use confd::view::{RouterIdChoice, compute};
use serde_json::json;
use tortie_model::{Key, Kind, Owner};
use tortie_net::NodeName;

/// A busy machine takes its time.
const LIMIT: Duration = Duration::from_secs(90);

/// A namespace that has the addresses of three nodes.
struct Lab {
    name: String,
    dir: tempfile::TempDir,
    running: Vec<Child>,
}

impl Lab {
    fn new(name: &str) -> Self {
        let name = format!("tt-cf-{name}-{}", std::process::id());
        let ip = |args: &str| {
            let out = Command::new("ip").args(args.split(' ')).output().unwrap();
            assert!(
                out.status.success(),
                "ip {args}: {}",
                String::from_utf8_lossy(&out.stderr)
            );
        };
        ip(&format!("netns add {name}"));
        let lab = Lab {
            name: name.clone(),
            dir: tempfile::tempdir().unwrap(),
            running: Vec::new(),
        };
        ip(&format!("-n {name} link set lo up"));
        for host in [1, 11, 12] {
            ip(&format!("-n {name} address add 172.30.0.{host}/32 dev lo"));
        }
        lab
    }

    /// A folder that a daemon which gives up root may write to.
    fn folder(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    fn start(&mut self, mut command: Command, log: &Path) {
        let log = std::fs::File::create(log).unwrap();
        command
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log);
        self.running.push(command.spawn().unwrap());
    }

    /// Stock BIRD with a node's file.
    fn bird(&mut self, node: &str) -> PathBuf {
        let folder = self.folder(node);
        std::fs::write(folder.join("bird.conf"), text(BIRD, node)).unwrap();
        let mut bird = self.command("bird");
        bird.arg("-f").arg("-c").arg(folder.join("bird.conf"));
        bird.arg("-s").arg(folder.join("ctl")).arg("-P").arg(folder.join("pid"));
        let log = folder.join("log");
        self.start(bird, &log);
        folder.join("ctl")
    }

    fn said(&self, program: &str, args: &[&str]) -> String {
        let out = self.command(program).args(args).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Waits until the client has the other one's block, by the reflector, and not what the filter takes out.
    fn proves(&self, client: &Path, block: &str, next_hop: &str) {
        let socket = client.to_string_lossy().into_owned();
        let show = ["-s", &socket, "show", "route", "all"];
        let (until, mut said) = (Instant::now() + LIMIT, String::new());
        while Instant::now() < until {
            said = self.said("birdc", &show);
            if said.contains(block) && said.contains(&format!("BGP.next_hop: {next_hop}")) {
                assert!(said.contains("BGP.cluster_list: 224.0.0.1"), "{said}");
                assert!(!said.contains("10.244.66.0/26"), "the filter has no effect: {said}");
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let logs: String = ["rr/log", "n1/log", "n2/log"]
            .iter()
            .filter_map(|f| std::fs::read_to_string(self.dir.path().join(f)).ok())
            .collect();
        panic!("no {block} from the reflector: {said}\n{logs}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.running {
            // `ip netns exec` becomes the program.
            drop(child.kill());
            drop(child.wait());
        }
        drop(Command::new("ip").args(["netns", "del", &self.name]).status());
    }
}

/// The cluster, seen from `node`.
fn state(node: &str) -> ClusterState {
    let name: NodeName = node.parse().unwrap();
    let mut state = ClusterState::new(name.clone());
    let member = |name: &str, host: u8| {
        let mut bgp = json!({"ipv4Address": format!("172.30.0.{host}/24")});
        let mut labels = json!({});
        if name == "rr" {
            bgp["routeReflectorClusterID"] = json!("224.0.0.1");
            labels = json!({"rr": "true"});
        }
        json!({"kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {"bgp": bgp}})
    };
    let named = |kind: &str, name: &str, spec: serde_json::Value| json!({"kind": kind, "metadata": {"name": name}, "spec": spec});
    let all = [
        member("rr", 1),
        member("n1", 11),
        member("n2", 12),
        named("IPPool", "default", json!({"cidr": "10.244.0.0/16"})),
        // Each program at its own address of one namespace.
        named(
            "BGPConfiguration",
            "default",
            json!({"nodeToNodeMeshEnabled": false, "bindMode": "NodeIP", "asNumber": 64512}),
        ),
        named(
            "BGPFilter",
            "hidden",
            json!({"importV4": [{"action": "Reject", "cidr": "10.244.66.0/24", "matchOperator": "In", "prefixLength": {"min": 26, "max": 26}}]}),
        ),
        named(
            "BGPPeer",
            "rr",
            json!({"nodeSelector": "all()", "peerSelector": "rr == 'true'", "filters": ["hidden"],
                   "password": {"secretKeyRef": {"name": "bgp", "key": "mesh"}}}),
        ),
    ];
    for (revision, resource) in all.iter().enumerate() {
        let kind = Kind::from_name(resource["kind"].as_str().unwrap()).unwrap();
        let key = Key::resource(kind, None, resource["metadata"]["name"].as_str().unwrap());
        assert!(state.set(&key.to_string(), resource.to_string().as_bytes(), revision as u64 + 1));
    }
    let blocks: &[&str] = match node {
        "n1" => &["10.244.1.0/26", "10.244.66.0/26"],
        "n2" => &["10.244.2.0/26"],
        _ => &[],
    };
    for block in blocks {
        let owner = Owner::Host(name.clone());
        let key = Key::Affinity {
            owner,
            cidr: block.parse().unwrap(),
        };
        assert!(state.set(&key.to_string(), br#"{"state":"confirmed"}"#, 20));
    }
    let password = confd::view::SecretRef {
        name: "bgp".to_owned(),
        key: "mesh".to_owned(),
    };
    let value = confd::state::Secret("reflected".to_owned());
    state.secrets.insert(password, value);
    state
}

fn text(template: &str, node: &str) -> String {
    let state = state(node);
    let view = compute(&state, RouterIdChoice::Auto).unwrap();
    assert!(view.problems.is_empty(), "{:?}", view.problems);
    let engine = GoTemplates::load(None).unwrap();
    engine
        .render(template, &for_any_template(&view, &state.secrets))
        .unwrap()
}

/// With the reflector there, both clients learn.
fn clients_learn(mut lab: Lab) {
    let (first, second) = (lab.bird("n1"), lab.bird("n2"));
    lab.proves(&second, "10.244.1.0/26", "172.30.0.11");
    lab.proves_own(&first);
}

impl Lab {
    /// The first client has the block of the second, and its own two.
    fn proves_own(&self, client: &Path) {
        let socket = client.to_string_lossy().into_owned();
        let until = Instant::now() + LIMIT;
        let mut said = String::new();
        while Instant::now() < until {
            said = self.said("birdc", &["-s", &socket, "show", "route", "all"]);
            if said.contains("10.244.2.0/26") && said.contains("BGP.next_hop: 172.30.0.12") {
                return;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("no 10.244.2.0/26: {said}");
    }
}

#[test]
fn a_reflector_of_frr() {
    let mut lab = Lab::new("frr");
    let folder = lab.folder("rr");
    let conf = folder.join("frr.conf");
    std::fs::write(&conf, text(FRR, "rr")).unwrap();
    // bgpd gives up root before it reads its file.
    for path in [lab.dir.path(), folder.as_path(), conf.as_path()] {
        let owned = Command::new("chown").arg("frr:frr").arg(path).status().unwrap();
        assert!(owned.success());
    }
    let mut bgpd = lab.command("/usr/lib/frr/bgpd");
    bgpd.args(["-n", "-Z", "-l", "172.30.0.1", "-f"]).arg(&conf);
    bgpd.arg("-i").arg(folder.join("pid")).arg("--vty_socket").arg(&folder);
    bgpd.arg("-z").arg(folder.join("zserv"));
    lab.start(bgpd, &folder.join("log"));
    clients_learn(lab);
}

#[test]
fn a_reflector_of_gobgp() {
    let mut lab = Lab::new("gobgp");
    let folder = lab.folder("rr");
    let conf = folder.join("gobgpd.yaml");
    std::fs::write(&conf, text(GOBGP, "rr")).unwrap();
    let mut gobgpd = lab.command("gobgpd");
    gobgpd.args(["-t", "yaml", "-p", "--pprof-disable", "-f"]).arg(&conf);
    lab.start(gobgpd, &folder.join("log"));
    clients_learn(lab);
}

#[test]
fn a_reflector_of_bird() {
    let mut lab = Lab::new("bird");
    lab.bird("rr");
    clients_learn(lab);
}
