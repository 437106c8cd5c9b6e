//! The common header, framing, and dispatch by message type (RFC 4271 section 4.1, RFC 8654).

use bytes::{BufMut, Bytes, BytesMut};

use super::notification::{ErrorCode, Notification};
use super::wire::Reader;
use super::{AfiSafi, ControlMessage, Message, RefreshKind, RouteRefresh, SessionContext, open, update};

/// Octets of the header.
pub(super) const HEADER: usize = 19;
/// Octets of a message without RFC 8654; OPEN and KEEPALIVE stay below it in any case.
pub(super) const MAX_PLAIN: usize = 4_096;

pub(super) const TYPE_OPEN: u8 = 1;
pub(super) const TYPE_UPDATE: u8 = 2;
pub(super) const TYPE_NOTIFICATION: u8 = 3;
pub(super) const TYPE_KEEPALIVE: u8 = 4;
pub(super) const TYPE_ROUTE_REFRESH: u8 = 5;

const CONNECTION_NOT_SYNCHRONIZED: u8 = 1;
const BAD_MESSAGE_LENGTH: u8 = 2;
const BAD_MESSAGE_TYPE: u8 = 3;
const BAD_REFRESH_LENGTH: u8 = 1;

/// How long the frame at the start of `buffer` is, header included; `None` until its header is there.
///
/// # Errors
/// The NOTIFICATION to send when the header is no header, or the length is not one that any message may have on this
/// session: whoever buffers therefore never needs more than [`SessionContext::max_receive`] octets.
pub fn frame_length(buffer: &[u8], context: &SessionContext) -> Result<Option<usize>, Notification> {
    let mut reader = Reader::new(buffer);
    let Some(header) = reader.take(HEADER) else {
        return Ok(None);
    };
    let (length, _) = check_header(header, context)?;
    Ok(Some(length))
}

/// Is a frame an OPEN?
pub(crate) fn is_open(frame: &[u8]) -> bool {
    frame.get(HEADER - 1) == Some(&TYPE_OPEN)
}

/// The length and type that a header gives.
fn check_header(header: &[u8], context: &SessionContext) -> Result<(usize, u8), Notification> {
    let mut reader = Reader::new(header);
    let fields = (reader.take(16), reader.u16(), reader.u8());
    let (Some(marker), Some(length), Some(kind)) = fields else {
        return Err(bad_length(0));
    };
    if marker.iter().any(|&octet| octet != 0xff) {
        return Err(Notification::new(ErrorCode::Header, CONNECTION_NOT_SYNCHRONIZED));
    }
    let max = match kind {
        TYPE_OPEN | TYPE_KEEPALIVE => MAX_PLAIN,
        _ => context.max_receive(),
    };
    if usize::from(length) < HEADER || usize::from(length) > max {
        return Err(bad_length(length));
    }
    Ok((usize::from(length), kind))
}

fn bad_length(length: u16) -> Notification {
    Notification::new(ErrorCode::Header, BAD_MESSAGE_LENGTH).with_data(length.to_be_bytes().to_vec())
}

/// Decodes one frame.
///
/// # Errors
/// The NOTIFICATION with which the RFCs answer the message; the session cannot go on.
pub fn decode(frame: &[u8], context: &SessionContext) -> Result<Message, Notification> {
    let mut reader = Reader::new(frame);
    let Some(header) = reader.take(HEADER) else {
        return Err(bad_length(0));
    };
    let (length, kind) = check_header(header, context)?;
    let wire_length = u16::try_from(length).unwrap_or(u16::MAX);
    if length != frame.len() {
        return Err(bad_length(wire_length));
    }
    let body = reader.rest();
    let fits = match kind {
        TYPE_OPEN => body.len() >= 10,
        TYPE_UPDATE | TYPE_ROUTE_REFRESH => body.len() >= 4,
        TYPE_NOTIFICATION => body.len() >= 2,
        TYPE_KEEPALIVE => body.is_empty(),
        _ => return Err(Notification::new(ErrorCode::Header, BAD_MESSAGE_TYPE).with_data(vec![kind])),
    };
    if !fits {
        return Err(bad_length(wire_length));
    }
    match kind {
        TYPE_OPEN => open::decode(body).map(Message::Open),
        TYPE_UPDATE => update::decode(body, context).map(|update| Message::Update(Box::new(update))),
        TYPE_NOTIFICATION => Ok(Message::Notification(decode_notification(body))),
        TYPE_KEEPALIVE => Ok(Message::Keepalive),
        _ => decode_refresh(frame, body).map(Message::RouteRefresh),
    }
}

