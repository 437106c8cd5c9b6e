//! The tester: every peer of a run, on one thread, with everything it sends computed beforehand.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};

use crate::wire::{self, Heard, Kind};
use crate::workload::{DAEMON, Workload};

/// Without progress for this long a run has failed.
const STALL: Duration = Duration::from_secs(30);
const KEEPALIVE: Duration = Duration::from_secs(30);

struct Peer {
    stream: Option<TcpStream>,
    established: bool,
    keepalive_sent: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    writable_wanted: bool,
    /// Per prefix: 0 for none, else the version last heard.
    heard: Vec<u8>,
    /// How many prefixes are as the current phase wants them.
    right: u32,
    /// When it last became complete.
    complete: Option<Instant>,
}

/// What a phase waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Every peer has every other peer's routes in this version.
    Version(u8),
    /// No peer has any.
    Nothing,
}

/// All peers of a run.
pub(crate) struct Tester<'a> {
    workload: &'a Workload,
    epoll: Epoll,
    peers: Vec<Peer>,
    goal: Goal,
    incomplete: usize,
    progress: Instant,
    last_keepalive: Instant,
    updates: u64,
}

/// How long a phase took, and what the tester itself spent on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Until the last peer was complete.
    pub(crate) wall: Duration,
    /// CPU time of the tester.
    pub(crate) own_cpu: Duration,
    /// UPDATEs read.
    pub(crate) updates: u64,
}

impl<'a> Tester<'a> {
    /// Peers that are not connected yet. Must be called inside the tester's namespace.
    ///
    /// # Errors
    /// When the kernel gives no epoll.
    pub(crate) fn new(workload: &'a Workload) -> Result<Self> {
        let count = workload.prefixes.count as usize;
        let peer = |_| Peer {
            stream: None,
            established: false,
            keepalive_sent: false,
            input: Vec::with_capacity(1 << 16),
            output: Vec::new(),
            written: 0,
            writable_wanted: false,
            heard: vec![0; count],
            right: 0,
            complete: None,
        };
        Ok(Tester {
            workload,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            peers: (0..workload.peers()).map(peer).collect(),
            goal: Goal::Nothing,
            incomplete: 0,
            progress: Instant::now(),
            last_keepalive: Instant::now(),
            updates: 0,
        })
    }

    /// Connects every peer and waits until every session is established. A daemon that refuses at first is tried again.
    ///
    /// # Errors
    /// When sessions do not come up.
    pub(crate) fn establish(&mut self, patience: Duration) -> Result<Timing> {
        let (start, cpu) = (Instant::now(), own_cpu());
        let mut retry = Instant::now();
        loop {
            let down = self.peers.iter().filter(|p| !p.established).count();
            if down == 0 {
                return Ok(self.timing(start, Instant::now(), cpu));
            }
            if start.elapsed() > patience {
                bail!(
                    "{down} of {} sessions are not established after {} s",
                    self.peers.len(),
                    patience.as_secs()
                );
            }
            if retry <= Instant::now() {
                for i in 0..self.peers.len() {
                    if self.peers[i].stream.is_none() {
                        // A refused connection is tried again with the next round.
                        let _ = self.connect(i);
                    }
                }
                retry = Instant::now() + Duration::from_millis(250);
            }
            self.poll(Duration::from_millis(20), true)?;
        }
    }

