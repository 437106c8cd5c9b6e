//! `Prefix` on the wire and `tortie_net::Prefix`.

use std::net::IpAddr;

use crate::common;

/// A prefix on the wire that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPrefix {
    /// Octets of the address field.
    pub octets: usize,
    /// The length field.
    pub len: u32,
}

impl std::fmt::Display for BadPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not a canonical prefix: {} octets, length {}", self.octets, self.len)
    }
}

impl std::error::Error for BadPrefix {}

impl From<tortie_net::Prefix> for common::Prefix {
    fn from(p: tortie_net::Prefix) -> Self {
        let addr = match p.addr() {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        common::Prefix {
            addr,
            len: u32::from(p.len()),
        }
    }
}

impl TryFrom<&common::Prefix> for tortie_net::Prefix {
    type Error = BadPrefix;

    fn try_from(p: &common::Prefix) -> Result<Self, BadPrefix> {
        let bad = || BadPrefix {
            octets: p.addr.len(),
            len: p.len,
        };
        let addr = ip(&p.addr).ok_or_else(bad)?;
        let len = u8::try_from(p.len).map_err(|_| bad())?;
        tortie_net::Prefix::canonical(addr, len).map_err(|_| bad())
    }
}

/// An address of 4 or 16 octets.
pub fn ip(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(a) = <[u8; 4]>::try_from(octets) {
        return Some(IpAddr::from(a));
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

/// The octets of an address.
pub fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}
