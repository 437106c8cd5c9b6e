//! Prefixes, canonical by construction.

use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IPv4 prefix. Bits beyond the length are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix4 {
    addr: u32,
    len: u8,
}

/// An IPv6 prefix. Bits beyond the length are zero.
///
/// Packed: a `u128` stands at multiples of 16 octets, and would make each [`Prefix`] 48 octets long, also those of IPv4.
#[repr(Rust, packed)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix6 {
    addr: u128,
    len: u8,
}

/// A prefix of either family. IPv4 sorts before IPv6, then by address, then by length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Prefix {
    /// IPv4.
    V4(Prefix4),
    /// IPv6.
    V6(Prefix6),
}

/// Why something is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPrefix {
    /// Not `address/length`.
    #[error("'{0}' is no prefix: want address/length")]
    Syntax(String),
    /// The length exceeds the family's bits.
    #[error("prefix length {len} exceeds {max}")]
    Length {
        /// What was given.
        len: u8,
        /// 32 or 128.
        max: u8,
    },
    /// The address has bits beyond the length.
    #[error("{addr}/{len} has bits set beyond its length: the network is {network}")]
    HostBits {
        /// What was given.
        addr: IpAddr,
        /// What was given.
        len: u8,
        /// The prefix that was probably meant.
        network: Prefix,
    },
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Prefix4 {}
    impl Sealed for super::Prefix6 {}
}

/// An address family, by its prefix type. Code in cores is generic over this, never written twice.
#[allow(clippy::len_without_is_empty)] // A prefix's length is no count of things.
pub trait Family: sealed::Sealed + Copy + Ord + Hash + fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// Bits of an address: 32 or 128.
    const BITS: u8;
    /// IANA address family number: 1 or 2.
    const AFI: u16;
    /// `"ipv4"` or `"ipv6"`.
    const NAME: &'static str;

    /// A prefix from an address (bits beyond `len` are cleared) aligned to the top of 128 bits.
    /// `None` when `len` exceeds [`Family::BITS`].
    fn from_top_bits(bits: u128, len: u8) -> Option<Self>;
    /// The address, aligned to the top of 128 bits.
    fn top_bits(self) -> u128;
    /// The length in bits.
    fn len(self) -> u8;
    /// The prefix with its family erased.
    fn erase(self) -> Prefix;
    /// The prefix if it is of this family.
    fn of(prefix: Prefix) -> Option<Self>;
}

fn mask4(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
}

