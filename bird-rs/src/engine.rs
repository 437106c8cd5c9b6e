//! The task that owns the speaker: takes requests in order, executes what it answers, keeps its deadlines.
//!
//! Everything reaches the speaker through one bounded queue. Whoever asks waits when it is full, and so, in the end, do the
//! peers: a reader that waits lets its TCP window close. The engine itself never waits for anybody but its queue and the
//! clock.
//!
//! A panic while one connection's input is handled costs that connection, not the daemon.

mod clock;
mod handle;
mod rekey;
mod watchdog;

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use std::collections::HashMap;

use tokio::net::TcpStream;
use tokio::runtime::Handle as Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tortie_bgp::config::Config;
use tortie_bgp::fsm::ConnId;
use tortie_bgp::speaker::{Command, ConnectSpec, Cursor, Input, LogEvent, Operated, Output, Speaker, Station};

pub(crate) use self::clock::Clock;
pub(crate) use self::handle::{Engine, Stopped};
use self::watchdog::Watchdog;
use crate::bfd::Bfd;
use crate::bmp;
use crate::caches::Caches;
use crate::export::Exports;
use crate::fib::{Fanout, SubscriberId, Subscription};
use crate::kernel::Kernels;
use crate::log;
use crate::metrics::Metrics;
use crate::net::connection::{self, Handle};
use crate::net::guard::Guard;
use crate::net::keys::{Keyring, Signed};
use crate::net::listener::Listeners;
use crate::net::socket;

/// Requests that wait. With reads of 64 KiB each this bounds what is buffered of all peers together to 16 MiB.
const QUEUE: usize = 256;
/// Requests taken before the clock is looked at.
const BATCH: usize = 64;
/// Under load the tables are settled this often; when idle, at once.
const FLUSH_WITHIN: Duration = Duration::from_millis(20);
/// How long connections may take to say goodbye when the process ends.
const DRAIN: Duration = Duration::from_secs(2);

/// What the engine can be asked for.
pub(crate) enum Request {
    /// Something happened.
    Input(Input),
    /// A connection asked for stands, or does not.
    Connected {
        conn: ConnId,
        result: io::Result<(TcpStream, Option<Signed>)>,
    },
    /// Somebody connected to us.
    Accepted { stream: TcpStream, remote: SocketAddr },
    /// Make this configuration, which has a router id, the current one.
    Apply {
        config: Arc<Config>,
        /// Without applying filters to the routes that there are.
        soft: bool,
        done: oneshot::Sender<()>,
    },
    /// Do what an operator wants with these protocols, in this order; answered with what became of each.
    Operate {
        protocols: Vec<Arc<str>>,
        command: Command,
        /// For the peers whose sessions end by this.
        reason: String,
        done: oneshot::Sender<Vec<(Arc<str>, Operated)>>,
    },
    /// Look at the speaker.
    Query(Box<dyn FnOnce(&Speaker) + Send>),
    /// What became of the connection to a monitoring station.
    Station { serial: u64, news: bmp::News },
    /// Look at it, and change what belongs to who looks.
    Act(Box<dyn FnOnce(&mut Speaker) + Send>),
    /// Follow the best routes.
    Subscribe(oneshot::Sender<Subscription>),
    /// Put a page of the best routes into a subscriber's queue; answered with where the next one begins.
    Snapshot {
        subscriber: SubscriberId,
        from: Cursor,
        done: oneshot::Sender<Option<Cursor>>,
    },
    /// The process ends: answered when the peers are told.
    Stop(oneshot::Sender<()>),
}

