//! Which of a host's addresses is the node's: a pure function over the interfaces, their addresses and a method.
//!
//! The methods and their texts are Calico's. One thing differs: where Calico takes the first of several addresses, this
//! refuses and lists them, because the wrong one works until the first packet has to cross the network. What is no real
//! alternative is left out before that: on one interface a host-length address (a virtual IP) yields to one with a
//! network, a secondary address to its primary, a temporary or expiring IPv6 address to a lasting one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use regex::Regex;
use tortie_ipam::IpFamily;
use tortie_model::InterfaceAddr;
use tortie_net::Prefix;

/// What `first-found` and `skip-interface` never look at, as prefixes of names (Calico's list).
const SKIPPED: &[&str] = &[
    "docker",
    "cbr",
    "dummy",
    "podman",
    "virbr",
    "lxcbr",
    "veth",
    "lo",
    "br-",
    "cali",
    "tunl",
    "flannel",
    "kube-ipvs",
    "cni",
    "vxlan.calico",
    "vxlan-v6.calico",
    "wireguard.cali",
    "wg-v6.cali",
    "nodelocaldns",
];

/// How an address is chosen.
#[derive(Debug, Clone)]
pub(crate) enum Method {
    /// The one there is, on interfaces that are not skipped.
    FirstFound,
    /// On interfaces that match, expressions in order of preference.
    Interface(Vec<Regex>),
    /// Like `first-found`, without interfaces that match.
    SkipInterface(Vec<Regex>),
    /// The source the kernel takes for packets to this host.
    CanReach(String),
    /// In one of these networks, in order of preference.
    Cidr(Vec<Prefix>),
    /// What the orchestrator calls the node's internal address.
    KubernetesInternalIp,
}

/// A method's text that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is no way to detect an address: {reason}; want first-found, interface=REGEX,.., skip-interface=REGEX,.., \
     can-reach=HOST, cidr=NETWORK,.. or kubernetes-internal-ip"
)]
pub(crate) struct BadMethod {
    text: String,
    reason: String,
}

impl FromStr for Method {
    type Err = BadMethod;

    fn from_str(text: &str) -> Result<Self, BadMethod> {
        let bad = |reason: String| BadMethod {
            text: text.to_owned(),
            reason,
        };
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let parts: Vec<&str> = value.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
        let regexes = || {
            let compiled = parts.iter().map(|p| Regex::new(p).map_err(|e| bad(e.to_string())));
            compiled.collect::<Result<Vec<_>, _>>()
        };
        let takes_list = matches!(name, "interface" | "skip-interface" | "cidr" | "can-reach");
        if takes_list && parts.is_empty() {
            return Err(bad(format!("{name}= wants a value")));
        }
        match name {
            "first-found" if value.is_empty() => Ok(Method::FirstFound),
            "kubernetes-internal-ip" if value.is_empty() => Ok(Method::KubernetesInternalIp),
            "interface" => Ok(Method::Interface(regexes()?)),
            "skip-interface" => Ok(Method::SkipInterface(regexes()?)),
            "can-reach" if parts.len() == 1 => Ok(Method::CanReach(parts.concat())),
            "cidr" => {
                let network = |p: &&str| Prefix::parse_with_address(p).map(|(_, network)| network);
                let networks = parts.iter().map(|p| network(p).map_err(|e| bad(e.to_string())));
                Ok(Method::Cidr(networks.collect::<Result<_, _>>()?))
            }
            _ => Err(bad("no such method".to_owned())),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |f: &mut fmt::Formatter<'_>, name: &str, of: Vec<String>| write!(f, "{name}={}", of.join(","));
        let texts = |of: &[Regex]| of.iter().map(ToString::to_string).collect();
        match self {
            Method::FirstFound => f.write_str("first-found"),
            Method::Interface(of) => listed(f, "interface", texts(of)),
            Method::SkipInterface(of) => listed(f, "skip-interface", texts(of)),
            Method::CanReach(host) => write!(f, "can-reach={host}"),
            Method::Cidr(of) => listed(f, "cidr", of.iter().map(ToString::to_string).collect()),
            Method::KubernetesInternalIp => f.write_str("kubernetes-internal-ip"),
        }
    }
}

/// An interface of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    /// Administratively up.
    pub(crate) up: bool,
    /// In the kernel's order.
    pub(crate) addresses: Vec<Address>,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) address: InterfaceAddr,
    /// IPv4: of a network in which the interface has another address that came first.
    pub(crate) secondary: bool,
    /// IPv6: made for privacy.
    pub(crate) temporary: bool,
    /// Not for new connections, or not known to be the host's alone.
    pub(crate) unusable: bool,
    /// It does not expire.
    pub(crate) permanent: bool,
}

