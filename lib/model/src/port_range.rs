//! Ranges of ports as Calico writes them: a number, `"4000"`, or `"4000:5000"`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Ports from the first to the last, both included; the first is no higher, and not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A text that is no range of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "natPortRange: {0:?} is no range of ports, which is written as 4000 or \"4000:5000\", the lower first, from 1 on"
)]
pub struct BadPortRange(String);

impl PortRange {
    /// The first port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    pub fn last(self) -> u16 {
        self.last
    }
}

impl FromStr for PortRange {
    type Err = BadPortRange;

    fn from_str(text: &str) -> Result<Self, BadPortRange> {
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        let port = |t: &str| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse().ok()).flatten();
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first >= 1 && first <= last => Ok(PortRange { first, last }),
            _ => Err(BadPortRange(text.to_owned())),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}:{}", self.first, self.last)
        }
    }
}

impl Serialize for PortRange {
    /// One port as a number, as Calico does.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            s.serialize_u16(self.first)
        } else {
            s.collect_str(self)
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = match Written::deserialize(d)? {
            Written::Number(n) => n.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_calico_writes_them() {
        let read = |json: &str| serde_json::from_str::<PortRange>(json);
        for (json, first, last, again) in [
            ("4000", 4000, 4000, "4000"),
            ("\"4000\"", 4000, 4000, "4000"),
            ("\"1:65535\"", 1, 65535, "\"1:65535\""),
        ] {
            let range = read(json).unwrap();
            assert_eq!((range.first(), range.last()), (first, last), "{json}");
            assert_eq!(serde_json::to_string(&range).unwrap(), again);
        }
        for bad in [
            "0",
            "65536",
            "-1",
            "\"\"",
            "\"5:4\"",
            "\"0:4\"",
            "\"4:\"",
            "\"+4\"",
            "\"4-5\"",
            "\"1:2:3\"",
            "[]",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