/// A connection by how far it is.
enum Entry {
    Connecting(#[expect(dead_code, reason = "dropping it gives up connecting")] AbortOnDropHandle<()>),
    Open(Handle),
}

/// The engine's state.
pub(crate) struct Loop {
    speaker: Speaker,
    clock: Clock,
    engine: Engine,
    requests: mpsc::Receiver<Request>,
    connections: HashMap<ConnId, Entry>,
    listeners: Listeners,
    /// The least TTL that peers may send with (RFC 5082), for connections they open.
    guard: Guard,
    /// The keys of connections that are signed with TCP-AO.
    keyring: Keyring,
    fanout: Fanout,
    exports: Exports,
    bfd: Bfd,
    kernels: Kernels,
    caches: Caches,
    tasks: TaskTracker,
    incoming: u64,
    outputs: Vec<Output>,
    flushed_at: Duration,
    metrics: Metrics,
    watchdog: Watchdog,
}

impl Loop {
    /// An engine around a speaker, which has said `outputs` so far, and the handle to it.
    pub(crate) fn new(
        speaker: Speaker,
        clock: Clock,
        config: &Config,
        metrics: Metrics,
        outputs: Vec<Output>,
        bfd: Bfd,
    ) -> (Self, Engine) {
        let (engine, requests) = Engine::queue();
        let this = Loop {
            speaker,
            clock,
            engine: engine.clone(),
            requests,
            connections: HashMap::new(),
            listeners: Listeners::default(),
            guard: Guard::new(config),
            keyring: Keyring::new(config),
            fanout: Fanout::default(),
            exports: Exports::new(clock),
            bfd,
            kernels: Kernels::default(),
            caches: Caches::default(),
            tasks: TaskTracker::new(),
            incoming: 0,
            outputs,
            flushed_at: Duration::ZERO,
            metrics,
            watchdog: Watchdog::start(clock, config),
        };
        (this, engine)
    }

