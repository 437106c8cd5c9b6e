//! The handshake: equal major versions, capabilities by intersection.

use crate::common::Hello;

/// Both sides must agree on this one.
pub const PROTOCOL_MAJOR: u32 = 1;
/// Grows when fields or capabilities are added; never a reason to refuse.
pub const PROTOCOL_MINOR: u32 = 0;

/// Capabilities: each is used only when both sides name it.
pub mod capability {
    /// The client wants to be told when what it is sent may be old.
    pub const CURRENCY: &str = "currency";
    /// The client wants to be told where to go when typha is about to stop.
    pub const DRAIN: &str = "drain";
    /// The client wants to be told when changes are replaced by the state because it was slow.
    pub const COALESCED: &str = "coalesced";
    /// The client reads messages compressed with zstd.
    pub const ZSTD: &str = "zstd";
}

/// The other side speaks another major version, or said no hello at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incompatible {
    /// What the other side said of itself, if anything.
    pub theirs: Option<Hello>,
}

impl std::fmt::Display for Incompatible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.theirs {
            None => write!(
                f,
                "the peer sent no hello; protocol {PROTOCOL_MAJOR}.{PROTOCOL_MINOR} needs one"
            ),
            Some(h) => write!(
                f,
                "{} {} speaks protocol {}.{}, this side {PROTOCOL_MAJOR}.{PROTOCOL_MINOR}: major versions must be equal",
                h.program, h.version, h.major, h.minor
            ),
        }
    }
}

impl std::error::Error for Incompatible {}

impl From<Incompatible> for tonic::Status {
    fn from(e: Incompatible) -> Self {
        tonic::Status::failed_precondition(e.to_string())
    }
}

impl Hello {
    /// What `program` says of itself. `instance` tells one process start from the next.
    pub fn new(program: &str, node: &str, instance: &str) -> Self {
        Hello {
            major: PROTOCOL_MAJOR,
            minor: PROTOCOL_MINOR,
            capabilities: Vec::new(),
            program: program.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: node.to_owned(),
            instance: instance.to_owned(),
            peers: Vec::new(),
        }
    }

    /// The same, able to do these.
    #[must_use]
    pub fn with_capabilities(self, capabilities: &[&str]) -> Self {
        Hello {
            capabilities: capabilities.iter().map(|&c| c.to_owned()).collect(),
            ..self
        }
    }

    /// Does it name this capability?
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|c| c == capability)
    }

    /// Checks the other side's hello.
    ///
    /// # Errors
    /// [`Incompatible`] when there is none or its major version differs.
    pub fn check(theirs: Option<&Hello>) -> Result<&Hello, Incompatible> {
        match theirs {
            Some(h) if h.major == PROTOCOL_MAJOR => Ok(h),
            other => Err(Incompatible { theirs: other.cloned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_majors_agree_and_others_are_named() {
        let mine = Hello::new("felix", "n1", "1");
        assert_eq!(Hello::check(Some(&mine)), Ok(&mine));
        let newer = Hello {
            minor: 9,
            ..mine.clone()
        };
        assert!(Hello::check(Some(&newer)).is_ok());
        let other = Hello { major: 2, ..mine };
        let text = Hello::check(Some(&other)).unwrap_err().to_string();
        assert!(text.contains("speaks protocol 2.0"), "{text}");
        assert!(Hello::check(None).unwrap_err().to_string().contains("no hello"));
    }
}
