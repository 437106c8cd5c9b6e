//! Tunnels: what is on the wire between nodes of one subnet and of two, in every mode; what changes under traffic; what
//! drifts, restarts and foreign devices do. The router between the subnets knows the nodes and no pod.
//!
//! IPIP needs a kernel that has it: `make vm` runs those tests in one.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tortie_tests::lab::{
    Capture, Cluster, Header, Lab, Netns, NodeSpec, Packet, PingRun, Pod, Rack, Spec, first_reply, ping, stream,
    wait_for, without_object,
};

use crate::traffic::document;

const PATIENCE: Duration = Duration::from_secs(60);
/// What the segments carry.
const LINK_MTU: u32 = 1500;
const VNI: u32 = 4096;

/// The encapsulation of the pools.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mode {
    header: Header,
    /// `Never`, `Always` or `CrossSubnet`.
    when: &'static str,
}

impl Mode {
    fn vxlan(when: &'static str) -> Mode {
        let header = Header::Vxlan(VNI);
        Mode { header, when }
    }

    fn ipip(when: &'static str) -> Mode {
        let header = Header::Ipip;
        Mode { header, when }
    }

    /// A pool of each family.
    fn pools(self) -> String {
        Families::Both.of(self).concat()
    }

    fn pool_of_each(self) -> [String; 2] {
        let (ipip, vxlan) = match self.header {
            Header::Ipip => (self.when, "Never"),
            Header::Vxlan(_) => ("Never", self.when),
        };
        // IPIP carries IPv4 alone.
        [
            document(
                "IPPool",
                "v4",
                &format!("{{cidr: 10.244.0.0/16, ipipMode: {ipip}, vxlanMode: {vxlan}}}"),
            ),
            document(
                "IPPool",
                "v6",
                &format!("{{cidr: \"fd00:244::/48\", vxlanMode: {vxlan}}}"),
            ),
        ]
    }

    /// The header that packets between these nodes have.
    fn between(self, a: &str, b: &str) -> Option<Header> {
        let near = (a == "n3") == (b == "n3");
        match self.when {
            "Always" => Some(self.header),
            "CrossSubnet" if !near => Some(self.header),
            _ => None,
        }
    }
}

/// What the pods have, and the nodes have in BGP.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Families {
    V4,
    V6,
    Both,
}

impl Families {
    fn has(self, v4: bool) -> bool {
        match self {
            Families::V4 => v4,
            Families::V6 => !v4,
            Families::Both => true,
        }
    }

    fn of(self, mode: Mode) -> Vec<String> {
        let both = mode.pool_of_each().into_iter().zip([true, false]);
        both.filter(|(_, v4)| self.has(*v4)).map(|(pool, _)| pool).collect()
    }

    /// A Node's document.
    fn node(self, node: &NodeSpec) -> String {
        let six = node.address6.as_deref().unwrap_or_default();
        let four = format!("ipv4Address: {}", node.address);
        let addresses = [(true, four), (false, format!("ipv6Address: \"{six}\""))];
        let has = addresses
            .into_iter()
            .filter(|(v4, _)| self.has(*v4))
            .map(|(_, text)| text);
        let spec = format!("{{bgp: {{{}}}}}", has.collect::<Vec<_>>().join(", "));
        document("Node", &node.name, &spec)
    }
}

/// n1 and n2 in one subnet, n3 in another.
fn nodes() -> Vec<NodeSpec> {
    [
        ("n1", "172.30.0.11/24", "fd00:30::11/64"),
        ("n2", "172.30.0.12/24", "fd00:30::12/64"),
        ("n3", "172.30.1.13/24", "fd00:31::13/64"),
    ]
    .map(|(name, address, address6)| NodeSpec {
        name: name.to_owned(),
        address: address.to_owned(),
        address6: Some(address6.to_owned()),
    })
    .to_vec()
}

struct Site {
    cluster: Cluster,
    rack: Rack,
    families: Families,
    pods: Vec<Pod>,
}

/// Runs the body on a cluster of three nodes in two subnets, a pod with both families on each.
fn on_site(topic: &str, mode: Mode, body: impl FnOnce(&mut Site) -> Result<()>) {
    on_site_of(Families::Both, topic, mode, body);
}

