//! What the fuzz targets share: how octets of the fuzzer become sessions and messages.
//!
//! Each target states a property beyond "does not panic": what is accepted can be written again and means the same.

use tortie_bgp::packet::{AfiSafi, ControlMessage, FamilySet, Message, SessionContext, decode};

/// What was agreed on a session, one bit each; all 256 values are sessions that exist.
pub fn context(bits: u8) -> SessionContext {
    let bit = |at: u8| bits & (1 << at) != 0;
    let families = |v4: bool, v6: bool| -> FamilySet {
        let pairs = [(AfiSafi::Ipv4Unicast, v4), (AfiSafi::Ipv6Unicast, v6)];
        pairs
            .into_iter()
            .filter(|(_, on)| *on)
            .map(|(family, _)| family)
            .collect()
    };
    SessionContext {
        ebgp: bit(0),
        four_octet_as: bit(1),
        families: families(true, bit(2)),
        add_path_rx: families(bit(3), bit(4)),
        add_path_tx: families(bit(3), bit(4)),
        ext_next_hop: bit(5),
        extended_rx: bit(6),
        extended_tx: bit(7),
        ..SessionContext::default()
    }
}

/// A message of a type (RFC 4271 section 4.1) around a body, which is cut where a message ends.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(65_535 - 19)];
    let length = u16::try_from(19 + body.len()).expect("invariant: just cut");
    let mut frame = vec![0xff; 16];
    frame.extend(length.to_be_bytes());
    frame.push(kind);
    frame.extend_from_slice(body);
    frame
}

/// An UPDATE of three parts (RFC 4271 section 4.3): the first two octets of the fuzzer's say how long the parts are.
pub fn update(octets: &[u8]) -> Option<Vec<u8>> {
    let (&[withdrawn, announced], rest) = octets.split_first_chunk()?;
    let rest = &rest[..rest.len().min(4_000)];
    let (withdrawn, rest) = rest.split_at(usize::from(withdrawn).min(rest.len()));
    let (attributes, announced) = rest.split_at(rest.len() - usize::from(announced).min(rest.len()));
    let mut body = Vec::new();
    for part in [withdrawn, attributes] {
        body.extend(
            u16::try_from(part.len())
                .expect("invariant: at most 4,000")
                .to_be_bytes(),
        );
        body.extend_from_slice(part);
    }
    body.extend_from_slice(announced);
    Some(message(2, &body))
}

/// An OPEN is refused, or written again and then read to the same.
///
/// # Panics
/// When it is not: that is the finding.
pub fn open_is_stable(frame: &[u8]) {
    let context = SessionContext::default();
    let Ok(Message::Open(open)) = decode(frame, &context) else {
        return;
    };
    let written = ControlMessage::Open(open.clone()).encode();
    assert_eq!(decode(&written, &context), Ok(Message::Open(open)));
}
