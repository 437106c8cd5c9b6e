//! PDUs of the RPKI to router protocol, versions 0 (RFC 6810) and 1 (RFC 8210).
//!
//! Decoding yields a whole PDU, the wish for more octets, or the error report to answer with. Nothing panics on any input.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::Bytes;
use tortie_net::{Asn, Prefix};

use crate::roa::Roa;

/// The highest version we speak.
pub const VERSION: u8 = 1;

/// Octets of every PDU's header.
pub const HEADER: usize = 8;

/// A longer PDU than this is nobody's: the longest that we must take quotes another one and has a text.
pub const MAX_LENGTH: usize = 64 * 1024;

/// So much of a PDU is quoted in an error report about it.
const QUOTED: usize = 512;

/// What a PDU says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pdu {
    /// The cache has news (section 5.2).
    SerialNotify {
        /// The cache's session.
        session: u16,
        /// Its latest serial number.
        serial: u32,
    },
    /// What has changed since? (5.3)
    SerialQuery {
        /// The session that we know.
        session: u16,
        /// What we have.
        serial: u32,
    },
    /// Everything, please (5.4).
    ResetQuery,
    /// Payloads follow (5.5).
    CacheResponse {
        /// The cache's session.
        session: u16,
    },
    /// A payload (5.6, 5.7).
    Prefix {
        /// Is it there, or is it gone?
        announced: bool,
        /// Which.
        roa: Roa,
    },
    /// All is said (5.8).
    EndOfData {
        /// The cache's session.
        session: u16,
        /// What we have now.
        serial: u32,
        /// When to ask again, try again and give up; version 0 does not say.
        intervals: Option<Intervals>,
    },
    /// The cache cannot say what has changed (5.9).
    CacheReset,
    /// A key of a router, for BGPsec (5.10): of no use here.
    RouterKey,
    /// Something is wrong (5.11).
    ErrorReport {
        /// What.
        code: ErrorCode,
        /// In words, with control characters replaced.
        text: String,
    },
}

/// The intervals of an End of Data (RFC 8210 section 6), in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Ask again after this.
    pub refresh: Duration,
    /// Try again after this when asking failed.
    pub retry: Duration,
    /// Without an answer for so long what is known is no longer true.
    pub expire: Duration,
}

/// Error codes (RFC 8210 section 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The PDU makes no sense.
    CorruptData,
    /// The other side cannot go on.
    InternalError,
    /// The cache has nothing yet. Not fatal.
    NoData,
    /// The cache does not know such queries.
    InvalidRequest,
    /// This version is not spoken.
    UnsupportedVersion,
    /// Such PDUs are not known.
    UnsupportedPdu,
    /// A payload is withdrawn that is not there.
    UnknownWithdrawal,
    /// A payload is announced that is there.
    DuplicateAnnouncement,
    /// Another version than agreed on.
    UnexpectedVersion,
    /// One that we do not know.
    Other(u16),
}

/// The table of codes: number and words.
const CODES: [(u16, ErrorCode, &str); 9] = [
    (0, ErrorCode::CorruptData, "corrupt data"),
    (1, ErrorCode::InternalError, "internal error"),
    (2, ErrorCode::NoData, "no data available"),
    (3, ErrorCode::InvalidRequest, "invalid request"),
    (4, ErrorCode::UnsupportedVersion, "unsupported protocol version"),
    (5, ErrorCode::UnsupportedPdu, "unsupported PDU type"),
    (6, ErrorCode::UnknownWithdrawal, "withdrawal of unknown record"),
    (7, ErrorCode::DuplicateAnnouncement, "duplicate announcement received"),
    (8, ErrorCode::UnexpectedVersion, "unexpected protocol version"),
];

impl ErrorCode {
    fn of(number: u16) -> Self {
        let row = CODES.iter().find(|row| row.0 == number);
        row.map_or(ErrorCode::Other(number), |row| row.1)
    }

    fn number(self) -> u16 {
        match self {
            ErrorCode::Other(number) => number,
            known => CODES.iter().find(|row| row.1 == known).map_or(0, |row| row.0),
        }
    }

    /// In words.
    pub fn as_str(self) -> &'static str {
        CODES
            .iter()
            .find(|row| row.1 == self)
            .map_or("unknown error", |row| row.2)
    }
}

/// Octets that are no PDU, and what to answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {text}", code.as_str())]
pub struct BadPdu {
    /// What is wrong.
    pub code: ErrorCode,
    /// In words.
    pub text: &'static str,
    /// The begin of the PDU, to be quoted.
    pub quoted: Bytes,
}

