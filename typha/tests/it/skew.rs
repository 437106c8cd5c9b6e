//! A release older or newer on the other side: fields, messages and capabilities that one of them does not know.
//!
//! The other side is made of octets: no release before this one is at hand, and none after it. "Older" is what the
//! contract asks for and nothing else; "newer" has unknown fields in every message, a higher minor version, capabilities
//! that nobody heard of and messages of unknown kinds.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use http_body::Frame;
use prost::Message;
use tokio_stream::StreamExt;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Status};
use tortie_kit::address::ServiceAddr;
use tortie_proto::common::Hello;
use tortie_proto::store::{Entry, GetResponse, WriteRequest, WriteResponse, write_request};
use tortie_proto::sync::client_message::Message as ClientMsg;
use tortie_proto::sync::server_message::Message as ServerMsg;
use tortie_proto::sync::{Batch, Change, ClientMessage, InSync, Open, Ping, ServerMessage, SnapshotBegin, Welcome};
use tortie_typha_client::{Store, StoreError, SyncStatus};

use crate::etcd::handle_key;
use crate::process::{Client, DEADLINE, HANDLES, Typha, handle};

const WATCH: &str = "/tortie.sync.v1.Sync/Watch";
const WRITE: &str = "/tortie.store.v1.Store/Write";
const GET: &str = "/tortie.store.v1.Store/Get";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Release {
    Older,
    Newer,
}

const BOTH: [Release; 2] = [Release::Older, Release::Newer];

impl Release {
    fn hello(self) -> Hello {
        match self {
            Release::Older => Hello {
                major: 1,
                ..Hello::default()
            },
            Release::Newer => Hello {
                minor: 7,
                ..Hello::new("newer", "n1", "1").with_capabilities(&["teleport", "zstd", "drain"])
            },
        }
    }

    /// A message's octets, which of a newer release have fields that are new: a number and a text.
    fn octets(self, message: &impl Message) -> Vec<u8> {
        self.with_news(message.encode_to_vec())
    }

    fn with_news(self, mut octets: Vec<u8>) -> Vec<u8> {
        if self == Release::Newer {
            prost::encoding::uint64::encode(1000, &7, &mut octets);
            prost::encoding::string::encode(1001, &"new".to_owned(), &mut octets);
        }
        octets
    }

    /// A message around another in this field, whose octets may have new fields.
    fn around(self, field: u32, inner: &[u8], rest: &impl Message) -> Vec<u8> {
        let mut octets = Vec::new();
        prost::encoding::bytes::encode(field, &inner.to_vec(), &mut octets);
        octets.extend(rest.encode_to_vec());
        self.with_news(octets)
    }

    /// A message of a kind that is not known here; none of an older release.
    fn unknown(self) -> Vec<u8> {
        self.with_news(Vec::new())
    }

    /// What a client says first.
    fn open(self, prefixes: &[&str]) -> Vec<u8> {
        let rest = Open {
            hello: None,
            prefixes: prefixes.iter().map(|&p| p.to_owned()).collect(),
            resume: None,
        };
        let open = self.around(1, &self.octets(&self.hello()), &rest);
        self.around(1, &open, &ClientMessage::default())
    }

    fn said(self, message: ServerMsg) -> Vec<u8> {
        self.octets(&ServerMessage { message: Some(message) })
    }

    fn change(self, name: &str, revision: u64) -> Vec<u8> {
        let change = Change {
            key: handle_key(name),
            revision,
            value: Some(handle(revision)),
        };
        let rest = Batch {
            revision,
            changes: Vec::new(),
        };
        let batch = self.around(2, &self.octets(&change), &rest);
        self.around(3, &batch, &ServerMessage::default())
    }
}

/// Octets as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

async fn grpc(typha: &Typha) -> Grpc<Channel> {
    let mut grpc = Grpc::new(typha.addr().connect(DEADLINE).await.unwrap());
    grpc.ready().await.unwrap();
    grpc
}

fn path(path: &'static str) -> http::uri::PathAndQuery {
    http::uri::PathAndQuery::from_static(path)
}

