//! The facts about this host, read from the kernel and from files. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs, UdpSocket};
use std::path::Path;

use anyhow::{Context, Result};
use tortie_ipam::IpFamily;
use tortie_model::InterfaceAddr;
use tortie_netlink::request::Connection;
use tortie_netlink::route::{Filter, Kernel, Kind, Netlink, Protocol, Route};

use super::autodetect::{Address, Interface};
use super::pools::HostNetwork;
use super::prerequisites::{Facts, ForeignRoute, Parameter};

/// felix's own routes without a next hop.
const PROTOCOL_FELIX: Protocol = Protocol(80);
/// What felix programs of BGP's.
const PROTOCOL_BIRD: Protocol = Protocol(12);
/// Interfaces that are Tortie's, as beginnings of names.
const OWN: [&str; 5] = ["cali", "tunl0", "vxlan.calico", "vxlan-v6.calico", "wireguard.cali"];

/// Every interface with its addresses, by index.
pub(crate) fn interfaces() -> Result<Vec<Interface>> {
    let mut connection = Connection::open()?;
    let links = connection.links()?;
    let addresses = connection.addresses()?;
    let interface = |link: &tortie_netlink::link::Link| Interface {
        name: link.name.clone(),
        up: link.up,
        addresses: addresses
            .iter()
            .filter(|a| a.link == link.index)
            .map(|a| Address {
                address: InterfaceAddr {
                    addr: a.address,
                    len: a.len,
                },
                secondary: a.secondary,
                temporary: a.temporary,
                unusable: a.deprecated || a.tentative,
                permanent: a.permanent,
            })
            .collect(),
    };
    Ok(links.iter().map(interface).collect())
}

fn is_own(interface: &str) -> bool {
    OWN.iter().any(|o| interface.starts_with(o))
}

/// The networks of the host's interfaces, Tortie's own left out.
pub(crate) fn networks(interfaces: &[Interface]) -> Vec<HostNetwork> {
    let others = interfaces.iter().filter(|i| !is_own(&i.name));
    let all = others.flat_map(|i| i.addresses.iter().map(move |a| (i, a)));
    let routable = all.filter(|(_, a)| !a.address.addr.is_loopback());
    routable
        .map(|(i, a)| HostNetwork {
            interface: i.name.clone(),
            network: a.address.network(),
        })
        .collect()
}

/// The source address the kernel takes towards a host. Nothing is sent.
pub(crate) fn source_towards(host: &str, family: IpFamily) -> Option<IpAddr> {
    const ANY_PORT: u16 = 53;
    let mut resolved = (host, ANY_PORT).to_socket_addrs().ok()?;
    let to = resolved.find(|a| a.is_ipv4() == (family == IpFamily::V4))?;
    let any: IpAddr = match family {
        IpFamily::V4 => Ipv4Addr::UNSPECIFIED.into(),
        IpFamily::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}

/// The host's name in lower case, as calico-node takes it.
pub(crate) fn name() -> Result<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").context("cannot read the host's name")?;
    Ok(name.trim().to_ascii_lowercase())
}

/// Five octets nobody can foresee.
pub(crate) fn chance() -> Result<[u8; 5]> {
    use std::io::Read as _;
    let mut octets = [0; 5];
    let mut file = fs::File::open("/dev/urandom").context("cannot open /dev/urandom")?;
    file.read_exact(&mut octets).context("cannot read /dev/urandom")?;
    Ok(octets)
}

/// What the prerequisites are checked against. `interface` has the node's IPv4 address.
pub(crate) fn facts(families: &[IpFamily], interface: Option<&str>) -> Result<Facts> {
    let forwarding = families.iter().filter_map(|family| {
        parameter(match family {
            IpFamily::V4 => "net/ipv4/ip_forward",
            IpFamily::V6 => "net/ipv6/conf/all/forwarding",
        })
    });
    let filtered = std::iter::once("all").chain(interface);
    let rp_filter = filtered.filter_map(|i| parameter(&format!("net/ipv4/conf/{i}/rp_filter")));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim().to_owned();
    Ok(Facts {
        forwarding: forwarding.collect(),
        rp_filter: rp_filter.collect(),
        modules: modules(Path::new("/"), &kernel),
        kernel,
        routes: foreign_routes()?,
        network_manager: network_manager(Path::new("/")),
    })
}

