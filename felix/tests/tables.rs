//! The tables of nftables on the real kernel, with packets: a node between a pod and what is outside, in namespaces that
//! end with the test. Needs root.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use felix::tables::{self, Status, Wanted};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tortie_calc::Tunnel;
use tortie_netlink::netns::Netns;

/// Longer than any step takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A named namespace that goes with this value.
struct Named(String);

impl Named {
    fn new(what: &str, test: &str) -> Self {
        let name = format!("tt-{test}{what}-{}", std::process::id());
        run(&format!("ip netns add {name}"));
        Named(name)
    }

    fn ip(&self, args: &str) {
        run(&format!("ip -n {} {args}", self.0));
    }

    /// A socket in there.
    fn socket(&self, address: &str) -> UdpSocket {
        let ns = Netns::open(format!("/run/netns/{}", self.0)).unwrap();
        let socket = ns.run(|| UdpSocket::bind(address).unwrap()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// The node is the test's own namespace. `pod` has 10.244.0.5 and fd00::5; `outside` is a router with addresses of
/// everybody else: 172.30.0.12 and fd30::12 (a node), 10.244.9.9 and fd00:9::9 (a pod there), 192.0.2.1 and 2001:db8::1.
struct Net {
    pod: Named,
    outside: Named,
}

impl Net {
    fn new(test: &str) -> Self {
        let net = Net {
            pod: Named::new("pod", test),
            outside: Named::new("out", test),
        };
        let Net { pod, outside } = &net;
        for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{forwarding}"), "1").unwrap();
        }
        run("ip link set lo up");
        run(&format!("ip link add cali1 type veth peer name eth0 netns {}", pod.0));
        run(&format!("ip link add up0 type veth peer name eth0 netns {}", outside.0));
        run("ip link set cali1 up");
        run("ip link set up0 up");
        run("ip addr add 169.254.1.1/32 dev cali1");
        run("ip addr add fe80::1/64 dev cali1 nodad");
        run("ip addr add 172.30.0.11/24 dev up0");
        run("ip addr add fd30::11/64 dev up0 nodad");
        for of_pod in [
            "link set lo up",
            "link set eth0 up",
            "addr add 10.244.0.5/32 dev eth0",
            "addr add fd00::5/128 dev eth0 nodad",
            "route add 169.254.1.1 dev eth0",
            "route add default via 169.254.1.1 dev eth0",
            "-6 route add default via fe80::1 dev eth0",
        ] {
            pod.ip(of_pod);
        }
        outside.ip("link set lo up");
        outside.ip("link set eth0 up");
        for address in [
            "172.30.0.1/24",
            "172.30.0.12/24",
            "172.30.0.99/24",
            "10.244.9.9/32",
            "192.0.2.1/32",
        ] {
            outside.ip(&format!("addr add {address} dev eth0"));
        }
        for address in ["fd30::1/64", "fd30::12/64", "fd00:9::9/128", "2001:db8::1/128"] {
            outside.ip(&format!("addr add {address} dev eth0 nodad"));
        }
        outside.ip("route add 10.244.0.0/24 via 172.30.0.11");
        outside.ip("-6 route add fd00::/64 via fd30::11");
        run("ip route add 10.244.0.5 dev cali1");
        run("ip route add default via 172.30.0.1");
        run("ip -6 route add fd00::5 dev cali1");
        run("ip -6 route add default via fd30::1");
        net
    }

    /// Whose packets of the pod are taken for outside, which answers.
    fn seen_as(&self, to: &str) -> SocketAddr {
        let v6 = to.contains(':');
        let there = self
            .outside
            .socket(&if v6 { format!("[{to}]:0") } else { format!("{to}:0") });
        let pod = self.pod.socket(if v6 { "[fd00::5]:0" } else { "10.244.0.5:0" });
        pod.send_to(b"request", there.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 64];
        let (_, from) = there.recv_from(&mut buffer).unwrap();
        there.send_to(b"answer", from).unwrap();
        let (len, by) = pod.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], by), (&b"answer"[..], there.local_addr().unwrap()));
        from
    }

    fn sources<const N: usize>(&self, to: [&str; N]) -> [String; N] {
        to.map(|to| self.seen_as(to).ip().to_string())
    }
}

/// Runs the test in a namespace of its own: the node.
fn on_a_node<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a namespace: needs root");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    });
    thread.join().unwrap();
}

/// The task, until it dies as a process does.
struct Felix {
    wanted: watch::Sender<Arc<Wanted>>,
    status: watch::Receiver<Arc<Status>>,
    token: CancellationToken,
    task: JoinHandle<()>,
}

impl Felix {
    fn start(wanted: Wanted) -> Self {
        let token = CancellationToken::new();
        let (wanted, shall) = watch::channel(Arc::new(wanted));
        let (sender, status) = watch::channel(Arc::default());
        let task = tokio::spawn(tables::run(shall, tables::kernel(), sender, token.clone()));
        Felix {
            wanted,
            status,
            token,
            task,
        }
    }

    fn want(&self, wanted: Wanted) {
        self.wanted.send_replace(Arc::new(wanted));
    }