fn decode_notification(body: &[u8]) -> Notification {
    let mut reader = Reader::new(body);
    let code = reader.u8().unwrap_or(0);
    let subcode = reader.u8().unwrap_or(0);
    Notification {
        code,
        subcode,
        data: Bytes::copy_from_slice(reader.rest()),
    }
}

/// A request may carry outbound route filters behind its four octets; we never offer those and ignore them.
fn decode_refresh(frame: &[u8], body: &[u8]) -> Result<Option<RouteRefresh>, Notification> {
    let mut reader = Reader::new(body);
    let (Some(afi), Some(subtype), Some(safi)) = (reader.u16(), reader.u8(), reader.u8()) else {
        return Err(bad_length(u16::try_from(frame.len()).unwrap_or(u16::MAX)));
    };
    let kind = match subtype {
        0 => RefreshKind::Request,
        1 => RefreshKind::Begin,
        2 => RefreshKind::End,
        _ => return Ok(None),
    };
    if kind != RefreshKind::Request && !reader.is_empty() {
        let data = Bytes::copy_from_slice(frame.get(..128).unwrap_or(frame));
        return Err(Notification::new(ErrorCode::RouteRefresh, BAD_REFRESH_LENGTH).with_data(data));
    }
    Ok(AfiSafi::from_codes(afi, safi).map(|family| RouteRefresh { family, kind }))
}

/// Appends a message with what `body` appends. The caller bounds the body.
pub(super) fn append(kind: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0xff; 16]);
    out.extend([0, 0, kind]);
    body(out);
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    if let Some(octets) = out.get_mut(start + 16..start + 18) {
        octets.copy_from_slice(&length.to_be_bytes());
    }
}

/// The messages in octets that we have encoded.
pub(super) fn frames(mut octets: Bytes) -> Vec<Bytes> {
    let mut frames = Vec::new();
    while let Some(&[high, low]) = octets.get(16..18) {
        let length = usize::from(u16::from_be_bytes([high, low])).clamp(HEADER, octets.len());
        frames.push(octets.split_to(length));
    }
    frames
}

/// A message around a body. The caller has bounded the body.
pub(super) fn frame(kind: u8, body: &[u8]) -> Bytes {
    let length = HEADER + body.len();
    let mut out = BytesMut::with_capacity(length);
    out.put_bytes(0xff, 16);
    out.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
    out.put_u8(kind);
    out.put_slice(body);
    out.freeze()
}

impl ControlMessage {
    /// The message's bytes. The same on every session: none of these depends on what was agreed.
    pub fn encode(&self) -> Bytes {
        match self {
            ControlMessage::Open(open) => frame(TYPE_OPEN, &open::encode(open)),
            ControlMessage::Keepalive => frame(TYPE_KEEPALIVE, &[]),
            ControlMessage::Notification(notification) => {
                let mut body = vec![notification.code, notification.subcode];
                body.extend(notification.data.iter().take(MAX_PLAIN - HEADER - 2));
                frame(TYPE_NOTIFICATION, &body)
            }
            ControlMessage::RouteRefresh(refresh) => {
                let (afi, safi) = refresh.family.codes();
                let subtype = match refresh.kind {
                    RefreshKind::Request => 0,
                    RefreshKind::Begin => 1,
                    RefreshKind::End => 2,
                };
                let [high, low] = afi.to_be_bytes();
                frame(TYPE_ROUTE_REFRESH, &[high, low, subtype, safi])
            }
        }
    }
}
