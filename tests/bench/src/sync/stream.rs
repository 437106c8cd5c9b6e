//! One sync stream as cheaply as can be: just enough HTTP/2 (RFC 9113) and gRPC to open it, keep it and tell its messages
//! apart. What a document says is not looked at. All clients are sent the same octets of a compressed message: it is expanded
//! once, and recognised by its octets where the others read it ([`Expanded`]).
//!
//! The windows are opened as far as they go, so that no window is ever updated: a stream ends before it has had 2 GB.
//!
//! Pure: no sockets, no clock.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use prost::Message;
use tortie_proto::common::Hello;
use tortie_proto::sync::client_message::Message as ClientMsg;
use tortie_proto::sync::server_message::Message as ServerMsg;
use tortie_proto::sync::{ClientMessage, Open, Pong, Position, ServerMessage};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const WINDOW: u32 = (1 << 31) - 1;
/// Octets of a frame: as real clients say.
const FRAME: u32 = 64 << 10;
/// What HTTP/2 gives a connection by itself.
const GIVEN: u32 = 65_535;
const HEAD: usize = 9;
const STREAM: u32 = 1;
/// Of longer messages only the beginning is looked at.
const KEPT: usize = 256 << 10;

/// A compressed message of changes is no longer than this.
const EXPANDED: usize = 4 << 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a message said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Whose history it is.
    Cluster(String),
    /// The whole state follows.
    Snapshot,
    /// Changes up to a revision.
    Changes(u64),
    /// Everything up to a revision was sent.
    InSync(u64),
    /// A sign of life is wanted; the answer is written already.
    Ping,
    /// Go to one of these.
    Leave(Vec<String>),
    /// Something else.
    Other,
}

/// What the newest compressed messages said.
#[derive(Debug, Default)]
pub(crate) struct Expanded(VecDeque<(Vec<u8>, Heard)>);

impl Expanded {
    /// So many: clients are not far apart.
    const KEPT: usize = 16;

    fn find(&self, message: &[u8]) -> Option<Heard> {
        let known = self.0.iter().find(|(known, _)| known == message);
        known.map(|(_, heard)| heard.clone())
    }

    fn keep(&mut self, message: &[u8], heard: &Heard) {
        self.0.truncate(Expanded::KEPT - 1);
        self.0.push_front((message.to_vec(), heard.clone()));
    }
}

/// The reader's half of a stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The head of a frame as far as it arrived.
    head: Vec<u8>,
    /// Octets of the frame that are to come.
    left: usize,
    kind: u8,
    flags: u8,
    /// The payload of a frame that is answered.
    payload: Vec<u8>,
    /// The head of a gRPC message and its first octets.
    message: Vec<u8>,
    /// Octets of the message that are to come, once its head is there.
    missing: usize,
    /// The server ended it.
    pub(crate) ended: bool,
    /// The revision up to which everything arrived.
    pub(crate) revision: u64,
    /// A snapshot is on its way: what it has is not looked at.
    snapshot: bool,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).expect("invariant: small frames");
    out.extend(&length.to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn data(message: ClientMessage, out: &mut Vec<u8>) {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).expect("invariant: small messages");
    let mut payload = vec![0];
    payload.extend(length.to_be_bytes());
    payload.extend(body);
    frame(DATA, 0, STREAM, &payload, out);
}

/// What a client sends first: the connection, the request, and what it wants.
pub(crate) fn opening(node: &str, prefixes: &[String], resume: Option<Position>) -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    let mut settings = vec![0, 4];
    settings.extend(WINDOW.to_be_bytes());
    settings.extend([0, 5]);
    settings.extend(FRAME.to_be_bytes());
    frame(SETTINGS, 0, 0, &settings, &mut out);
    frame(WINDOW_UPDATE, 0, 0, &(WINDOW - GIVEN).to_be_bytes(), &mut out);
    let mut headers = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/tortie.sync.v1.Sync/Watch"),
        (":authority", "typha"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // A literal that is not indexed (RFC 7541 section 6.2.2); both are shorter than 127.
        headers.push(0);
        for text in [name, value] {
            headers.push(text.len() as u8);
            headers.extend(text.as_bytes());
        }
    }
    frame(HEADERS, END_HEADERS, STREAM, &headers, &mut out);
    let mut hello = Hello::new("bench", node, "1");
    hello.capabilities = ["zstd", "drain"].map(str::to_owned).to_vec();
    let open = Open {
        hello: Some(hello),
        prefixes: prefixes.to_vec(),
        resume,
    };
    data(
        ClientMessage {
            message: Some(ClientMsg::Open(open)),
        },
        &mut out,
    );
    out
}

