//! Routes: typed, dumped strictly, written in batches.
//!
//! A [`Route`] is what the kernel stores, in one canonical form for both families: the next hops of a multipath route
//! are sorted, weights count from 1, and what the kernel adds by itself (the loopback interface of an IPv6 blackhole,
//! flags such as `linkdown`) is left out, so that a route read back equals the route written.
//!
//! [`Kernel`] is the seam: [`Netlink`] is the real thing, [`crate::fake::FakeKernel`] the one for tests. Writes go in
//! batches; the kernel acknowledges the last message only, and every refusal names the change it refuses.
//!
//! Not here: rules, RTA_METRICS, and any decision about who owns a route.

mod change;
pub mod object;
mod socket;
mod wire;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use tortie_net::Prefix;

use object::{Object, ObjectId};

pub use change::{Change, Refusal};
pub use socket::Netlink;
pub(crate) use socket::{set_buffers, socket_error};
pub(crate) use wire::{Frame, Frames, Message, attribute, attributes, decode, message, nested};
pub(crate) use wire::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REPLACE, NLM_F_REQUEST};
pub(crate) use wire::{RTM_DELROUTE, RTM_NEWROUTE};

/// The main table, where this suite's routes live.
pub const TABLE_MAIN: u32 = 254;

/// An interface's index in its network namespace, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(pub u32);

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a route does with a packet (`rtm_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Send it to a next hop.
    Unicast,
    /// Drop it silently.
    Blackhole,
    /// Drop it and answer "destination unreachable".
    Unreachable,
    /// Drop it and answer "administratively prohibited".
    Prohibit,
    /// Look no further in this table.
    Throw,
    /// Another type by number: local, broadcast, anycast, multicast and so on. Read, never written.
    Other(u8),
}

impl Kind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Kind::Unicast => 1,
            Kind::Blackhole => 6,
            Kind::Unreachable => 7,
            Kind::Prohibit => 8,
            Kind::Throw => 9,
            Kind::Other(n) => n,
        }
    }

    pub(crate) fn from_code(code: u8) -> Self {
        match code {
            1 => Kind::Unicast,
            6 => Kind::Blackhole,
            7 => Kind::Unreachable,
            8 => Kind::Prohibit,
            9 => Kind::Throw,
            n => Kind::Other(n),
        }
    }

    /// Does a route of this kind have next hops?
    pub fn has_next_hops(self) -> bool {
        matches!(self, Kind::Unicast | Kind::Other(_))
    }
}

/// Who put the route there (`rtm_protocol`, the numbers of `/etc/iproute2/rt_protos`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// The kernel itself, for an address.
    pub const KERNEL: Protocol = Protocol(2);
    /// `ip route` without a protocol; Calico's workload routes.
    pub const BOOT: Protocol = Protocol(3);
    /// An administrator.
    pub const STATIC: Protocol = Protocol(4);
    /// BIRD; routes learned by BGP.
    pub const BIRD: Protocol = Protocol(12);
    /// Calico's routes that are not a workload's.
    pub const CALICO: Protocol = Protocol(80);
    /// What FRR calls routes that it learned by BGP.
    pub const BGP: Protocol = Protocol(186);
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1 => "redirect",
            2 => "kernel",
            3 => "boot",
            4 => "static",
            9 => "ra",
            11 => "zebra",
            12 => "bird",
            16 => "dhcp",
            186 => "bgp",
            188 => "ospf",
            n => return n.fmt(f),
        };
        f.write_str(name)
    }
}

/// How far the destination is (`rtm_scope`). IPv6 has none: always [`Scope::UNIVERSE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(pub u8);

impl Scope {
    /// Anywhere; routes with a gateway.
    pub const UNIVERSE: Scope = Scope(0);
    /// On the link; routes without a gateway.
    pub const LINK: Scope = Scope(253);
    /// This host.
    pub const HOST: Scope = Scope(254);
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("global"),
            253 => f.write_str("link"),
            254 => f.write_str("host"),
            n => n.fmt(f),
        }
    }
}

