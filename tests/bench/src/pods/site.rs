//! One node with typha and felix in a laboratory of its own, and what can be seen of it from outside.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::runtime::Runtime;
use tortie_kit::address::ServiceAddr;
use tortie_proto::common::Hello;
use tortie_tests::lab::{Cluster, Lab, NodeSpec, Spec, binary};
use tortie_typha_client::Store;

use crate::plugin::{Plugin, Pod};

const NODE: &str = "n1";
/// Where typha tells its metrics, within its namespace.
const METRICS: &str = "127.0.0.1:9093";

const MANIFEST: &str = "\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pods}
spec: {cidr: 10.244.0.0/16, blockSize: 26, ipipMode: Never, vxlanMode: Never, natOutgoing: false}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: n1}
spec: {bgp: {ipv4Address: 172.30.0.11/24}}
";

/// The node.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    pub(crate) runtime: Runtime,
    program: PathBuf,
}

impl Site {
    /// A node, whose typha is told so much more.
    pub(crate) fn start(typha: &[&str]) -> Result<Self> {
        let lab = Lab::new("bench-pods")?;
        let manifests = lab.folder("manifests")?;
        std::fs::write(manifests.join("node.yaml"), MANIFEST)?;
        let node = NodeSpec {
            name: NODE.to_owned(),
            address: "172.30.0.11/24".to_owned(),
            address6: None,
        };
        let spec = Spec {
            nodes: vec![node],
            tor: false,
            tls: false,
            manifests,
        };
        let mut cluster = Cluster::start(lab, &spec)?;
        // This program blocks signals, and its children inherit that.
        cluster.typha.kill()?;
        cluster.typha.restart_with(&[&["--http", METRICS], typha].concat())?;
        cluster.settle()?;
        Ok(Site {
            cluster,
            runtime: Runtime::new()?,
            program: binary("tortie")?,
        })
    }

    /// Our plugin.
    pub(crate) fn plugin(&self) -> Result<Plugin<'_>> {
        Ok(Plugin {
            program: &self.program,
            path: "/usr/lib/cni",
            conf: self.cluster.node(NODE)?.netconf(),
        })
    }

    pub(crate) fn host(&self) -> Result<&tortie_tests::lab::Netns> {
        Ok(self.cluster.node(NODE)?.ns())
    }

    /// Namespaces for so many pods.
    pub(crate) fn pods(&self, prefix: &str, n: usize) -> Result<Vec<Pod>> {
        let pod = |n: usize| {
            let name = format!("{prefix}{n}");
            let ns = self.cluster.lab.namespace(&name)?;
            Ok(Pod { name, ns })
        };
        (0..n).map(pod).collect()
    }

    /// Transactions that typha has asked of its datastore so far.
    pub(crate) fn transactions(&self) -> Result<u64> {
        self.metric("typha_transactions_total")
    }

    /// Has typha forgotten a change, because it holds as many as it may?
    pub(crate) fn log_is_full(&self) -> Result<bool> {
        Ok(self.metric("typha_changes_forgotten_total")? > 0)
    }

    fn metric(&self, name: &str) -> Result<u64> {
        let text = self.cluster.typha.ns().within(|| {
            let mut stream = TcpStream::connect(METRICS).context("typha's metrics")?;
            write!(stream, "GET /metrics HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })?;
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        let count = line.with_context(|| format!("no {name} in {text}"))?;
        count.trim().parse().with_context(|| format!("a count: {count}"))
    }

    /// A client of typha with a connection of its own.
    pub(crate) fn store(&self) -> Result<Store> {
        let address: ServiceAddr = self.cluster.typha_socket().parse()?;
        let _inside = self.runtime.enter();
        Ok(Store::new(address, Hello::new("bench", "", "1")))
    }

    /// Resident memory of felix and typha, in kB.
    pub(crate) fn memory(&self) -> Result<[u64; 2]> {
        let felix = self.cluster.node(NODE)?.felix.usage()?.rss_kb;
        Ok([felix, self.cluster.typha.usage()?.rss_kb])
    }

    /// CPU time of felix and typha so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<[f64; 2]> {
        let felix = self.cluster.node(NODE)?.felix.usage()?.cpu_s;
        Ok([felix, self.cluster.typha.usage()?.cpu_s])
    }

    /// What is left of pods: in the datastore and in the kernel. Nothing is right when all are deleted.
    pub(crate) fn left(&self) -> Result<Vec<String>> {
        let store = self.store()?;
        let list = |prefix: &str| self.runtime.block_on(store.list(prefix)).map(|l| l.entries);
        let mut left = Vec::new();
        for (prefix, what) in [
            ("/calico/ipam/v2/handle/", "handles"),
            (
                "/calico/resources/v3/projectcalico.org/workloadendpoints/",
                "WorkloadEndpoints",
            ),
        ] {
            match list(prefix)?.len() {
                0 => {}
                n => left.push(format!("{n} {what}")),
            }
        }
        let mut given = 0;
        for entry in list("/calico/ipam/v2/assignment/")? {
            let block: Value = serde_json::from_slice(&entry.value)?;
            let Some(slots) = block["allocations"].as_array() else {
                bail!("{} has no allocations", entry.key)
            };
            given += slots.iter().filter(|s| !s.is_null()).count();
        }
        if given > 0 {
            left.push(format!("{given} addresses in blocks"));
        }
        let links = self.host()?.links()?;
        let ends = links.iter().filter(|l| l.starts_with("cali")).count();
        if ends > 0 {
            left.push(format!("{ends} interfaces"));
        }
        Ok(left)
    }
}
