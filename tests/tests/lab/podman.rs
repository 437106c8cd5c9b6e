//! A container that podman and runc run with this plugin, installed as a node's installer does.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tortie_tests::lab::{Cluster, Netns, Node, Spec, binary, run, wait_for};

use crate::on_cluster;

const PATIENCE: Duration = Duration::from_secs(60);
const NAME: &str = "tt-web";
const HOST_PORT: u16 = 8081;
const SAYS: &str = "hello from a container";

/// podman on a node, with all its files in one folder.
struct Podman<'a> {
    node: &'a Node,
    dir: PathBuf,
}

impl<'a> Podman<'a> {
    /// Installs the plugin beside Debian's portmap, and makes a root file system of busybox.
    fn new(node: &'a Node, dir: PathBuf) -> Result<Self> {
        let (bin, root) = (dir.join("bin"), dir.join("rootfs"));
        fs::create_dir_all(&bin)?;
        for folder in ["bin", "proc", "sys", "dev", "tmp", "etc", "www"] {
            fs::create_dir_all(root.join(folder))?;
        }
        fs::copy("/usr/lib/cni/portmap", bin.join("portmap")).context("portmap (containernetworking-plugins)")?;
        fs::copy("/usr/bin/busybox", root.join("bin/busybox")).context("busybox (busybox-static)")?;
        fs::write(root.join("www/index.html"), SAYS)?;
        let text = |path: &Path| path.display().to_string();
        run(&[
            &binary("tortie")?.display().to_string(),
            "install",
            "--once",
            "--felix",
            &node.felix_addr(),
            "--bin-dir",
            &text(&bin),
            "--net-dir",
            &text(&dir.join("net.d")),
        ])?;
        let conf = format!(
            "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"{}\"]\n",
            text(&bin)
        );
        fs::write(dir.join("containers.conf"), conf)?;
        Ok(Podman { node, dir })
    }

    /// Runs podman on the node. Not by `ip netns exec`, which would hide its mounts from felix.
    fn run(&self, args: &[&str]) -> Result<String> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let (conf, netns) = (
            format!("CONTAINERS_CONF={}", path("containers.conf")),
            format!("--net={}", self.node.ns().path()),
        );
        let (store, state, net) = (path("store"), path("state"), path("net.d"));
        let mut all = vec![
            "env",
            &conf,
            "nsenter",
            &netns,
            "podman",
            "--root",
            &store,
            "--runroot",
            &state,
        ];
        all.extend([
            "--storage-driver",
            "vfs",
            "--runtime",
            "runc",
            "--cgroup-manager",
            "cgroupfs",
        ]);
        all.extend(["--network-config-dir", &net]);
        all.extend(args);
        run(&all)
    }

    fn start(&self) -> Result<()> {
        let port = format!("{HOST_PORT}:80");
        let rootfs = self.dir.join("rootfs").display().to_string();
        let mut args = vec!["run", "-d", "--name", NAME, "--network", "k8s-pod-network", "-p", &port];
        args.extend([
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
            "--rootfs",
            &rootfs,
        ]);
        args.extend(["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"]);
        self.run(&args).map(drop)
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let _gone = self.run(&["rm", "-f", "-t", "0", NAME]);
    }
}

/// What a web server says to a client in this namespace.
fn fetch(from: &Netns, server: SocketAddr) -> Result<String> {
    const WITHIN: Duration = Duration::from_secs(3);
    from.within(|| {
        let mut stream = TcpStream::connect_timeout(&server, WITHIN)?;
        stream.set_read_timeout(Some(WITHIN))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no answer of a web server")?;
        Ok(body.to_owned())
    })
}

/// The records of endpoints on a node.
fn records(cluster: &Cluster, node: &str) -> Result<Vec<Value>> {
    let text = cluster.ctl(&["get", "workloadendpoints", "-A", "-o", "json"])?;
    let list: Value = serde_json::from_str(&text)?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    Ok(items.into_iter().filter(|w| w["spec"]["node"] == node).collect())
}

#[test]
fn a_container_of_podman_is_reached_by_its_address_and_its_host_port_and_leaves_no_trace() {
    on_cluster("podman", &Spec::demo(), |cluster| {
        let client = cluster.add_pod("n2", "default/client")?.pod;
        let node = cluster.node("n1")?;
        let links = node.ns().links()?;
        let podman = Podman::new(node, cluster.lab.dir().join("podman"))?;
        podman.start()?;
        let record = records(cluster, "n1")?.pop().context("no record of the container")?;
        let ip = record["spec"]["ipNetworks"][0]
            .as_str()
            .and_then(|n| n.split('/').next());
        let servers = [
            SocketAddr::new(ip.context("no address")?.parse()?, 80),
            SocketAddr::new(cluster.address("n1")?, HOST_PORT),
        ];
        for server in servers {
            let said = wait_for(&server.to_string(), PATIENCE, || fetch(&client.ns, server))?;
            ensure!(said == SAYS, "{server}: {said}");
        }
        podman.run(&["rm", "-f", "-t", "0", NAME])?;
        ensure!(records(cluster, "n1")?.is_empty(), "{:?}", records(cluster, "n1")?);
        ensure!(node.ns().links()? == links, "{:?}", node.ns().links()?);
        for server in servers {
            if let Ok(said) = fetch(&client.ns, server) {
                bail!("{server} still answers: {said}");
            }
        }
        let rules = node.ns().exec(&["iptables-save"])?;
        ensure!(!rules.contains(&HOST_PORT.to_string()), "{rules}");
        let left: Vec<_> = node.ns().routes()?.into_iter().filter(|r| r.contains("cali")).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    });
}
