//! A whole cluster: one segment, typha, nodes, and a ToR in another AS.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::certs::Certs;
use super::process::{fresh_log, run};
use super::{Add, Daemon, Lab, Netns, Node, Pod, SETTLE, Segment, Tor, binary, wait_for};

/// What to build.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The nodes, in the order in which they are started.
    pub nodes: Vec<NodeSpec>,
    /// With a top-of-rack router at 172.30.0.1?
    pub tor: bool,
    /// The folder of manifests to load.
    pub manifests: PathBuf,
    /// Do nodes come to typha with certificates? Otherwise in the clear, and everybody may do everything.
    pub tls: bool,
}

/// One node.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Its address on the segment, with the prefix length.
    pub address: String,
    /// Its IPv6 address there, if it has one.
    pub address6: Option<String>,
}

impl NodeSpec {
    fn addresses(&self) -> Vec<&str> {
        let four = [self.address.as_str()].into_iter();
        four.chain(self.address6.as_deref()).collect()
    }
}

impl Spec {
    /// The demo's: n1, n2, n3 and a ToR, with the manifests in `examples/`.
    pub fn demo() -> Spec {
        let node = |i: u8| NodeSpec {
            name: format!("n{i}"),
            address: format!("172.30.0.{}/24", 10 + i),
            address6: None,
        };
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        Spec {
            nodes: (1..=3).map(node).collect(),
            tor: true,
            manifests,
            tls: false,
        }
    }
}

/// A running cluster. Dropping it removes everything.
#[derive(Debug)]
pub struct Cluster {
    // Fields drop in this order: processes before the lab that owns their namespaces.
    nodes: BTreeMap<String, Node>,
    /// The ToR, if there is one.
    pub tor: Option<Tor>,
    /// The gateway to the datastore.
    pub typha: Daemon,
    segment: Segment,
    control: Netns,
    typha_addr: String,
    certs: Option<Certs>,
    addresses: BTreeMap<String, IpAddr>,
    /// Owns the namespaces.
    pub lab: Lab,
}

const TYPHA_IP: &str = "172.30.0.10";
const TYPHA_PORT: u16 = 5473;

