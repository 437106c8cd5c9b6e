//! Rules on single texts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use tortie_net::{Community, LargeCommunity, Prefix};

use crate::scalar::{GoDuration, InterfaceAddr, PeerAddr};
use crate::selector::Selector;

type Check = Result<(), String>;

fn reads_as<T: FromStr<Err: std::fmt::Display>>(s: &str) -> Check {
    s.parse::<T>().map(drop).map_err(|e| e.to_string())
}

/// Any text of at most N characters.
pub(super) fn text<const N: usize>(s: &str) -> Check {
    let len = s.chars().count();
    if len <= N {
        Ok(())
    } else {
        Err(format!("has {len} characters, at most {N} are allowed"))
    }
}

/// A network; bits beyond its length are tolerated, as Go's parser does.
pub(super) fn network(s: &str) -> Check {
    Prefix::parse_with_address(s).map(drop).map_err(|e| e.to_string())
}

/// A network without bits beyond its length.
pub(super) fn strict_network(s: &str) -> Check {
    reads_as::<Prefix>(s)
}

pub(super) fn network_or_address(s: &str) -> Check {
    reads_as::<InterfaceAddr>(s)
}

pub(super) fn interface_address_v4(s: &str) -> Check {
    let a = s.parse::<InterfaceAddr>().map_err(|e| e.to_string())?;
    if a.addr.is_ipv4() {
        Ok(())
    } else {
        Err("must be an IPv4 address".to_owned())
    }
}

pub(super) fn interface_address_v6(s: &str) -> Check {
    let a = s.parse::<InterfaceAddr>().map_err(|e| e.to_string())?;
    if a.addr.is_ipv6() {
        Ok(())
    } else {
        Err("must be an IPv6 address".to_owned())
    }
}

pub(super) fn ip(s: &str) -> Check {
    s.parse::<IpAddr>()
        .map(drop)
        .map_err(|_| "must be an IP address".to_owned())
}

pub(super) fn ipv4(s: &str) -> Check {
    s.parse::<Ipv4Addr>()
        .map(drop)
        .map_err(|_| "must be an IPv4 address".to_owned())
}

pub(super) fn ipv6(s: &str) -> Check {
    s.parse::<Ipv6Addr>()
        .map(drop)
        .map_err(|_| "must be an IPv6 address".to_owned())
}

/// A workload's own address: a prefix of full length.
pub(super) fn host_network(s: &str) -> Check {
    let p = s.parse::<Prefix>().map_err(|e| e.to_string())?;
    if p.is_host() {
        Ok(())
    } else {
        Err(format!("must be a single address: length {}", p.max_len()))
    }
}

pub(super) fn duration(s: &str) -> Check {
    reads_as::<GoDuration>(s)
}

pub(super) fn peer_address(s: &str) -> Check {
    text::<64>(s)?;
    reads_as::<PeerAddr>(s)
}

/// A selector of nodes, workloads or namespaces: `global()` makes no sense there.
pub(super) fn selector(s: &str) -> Check {
    text::<1024>(s)?;
    let selector = s.parse::<Selector>().map_err(|e| e.to_string())?;
    if selector.mentions_global() {
        Err("global() is not allowed here".to_owned())
    } else {
        Ok(())
    }
}

pub(super) fn severity(s: &str) -> Check {
    const LEVELS: [&str; 6] = ["Trace", "Debug", "Info", "Warning", "Error", "Fatal"];
    let known = LEVELS.iter().any(|l| l.eq_ignore_ascii_case(s));
    if known {
        Ok(())
    } else {
        Err(format!("must be one of: {}", LEVELS.join(", ")))
    }
}

pub(crate) fn community(s: &str) -> Check {
    text::<40>(s)?;
    if s.parse::<Community>().is_ok() {
        return Ok(());
    }
    reads_as::<LargeCommunity>(s)
}

/// An interface's name with `*` as a wildcard.
pub(super) fn interface_pattern(s: &str) -> Check {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '*' | '-');
    if s.len() <= 15 && s.chars().all(good) {
        Ok(())
    } else {
        Err("must be 1 to 15 of A-Z, a-z, 0-9, '_', '.', '-', '*'".to_owned())
    }
}

/// The name of one interface.
pub(super) fn interface(s: &str) -> Check {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if s.len() <= 15 && s.chars().all(good) {
        Ok(())
    } else {
        Err("must be 1 to 15 of A-Z, a-z, 0-9, '_', '.', '-'".to_owned())
    }
}

pub(super) fn mac(s: &str) -> Check {
    let octet = |o: &str| o.len() == 2 && o.bytes().all(|b| b.is_ascii_hexdigit());
    if s.split(':').count() == 6 && s.split(':').all(octet) {
        Ok(())
    } else {
        Err("must be a MAC address such as 0e:11:22:33:44:55".to_owned())
    }
}