fn mask6(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

impl Prefix4 {
    /// The network of `addr` with this length; bits beyond it are cleared.
    ///
    /// # Errors
    /// When `len` exceeds 32.
    pub fn new(addr: Ipv4Addr, len: u8) -> Result<Self, BadPrefix> {
        if len > 32 {
            return Err(BadPrefix::Length { len, max: 32 });
        }
        Ok(Prefix4 {
            addr: u32::from(addr) & mask4(len),
            len,
        })
    }

    /// A single address.
    pub fn host(addr: Ipv4Addr) -> Self {
        Prefix4 {
            addr: u32::from(addr),
            len: 32,
        }
    }

    /// The network address.
    pub fn addr(self) -> Ipv4Addr {
        Ipv4Addr::from(self.addr)
    }
}

impl Prefix6 {
    /// The network of `addr` with this length; bits beyond it are cleared.
    ///
    /// # Errors
    /// When `len` exceeds 128.
    pub fn new(addr: Ipv6Addr, len: u8) -> Result<Self, BadPrefix> {
        if len > 128 {
            return Err(BadPrefix::Length { len, max: 128 });
        }
        Ok(Prefix6 {
            addr: u128::from(addr) & mask6(len),
            len,
        })
    }

    /// A single address.
    pub fn host(addr: Ipv6Addr) -> Self {
        Prefix6 {
            addr: u128::from(addr),
            len: 128,
        }
    }

    /// The network address.
    pub fn addr(self) -> Ipv6Addr {
        Ipv6Addr::from(self.addr)
    }
}

impl Family for Prefix4 {
    const BITS: u8 = 32;
    const AFI: u16 = 1;
    const NAME: &'static str = "ipv4";

    fn from_top_bits(bits: u128, len: u8) -> Option<Self> {
        Prefix4::new(Ipv4Addr::from((bits >> 96) as u32), len).ok()
    }
    fn top_bits(self) -> u128 {
        u128::from(self.addr) << 96
    }
    fn len(self) -> u8 {
        self.len
    }
    fn erase(self) -> Prefix {
        Prefix::V4(self)
    }
    fn of(prefix: Prefix) -> Option<Self> {
        match prefix {
            Prefix::V4(p) => Some(p),
            Prefix::V6(_) => None,
        }
    }
}

impl Family for Prefix6 {
    const BITS: u8 = 128;
    const AFI: u16 = 2;
    const NAME: &'static str = "ipv6";

    fn from_top_bits(bits: u128, len: u8) -> Option<Self> {
        Prefix6::new(Ipv6Addr::from(bits), len).ok()
    }
    fn top_bits(self) -> u128 {
        self.addr
    }
    fn len(self) -> u8 {
        self.len
    }
    fn erase(self) -> Prefix {
        Prefix::V6(self)
    }
    fn of(prefix: Prefix) -> Option<Self> {
        match prefix {
            Prefix::V4(_) => None,
            Prefix::V6(p) => Some(p),
        }
    }
}

impl Prefix {
    /// The network of `addr` with this length; bits beyond it are cleared.
    ///
    /// # Errors
    /// When `len` exceeds the family's bits.
    pub fn new(addr: IpAddr, len: u8) -> Result<Self, BadPrefix> {
        match addr {
            IpAddr::V4(a) => Prefix4::new(a, len).map(Prefix::V4),
            IpAddr::V6(a) => Prefix6::new(a, len).map(Prefix::V6),
        }
    }

    /// The same, but bits beyond the length are an error.
    ///
    /// # Errors
    /// [`BadPrefix::Length`], or [`BadPrefix::HostBits`] naming the network.
    pub fn canonical(addr: IpAddr, len: u8) -> Result<Self, BadPrefix> {
        let network = Prefix::new(addr, len)?;
        if network.addr() == addr {
            Ok(network)
        } else {
            Err(BadPrefix::HostBits { addr, len, network })
        }
    }

    /// A single address.
    pub fn host(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(a) => Prefix::V4(Prefix4::host(a)),
            IpAddr::V6(a) => Prefix::V6(Prefix6::host(a)),
        }
    }

    /// Parses `address/length` with bits beyond the length cleared, and gives the address as written too: the form of
    /// an interface address such as `172.30.0.1/24`.
    ///
    /// # Errors
    /// [`BadPrefix::Syntax`] or [`BadPrefix::Length`].
    pub fn parse_with_address(s: &str) -> Result<(IpAddr, Prefix), BadPrefix> {
        let bad = || BadPrefix::Syntax(s.to_owned());
        let (addr, len) = s.split_once('/').ok_or_else(bad)?;
        if len.is_empty() || len.len() > 3 || !len.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let addr: IpAddr = addr.parse().map_err(|_| bad())?;
        let len: u8 = len.parse().map_err(|_| bad())?;
        Ok((addr, Prefix::new(addr, len)?))
    }

    /// The network address.
    pub fn addr(self) -> IpAddr {
        match self {
            Prefix::V4(p) => IpAddr::V4(p.addr()),
            Prefix::V6(p) => IpAddr::V6(p.addr()),
        }
    }

    /// The length in bits.
    #[allow(clippy::len_without_is_empty)] // A prefix's length is no count of things.
    pub fn len(self) -> u8 {
        match self {
            Prefix::V4(p) => p.len,
            Prefix::V6(p) => p.len,
        }
    }

    /// 32 or 128.
    pub fn max_len(self) -> u8 {
        match self {
            Prefix::V4(_) => 32,
            Prefix::V6(_) => 128,
        }
    }

    /// Is it a single address?
    pub fn is_host(self) -> bool {
        self.len() == self.max_len()
    }

    /// Is it IPv4?
    pub fn is_v4(self) -> bool {
        matches!(self, Prefix::V4(_))
    }

    /// Does it contain this address?
    pub fn contains(self, addr: IpAddr) -> bool {
        self.covers(Prefix::host(addr))
    }

    /// Is `other` equal to this prefix or more specific?
    pub fn covers(self, other: Prefix) -> bool {
        match (self, other) {
            (Prefix::V4(a), Prefix::V4(b)) => a.len <= b.len && b.addr & mask4(a.len) == a.addr,
            (Prefix::V6(a), Prefix::V6(b)) => a.len <= b.len && b.addr & mask6(a.len) == a.addr,
            (Prefix::V4(_), Prefix::V6(_)) | (Prefix::V6(_), Prefix::V4(_)) => false,
        }
    }

    /// Do they share an address?
    pub fn overlaps(self, other: Prefix) -> bool {
        self.covers(other) || other.covers(self)
    }
}

