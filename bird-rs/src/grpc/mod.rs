//! The `Bird` service: what confd configures, felix follows, and tortiectl shows.
//!
//! Every request is checked and converted before the engine hears of it.

pub(crate) mod convert;
pub(crate) mod facts;
pub(crate) mod operator;
mod statics;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tortie_bgp::speaker::{Cursor, RouteQuery};
use tortie_proto::bird::{self, FibMessage, bird_server::Bird, bird_server::BirdServer, fib_message};
use tortie_proto::common::Hello;

use crate::bfd::Bfd;
use crate::configure::{Configurator, How, Text};
use crate::engine::{self, Clock, Engine, Stopped};
use crate::fib::Subscription;

/// Messages on their way to one client.
const QUEUE: usize = 16;
/// Listings of routes at once; the next ones wait. Each has the engine make one page at a time.
const LISTINGS: usize = 32;
/// How long a client may take to make room for a route of its listing: it keeps others from theirs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    engine: Engine,
    clock: Clock,
    configurator: Arc<Configurator>,
    bfd: Bfd,
    hello: Hello,
    /// Room for listings.
    listings: Arc<Semaphore>,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    pub(crate) fn new(engine: Engine, clock: Clock, configurator: Arc<Configurator>, bfd: Bfd) -> Self {
        let hello = Hello::new("bird-rs", "", &tortie_kit::instance());
        Service {
            engine,
            clock,
            configurator,
            bfd,
            hello,
            listings: Arc::new(Semaphore::new(LISTINGS)),
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
            let trial = (request.undo_after_s > 0).then(|| Duration::from_secs(request.undo_after_s.into()));
            let how = How {
                soft: request.soft,
                trial,
            };
            self.configurator.apply(text, request.revision, how).await?.0
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
        let sessions = self.bfd.sessions();
        let protocols: Vec<_> = wanted
            .map(|protocol| convert::protocol(protocol, &sessions, self.clock))
            .collect();
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
        let mut names = query.protocol.iter().chain(&query.exported_to);
        let known = self.engine.query(tortie_bgp::speaker::Speaker::protocol_names).await?;
        if let Some(name) = names.find(|name| !known.iter().any(|known| **known == ***name)) {
            return Err(Status::not_found(format!("there is no protocol '{name}'")));
        }
        let listing = self.listings.clone().acquire_owned().await.map_err(|_| Stopped)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (engine, clock) = (self.engine.clone(), self.clock);
        tokio::spawn(async move {
            list(&engine, clock, query, &sender).await;
            drop(listing);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type FibStream = Streamed<FibMessage>;

    async fn fib(&self, request: Request<bird::FibRequest>) -> Result<Response<Self::FibStream>, Status> {
        check(request.into_inner().hello.as_ref())?;
        let subscription = self.engine.ask(engine::Request::Subscribe).await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(feed(self.engine.clone(), subscription, self.hello.clone(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Sends a client the routes that it wants, a page at a time: the next one is asked for when it has taken the last.
async fn list(engine: &Engine, clock: Clock, query: RouteQuery, client: &mpsc::Sender<Result<bird::Route, Status>>) {
    let query = Arc::new(query);
    let mut from = Some(Cursor::default());
    while let Some(at) = from.filter(|_| !client.is_closed()) {
        let wanted = query.clone();
        let page = match engine.query(move |speaker| speaker.routes_page(&wanted, at)).await {
            Ok(page) => page,
            Err(stopped) => {
                // The last word to a client that may have gone.
                let _ = client.send(Err(stopped.into())).await;
                return;
            }
        };
        for route in page.routes {
            let route = convert::route(route, clock);
            if client.send_timeout(Ok(route), PATIENCE).await.is_err() {
                return;
            }
        }
        from = page.next;
    }
}

/// Sends a subscription to its client, until either is gone.
async fn feed(
    engine: Engine,
    mut subscription: Subscription,
    hello: Hello,
    client: mpsc::Sender<Result<FibMessage, Status>>,
) {
    let hello = FibMessage {
        message: Some(fib_message::Message::Hello(hello)),
    };
    if client.send(Ok(hello)).await.is_err() || snapshot(&engine, &mut subscription, &client).await.is_err() {
        return;
    }
    loop {
        let message = tokio::select! {
            () = client.closed() => return,
            message = subscription.messages.recv() => message,
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

/// Asks for the snapshot, page by page, each when the client has taken the last and what changed meanwhile. `Err`: it left.
async fn snapshot(
    engine: &Engine,
    subscription: &mut Subscription,
    client: &mpsc::Sender<Result<FibMessage, Status>>,
) -> Result<(), mpsc::error::SendError<Result<FibMessage, Status>>> {
    let (subscriber, mut next) = (subscription.id, Some(Cursor::default()));
    while let Some(from) = next {
        let asked = engine.ask(|done| engine::Request::Snapshot { subscriber, from, done });
        let Ok(answer) = asked.await else { break };
        next = answer;
        while let Ok(message) = subscription.messages.try_recv() {
            client.send(Ok(Arc::unwrap_or_clone(message))).await?;
        }
    }
    Ok(())
}
