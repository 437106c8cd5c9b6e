//! Thousands of sync clients on one thread.
//!
//! A client whose stream ends goes to the next server by itself, with the position it has, as the real ones do.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};
use tortie_proto::sync::Position;
use tortie_tests::lab::check_interrupt;

use super::stream::{Expanded, Heard, Stream, opening};

/// Without any message that matters for this long a run has failed.
const STALL: Duration = Duration::from_secs(30);
/// A client that was turned away tries again after this.
const AGAIN: Duration = Duration::from_millis(100);
/// The kernel keeps no more than about this for each client, so that what is measured is the server and not its buffers.
const BUFFER: usize = 128 << 10;
/// Octets read at once.
const CHUNK: usize = 256 << 10;

/// One client.
#[derive(Debug, Default)]
struct Client {
    connection: Option<TcpStream>,
    stream: Stream,
    output: Vec<u8>,
    cluster: String,
    revision: u64,
    in_sync: bool,
    /// To which of the servers it goes.
    server: usize,
    /// When it came to its revision.
    advanced: Option<Instant>,
}

/// All clients.
pub(crate) struct Swarm {
    epoll: Epoll,
    clients: Vec<Client>,
    /// When clients connect that are not connected.
    due: BTreeSet<(Instant, usize)>,
    /// How many clients have each revision.
    revisions: BTreeMap<u64, usize>,
    servers: Vec<SocketAddr>,
    prefixes: Vec<String>,
    chunk: Box<[u8]>,
    expanded: Expanded,
    /// Clients that are not in sync.
    behind: usize,
    /// Octets that all clients read.
    pub(crate) octets: u64,
    /// Messages with changes that all clients read.
    pub(crate) batches: u64,
    /// Snapshots that began.
    pub(crate) snapshots: u64,
    /// When a client first had a revision that is waited for, and how many have it.
    waited: BTreeMap<u64, Vec<Instant>>,
    progress: Instant,
    until: Instant,
}

impl Swarm {
    /// So many clients, spread over the servers, that are not connected yet.
    ///
    /// # Errors
    /// When the kernel gives no epoll.
    pub(crate) fn new(clients: usize, servers: &[u16], prefixes: Vec<String>, until: Instant) -> Result<Self> {
        let servers: Vec<_> = servers.iter().map(|p| (Ipv4Addr::LOCALHOST, *p).into()).collect();
        let client = |n: usize| Client {
            server: n % servers.len(),
            ..Client::default()
        };
        Ok(Swarm {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            clients: (0..clients).map(client).collect(),
            due: (0..clients).map(|n| (Instant::now(), n)).collect(),
            revisions: [(0, clients)].into(),
            servers,
            prefixes,
            chunk: vec![0; CHUNK].into_boxed_slice(),
            expanded: Expanded::default(),
            behind: clients,
            octets: 0,
            batches: 0,
            snapshots: 0,
            waited: BTreeMap::new(),
            progress: Instant::now(),
            until,
        })
    }

    /// How many clients are not in sync.
    pub(crate) fn behind(&self) -> usize {
        self.behind
    }

    /// The oldest revision that a client has.
    pub(crate) fn oldest(&self) -> u64 {
        self.revisions.keys().next().copied().unwrap_or_default()
    }

    /// How many clients each server has.
    pub(crate) fn spread(&self) -> Vec<usize> {
        let of = |n| self.clients.iter().filter(|c| c.in_sync && c.server == n).count();
        (0..self.servers.len()).map(of).collect()
    }

    /// Works until `done` says so, which is asked after each step.
    ///
    /// # Errors
    /// When nothing happens for long or the time is over: what was waited for.
    pub(crate) fn work(&mut self, what: &str, mut done: impl FnMut(&mut Swarm) -> Result<bool>) -> Result<()> {
        self.progress = Instant::now();
        while !done(self)? {
            check_interrupt()?;
            if self.progress.elapsed() > STALL || Instant::now() > self.until {
                bail!(
                    "{what}: stalled or out of time; {} of {} clients are not in sync, the oldest revision is {}",
                    self.behind,
                    self.clients.len(),
                    self.oldest()
                );
            }
            self.step(Duration::from_millis(10))?;
        }
        Ok(())
    }

    /// Works for so long.
    ///
    /// # Errors
    /// When a client gets what no server sends.
    pub(crate) fn idle(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        self.work("idle", |_| Ok(Instant::now() >= until))
    }

    /// From now on it is written down when clients get to this revision.
    pub(crate) fn expect(&mut self, revision: u64) {
        let there = self.clients.iter().filter(|c| c.revision >= revision);
        self.waited.insert(revision, there.filter_map(|c| c.advanced).collect());
    }

    /// When each client got there, once all have.
    pub(crate) fn arrived(&mut self, revision: u64) -> Option<Vec<Instant>> {
        let all = self.waited.get(&revision)?.len() == self.clients.len();
        if all { self.waited.remove(&revision) } else { None }
    }