/// The same with pods of these families.
fn on_site_of(families: Families, topic: &str, mode: Mode, body: impl FnOnce(&mut Site) -> Result<()>) {
    let lab = Lab::for_test(topic).unwrap_or_else(|e| panic!("{topic}: {e:#}"));
    let dir = tempfile::tempdir().expect("a folder");
    let mut nodes = nodes();
    let manifest = families.of(mode).concat() + &nodes.iter().map(|n| families.node(n)).collect::<String>();
    std::fs::write(dir.path().join("site.yaml"), manifest).expect("write");
    let far = nodes.pop().expect("n3");
    let spec = Spec {
        nodes,
        tor: false,
        manifests: dir.path().to_owned(),
        tls: false,
    };
    let cluster = Cluster::start(lab, &spec).unwrap_or_else(|e| panic!("{topic}: start: {e:#}"));
    let rack = Rack::start(&cluster).unwrap_or_else(|e| panic!("{topic}: rack: {e:#}"));
    let mut site = Site {
        cluster,
        rack,
        families,
        pods: Vec::new(),
    };
    let ran = site
        .rack
        .start_node(&mut site.cluster, &far)
        .and_then(|()| site.cluster.settle())
        .and_then(|()| {
            for node in ["n1", "n2", "n3"] {
                let pod = site.add_pod(node)?;
                site.pods.push(pod);
            }
            body(&mut site)
        });
    if let Err(e) = ran {
        panic!("{topic}: {e:#}");
    }
}

fn address(pod: &Pod, v4: bool) -> Result<IpAddr> {
    let its = pod.ips.iter().find(|ip| ip.is_ipv4() == v4);
    its.copied().with_context(|| format!("{} has {:?}", pod.name, pod.ips))
}

fn node_address(name: &str, v4: bool) -> Result<IpAddr> {
    let nodes = nodes();
    let node = nodes.iter().find(|n| n.name == name).context("a node")?;
    let text = if v4 {
        Some(&node.address)
    } else {
        node.address6.as_ref()
    };
    let (ip, _) = text.and_then(|t| t.split_once('/')).context("an address")?;
    Ok(ip.parse()?)
}

impl Site {
    fn add_pod(&self, node: &str) -> Result<Pod> {
        let node = self.cluster.node(node)?;
        let mut conf = node.netconf();
        let assign = |v4| self.families.has(v4).to_string();
        conf["ipam"] = json!({"type": "calico-ipam", "assign_ipv4": assign(true), "assign_ipv6": assign(false)});
        let name = format!("default/on-{}", node.name());
        Ok(Pod::add(&self.cluster.lab, node, &name, &conf)?.pod)
    }

    /// The router between the subnets learns the way to the pods, as one that takes part in BGP does.
    fn tell_the_router(&self) -> Result<()> {
        for pod in &self.pods {
            for ip in &pod.ips {
                let via = node_address(&pod.node, ip.is_ipv4())?.to_string();
                let to = tortie_net::Prefix::host(*ip).to_string();
                self.rack.router().ip(&["route", "replace", &to, "via", &via])?;
            }
        }
        Ok(())
    }

    fn pod(&self, node: &str) -> Result<&Pod> {
        self.pods.iter().find(|p| p.node == node).context("a pod")
    }

    /// What passes on the first segment between these two while `traffic` happens.
    fn watched(&self, from: IpAddr, to: IpAddr, traffic: impl FnOnce() -> Result<()>) -> Result<Vec<Packet>> {
        let capture = Capture::start(self.cluster.segment().switch())?;
        let done = traffic();
        let packets = capture.stop()?;
        done?;
        let ends = |p: &Packet| (p.from, p.to) == (from, to) || (p.from, p.to) == (to, from);
        Ok(packets.into_iter().filter(ends).collect())
    }