fn parameter(name: &str) -> Option<Parameter> {
    let path = Path::new("/proc/sys").join(name);
    let value = fs::read_to_string(&path).ok()?;
    Some(Parameter {
        name: name.to_owned(),
        value: value.trim().to_owned(),
        writable: fs::OpenOptions::new().write(true).open(&path).is_ok(),
    })
}

/// The modules of the running kernel: loaded ones, and those of its directory.
fn modules(root: &Path, kernel: &str) -> Option<BTreeSet<String>> {
    let directory = root.join("lib/modules").join(kernel);
    let builtin = fs::read_to_string(directory.join("modules.builtin")).ok()?;
    let loadable = fs::read_to_string(directory.join("modules.dep")).ok()?;
    let loaded = fs::read_to_string(root.join("proc/modules")).unwrap_or_default();
    let file_name = |line: &str| {
        let path = line.split(':').next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        name.split('.').next().unwrap_or_default().replace('-', "_")
    };
    let first = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let files = builtin.lines().chain(loadable.lines()).map(file_name);
    Some(files.chain(loaded.lines().map(first)).collect())
}

/// NetworkManager runs, and no configuration of it speaks of the interfaces of workloads.
fn network_manager(root: &Path) -> bool {
    if !root.join("run/NetworkManager").is_dir() {
        return false;
    }
    let folders = [
        "etc/NetworkManager/conf.d",
        "usr/lib/NetworkManager/conf.d",
        "run/NetworkManager/conf.d",
    ];
    let listed = folders
        .iter()
        .filter_map(|f| fs::read_dir(root.join(f)).ok())
        .flatten()
        .flatten();
    let mut files = listed
        .map(|e| e.path())
        .chain([root.join("etc/NetworkManager/NetworkManager.conf")]);
    !files.any(|f| fs::read_to_string(f).is_ok_and(|text| text.contains("interface-name:cali")))
}

/// The routes of the main table that neither felix nor bird-rs made.
fn foreign_routes() -> Result<Vec<ForeignRoute>> {
    let mut kernel = Netlink::open()?;
    let names: BTreeMap<_, _> = kernel.interfaces()?.into_iter().map(|i| (i.index, i.name)).collect();
    let routes = kernel.routes(Filter::MAIN)?;
    let name = |index| names.get(&index).cloned();
    let is_ours = |r: &Route| {
        let by_device = r.interfaces().any(|i| name(i).is_some_and(|n| is_own(&n)));
        let own_block = r.protocol == PROTOCOL_FELIX && r.kind == Kind::Blackhole;
        by_device || own_block || r.protocol == PROTOCOL_BIRD
    };
    let foreign = routes.iter().filter(|r| !is_ours(r));
    Ok(foreign
        .map(|r| ForeignRoute {
            prefix: r.prefix,
            text: r.display(name).to_string(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_network_manager_are_read_from_files() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(modules(root.path(), "6.1.0"), None);
        assert!(!network_manager(root.path()));
        write("lib/modules/6.1.0/modules.builtin", "kernel/net/ipv4/ip_tunnel.ko\n");
        write(
            "lib/modules/6.1.0/modules.dep",
            "kernel/drivers/net/vxlan/vxlan.ko.xz: kernel/x.ko\nkernel/net/nf-tables.ko:\n",
        );
        write("proc/modules", "ipip 20480 0 - Live 0x0\n");
        let known = modules(root.path(), "6.1.0").unwrap();
        assert_eq!(Vec::from_iter(known), ["ip_tunnel", "ipip", "nf_tables", "vxlan"]);
        write("run/NetworkManager/NetworkManager.pid", "1");
        write("etc/NetworkManager/NetworkManager.conf", "[main]\n");
        assert!(network_manager(root.path()));
        write(
            "etc/NetworkManager/conf.d/calico.conf",
            "[keyfile]\nunmanaged-devices=interface-name:cali*\n",
        );
        assert!(!network_manager(root.path()));
    }

    #[test]
    fn this_host_is_read() {
        let interfaces = interfaces().unwrap();
        let lo = interfaces.iter().find(|i| i.name == "lo").unwrap();
        assert!(lo.addresses.iter().all(|a| a.address.addr.is_loopback() || !a.unusable));
        let source = source_towards("127.0.0.1", IpFamily::V4);
        assert_eq!(source, Some("127.0.0.1".parse().unwrap()));
        assert_eq!(source_towards("127.0.0.1", IpFamily::V6), None);
    }
}
