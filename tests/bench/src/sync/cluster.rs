//! A large cluster's documents as Calico writes them, the etcd that holds them, and the typhas in front of it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tortie_tests::lab::{Daemon, Lab, Netns, binary, wait_for};

const RESOURCES: &str = "/calico/resources/v3/projectcalico.org/";
const BLOCKS: &str = "/calico/ipam/v2/assignment/ipv4/block/";
/// The namespace of a run is its own, and so are its ports.
const ETCD: &str = "http://127.0.0.1:2379";
const FIRST_PORT: u16 = 5473;
const FIRST_HTTP_PORT: u16 = 9093;
/// Documents of one transaction, in octets: etcd takes 1.5 MB.
const TRANSACTION: usize = 1_000_000;
const START: Duration = Duration::from_secs(60);

/// How large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) nodes: u32,
    pub(crate) blocks: u32,
    pub(crate) endpoints: u32,
}

impl Size {
    /// The one of the rows, divided.
    pub(crate) fn of(shrink: u32) -> Self {
        Size {
            nodes: 5_000 / shrink,
            blocks: 10_000 / shrink,
            endpoints: 50_000 / shrink,
        }
    }

    fn documents(self) -> impl Iterator<Item = (String, Value)> {
        let nodes = (0..self.nodes).map(move |n| node(n, 0));
        let endpoints = (0..self.endpoints).map(move |n| self.endpoint(n));
        nodes
            .chain((0..self.blocks).map(move |n| self.block(n)))
            .chain(endpoints)
    }

    fn block(self, n: u32) -> (String, Value) {
        const SLOTS: usize = 64;
        let base = Ipv4Addr::from_bits(0x0A00_0000 + (n << 6));
        let host = format!("node-{:05}", n % self.nodes.max(1));
        let used = (self.endpoints / self.blocks.max(1)) as usize;
        let attribute = |slot: usize| {
            let pod = slot as u32 * self.blocks + n;
            json!({ "handle_id": format!("k8s-pod-network.{:064x}", spread(pod)),
                "secondary": { "namespace": format!("team-{}", pod % 50), "node": host,
                    "pod": format!("web-{pod:05}"), "timestamp": "2026-11-21 20:00:00.000000000 +0000 UTC" } })
        };
        let slots: Vec<Option<usize>> = (0..SLOTS).map(|slot| (slot < used).then_some(slot)).collect();
        let block = json!({ "cidr": format!("{base}/26"), "affinity": format!("host:{host}"), "strictAffinity": false,
            "allocations": slots, "unallocated": (used..SLOTS).collect::<Vec<_>>(),
            "attributes": (0..used).map(attribute).collect::<Vec<_>>(),
            "sequenceNumber": 1_732_000_000_000_000_000_u64 + u64::from(n), "deleted": false });
        (format!("{BLOCKS}{base}-26"), block)
    }