    /// Ping, the largest packet, and a stream, between pods of these nodes; all in the header of the mode, or in none.
    fn check_pair(&self, mode: Mode, a: &str, b: &str, v4: bool) -> Result<()> {
        let (one, other) = (self.pod(a)?, self.pod(b)?);
        let (from, to) = (address(one, v4)?, address(other, v4)?);
        let header = mode.between(a, b).filter(|h| v4 || *h != Header::Ipip);
        let what = format!("{mode:?}: {a} to {b} ({to})");
        // The way may be another one for a moment: the new one is waited for.
        wait_for(&format!("{what} to travel in {header:?}"), PATIENCE, || {
            let packets = self.watched(from, to, || ping(&one.ns, to).map(drop))?;
            let seen: Vec<_> = packets.iter().map(|p| p.tunnel.map(|t| t.0)).collect();
            ensure!(!seen.is_empty() && seen.iter().all(|h| *h == header), "seen {seen:?}");
            Ok(())
        })?;
        // A pod keeps the MTU it was made with, which may be more than a tunnel of later carries.
        let tunnel = match mode.header {
            Header::Ipip => 20,
            Header::Vxlan(_) => 70,
        };
        let mtu = pod_mtu(one)?.min(LINK_MTU - tunnel);
        // Nor does it ask at once whether the narrow way of before has become a wide one.
        for family in ["-4", "-6"] {
            one.ns.ip(&[family, "route", "flush", "cache"])?;
        }
        let packets = self.watched(from, to, || {
            let headers = if v4 { 28 } else { 48 };
            let size = (mtu - headers).to_string();
            one.ns
                .exec(&[
                    "ping",
                    "-n",
                    "-c",
                    "1",
                    "-W",
                    "5",
                    "-M",
                    "do",
                    "-s",
                    &size,
                    &to.to_string(),
                ])
                .with_context(|| format!("{what}: a packet of {mtu} octets"))
                .map(drop)
        })?;
        let largest = packets.iter().map(|p| p.len).max().unwrap_or(0);
        ensure!(
            largest <= LINK_MTU as usize,
            "{what}: {largest} octets on a link of {LINK_MTU}"
        );
        ensure!(largest >= mtu as usize, "{what}: {largest} octets of {mtu}");
        let packets = self.watched(from, to, || {
            let arrived = stream(&one.ns, &other.ns, to, 65_536)?;
            ensure!(arrived == 65_536, "{what}: {arrived} octets of 65536 arrived");
            Ok(())
        })?;
        ensure!(!packets.is_empty(), "{what}: the stream was not on the wire");
        let hosts = [node_address(a, v4)?, node_address(b, v4)?];
        for packet in packets {
            let outer = packet.tunnel;
            ensure!(outer.map(|t| t.0) == header, "{what}: {packet:?}");
            let between_nodes = outer.is_none_or(|(_, f, t)| hosts.contains(&f) && hosts.contains(&t) && f != t);
            ensure!(between_nodes, "{what}: {packet:?}");
        }
        Ok(())
    }

    /// Every pair that the mode can serve, both families.
    fn check(&self, mode: Mode) -> Result<()> {
        let far = mode.when != "Never";
        for v4 in [true, false].into_iter().filter(|v4| self.families.has(*v4)) {
            self.check_pair(mode, "n1", "n2", v4)?;
            // Plain packets of pods do not get through the router.
            if far && (v4 || mode.header != Header::Ipip) {
                self.check_pair(mode, "n1", "n3", v4)?;
                self.check_pair(mode, "n3", "n2", v4)?;
            }
        }
        Ok(())
    }

    /// Changes the pools while a ping runs between the pods of n1 and n2.
    fn change_to(&mut self, mode: Mode) -> Result<()> {
        let (one, other) = (self.pod("n1")?, self.pod("n2")?);
        let runs = [true, false]
            .into_iter()
            .map(|v4| Ok(PingRun::start(&one.ns, address(other, v4)?)))
            .collect::<Result<Vec<_>>>()?;
        self.cluster.apply(&mode.pools())?;
        let checked = self.check(mode);
        for run in runs {
            let summary = run.stop()?;
            eprintln!(
                "to {mode:?}: {} of {} lost, {}",
                summary.lost(),
                summary.sent,
                summary.what
            );
            ensure!(summary.lost() < summary.sent / 2, "{mode:?}: {summary:?}");
        }
        checked
    }

    fn device(&self, node: &str, name: &str) -> Result<Value> {
        let text = self
            .cluster
            .node(node)?
            .ns()
            .ip(&["-j", "-d", "addr", "show", "dev", name])?;
        let links: Vec<Value> = serde_json::from_str(&text)?;
        links.into_iter().next().with_context(|| format!("no {name} on {node}"))
    }
}

fn pod_mtu(pod: &Pod) -> Result<u32> {
    let text = pod.ns.ip(&["-j", "link", "show", "dev", "eth0"])?;
    let links: Value = serde_json::from_str(&text)?;
    let mtu = links[0]["mtu"].as_u64().context("an MTU")?;
    Ok(u32::try_from(mtu)?)
}

