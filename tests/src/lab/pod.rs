//! Pods, made the way a container runtime makes them: a namespace, and the CNI plugin executed.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::interrupt::apart;
use super::{Lab, Netns, Node, binary};

/// A pod that the plugin attached.
#[derive(Debug)]
pub struct Pod {
    /// `namespace/name`.
    pub name: String,
    /// The node it runs on.
    pub node: String,
    /// Its network namespace.
    pub ns: Netns,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// The host's end of its interface.
    pub host_interface: String,
    /// The CNI result, as printed.
    pub result: Value,
    container_id: String,
}

/// How an ADD went.
#[derive(Debug)]
pub struct Add {
    /// The pod.
    pub pod: Pod,
    /// When the plugin was executed.
    pub started: Instant,
    /// How long it took.
    pub took: Duration,
}

impl Pod {
    /// The first IPv4 address.
    ///
    /// # Errors
    /// When it has none.
    pub fn ipv4(&self) -> Result<IpAddr> {
        self.ips
            .iter()
            .copied()
            .find(IpAddr::is_ipv4)
            .with_context(|| format!("{} has no IPv4 address", self.name))
    }

    /// Makes the namespace and executes ADD on `node` with this configuration. `name` is `namespace/name`.
    ///
    /// # Errors
    /// When the plugin fails: the error it printed.
    pub fn add(lab: &Lab, node: &Node, name: &str, conf: &Value) -> Result<Add> {
        let (_, short) = name.split_once('/').context("a pod's name is namespace/name")?;
        let ns = lab.namespace(&format!("pod-{}-{short}", node.name()))?;
        let container_id = format!("{}-{short}-{:x}", node.name(), std::process::id());
        let started = Instant::now();
        let output = plugin(node, "ADD", &container_id, &ns.path(), name, conf)?;
        let took = started.elapsed();
        let result = parse(&output).with_context(|| format!("CNI ADD of {name} on {}", node.name()))?;
        let ips = result["ips"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|ip| ip["address"].as_str());
        let ips = ips
            .map(|a| Ok(a.split('/').next().unwrap_or(a).parse()?))
            .collect::<Result<Vec<IpAddr>>>()?;
        let interfaces = result["interfaces"].as_array();
        let host = interfaces
            .into_iter()
            .flatten()
            .find(|i| i.get("sandbox").is_none_or(|s| s == ""));
        let host_interface = host.and_then(|i| i["name"].as_str()).unwrap_or_default().to_owned();
        let pod = Pod {
            name: name.to_owned(),
            node: node.name().to_owned(),
            ns,
            ips,
            host_interface,
            result,
            container_id,
        };
        Ok(Add { pod, started, took })
    }

    /// Executes DEL and removes the namespace.
    ///
    /// # Errors
    /// When the plugin fails or the namespace cannot be removed.
    pub fn delete(self, lab: &Lab, node: &Node) -> Result<()> {
        self.cni(node, "DEL")?;
        lab.remove_namespace(&self.ns)
    }

    /// Executes a command of the plugin on this pod once more and gives what it printed (null for nothing).
    ///
    /// # Errors
    /// When the plugin fails: the error it printed.
    pub fn cni(&self, node: &Node, command: &str) -> Result<Value> {
        let mut conf = node.netconf();
        if command != "ADD" {
            conf["prevResult"] = self.result.clone();
        }
        self.command(node, command, &conf)
    }

    /// The same with this configuration.
    ///
    /// # Errors
    /// When the plugin fails: the error it printed.
    pub fn command(&self, node: &Node, command: &str, conf: &Value) -> Result<Value> {
        let output = plugin(node, command, &self.container_id, &self.ns.path(), &self.name, conf)?;
        parse(&output).with_context(|| format!("CNI {command} of {}", self.name))
    }
}

impl Node {
    /// The network configuration a runtime on this node hands to the plugin.
    pub fn netconf(&self) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "name": "k8s-pod-network",
            "type": "tortie",
            "felix": self.felix_addr(),
        })
    }
}

/// Executes the plugin in the node's namespace, as a runtime on that node does.
///
/// # Errors
/// When it cannot be executed.
pub fn plugin(node: &Node, command: &str, container: &str, netns: &str, pod: &str, conf: &Value) -> Result<Output> {
    let (namespace, name) = pod.split_once('/').context("a pod's name is namespace/name")?;
    let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}");
    let mut program = Command::new("ip");
    program.args(["netns", "exec", node.ns().name()]).arg(binary("tortie")?);
    let mut child = apart(&mut program)
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", container)
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_ARGS", args)
        .env("CNI_PATH", "/opt/cni/bin:/usr/lib/cni")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("execute the plugin")?;
    let mut stdin = child.stdin.take().context("stdin")?;
    stdin.write_all(conf.to_string().as_bytes())?;
    drop(stdin);
    Ok(child.wait_with_output()?)
}

fn parse(output: &Output) -> Result<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "{}: {}{}",
            output.status,
            text.trim(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
}
