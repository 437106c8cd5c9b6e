//! Scalar values of the resources: Go durations, text enums, interface addresses, peer addresses, and serde adapters.
//!
//! Calico is written in Go, where an absent text field is often stored as `""`. The [`text`] adapter reads that as absent.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tortie_net::{BadPrefix, Prefix};

/// Declares an enum whose values are fixed texts, read and written exactly.
macro_rules! text_enum {
    ($(#[$m:meta])* $name:ident, $what:literal { $($(#[$vm:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$m])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vm])* $variant),+ }

        impl $name {
            /// Every text that is accepted.
            pub const TEXTS: &'static [&'static str] = &[$($text),+];

            /// The text Calico stores.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::scalar::BadText;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                match s {
                    $($text => Ok($name::$variant),)+
                    _ => Err($crate::scalar::BadText { what: $what, value: s.to_owned(), want: Self::TEXTS }),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_enum;

/// Text that is none of the values an enum has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{value}' is no {what}: want one of {}", want.join(", "))]
pub struct BadText {
    /// What was to be read.
    pub what: &'static str,
    /// What was given.
    pub value: String,
    /// What is accepted.
    pub want: &'static [&'static str],
}

/// A duration in Go's text form, such as `1m30s`; never negative, at most what an i64 of nanoseconds holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(pub Duration);

/// Text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no duration: want numbers with units, such as 1m30s (h, m, s, ms, us, ns)")]
pub struct BadDuration(pub String);

impl FromStr for GoDuration {
    type Err = BadDuration;

    fn from_str(text: &str) -> Result<Self, BadDuration> {
        let bad = || BadDuration(text.to_owned());
        if text == "0" {
            return Ok(GoDuration(Duration::ZERO));
        }
        let mut rest = text;
        let mut nanos: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let (number, after) = rest.split_at(digits);
            let unit_len = after
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(after.len());
            let (unit, next) = after.split_at(unit_len);
            let scale = unit_nanos(unit).ok_or_else(bad)?;
            nanos = nanos
                .checked_add(scaled(number, scale).ok_or_else(bad)?)
                .ok_or_else(bad)?;
            rest = next;
        }
        if text.is_empty() || i64::try_from(nanos).is_err() {
            return Err(bad());
        }
        Ok(GoDuration(Duration::from_nanos(nanos)))
    }
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "h" => 3_600_000_000_000,
        "m" => 60_000_000_000,
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" | "µs" | "μs" => 1_000,
        "ns" => 1,
        _ => return None,
    })
}

/// `number` (digits with at most one point) times `scale`, without going through a float.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = whole.checked_mul(scale)?;
    let mut unit = scale;
    for digit in fraction.chars() {
        unit /= 10;
        nanos = nanos.checked_add(u64::from(digit.to_digit(10)?) * unit)?;
    }
    Some(nanos)
}

impl fmt::Display for GoDuration {
    /// Go's canonical form: `1h0m0s`, `1m30s`, `1.5s`, `20ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let decimal = |value: u128, scale: u128, unit: &str| {
            let fraction = format!("{:0width$}", value % scale, width = scale.ilog10() as usize);
            match fraction.trim_end_matches('0') {
                "" => format!("{}{unit}", value / scale),
                digits => format!("{}.{digits}{unit}", value / scale),
            }
        };
        if nanos == 0 {
            return f.write_str("0s");
        }
        match nanos {
            0..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => f.write_str(&decimal(nanos, 1_000, "µs")),
            1_000_000..1_000_000_000 => f.write_str(&decimal(nanos, 1_000_000, "ms")),
            _ => {
                let minutes = nanos / 60_000_000_000;
                if minutes >= 60 {
                    write!(f, "{}h{}m", minutes / 60, minutes % 60)?;
                } else if minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                f.write_str(&decimal(nanos % 60_000_000_000, 1_000_000_000, "s"))
            }
        }
    }
}

/// An interface's address with its network's length, such as `172.30.0.11/24`. The address is kept as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceAddr {
    /// The address.
    pub addr: IpAddr,
    /// Length of the network in bits.
    pub len: u8,
}

impl InterfaceAddr {
    /// The network the address is in.
    pub fn network(self) -> Prefix {
        Prefix::new(self.addr, self.len).expect("invariant: the length was checked when the value was made")
    }
}

impl FromStr for InterfaceAddr {
    type Err = BadPrefix;