/// What the tables do not say; found out before, so that detection stays pure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    /// The source the kernel takes towards the host of `can-reach`; `None` when there is no way.
    pub(crate) source: Option<IpAddr>,
    /// What the orchestrator calls internal addresses of this node.
    pub(crate) internal: Vec<IpAddr>,
}

/// An address and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) interface: String,
    pub(crate) address: InterfaceAddr,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.address, self.interface)
    }
}

fn list<T: ToString>(of: &[T]) -> String {
    let texts: Vec<String> = of.iter().map(ToString::to_string).collect();
    if texts.is_empty() {
        "none".to_owned()
    } else {
        texts.join(", ")
    }
}

/// Why no address was chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undetected {
    /// There is no address to choose.
    #[error("no {family} address by {method}; the host has: {}", list(.present))]
    None {
        family: IpFamily,
        method: String,
        present: Vec<Candidate>,
    },
    /// There are several, and nothing says which is meant.
    #[error(
        "{family} address by {method} is ambiguous: {}; say which, for example with cidr={}",
        list(.candidates),
        .candidates.first().map_or_else(String::new, |c| c.address.network().to_string())
    )]
    Ambiguous {
        family: IpFamily,
        method: String,
        candidates: Vec<Candidate>,
    },
    /// The kernel knows no way.
    #[error("{family} address by {method}: the kernel has no route there")]
    Unreachable { family: IpFamily, method: String },
    /// The orchestrator does not say.
    #[error("{family} address by {method}: no internal {family} address of this node is known (--internal-ip)")]
    NoInternal { family: IpFamily, method: String },
    /// The address is not the host's.
    #[error("{address} (by {method}) is on no interface of this host; the host has: {}", list(.present))]
    NotLocal {
        address: IpAddr,
        method: String,
        present: Vec<Candidate>,
    },
}

/// The address of a family that the method chooses.
///
/// # Errors
/// [`Undetected`].
pub(crate) fn detect(
    method: &Method,
    family: IpFamily,
    interfaces: &[Interface],
    hints: &Hints,
) -> Result<Candidate, Undetected> {
    let host = Host { interfaces, family };
    let all = |_: &Address| true;
    match method {
        Method::FirstFound => host.only(method, host.candidates(|i| !is_skipped(i), all)),
        Method::SkipInterface(skip) => {
            let wanted = |name: &str| !is_skipped(name) && !skip.iter().any(|s| s.is_match(name));
            host.only(method, host.candidates(wanted, all))
        }
        Method::Interface(of) => {
            let found = of.iter().map(|regex| {
                // A name is meant literally before it is meant as an expression: eth1 is not eth10.
                let literal = host.candidates(|name| name == regex.as_str(), all);
                match literal.is_empty() {
                    true => host.candidates(|name| regex.is_match(name), all),
                    false => literal,
                }
            });
            host.only(method, first_filled(found))
        }
        Method::Cidr(of) => {
            let found = of
                .iter()
                .map(|network| host.candidates(|_| true, |a| network.contains(a.address.addr)));
            host.only(method, first_filled(found))
        }
        Method::CanReach(_) => {
            let method = method.to_string();
            let source = hints.source.filter(|s| is_of(family, *s));
            let source = source.ok_or(Undetected::Unreachable {
                family,
                method: method.clone(),
            })?;
            host.local(source, &method)
        }
        Method::KubernetesInternalIp => {
            let method = method.to_string();
            let internal = hints.internal.iter().find(|ip| is_of(family, **ip));
            let internal = internal.ok_or(Undetected::NoInternal {
                family,
                method: method.clone(),
            })?;
            host.local(*internal, &method)
        }
    }
}