impl fmt::Display for Prefix4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr(), self.len)
    }
}

impl fmt::Display for Prefix6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr(), self.len)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Prefix::V4(p) => p.fmt(f),
            Prefix::V6(p) => p.fmt(f),
        }
    }
}

macro_rules! debug_as_display {
    ($($t:ty),*) => {$(
        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
debug_as_display!(Prefix4, Prefix6, Prefix);

impl FromStr for Prefix {
    type Err = BadPrefix;

    /// Strict: `address/length` with no bits beyond the length.
    fn from_str(s: &str) -> Result<Self, BadPrefix> {
        let (addr, prefix) = Prefix::parse_with_address(s)?;
        Prefix::canonical(addr, prefix.len())
    }
}

impl TryFrom<String> for Prefix {
    type Error = BadPrefix;

    fn try_from(s: String) -> Result<Self, BadPrefix> {
        s.parse()
    }
}

impl From<Prefix> for String {
    fn from(p: Prefix) -> String {
        p.to_string()
    }
}

impl From<Prefix4> for Prefix {
    fn from(p: Prefix4) -> Self {
        Prefix::V4(p)
    }
}

impl From<Prefix6> for Prefix {
    fn from(p: Prefix6) -> Self {
        Prefix::V6(p)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn p(s: &str) -> Prefix {
        s.parse().unwrap()
    }

    #[test]
    fn a_prefix_is_small() {
        assert_eq!(
            (size_of::<Prefix4>(), size_of::<Prefix6>(), size_of::<Prefix>()),
            (8, 17, 20)
        );
    }

    #[test]
    fn host_bits_are_refused_and_the_network_named() {
        let e = "10.1.2.3/24".parse::<Prefix>().unwrap_err();
        assert_eq!(
            e.to_string(),
            "10.1.2.3/24 has bits set beyond its length: the network is 10.1.2.0/24"
        );
        assert_eq!(Prefix::parse_with_address("10.1.2.3/24").unwrap().1, p("10.1.2.0/24"));
        for bad in [
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "::/129",
            "10.0.0/8",
            "/",
            "10.0.0.0/",
            "10.0.0.0/008x",
        ] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn cover() {
        assert!(p("0.0.0.0/0").covers(p("10.0.0.0/8")));
        assert!(!p("0.0.0.0/0").covers(p("::/0")));
        assert!(p("::/0").covers(p("fd00::/64")));
        assert!(p("10.0.0.0/8").overlaps(p("10.1.0.0/16")));
        assert!(!p("10.1.0.0/16").covers(p("10.0.0.0/8")));
        assert!(p("10.0.0.0/31").contains("10.0.0.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn text_round_trips(v4 in any::<bool>(), bits in any::<u128>(), len in 0u8..=128) {
            let prefix = if v4 {
                Prefix4::from_top_bits(bits, len % 33).unwrap().erase()
            } else {
                Prefix6::from_top_bits(bits, len).unwrap().erase()
            };
            prop_assert_eq!(prefix.to_string().parse::<Prefix>().unwrap(), prefix);
        }
    }
}