/// A PDU, the version it came with, and how many octets it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The version.
    pub version: u8,
    /// What it says.
    pub pdu: Pdu,
    /// Its length on the wire.
    pub length: usize,
}

mod kind {
    pub(super) const SERIAL_NOTIFY: u8 = 0;
    pub(super) const SERIAL_QUERY: u8 = 1;
    pub(super) const RESET_QUERY: u8 = 2;
    pub(super) const CACHE_RESPONSE: u8 = 3;
    pub(super) const IPV4_PREFIX: u8 = 4;
    pub(super) const IPV6_PREFIX: u8 = 6;
    pub(super) const END_OF_DATA: u8 = 7;
    pub(super) const CACHE_RESET: u8 = 8;
    pub(super) const ROUTER_KEY: u8 = 9;
    pub(super) const ERROR_REPORT: u8 = 10;
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    octets
        .get(at..at.checked_add(2)?)?
        .try_into()
        .ok()
        .map(u16::from_be_bytes)
}

fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    octets
        .get(at..at.checked_add(4)?)?
        .try_into()
        .ok()
        .map(u32::from_be_bytes)
}

/// The first PDU of what was read; `None` while it is not complete.
///
/// # Errors
/// [`BadPdu`]: the stream cannot be followed any further.
pub fn decode(octets: &[u8]) -> Result<Option<Decoded>, BadPdu> {
    let (Some(version), Some(kind), Some(field), Some(length)) =
        (octets.first(), octets.get(1), u16_at(octets, 2), u32_at(octets, 4))
    else {
        return Ok(None);
    };
    let bad = |code, text| {
        let quoted = octets.get(..octets.len().min(QUOTED)).unwrap_or_default();
        BadPdu {
            code,
            text,
            quoted: Bytes::copy_from_slice(quoted),
        }
    };
    let length = length as usize;
    if !(HEADER..=MAX_LENGTH).contains(&length) {
        return Err(bad(ErrorCode::CorruptData, "a PDU of an impossible length"));
    }
    // What is known of the length is not waited for.
    let expected = match *kind {
        kind::SERIAL_NOTIFY | kind::SERIAL_QUERY => Some(12),
        kind::RESET_QUERY | kind::CACHE_RESPONSE | kind::CACHE_RESET => Some(HEADER),
        kind::IPV4_PREFIX => Some(20),
        kind::IPV6_PREFIX => Some(32),
        kind::END_OF_DATA if *version == 0 => Some(12),
        kind::END_OF_DATA => Some(24),
        kind::ROUTER_KEY | kind::ERROR_REPORT => None,
        _ => return Err(bad(ErrorCode::UnsupportedPdu, "a PDU of a type that we do not know")),
    };
    if expected.is_some_and(|expected| expected != length) {
        return Err(bad(ErrorCode::CorruptData, "a PDU whose length does not fit its type"));
    }
    let Some(whole) = octets.get(..length) else {
        return Ok(None);
    };
    let body = whole.get(HEADER..).unwrap_or_default();
    let pdu = match *kind {
        kind::SERIAL_NOTIFY => u32_at(body, 0).map(|serial| Pdu::SerialNotify { session: field, serial }),
        kind::SERIAL_QUERY => u32_at(body, 0).map(|serial| Pdu::SerialQuery { session: field, serial }),
        kind::RESET_QUERY => Some(Pdu::ResetQuery),
        kind::CACHE_RESPONSE => Some(Pdu::CacheResponse { session: field }),
        kind::IPV4_PREFIX | kind::IPV6_PREFIX => prefix(body),
        kind::END_OF_DATA => end_of_data(field, body),
        kind::CACHE_RESET => Some(Pdu::CacheReset),
        kind::ROUTER_KEY => Some(Pdu::RouterKey),
        _ => error_report(field, body),
    };
    let pdu = pdu.ok_or_else(|| bad(ErrorCode::CorruptData, "a PDU whose fields make no sense"))?;
    Ok(Some(Decoded {
        version: *version,
        pdu,
        length,
    }))
}

