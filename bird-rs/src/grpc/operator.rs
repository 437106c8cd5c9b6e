//! The `BirdOperator` service: commands, listings by page, and watchers of peers and routes.
//!
//! A watcher's task asks the engine for what it has not told, sends it, and asks again when its client has taken it and
//! something has changed. So a slow client holds neither the engine nor memory: what it does not take coalesces in the
//! tables, or, for peers, in the difference between what is and what was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tortie_bgp::config::{Policy, ShowRoute};
use tortie_bgp::speaker::{Command, Listing, MAX_REASON, NoWatch, Page, Speaker, WatchId, Watched};
use tortie_proto::bird::bird_operator_server::{BirdOperator, BirdOperatorServer};
use tortie_proto::bird::{self, peer_news, route_news};
use tortie_proto::common::Hello;

use super::{Streamed, check, convert};
use crate::configure::Configurator;
use crate::control::words::Which;
use crate::engine::{self, Clock, Engine, Stopped};

/// Messages on their way to one client.
const QUEUE: usize = 16;
/// Routes that a watcher takes at a time.
const BATCH: usize = 1024;
/// A watcher looks at most this often.
const PAUSE: Duration = Duration::from_millis(100);

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    engine: Engine,
    clock: Clock,
    configurator: Arc<Configurator>,
    hello: Hello,
}

impl Operator {
    pub(crate) fn new(engine: Engine, clock: Clock, configurator: Arc<Configurator>) -> Self {
        let hello = Hello::new("bird-rs", "", &tortie_kit::instance());
        Operator {
            engine,
            clock,
            configurator,
            hello,
        }
    }

    pub(crate) fn into_server(self) -> BirdOperatorServer<Self> {
        BirdOperatorServer::new(self)
    }

    async fn query(&self, text: &str) -> Result<ShowRoute, Status> {
        let config = self.configurator.config().await;
        let read = config.names.show_route(text);
        let show = read.map_err(|wrong| Status::invalid_argument(format!("query: {wrong}")))?;
        match show.roa_tables.first() {
            Some(table) => {
                let words = format!("query: {table} is a table of ROAs, which BirdFacts.ListRoas tells");
                Err(Status::invalid_argument(words))
            }
            None => Ok(show),
        }
    }
}

#[tonic::async_trait]
impl BirdOperator for Operator {
    async fn operate(&self, request: Request<bird::OperateRequest>) -> Result<Response<bird::OperateResponse>, Status> {
        let request = request.into_inner();
        check(request.hello.as_ref())?;
        let command = command(request.command())?;
        if request.reason.len() > MAX_REASON {
            return Err(Status::invalid_argument(format!("reason: at most {MAX_REASON} octets")));
        }
        if request.protocols.is_empty() {
            return Err(Status::invalid_argument("protocols: none is named"));
        }
        let names = self.engine.query(Speaker::protocol_names).await?;
        // All are known before anything is done to one.
        let protocols = selected(&request.protocols, &names)?;
        let reason = request.reason;
        tracing::info!(?command, ?protocols, reason, "an operator's command");
        let order = |done| engine::Request::Operate {
            protocols,
            command,
            reason,
            done,
        };
        let done = self.engine.ask(order).await?;
        let results = done.into_iter().map(|(protocol, operated)| bird::Operated {
            protocol: protocol.to_string(),
            outcome: operated.as_str().to_owned(),
        });
        Ok(Response::new(bird::OperateResponse {
            hello: Some(self.hello.clone()),
            results: results.collect(),
        }))
    }

    async fn list_routes(
        &self,
        request: Request<bird::ListRoutesRequest>,
    ) -> Result<Response<bird::ListRoutesResponse>, Status> {
        let request = request.into_inner();
        check(request.hello.as_ref())?;
        let listing = self.query(&request.query).await?.listing;
        let token = Token::parse(&request.page_token)?;
        let looked = self.engine.query(move |speaker| page(speaker, &listing, token)).await?;
        let (table, page, next) = looked?;
        let routes = page.routes.into_iter().map(|listed| bird::TableRoute {
            table: table.to_string(),
            route: Some(convert::route(listed.view, self.clock)),
        });
        Ok(Response::new(bird::ListRoutesResponse {
            hello: Some(self.hello.clone()),
            routes: routes.collect(),
            next_page_token: next.map(|next| next.to_string()).unwrap_or_default(),
        }))
    }

    async fn confirm(&self, request: Request<bird::ConfirmRequest>) -> Result<Response<bird::ConfirmResponse>, Status> {
        check(request.into_inner().hello.as_ref())?;
        Ok(Response::new(bird::ConfirmResponse {
            hello: Some(self.hello.clone()),
            confirmed: self.configurator.confirm().await,
        }))
    }