    /// Everything was compared, and this many tables are there.
    async fn has(&mut self, tables: usize) {
        let there = self.status.wait_for(|s| s.compared && s.there.len() == tables);
        let there = tokio::time::timeout(PATIENCE, there).await;
        let status = there.expect("in time").unwrap();
        assert_eq!(status.failing, []);
    }

    async fn die(self) {
        self.token.cancel();
        self.task.await.unwrap();
    }
}

/// Polls until it holds.
async fn becomes(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: {}", run("nft list ruleset"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn wanted(nat: bool) -> Wanted {
    let pools = ["10.244.0.0/16", "fd00::/16"].map(|p| (p.parse().unwrap(), nat));
    let hosts = ["172.30.0.11", "172.30.0.12", "fd30::11", "fd30::12"];
    Wanted {
        known: true,
        live: true,
        pools: BTreeMap::from(pools),
        hosts: hosts.map(|h| h.parse().unwrap()).into(),
        ..Wanted::default()
    }
}

#[test]
fn what_leaves_the_pools_has_the_nodes_address() {
    on_a_node(|| async {
        let net = Net::new("nat");
        let mut felix = Felix::start(wanted(false));
        felix.has(0).await;
        assert_eq!(net.sources(["192.0.2.1", "2001:db8::1"]), ["10.244.0.5", "fd00::5"]);
        let everywhere = [
            "192.0.2.1",
            "172.30.0.12",
            "10.244.9.9",
            "2001:db8::1",
            "fd30::12",
            "fd00:9::9",
        ];
        felix.want(wanted(true));
        felix.has(2).await;
        let node = [
            "172.30.0.11",
            "172.30.0.11",
            "10.244.0.5",
            "fd30::11",
            "fd30::11",
            "fd00::5",
        ];
        assert_eq!(net.sources(everywhere), node);

        // To nodes as to pools, where it is told so; to ports that are told.
        let mut spares = wanted(true);
        spares.settings.nat.spares_nodes = true;
        spares.settings.nat.ports = Some((40_000, 40_009));
        felix.want(spares.clone());
        becomes("nodes are spared", || {
            run("nft list ruleset").matches("40000-40009").count() == 4
        })
        .await;
        let node = [
            "172.30.0.11",
            "10.244.0.5",
            "10.244.0.5",
            "fd30::11",
            "fd00::5",
            "fd00::5",
        ];
        assert_eq!(net.sources(everywhere), node);
        for to in ["192.0.2.1", "2001:db8::1"] {
            assert!((40_000..=40_009).contains(&net.seen_as(to).port()));
        }

        run("ip addr add 172.30.0.200/24 dev up0");
        spares.settings.nat.address = Some("172.30.0.200".parse().unwrap());
        felix.want(spares);
        becomes("the address", || {
            run("nft list ruleset").contains("snat to 172.30.0.200")
        })
        .await;
        assert_eq!(net.sources(["192.0.2.1", "2001:db8::1"]), ["172.30.0.200", "fd30::11"]);

        felix.want(wanted(false));
        felix.has(0).await;
        assert_eq!(run("nft list tables"), "", "nothing is left");
        assert_eq!(net.sources(["192.0.2.1", "2001:db8::1"]), ["10.244.0.5", "fd00::5"]);
        felix.die().await;
    });
}

#[test]
fn a_floating_address_leads_to_its_workload_and_back() {
    on_a_node(|| async {
        let net = Net::new("floating");
        net.outside.ip("route add 192.0.2.77 via 172.30.0.11");
        net.outside.ip("-6 route add 2001:db8:7::7 via fd30::11");
        let mut wanted = wanted(false);
        let pairs = [("192.0.2.77", "10.244.0.5"), ("2001:db8:7::7", "fd00::5")];
        wanted.floating = pairs.map(|(f, to)| (f.parse().unwrap(), to.parse().unwrap())).into();
        let mut felix = Felix::start(wanted.clone());
        felix.has(2).await;
        let ends = [
            ("192.0.2.77:7000", "10.244.0.5", "192.0.2.1:0"),
            ("[2001:db8:7::7]:7000", "[fd00::5]", "[2001:db8::1]:0"),
        ];
        let mut buffer = [0; 64];
        for (floating, own, outside) in ends {
            let floating: SocketAddr = floating.parse().unwrap();
            let pod = net.pod.socket(&format!("{own}:7000"));
            let there = net.outside.socket(outside);
            there.send_to(b"request", floating).unwrap();
            let (_, from) = pod.recv_from(&mut buffer).unwrap();
            assert_eq!(from, there.local_addr().unwrap(), "its source stays");
            pod.send_to(b"answer", from).unwrap();
            assert_eq!(there.recv_from(&mut buffer).unwrap().1, floating);

            let itself = net.pod.socket(&format!("{own}:0"));
            itself.send_to(b"request", floating).unwrap();
            let (_, from) = pod.recv_from(&mut buffer).unwrap();
            assert_eq!(from.ip(), floating.ip(), "else the answer would not come back this way");
            pod.send_to(b"answer", from).unwrap();
            assert_eq!(itself.recv_from(&mut buffer).unwrap().1, floating);
        }
        let before = run("nft -a list ruleset");
        felix.die().await;
        let mut felix = Felix::start(wanted.clone());
        felix.has(2).await;
        assert_eq!(run("nft -a list ruleset"), before, "a restart writes nothing");
        wanted.floating.clear();
        felix.want(wanted);
        felix.has(0).await;
        felix.die().await;
    });
}

