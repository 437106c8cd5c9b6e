//! NOTIFICATION: error codes, subcodes, and their words (RFC 4271 section 4.5, 4486, 6608, 7313, 8538, 9003, 9687).

use std::fmt;

use bytes::Bytes;

/// NOTIFICATION: why a session ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Notification {
    /// The error code.
    pub code: u8,
    /// The subcode, 0 for unspecific.
    pub subcode: u8,
    /// What the code defines: the wrong field, or a shutdown communication. Only what fits into a message.
    pub data: Bytes,
}

/// Error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ErrorCode {
    /// Message header error.
    Header = 1,
    /// OPEN message error.
    Open = 2,
    /// UPDATE message error.
    Update = 3,
    /// Hold timer expired.
    HoldTimer = 4,
    /// Finite state machine error (RFC 6608).
    Fsm = 5,
    /// Cease.
    Cease = 6,
    /// ROUTE-REFRESH message error (RFC 7313).
    RouteRefresh = 7,
    /// Send hold timer expired (RFC 9687).
    SendHoldTimer = 8,
}

/// Subcodes of Cease (RFC 4486, 8538, 9384).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Cease {
    /// More prefixes than the limit.
    MaximumPrefixes = 1,
    /// Somebody shut the session down.
    AdministrativeShutdown = 2,
    /// The peer was removed from the configuration.
    PeerDeconfigured = 3,
    /// Somebody reset the session.
    AdministrativeReset = 4,
    /// The connection was not wanted.
    ConnectionRejected = 5,
    /// The configuration changed in a way that needs a new session.
    OtherConfigurationChange = 6,
    /// The other connection survived.
    CollisionResolution = 7,
    /// Out of resources.
    OutOfResources = 8,
    /// Do not keep routes by graceful restart (RFC 8538); the data holds the real code, subcode and data.
    HardReset = 9,
    /// BFD says that the path is down (RFC 9384).
    BfdDown = 10,
}

impl Notification {
    /// Of a code and subcode, without data.
    pub fn new(code: ErrorCode, subcode: u8) -> Self {
        Notification {
            code: code as u8,
            subcode,
            data: Bytes::new(),
        }
    }

    /// With data.
    #[must_use]
    pub fn with_data(self, data: impl Into<Bytes>) -> Self {
        Notification {
            data: data.into(),
            ..self
        }
    }

    /// A Cease. `communication` (RFC 9003) is cut to 255 octets at a character's end; it may only accompany an
    /// administrative shutdown or reset and is left out elsewhere.
    pub fn cease(subcode: Cease, communication: &str) -> Self {
        let mut notification = Notification::new(ErrorCode::Cease, subcode as u8);
        let takes_text = matches!(subcode, Cease::AdministrativeShutdown | Cease::AdministrativeReset);
        if takes_text && !communication.is_empty() {
            let mut end = communication.len().min(255);
            while !communication.is_char_boundary(end) {
                end = end.saturating_sub(1);
            }
            let text = communication.get(..end).unwrap_or_default();
            let mut data = Vec::with_capacity(256);
            data.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            data.extend_from_slice(text.as_bytes());
            notification.data = data.into();
        }
        notification
    }

    /// Is it a Cease of this subcode?
    pub fn is_cease(&self, subcode: Cease) -> bool {
        self.code == ErrorCode::Cease as u8 && self.subcode == subcode as u8
    }

    /// The same, in a Hard Reset: the peer is not to keep our routes (RFC 8538 section 3).
    #[must_use]
    pub fn hard_reset(self) -> Self {
        let mut data = vec![self.code, self.subcode];
        data.extend_from_slice(&self.data);
        Notification::new(ErrorCode::Cease, Cease::HardReset as u8).with_data(data)
    }

