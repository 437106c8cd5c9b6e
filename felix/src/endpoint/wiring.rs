//! An endpoint in the kernel: the veth pair and everything at both its ends but the node's routes.
//!
//! The order is Calico's. Everything here blocks and belongs on a blocking thread. What is there already and right is
//! kept, so that a repeated request changes nothing for a running workload.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tortie_calc::Tunnel;
use tortie_net::Prefix;
use tortie_netlink::link::{Link, MacAddr, VethPair};
use tortie_netlink::netns::Netns;
use tortie_netlink::request::{Connection, RequestError};
use tortie_netlink::sysctl::Sysctl;

use super::failure::Failure;
use crate::tunnel::mtu;

/// The host's end of every veth pair has this address: whatever a workload sends goes to it.
pub(super) const HOST_MAC: MacAddr = MacAddr([0xee; 6]);
/// The gateway every workload has; nobody owns the address, the host's end answers for it.
pub(super) const GATEWAY4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
/// The link-local address that [`HOST_MAC`] gives the host's end.
pub(super) const GATEWAY6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee));

/// What is to be there.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) interface: String,
    pub(super) netns: PathBuf,
    pub(super) ifname: String,
    pub(super) ips: Vec<IpAddr>,
    /// 0: what the links and tunnels that its packets may take carry.
    pub(super) mtu: u32,
    pub(super) node_addresses: Vec<IpAddr>,
    pub(super) tunnels: BTreeMap<Tunnel, Option<u32>>,
    pub(super) forwarding: bool,
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wired {
    pub(super) container_mac: MacAddr,
    pub(super) mtu: u32,
    /// Was the pair there before, with its ends where they belong?
    pub(super) kept: bool,
}

/// Opens a workload's namespace, which must not be the host's.
pub(super) fn open_netns(path: &Path) -> Result<Netns, Failure> {
    let netns = Netns::open(path)?;
    let same = Netns::current()?
        .same_as(&netns)
        .map_err(|e| Failure::internal(format!("compare namespaces: {e}")))?;
    if same {
        let path = path.display();
        return Err(Failure::invalid(format!(
            "CNI_NETNS: {path} is the host's own network namespace"
        )));
    }
    Ok(netns)
}

/// Where an endpoint is to be made, as it was found.
#[derive(Debug)]
pub(super) struct Site {
    netns: Netns,
    host: Connection,
    /// Is an interface of the host's end's name there? Of a new endpoint none is.
    there: bool,
}

impl Site {
    /// Opens the namespace, which must be there, and looks for the host's end. Changes nothing.
    pub(super) fn find(plan: &Plan) -> Result<Self, Failure> {
        let netns = open_netns(&plan.netns)?;
        let mut host = Connection::open()?;
        let there = host.link(&plan.interface)?.is_some();
        Ok(Site { netns, host, there })
    }

    /// May what is in the namespace be of an endpoint that is there already? If not, making the pair finds out whether the
    /// name is free, and a thread in the namespace need not.
    pub(super) fn is_used(&self) -> bool {
        self.there
    }

    /// Is the interface's name free in the namespace, or the endpoint's own? Changes nothing.
    pub(super) fn when_free(mut self, plan: &Plan) -> Result<Self, Failure> {
        has_pair(plan, &self.netns, &mut self.host)?;
        Ok(self)
    }
}

/// Is the veth pair there, with both ends where they belong?
fn has_pair(plan: &Plan, netns: &Netns, host: &mut Connection) -> Result<bool, Failure> {
    let there = host.link(&plan.interface)?;
    let inside = netns.run(|| Connection::open()?.link(&plan.ifname))??;
    let pair = is_pair(there.as_ref(), inside.as_ref());
    if inside.is_some() && !pair {
        let (ifname, netns) = (&plan.ifname, plan.netns.display());
        return Err(Failure::invalid(format!(
            "CNI_IFNAME: interface {ifname} exists already in {netns}"
        )));
    }
    Ok(pair)
}