    fn step(&mut self, patience: Duration) -> Result<()> {
        let now = Instant::now();
        while self.due.first().is_some_and(|(due, _)| *due <= now)
            && let Some((_, n)) = self.due.pop_first()
        {
            self.connect(n)?;
        }
        let mut events = [EpollEvent::empty(); 512];
        let patience = EpollTimeout::try_from(patience).context("a wait that is too long")?;
        let ready = match self.epoll.wait(&mut events, patience) {
            Ok(ready) => ready,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(e) => return Err(e).context("epoll"),
        };
        for event in &events[..ready] {
            self.serve(event.data() as usize)?;
        }
        Ok(())
    }

    fn connect(&mut self, n: usize) -> Result<()> {
        let client = &mut self.clients[n];
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_recv_buffer_size(BUFFER)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&self.servers[client.server].into()) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
            Err(_) => {
                self.lost(n);
                return Ok(());
            }
        }
        let resume = (client.revision > 0).then(|| Position {
            cluster_id: client.cluster.clone(),
            revision: client.revision,
        });
        client.output = opening(&format!("node-{n:05}"), &self.prefixes, resume);
        client.stream = Stream::default();
        let connection = TcpStream::from(socket);
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        self.epoll
            .add(connection.as_fd(), EpollEvent::new(interest, n as u64))?;
        client.connection = Some(connection);
        Ok(())
    }

    /// The next server is as good.
    fn lost(&mut self, n: usize) {
        let next = (self.clients[n].server + 1) % self.servers.len();
        self.go(n, next);
    }

    /// The first of those that the server named.
    fn leave(&mut self, n: usize, peers: &[String]) -> Result<()> {
        let Some(peer) = peers.first() else { return Ok(()) };
        let named = peer
            .strip_prefix("tcp:")
            .and_then(|addr| addr.parse::<SocketAddr>().ok());
        let server = self.servers.iter().position(|server| Some(*server) == named);
        let server = server.with_context(|| format!("a client is sent to {peer}, which is none of the servers"))?;
        self.go(n, server);
        Ok(())
    }

    fn go(&mut self, n: usize, server: usize) {
        let client = &mut self.clients[n];
        client.connection = None;
        let pause = if client.in_sync { Duration::ZERO } else { AGAIN };
        self.due.insert((Instant::now() + pause, n));
        client.server = server;
        if std::mem::take(&mut client.in_sync) {
            self.behind += 1;
        }
    }

    /// Reads and writes until there is nothing more to.
    fn serve(&mut self, n: usize) -> Result<()> {
        loop {
            let client = &mut self.clients[n];
            let Some(connection) = &mut client.connection else {
                return Ok(());
            };
            if !client.output.is_empty()
                && let Ok(sent) = connection.write(&client.output)
            {
                client.output.drain(..sent);
            }
            let read = match connection.read(&mut self.chunk) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                // A reset is an end as well.
                Ok(0) | Err(_) => {
                    self.lost(n);
                    return Ok(());
                }
                Ok(read) => read,
            };
            self.octets += read as u64;
            self.hear(n, read)?;
            // Less than there was room for: there is no more, and what comes later is told again.
            if read < CHUNK && self.clients[n].output.is_empty() {
                return Ok(());
            }
        }
    }

    fn hear(&mut self, n: usize, read: usize) -> Result<()> {
        let client = &mut self.clients[n];
        let mut all = Vec::new();
        client
            .stream
            .take(&self.chunk[..read], &mut self.expanded, &mut client.output, |heard| {
                all.push(heard);
            })
            .with_context(|| format!("client {n}"))?;
        let ended = client.stream.ended;
        for heard in all {
            match heard {
                Heard::Cluster(id) => self.clients[n].cluster = id,
                Heard::Snapshot => self.snapshots += 1,
                Heard::Changes(revision) => {
                    self.batches += 1;
                    // Of a snapshot only the end counts.
                    if self.clients[n].in_sync {
                        self.at(n, revision);
                    }
                }
                Heard::InSync(revision) => {
                    if !std::mem::replace(&mut self.clients[n].in_sync, true) {
                        self.behind -= 1;
                        self.progress = Instant::now();
                    }
                    self.at(n, revision);
                }
                Heard::Leave(peers) => {
                    self.leave(n, &peers)?;
                    return Ok(());
                }
                Heard::Ping | Heard::Other => {}
            }
        }
        if ended {
            self.lost(n);
        }
        Ok(())
    }

    fn at(&mut self, n: usize, revision: u64) {
        let before = std::mem::replace(&mut self.clients[n].revision, revision);
        if before != revision {
            self.count(before, revision);
        }
        if before < revision {
            let now = Instant::now();
            self.clients[n].advanced = Some(now);
            self.progress = now;
            for times in self.waited.range_mut(before + 1..=revision).map(|(_, times)| times) {
                times.push(now);
            }
        }
    }

    /// A client has another revision.
    fn count(&mut self, before: u64, now: u64) {
        if let Some(clients) = self.revisions.get_mut(&before) {
            *clients -= 1;
            if *clients == 0 {
                self.revisions.remove(&before);
            }
        }
        *self.revisions.entry(now).or_default() += 1;
    }
}