#[test]
fn vxlan_in_every_mode_and_changed_under_traffic() {
    on_site("vxlan", Mode::vxlan("Always"), |site| {
        for pod in &site.pods {
            let mtu = pod_mtu(pod)?;
            ensure!(
                mtu == LINK_MTU - 70,
                "{}: the narrower of both tunnels leaves {mtu}",
                pod.name
            );
        }
        site.check(Mode::vxlan("Always"))?;
        let device = site.device("n1", "vxlan.calico")?;
        let data = &device["linkinfo"]["info_data"];
        ensure!(
            data["id"] == VNI && data["port"] == 4789 && data["learning"] == false,
            "{device}"
        );
        ensure!(device["mtu"] == LINK_MTU - 50, "{device}");
        ensure!(device["address"] == "66:40:b3:ea:b6:3f", "{device}");
        site.change_to(Mode::vxlan("CrossSubnet"))?;
        site.change_to(Mode::vxlan("Never"))?;
        for node in ["n1", "n3"] {
            wait_for("the devices to go", PATIENCE, || {
                let links = site.cluster.node(node)?.ns().links()?;
                ensure!(!links.iter().any(|l| l.starts_with("vxlan")), "{links:?}");
                Ok(())
            })?;
        }
        wait_for("the tunnel addresses to be given back", PATIENCE, || {
            let node = site.cluster.ctl(&["get", "node", "n1", "-o", "yaml"])?;
            ensure!(!node.contains("VXLANTunnelAddr"), "{node}");
            Ok(())
        })?;
        site.change_to(Mode::vxlan("CrossSubnet"))
    });
}

#[test]
fn vxlan_of_one_family_alone() {
    for families in [Families::V4, Families::V6] {
        on_site_of(families, "one", Mode::vxlan("CrossSubnet"), |site| {
            for pod in &site.pods {
                ensure!(
                    pod.ips.len() == 1 && families.has(pod.ips[0].is_ipv4()),
                    "{:?}",
                    pod.ips
                );
            }
            site.check(Mode::vxlan("CrossSubnet"))?;
            let other = if families == Families::V4 {
                "vxlan-v6.calico"
            } else {
                "vxlan.calico"
            };
            let links = site.cluster.node("n1")?.ns().links()?;
            ensure!(!links.iter().any(|l| l == other), "{links:?}");
            Ok(())
        });
    }
}

/// A router between the subnets that knows the pods needs no tunnel: next hops are resolved through it.
#[test]
fn nothing_is_encapsulated_through_a_router_that_knows_the_pods() {
    on_site("plain", Mode::vxlan("Never"), |site| {
        site.tell_the_router()?;
        for v4 in [true, false] {
            for (a, b) in [("n1", "n2"), ("n1", "n3"), ("n3", "n2")] {
                site.check_pair(Mode::vxlan("Never"), a, b, v4)?;
            }
        }
        let links = site.cluster.node("n3")?.ns().links()?;
        ensure!(!links.iter().any(|l| l.starts_with("vxlan")), "{links:?}");
        Ok(())
    });
}

/// What can be seen of a node's VXLAN device: peers, neighbours, routes.
fn tunnel_state(ns: &Netns) -> Result<[Vec<String>; 3]> {
    let all = [
        ns.exec(&["bridge", "fdb", "show", "dev", "vxlan.calico"])?,
        ns.ip(&["neigh", "show", "dev", "vxlan.calico", "nud", "permanent"])?,
        ns.ip(&["route", "show", "dev", "vxlan.calico"])?,
    ];
    Ok(all.map(|text| {
        let mut lines: Vec<String> = text.lines().map(without_object).collect();
        lines.sort();
        lines
    }))
}

/// What somebody does to the device.
const DRIFTS: [&str; 5] = [
    "ip neigh flush dev vxlan.calico nud permanent",
    "bridge fdb show dev vxlan.calico | while read m rest; do bridge fdb del $m dev vxlan.calico; done",
    "ip route flush dev vxlan.calico",
    "ip addr flush dev vxlan.calico scope global",
    "ip link set vxlan.calico mtu 1300 down",
];

