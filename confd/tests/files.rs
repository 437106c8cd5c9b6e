//! `confd files`, the real program: from the environment, from files, from a typha that dies.

#![allow(clippy::unwrap_used)] // A test may panic.

#[allow(dead_code)] // The fake bird-rs is for the other tests.
mod fakes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use fakes::{FakeTypha, eventually};
use tempfile::TempDir;

/// A configuration directory and the folder that is written to.
struct Site {
    dir: TempDir,
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["conf.d", "templates", "out"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        Site { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn out(&self, name: &str) -> String {
        fs::read_to_string(self.path("out").join(name)).unwrap_or_default()
    }

    /// A resource of this name, its template, and further lines; OUT stands for the folder that is written to.
    fn resource(&self, name: &str, template: &str, more: &str) {
        let out = self.path("out");
        let text = format!("[template]\nsrc = \"{name}\"\ndest = \"OUT/{name}\"\n{more}\n");
        let text = text.replace("OUT", &out.display().to_string());
        fs::write(self.path("conf.d").join(format!("{name}.toml")), text).unwrap();
        fs::write(self.path("templates").join(name), template).unwrap();
    }

    fn confd(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confd"));
        command.args(["files", "--confdir"]).arg(self.dir.path()).args(args);
        command
    }

    fn start(&self, args: &[&str]) -> Running {
        Running(
            self.confd(args)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn once_from_the_environment_and_nothing_when_nothing_changed() {
    let site = Site::new();
    let more = "prefix = \"/app\"\nkeys = [\"/db\"]\nmode = \"0640\"\ncheck_cmd = \"grep -q url= {{.src}}\"\n\
                reload_cmd = \"echo x >> OUT/reloads\"";
    site.resource("app.conf", "url={{getv \"/db/url\"}}\n", more);
    let once = |url: &str| {
        site.confd(&["--backend", "env", "--onetime"])
            .env("APP_DB_URL", url)
            .output()
            .unwrap()
    };
    for url in ["one", "one", "two"] {
        let done = once(url);
        assert!(done.status.success(), "{}", stderr(&done));
        assert_eq!(site.out("app.conf"), format!("url={url}\n"));
    }
    assert_eq!(
        site.out("reloads"),
        "x\nx\n",
        "told when it changed, and not when it did not"
    );
    let shown = site
        .confd(&["--backend", "env", "--noop"])
        .env("APP_DB_URL", "3")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains("would change\n-url=two\n+url=3\n"), "{text}");
    assert_eq!(site.out("app.conf"), "url=two\n", "and did not");
}

#[test]
fn one_that_fails_does_not_stop_the_others() {
    let site = Site::new();
    site.resource("a.conf", "\n{{getv \"/none\"}}", "");
    site.resource("b.conf", "b\n", "check_cmd = \"echo no good; false\"");
    site.resource("c.conf", "c\n", "");
    let done = site.confd(&["--backend", "env", "--onetime"]).output().unwrap();
    let said = stderr(&done);
    assert_eq!(done.status.code(), Some(1));
    assert!(said.contains("a.conf.toml: template a.conf, line 2"), "{said}");
    assert!(said.contains("there is no key '/none'"), "{said}");
    assert!(
        said.contains("check_cmd failed, exit status: 1: echo no good; false\n    no good"),
        "{said}"
    );
    let written: Vec<_> = fs::read_dir(site.path("out"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(written, ["c.conf"]);
}

#[test]
fn files_are_watched_and_a_broken_one_changes_nothing() {
    let site = Site::new();
    let source = site.path("keys.yaml");
    fs::write(&source, "name: one\n").unwrap();
    site.resource("a.conf", "{{getv \"/name\"}}\n", "");
    let _running = site.start(&["--backend", "file", "--file", &source.display().to_string()]);
    eventually("the first", || site.out("a.conf") == "one\n");
    fs::write(&source, "name: [").unwrap();
    fs::write(site.path("out").join("a.conf"), "edited\n").unwrap();
    fs::write(&source, "name: two\n").unwrap();
    eventually("the second", || site.out("a.conf") == "two\n");
}

#[test]
fn cluster_state_as_keys_and_typed_and_typha_may_die() {
    const RESOURCES: &str = "/calico/resources/v3/projectcalico.org";
    let node = |name: &str, address: &str| {
        format!(
            r#"{{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{{"name":"{name}"}},"spec":{{"bgp":{{"ipv4Address":"{address}/24"}}}}}}"#
        )
    };
    let site = Site::new();
    let typha = FakeTypha::start(site.path("typha.sock"));
    typha.set(&format!("{RESOURCES}/nodes/n1"), &node("n1", "172.30.0.11"));
    typha.set(&format!("{RESOURCES}/nodes/n2"), &node("n2", "172.30.0.12"));
    let nodes = format!("prefix = \"{RESOURCES}\"\nkeys = [\"/nodes\"]");
    site.resource(
        "hosts",
        "{{range gets \"/nodes/*\"}}{{$n := json .Value}}{{$n.metadata.name}} {{end}}\n",
        &nodes,
    );
    site.resource("peers", "{{range .peers}}{{.address}} {{end}}\n", &nodes);
    let address = format!("unix:{}", site.path("typha.sock").display());
    let state = site.path("state").display().to_string();
    let args = [
        "--backend",
        "typha",
        "--typha",
        &address,
        "--node",
        "n1",
        "--state-dir",
        &state,
    ];
    let running = site.start(&args);
    eventually("two nodes", || {
        site.out("hosts") == "n1 n2 \n" && site.out("peers").contains("172.30.0.12")
    });
    typha.set(&format!("{RESOURCES}/nodes/n3"), &node("n3", "172.30.0.13"));
    eventually("three nodes", || {
        site.out("hosts") == "n1 n2 n3 \n" && site.out("peers").contains("172.30.0.13")
    });
    eventually("a snapshot", || has_three(&site.path("state").join("files-snapshot")));
    drop(running);
    typha.kill();
    fs::remove_file(site.path("out").join("hosts")).unwrap();
    let _again = site.start(&args);
    eventually("the last good state, from disk", || site.out("hosts") == "n1 n2 n3 \n");
}

#[test]
fn a_password_that_changes_on_disk_reaches_the_file() {
    const RESOURCES: &str = "/calico/resources/v3/projectcalico.org";
    let site = Site::new();
    let typha = FakeTypha::start(site.path("typha.sock"));
    for (name, address) in [("n1", "172.30.0.11"), ("n2", "172.30.0.12")] {
        let node = format!(
            r#"{{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{{"name":"{name}"}},"spec":{{"bgp":{{"ipv4Address":"{address}/24"}}}}}}"#
        );
        typha.set(&format!("{RESOURCES}/nodes/{name}"), &node);
    }
    typha.set(
        &format!("{RESOURCES}/bgpconfigurations/default"),
        r#"{"kind":"BGPConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},"spec":{"nodeMeshPassword":{"secretKeyRef":{"name":"bgp","key":"mesh"}}}}"#,
    );
    let secret = site.path("secrets").join("bgp");
    fs::create_dir_all(&secret).unwrap();
    fs::write(secret.join("mesh"), "first\n").unwrap();
    site.resource(
        "peers",
        "{{range .peers}}{{.password}}{{end}}\n",
        &format!("prefix = \"{RESOURCES}\"\nkeys = [\"/nodes\"]\nmode = \"0600\""),
    );
    let address = format!("unix:{}", site.path("typha.sock").display());
    let secrets = site.path("secrets").display().to_string();
    let args = ["--backend", "typha", "--typha", &address, "--node", "n1"];
    let state = site.path("state").display().to_string();
    let more = ["--state-dir", &state, "--secrets-dir", &secrets];
    let _running = site.start(&[&args[..], &more[..]].concat());
    eventually("the password", || site.out("peers") == "first\n");
    // As a mounted Secret changes: another file in its place.
    fs::write(secret.join("next"), "second\n").unwrap();
    fs::rename(secret.join("next"), secret.join("mesh")).unwrap();
    eventually("the other password", || site.out("peers") == "second\n");
}

fn has_three(snapshot: &Path) -> bool {
    fs::read(snapshot).is_ok_and(|octets| octets.windows(11).any(|w| w == b"172.30.0.13"))
}

#[test]
fn what_cannot_be_used_is_said_at_once() {
    let site = Site::new();
    let cases: [(&[&str], &str); 6] = [
        (&["--backend", "etcd", "--onetime"], "--etcd-endpoints"),
        (
            &[
                "--backend",
                "etcd",
                "--etcd-endpoints",
                "https://127.0.0.1:1",
                "--onetime",
            ],
            "--etcd-ca",
        ),
        (&["--backend", "typha", "--onetime"], "--typha"),
        (&["--backend", "file", "--onetime"], "--file"),
        (&["--backend", "env", "--onetime", "--watch"], "--watch"),
        (&["--backend", "env", "--onetime"], "there is no template resource"),
    ];
    for (args, want) in cases {
        let done = site.confd(args).env_remove("TORTIE_TYPHA").output().unwrap();
        assert!(
            !done.status.success() && stderr(&done).contains(want),
            "{args:?}: {}",
            stderr(&done)
        );
    }
}
