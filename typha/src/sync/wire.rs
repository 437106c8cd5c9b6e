//! The gRPC service `tortie.sync.v1.Sync`, sending octets that all clients share.
//!
//! tonic's server copies each message into a buffer of each client's own. Here the response's body hands out the shared octets
//! themselves, from which HTTP/2 writes to the socket: a message costs a client a reference, however long it is. So the
//! service is written by hand; requests are still read by tonic.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Streaming};
use tonic::codegen::{BoxFuture, Service, http};
use tonic::metadata::MetadataValue;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tortie_proto::sync::sync_server::SERVICE_NAME;
use tortie_proto::sync::{ClientMessage, ServerMessage};

use super::frame::Framed;
use super::session::{self, Context, WINDOW};
use crate::access::Subject;

/// Room for what a client says, which grows for a longer opening. A pong has a few octets, and most clients say nothing else:
/// tonic's 8 KiB for each of thousands would mostly stay empty.
const HEARD: usize = 256;
/// The only method.
const WATCH: &str = "/tortie.sync.v1.Sync/Watch";

/// Serves sync clients. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SyncService {
    context: Arc<Context>,
}

impl SyncService {
    pub(crate) fn new(context: Context) -> Self {
        SyncService {
            context: Arc::new(context),
        }
    }
}

impl NamedService for SyncService {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for SyncService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let context = Arc::clone(&self.context);
        Box::pin(async move { Ok(watch(&context, request).await.unwrap_or_else(Status::into_http)) })
    }
}

/// Begins a session; the response is what it sends.
async fn watch(context: &Arc<Context>, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
    if request.uri().path() != WATCH {
        return Err(Status::unimplemented("tortie.sync.v1.Sync has the method Watch only"));
    }
    check_encoding(request.headers())?;
    // Whoever has a certificate of a known capacity may read.
    let subject = Subject::of(request.extensions());
    subject.map_err(|e| Status::permission_denied(format!("connection is unauthorized: {e}")))?;
    let decoder = ProstCodec::<ServerMessage, ClientMessage>::raw_decoder(BufferSettings::new(HEARD, HEARD));
    let mut inbound = Streaming::new_request(decoder, request.into_body(), None, None);
    let open = session::opening(&mut inbound).await?;
    let (outgoing, frames) = mpsc::channel(WINDOW);
    tokio::spawn(session::run(Arc::clone(context), open, inbound, outgoing));
    let mut response = http::Response::new(Body::new(Messages { frames, ended: false }));
    let content = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, content);
    Ok(response)
}

/// Clients' messages are short: gRPC's compression of them is not spoken.
fn check_encoding(headers: &http::HeaderMap) -> Result<(), Status> {
    let Some(encoding) = headers.get("grpc-encoding").filter(|e| *e != "identity") else {
        return Ok(());
    };
    let text = format!("grpc-encoding is {encoding:?}: identity is supported only");
    let mut status = Status::new(Code::Unimplemented, text);
    let known = MetadataValue::from_static("identity");
    status.metadata_mut().insert("grpc-accept-encoding", known);
    Err(status)
}

/// What a client is sent: messages, then the reason why there are no more.
struct Messages {
    frames: mpsc::Receiver<Result<Framed, Status>>,
    ended: bool,
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let status = match ready!(self.frames.poll_recv(cx)) {
            Some(Ok(message)) => return Poll::Ready(Some(Ok(Frame::data(message.octets())))),
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.ended = true;
        let mut trailers = http::HeaderMap::new();
        Poll::Ready(Some(
            status.add_header(&mut trailers).map(|()| Frame::trailers(trailers)),
        ))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body::Body as _;
    use tortie_proto::sync::Ping;
    use tortie_proto::sync::server_message::Message as ServerMsg;

    use super::*;

    async fn next(body: &mut Messages) -> Option<Frame<Bytes>> {
        poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx))
            .await
            .map(|frame| frame.unwrap())
    }

    #[tokio::test]
    async fn clients_are_sent_the_same_octets_and_then_why_it_ends() {
        let message = Framed::plain(ServerMsg::Ping(Ping { sequence: 1 }));
        let ends = [
            (
                Some(Status::unavailable("typha is stopping")),
                "14",
                Some("typha%20is%20stopping"),
            ),
            (None, "0", None),
        ];
        for (status, code, text) in ends {
            let (outgoing, frames) = mpsc::channel(WINDOW);
            let mut body = Messages { frames, ended: false };
            outgoing.send(Ok(message.clone())).await.unwrap();
            if let Some(status) = status {
                outgoing.send(Err(status)).await.unwrap();
            }
            drop(outgoing);
            let data = next(&mut body).await.unwrap().into_data().unwrap();
            assert_eq!(data.as_ptr(), message.clone().octets().as_ptr());
            assert!(!body.is_end_stream());
            let trailers = next(&mut body).await.unwrap().into_trailers().unwrap();
            assert_eq!(trailers["grpc-status"], code);
            assert_eq!(trailers.get("grpc-message").map(|m| m.to_str().unwrap()), text);
            assert!(body.is_end_stream() && next(&mut body).await.is_none());
        }
    }

    #[test]
    fn compression_of_requests_is_refused_and_identity_is_none() {
        let with = |encoding: &'static str| {
            let mut headers = http::HeaderMap::new();
            headers.insert("grpc-encoding", http::HeaderValue::from_static(encoding));
            check_encoding(&headers)
        };
        assert!(check_encoding(&http::HeaderMap::new()).is_ok() && with("identity").is_ok());
        let refused = with("gzip").unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented);
        assert_eq!(
            refused.message(),
            "grpc-encoding is \"gzip\": identity is supported only"
        );
        assert_eq!(refused.metadata().get("grpc-accept-encoding").unwrap(), "identity");
    }
}