/// Where a unicast route sends a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// The router; absent when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The interface. Absent only in a route to be written, where the kernel finds it by the gateway.
    pub interface: Option<IfIndex>,
    /// The share of the flows, 1 to 256, against the other next hops.
    pub weight: u16,
    /// The gateway is on the link although no route says so.
    pub onlink: bool,
}

impl NextHop {
    /// Straight onto the link.
    pub fn device(interface: IfIndex) -> Self {
        NextHop {
            gateway: None,
            interface: Some(interface),
            weight: 1,
            onlink: false,
        }
    }

    /// By a router on this link.
    pub fn via(gateway: IpAddr, interface: IfIndex) -> Self {
        NextHop {
            gateway: Some(gateway),
            interface: Some(interface),
            weight: 1,
            onlink: false,
        }
    }
}

/// A route's next hops, sorted. Tens of thousands of routes go the same way: they share them.
pub type NextHops = Arc<[NextHop]>;

/// What tells one route of a table from another. Writing a route replaces the one with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// The table.
    pub table: u32,
    /// The destination.
    pub prefix: Prefix,
    /// The type of service it is restricted to; 0 is any.
    pub tos: u8,
    /// The metric ("priority"): the lowest wins.
    pub metric: u32,
}

/// A route as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The destination.
    pub prefix: Prefix,
    /// The table, usually [`TABLE_MAIN`].
    pub table: u32,
    /// The type of service it is restricted to; 0 is any.
    pub tos: u8,
    /// The metric ("priority"): the lowest wins. IPv6 knows no 0; see [`Route::canonical`].
    pub metric: u32,
    /// What it does.
    pub kind: Kind,
    /// Who made it.
    pub protocol: Protocol,
    /// How far it reaches.
    pub scope: Scope,
    /// The address this host shall send from.
    pub source: Option<IpAddr>,
    /// Where packets go; sorted; empty unless the kind has next hops.
    pub next_hops: NextHops,
    /// The nexthop object that says where packets go. The kernel then gives the object's next hops along, unless
    /// `net.ipv4.nexthop_compat_mode` is 0; none of them is written.
    pub object: Option<ObjectId>,
}

impl Route {
    /// A route of the main table without next hops: metric 0, global scope.
    pub fn new(prefix: Prefix, kind: Kind, protocol: Protocol) -> Self {
        Route {
            prefix,
            table: TABLE_MAIN,
            tos: 0,
            metric: 0,
            kind,
            protocol,
            scope: Scope::UNIVERSE,
            source: None,
            next_hops: Arc::default(),
            object: None,
        }
        .canonical()
    }

    /// The form the kernel gives back: IPv6 has metric 1024 for 0, and no scope; next hops are sorted.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        if !self.prefix.is_v4() {
            self.scope = Scope::UNIVERSE;
            if self.metric == 0 {
                self.metric = 1024;
            }
        }
        if !self.kind.has_next_hops() {
            self.next_hops = Arc::default();
        }
        match &*self.next_hops {
            // A weight says something only against others, and the kernel does not store a single one.
            [only] if only.weight != 1 => self.next_hops = Arc::new([NextHop { weight: 1, ..*only }]),
            hops if !hops.is_sorted() => Arc::make_mut(&mut self.next_hops).sort_unstable(),
            _ => {}
        }
        self
    }

    /// What tells it from other routes.
    pub fn key(&self) -> RouteKey {
        RouteKey {
            table: self.table,
            prefix: self.prefix,
            tos: self.tos,
            metric: self.metric,
        }
    }

    /// The interfaces it uses.
    pub fn interfaces(&self) -> impl Iterator<Item = IfIndex> + '_ {
        self.next_hops.iter().filter_map(|h| h.interface)
    }
}