impl Cluster {
    /// Builds a cluster in a fresh lab and loads the manifests. Returns as soon as everything is started; see
    /// [`Cluster::settle`].
    ///
    /// # Errors
    /// When anything cannot be made or a manifest is refused.
    pub fn start(lab: Lab, spec: &Spec) -> Result<Cluster> {
        let segment = lab.segment("switch")?;
        let control = lab.namespace("ctl")?;
        segment.attach(&control, "eth0", &[&format!("{TYPHA_IP}/24")])?;
        let certs = spec.tls.then(|| Certs::new(&lab)).transpose()?;
        let typha = start_typha(&lab, &control, certs.as_ref())?;
        let typha_addr = format!("tcp:{TYPHA_IP}:{TYPHA_PORT}");
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            tor: None,
            typha,
            segment,
            control,
            typha_addr,
            certs,
            addresses: BTreeMap::new(),
            lab,
        };
        wait_for("typha to answer", SETTLE, || {
            cluster.typha.check()?;
            cluster.ctl(&["get", "nodes"]).map(drop)
        })?;
        cluster.ctl(&["apply", "-f", &spec.manifests.display().to_string()])?;
        for node in &spec.nodes {
            cluster.start_node(node)?;
        }
        if spec.tor {
            cluster.start_tor()?;
        }
        Ok(cluster)
    }

    fn start_tor(&mut self) -> Result<()> {
        let ns = self.lab.namespace("tor")?;
        let address: IpAddr = "172.30.0.1".parse()?;
        self.segment.attach(&ns, "eth0", &["172.30.0.1/24"])?;
        // It forwards between the segment and what is behind it, as a router does.
        ns.exec(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
        let nodes: Vec<IpAddr> = self.addresses.values().copied().collect();
        self.tor = Some(Tor::start(&self.lab, ns, address, &nodes, 64512)?);
        Ok(())
    }

    /// Starts a node's namespace and daemons. Its Node object must be applied by the caller.
    ///
    /// # Errors
    /// When anything cannot be made.
    pub fn start_node(&mut self, spec: &NodeSpec) -> Result<()> {
        let ns = self.lab.namespace(&spec.name)?;
        self.segment.attach(&ns, "eth0", &spec.addresses())?;
        self.start_daemons(spec, ns)
    }

    /// The same on another segment; `prepare` gives the node its routes.
    ///
    /// # Errors
    /// When anything cannot be made.
    pub fn start_node_on(
        &mut self,
        segment: &Segment,
        spec: &NodeSpec,
        prepare: impl FnOnce(&Netns) -> Result<()>,
    ) -> Result<()> {
        let ns = self.lab.namespace(&spec.name)?;
        segment.attach(&ns, "eth0", &spec.addresses())?;
        prepare(&ns)?;
        self.start_daemons(spec, ns)
    }

    fn start_daemons(&mut self, spec: &NodeSpec, ns: Netns) -> Result<()> {
        let address = spec.address.split('/').next().unwrap_or_default().parse()?;
        let certificate = match &self.certs {
            Some(certs) => certs.issue("node", &spec.name, None)?,
            None => Vec::new(),
        };
        let node = Node::start(&self.lab, &spec.name, ns, (&self.typha_addr, &certificate))?;
        self.addresses.insert(spec.name.clone(), address);
        self.nodes.insert(spec.name.clone(), node);
        Ok(())
    }

    /// Stops a node's daemons and removes its namespace, as if it were unplugged.
    ///
    /// # Errors
    /// When there is no such node or it cannot be removed.
    pub fn remove_node(&mut self, name: &str) -> Result<()> {
        let node = self.nodes.remove(name).with_context(|| format!("no node {name}"))?;
        self.addresses.remove(name);
        let ns = node.ns().clone();
        drop(node);
        self.lab.remove_namespace(&ns)
    }

    /// A node.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.get(name).with_context(|| format!("no node {name}"))
    }

    /// A node, to restart its daemons.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        self.nodes.get_mut(name).with_context(|| format!("no node {name}"))
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// A node's address.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn address(&self, node: &str) -> Result<IpAddr> {
        self.addresses
            .get(node)
            .copied()
            .with_context(|| format!("no node {node}"))
    }

    /// Where typha answers, from a node's point of view.
    pub fn typha_addr(&self) -> &str {
        &self.typha_addr
    }

    /// Where typha answers on this machine, whatever the namespace.
    pub fn typha_socket(&self) -> String {
        format!("unix:{}", self.lab.dir().join("typha/typha.sock").display())
    }

    /// Runs `tortiectl ARGS` against this cluster's typha.
    ///
    /// # Errors
    /// When it fails: what it wrote to standard error.
    pub fn ctl(&self, args: &[&str]) -> Result<String> {
        let program = binary("tortiectl")?.display().to_string();
        let typha = self.typha_socket();
        let mut command = vec![program.as_str(), "--typha", &typha];
        command.extend(args);
        run(&command)
    }

    /// Applies a manifest given as text.
    ///
    /// # Errors
    /// When it is refused.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        let file = self.lab.dir().join("apply.yaml");
        std::fs::write(&file, manifest)?;
        self.ctl(&["apply", "-f", &file.display().to_string()])
    }

    /// Attaches a pod.
    ///
    /// # Errors
    /// When the plugin refuses.
    pub fn add_pod(&self, node: &str, name: &str) -> Result<Add> {
        let node = self.node(node)?;
        Pod::add(&self.lab, node, name, &node.netconf())
    }

    /// Attaches a pod with an address of each family.
    ///
    /// # Errors
    /// When the plugin refuses.
    pub fn add_dual_stack_pod(&self, node: &str, name: &str) -> Result<Add> {
        let node = self.node(node)?;
        let mut conf = node.netconf();
        conf["ipam"] = serde_json::json!({"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"});
        Pod::add(&self.lab, node, name, &conf)
    }

    /// Waits until a node's felix takes pods: the plugin's STATUS succeeds.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_ready(&self, node: &str) -> Result<()> {
        let node = self.node(node)?;
        let conf = {
            let mut conf = node.netconf();
            conf["cniVersion"] = "1.1.0".into();
            conf
        };
        wait_for(&format!("the plugin on {} to be ready", node.name()), SETTLE, || {
            let output = super::plugin(node, "STATUS", "status", "/nonexistent", "default/status", &conf)?;
            if !output.status.success() {
                bail!("{}", String::from_utf8_lossy(&output.stdout).trim());
            }
            Ok(())
        })
    }

    /// Waits until every node takes pods and all its BGP sessions are established: to each other node, and to the ToR.
    ///
    /// # Errors
    /// When that does not come about in time, or a daemon ended.
    pub fn settle(&mut self) -> Result<()> {
        let want = self.nodes.len() - 1 + usize::from(self.tor.is_some());
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        for name in names {
            wait_for(&format!("the BGP sessions of {name}"), SETTLE, || {
                let node = self.node_mut(&name)?;
                for daemon in node.daemons() {
                    daemon.check()?;
                }
                match node.sessions()? {
                    (up, all) if up == want && all == want => Ok(()),
                    (up, all) => bail!("{up} of {all} sessions established, want {want}\n{}", node.status()?),
                }
            })?;
            self.wait_ready(&name)?;
        }
        Ok(())
    }

    /// Where typha runs, for its routes.
    pub fn control(&self) -> &Netns {
        &self.control
    }

    /// The segment, for captures and more hosts.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }
}

fn start_typha(lab: &Lab, ns: &Netns, certs: Option<&Certs>) -> Result<Daemon> {
    let dir = lab.folder("typha")?;
    let log = dir.join("typha.log");
    fresh_log(&log)?;
    let program = binary("typha")?.display().to_string();
    let (file, socket) = (dir.join("datastore").display().to_string(), dir.join("typha.sock"));
    let (unix, tcp) = (
        format!("unix:{}", socket.display()),
        format!("tcp:{TYPHA_IP}:{TYPHA_PORT}"),
    );
    let args = [&program, "--datastore", &file, "--listen", &unix, "--listen", &tcp];
    let mut args = args.map(str::to_owned).to_vec();
    match certs {
        Some(certs) => args.extend(certs.issue("typha", "typha", Some(TYPHA_IP))?),
        // Plain TCP between the laboratory's namespaces.
        None => args.push("--insecure".to_owned()),
    }
    Daemon::start("typha", ns, args, log)
}
