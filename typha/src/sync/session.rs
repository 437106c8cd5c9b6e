//! One client: its handshake, its place in the log, its pulse.
//!
//! A client that does not read holds at most [`WINDOW`] messages here; when it reads again it is brought forward from its
//! place, by changes or by a fresh snapshot. It is cut only when for [`PATIENCE`] it neither answered a ping nor took a
//! message that waited for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tortie_proto::capability;
use tortie_proto::common::Hello;
use tortie_proto::sync::client_message::Message as ClientMsg;
use tortie_proto::sync::server_message::Message as ServerMsg;
use tortie_proto::sync::{ClientMessage, Coalesced, Currency, Drain, Open, Ping, Stale, Welcome};

use super::away::Away;
use super::frame::Framed;
use super::hub::Hub;
use super::log::{Filter, Step};
use super::peers::Peers;
use super::reader::Reader;
use crate::datastore::{History, Revision};
use crate::metrics::{Metrics, Sent};

/// Messages encoded for a client and not yet taken by its connection.
pub(crate) const WINDOW: usize = 4;
/// How often a client is asked for a sign of life.
const PING: Duration = Duration::from_secs(2);
/// How long a client may be dead before it is cut.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take to say what it wants.
const OPENING: Duration = Duration::from_secs(5);
/// How long a client that holds more than this typha has read is kept waiting before it is told so.
const LAG: Duration = Duration::from_secs(5);
/// How long a client may take to hear that it shall leave.
const FAREWELL: Duration = Duration::from_secs(1);
/// Clients that leave at once come to others within this, one in a millisecond.
const SPREAD: usize = 2000;
/// A filter is compared with every key: this many prefixes are plenty.
const MAX_PREFIXES: usize = 256;

/// What a client may receive.
pub(crate) type Outgoing = mpsc::Sender<Result<Framed, Status>>;

/// What sessions share.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) hub: Hub,
    pub(crate) hello: Hello,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) peers: Arc<Peers>,
    /// Cancelled when clients shall go elsewhere.
    pub(crate) drain: CancellationToken,
}

/// How a session ended.
enum End {
    /// The client is gone.
    Left,
    /// It is told why.
    Refused(Status),
    /// It is to go to one of these, which have fewer clients.
    Moved(Vec<String>),
}