// === a client of another release, and typha ===

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_the_releases_before_and_after_follow_typha() {
    let typha = Typha::start().await;
    let store = typha.store();
    // Much alike: worth compressing for who can read it.
    for n in 0..200 {
        store.create(&handle_key(&format!("h{n:03}")), handle(n)).await.unwrap();
    }
    for release in BOTH {
        let said = [release.open(&[HANDLES]), release.unknown()];
        let requests = tokio_stream::iter(said).chain(tokio_stream::pending());
        let answer = grpc(&typha)
            .await
            .streaming(Request::new(requests), path(WATCH), Raw)
            .await;
        let mut stream = answer.unwrap().into_inner();
        let (mut keys, mut compressed, mut live) = (0, 0, false);
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while !live {
            let octets = tokio::time::timeout_at(deadline, stream.message()).await;
            let octets = octets.expect("in time").unwrap().expect("typha goes on");
            match ServerMessage::decode(octets).unwrap().message.expect("nothing unknown") {
                ServerMsg::Batch(batch) => {
                    keys += batch.changes.len();
                    live = batch
                        .changes
                        .iter()
                        .any(|c| c.key == handle_key(&format!("late-{release:?}")));
                }
                ServerMsg::Compressed(_) => compressed += 1,
                ServerMsg::InSync(_) if !live => {
                    let late = handle_key(&format!("late-{release:?}"));
                    let _ = store.create(&late, handle(1)).await;
                }
                ServerMsg::Welcome(welcome) => {
                    let theirs = Hello::check(welcome.hello.as_ref()).unwrap();
                    assert!(theirs.can("zstd") && !theirs.can("teleport"), "{theirs:?}");
                }
                ServerMsg::InSync(_) | ServerMsg::SnapshotBegin(_) | ServerMsg::Ping(_) => {}
                ServerMsg::Currency(_) | ServerMsg::Drain(_) | ServerMsg::Coalesced(_) => panic!("{release:?}"),
            }
        }
        match release {
            Release::Older => assert_eq!((keys, compressed), (201, 0), "what it cannot read is not sent"),
            Release::Newer => assert!(compressed > 0, "what both can do is done"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_the_releases_before_and_after_are_done() {
    let typha = Typha::start().await;
    for release in BOTH {
        let key = handle_key(&format!("{release:?}"));
        let rest = WriteRequest {
            key: key.clone(),
            operation: Some(write_request::Operation::Put(handle(3))),
            ..WriteRequest::default()
        };
        let request = release.around(1, &release.octets(&release.hello()), &rest);
        let answer = grpc(&typha).await.unary(Request::new(request), path(WRITE), Raw).await;
        let written = WriteResponse::decode(answer.unwrap().into_inner()).unwrap();
        assert_eq!(written.entry.unwrap().key, key);
        assert_eq!(typha.store().get(&key).await.unwrap().value, handle(3));
    }
    // Another major version is refused by both services, and nothing is written.
    let hello = Hello {
        major: 2,
        ..Release::Newer.hello()
    };
    let write = WriteRequest {
        hello: Some(hello.clone()),
        key: handle_key("never"),
        operation: Some(write_request::Operation::Put(handle(3))),
        ..WriteRequest::default()
    };
    let request = Request::new(write.encode_to_vec());
    let of_store = grpc(&typha).await.unary(request, path(WRITE), Raw).await.unwrap_err();
    let open = ClientMsg::Open(Open {
        hello: Some(hello),
        ..Open::default()
    });
    let open = ClientMessage { message: Some(open) }.encode_to_vec();
    let requests = tokio_stream::once(open).chain(tokio_stream::pending());
    let answer = grpc(&typha)
        .await
        .streaming(Request::new(requests), path(WATCH), Raw)
        .await;
    let of_sync = answer.unwrap_err();
    for refused in [of_store, of_sync] {
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        let said = refused.message();
        assert!(said.contains("speaks protocol 2.7, this side 1.0"), "{said}");
    }
    let gone = typha.store().get(&handle_key("never")).await;
    assert!(matches!(gone, Err(StoreError::NotFound(_))), "{gone:?}");
}

// === a typha of another release, and our clients ===

/// Answers every call of a service with these octets; the stream of the sync service stays open.
#[derive(Clone)]
struct Other<const SYNC: bool>(Vec<Vec<u8>>);

impl<const SYNC: bool> NamedService for Other<SYNC> {
    const NAME: &'static str = if SYNC {
        "tortie.sync.v1.Sync"
    } else {
        "tortie.store.v1.Store"
    };
}

impl<const SYNC: bool> Service<http::Request<Body>> for Other<SYNC> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if !SYNC && request.uri().path() != GET {
            return Box::pin(async { Ok(Status::unimplemented("not in this release").into_http()) });
        }
        let mut frames: VecDeque<_> = self.0.iter().map(|m| Frame::data(framed(m))).collect();
        if !SYNC {
            let mut trailers = http::HeaderMap::new();
            Status::ok("").add_header(&mut trailers).unwrap();
            frames.push_back(Frame::trailers(trailers));
        }
        // What was asked stays open as long as the answer does.
        let asked = SYNC.then_some(request);
        let mut response = http::Response::new(Body::new(Answer { frames, asked }));
        let content = http::HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(http::header::CONTENT_TYPE, content);
        Box::pin(async { Ok(response) })
    }
}

/// A message as gRPC has it on the wire.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = vec![0];
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.extend_from_slice(message);
    frame.into()
}