/// Makes the endpoint as planned, at a site that was found for it.
pub(super) fn attach(plan: &Plan, site: Site, links: &HostMtu) -> Result<Wired, Failure> {
    let Site { netns, mut host, there } = site;
    let kept = there && has_pair(plan, &netns, &mut host)?;
    if !kept {
        if there {
            host.remove_link(&plan.interface)?;
        }
        let mtu = match plan.mtu {
            0 => links.of_workloads(&mut host, plan)?,
            told => told,
        };
        let (name, peer_name) = (plan.interface.as_str(), plan.ifname.as_str());
        let made = host.create_veth(&VethPair {
            name,
            mac: HOST_MAC,
            peer_name,
            peer_netns: &netns,
            mtu,
        });
        if let Err(e) = made {
            if e.is_exists() {
                // Which of the names is taken, and by what.
                has_pair(plan, &netns, &mut host)?;
            }
            return Err(e.into());
        }
    }
    let wired = ends(plan, &netns, &mut host, kept);
    if wired.is_err() && !kept {
        // A failure to remove it would hide the first; a later ADD or DEL removes what is left.
        let _ = host.remove_link(&plan.interface);
    }
    wired
}

fn is_pair(host: Option<&Link>, inside: Option<&Link>) -> bool {
    match (host, inside) {
        (Some(host), Some(inside)) => {
            host.peer == Some(inside.index) && inside.peer == Some(host.index) && host.mac == Some(HOST_MAC)
        }
        _ => false,
    }
}

/// Sets both ends up.
fn ends(plan: &Plan, netns: &Netns, host: &mut Connection, kept: bool) -> Result<Wired, Failure> {
    let name = plan.interface.as_str();
    let gone = || Failure::internal(format!("interface {name} vanished while it was set up"));
    let link = host.link(name)?.ok_or_else(gone)?;
    host_sysctls(name, &plan.ips)?;
    if plan.ips.iter().any(IpAddr::is_ipv4) {
        host.set_up_for_workload4(link.index)?;
    } else {
        host.set_up(link.index)?;
    }
    let inside = netns.run(|| inside(plan))??;
    // An endpoint that is announced is one that answers. Without this it does so a moment later, too.
    if let Err(error) = host.activate(link.index) {
        tracing::debug!(interface = name, %error, "the first packets may be lost");
    }
    let container_mac = inside.mac.ok_or_else(gone)?;
    for ip in &plan.ips {
        host.set_neighbour(link.index, *ip, container_mac)?;
    }
    Ok(Wired {
        container_mac,
        mtu: inside.mtu,
        kept,
    })
}