/// Flags, length, maximum length, zero, address, AS.
fn prefix(body: &[u8]) -> Option<Pdu> {
    let (flags, len, max_len) = (*body.first()?, *body.get(1)?, *body.get(2)?);
    let addr = body.get(4..body.len().checked_sub(4)?)?;
    let addr: IpAddr = if addr.len() == 4 {
        Ipv4Addr::from(<[u8; 4]>::try_from(addr).ok()?).into()
    } else {
        Ipv6Addr::from(<[u8; 16]>::try_from(addr).ok()?).into()
    };
    let asn = u32_at(body, body.len().checked_sub(4)?)?;
    Some(Pdu::Prefix {
        // The other bits are reserved.
        announced: flags & 1 == 1,
        roa: Roa::new(Prefix::canonical(addr, len).ok()?, max_len, Asn(asn)).ok()?,
    })
}

fn end_of_data(session: u16, body: &[u8]) -> Option<Pdu> {
    let seconds = |at| u32_at(body, at).map(|seconds| Duration::from_secs(seconds.into()));
    let intervals = seconds(4).zip(seconds(8)).zip(seconds(12));
    Some(Pdu::EndOfData {
        session,
        serial: u32_at(body, 0)?,
        intervals: intervals.map(|((refresh, retry), expire)| Intervals { refresh, retry, expire }),
    })
}

/// The length of the PDU that it is about, that PDU, the length of the text, the text.
fn error_report(code: u16, body: &[u8]) -> Option<Pdu> {
    let quoted = u32_at(body, 0)? as usize;
    let at = 4_usize.checked_add(quoted)?;
    let length = u32_at(body, at)? as usize;
    let from = at.checked_add(4)?;
    let text = body.get(from..from.checked_add(length)?)?;
    let printable = |c: char| if c.is_control() { '\u{FFFD}' } else { c };
    Some(Pdu::ErrorReport {
        code: ErrorCode::of(code),
        text: String::from_utf8_lossy(text).chars().map(printable).take(256).collect(),
    })
}

impl Pdu {
    /// As it goes on the wire in a version.
    pub fn encode(&self, version: u8) -> Vec<u8> {
        let (kind, field, body) = match self {
            Pdu::SerialNotify { session, serial } => (kind::SERIAL_NOTIFY, *session, serial.to_be_bytes().to_vec()),
            Pdu::SerialQuery { session, serial } => (kind::SERIAL_QUERY, *session, serial.to_be_bytes().to_vec()),
            Pdu::ResetQuery => (kind::RESET_QUERY, 0, Vec::new()),
            Pdu::CacheResponse { session } => (kind::CACHE_RESPONSE, *session, Vec::new()),
            Pdu::Prefix { announced, roa } => {
                let mut body = vec![u8::from(*announced), roa.prefix().len(), roa.max_len(), 0];
                let kind = match roa.prefix().addr() {
                    IpAddr::V4(addr) => {
                        body.extend(addr.octets());
                        kind::IPV4_PREFIX
                    }
                    IpAddr::V6(addr) => {
                        body.extend(addr.octets());
                        kind::IPV6_PREFIX
                    }
                };
                body.extend(roa.asn().0.to_be_bytes());
                (kind, 0, body)
            }
            Pdu::EndOfData {
                session,
                serial,
                intervals,
            } => {
                let mut body = serial.to_be_bytes().to_vec();
                for time in intervals
                    .iter()
                    .filter(|_| version > 0)
                    .flat_map(|i| [i.refresh, i.retry, i.expire])
                {
                    body.extend(u32::try_from(time.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
                }
                (kind::END_OF_DATA, *session, body)
            }
            Pdu::CacheReset => (kind::CACHE_RESET, 0, Vec::new()),
            Pdu::RouterKey => (kind::ROUTER_KEY, 0, Vec::new()),
            Pdu::ErrorReport { code, text } => (kind::ERROR_REPORT, code.number(), report(&[], text)),
        };
        framed(version, (kind, field), &body)
    }
}

impl BadPdu {
    /// The error report about it.
    pub fn report(&self, version: u8) -> Vec<u8> {
        let body = report(&self.quoted, self.text);
        framed(version, (kind::ERROR_REPORT, self.code.number()), &body)
    }
}

fn report(quoted: &[u8], text: &str) -> Vec<u8> {
    let length = |octets: &[u8]| u32::try_from(octets.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length(quoted), quoted, &length(text.as_bytes()), text.as_bytes()].concat()
}

fn framed(version: u8, (kind, field): (u8, u16), body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut octets = vec![version, kind];
    octets.extend(field.to_be_bytes());
    octets.extend(length.to_be_bytes());
    octets.extend_from_slice(body);
    octets
}
