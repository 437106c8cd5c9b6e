//! Bytes checked by hand, what comes back from an encode, everything that may be wrong, and arbitrary octets.

mod control;
mod malformed;
mod property;
mod systematic;
mod update;

pub(crate) use property::attributes;

use super::*;
use crate::attr::{Aggregator, AsPath, Attributes, NextHop, Origin, UnknownAttribute};

/// Octets from text: hexadecimal, white space ignored.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A frame around a body.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xff; 16];
    out.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
    out.push(kind);
    out.extend_from_slice(body);
    out
}

/// An UPDATE from its three fields.
fn update_frame(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = u16::try_from(withdrawn.len()).unwrap().to_be_bytes().to_vec();
    body.extend_from_slice(withdrawn);
    body.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    body.extend_from_slice(attributes);
    body.extend_from_slice(nlri);
    message(2, &body)
}

fn session() -> SessionContext {
    SessionContext {
        ebgp: false,
        four_octet_as: true,
        families: AfiSafi::ALL.into_iter().collect(),
        ..SessionContext::default()
    }
}

fn ebgp() -> SessionContext {
    SessionContext {
        ebgp: true,
        ..session()
    }
}

fn decode_update(frame: &[u8], context: &SessionContext) -> Result<Update, Notification> {
    match decode(frame, context)? {
        Message::Update(update) => Ok(*update),
        other => panic!("no UPDATE: {other:?}"),
    }
}

fn prefixes(nlri: &[Nlri]) -> Vec<String> {
    nlri.iter().map(|nlri| nlri.prefix.to_string()).collect()
}

/// ORIGIN IGP, AS_PATH 65001, NEXT_HOP 192.0.2.1.
const GOOD: &str = "40 01 01 00  40 02 06 02 01 0000fde9  40 03 04 c0000201";