    /// Runs on a thread of its own until stopped. On one of the runtime's, what the engine wakes would stand behind the engine
    /// itself, which does not pause as long as there are requests: nobody would write to peers meanwhile.
    pub(crate) fn start(self) -> JoinHandle<()> {
        let runtime = Runtime::current();
        tokio::task::spawn_blocking(move || runtime.block_on(self.run()))
    }

    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let deadline = self.speaker.next_deadline();
            let wait = deadline.map(|deadline| deadline.saturating_sub(self.clock.now()));
            tokio::select! {
                biased;
                count = self.requests.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                }
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
            self.watchdog.begin();
            for request in batch.drain(..) {
                if let Request::Stop(done) = request {
                    self.stop().await;
                    // Whoever asked may be gone; the process ends in any case.
                    let _ = done.send(());
                    return;
                }
                self.take(request);
                // A batch of reads may be a whole table.
                if self.is_overdue() && self.is_due() {
                    self.flush();
                }
            }
            self.settle();
            self.watchdog.end();
        }
    }

    /// Runs the deadlines that have passed and sends what changed: at once when nothing else waits.
    fn settle(&mut self) {
        if self.is_due() && (self.requests.is_empty() || self.is_overdue()) {
            self.flush();
        }
    }

    fn is_overdue(&self) -> bool {
        self.clock.now().saturating_sub(self.flushed_at) >= FLUSH_WITHIN
    }

    /// Has a deadline passed, or is there something to send?
    fn is_due(&self) -> bool {
        let now = self.clock.now();
        self.speaker.next_deadline().is_some_and(|deadline| deadline <= now)
    }

    fn flush(&mut self) {
        self.flushed_at = self.clock.now();
        self.input(Input::Tick);
        self.engine.changed();
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Input(input) => self.connection_input(input),
            Request::Connected { conn, result } => self.connected(conn, result),
            Request::Accepted { stream, remote } => self.accepted(stream, remote),
            Request::Apply { config, soft, done } => {
                self.guard = Guard::new(&config);
                self.keyring = Keyring::new(&config);
                self.watchdog.configure(&config);
                self.input(match soft {
                    true => Input::ReconfigureSoftly(config),
                    false => Input::Reconfigure(config),
                });
                self.rekey();
                // A caller that has gone away still had its configuration applied.
                let _ = done.send(());
            }
            Request::Operate {
                protocols,
                command,
                reason,
                done,
            } => {
                let operate = |this: &mut Self, name: Arc<str>| {
                    let operated = this.act(|speaker, now, out| speaker.operate(now, (&name, command), &reason, out));
                    (name, operated)
                };
                let operated = protocols.into_iter().map(|name| operate(self, name)).collect();
                // A caller that has gone away was still obeyed.
                let _ = done.send(operated);
            }
            Request::Query(look) => look(&self.speaker),
            Request::Act(act) => {
                if self.is_due() {
                    self.flush();
                }
                act(&mut self.speaker);
            }
            Request::Station { serial, news } => self.station(serial, news),
            // A subscriber that is gone already is noticed at the first message.
            Request::Subscribe(answer) => drop(answer.send(self.fanout.subscribe())),
            Request::Snapshot { subscriber, from, done } => {
                let page = self.speaker.fib_page(from);
                let end = page.next.is_none().then(|| self.speaker.fib_in_sync());
                self.fanout.page(subscriber, page.routes, end);
                // Likewise.
                let _ = done.send(page.next);
            }
            Request::Stop(_) => {}
        }
    }

    /// Gives the speaker an input, unless it is about a connection that is closed.
    fn connection_input(&mut self, input: Input) {
        let (conn, closed) = match &input {
            Input::Received { conn, .. } | Input::Sent { conn, .. } => (*conn, false),
            Input::Closed { conn, .. } => (*conn, true),
            _ => return self.input(input),
        };
        let known = if closed {
            self.connections.remove(&conn).is_some()
        } else {
            self.connections.contains_key(&conn)
        };
        if !known {
            return;
        }
        let handled = catch_unwind(AssertUnwindSafe(|| self.input(input)));
        if handled.is_err() {
            self.metrics.panics.inc();
            tracing::error!(target: log::BUG, %conn, "handling a peer's input failed, closing its connection");
            self.outputs.clear();
            // Subscribers may have missed a change: they must begin anew.
            self.exports.monitor_lost();
            self.speaker.tell_kernels_anew();
            self.fanout.cut();
            if !closed && self.connections.remove(&conn).is_some() {
                self.input(Input::Closed {
                    conn,
                    reason: "internal error".to_owned(),
                });
            }
        }
    }

    fn input(&mut self, input: Input) {
        self.act(|speaker, now, outputs| speaker.handle(now, input, outputs));
    }

    /// Lets the speaker act, and executes what it says.
    fn act<R>(&mut self, act: impl FnOnce(&mut Speaker, Duration, &mut Vec<Output>) -> R) -> R {
        let now = self.clock.now();
        let mut outputs = std::mem::take(&mut self.outputs);
        let result = act(&mut self.speaker, now, &mut outputs);
        // Executing may find that a connection is gone, which is an input with outputs of its own.
        for _ in 0..self.connections.len().saturating_add(2) {
            let failed = self.execute(&mut outputs);
            if failed.is_empty() {
                break;
            }
            for conn in failed {
                let reason = "send queue full".to_owned();
                self.speaker.handle(now, Input::Closed { conn, reason }, &mut outputs);
            }
        }
        self.outputs = outputs;
        result
    }

    /// Executes outputs in order; gives the connections that could not take what they were sent.
    fn execute(&mut self, outputs: &mut Vec<Output>) -> Vec<ConnId> {
        let mut failed = Vec::new();
        let mut deltas = Vec::new();
        for output in outputs.drain(..) {
            match output {
                Output::Connect { conn, spec } => self.connect(conn, spec),
                Output::Close { conn } => drop(self.connections.remove(&conn)),
                Output::Send { conn, bytes } => {
                    if let Some(Entry::Open(handle)) = self.connections.get(&conn)
                        && handle.send(bytes).is_err()
                    {
                        self.connections.remove(&conn);
                        failed.push(conn);
                    }
                }
                Output::Listen(specs) => self.listeners.apply(&specs, &self.engine),
                Output::Exports(specs) => self.exports.apply(specs, &self.engine, &self.tasks),
                Output::Bfd(specs) => self.bfd.want(specs),
                Output::Kernels(specs) => self.kernels.apply(specs, &self.engine),
                Output::Kernel {
                    protocol,
                    epoch,
                    deltas,
                } => self.kernels.give(&protocol, epoch, deltas),
                Output::Caches(specs) => self.caches.want(specs, &self.engine, self.clock),
                Output::Fib(delta) => deltas.push(delta),
                Output::Monitor(messages) => self.exports.monitor(&messages),
                Output::MonitorLost => self.exports.monitor_lost(),
                Output::Log(entry) => {
                    if entry.event == LogEvent::Converged {
                        self.metrics.converged();
                    }
                    log::write(&entry);
                }
            }
        }
        self.metrics.in_sync.set(i64::from(self.speaker.fib_in_sync()));
        if !deltas.is_empty() {
            self.metrics.fib(&deltas);
            self.fanout.publish(deltas);
        }
        failed
    }

    /// A station that is connected hears of every session that there is, and then of what happens.
    fn station(&mut self, serial: u64, news: bmp::News) {
        let Some(protocol) = self.exports.protocol(serial) else {
            return;
        };
        let (station, feed) = match news {
            bmp::News::Connected(feed) => (Station::Connected, Some(feed)),
            bmp::News::Lost(reason) => (Station::Lost(reason), None),
        };
        self.exports.connect(serial, None, &[]);
        self.input(Input::Station { protocol, station });
        let sessions = self.speaker.monitored_peers();
        self.exports.connect(serial, feed, &sessions);
    }

    fn connect(&mut self, conn: ConnId, spec: ConnectSpec) {
        let engine = self.engine.clone();
        let task = tokio::spawn(async move {
            let result = socket::connect(&spec).await;
            engine.request(Request::Connected { conn, result }).await;
        });
        self.connections
            .insert(conn, Entry::Connecting(AbortOnDropHandle::new(task)));
    }

    fn connected(&mut self, conn: ConnId, result: io::Result<(TcpStream, Option<Signed>)>) {
        if !matches!(self.connections.get(&conn), Some(Entry::Connecting(_))) {
            return;
        }
        let ends = |(stream, signed): (TcpStream, Option<Signed>)| {
            let mut signed = signed;
            // The keys may have changed meanwhile.
            signed.as_mut().map_or(Ok(()), |signed| signed.follow(&self.keyring))?;
            Ok((stream.local_addr()?, stream.peer_addr()?, stream, signed))
        };
        match result.and_then(ends) {
            Ok((local, remote, stream, signed)) => {
                let handle = connection::start(conn, stream, &self.engine, &self.tasks).signed(signed);
                self.connections.insert(conn, Entry::Open(handle));
                self.input(Input::Connected { conn, local, remote });
            }
            Err(error) => {
                self.connections.remove(&conn);
                self.input(Input::ConnectFailed {
                    conn,
                    reason: error.to_string(),
                });
            }
        }
    }

    fn accepted(&mut self, stream: TcpStream, remote: SocketAddr) {
        let Ok(local) = stream.local_addr() else { return };
        if let Err(error) = socket::guard(&stream, remote.ip(), self.guard.min_ttl(remote.ip())) {
            tracing::error!(%remote, %error, "cannot set the TTL of a connection, refusing it");
            return;
        }
        if !self.speaker.expects(local.ip(), remote.ip()) {
            // Closed at once: strangers must not be able to use up our descriptors by connecting often.
            tracing::debug!(%remote, "refusing a connection of nobody's peer");
            return;
        }
        let signed = match Signed::accepted(&stream, remote.ip(), &self.keyring) {
            Ok(signed) => signed,
            Err(error) => {
                tracing::warn!(target: log::AUTH, %remote, %error, "refusing a connection that is not signed as it has to be");
                return;
            }
        };
        let conn = ConnId::Incoming(self.incoming);
        self.incoming = self.incoming.wrapping_add(1);
        let handle = connection::start(conn, stream, &self.engine, &self.tasks).signed(signed);
        self.connections.insert(conn, Entry::Open(handle));
        self.input(Input::Incoming { conn, local, remote });
    }

    /// Tells the peers what they are to be told and waits, not for long, until they were. Subscribers hear nothing: what
    /// forwards packets keeps its routes.
    async fn stop(&mut self) {
        self.fanout.cut();
        self.listeners = Listeners::default();
        self.input(Input::Stop);
        self.exports.stop();
        self.connections.clear();
        self.tasks.close();
        self.requests.close();
        self.engine.changed();
        let drained = async {
            // The connections' tasks report their ends; somebody must take the reports.
            tokio::select! {
                () = self.tasks.wait() => {}
                () = async { while self.requests.recv().await.is_some() {} std::future::pending().await } => {}
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("some connections did not close in time");
        }
        self.kernels.ended().await;
    }
}

#[cfg(test)]
mod tests;
