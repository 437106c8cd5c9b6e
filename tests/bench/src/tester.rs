//! The tester: every peer of a run, on one thread, with everything it sends computed beforehand.
//!
//! Invariants: `right` of a peer is how many of the goal's prefixes it has in the goal's version, its own not counted;
//! `incomplete` is how many peers have fewer than they should; `down` is how many sessions are not established. A peer
//! without a connection has heard of nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};
use tortie_tests::lab::check_interrupt;

use crate::goal::{Clock, Goal, Timing, own_cpu};
use crate::peer::Peer;
use crate::wire::{self, Heard, Kind};
use crate::workload::Workload;

/// Without progress for this long a run has failed.
const STALL: Duration = Duration::from_secs(30);
/// A restart that has not come to its end by then never does, whatever progress it makes.
const RECOVERY: Duration = Duration::from_secs(300);
const KEEPALIVE: Duration = Duration::from_secs(30);
/// As long as nobody is answered one peer tries to connect, this often: a thousand that do would slow the daemon's start.
const KNOCK: Duration = Duration::from_millis(5);
/// From then on all that have no connection try, this often.
const RETRY: Duration = Duration::from_millis(100);
/// Receive buffer of the peer that stops reading, in octets: the kernel must not read for it.
const SMALL_BUFFER: usize = 16_384;

/// All peers of a run.
pub(crate) struct Tester<'a> {
    workload: &'a Workload,
    epoll: Epoll,
    peers: Vec<Peer>,
    chunk: Box<[u8]>,
    goal: Goal,
    /// The peer of which nothing is expected.
    excused: Option<usize>,
    /// The peer that will stop reading.
    slow: Option<usize>,
    incomplete: usize,
    down: usize,
    all_up: Instant,
    progress: Instant,
    retry: Instant,
    last_keepalive: Instant,
    updates: u64,
    /// When all must be over.
    until: Instant,
}

impl<'a> Tester<'a> {
    /// Peers that are not connected yet. Must be called inside the tester's namespace. Whatever is waited for must be
    /// there before `until`.
    ///
    /// # Errors
    /// When the kernel gives no epoll.
    pub(crate) fn new(workload: &'a Workload, until: Instant) -> Result<Self> {
        let now = Instant::now();
        let mut tester = Tester {
            workload,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            peers: (0..workload.peers()).map(|_| Peer::new(workload)).collect(),
            chunk: vec![0; 1 << 16].into_boxed_slice(),
            goal: Goal::all(workload, 0),
            excused: None,
            slow: None,
            incomplete: 0,
            down: workload.peers() as usize,
            all_up: now,
            progress: now,
            retry: now,
            last_keepalive: now,
            updates: 0,
            until,
        };
        // Nobody has heard anything, and so is right.
        tester.aim(tester.goal);
        Ok(tester)
    }

    /// Starts a measurement.
    pub(crate) fn clock(&self) -> Clock {
        Clock {
            start: Instant::now(),
            cpu: own_cpu(),
            updates: self.updates,
        }
    }

    /// What happened from the start of a measurement to `end`.
    pub(crate) fn timing(&self, clock: Clock, end: Instant) -> Timing {
        Timing {
            wall: end.saturating_duration_since(clock.start),
            own_cpu: own_cpu().saturating_sub(clock.cpu),
            updates: self.updates - clock.updates,
        }
    }

    /// Connects every peer and waits until every session is established. A daemon that refuses is tried again. The
    /// time counts from `clock`.
    ///
    /// # Errors
    /// When sessions do not come up.
    pub(crate) fn establish(&mut self, clock: Clock, patience: Duration) -> Result<Timing> {
        while self.down > 0 {
            if clock.start.elapsed() > patience {
                bail!(
                    "{} of {} sessions are not established after {} s",
                    self.down,
                    self.peers.len(),
                    patience.as_secs()
                );
            }
            self.still_time()?;
            self.tend();
            self.poll(KNOCK, true)?;
        }
        Ok(self.timing(clock, self.all_up))
    }