impl fmt::Display for Route {
    /// As `ip route` prints it, but with the interface's index: `10.244.1.0/26 via 172.30.0.12 dev #2 proto bird metric
    /// 1024`. [`Route::display`] has names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.display(|_| None).fmt(f)
    }
}

impl Route {
    /// As `ip route` prints it, interfaces named by `name` where it knows them.
    pub fn display<'a>(&'a self, name: impl Fn(IfIndex) -> Option<String> + 'a) -> impl fmt::Display + 'a {
        Shown {
            route: self,
            name: Box::new(name),
        }
    }
}

struct Shown<'a> {
    route: &'a Route,
    name: Box<dyn Fn(IfIndex) -> Option<String> + 'a>,
}

impl Shown<'_> {
    fn hop(&self, f: &mut fmt::Formatter<'_>, hop: &NextHop) -> fmt::Result {
        if let Some(gateway) = hop.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(index) = hop.interface {
            match (self.name)(index) {
                Some(name) => write!(f, " dev {name}")?,
                None => write!(f, " dev #{index}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = self.route;
        match r.kind {
            Kind::Unicast => {}
            Kind::Blackhole => f.write_str("blackhole ")?,
            Kind::Unreachable => f.write_str("unreachable ")?,
            Kind::Prohibit => f.write_str("prohibit ")?,
            Kind::Throw => f.write_str("throw ")?,
            Kind::Other(n) => write!(f, "type{n} ")?,
        }
        match (r.prefix.len(), r.prefix.is_host()) {
            (0, _) => f.write_str("default")?,
            (_, true) => r.prefix.addr().fmt(f)?,
            _ => r.prefix.fmt(f)?,
        }
        if let Some(id) = r.object {
            write!(f, " nhid {id}")?;
        }
        if let [hop] = &*r.next_hops {
            self.hop(f, hop)?;
        }
        if r.table != TABLE_MAIN {
            write!(f, " table {}", r.table)?;
        }
        write!(f, " proto {}", r.protocol)?;
        if r.scope != Scope::UNIVERSE {
            write!(f, " scope {}", r.scope)?;
        }
        if let Some(source) = r.source {
            write!(f, " src {source}")?;
        }
        if r.metric != 0 {
            write!(f, " metric {}", r.metric)?;
        }
        match &*r.next_hops {
            [] => {}
            [hop] => f.write_str(if hop.onlink { " onlink" } else { "" })?,
            hops => {
                for hop in hops {
                    f.write_str(" nexthop")?;
                    self.hop(f, hop)?;
                    write!(f, " weight {}{}", hop.weight, if hop.onlink { " onlink" } else { "" })?;
                }
            }
        }
        Ok(())
    }
}

/// An interface, as far as routes care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub index: IfIndex,
    /// Its name.
    pub name: String,
    /// Is it administratively up? The kernel keeps no routes on one that is down.
    pub up: bool,
    /// Has it a carrier? The kernel keeps no nexthop objects on one that has none.
    pub carrier: bool,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceAddress {
    /// Whose.
    pub interface: IfIndex,
    /// The address.
    pub address: IpAddr,
    /// The subnet it puts on the link; a host prefix when none.
    pub subnet: Prefix,
}

/// The kernel could not be asked, or its answer is not whole. What was asked may or may not have been done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// The table changed while it was being dumped: ask again.
    #[error("the dump was interrupted by a change")]
    DumpInterrupted,
    /// Answers were lost because the socket's buffer was full.
    #[error("answers of the kernel were lost: receive buffer overrun")]
    Overrun,
    /// No answer in time.
    #[error("the kernel did not answer within {seconds} s")]
    Timeout {
        /// How long was waited.
        seconds: u64,
    },
    /// The kernel refused a question.
    #[error("the kernel refuses to {what}: {errno}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Its error number, in words.
        errno: nix::errno::Errno,
    },
    /// The socket failed.
    #[error("{what}: {errno}")]
    Socket {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        errno: nix::errno::Errno,
    },
}