/// Each of [`DRIFTS`], and that the whole device is gone; all of it is repaired, and pods hear one another again.
fn drift_is_repaired(site: &Site, ns: &Netns, to: IpAddr) -> Result<()> {
    let before = tunnel_state(ns)?;
    for drift in DRIFTS {
        ns.exec(&["sh", "-c", drift])?;
        wait_for(&format!("the repair of {drift}"), PATIENCE, || {
            let (now, device) = (tunnel_state(ns)?, site.device("n1", "vxlan.calico")?);
            ensure!(now == before, "{now:?} in place of {before:?}");
            ensure!(device["mtu"] == LINK_MTU - 50, "{device}");
            Ok(())
        })?;
        first_reply(&site.pod("n1")?.ns, to, PATIENCE)?;
    }
    ns.ip(&["link", "del", "vxlan.calico"])?;
    first_reply(&site.pod("n1")?.ns, to, PATIENCE)?;
    Ok(())
}

#[test]
fn vxlan_devices_survive_what_happens_to_them() {
    on_site("vxkeep", Mode::vxlan("CrossSubnet"), |site| {
        let mode = Mode::vxlan("CrossSubnet");
        site.check(mode)?;
        let ns = site.cluster.node("n1")?.ns().clone();
        // Somebody else's tunnel, with a neighbour.
        for command in [
            "ip link add theirs type vxlan id 77 dstport 4790 local 172.30.0.11",
            "ip link set theirs up",
            "ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev theirs nud permanent",
        ] {
            ns.exec(&["sh", "-c", command])?;
        }
        let index = site.device("n1", "vxlan.calico")?["ifindex"].clone();

        let (one, other) = (site.pod("n1")?, site.pod("n3")?);
        let to = address(other, true)?;
        let run = PingRun::start(&one.ns, to);
        for _ in 0..2 {
            let node = site.cluster.node_mut("n1")?;
            node.felix.kill()?;
            node.felix.start_again()?;
            site.cluster.wait_ready("n1")?;
        }
        let summary = run.stop()?;
        ensure!(summary.lost() == 0, "felix killed twice: {summary:?}");
        ensure!(
            site.device("n1", "vxlan.calico")?["ifindex"] == index,
            "the device is another one"
        );
        drift_is_repaired(site, &ns, to)?;
        site.check(mode)?;
        // The link beneath grows narrower, and the tunnel with it.
        ns.ip(&["link", "set", "eth0", "mtu", "1400"])?;
        wait_for("the tunnel's MTU to follow", PATIENCE, || {
            let device = site.device("n1", "vxlan.calico")?;
            ensure!(device["mtu"] == 1350, "{device}");
            Ok(())
        })?;
        let theirs = ns.ip(&["neigh", "show", "dev", "theirs", "nud", "permanent"])?;
        ensure!(theirs.contains("192.0.2.9"), "{theirs}");
        Ok(())
    });
}

/// What `make ci` has of IPIP: one mode, both headers and none.
#[test]
#[ignore = "needs a kernel with IPIP: make vm"]
fn ipip_across_subnets() {
    on_site("ipips", Mode::ipip("CrossSubnet"), |site| {
        let mode = Mode::ipip("CrossSubnet");
        site.check_pair(mode, "n1", "n2", true)?;
        site.check_pair(mode, "n1", "n3", true)?;
        let device = site.device("n1", "tunl0")?;
        ensure!(device["mtu"] == LINK_MTU - 20, "{device}");
        ensure!(pod_mtu(site.pod("n1")?)? == LINK_MTU - 20);
        Ok(())
    });
}

/// Only where the kernel has IPIP: in `make vm`.
#[test]
#[ignore = "needs a kernel with IPIP: make vm"]
fn ipip_in_every_mode_and_changed_under_traffic() {
    on_site("ipip", Mode::ipip("Always"), |site| {
        for pod in &site.pods {
            let mtu = pod_mtu(pod)?;
            ensure!(mtu == LINK_MTU - 20, "{}: {mtu}", pod.name);
        }
        site.check(Mode::ipip("Always"))?;
        let device = site.device("n1", "tunl0")?;
        ensure!(device["mtu"] == LINK_MTU - 20, "{device}");
        site.change_to(Mode::ipip("CrossSubnet"))?;
        site.change_to(Mode::vxlan("CrossSubnet"))?;
        site.change_to(Mode::ipip("CrossSubnet"))?;
        site.change_to(Mode::ipip("Never"))
    });
}
