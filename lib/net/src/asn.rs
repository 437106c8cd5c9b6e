//! AS numbers and router ids.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// An autonomous system number of four octets (RFC 6793).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Asn(pub u32);

/// Not an AS number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no AS number: want 0 to 4294967295 or high.low")]
pub struct BadAsn(pub String);

impl Asn {
    /// Stands in two-octet fields for a number that does not fit there (RFC 6793 section 9).
    pub const TRANS: Asn = Asn(23456);

    /// The number in two octets, or AS_TRANS.
    pub fn to_two_octets(self) -> u16 {
        u16::try_from(self.0).unwrap_or(23456)
    }

    /// Is it reserved for private use (RFC 6996)?
    pub fn is_private(self) -> bool {
        matches!(self.0, 64512..=65534 | 4_200_000_000..=4_294_967_294)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Asn {
    type Err = BadAsn;

    /// Decimal (asplain) or `high.low` (asdot), RFC 5396.
    fn from_str(s: &str) -> Result<Self, BadAsn> {
        let bad = || BadAsn(s.to_owned());
        match s.split_once('.') {
            None => s.parse().map(Asn).map_err(|_| bad()),
            Some((high, low)) => {
                let high: u16 = high.parse().map_err(|_| bad())?;
                let low: u16 = low.parse().map_err(|_| bad())?;
                Ok(Asn(u32::from(high) << 16 | u32::from(low)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Asn {
    /// A number, or either text form, as Calico accepts.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Asn;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an AS number (0 to 4294967295, or \"high.low\")")
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Asn, E> {
                u32::try_from(v).map(Asn).map_err(|_| E::custom(BadAsn(v.to_string())))
            }
            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Asn, E> {
                u32::try_from(v).map(Asn).map_err(|_| E::custom(BadAsn(v.to_string())))
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Asn, E> {
                v.parse().map_err(E::custom)
            }
        }
        d.deserialize_any(Visitor)
    }
}

/// A BGP identifier: four octets, not zero on the wire (RFC 6286), written as a dotted quad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Ipv4Addr", into = "Ipv4Addr")]
pub struct RouterId(pub u32);

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv4Addr::from(self.0).fmt(f)
    }
}

impl From<Ipv4Addr> for RouterId {
    fn from(a: Ipv4Addr) -> Self {
        RouterId(u32::from(a))
    }
}

impl From<RouterId> for Ipv4Addr {
    fn from(id: RouterId) -> Self {
        Ipv4Addr::from(id.0)
    }
}

impl FromStr for RouterId {
    type Err = std::net::AddrParseError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse::<Ipv4Addr>().map(RouterId::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_text_forms_and_numbers() {
        assert_eq!("64512".parse(), Ok(Asn(64512)));
        assert_eq!("1.2".parse(), Ok(Asn(65538)));
        assert!("4294967296".parse::<Asn>().is_err());
        assert!("1.70000".parse::<Asn>().is_err());
        assert_eq!(serde_json::from_str::<Asn>("\"0.5\"").ok(), Some(Asn(5)));
        assert_eq!(serde_json::from_str::<Asn>("5").ok(), Some(Asn(5)));
        assert!(serde_json::from_str::<Asn>("-5").is_err());
        assert_eq!(Asn(70000).to_two_octets(), 23456);
    }
}