impl Stream {
    /// Takes what arrived; writes what is to be answered, and says each message.
    ///
    /// # Errors
    /// When it is not what a server sends.
    pub(crate) fn take(
        &mut self,
        mut octets: &[u8],
        known: &mut Expanded,
        out: &mut Vec<u8>,
        mut heard: impl FnMut(Heard),
    ) -> Result<()> {
        while !octets.is_empty() {
            if self.left == 0 {
                let more = octets.len().min(HEAD - self.head.len());
                self.head.extend_from_slice(&octets[..more]);
                octets = &octets[more..];
                let &[a, b, c, kind, flags, ..] = &self.head[..] else {
                    continue;
                };
                if self.head.len() < HEAD {
                    continue;
                }
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                (self.kind, self.flags) = (kind, flags);
                self.head.clear();
                self.payload.clear();
                if self.left == 0 {
                    self.done(out);
                }
                continue;
            }
            let (now, rest) = octets.split_at(octets.len().min(self.left));
            self.left -= now.len();
            match self.kind {
                DATA => self.data(now, known, out, &mut heard)?,
                PING => self.payload.extend_from_slice(now),
                _ => {}
            }
            if self.left == 0 {
                self.done(out);
            }
            octets = rest;
        }
        Ok(())
    }

    /// A frame is complete.
    fn done(&mut self, out: &mut Vec<u8>) {
        let answered = self.flags & ACK == 0;
        match self.kind {
            SETTINGS if answered => frame(SETTINGS, ACK, 0, &[], out),
            PING if answered => frame(PING, ACK, 0, &self.payload, out),
            RST_STREAM | GOAWAY => self.ended |= self.kind == RST_STREAM,
            DATA | HEADERS => self.ended |= self.flags & END_STREAM != 0,
            _ => {}
        }
    }

    fn data(
        &mut self,
        mut octets: &[u8],
        known: &mut Expanded,
        out: &mut Vec<u8>,
        heard: &mut impl FnMut(Heard),
    ) -> Result<()> {
        const PREFIX: usize = 5;
        while !octets.is_empty() {
            if self.message.len() < PREFIX {
                let more = octets.len().min(PREFIX - self.message.len());
                self.message.extend_from_slice(&octets[..more]);
                octets = &octets[more..];
                if let &[compressed, a, b, c, d] = &self.message[..] {
                    if compressed != 0 {
                        bail!("a compressed gRPC message, which was not offered");
                    }
                    self.missing = u32::from_be_bytes([a, b, c, d]) as usize;
                }
            } else {
                let (now, rest) = octets.split_at(octets.len().min(self.missing));
                self.missing -= now.len();
                // Of a snapshot no more than tells what a message is.
                let kept = if self.snapshot { 1 << 10 } else { KEPT };
                let room = (kept + PREFIX).saturating_sub(self.message.len()).min(now.len());
                self.message.extend_from_slice(&now[..room]);
                octets = rest;
            }
            if self.message.len() >= PREFIX && self.missing == 0 {
                let said = self.said(&self.message[PREFIX..], known, out)?;
                match said {
                    Heard::Changes(revision) => self.revision = self.revision.max(revision),
                    Heard::InSync(revision) => (self.revision, self.snapshot) = (revision, false),
                    Heard::Snapshot => self.snapshot = true,
                    Heard::Cluster(_) | Heard::Ping | Heard::Leave(_) | Heard::Other => {}
                }
                heard(said);
                self.message.clear();
            }
        }
        Ok(())
    }

    /// What the first octets of a message say: a message has one field, whose number is its kind.
    fn said(&self, message: &[u8], known: &mut Expanded, out: &mut Vec<u8>) -> Result<Heard> {
        /// Number and type of `snapshot_begin`, `batch`, `in_sync`.
        const SNAPSHOT: u8 = 2 << 3 | 2;
        const BATCH: u8 = 3 << 3 | 2;
        const IN_SYNC: u8 = 4 << 3 | 2;
        const COMPRESSED: u8 = 8 << 3 | 2;
        let Some((&tag, rest)) = message.split_first() else {
            return Ok(Heard::Other);
        };
        if matches!(tag, SNAPSHOT | BATCH | IN_SYNC) {
            // Its length, then the field `revision`.
            let (_, rest) = varint(rest).context("a message without a length")?;
            let revision = match rest.split_first() {
                Some((&0x08, rest)) => varint(rest).context("a revision that is cut off")?.0,
                _ => 0,
            };
            return Ok(match tag {
                SNAPSHOT => Heard::Snapshot,
                BATCH => Heard::Changes(revision),
                _ => Heard::InSync(revision),
            });
        }
        if message.len() >= KEPT || tag == COMPRESSED && self.snapshot {
            return Ok(Heard::Other);
        }
        if tag == COMPRESSED
            && let Some(heard) = known.find(message)
        {
            return Ok(heard);
        }
        let decoded = ServerMessage::decode(Bytes::copy_from_slice(message))?;
        Ok(match decoded.message {
            Some(ServerMsg::Welcome(welcome)) => Heard::Cluster(welcome.cluster_id),
            Some(ServerMsg::Drain(drain)) => Heard::Leave(drain.peers),
            Some(ServerMsg::Compressed(compressed)) => {
                let plain = zstd::bulk::decompress(&compressed.zstd, EXPANDED).context("expand a message")?;
                let heard = self.said(&plain, known, out)?;
                known.keep(message, &heard);
                heard
            }
            Some(ServerMsg::Ping(ping)) => {
                let pong = Pong {
                    sequence: ping.sequence,
                    revision: self.revision,
                };
                data(
                    ClientMessage {
                        message: Some(ClientMsg::Pong(pong)),
                    },
                    out,
                );
                Heard::Ping
            }
            _ => Heard::Other,
        })
    }
}