#[test]
fn drift_is_repaired_and_a_restart_changes_nothing() {
    on_a_node(|| async {
        let net = Net::new("dri");
        run("nft add table ip foreign");
        run("nft add chain ip foreign c");
        let foreign = run("nft -a list table ip foreign");
        let mut felix = Felix::start(wanted(true));
        felix.has(2).await;
        let right = run("nft list table ip tortie-nat");
        for drift in [
            "delete table ip tortie-nat",
            "flush chain ip tortie-nat postrouting",
            "insert rule ip tortie-nat postrouting accept",
            "add element ip tortie-nat pools { 192.0.2.0/24 }",
            "add chain ip tortie-nat more",
        ] {
            run(&format!("nft {drift}"));
            let repaired = || {
                let out = Command::new("nft")
                    .args(["list", "table", "ip", "tortie-nat"])
                    .output()
                    .unwrap();
                out.stdout == right.as_bytes()
            };
            becomes(drift, repaired).await;
            assert_eq!(net.sources(["192.0.2.1"]), ["172.30.0.11"], "{drift}");
        }
        // Handles tell whether anything was written again.
        let before = run("nft -a list ruleset");
        felix.die().await;
        assert_eq!(run("nft -a list ruleset"), before, "it dies and undoes nothing");
        let mut nothing = wanted(false);
        nothing.live = false;
        for shall in [Wanted::default(), nothing, wanted(true)] {
            let known = shall.known;
            let mut felix = Felix::start(shall);
            if known {
                felix.has(2).await;
            }
            felix.die().await;
            assert_eq!(run("nft -a list ruleset"), before);
        }
        assert_eq!(run("nft -a list table ip foreign"), foreign);
        let mut felix = Felix::start(wanted(false));
        felix.has(0).await;
        assert_eq!(run("nft -a list ruleset").trim(), foreign.trim());
        felix.die().await;
    });
}

/// A packet of VXLAN with this network, as far as the header.
fn vxlan(network: u8) -> [u8; 9] {
    [8, 0, 0, 0, 0, network, 0, 0, b'x']
}

#[test]
fn tunnels_take_packets_of_nodes_alone() {
    on_a_node(|| async {
        let net = Net::new("tun");
        let mut shall = wanted(false);
        shall.tunnels = Tunnel::ALL.into();
        let mut felix = Felix::start(shall.clone());
        felix.has(2).await;
        // 4096 is 0x1000: ours. Others may have networks of their own.
        let (ours, theirs) = (vxlan(0x10), vxlan(0x11));
        for (node, stranger, at) in [
            ("172.30.0.12:0", "172.30.0.99:0", "172.30.0.11:4789"),
            ("[fd30::12]:0", "[2001:db8::1]:0", "[fd30::11]:4789"),
        ] {
            let here = UdpSocket::bind(at).unwrap();
            here.set_read_timeout(Some(PATIENCE)).unwrap();
            let (node, stranger) = (net.outside.socket(node), net.outside.socket(stranger));
            // In this order on one link: what comes first was let in first.
            stranger.send_to(&ours, at).unwrap();
            stranger.send_to(&theirs, at).unwrap();
            node.send_to(&ours, at).unwrap();
            let next = || {
                let mut buffer = [0; 64];
                let (len, from) = here.recv_from(&mut buffer).unwrap();
                (buffer[..len].to_vec(), from)
            };
            assert_eq!(next(), (theirs.to_vec(), stranger.local_addr().unwrap()));
            assert_eq!(next(), (ours.to_vec(), node.local_addr().unwrap()));
        }
        // A pod that wraps packets itself would send them with the node's address.
        let (vxlan_port, other) = (
            net.outside.socket("172.30.0.12:4789"),
            net.outside.socket("172.30.0.12:4790"),
        );
        let pod = net.pod.socket("10.244.0.5:0");
        for there in [&vxlan_port, &other] {
            pod.send_to(&ours, there.local_addr().unwrap()).unwrap();
        }
        let mut buffer = [0; 64];
        other.recv_from(&mut buffer).unwrap();
        vxlan_port.set_nonblocking(true).unwrap();
        assert!(vxlan_port.recv_from(&mut buffer).is_err(), "it came before the other");
        shall.settings.workloads_send_vxlan = true;
        felix.want(shall);
        becomes("workloads may", || !run("nft list ruleset").contains("dport 4789 drop")).await;
        vxlan_port.set_nonblocking(false).unwrap();
        pod.send_to(&ours, vxlan_port.local_addr().unwrap()).unwrap();
        vxlan_port.recv_from(&mut buffer).unwrap();
        felix.die().await;
    });
}
