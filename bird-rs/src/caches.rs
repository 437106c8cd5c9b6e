//! Sessions with caches of ROAs: a task each, which has the connection and the clock. What to ask and what to believe is
//! [`tortie_bgp::rtr`]'s.
//!
//! ```text
//!  engine ──timers (watch)──▶ ┌─ cache (1 per protocol rpki) ─┐ ◀──TCP──▶ the cache
//!                             └───────────────┬───────────────┘
//!  engine ◀── bounded queue ── states, sets ──┘
//! ```

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tortie_bgp::config::{CacheAddress, RpkiConfig};
use tortie_bgp::rtr::{Action, CacheStatus, Event, Session, State, Timers};
use tortie_bgp::speaker::{CacheNews, CacheSpec, Input};

use crate::engine::{Clock, Engine, Request};

/// Octets read at a time.
const READ: usize = 64 * 1024;
/// A question is a few octets: a connection that does not take them in this time is none.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// The sessions that run.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    id: u32,
    timers: watch::Sender<Timers>,
    #[expect(dead_code, reason = "dropping it ends the session")]
    task: AbortOnDropHandle<()>,
}

impl Caches {
    /// Runs these sessions and no others. One that is known goes on, with the timers it now has.
    pub(crate) fn want(&mut self, wanted: Vec<CacheSpec>, engine: &Engine, clock: Clock) {
        self.running
            .retain(|running| wanted.iter().any(|spec| spec.id == running.id));
        for spec in wanted {
            let timers = spec.config.timers;
            if let Some(known) = self.running.iter().find(|running| running.id == spec.id) {
                known
                    .timers
                    .send_if_modified(|old| std::mem::replace(old, timers) != timers);
                continue;
            }
            let id = spec.id;
            let (sender, receiver) = watch::channel(timers);
            let cache = Cache {
                session: Session::new(clock.now(), timers, spec.config.ignore_max_length),
                spec,
                engine: engine.clone(),
                clock,
                stream: None,
                connecting: None,
                told: None,
            };
            self.running.push(Running {
                id,
                timers: sender,
                task: AbortOnDropHandle::new(tokio::spawn(cache.run(receiver))),
            });
        }
    }
}

/// A session and its connection.
struct Cache {
    session: Session,
    spec: CacheSpec,
    engine: Engine,
    clock: Clock,
    stream: Option<TcpStream>,
    connecting: Option<AbortOnDropHandle<io::Result<TcpStream>>>,
    /// What the engine was last told.
    told: Option<CacheStatus>,
}

impl Cache {
    async fn run(mut self, mut timers: watch::Receiver<Timers>) {
        let mut buffer = vec![0; READ];
        let mut actions = Vec::new();
        loop {
            let now = self.clock.now();
            let wait = self.session.next_deadline().saturating_sub(now);
            let event = tokio::select! {
                changed = timers.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.session.set_timers(*timers.borrow_and_update());
                    self.tell_status().await;
                    continue;
                }
                connected = connected(&mut self.connecting) => {
                    self.connecting = None;
                    match connected {
                        Ok(stream) => {
                            self.stream = Some(stream);
                            Event::Connected
                        }
                        Err(error) => Event::Closed(error.to_string()),
                    }
                }
                read = read(&mut self.stream, &mut buffer) => match read {
                    Ok(0) => self.closed(String::new()),
                    Ok(length) => Event::Received(buffer.get(..length).unwrap_or_default()),
                    Err(error) => self.closed(error.to_string()),
                },
                () = tokio::time::sleep(wait) => Event::Tick,
            };
            self.session.handle(self.clock.now(), event, &mut actions);
            self.execute(&mut actions).await;
            self.tell_status().await;
        }
    }

    fn closed(&mut self, reason: String) -> Event<'static> {
        self.stream = None;
        Event::Closed(reason)
    }

    async fn execute(&mut self, actions: &mut Vec<Action>) {
        let mut failed = None;
        for action in actions.drain(..) {
            match action {
                Action::Connect => {
                    let connecting = tokio::spawn(connect(self.spec.config.clone()));
                    self.connecting = Some(AbortOnDropHandle::new(connecting));
                }
                Action::Send(octets) => failed = failed.or(self.send(&octets).await),
                Action::Close => (self.stream, self.connecting) = (None, None),
                Action::Roas(set) => {
                    tracing::info!(protocol = &*self.spec.protocol, roas = set.len(), "ROAs of the cache");
                    self.tell(CacheNews::Roas(set)).await;
                }
            }
        }
        // The session may have given up the connection by itself; then this is no news.
        if let Some(reason) = failed
            && self.stream.take().is_some()
        {
            self.session.handle(self.clock.now(), Event::Closed(reason), actions);
        }
    }

    /// Why it could not be sent, if so.
    async fn send(&mut self, octets: &[u8]) -> Option<String> {
        let stream = self.stream.as_mut()?;
        match tokio::time::timeout(WRITE_TIME, stream.write_all(octets)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the cache takes nothing".to_owned()),
        }
    }

    async fn tell_status(&mut self) {
        let status = self.session.status();
        if self.told.as_ref() == Some(&status) {
            return;
        }
        let protocol = &*self.spec.protocol;
        let problem = |status: &CacheStatus| status.problem.clone();
        if let Some(problem) = problem(&status).filter(|now| self.told.as_ref().and_then(problem).as_ref() != Some(now))
        {
            tracing::warn!(
                protocol,
                problem,
                payloads = status.payloads,
                "cache lost, its ROAs hold until they expire"
            );
        }
        if status.state == State::Idle && self.told.as_ref().is_none_or(|told| told.state != State::Idle) {
            tracing::debug!(protocol, payloads = status.payloads, "cache has answered");
        }
        self.told = Some(status.clone());
        self.tell(CacheNews::Status(Box::new(status))).await;
    }

    async fn tell(&self, news: CacheNews) {
        let id = self.spec.id;
        self.engine.request(Request::Input(Input::Cache { id, news })).await;
    }
}

/// Connects to the first address of the cache that answers.
async fn connect(config: RpkiConfig) -> io::Result<TcpStream> {
    match &config.remote {
        CacheAddress::Address(address) => TcpStream::connect((*address, config.port)).await,
        CacheAddress::Name(name) => TcpStream::connect((name.as_str(), config.port)).await,
    }
}

/// Waits for ever when nothing is being connected.
async fn connected(connecting: &mut Option<AbortOnDropHandle<io::Result<TcpStream>>>) -> io::Result<TcpStream> {
    match connecting {
        Some(task) => task.await.unwrap_or_else(|error| Err(io::Error::other(error))),
        None => std::future::pending().await,
    }
}

/// Waits for ever without a connection.
async fn read(stream: &mut Option<TcpStream>, buffer: &mut [u8]) -> io::Result<usize> {
    match stream {
        Some(stream) => stream.read(buffer).await,
        None => std::future::pending().await,
    }
}