    fn connect(&mut self, i: usize) -> Result<()> {
        let from: IpAddr = self.workload.address_of(i as u32);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&SocketAddr::new(DAEMON.into(), 179).into(), Duration::from_secs(2))?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let stream = TcpStream::from(socket);
        self.epoll
            .add(stream.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, i as u64))?;
        let IpAddr::V4(id) = from else {
            bail!("sessions run over IPv4")
        };
        let open = wire::open(self.workload.asn_of(i as u32), id, self.workload.v6);
        let peer = &mut self.peers[i];
        peer.stream = Some(stream);
        peer.input.clear();
        peer.output = open;
        peer.written = 0;
        peer.keepalive_sent = false;
        self.flush(i)
    }

    /// Sends what `bytes` gives for each peer, all at once, and waits until every peer has what `goal` says.
    ///
    /// # Errors
    /// When a session breaks or nothing more arrives though the goal is not reached.
    pub(crate) fn phase(&mut self, goal: Goal, bytes: Vec<Vec<u8>>) -> Result<Timing> {
        self.goal = goal;
        self.recount();
        for (peer, bytes) in self.peers.iter_mut().zip(bytes) {
            peer.output.drain(..peer.written);
            peer.written = 0;
            peer.output.extend(bytes);
        }
        let (start, cpu) = (Instant::now(), own_cpu());
        self.progress = start;
        self.updates = 0;
        for i in 0..self.peers.len() {
            self.flush(i)?;
        }
        while self.incomplete > 0 {
            self.poll(Duration::from_millis(100), false)?;
            if self.progress.elapsed() > STALL {
                bail!("stalled: {}", self.shortfall());
            }
        }
        let end = self.peers.iter().filter_map(|p| p.complete).max().unwrap_or(start);
        Ok(self.timing(start, end.max(start), cpu))
    }

    fn shortfall(&self) -> String {
        let mut worst: Vec<(u32, usize)> = (0..self.peers.len())
            .map(|i| (self.target(i) - self.peers[i].right.min(self.target(i)), i))
            .filter(|(missing, _)| *missing > 0)
            .collect();
        worst.sort_unstable_by(|a, b| b.cmp(a));
        let first = worst.first().map_or((0, 0), |w| *w);
        format!(
            "{} peers are incomplete; peer {} lacks {} prefixes",
            worst.len(),
            first.1,
            first.0
        )
    }

    fn timing(&self, start: Instant, end: Instant, cpu: Duration) -> Timing {
        Timing {
            wall: end - start,
            own_cpu: own_cpu().saturating_sub(cpu),
            updates: self.updates,
        }
    }

    fn target(&self, i: usize) -> u32 {
        self.workload.expected_by(i as u32)
    }

    fn recount(&mut self) {
        self.incomplete = 0;
        for i in 0..self.peers.len() {
            let own = self.workload.routes_of(i as u32);
            let (goal, target) = (self.goal, self.target(i));
            let peer = &mut self.peers[i];
            let others = peer
                .heard
                .iter()
                .enumerate()
                .filter(|(at, _)| !own.contains(&(*at as u32)));
            peer.right = others.filter(|(_, version)| is_right(goal, **version)).count() as u32;
            peer.complete = None;
            if peer.right < target {
                self.incomplete += 1;
            }
        }
    }

    fn poll(&mut self, timeout: Duration, starting: bool) -> Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        let timeout = EpollTimeout::try_from(timeout).unwrap_or(EpollTimeout::ZERO);
        let ready = match self.epoll.wait(&mut events, timeout) {
            Ok(n) => n,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(e) => return Err(e).context("epoll"),
        };
        for event in &events[..ready] {
            let i = event.data() as usize;
            if event.events().contains(EpollFlags::EPOLLOUT) {
                self.flush(i)?;
            }
            if event
                .events()
                .intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
                && let Err(e) = self.receive(i)
            {
                if !starting {
                    return Err(e.context(format!("peer {i}")));
                }
                self.peers[i].stream = None;
                self.peers[i].established = false;
            }
        }
        if self.last_keepalive.elapsed() > KEEPALIVE {
            self.last_keepalive = Instant::now();
            for i in 0..self.peers.len() {
                if self.peers[i].established {
                    self.peers[i].output.extend(wire::keepalive());
                    self.flush(i)?;
                }
            }
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
            let mut flags = EpollFlags::EPOLLIN;
            flags.set(EpollFlags::EPOLLOUT, left);
            self.epoll
                .modify(stream.as_fd(), &mut EpollEvent::new(flags, i as u64))?;
        }
        Ok(())
    }

    fn receive(&mut self, i: usize) -> Result<()> {
        let mut chunk = [0u8; 1 << 16];
        let peer = &mut self.peers[i];
        let Some(stream) = &mut peer.stream else { return Ok(()) };
        match stream.read(&mut chunk) {
            Ok(0) => bail!("the daemon closed the session"),
            Ok(n) => peer.input.extend(&chunk[..n]),
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
                    *right = *right + u32::from(is_right(goal, version)) - u32::from(is_right(goal, *slot));
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
        match kind {
            Kind::Open => {
                self.peers[i].output.extend(wire::keepalive());
                self.peers[i].keepalive_sent = true;
                self.flush(i)
            }
            Kind::Keepalive => {
                self.peers[i].established |= self.peers[i].keepalive_sent;
                Ok(())
            }
            Kind::Notification(code, subcode) => bail!("the daemon sent NOTIFICATION {code}/{subcode}"),
            Kind::Update | Kind::Other => Ok(()),
        }
    }
}

fn is_right(goal: Goal, version: u8) -> bool {
    match goal {
        Goal::Version(wanted) => version == wanted,
        Goal::Nothing => version == 0,
    }
}

/// CPU time of this process so far.
fn own_cpu() -> Duration {
    crate::daemon::cpu_of(std::process::id()).unwrap_or_default()
}