    /// Sends what `bytes` gives for each peer, all at once, and waits until every peer has what `goal` says.
    ///
    /// # Errors
    /// When a session breaks or nothing more arrives though the goal is not reached.
    pub(crate) fn phase(&mut self, goal: Goal, bytes: Vec<Vec<u8>>) -> Result<Timing> {
        self.aim(goal);
        for (peer, bytes) in self.peers.iter_mut().zip(bytes) {
            peer.output.extend(bytes);
        }
        let clock = self.clock();
        self.progress = clock.start;
        for i in 0..self.peers.len() {
            self.flush(i)?;
        }
        let end = self.wait(clock, false)?;
        Ok(self.timing(clock, end))
    }

    /// The same for one peer that sends; gives also how long each other peer waited.
    ///
    /// # Errors
    /// As for [`Tester::phase`].
    pub(crate) fn one(&mut self, from: u32, goal: Goal, bytes: Vec<u8>) -> Result<(Timing, Vec<Duration>)> {
        self.aim(goal);
        let clock = self.clock();
        self.progress = clock.start;
        self.peers[from as usize].output.extend(bytes);
        self.flush(from as usize)?;
        let end = self.wait(clock, false)?;
        let waited = |p: &Peer| p.complete.map(|at| at.saturating_duration_since(clock.start));
        Ok((self.timing(clock, end), self.peers.iter().filter_map(waited).collect()))
    }

    /// Waits until every peer that lost its session has another, has announced `hello`, and has what `goal` says. Gives
    /// also when all sessions were up, both from `clock` on.
    ///
    /// # Errors
    /// When nothing happens any more though the goal is not reached.
    pub(crate) fn recover(&mut self, clock: Clock, goal: Goal, hello: Vec<Vec<u8>>) -> Result<(Timing, Duration)> {
        for (peer, hello) in self.peers.iter_mut().zip(hello) {
            peer.hello = hello;
        }
        self.aim(goal);
        self.progress = Instant::now();
        let end = self.wait(clock, true)?;
        let up = self.all_up.saturating_duration_since(clock.start);
        Ok((self.timing(clock, end), up))
    }

    /// This peer will have to stop reading: its connection has small buffers. To be said before it connects.
    pub(crate) fn will_pause(&mut self, i: u32) {
        self.slow = Some(i as usize);
    }

    /// A peer stops or begins again to read; while it does not, no goal asks anything of it.
    ///
    /// # Errors
    /// When it has no connection.
    pub(crate) fn pause(&mut self, i: u32, paused: bool) -> Result<()> {
        self.peers[i as usize].reading = !paused;
        self.excused = paused.then_some(i as usize);
        self.interest(i as usize)
    }