/// Where an address is on this host, with its network's length. An interface that is down does not have it.
pub(crate) fn find(interfaces: &[Interface], address: IpAddr) -> Option<Candidate> {
    let up = interfaces.iter().filter(|i| i.up);
    let mut all = up.flat_map(|i| i.addresses.iter().map(move |a| (i, a)));
    let (interface, found) = all.find(|(_, a)| a.address.addr == address)?;
    Some(Candidate {
        interface: interface.name.clone(),
        address: found.address,
    })
}

fn first_filled(mut of: impl Iterator<Item = Vec<Candidate>>) -> Vec<Candidate> {
    of.find(|c| !c.is_empty()).unwrap_or_default()
}

fn is_skipped(name: &str) -> bool {
    SKIPPED.iter().any(|s| name.starts_with(s))
}

fn is_of(family: IpFamily, ip: IpAddr) -> bool {
    ip.is_ipv4() == (family == IpFamily::V4)
}

/// An address that other nodes could reach: global unicast.
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(a) => {
            let unusable = a.is_unspecified() || a.is_loopback() || a.is_link_local() || a.is_multicast();
            !unusable && a != Ipv4Addr::BROADCAST
        }
        IpAddr::V6(a) => !(a.is_unspecified() || a.is_loopback() || a.is_unicast_link_local() || a.is_multicast()),
    }
}

struct Host<'a> {
    interfaces: &'a [Interface],
    family: IpFamily,
}

impl Host<'_> {
    /// What remains of each interface that is wanted.
    fn candidates(&self, wanted: impl Fn(&str) -> bool, among: impl Fn(&Address) -> bool) -> Vec<Candidate> {
        let up = self.interfaces.iter().filter(|i| i.up && wanted(&i.name));
        up.flat_map(|i| {
            let usable = i.addresses.iter().filter(|a| self.is_usable(a) && among(a)).collect();
            narrow(usable).into_iter().map(|a| Candidate {
                interface: i.name.clone(),
                address: a.address,
            })
        })
        .collect()
    }

    fn is_usable(&self, a: &Address) -> bool {
        !a.unusable && is_of(self.family, a.address.addr) && is_global(a.address.addr)
    }

    fn only(&self, method: &Method, mut candidates: Vec<Candidate>) -> Result<Candidate, Undetected> {
        // The same address on two interfaces is one address.
        candidates.dedup_by_key(|c| c.address.addr);
        let (family, method) = (self.family, method.to_string());
        match candidates.len() {
            0 => Err(Undetected::None {
                family,
                method,
                present: self.present(),
            }),
            1 => Ok(candidates.remove(0)),
            _ => Err(Undetected::Ambiguous {
                family,
                method,
                candidates,
            }),
        }
    }

    fn local(&self, address: IpAddr, method: &str) -> Result<Candidate, Undetected> {
        let local = find(self.interfaces, address).filter(|c| is_global(c.address.addr));
        local.ok_or_else(|| Undetected::NotLocal {
            address,
            method: method.to_owned(),
            present: self.present(),
        })
    }

    /// For messages: every address of the family that could be a node's.
    fn present(&self) -> Vec<Candidate> {
        self.candidates(|_| true, |_| true)
    }
}

/// Of the addresses of one interface, those between which only a person can choose.
fn narrow(mut of: Vec<&Address>) -> Vec<&Address> {
    let rules: [fn(&Address) -> bool; 4] = [
        |a| !a.temporary,
        |a| !Prefix::host(a.address.addr).covers(a.address.network()),
        |a| !a.secondary,
        |a| a.permanent,
    ];
    for rule in rules {
        if of.iter().any(|a| rule(a)) {
            of.retain(|a| rule(a));
        }
    }
    of
}

#[cfg(test)]
mod tests;
