//! The gRPC service `tortie.sync.v1.Sync`, sending messages that are encoded already.
//!
//! The generated server encodes each message once per client; here the octets are shared by all of them, so the service
//! is written by hand over tonic's codec interface.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::{BufMut, Bytes};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstDecoder;
use tortie_proto::sync::ClientMessage;
use tortie_proto::sync::sync_server::SERVICE_NAME;

use super::session::{self, Context, WINDOW};
use crate::access::Subject;

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
        let watch = Watch {
            context: Arc::clone(&self.context),
        };
        Box::pin(async move {
            if request.uri().path() != WATCH {
                return Ok(Status::unimplemented("tortie.sync.v1.Sync has the method Watch only").into_http());
            }
            Ok(Grpc::new(RawCodec).streaming(watch, request).await)
        })
    }
}

struct Watch {
    context: Arc<Context>,
}

impl StreamingService<ClientMessage> for Watch {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<ClientMessage>>) -> Self::Future {
        let context = Context::clone(&self.context);
        // Whoever has a certificate of a known capacity may read.
        let subject = Subject::of(request.extensions());
        Box::pin(async move {
            subject.map_err(|e| Status::permission_denied(format!("connection is unauthorized: {e}")))?;
            let mut inbound = request.into_inner();
            let open = session::opening(&mut inbound).await?;
            let (outgoing, frames) = tokio::sync::mpsc::channel(WINDOW);
            tokio::spawn(session::run(context, open, inbound, outgoing));
            Ok(Response::new(ReceiverStream::new(frames)))
        })
    }
}

/// Sends octets as they are, reads client messages.
#[derive(Debug, Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = ClientMessage;
    type Encoder = RawCodec;
    type Decoder = ProstDecoder<ClientMessage>;

    fn encoder(&mut self) -> Self::Encoder {
        RawCodec
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}
