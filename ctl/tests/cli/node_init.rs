//! `node init` on hosts that are network namespaces with interfaces of their own.

use std::process::Command;

use serde_json::Value;

use super::{Said, Typha};

/// A network namespace, removed when dropped.
struct Host(String);

fn ip(args: &str) {
    let done = Command::new("ip")
        .args(args.split(' '))
        .output()
        .expect("run ip (iproute2)");
    assert!(
        done.status.success(),
        "ip {args}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

impl Host {
    /// A host with these addresses: `eth0 10.0.0.5/24`.
    fn new(name: &str, addresses: &[(&str, &str)]) -> Host {
        let host = Host(format!("tt-init-{}-{name}", std::process::id()));
        ip(&format!("netns add {}", host.0));
        for (interface, address) in addresses {
            host.ip(&format!("link add {interface} type veth peer name {interface}p"));
            host.ip(&format!("link set {interface} up"));
            host.ip(&format!("address add {address} dev {interface}"));
        }
        host
    }

    fn ip(&self, args: &str) {
        ip(&format!("-n {} {args}", self.0));
    }

    fn init(&self, typha: &Typha, node: &str, args: &[&str]) -> Said {
        let done = Command::new("ip")
            .args(["netns", "exec", &self.0, env!("CARGO_BIN_EXE_tortiectl")])
            .args(["--typha", &typha.addr(), "node", "init", "--node", node])
            .args(args)
            .output()
            .unwrap();
        Said {
            status: done.status.code().unwrap(),
            out: String::from_utf8(done.stdout).unwrap(),
            err: String::from_utf8(done.stderr).unwrap(),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

fn get(typha: &Typha, what: &[&str]) -> Value {
    let said = typha.run(&[&["get"], what, &["-o", "json"]].concat());
    assert_eq!(said.status, 0, "{}", said.err);
    serde_json::from_str(&said.out).unwrap()
}

#[test]
fn a_host_becomes_a_node_once() {
    let typha = Typha::start();
    let host = Host::new("once", &[("eth0", "10.0.0.5/24")]);
    let settings = [
        "--as",
        "65001",
        "--route-reflector-cluster-id",
        "10.0.0.1",
        "--k8s-node",
        "Worker-5",
        "--ipv4pool-ipip",
        "CrossSubnet",
    ];
    let dry = host.init(&typha, "n5", &[&settings[..], &["--dry-run"]].concat());
    assert!(
        dry.out
            .contains("node/n5 created (dry run)\nippool/default-ipv4-ippool 192.168.0.0/16 created"),
        "{}",
        dry.out
    );
    assert_eq!(get(&typha, &["nodes"])["items"], serde_json::json!([]));
    let said = host.init(&typha, "n5", &settings);
    assert_eq!(said.status, 0, "{}", said.err);
    let first: Vec<&str> = said.out.lines().take(3).collect();
    assert_eq!(
        first,
        [
            "IPv4 address 10.0.0.5/24 on eth0 (first-found)",
            "node/n5 created",
            "ippool/default-ipv4-ippool 192.168.0.0/16 created",
        ]
    );
    let node = get(&typha, &["node", "n5"]);
    let bgp = &node["spec"]["bgp"];
    assert_eq!(bgp["ipv4Address"], "10.0.0.5/24");
    assert_eq!(bgp["asNumber"], 65001);
    assert_eq!(bgp["routeReflectorClusterID"], "10.0.0.1");
    assert_eq!(node["spec"]["orchRefs"][0]["nodeName"], "Worker-5");
    let tunnel = bgp["ipv4IPIPTunnelAddr"].as_str().unwrap().to_owned();
    assert!(tunnel.starts_with("192.168."), "{tunnel}");
    let said = host.init(&typha, "n5", &[]);
    said.is("node/n5 unchanged");
    assert_eq!(get(&typha, &["node", "n5"]), node);
}

#[test]
fn tunnel_addresses_follow_the_pools() {
    let typha = Typha::start();
    let host = Host::new("tunnel", &[("eth0", "10.0.0.6/24")]);
    let spec = |ipip: &str, vxlan: &str| {
        let pool = |name: &str, more: &str| {
            format!(
                "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: {name}}}\nspec: {{{more}}}\n---\n"
            )
        };
        pool("a", &format!("cidr: 10.10.0.0/24, blockSize: 28, ipipMode: {ipip}"))
            + &pool("b", &format!("cidr: 10.11.0.0/24, blockSize: 28, vxlanMode: {vxlan}"))
            + &pool("c", "cidr: fd00::/112, vxlanMode: Always")
    };
    assert_eq!(typha.apply(&spec("Always", "CrossSubnet")).status, 0);
    assert_eq!(host.init(&typha, "n6", &[]).status, 0);
    let addresses = || {
        let node = get(&typha, &["node", "n6"]);
        [
            node["spec"]["bgp"]["ipv4IPIPTunnelAddr"].clone(),
            node["spec"]["ipv4VXLANTunnelAddr"].clone(),
            node["spec"]["ipv6VXLANTunnelAddr"].clone(),
        ]
        .map(|a| a.as_str().unwrap_or("none").to_owned())
    };
    let given = addresses();
    assert!(
        given[0].starts_with("10.10.0.") && given[1].starts_with("10.11.0.") && given[2].starts_with("fd00::"),
        "{given:?}"
    );
    assert_eq!(host.init(&typha, "n6", &[]).status, 0);
    assert_eq!(addresses(), given, "an address that is good stays");
    assert_eq!(typha.apply(&spec("Never", "CrossSubnet")).status, 0);
    let said = host.init(&typha, "n6", &[]);
    assert!(
        said.out.contains("bgp.ipv4IPIPTunnelAddr none: no pool asks for it"),
        "{}",
        said.out
    );
    assert_eq!(addresses(), ["none".to_owned(), given[1].clone(), given[2].clone()]);
    // The address is free again: an exchange with another node's would not go unnoticed.
    assert_eq!(typha.apply(&spec("Always", "CrossSubnet")).status, 0);
    assert_eq!(host.init(&typha, "n6", &[]).status, 0);
    assert!(addresses()[0].starts_with("10.10.0."));
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let typha = Typha::start();
    let host = Host::new("refused", &[("eth0", "10.0.0.7/24"), ("eth1", "10.1.0.7/24")]);
    host.init(&typha, "n7", &[]).failed(
        1,
        &[
            "ambiguous: 10.0.0.7/24 on eth0, 10.1.0.7/24 on eth1",
            "cidr=10.0.0.0/24",
        ],
    );
    host.init(&typha, "n7", &["--ip-autodetection-method", "eth0"])
        .failed(64, &["no way to detect an address", "interface=REGEX"]);
    host.init(&typha, "n7", &["--ip", "10.0.0.7", "--ipv4pool-cidr", "10.0.0.0/8"])
        .failed(1, &["overlaps 10.0.0.0/24 of eth0", "--ipv4pool-cidr"]);
    assert_eq!(get(&typha, &["nodes"])["items"], serde_json::json!([]));
    assert_eq!(
        host.init(&typha, "n7", &["--ip-autodetection-method", "interface=eth1"])
            .status,
        0
    );
    host.init(&typha, "n8", &["--ip", "10.1.0.7"]).failed(
        1,
        &["IPv4 address 10.1.0.7 is that of Node(n7)", "tortiectl delete node n7"],
    );
    // What makes the address another is said, and only done when it is asked for.
    let said = host.init(
        &typha,
        "n7",
        &["--ip", "autodetect", "--ip-autodetection-method", "interface=eth0"],
    );
    assert!(said.err.contains("stays 10.1.0.7/24"), "{}", said.err);
    let moved = [
        "--ip",
        "autodetect",
        "--ip-autodetection-method",
        "interface=eth0",
        "--change-address",
    ];
    assert!(
        host.init(&typha, "n7", &moved)
            .out
            .contains("changes from 10.1.0.7/24 to 10.0.0.7/24")
    );
}

#[test]
fn routes_and_filters_that_stand_in_the_way_are_said_with_a_fix() {
    let typha = Typha::start();
    let host = Host::new("checks", &[("eth0", "10.0.0.9/24")]);
    host.ip("route add 192.168.7.0/24 via 10.0.0.1");
    let sysctl = Command::new("ip")
        .args([
            "netns",
            "exec",
            &host.0,
            "sh",
            "-c",
            "echo 1 > /proc/sys/net/ipv4/conf/eth0/rp_filter",
        ])
        .status()
        .unwrap();
    assert!(sysctl.success());
    let said = host.init(&typha, "n9", &["--ipv4pool-cidr", "192.168.0.0/16"]);
    assert_eq!(said.status, 0, "{}", said.err);
    for part in [
        "route '192.168.7.0/24 via 10.0.0.1 dev eth0",
        "ip route del 192.168.7.0/24",
        "net/ipv4/conf/eth0/rp_filter is 1 (strict)",
        "sysctl -w net.ipv4.conf.eth0.rp_filter=2",
    ] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    assert!(!host.init(&typha, "n9", &["--no-checks"]).err.contains("rp_filter"));
}

#[test]
fn nodes_that_come_at_once_do_not_meet() {
    let typha = Typha::start();
    let hosts: Vec<Host> = (1..=6)
        .map(|i| Host::new(&format!("many{i}"), &[("eth0", &format!("10.0.1.{i}/24"))]))
        .collect();
    std::thread::scope(|scope| {
        for (i, host) in hosts.iter().enumerate() {
            let typha = &typha;
            scope.spawn(move || {
                let said = host.init(
                    typha,
                    &format!("m{i}"),
                    &["--ipv4pool-vxlan", "Always", "--ip6", "none"],
                );
                assert_eq!(said.status, 0, "{}{}", said.out, said.err);
            });
        }
    });
    let nodes = get(&typha, &["nodes"]);
    let mut tunnels: Vec<&str> = nodes["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["spec"]["ipv4VXLANTunnelAddr"].as_str().unwrap())
        .collect();
    tunnels.sort_unstable();
    tunnels.dedup();
    assert_eq!(tunnels.len(), 6, "{nodes}");
    assert_eq!(get(&typha, &["ippools"])["items"].as_array().unwrap().len(), 1);
}