    /// What a Hard Reset carries: why the session really ends (RFC 8538 section 3). A Hard Reset within one is not
    /// opened; its sender made no sense.
    #[must_use]
    pub fn enclosed(&self) -> Option<Notification> {
        if !self.is_cease(Cease::HardReset) {
            return None;
        }
        let [code, subcode, ..] = *self.data else { return None };
        let inner = Notification {
            code,
            subcode,
            data: self.data.slice(2..),
        };
        (!inner.is_cease(Cease::HardReset)).then_some(inner)
    }

    /// The shutdown communication (RFC 9003), with control characters escaped; `None` when there is none or it is
    /// malformed.
    pub fn communication(&self) -> Option<String> {
        if !self.is_cease(Cease::AdministrativeShutdown) && !self.is_cease(Cease::AdministrativeReset) {
            return None;
        }
        let (&length, rest) = self.data.split_first()?;
        let text = std::str::from_utf8(rest.get(..usize::from(length))?).ok()?;
        (!text.is_empty()).then(|| text.escape_debug().to_string())
    }

    /// What the code and subcode mean, as BIRD says it.
    pub fn reason(&self) -> &'static str {
        REASONS
            .iter()
            .find(|(code, subcode, _)| (*code, *subcode) == (self.code, self.subcode))
            .or_else(|| {
                REASONS
                    .iter()
                    .find(|(code, subcode, _)| (*code, *subcode) == (self.code, 0))
            })
            .map_or("Unknown error", |(_, _, reason)| reason)
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())?;
        if let Some(inner) = self.enclosed() {
            return write!(f, ": {inner}");
        }
        match self.communication() {
            Some(text) => write!(f, ": \"{text}\""),
            None => Ok(()),
        }
    }
}

/// Code, subcode, words. Subcode 0 also stands for subcodes not listed.
const REASONS: &[(u8, u8, &str)] = &[
    (1, 0, "Invalid message header"),
    (1, 1, "Connection not synchronized"),
    (1, 2, "Bad message length"),
    (1, 3, "Bad message type"),
    (2, 0, "Invalid OPEN message"),
    (2, 1, "Unsupported version number"),
    (2, 2, "Bad peer AS"),
    (2, 3, "Bad BGP identifier"),
    (2, 4, "Unsupported optional parameter"),
    (2, 5, "Authentication failure"),
    (2, 6, "Unacceptable hold time"),
    (2, 7, "Required capability missing"),
    (2, 8, "No supported AFI/SAFI"),
    (2, 11, "Role mismatch"),
    (3, 0, "Invalid UPDATE message"),
    (3, 1, "Malformed attribute list"),
    (3, 2, "Unrecognized well-known attribute"),
    (3, 3, "Missing mandatory attribute"),
    (3, 4, "Invalid attribute flags"),
    (3, 5, "Invalid attribute length"),
    (3, 6, "Invalid ORIGIN attribute"),
    (3, 7, "AS routing loop"),
    (3, 8, "Invalid NEXT_HOP attribute"),
    (3, 9, "Optional attribute error"),
    (3, 10, "Invalid network field"),
    (3, 11, "Malformed AS_PATH"),
    (4, 0, "Hold timer expired"),
    (5, 0, "Finite state machine error"),
    (5, 1, "Unexpected message in OpenSent state"),
    (5, 2, "Unexpected message in OpenConfirm state"),
    (5, 3, "Unexpected message in Established state"),
    (6, 0, "Cease"),
    (6, 1, "Maximum number of prefixes reached"),
    (6, 2, "Administrative shutdown"),
    (6, 3, "Peer de-configured"),
    (6, 4, "Administrative reset"),
    (6, 5, "Connection rejected"),
    (6, 6, "Other configuration change"),
    (6, 7, "Connection collision resolution"),
    (6, 8, "Out of resources"),
    (6, 9, "Hard reset"),
    (6, 10, "BFD session down"),
    (7, 0, "Invalid ROUTE-REFRESH message"),
    (7, 1, "Invalid ROUTE-REFRESH message length"),
    (8, 0, "Send hold timer expired"),
];