    /// `address/length`; a bare address is a network of one address, as Calico reads it.
    fn from_str(s: &str) -> Result<Self, BadPrefix> {
        if let Ok(addr) = s.parse::<IpAddr>() {
            return Ok(InterfaceAddr {
                addr,
                len: Prefix::host(addr).len(),
            });
        }
        let (addr, network) = Prefix::parse_with_address(s)?;
        Ok(InterfaceAddr {
            addr,
            len: network.len(),
        })
    }
}

impl fmt::Display for InterfaceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

/// A BGP peer's address with an optional port: `ip`, `v4:port` or `[v6]:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddr {
    /// The address.
    pub ip: IpAddr,
    /// The TCP port, 1 to 65535; `None` means 179.
    pub port: Option<u16>,
}

/// Text that is no peer address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no peer address: want an address, v4:port or [v6]:port with a port of 1 to 65535")]
pub struct BadPeerAddr(pub String);

impl FromStr for PeerAddr {
    type Err = BadPeerAddr;

    fn from_str(s: &str) -> Result<Self, BadPeerAddr> {
        if let Ok(ip) = s.parse() {
            return Ok(PeerAddr { ip, port: None });
        }
        match s.parse::<SocketAddr>() {
            Ok(a) if a.port() != 0 => Ok(PeerAddr {
                ip: a.ip(),
                port: Some(a.port()),
            }),
            _ => Err(BadPeerAddr(s.to_owned())),
        }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => self.ip.fmt(f),
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
        }
    }
}

macro_rules! serde_as_text {
    ($($t:ty),*) => {$(
        impl Serialize for $t {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $t {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(GoDuration, InterfaceAddr, PeerAddr);

/// Serde adapter for an optional text value: `""` and null are absent.
pub(crate) mod text {
    use super::*;

    pub(crate) fn serialize<T: fmt::Display, S: Serializer>(value: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(v) => s.collect_str(v),
            None => s.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T, D>(d: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: fmt::Display>,
        D: Deserializer<'de>,
    {
        match Option::<String>::deserialize(d)?.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
        }
    }
}

/// Serde adapter for a list: null, which Go writes for an empty list, is empty.
pub(crate) fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// Serde adapter for a network: bits beyond the length are cleared, as Go's CIDR parser does.
pub(crate) mod network {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(p: &Prefix, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(p)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Prefix, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Prefix::parse_with_address(&text)
            .map(|(_, network)| network)
            .map_err(serde::de::Error::custom)
    }
}

/// Whether a flag is false; serde leaves such fields out, as Go does.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde's `skip_serializing_if` passes a reference.
pub(crate) fn is_false(b: &bool) -> bool {
    !*b
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (text, canonical, millis) in [
            ("1m30s", "1m30s", 90_000),
            ("90s", "1m30s", 90_000),
            ("1h", "1h0m0s", 3_600_000),
            ("1.5s", "1.5s", 1_500),
            ("20ms", "20ms", 20),
            ("0", "0s", 0),
            ("0s", "0s", 0),
        ] {
            let d: GoDuration = text.parse().unwrap();
            assert_eq!(d.0, Duration::from_millis(millis), "{text}");
            assert_eq!(d.to_string(), canonical, "{text}");
        }
        for bad in ["", "5", "s", "1.2.3s", "-1s", "1x", "99999999h", ".s", "1s "] {
            assert!(bad.parse::<GoDuration>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn peer_addresses() {
        for good in ["172.30.0.1", "172.30.0.1:1790", "fd00::1", "[fd00::1]:179"] {
            assert_eq!(good.parse::<PeerAddr>().unwrap().to_string(), good);
        }
        for bad in ["", "172.30.0.1:0", "172.30.0.1:x", "host", "[fd00::1]"] {
            assert!(bad.parse::<PeerAddr>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn interface_address_keeps_the_address() {
        let a: InterfaceAddr = "172.30.0.11/24".parse().unwrap();
        assert_eq!(
            (a.to_string(), a.network().to_string()),
            ("172.30.0.11/24".into(), "172.30.0.0/24".into())
        );
        assert_eq!("10.0.0.1".parse::<InterfaceAddr>().unwrap().len, 32);
        assert!("10.0.0.1/33".parse::<InterfaceAddr>().is_err());
    }

    proptest! {
        #[test]
        fn duration_text_round_trips(nanos in 0u64..=i64::MAX as u64) {
            let d = GoDuration(Duration::from_nanos(nanos));
            prop_assert_eq!(d.to_string().parse::<GoDuration>().unwrap(), d);
        }
    }
}
