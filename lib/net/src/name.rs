//! Node names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a node: an RFC 1123 subdomain of at most 253 characters, as Kubernetes and Calico have it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Box<str>);

/// Not a node's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no node name: want at most 253 of a-z, 0-9, '-' and '.', each label beginning and ending with a letter or digit"
)]
pub struct BadNodeName(pub String);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = BadNodeName;

    fn from_str(s: &str) -> Result<Self, BadNodeName> {
        let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let label = |l: &str| {
            let b = l.as_bytes();
            b.iter().all(|&c| alnum(c) || c == b'-')
                && b.first().is_some_and(|&c| alnum(c))
                && b.last().is_some_and(|&c| alnum(c))
        };
        if s.len() <= 253 && s.split('.').all(label) {
            Ok(NodeName(s.into()))
        } else {
            Err(BadNodeName(s.to_owned()))
        }
    }
}

impl TryFrom<String> for NodeName {
    type Error = BadNodeName;

    fn try_from(s: String) -> Result<Self, BadNodeName> {
        s.parse()
    }
}

impl From<NodeName> for String {
    fn from(n: NodeName) -> String {
        n.0.into()
    }
}

impl AsRef<str> for NodeName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["n1", "node-1.rack.example", "0"] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
        for bad in ["", "N1", "-a", "a-", "a..b", "a/b", &"x".repeat(254)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }
}
