//! BGP communities: standard (RFC 1997), extended (RFC 4360), large (RFC 8092).

use std::fmt;
use std::str::FromStr;

/// A standard community, `high:low` (RFC 1997).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

/// Text that is no community.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no community: want aa:nn (0-65535 each) or aa:nn:mm (0-4294967295 each)")]
pub struct BadCommunity(pub String);

impl Community {
    /// Traffic for the route may be dropped on purpose soon (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Community = Community(0xFFFF_0000);
    /// Long-lived stale (RFC 9494).
    pub const LLGR_STALE: Community = Community(0xFFFF_0006);
    /// Not to be kept as long-lived stale (RFC 9494).
    pub const NO_LLGR: Community = Community(0xFFFF_0007);
    /// Not to leave the AS or confederation.
    pub const NO_EXPORT: Community = Community(0xFFFF_FF01);
    /// Not to be advertised to anybody.
    pub const NO_ADVERTISE: Community = Community(0xFFFF_FF02);
    /// Not to leave the AS, not even to confederation members.
    pub const NO_EXPORT_SUBCONFED: Community = Community(0xFFFF_FF03);

    /// From its two halves.
    pub fn new(high: u16, low: u16) -> Self {
        Community(u32::from(high) << 16 | u32::from(low))
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xFFFF)
    }
}

impl FromStr for Community {
    type Err = BadCommunity;

    fn from_str(s: &str) -> Result<Self, BadCommunity> {
        let halves = s
            .split_once(':')
            .and_then(|(h, l)| Some((h.parse().ok()?, l.parse().ok()?)));
        halves
            .map(|(h, l)| Community::new(h, l))
            .ok_or_else(|| BadCommunity(s.to_owned()))
    }
}

/// An extended community: eight octets as on the wire (RFC 4360).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtCommunity(pub u64);

/// A large community, three numbers (RFC 8092).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity(pub u32, pub u32, pub u32);

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0, self.1, self.2)
    }
}

impl FromStr for LargeCommunity {
    type Err = BadCommunity;

    fn from_str(s: &str) -> Result<Self, BadCommunity> {
        let mut parts = s.split(':').map(|p| p.parse().ok());
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(a)), Some(Some(b)), Some(Some(c)), None) => Ok(LargeCommunity(a, b, c)),
            _ => Err(BadCommunity(s.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        assert_eq!("65535:65281".parse(), Ok(Community::NO_EXPORT));
        assert_eq!(Community::new(64512, 7).to_string(), "64512:7");
        assert!("70000:1".parse::<Community>().is_err());
        assert!("1".parse::<Community>().is_err());
        assert_eq!("1:2:3".parse(), Ok(LargeCommunity(1, 2, 3)));
        assert!("1:2:3:4".parse::<LargeCommunity>().is_err());
    }
}