    async fn undo(&self, request: Request<bird::UndoRequest>) -> Result<Response<bird::UndoResponse>, Status> {
        check(request.into_inner().hello.as_ref())?;
        let undone = self.configurator.undo().await?;
        Ok(Response::new(bird::UndoResponse {
            hello: Some(self.hello.clone()),
            undone,
            applied_revision: self.configurator.applied().await.revision,
        }))
    }

    type WatchPeersStream = Streamed<bird::PeerNews>;

    async fn watch_peers(
        &self,
        request: Request<bird::WatchPeersRequest>,
    ) -> Result<Response<Self::WatchPeersStream>, Status> {
        check(request.into_inner().hello.as_ref())?;
        let (client, receiver) = mpsc::channel(QUEUE);
        let this = self.clone();
        tokio::spawn(async move {
            let _told_or_gone = this.tell_peers(&client).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type WatchRoutesStream = Streamed<bird::RouteNews>;

    async fn watch_routes(
        &self,
        request: Request<bird::WatchRoutesRequest>,
    ) -> Result<Response<Self::WatchRoutesStream>, Status> {
        let request = request.into_inner();
        check(request.hello.as_ref())?;
        let listing = watchable(self.query(&request.query).await?)?;
        let begun = self.engine.act(move |speaker| speaker.watch(&listing)).await?;
        let id = begun.map_err(|error| match error {
            NoWatch::TooMany => Status::resource_exhausted(error.to_string()),
            NoWatch::Listing(_) => Status::not_found(error.to_string()),
        })?;
        let (client, receiver) = mpsc::channel(QUEUE);
        let this = self.clone();
        tokio::spawn(async move {
            let _told_or_gone = this.tell_routes(id, &client).await;
            // An engine that is gone has no watchers either.
            let _ = this.engine.act(move |speaker| speaker.unwatch(id)).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// A watcher has ended: its client is gone, or the engine is.
struct Ended;

impl From<Stopped> for Ended {
    fn from(_: Stopped) -> Self {
        Ended
    }
}

async fn send<T>(client: &mpsc::Sender<Result<T, Status>>, news: T) -> Result<(), Ended> {
    client.send(Ok(news)).await.map_err(|_| Ended)
}

/// Waits until something may have changed, but not for a client that has gone.
async fn change<T>(changed: &mut watch::Receiver<u64>, client: &mpsc::Sender<T>) -> Result<(), Ended> {
    tokio::select! {
        () = client.closed() => return Err(Ended),
        change = changed.changed() => change.map_err(|_| Ended)?,
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

impl Operator {
    async fn tell_routes(
        &self,
        id: WatchId,
        client: &mpsc::Sender<Result<bird::RouteNews, Status>>,
    ) -> Result<(), Ended> {
        use route_news::Message;
        let news = |message| bird::RouteNews { message: Some(message) };
        send(client, news(Message::Hello(self.hello.clone()))).await?;
        let mut changed = self.engine.changes();
        let mut in_sync = false;
        loop {
            changed.mark_unchanged();
            let taken = self.engine.act(move |speaker| speaker.watched(id, BATCH)).await?;
            let (changes, all) = taken.ok_or(Ended)?;
            for change in changes {
                send(client, news(self.route_news(change))).await?;
            }
            if !all {
                continue;
            }
            if !std::mem::replace(&mut in_sync, true) {
                send(client, news(Message::InSync(bird::InSync {}))).await?;
            }
            change(&mut changed, client).await?;
        }
    }

    fn route_news(&self, watched: Watched) -> route_news::Message {
        let table = watched.table.to_string();
        match watched.route {
            Some(route) => route_news::Message::Route(bird::TableRoute {
                table,
                route: Some(convert::route(route, self.clock)),
            }),
            None => route_news::Message::Gone(bird::TableNet {
                table,
                prefix: Some(watched.prefix.into()),
            }),
        }
    }

    async fn tell_peers(&self, client: &mpsc::Sender<Result<bird::PeerNews, Status>>) -> Result<(), Ended> {
        use peer_news::Message;
        let news = |message| bird::PeerNews { message: Some(message) };
        send(client, news(Message::Hello(self.hello.clone()))).await?;
        let mut changed = self.engine.changes();
        let mut told: BTreeMap<String, bird::Protocol> = BTreeMap::new();
        let mut in_sync = false;
        loop {
            changed.mark_unchanged();
            let all = self.engine.query(Speaker::protocols).await?;
            let peers = all.into_iter().filter(|protocol| protocol.bgp.is_some());
            let now: BTreeMap<String, bird::Protocol> = peers
                .map(|peer| (peer.name.to_string(), convert::protocol(peer, &[], self.clock)))
                .collect();
            for gone in told.keys().filter(|name| !now.contains_key(*name)) {
                send(client, news(Message::Gone(gone.clone()))).await?;
            }
            for (name, peer) in &now {
                let same = told.get(name).is_some_and(|before| state(before) == state(peer));
                if !same {
                    send(client, news(Message::Peer(peer.clone()))).await?;
                }
            }
            told = now;
            if !std::mem::replace(&mut in_sync, true) {
                send(client, news(Message::InSync(bird::InSync {}))).await?;
            }
            change(&mut changed, client).await?;
        }
    }
}

/// What of a peer is news when it changes: all but what counts.
fn state(peer: &bird::Protocol) -> bird::Protocol {
    let mut state = peer.clone();
    state.channels.clear();
    if let Some(bgp) = &mut state.bgp {
        (bgp.updates_received, bgp.updates_sent) = (0, 0);
    }
    state
}

/// The protocols that are meant, each once, in the order of the configuration.
fn selected(wanted: &[String], names: &[Arc<str>]) -> Result<Vec<Arc<str>>, Status> {
    let mut meant = Vec::new();
    for name in wanted {
        let which = if name.contains(['*', '?']) {
            Which::Pattern(name.clone())
        } else {
            Which::Named(name.clone())
        };
        let selected = which
            .select(names)
            .map_err(|none| Status::not_found(none.to_string()))?;
        meant.extend(selected);
    }
    Ok(names.iter().filter(|name| meant.contains(name)).cloned().collect())
}

fn command(command: bird::OperateCommand) -> Result<Command, Status> {
    Ok(match command {
        bird::OperateCommand::Unspecified => return Err(Status::invalid_argument("command: none is given")),
        bird::OperateCommand::Enable => Command::Enable,
        bird::OperateCommand::Disable => Command::Disable,
        bird::OperateCommand::Restart => Command::Restart,
        bird::OperateCommand::Reload => Command::Reload,
        bird::OperateCommand::ReloadIn => Command::ReloadIn,
        bird::OperateCommand::ReloadOut => Command::ReloadOut,
    })
}

/// What of `show route` can be watched.
fn watchable(show: ShowRoute) -> Result<Listing, Status> {
    let listing = show.listing;
    let rest = listing.protocol.is_some() || listing.export.is_some() || listing.filtered;
    if rest || show.count || show.stats || listing.policy == Policy::None {
        let words = "query: only tables, prefixes and a filter can be watched";
        return Err(Status::invalid_argument(words));
    }
    Ok(listing)
}

// === Pages ===

/// Where a listing goes on: which of its tables, and where in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Token {
    table: usize,
    at: usize,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.table, self.at)
    }
}

impl Token {
    fn parse(text: &str) -> Result<Token, Status> {
        if text.is_empty() {
            return Ok(Token::default());
        }
        let parts = text.split_once('.');
        let parsed = parts.and_then(|(table, at)| {
            Some(Token {
                table: table.parse().ok()?,
                at: at.parse().ok()?,
            })
        });
        parsed.ok_or_else(|| Status::invalid_argument("page_token: none of ours"))
    }
}

/// A page of a listing, from which table, and where the next one begins.
fn page(speaker: &Speaker, listing: &Listing, token: Token) -> Result<(Arc<str>, Page, Option<Token>), Status> {
    let tables = speaker.listed_tables(listing);
    let tables = tables.map_err(|none| Status::not_found(none.to_string()))?;
    let Some(table) = tables.get(token.table) else {
        // It has gone since.
        return Ok(("".into(), Page::default(), None));
    };
    let page = speaker.page(listing, table, token.at);
    let following = Token {
        table: token.table + 1,
        at: 0,
    };
    let next = match page.next {
        Some(at) => Some(Token { at, ..token }),
        None => (following.table < tables.len()).then_some(following),
    };
    Ok((table.clone(), page, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_where_to_go_on() {
        let token = Token { table: 3, at: 512 };
        assert_eq!(Token::parse(&token.to_string()).unwrap(), token);
        assert_eq!(Token::parse("").unwrap(), Token::default());
        for wrong in ["3", "x.1", "1.", ".", "1.2.3", "-1.0", "99999999999999999999999.0"] {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn protocols_are_meant_by_name_or_pattern_and_all_is_no_word() {
        let names: Vec<Arc<str>> = ["a1", "a2", "b"].map(Arc::from).into();
        let select = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            selected(&wanted, &names).map(|meant| meant.join(" "))
        };
        assert_eq!(select(&["b", "a*", "a1"]).unwrap(), "a1 a2 b");
        for wrong in [&["all"][..], &["a1", "c"], &["c*"]] {
            assert_eq!(select(wrong).unwrap_err().code(), tonic::Code::NotFound);
        }
    }

    #[test]
    fn what_counts_is_no_news() {
        let mut peer = bird::Protocol {
            name: "p".to_owned(),
            bgp: Some(bird::BgpSession::default()),
            ..bird::Protocol::default()
        };
        let before = state(&peer);
        peer.channels.push(bird::Channel::default());
        peer.bgp.as_mut().unwrap().updates_sent = 7;
        assert_eq!(state(&peer), before);
        peer.bgp.as_mut().unwrap().last_error = "Cease".to_owned();
        assert_ne!(state(&peer), before);
    }
}
