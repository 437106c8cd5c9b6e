//! `tortie install`, with a felix that says whether the node can serve.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tortie_proto::felix;

use super::Node;

const PATIENCE: Duration = Duration::from_secs(60);

/// An installer at work, killed when dropped.
struct Installer {
    child: Child,
    bin: PathBuf,
    net: PathBuf,
}

impl Installer {
    fn start(node: &Node, more: &[&str]) -> Self {
        let dir = node.dir.path();
        let (bin, net) = (dir.join("bin"), dir.join("net.d"));
        let child = Command::new(env!("CARGO_BIN_EXE_tortie"))
            .args([
                "install",
                "--felix",
                &format!("unix:{}", dir.join("felix.sock").display()),
            ])
            .arg(format!("--bin-dir={}", bin.display()))
            .arg(format!("--net-dir={}", net.display()))
            .args(more)
            .env_clear()
            .stdin(Stdio::null())
            .stderr(fs::File::create(dir.join("installer.log")).unwrap())
            .spawn()
            .unwrap();
        Installer { child, bin, net }
    }

    fn conf(&self) -> PathBuf {
        self.net.join("10-tortie.conflist")
    }
}

impl Drop for Installer {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[track_caller]
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn nothing_is_there_until_felix_can_serve_and_then_both_are_kept_right() {
    let node = Node::new();
    node.felix.0.lock().unwrap().answer = Some(felix::Failure {
        code: 50,
        message: "typha has not answered".into(),
        details: String::new(),
    });
    let installer = Installer::start(&node, &[]);
    let log = || fs::read_to_string(node.dir.path().join("installer.log")).unwrap();
    wait_for("the reason", || {
        log().contains("nothing is installed: typha has not answered")
    });
    assert!(!installer.net.exists() && !installer.bin.exists());
    node.felix.0.lock().unwrap().answer = None;
    wait_for("the configuration", || installer.conf().exists());
    let binary = installer.bin.join("tortie");
    assert_eq!(
        fs::read(&binary).unwrap(),
        fs::read(env!("CARGO_BIN_EXE_tortie")).unwrap()
    );
    assert_eq!((mode(&installer.conf()), mode(&binary)), (0o600, 0o755));
    let text = fs::read_to_string(installer.conf()).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list["plugins"].as_array().unwrap().len(), 1, "{list}");
    // What others do to it is undone; what they add is taken up.
    fs::write(installer.conf(), "{").unwrap();
    wait_for("the text", || fs::read_to_string(installer.conf()).unwrap() == text);
    fs::remove_file(&binary).unwrap();
    wait_for("the program", || binary.exists());
    fs::write(installer.bin.join("portmap"), "").unwrap();
    wait_for("portmap", || {
        let list: Value = serde_json::from_slice(&fs::read(installer.conf()).unwrap()).unwrap();
        list["plugins"][1]["type"] == "portmap"
    });
    fs::write(installer.bin.join("bandwidth"), "").unwrap();
    wait_for("bandwidth", || {
        let list: Value = serde_json::from_slice(&fs::read(installer.conf()).unwrap()).unwrap();
        list["plugins"][2]["type"] == "bandwidth"
    });
    let names = |dir: &Path| -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&installer.bin), ["bandwidth", "portmap", "tortie"]);
    assert_eq!(names(&installer.net), ["10-tortie.conflist"]);
}

#[test]
fn once_installs_and_ends() {
    let node = Node::new();
    let net = node.dir.path().join("net.d");
    fs::create_dir_all(&net).unwrap();
    fs::write(net.join("10-calico.conflist"), "{}").unwrap();
    fs::write(net.join("05-other.conf"), "{}").unwrap();
    let mut installer = Installer::start(&node, &["--once", "--old-conf-name", "10-calico.conflist"]);
    let status = installer.child.wait().unwrap();
    let log = fs::read_to_string(node.dir.path().join("installer.log")).unwrap();
    assert!(status.success(), "{log}");
    assert!(installer.conf().exists() && !net.join("10-calico.conflist").exists());
    assert!(
        log.contains("runtimes take 05-other.conf before 10-tortie.conflist"),
        "{log}"
    );
}

#[test]
fn a_wrong_configuration_is_said_before_felix_is_asked() {
    let node = Node::new();
    let template = node.dir.path().join("template");
    fs::write(
        &template,
        r#"{"name": "n", "cniVersion": "1.0.0", "plugins": [{"type": "tortie", "mtu": "x"}]}"#,
    )
    .unwrap();
    let mut installer = Installer::start(&node, &["--network-config-file", &template.display().to_string()]);
    assert_eq!(installer.child.wait().unwrap().code(), Some(1));
    let log = fs::read_to_string(node.dir.path().join("installer.log")).unwrap();
    assert!(log.contains("network configuration") && log.contains("'mtu'"), "{log}");
    assert_eq!(node.asked(), "");
}