/// Reads the client's first message.
///
/// # Errors
/// The status to answer with: no or wrong first message, another major version.
pub(crate) async fn opening(inbound: &mut Streaming<ClientMessage>) -> Result<Open, Status> {
    let first = tokio::time::timeout(OPENING, inbound.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no open message within 5 s"))??;
    let Some(ClientMsg::Open(open)) = first.and_then(|m| m.message) else {
        return Err(Status::invalid_argument("the first message must be open"));
    };
    Hello::check(open.hello.as_ref())?;
    if open.prefixes.len() > MAX_PREFIXES {
        let n = open.prefixes.len();
        return Err(Status::invalid_argument(format!(
            "open.prefixes has {n} members, at most {MAX_PREFIXES} are allowed"
        )));
    }
    Ok(open)
}

struct Session {
    context: Arc<Context>,
    inbound: Streaming<ClientMessage>,
    outgoing: Outgoing,
    pings: Interval,
    sequence: u64,
    /// Since when a ping waits for its answer; moved on by messages taken.
    unanswered: Option<Instant>,
    history: watch::Receiver<Arc<History>>,
    away: watch::Receiver<Option<Away>>,
    /// Was it told that the datastore is away?
    told_stale: bool,
    /// Until when it waits for this typha to read what it holds already.
    lag: Instant,
    client: Hello,
}

/// Serves a client until it leaves, dies, or this typha stops.
pub(crate) async fn run(context: Arc<Context>, open: Open, inbound: Streaming<ClientMessage>, outgoing: Outgoing) {
    let hello = open.hello.clone().unwrap_or_default();
    let metrics = Arc::clone(&context.metrics);
    metrics.connections_accepted.inc();
    metrics.connections_active.inc();
    tracing::info!(program = hello.program, node = hello.node, "sync client connected");
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let history = context.hub.history();
    let away = context.hub.watch_away();
    let mut session = Session {
        history,
        away,
        told_stale: false,
        lag: Instant::now() + LAG,
        client: hello.clone(),
        context,
        inbound,
        outgoing,
        pings,
        sequence: 0,
        unanswered: None,
    };
    let end = session.serve(open).await;
    metrics.connections_active.dec();
    match end {
        End::Left => tracing::info!(program = hello.program, node = hello.node, "sync client left"),
        End::Refused(status) => {
            let reason = status.message().to_owned();
            tracing::info!(
                program = hello.program,
                node = hello.node,
                reason,
                "sync client sent away"
            );
            session.hand_over().await;
            // When even this finds no room the stream just ends.
            let _ = session.outgoing.try_send(Err(status));
        }
        End::Moved(peers) => {
            let to = peers.first().cloned().unwrap_or_default();
            tracing::info!(
                program = hello.program,
                node = hello.node,
                to,
                "sync client asked to move"
            );
            if session.say_goodbye(peers).await {
                metrics.connections_moved.inc();
            }
            let status = Status::unavailable("another typha has fewer clients");
            let _ = session.outgoing.try_send(Err(status));
        }
    }
}

impl Session {
    async fn serve(&mut self, open: Open) -> End {
        let history = Arc::clone(&self.history.borrow_and_update());
        let cluster_id = history.id.clone();
        let resume = open.resume.filter(|r| r.cluster_id == cluster_id).map(|r| r.revision);
        let welcome = Welcome {
            hello: Some(self.context.hello.clone()),
            cluster_id,
            succeeds: history.succeeds.clone(),
            peers: self.context.peers.next().0,
        };
        let filter = Filter::new(open.prefixes).with_zstd(self.client.can(capability::ZSTD));
        let mut reader = Reader::new(filter, resume);
        let served = async {
            self.send(Framed::plain(ServerMsg::Welcome(welcome))).await?;
            self.tell_currency().await?;
            loop {
                self.rest(&mut reader).await?;
                self.bring_forward(&mut reader, &history).await?;
            }
        };
        let Err(end): Result<std::convert::Infallible, End> = served.await;
        end
    }

    /// Sends until the reader is where the log is.
    async fn bring_forward(&mut self, reader: &mut Reader, history: &Arc<History>) -> Result<(), End> {
        loop {
            let step = self.next(reader, history).await?;
            if let Some(revision) = reader.is_too_slow_for(&step) {
                self.coalesced(revision).await?;
            }
            let sent = match &step {
                Step::Snapshot(_) => Sent::Snapshot,
                Step::Changes { .. } => Sent::Changes,
            };
            if sent == Sent::Snapshot {
                self.context.metrics.snapshots_sent.inc();
            }
            let (frames, more) = reader.take(step);
            for frame in frames {
                self.context.metrics.count_sent(sent, frame.len());
                self.send(frame).await?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// What the reader needs next: mostly what all who were current need.
    async fn next(&self, reader: &mut Reader, history: &Arc<History>) -> Result<Step, End> {
        let (filter, position) = (reader.filter(), reader.position());
        if let Some(step) = self.context.hub.ready(history, filter, position) {
            return Ok(step);
        }
        let asked = self
            .context
            .hub
            .next(Arc::clone(history), filter.clone(), position)
            .await;
        let (step, filter) = asked.map_err(|_| End::Refused(self.gone()))?;
        reader.share(filter);
        Ok(step)
    }

    /// The client took changes too slowly for the log.
    async fn coalesced(&mut self, revision: Revision) -> Result<(), End> {
        self.context.metrics.clients_coalesced.inc();
        let (program, node) = (&self.client.program, &self.client.node);
        tracing::warn!(
            program,
            node,
            revision,
            "sync client is slow and is sent the state instead of changes"
        );
        if !self.client.can(capability::COALESCED) {
            return Ok(());
        }
        self.send(Framed::plain(ServerMsg::Coalesced(Coalesced { revision })))
            .await
    }

    /// Waits until there is something new; meanwhile keeps the pulse.
    async fn rest(&mut self, reader: &mut Reader) -> Result<(), End> {
        let mut head = self.context.hub.head();
        loop {
            let at = *head.borrow_and_update();
            let ahead = reader.is_ahead(at);
            // While the datastore is away nobody knows how far it is.
            let lag = self.away.borrow().is_none().then_some(self.lag);
            let waits = ahead && lag.is_none_or(|lag| Instant::now() < lag);
            if !waits && !reader.is_current(at) {
                return Ok(());
            }
            let dead = self.unanswered.map(|since| since + PATIENCE);
            tokio::select! {
                () = self.context.drain.cancelled() => return Err(End::Refused(stopping())),
                moved = head.changed() => moved.map_err(|_| End::Refused(stopping()))?,
                _ = self.history.changed() => return Err(End::Refused(self.gone())),
                _ = self.away.changed() => self.tell_currency().await?,
                heard = self.inbound.message() => self.hear(heard)?,
                () = until(dead) => return Err(self.dead()),
                () = until(lag), if ahead => {}
                _ = self.pings.tick() => {
                    self.make_room(reader, at)?;
                    self.ping(reader).await?;
                }
            }
        }
    }

    /// Tells whether what it is sent may be old, when that has changed.
    async fn tell_currency(&mut self) -> Result<(), End> {
        let away = self.away.borrow_and_update().clone();
        if away.is_some() == self.told_stale {
            return Ok(());
        }
        self.told_stale = away.is_some();
        self.lag = Instant::now() + LAG;
        if !self.client.can(capability::CURRENCY) {
            return Ok(());
        }
        let revision = *self.context.hub.head().borrow();
        let stale = away.map(|away| Stale {
            revision,
            age_seconds: away.age().as_secs(),
            reason: away.reason,
        });
        self.send(Framed::plain(ServerMsg::Currency(Currency { stale }))).await
    }

    /// Others have far fewer clients: one that is current may go there.
    fn make_room(&self, reader: &Reader, head: Revision) -> Result<(), End> {
        if !self.client.can(capability::DRAIN) || !reader.is_current(head) {
            return Ok(());
        }
        self.context
            .peers
            .take_place()
            .map_or(Ok(()), |peers| Err(End::Moved(peers)))
    }

    /// Tells where to go, when this typha stops and there are others.
    async fn hand_over(&mut self) {
        if !self.context.drain.is_cancelled() || !self.client.can(capability::DRAIN) {
            return;
        }
        let (peers, turn) = self.context.peers.next();
        if peers.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis((turn % SPREAD) as u64)).await;
        if self.say_goodbye(peers).await {
            self.context.metrics.connections_handed_over.inc();
        }
    }

    /// Tells where to go; one that takes nothing finds out by itself.
    async fn say_goodbye(&self, peers: Vec<String>) -> bool {
        let frame = Framed::plain(ServerMsg::Drain(Drain { peers }));
        let told = tokio::time::timeout(FAREWELL, self.outgoing.send(Ok(frame))).await;
        matches!(told, Ok(Ok(())))
    }

    async fn ping(&mut self, reader: &mut Reader) -> Result<(), End> {
        if let Some(frame) = reader.catch_up() {
            self.send(frame).await?;
        }
        self.sequence += 1;
        let sequence = self.sequence;
        self.send(Framed::plain(ServerMsg::Ping(Ping { sequence }))).await?;
        self.unanswered.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Hands over one message; waits while the client has not taken earlier ones.
    async fn send(&mut self, frame: Framed) -> Result<(), End> {
        if self.outgoing.capacity() > 0 {
            // Room that is there anyway says nothing about the client: the connection's buffers took what was before.
            return self.outgoing.try_send(Ok(frame)).map_err(|_| End::Left);
        }
        let outgoing = self.outgoing.clone();
        let mut since = Instant::now();
        loop {
            tokio::select! {
                () = self.context.drain.cancelled() => return Err(End::Refused(stopping())),
                permit = outgoing.reserve() => {
                    permit.map_err(|_| End::Left)?.send(Ok(frame));
                    self.unanswered = self.unanswered.map(|_| Instant::now());
                    return Ok(());
                }
                heard = self.inbound.message() => {
                    self.hear(heard)?;
                    since = Instant::now();
                }
                () = sleep_until(since + PATIENCE) => return Err(self.dead()),
            }
        }
    }

    fn hear(&mut self, heard: Result<Option<ClientMessage>, Status>) -> Result<(), End> {
        match heard {
            Ok(Some(ClientMessage {
                message: Some(ClientMsg::Open(_)),
            })) => Err(End::Refused(Status::invalid_argument("open may be sent once only"))),
            Ok(Some(_)) => {
                self.unanswered = None;
                Ok(())
            }
            Ok(None) | Err(_) => Err(End::Left),
        }
    }

    /// Why the hub does not answer.
    fn gone(&self) -> Status {
        if self.context.drain.is_cancelled() {
            return stopping();
        }
        Status::unavailable("the datastore holds another history of changes now: connect again")
    }

    fn dead(&self) -> End {
        self.context.metrics.connections_dropped.inc();
        let text = format!("neither took a message nor answered for {} s", PATIENCE.as_secs());
        End::Refused(Status::deadline_exceeded(text))
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn stopping() -> Status {
    Status::unavailable("typha is stopping")
}