fn varint(octets: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (n, &octet) in octets.iter().enumerate().take(10) {
        value |= u64::from(octet & 0x7f) << (7 * n);
        if octet & 0x80 == 0 {
            return Some((value, &octets[n + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_proto::sync::{Batch, InSync, Ping, SnapshotBegin, Welcome};

    fn sent(message: ServerMsg) -> Vec<u8> {
        let body = ServerMessage { message: Some(message) }.encode_to_vec();
        [&[0][..], &(body.len() as u32).to_be_bytes(), &body].concat()
    }

    #[test]
    fn messages_are_told_apart_however_the_octets_arrive() {
        let changes = |revision, size| {
            let change = tortie_proto::sync::Change {
                key: "k".into(),
                revision,
                value: Some(vec![7; size]),
            };
            ServerMsg::Batch(Batch {
                revision,
                changes: vec![change],
            })
        };
        let welcome = ServerMsg::Welcome(Welcome {
            cluster_id: "c".into(),
            ..Welcome::default()
        });
        let messages = [
            sent(welcome),
            sent(ServerMsg::SnapshotBegin(SnapshotBegin { revision: 300 })),
            sent(changes(300, 100_000)),
            sent(ServerMsg::InSync(InSync { revision: 300 })),
            sent(ServerMsg::Ping(Ping { sequence: 5 })),
            sent(changes(301, 10)),
        ]
        .concat();
        let mut wire = Vec::new();
        frame(SETTINGS, 0, 0, &[], &mut wire);
        frame(HEADERS, END_HEADERS, STREAM, b"anything", &mut wire);
        for part in messages.chunks(16_384) {
            frame(DATA, 0, STREAM, part, &mut wire);
        }
        frame(PING, 0, 0, b"12345678", &mut wire);
        frame(HEADERS, END_HEADERS | END_STREAM, STREAM, b"trailers", &mut wire);
        for step in [1, 7, 1000, wire.len()] {
            let (mut stream, mut out, mut all) = (Stream::default(), Vec::new(), Vec::new());
            let mut known = Expanded::default();
            for part in wire.chunks(step) {
                let heard = |heard| all.push(heard);
                stream.take(part, &mut known, &mut out, heard).unwrap();
            }
            let wanted = [
                Heard::Cluster("c".to_owned()),
                Heard::Snapshot,
                Heard::Changes(300),
                Heard::InSync(300),
                Heard::Ping,
                Heard::Changes(301),
            ];
            assert_eq!(all, wanted, "in steps of {step}");
            assert!(stream.ended && stream.revision == 301);
            // Settings and ping are acknowledged, and there is a pong between them.
            assert_eq!((out[3], out[4], out[9 + 3]), (SETTINGS, ACK, DATA));
            assert!(out.ends_with(b"12345678"));
        }
    }

    #[test]
    fn a_compressed_message_is_expanded_once_for_all() {
        let change = tortie_proto::sync::Change {
            key: "k".into(),
            revision: 9,
            value: Some(vec![7; 1000]),
        };
        let batch = ServerMsg::Batch(Batch {
            revision: 9,
            changes: vec![change],
        });
        let plain = ServerMessage { message: Some(batch) }.encode_to_vec();
        let zstd = zstd::bulk::compress(&plain, 3).unwrap();
        let message = sent(ServerMsg::Compressed(tortie_proto::sync::Compressed { zstd }));
        let mut wire = Vec::new();
        frame(DATA, 0, STREAM, &message, &mut wire);
        let mut known = Expanded::default();
        for _ in 0..3 {
            let (mut stream, mut all) = (Stream::default(), Vec::new());
            let heard = |heard| all.push(heard);
            stream.take(&wire, &mut known, &mut Vec::new(), heard).unwrap();
            assert_eq!((all, known.0.len()), (vec![Heard::Changes(9)], 1));
        }
        for n in 0..100 {
            known.keep(&[n], &Heard::Other);
        }
        assert_eq!((known.0.len(), known.find(&[99])), (Expanded::KEPT, Some(Heard::Other)));
    }

    #[test]
    fn what_is_opened_is_what_http_2_wants() {
        let out = opening("n1", &["/calico/".to_owned()], None);
        assert!(out.starts_with(PREFACE));
        let frames = &out[PREFACE.len()..];
        assert_eq!((frames[3], &frames[9..11]), (SETTINGS, &[0, 4][..]));
        let mut stream = Stream::default();
        assert!(
            stream
                .take(
                    &[0, 0, 6, DATA, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0],
                    &mut Expanded::default(),
                    &mut Vec::new(),
                    |_| ()
                )
                .is_err()
        );
    }
}
