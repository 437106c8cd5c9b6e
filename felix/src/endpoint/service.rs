//! The gRPC face of the endpoint service: handshake, outcome, and work that outlives its caller.

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;

use tonic::{Request, Response, Status};
use tortie_proto::common::Hello;
use tortie_proto::felix::endpoint_response::Outcome;
use tortie_proto::felix::endpoint_server::Endpoint;
use tortie_proto::felix::{
    AddRequest, CheckRequest, CollectRequest, DelRequest, EndpointResponse, PrepareRequest, ReadyRequest,
    Result as Made,
};

use super::Parts;
use super::failure::Failure;
use super::work::Work;

/// Implements [`Endpoint`].
#[derive(Debug)]
pub struct Service {
    work: Arc<Work>,
    hello: Hello,
}

impl Service {
    pub(super) fn new(parts: Parts) -> Self {
        let hello = Hello::new("felix", parts.node.as_str(), &tortie_kit::instance());
        Service {
            work: Arc::new(Work::new(parts)),
            hello,
        }
    }

    /// Runs `work` to its end, also when the caller hangs up in the middle: half an endpoint is none.
    ///
    /// Its first step, in which it takes its place among the calls for the same endpoint, is made here and not in a task of
    /// its own: a DEL that follows an ADD whose caller hung up would else be served before that ADD, which would stay.
    async fn answer<F>(
        &self,
        theirs: Option<&Hello>,
        work: impl FnOnce(Arc<Work>) -> F,
    ) -> Result<Response<EndpointResponse>, Status>
    where
        F: Future<Output = Result<Made, Failure>> + Send + 'static,
    {
        Hello::check(theirs)?;
        let mut work = Box::pin(work(Arc::clone(&self.work)));
        let result = match futures::poll!(work.as_mut()) {
            Poll::Ready(result) => result,
            Poll::Pending => {
                let done = tokio::spawn(work).await;
                done.unwrap_or_else(|e| Err(Failure::internal(format!("felix failed in the middle: {e}"))))
            }
        };
        let outcome = match result {
            Ok(made) => Outcome::Result(made),
            Err(failure) => Outcome::Failure(failure.into()),
        };
        Ok(Response::new(EndpointResponse {
            hello: Some(self.hello.clone()),
            outcome: Some(outcome),
        }))
    }
}

#[tonic::async_trait]
impl Endpoint for Service {
    async fn add(&self, request: Request<AddRequest>) -> Result<Response<EndpointResponse>, Status> {
        let request = request.into_inner();
        let hello = request.hello.clone();
        self.answer(hello.as_ref(), |work| async move { work.add(request).await })
            .await
    }

    async fn del(&self, request: Request<DelRequest>) -> Result<Response<EndpointResponse>, Status> {
        let request = request.into_inner();
        let hello = request.hello.clone();
        self.answer(hello.as_ref(), |work| async move { work.del(request).await })
            .await
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<EndpointResponse>, Status> {
        let request = request.into_inner();
        let hello = request.hello.clone();
        self.answer(hello.as_ref(), |work| async move { work.check(request).await })
            .await
    }

    async fn ready(&self, request: Request<ReadyRequest>) -> Result<Response<EndpointResponse>, Status> {
        let request = request.into_inner();
        let (hello, given) = (request.hello, request.addresses_given);
        self.answer(hello.as_ref(), |work| async move { work.ready(given).await })
            .await
    }

    async fn prepare(&self, request: Request<PrepareRequest>) -> Result<Response<EndpointResponse>, Status> {
        let request = request.into_inner();
        let hello = request.hello.clone();
        self.answer(hello.as_ref(), |work| async move { work.prepare(request).await })
            .await
    }

    async fn collect(&self, request: Request<CollectRequest>) -> Result<Response<EndpointResponse>, Status> {
        let request = request.into_inner();
        let hello = request.hello.clone();
        self.answer(hello.as_ref(), |work| async move { work.collect(request).await })
            .await
    }
}