/// Which routes a dump gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// Of this table.
    pub table: u32,
    /// Of this protocol only, if given.
    pub protocol: Option<Protocol>,
}

impl Filter {
    /// Everything in the main table.
    pub const MAIN: Filter = Filter {
        table: TABLE_MAIN,
        protocol: None,
    };
}

/// Read and write access to one network namespace's routes. Calls block; a kernel lives on a thread of its own.
pub trait Kernel: Send + 'static {
    /// Every route that passes the filter, both families, in no particular order. Cached clones are left out.
    ///
    /// # Errors
    /// [`KernelError::DumpInterrupted`] when the table changed meanwhile (ask again); the others when it cannot be read.
    fn routes(&mut self, filter: Filter) -> Result<Vec<Route>, KernelError>;

    /// Every interface.
    ///
    /// # Errors
    /// As [`Kernel::routes`].
    fn interfaces(&mut self) -> Result<Vec<Interface>, KernelError>;

    /// Every address of every interface.
    ///
    /// # Errors
    /// As [`Kernel::routes`].
    fn addresses(&mut self) -> Result<Vec<InterfaceAddress>, KernelError>;

    /// Every nexthop object; `None` when this kernel has no such thing.
    ///
    /// # Errors
    /// As [`Kernel::routes`].
    fn objects(&mut self) -> Result<Option<Vec<Object>>, KernelError>;

    /// Does the changes in this order. One that is refused does not stop the others; the refusals come back, by index.
    ///
    /// # Errors
    /// When answers were lost: any of the changes may or may not have been done, and the caller has to look.
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Refusal>, KernelError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_ip_route_does() {
        let name = |i: IfIndex| (i.0 == 2).then(|| "eth0".to_owned());
        let mut r = Route::new("10.244.1.0/26".parse().unwrap(), Kind::Unicast, Protocol::BIRD);
        r.metric = 1024;
        let first = NextHop::via("172.30.0.12".parse().unwrap(), IfIndex(2));
        r.next_hops = Arc::new([first]);
        assert_eq!(
            r.display(name).to_string(),
            "10.244.1.0/26 via 172.30.0.12 dev eth0 proto bird metric 1024"
        );
        let second = NextHop {
            weight: 3,
            ..NextHop::via("172.30.0.13".parse().unwrap(), IfIndex(7))
        };
        r.next_hops = Arc::new([first, second]);
        assert_eq!(
            r.display(name).to_string(),
            "10.244.1.0/26 proto bird metric 1024 nexthop via 172.30.0.12 dev eth0 weight 1 nexthop via 172.30.0.13 dev #7 weight 3"
        );
        let own = Route::new("10.244.0.0/26".parse().unwrap(), Kind::Blackhole, Protocol::CALICO);
        assert_eq!(own.to_string(), "blackhole 10.244.0.0/26 proto 80");
        let mut pod = Route::new("10.244.0.5/32".parse().unwrap(), Kind::Unicast, Protocol::BOOT);
        pod.next_hops = Arc::new([NextHop::device(IfIndex(2))]);
        pod.scope = Scope::LINK;
        assert_eq!(
            pod.display(name).to_string(),
            "10.244.0.5 dev eth0 proto boot scope link"
        );
    }

    #[test]
    fn canonical_is_what_the_kernel_gives_back() {
        let v6 = Route::new("fd00::/122".parse().unwrap(), Kind::Blackhole, Protocol::CALICO);
        assert_eq!((v6.metric, v6.scope), (1024, Scope::UNIVERSE));
        let mut one = Route::new("10.0.0.0/8".parse().unwrap(), Kind::Unicast, Protocol::BIRD);
        one.next_hops = Arc::new([NextHop {
            weight: 9,
            ..NextHop::device(IfIndex(1))
        }]);
        assert_eq!(one.canonical().next_hops[0].weight, 1);
    }
}