    fn endpoint(self, n: u32) -> (String, Value) {
        let (host, team) = (format!("node-{:05}", n % self.nodes.max(1)), format!("team-{}", n % 50));
        let (block, slot) = (n % self.blocks.max(1), n / self.blocks.max(1));
        let address = Ipv4Addr::from_bits(0x0A00_0000 + (block << 6) + slot);
        let name = format!("{}-k8s-web--{n:05}-eth0", host.replace('-', "--"));
        let labels = json!({ "app": "web", "tier": "front", "pod-template-hash": format!("{:x}", n / 7),
            "projectcalico.org/namespace": team, "projectcalico.org/orchestrator": "k8s",
            "projectcalico.org/serviceaccount": "default" });
        let document = json!({ "kind": "WorkloadEndpoint", "apiVersion": "projectcalico.org/v3",
            "metadata": { "name": name, "namespace": team, "labels": labels, "creationTimestamp": "2026-11-21T20:00:00Z",
                "uid": format!("{n:08x}-0000-4000-8000-000000000001") },
            "spec": { "orchestrator": "k8s", "workload": "", "node": host, "pod": format!("web-{n:05}"),
                "containerID": format!("{:064x}", spread(n)), "endpoint": "eth0",
                "ipNetworks": [format!("{address}/32")], "profiles": [format!("kns.{team}"), format!("ksa.{team}.default")],
                "interfaceName": format!("cali{n:011x}"), "mac": "ee:ee:ee:ee:ee:ee",
                "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }] } });
        (format!("{RESOURCES}workloadendpoints/{team}/{name}"), document)
    }
}

/// Identifiers that compress as badly as real ones.
fn spread(n: u32) -> u64 {
    u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A node's document; each version differs.
pub(crate) fn node(n: u32, version: u32) -> (String, Value) {
    let name = format!("node-{n:05}");
    let address = Ipv4Addr::from_bits(0xAC10_0000 + n + 1);
    let document = json!({ "kind": "Node", "apiVersion": "projectcalico.org/v3",
        "metadata": { "name": name, "uid": format!("{n:08x}-0000-4000-8000-000000000000"),
            "creationTimestamp": "2026-11-21T20:00:00Z",
            "labels": { "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
                "topology.kubernetes.io/zone": format!("zone-{}", n % 3), "rack": format!("r{:03}", n / 40) },
            "annotations": { "bench/version": version.to_string() } },
        "spec": { "bgp": { "ipv4Address": format!("{address}/16"), "ipv4IPIPTunnelAddr": format!("10.200.{}.{}", n >> 8, n & 255) },
            "addresses": [{ "address": format!("{address}/16"), "type": "CalicoNodeIP" }, { "address": address.to_string(), "type": "InternalIP" }],
            "orchRefs": [{ "nodeName": name, "orchestrator": "k8s" }] } });
    (format!("{RESOURCES}nodes/{name}"), document)
}

/// What felix asks for.
pub(crate) fn prefixes() -> Vec<String> {
    let kinds = [
        "clusterinformations",
        "ippools",
        "ipreservations",
        "nodes",
        "workloadendpoints",
    ];
    let kinds = kinds.map(|kind| format!("{RESOURCES}{kind}/"));
    let ipam = [
        "/calico/ipam/v2/assignment/",
        "/calico/ipam/v2/host/",
        "/calico/ipam/v2/config",
    ];
    kinds.into_iter().chain(ipam.map(str::to_owned)).collect()
}

/// etcd with a cluster's documents, and typhas.
pub(crate) struct Control {
    ns: Netns,
    dir: PathBuf,
    _etcd: Daemon,
    pub(crate) typhas: Vec<Daemon>,
    /// Documents that were written, and their octets.
    pub(crate) documents: (usize, usize),
}

impl Control {
    /// Starts etcd in a namespace and writes the documents as Calico's programs do, in transactions.
    ///
    /// # Errors
    /// When it cannot be started or does not take them.
    pub(crate) fn start(lab: &Lab, ns: &Netns, size: Size) -> Result<Self> {
        let dir = lab.folder("control")?;
        let data = dir.join("etcd").display().to_string();
        let args = [
            "/usr/bin/etcd",
            "--data-dir",
            &data,
            "--listen-client-urls",
            ETCD,
            "--advertise-client-urls",
            ETCD,
            "--max-txn-ops",
            "10000",
            "--log-level",
            "warn",
            "--enable-v2=false",
        ];
        let etcd = Daemon::start("etcd", ns, args.map(str::to_owned).to_vec(), dir.join("etcd.log"))?;
        let mut control = Control {
            ns: ns.clone(),
            dir,
            _etcd: etcd,
            typhas: Vec::new(),
            documents: (0, 0),
        };
        wait_for("etcd", START, || control.transaction("put /bench x\n"))?;
        let mut puts = String::new();
        for (key, document) in size.documents() {
            let text = document.to_string();
            control.documents.0 += 1;
            control.documents.1 += key.len() + text.len();
            puts += &format!("put {key} {}\n", serde_json::to_string(&text)?);
            if puts.len() > TRANSACTION {
                control.transaction(&std::mem::take(&mut puts))?;
            }
        }
        control.transaction(&puts)?;
        Ok(control)
    }

    fn transaction(&self, puts: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["netns", "exec", self.ns.name(), "etcdctl", "--endpoints", ETCD, "txn"])
            .env("ETCDCTL_API", "3")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start etcdctl")?;
        let mut input = child.stdin.take().context("etcdctl's input")?;
        // No comparisons, what is done, nothing else.
        let written = write!(input, "\n{puts}\n\n");
        drop(input);
        let status = child.wait()?;
        written.context("write to etcdctl")?;
        ensure!(status.success(), "etcdctl txn: {status}");
        Ok(())
    }

    /// Where sync clients find a typha.
    pub(crate) fn port(n: usize) -> u16 {
        FIRST_PORT + n as u16
    }

    /// Where its store is for this process, from whatever namespace.
    pub(crate) fn socket(&self, n: usize) -> PathBuf {
        self.dir.join(format!("typha-{n}"))
    }

    /// Starts so many typhas, and waits until they serve.
    ///
    /// # Errors
    /// When one does not.
    pub(crate) fn add_typhas(&mut self, count: usize) -> Result<()> {
        for n in 0..count {
            let log = self.dir.join(format!("typha-{n}.log"));
            let typha = Daemon::start(&format!("typha-{n}"), &self.ns, self.command(n, count)?, log)?;
            self.typhas.push(typha);
        }
        (0..count).try_for_each(|n| self.serves(n))
    }

    fn command(&self, n: usize, count: usize) -> Result<Vec<String>> {
        let program = binary("typha")?.display().to_string();
        let http = format!("127.0.0.1:{}", FIRST_HTTP_PORT + n as u16);
        let listen = format!("tcp:127.0.0.1:{},unix:{}", Control::port(n), self.socket(n).display());
        // This process has SIGTERM blocked, and what it starts would inherit that.
        let args = [
            "env",
            "--default-signal=TERM",
            &program,
            "--etcd-endpoints",
            ETCD,
            "--state",
            "none",
            "--listen",
            &listen,
            "--insecure",
            "--http",
            &http,
            "--log-level",
            "warn",
        ];
        let others = (0..count).filter(|other| *other != n);
        let peers = others.map(|other| format!("--peers=tcp:127.0.0.1:{}", Control::port(other)));
        Ok(args.map(str::to_owned).into_iter().chain(peers).collect())
    }

    /// Waits until a typha takes connections: it does so once it has read the datastore.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn serves(&self, n: usize) -> Result<()> {
        let socket = self.socket(n);
        wait_for("typha to serve", START, || {
            std::os::unix::net::UnixStream::connect(&socket)
                .map(drop)
                .context("connect")
        })
    }

    /// How many snapshots and batches of changes a typha has encoded. To be called within the namespace.
    ///
    /// # Errors
    /// When it does not tell its metrics.
    pub(crate) fn encoded(&self, n: usize) -> Result<(u64, u64)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, FIRST_HTTP_PORT + n as u16))?;
        stream.set_read_timeout(Some(START))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: typha\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).context("read metrics")?;
        ensure!(text.contains("typha_snapshots_sent_total"), "no metrics: {text}");
        let of = |part| {
            let name = format!("typha_encoded_total{{part=\"{part}\"}} ");
            let found = text.lines().find_map(|line| line.strip_prefix(&name));
            // It is not there before something is counted.
            found.map_or(Ok(0), |n| n.parse().context("a metric that is no number"))
        };
        Ok((of("Snapshot")?, of("Changes")?))
    }

    /// Tells a typha to end, as a rolling update does.
    ///
    /// # Errors
    /// When it cannot be told.
    pub(crate) fn end(&self, n: usize) -> Result<()> {
        let typha = self.typhas.get(n).context("no such typha")?;
        let pid = i32::try_from(typha.pid().context("it does not run")?)?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).context("end typha")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn documents_are_as_many_as_are_wanted_and_all_are_asked_for() {
        let size = Size::of(100);
        let all: Vec<_> = size.documents().collect();
        let keys: BTreeSet<&String> = all.iter().map(|(key, _)| key).collect();
        assert_eq!((keys.len(), all.len()), (650, 650), "each has a key of its own");
        let wanted = prefixes();
        assert!(
            keys.iter()
                .all(|key| wanted.iter().any(|p| key.starts_with(p.as_str())))
        );
        let (_, block) = size.block(3);
        assert_eq!(block["attributes"].as_array().map(Vec::len), Some(5));
        assert_eq!(block["unallocated"].as_array().map(Vec::len), Some(59));
        assert_ne!(node(1, 1), node(1, 2));
    }
}
