//! Why a wanted route is not in the kernel, as data.

use std::fmt;
use std::net::IpAddr;

use tortie_net::{NodeName, Prefix};

/// A peer's route that is not let in, whatever bird-rs thinks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// It lies in a block this node owns, and no other node has borrowed the address.
    OwnBlock(Prefix),
    /// A workload on this node has the address.
    LocalWorkload,
    /// It lies in a subnet that is on this node's own link.
    NodeSubnet(Prefix),
    /// It is this node's own address.
    NodeAddress,
    /// The default route stays the host's.
    DefaultRoute,
    /// Loopback, link-local or multicast: no destination of a route.
    Martian,
}

impl Refused {
    /// One name for each reason, for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Refused::OwnBlock(_) => "own-block",
            Refused::LocalWorkload => "local-workload",
            Refused::NodeSubnet(_) => "node-subnet",
            Refused::NodeAddress => "node-address",
            Refused::DefaultRoute => "default-route",
            Refused::Martian => "martian",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::OwnBlock(block) => write!(f, "in {block}, which this node owns"),
            Refused::LocalWorkload => f.write_str("a workload on this node has the address"),
            Refused::NodeSubnet(subnet) => write!(f, "in {subnet}, which is on this node's link"),
            Refused::NodeAddress => f.write_str("this node's own address"),
            Refused::DefaultRoute => f.write_str("the default route stays the host's"),
            Refused::Martian => f.write_str("loopback, link-local or multicast"),
        }
    }
}

/// Why a route waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Withheld {
    /// The workload's interface is not there.
    NoInterface(String),
    /// The interface is there and down.
    InterfaceDown(String),
    /// The interface's name is no workload's: after a restart the route would not be recognised.
    ForeignInterface(String),
    /// Nothing in the kernel leads to the next hop.
    Unreachable(IpAddr),
    /// The next hop is this node itself.
    OwnNextHop(IpAddr),
    /// The route has no next hop at all.
    NoNextHop,
    /// The other node's end of the VXLAN tunnel is not known: no tunnel address in its Node.
    NoVtep(NodeName),
    /// The other node's address is not known.
    NoNodeAddress(NodeName),
    /// Which prefixes are this node's own is not known yet.
    DatastoreUnknown,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Withheld::NoInterface(name) => write!(f, "interface {name} does not exist"),
            Withheld::InterfaceDown(name) => write!(f, "interface {name} is down"),
            Withheld::ForeignInterface(name) => write!(f, "interface {name} is no workload's: want a name in cali…"),
            Withheld::Unreachable(ip) => write!(f, "no route to the next hop {ip}"),
            Withheld::OwnNextHop(ip) => write!(f, "the next hop {ip} is this node"),
            Withheld::NoNextHop => f.write_str("no next hop"),
            Withheld::NoVtep(node) => write!(f, "Node({node}) has no VXLAN tunnel address (yet)"),
            Withheld::NoNodeAddress(node) => write!(f, "Node({node}) has no address of the family"),
            Withheld::DatastoreUnknown => {
                f.write_str("the datastore was not seen yet, so this node's own prefixes are unknown")
            }
        }
    }
}

/// Why a candidate is not the route in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It may not.
    Refused(Refused),
    /// It cannot, for now.
    Withheld(Withheld),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Refused(r) => r.fmt(f),
            Why::Withheld(w) => w.fmt(f),
        }
    }
}