/// What makes the host's end answer for every address and forward for the workload.
fn host_sysctls(name: &str, ips: &[IpAddr]) -> Result<(), RequestError> {
    let set = |path: [&str; 2], setting: &str, value: &str| Sysctl::interface(path, name, setting)?.write(value);
    if ips.iter().any(IpAddr::is_ipv4) {
        // The others of IPv4 come with setting it up.
        set(["ipv4", "neigh"], "proxy_delay", "0")?;
    }
    if ips.iter().any(IpAddr::is_ipv6) {
        set(["ipv6", "conf"], "accept_dad", "0")?;
        // The gateway's address is the one made from the MAC, whatever the host's policy for its own interfaces is.
        set(["ipv6", "conf"], "addr_gen_mode", "0")?;
        set(["ipv6", "conf"], "disable_ipv6", "0")?;
        set(["ipv6", "conf"], "proxy_ndp", "1")?;
        set(["ipv6", "conf"], "forwarding", "1")?;
    }
    match set(["ipv6", "conf"], "accept_ra", "0") {
        // A kernel without IPv6 takes none.
        Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The workload's end; runs inside its namespace.
fn inside(plan: &Plan) -> Result<Link, RequestError> {
    let mut connection = Connection::open()?;
    let missing = || RequestError::new("find interface", &plan.ifname, std::io::ErrorKind::NotFound.into());
    let link = connection.link(&plan.ifname)?.ok_or_else(missing)?;
    let has6 = plan.ips.iter().any(IpAddr::is_ipv6);
    if has6 {
        for scope in ["all", "default", "lo", &plan.ifname] {
            Sysctl::interface(["ipv6", "conf"], scope, "disable_ipv6")?.write("0")?;
        }
    }
    connection.set_up(link.index)?;
    for ip in &plan.ips {
        connection.add_address(link.index, *ip, Prefix::host(*ip).len())?;
    }
    if plan.ips.iter().any(IpAddr::is_ipv4) {
        connection.set_device_route(link.index, Prefix::host(GATEWAY4))?;
        default_route(&mut connection, link.index, GATEWAY4)?;
    }
    if has6 {
        default_route(&mut connection, link.index, GATEWAY6)?;
    }
    let forwarding = if plan.forwarding { "1" } else { "0" };
    Sysctl::global("net/ipv4/ip_forward").write(forwarding)?;
    if has6 {
        Sysctl::global("net/ipv6/conf/all/forwarding").write(forwarding)?;
    }
    Ok(link)
}

/// The default route, and the gateway's hardware address: fixed, so that the first packet needs no answer, and a host
/// without a default route of its own (which does no proxy ARP for the gateway) serves as well.
fn default_route(connection: &mut Connection, index: u32, gateway: IpAddr) -> Result<(), RequestError> {
    connection.set_neighbour(index, gateway, HOST_MAC)?;
    let any = if gateway.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let everything = Prefix::new(any, 0).expect("invariant: length 0 fits every family");
    connection.set_gateway_route(index, everything, gateway)
}

/// What the links carry that packets leave the host by, as it was a moment ago.
///
/// Looking means a list of every interface, of which a node has as many as workloads: each of many endpoints that are made
/// together would look at all the others.
#[derive(Debug, Default)]
pub(super) struct HostMtu(Mutex<Option<Seen>>);

#[derive(Debug)]
struct Seen {
    at: Instant,
    own: Vec<IpAddr>,
    mtu: u32,
}

impl HostMtu {
    /// How old what was seen may be: an endpoint that is made this much earlier has the same.
    const FRESH: Duration = Duration::from_secs(1);

    fn of_workloads(&self, host: &mut Connection, plan: &Plan) -> Result<u32, RequestError> {
        let links = self.of_links(host, &plan.node_addresses)?;
        Ok(mtu::of_workloads(
            links,
            plan.tunnels.iter().map(|(t, told)| (*t, *told)),
        ))
    }

    fn of_links(&self, host: &mut Connection, own: &[IpAddr]) -> Result<u32, RequestError> {
        // Whoever comes while one looks waits for what it sees.
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = seen.as_ref().filter(|s| s.at.elapsed() < Self::FRESH && s.own == own) {
            return Ok(seen.mtu);
        }
        let at = Instant::now();
        let mtu = mtu::of_host(&host.links()?, own);
        *seen = Some(Seen {
            at,
            own: own.to_vec(),
            mtu,
        });
        Ok(mtu)
    }
}

/// Removes the veth pair, both ends. Nothing there is success.
pub(super) fn detach(interface: &str) -> Result<(), Failure> {
    Connection::open()?.remove_link(interface)?;
    Ok(())
}

/// Is the endpoint in the kernel as it should be? The first difference is the failure.
pub(super) fn check(plan: &Plan) -> Result<(), Failure> {
    let netns = open_netns(&plan.netns)?;
    let name = &plan.interface;
    let host = Connection::open()?.link(name)?;
    let host = host.ok_or_else(|| Failure::differs(format!("host interface {name} does not exist")))?;
    if !host.up {
        return Err(Failure::differs(format!("host interface {name} is down")));
    }
    let (links, default4, default6) = netns.run(|| {
        let mut inside = Connection::open()?;
        let (four, six) = (inside.has_default_via(GATEWAY4)?, inside.has_default_via(GATEWAY6)?);
        Ok::<_, RequestError>((inside.links()?, four, six))
    })??;
    let ifname = &plan.ifname;
    let link = links.into_iter().find(|l| l.name == *ifname);
    let link = link.ok_or_else(|| Failure::differs(format!("container interface {ifname} does not exist")))?;
    if !is_pair(Some(&host), Some(&link)) {
        return Err(Failure::differs(format!(
            "{ifname} and {name} are not the two ends of one veth pair"
        )));
    }
    for ip in &plan.ips {
        if !link.addresses.iter().any(|(a, _)| a == ip) {
            return Err(Failure::differs(format!(
                "container interface {ifname} does not have address {ip}"
            )));
        }
        let (has_default, gateway) = if ip.is_ipv4() {
            (default4, GATEWAY4)
        } else {
            (default6, GATEWAY6)
        };
        if !has_default {
            return Err(Failure::differs(format!(
                "the container has no default route via {gateway}"
            )));
        }
    }
    Ok(())
}