struct Answer {
    frames: VecDeque<Frame<Bytes>>,
    asked: Option<http::Request<Body>>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.frames.pop_front() {
            None if self.asked.is_some() => Poll::Pending,
            next => Poll::Ready(next.map(Ok)),
        }
    }
}

async fn serve<const SYNC: bool>(other: Other<SYNC>) -> (ServiceAddr, tempfile::TempDir, DropGuard) {
    let dir = tempfile::tempdir().unwrap();
    let addr = ServiceAddr::Unix(dir.path().join("typha.sock"));
    let incoming = addr.listen().await.unwrap().connections(None);
    let token = CancellationToken::new();
    let ended = token.clone().cancelled_owned();
    tokio::spawn(
        Server::builder()
            .add_service(other)
            .serve_with_incoming_shutdown(incoming, ended),
    );
    (addr, dir, token.drop_guard())
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_follows_typhas_of_the_releases_before_and_after() {
    for release in BOTH {
        let welcome = Welcome {
            hello: None,
            cluster_id: "c".to_owned(),
            succeeds: Vec::new(),
            peers: Vec::new(),
        };
        let welcome = release.around(1, &release.octets(&release.hello()), &welcome);
        let messages = vec![
            release.around(1, &welcome, &ServerMessage::default()),
            release.unknown(),
            release.said(ServerMsg::SnapshotBegin(SnapshotBegin { revision: 5 })),
            release.change("a", 5),
            release.said(ServerMsg::InSync(InSync { revision: 5 })),
            release.unknown(),
            release.said(ServerMsg::Ping(Ping { sequence: 1 })),
            release.change("b", 6),
        ];
        let (addr, _dir, _stop) = serve(Other::<true>(messages)).await;
        let mut client = Client::start(addr, &[HANDLES], None);
        client
            .until("a change after it was in sync", |c| c.map.len() == 2)
            .await;
        assert_eq!(client.in_syncs, 1);
        assert_eq!(client.map[&handle_key("b")].revision, 6);
        let lost = |s: &SyncStatus| matches!(s, SyncStatus::Disconnected { .. });
        assert!(!client.statuses.iter().any(lost), "{release:?}: {:?}", client.statuses);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_store_reads_what_the_releases_before_and_after_answer() {
    for release in BOTH {
        let entry = Entry {
            key: handle_key("a"),
            value: handle(1),
            revision: 5,
            create_revision: 4,
        };
        let hello = release.around(1, &release.octets(&release.hello()), &GetResponse::default());
        let mut answer = hello;
        prost::encoding::bytes::encode(2, &release.octets(&entry), &mut answer);
        let (addr, _dir, _stop) = serve(Other::<false>(vec![answer])).await;
        let store = Store::new(addr, Hello::new("test", "", "1"));
        let read = store.get(&handle_key("a")).await.unwrap();
        assert_eq!((read.revision, read.value.as_ref()), (5, handle(1).as_slice()));
        // What is not there in that release is said, not waited for.
        let refused = store.status().await.unwrap_err();
        assert!(refused.to_string().contains("not in this release"), "{refused:?}");
    }
    let other = GetResponse {
        hello: Some(Hello {
            major: 2,
            ..Release::Newer.hello()
        }),
        ..GetResponse::default()
    };
    let (addr, _dir, _stop) = serve(Other::<false>(vec![other.encode_to_vec()])).await;
    let refused = Store::new(addr, Hello::new("test", "", "1"))
        .get("/a")
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, StoreError::Incompatible(said) if said.contains("speaks protocol 2.7, this side 1.0")),
        "{refused:?}"
    );
}