    /// Answers the daemon until `end` without waiting for anything.
    ///
    /// # Errors
    /// When a session breaks.
    pub(crate) fn idle(&mut self, end: Instant) -> Result<()> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.poll(left.min(Duration::from_millis(100)), false)?;
        }
    }

    fn wait(&mut self, clock: Clock, tolerant: bool) -> Result<Instant> {
        while self.incomplete > 0 {
            if tolerant {
                self.tend();
            }
            self.poll(if tolerant { KNOCK } else { Duration::from_millis(100) }, tolerant)?;
            let recovering = tolerant && clock.start.elapsed() > RECOVERY;
            if self.progress.elapsed() > STALL || recovering {
                bail!("stalled: {}", self.shortfall());
            }
            self.still_time()?;
        }
        let end = self.peers.iter().filter_map(|p| p.complete).max();
        Ok(end.unwrap_or(clock.start))
    }

    fn still_time(&self) -> Result<()> {
        check_interrupt()?;
        if Instant::now() > self.until {
            bail!("given up, the row's time is over: {}", self.shortfall());
        }
        Ok(())
    }

    fn shortfall(&self) -> String {
        let mut worst: Vec<(u32, usize)> = (0..self.peers.len())
            .map(|i| (self.target(i).saturating_sub(self.peers[i].right), i))
            .filter(|(missing, _)| *missing > 0)
            .collect();
        worst.sort_unstable_by(|a, b| b.cmp(a));
        let first = worst.first().map_or((0, 0), |w| *w);
        format!(
            "{} sessions are down and {} peers incomplete; peer {} lacks {} prefixes",
            self.down,
            worst.len(),
            first.1,
            first.0
        )
    }

    fn target(&self, i: usize) -> u32 {
        if self.excused == Some(i) {
            return 0;
        }
        self.goal.without(&self.workload.routes_of(i as u32))
    }

    fn aim(&mut self, goal: Goal) {
        self.goal = goal;
        self.incomplete = 0;
        for i in 0..self.peers.len() {
            let (own, target) = (self.workload.routes_of(i as u32), self.target(i));
            let peer = &mut self.peers[i];
            let others = (goal.first..goal.end).filter(|at| !own.contains(at));
            peer.right = others.map(|at| goal.counts(at, peer.heard[at as usize])).sum();
            peer.complete = None;
            if peer.right < target {
                self.incomplete += 1;
            }
        }
    }

    /// Gives up connections that are not answered and tries again where there is none.
    fn tend(&mut self) {
        let now = Instant::now();
        if now < self.retry || self.down == 0 {
            return;
        }
        for i in 0..self.peers.len() {
            if self.peers[i].is_ignored(now) {
                self.peers[i].be_patient();
                self.lose(i);
            }
        }
        let answered = self.peers.iter().any(|p| p.answered);
        self.retry = now + if answered { RETRY } else { KNOCK };
        for i in 0..if answered { self.peers.len() } else { 1 } {
            if self.peers[i].stream.is_none() && self.connect(i).is_err() {
                self.lose(i);
            }
        }
    }

    fn connect(&mut self, i: usize) -> Result<()> {
        let from = self.workload.address_of(i as u32);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if self.slow == Some(i) {
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
        }
        socket.bind(&SocketAddr::new(from.into(), 0).into())?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&SocketAddr::new(self.workload.daemon_of(i as u32).into(), 179).into()) {
            Err(e) if e.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => return Err(e.into()),
            _ => {}
        }
        let stream = TcpStream::from(socket);
        self.epoll
            .add(stream.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, i as u64))?;
        let peer = &mut self.peers[i];
        peer.stream = Some(stream);
        peer.since = Instant::now();
        peer.output = wire::open(self.workload.asn_of(i as u32), from, self.workload.v6);
        self.flush(i)
    }

    /// A peer has no connection any more, and knows of no routes.
    fn lose(&mut self, i: usize) {
        let target = self.target(i);
        let peer = &mut self.peers[i];
        self.down += usize::from(peer.established);
        peer.disconnect();
        let before = peer.right;
        // Of no routes all asked for are right when they are asked to be gone.
        peer.right = if self.goal.version == 0 { target } else { 0 };
        if before >= target && peer.right < target {
            peer.complete = None;
            self.incomplete += 1;
        } else if before < target && peer.right >= target {
            self.incomplete -= 1;
        }
    }

    fn poll(&mut self, timeout: Duration, tolerant: bool) -> Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let timeout = EpollTimeout::try_from(timeout).unwrap_or(EpollTimeout::ZERO);
        let ready = match self.epoll.wait(&mut events, timeout) {
            Ok(n) => n,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(e) => return Err(e).context("epoll"),
        };
        for event in &events[..ready] {
            let i = event.data() as usize;
            if let Err(e) = self.serve(i, event.events()) {
                if !tolerant {
                    return Err(e.context(format!("peer {i}")));
                }
                self.lose(i);
            }
        }
        if self.last_keepalive.elapsed() > KEEPALIVE {
            self.last_keepalive = Instant::now();
            for i in 0..self.peers.len() {
                if self.peers[i].established {
                    self.peers[i].output.extend(wire::keepalive());
                    if self.flush(i).is_err() && tolerant {
                        self.lose(i);
                    }
                }
            }
        }
        Ok(())
    }

    fn serve(&mut self, i: usize, events: EpollFlags) -> Result<()> {
        if events.contains(EpollFlags::EPOLLOUT) {
            self.flush(i)?;
        }
        if events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.receive(i)?;
        }
        Ok(())
    }

    fn flush(&mut self, i: usize) -> Result<()> {
        let peer = &mut self.peers[i];
        let Some(stream) = &mut peer.stream else { return Ok(()) };
        while peer.written < peer.output.len() {
            match stream.write(&peer.output[peer.written..]) {
                Ok(n) => peer.written += n,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e).with_context(|| format!("write to the daemon as peer {i}")),
            }
        }
        let left = peer.written < peer.output.len();
        if !left {
            peer.output.clear();
            peer.written = 0;
        }
        if left != peer.writable_wanted {
            peer.writable_wanted = left;
            self.interest(i)?;
        }
        Ok(())
    }

    /// Tells the kernel what a peer waits for.
    fn interest(&self, i: usize) -> Result<()> {
        let peer = &self.peers[i];
        let stream = peer.stream.as_ref().context("a peer without a connection")?;
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, peer.reading);
        flags.set(EpollFlags::EPOLLOUT, peer.writable_wanted);
        self.epoll
            .modify(stream.as_fd(), &mut EpollEvent::new(flags, i as u64))?;
        Ok(())
    }

    fn receive(&mut self, i: usize) -> Result<()> {
        let peer = &mut self.peers[i];
        let Some(stream) = &mut peer.stream else { return Ok(()) };
        match stream.read(&mut self.chunk) {
            Ok(0) => bail!("the daemon closed the session"),
            Ok(n) => {
                peer.input.extend(&self.chunk[..n]);
                peer.answered = true;
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        self.digest(i)
    }

    fn digest(&mut self, i: usize) -> Result<()> {
        let own = self.workload.routes_of(i as u32);
        let (goal, target) = (self.goal, self.target(i));
        let peer = &mut self.peers[i];
        let (mut kinds, mut progress, mut updates) = (Vec::new(), false, 0);
        let Peer {
            input, heard, right, ..
        } = peer;
        let before = *right;
        let taken = wire::read(
            input,
            &self.workload.prefixes,
            |kind| match kind {
                Kind::Update => updates += 1,
                other => kinds.push(other),
            },
            |index, what| {
                let version = match what {
                    Heard::Announced(version) => version.max(1),
                    Heard::Withdrawn => 0,
                };
                let slot = &mut heard[index as usize];
                if !own.contains(&index) && *slot != version {
                    *right = *right + goal.counts(index, version) - goal.counts(index, *slot);
                    progress = true;
                }
                *slot = version;
            },
        );
        input.drain(..taken.map_err(anyhow::Error::msg)?);
        if before < target && *right >= target {
            peer.complete = Some(Instant::now());
            self.incomplete -= 1;
        } else if before >= target && *right < target {
            self.incomplete += 1;
        }
        self.updates += updates;
        if progress {
            self.progress = Instant::now();
        }
        for kind in kinds {
            self.control(i, kind)?;
        }
        Ok(())
    }

    fn control(&mut self, i: usize, kind: Kind) -> Result<()> {
        let peer = &mut self.peers[i];
        match kind {
            Kind::Open => {
                peer.output.extend(wire::keepalive());
                peer.keepalive_sent = true;
                self.flush(i)
            }
            Kind::Keepalive if peer.keepalive_sent && !peer.established => {
                peer.established = true;
                peer.output.extend_from_slice(&peer.hello);
                self.down -= 1;
                self.progress = Instant::now();
                if self.down == 0 {
                    self.all_up = self.progress;
                }
                self.flush(i)
            }
            Kind::Notification(code, subcode) => bail!("the daemon sent NOTIFICATION {code}/{subcode}"),
            Kind::Keepalive | Kind::Update | Kind::Other => Ok(()),
        }
    }
}
