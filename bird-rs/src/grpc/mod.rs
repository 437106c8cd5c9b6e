//! The `Bird` service: what confd configures, felix follows, and tortiectl shows.
//!
//! Every request is checked and converted before the engine hears of it.

pub(crate) mod convert;
pub(crate) mod operator;

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tortie_net::Prefix;
use tortie_proto::bird::{self, FibMessage, bird_server::Bird, bird_server::BirdServer, fib_message};
use tortie_proto::common::Hello;

use crate::configure::{Configurator, How, Text};
use crate::engine::{self, Clock, Engine, Stopped};
use crate::fib::{self, Subscription};

/// Messages on their way to one client.
const QUEUE: usize = 16;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    engine: Engine,
    clock: Clock,
    configurator: Arc<Configurator>,
    hello: Hello,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    pub(crate) fn new(engine: Engine, clock: Clock, configurator: Arc<Configurator>) -> Self {
        let hello = Hello::new("bird-rs", "", &tortie_kit::instance());
        Service {
            engine,
            clock,
            configurator,
            hello,
        }
    }

    pub(crate) fn into_server(self) -> BirdServer<Self> {
        BirdServer::new(self)
    }
}

impl From<Stopped> for Status {
    fn from(stopped: Stopped) -> Self {
        Status::unavailable(stopped.to_string())
    }
}

fn check(hello: Option<&Hello>) -> Result<(), Status> {
    Hello::check(hello)?;
    Ok(())
}

#[tonic::async_trait]
impl Bird for Service {
    async fn configure(
        &self,
        request: Request<bird::ConfigureRequest>,
    ) -> Result<Response<bird::ConfigureResponse>, Status> {
        let request = request.into_inner();
        check(request.hello.as_ref())?;
        let text = match request.text {
            Some(text) => Text::Given {
                name: request.file,
                text,
            },
            None if request.file.is_empty() => Text::Own,
            None => Text::File(request.file.into()),
        };
        let outcome = if request.check_only {
            self.configurator.check(text).await
        } else {
            self.configurator.apply(text, request.revision, How::default()).await?.0
        };
        Ok(Response::new(convert::configure_response(self.hello.clone(), outcome)))
    }

    async fn status(&self, request: Request<bird::StatusRequest>) -> Result<Response<bird::StatusResponse>, Status> {
        check(request.into_inner().hello.as_ref())?;
        let status = self.engine.query(tortie_bgp::speaker::Speaker::status).await?;
        let applied = self.configurator.applied().await;
        let revisions = self.configurator.revisions().await;
        Ok(Response::new(bird::StatusResponse {
            hello: Some(self.hello.clone()),
            router_id: status.router_id.to_string(),
            boot_unix_ms: self.clock.unix_ms(std::time::Duration::ZERO),
            configured_unix_ms: self.clock.unix_ms(status.configured_at),
            applied_revision: applied.revision,
            config_file: applied.file,
            fib_in_sync: status.fib_in_sync,
            desired_revision: revisions.desired,
            undo_in_s: revisions
                .undo_in
                .map(|left| u32::try_from(left.as_secs()).unwrap_or(u32::MAX)),
        }))
    }

    async fn show_protocols(
        &self,
        request: Request<bird::ShowProtocolsRequest>,
    ) -> Result<Response<bird::ShowProtocolsResponse>, Status> {
        let request = request.into_inner();
        check(request.hello.as_ref())?;
        let protocols = self.engine.query(tortie_bgp::speaker::Speaker::protocols).await?;
        let wanted = protocols
            .into_iter()
            .filter(|p| request.name.is_empty() || *p.name == *request.name);
        let protocols: Vec<_> = wanted.map(|protocol| convert::protocol(protocol, self.clock)).collect();
        if protocols.is_empty() && !request.name.is_empty() {
            return Err(Status::not_found(format!("there is no protocol '{}'", request.name)));
        }
        Ok(Response::new(bird::ShowProtocolsResponse {
            hello: Some(self.hello.clone()),
            protocols,
        }))
    }

    type ShowRoutesStream = Streamed<bird::Route>;

    async fn show_routes(
        &self,
        request: Request<bird::ShowRoutesRequest>,
    ) -> Result<Response<Self::ShowRoutesStream>, Status> {
        let request = request.into_inner();
        check(request.hello.as_ref())?;
        let query = convert::route_query(request)?;
        let named: Vec<String> = query.protocol.iter().chain(&query.exported_to).cloned().collect();
        let (protocols, routes) = self
            .engine
            .query(move |speaker| (speaker.protocols(), speaker.routes(&query)))
            .await?;
        if let Some(name) = named
            .iter()
            .find(|name| !protocols.iter().any(|protocol| *protocol.name == ***name))
        {
            return Err(Status::not_found(format!("there is no protocol '{name}'")));
        }
        let clock = self.clock;
        let routes = routes.into_iter().map(move |route| Ok(convert::route(route, clock)));
        Ok(Response::new(Box::pin(tokio_stream::iter(routes))))
    }

    type FibStream = Streamed<FibMessage>;

    async fn fib(&self, request: Request<bird::FibRequest>) -> Result<Response<Self::FibStream>, Status> {
        check(request.into_inner().hello.as_ref())?;
        let subscription = self.engine.ask(engine::Request::Subscribe).await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(feed(subscription, self.hello.clone(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Sends a subscription to its client, until either is gone.
async fn feed(mut subscription: Subscription, hello: Hello, client: mpsc::Sender<Result<FibMessage, Status>>) {
    let hello = FibMessage {
        message: Some(fib_message::Message::Hello(hello)),
    };
    let snapshot: Vec<(Prefix, _)> = std::mem::take(&mut subscription.snapshot);
    let mut begin = vec![hello];
    begin.extend(fib::batches(
        snapshot.into_iter().map(|(prefix, route)| (prefix, Some(route))),
    ));
    if subscription.in_sync {
        begin.push(FibMessage {
            message: Some(fib_message::Message::InSync(bird::FibInSync {})),
        });
    }
    for message in begin {
        if client.send(Ok(message)).await.is_err() {
            return;
        }
    }
    loop {
        let message = tokio::select! {
            () = client.closed() => return,
            message = subscription.changes.recv() => message,
        };
        let Some(message) = message else { break };
        if client.send(Ok(Arc::unwrap_or_clone(message))).await.is_err() {
            return;
        }
    }
    let ended = Status::aborted("the stream ends: this client fell behind, or bird-rs is stopping; subscribe again");
    // The last word to a client that may have gone.
    let _ = client.send(Err(ended)).await;
}
