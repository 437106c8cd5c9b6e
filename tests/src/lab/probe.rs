//! Real packets: pings, continuous pings, and TCP connections whose source address the receiver tells.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::Netns;

/// One answered echo request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ping {
    /// The TTL (hop limit) the answer arrived with.
    pub ttl: u8,
    /// Round trip in milliseconds.
    pub ms: f64,
}

/// Sends one echo request and waits up to two seconds for the answer.
///
/// # Errors
/// When no answer comes: what `ping` printed.
pub fn ping(from: &Netns, to: IpAddr) -> Result<Ping> {
    let text = from.exec(&["ping", "-n", "-c", "1", "-W", "2", &to.to_string()])?;
    let line = text
        .lines()
        .find(|l| l.contains("ttl="))
        .with_context(|| format!("no answer: {text}"))?;
    let field = |name: &str| line.split_whitespace().find_map(|w| w.strip_prefix(name));
    let ttl = field("ttl=").and_then(|t| t.parse().ok()).context("ttl")?;
    let ms = field("time=").and_then(|t| t.parse().ok()).context("time")?;
    Ok(Ping { ttl, ms })
}

/// Sends an echo request every 5 ms until the first answer.
///
/// # Errors
/// When `deadline` passes first.
pub fn first_reply(from: &Netns, to: IpAddr, deadline: Duration) -> Result<Instant> {
    from.within(|| {
        let mut echo = Echo::new(to)?;
        let start = Instant::now();
        let deadline = deadline * super::slowness();
        while start.elapsed() < deadline {
            super::check_interrupt()?;
            // No route yet is an answer of the local kernel, not a fault of the probe.
            let _ = echo.send();
            std::thread::sleep(Duration::from_millis(5));
            if echo.receive() > 0 {
                return Ok(Instant::now());
            }
        }
        bail!("{to} did not answer within {} s", deadline.as_secs())
    })
}

/// An ICMP or ICMPv6 echo client on a raw socket.
#[derive(Debug)]
struct Echo {
    socket: Socket,
    to: SockAddr,
    v4: bool,
    id: u16,
    sent: u64,
    received: u64,
}

impl Echo {
    fn new(to: IpAddr) -> Result<Echo> {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let (domain, protocol) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).context("open a raw socket")?;
        socket.set_nonblocking(true)?;
        let id = NEXT.fetch_add(1, Ordering::Relaxed) ^ (std::process::id() << 6) as u16;
        Ok(Echo {
            socket,
            to: SocketAddr::new(to, 0).into(),
            v4: to.is_ipv4(),
            id,
            sent: 0,
            received: 0,
        })
    }

    /// Sends one request. It counts as sent also when the kernel has no route: then it is lost.
    fn send(&mut self) -> std::io::Result<()> {
        self.sent += 1;
        let mut packet = [if self.v4 { 8 } else { 128 }, 0, 0, 0, 0, 0, 0, 0];
        packet[4..6].copy_from_slice(&self.id.to_be_bytes());
        packet[6..8].copy_from_slice(&(self.sent as u16).to_be_bytes());
        if self.v4 {
            // For ICMPv6 the kernel fills in the checksum.
            let sum: u32 = packet
                .chunks(2)
                .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
                .sum();
            let folded = (sum & 0xFFFF) + (sum >> 16);
            packet[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
        }
        self.socket.send_to(&packet, &self.to).map(drop)
    }

    /// Reads the answers that have arrived; gives how many in all.
    fn receive(&mut self) -> u64 {
        let mut buffer = [0u8; 256];
        while let Ok(n) = self.socket.read(&mut buffer) {
            let packet = &buffer[..n];
            // An IPv4 raw socket delivers the IP header too.
            let header = if self.v4 {
                usize::from(packet.first().map_or(0, |b| b & 0x0F)) * 4
            } else {
                0
            };
            let Some(icmp) = packet.get(header..header + 8) else {
                continue;
            };
            let reply = if self.v4 { 0 } else { 129 };
            if icmp[0] == reply && icmp[4..6] == self.id.to_be_bytes() {
                self.received += 1;
            }
        }
        self.received
    }
}

/// A ping every 10 ms that goes on while other things happen.
#[derive(Debug)]
pub struct PingRun {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Summary>>,
}

/// What a continuous ping found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// From where to where.
    pub what: String,
    /// Requests sent.
    pub sent: u64,
    /// Answers received, those up to a second after the last request included.
    pub received: u64,
}

impl PingRun {
    /// Starts it.
    pub fn start(from: &Netns, to: IpAddr) -> PingRun {
        let stop = Arc::new(AtomicBool::new(false));
        let (from, flag) = (from.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            from.within(|| {
                let mut echo = Echo::new(to)?;
                while !flag.load(Ordering::Relaxed) {
                    let _ = echo.send();
                    std::thread::sleep(Duration::from_millis(10));
                    echo.receive();
                }
                let end = Instant::now();
                while echo.receive() < echo.sent && end.elapsed() < Duration::from_secs(1) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let what = format!("{} -> {to}", from.name());
                Ok(Summary {
                    what,
                    sent: echo.sent,
                    received: echo.received,
                })
            })
        });
        PingRun { stop, thread }
    }

    /// Sends no more, without waiting for the last answers.
    pub fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops it.
    ///
    /// # Errors
    /// When the namespace could not be entered or the raw socket not be opened.
    pub fn stop(self) -> Result<Summary> {
        self.end();
        match self.thread.join() {
            Ok(summary) => summary,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Summary {
    /// Requests that were never answered.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

/// Sends `octets` octets by TCP from one namespace to an address in another, and gives how many arrived.
///
/// # Errors
/// When the connection does not come about, or stalls for twenty seconds.
pub fn stream(from: &Netns, to: &Netns, address: IpAddr, octets: usize) -> Result<usize> {
    const LIMIT: Duration = Duration::from_secs(20);
    let listener = to.within(|| TcpListener::bind((address, 0)).context("listen"))?;
    let target = SocketAddr::new(address, listener.local_addr()?.port());
    let sent = from.within(|| {
        let mut stream = TcpStream::connect_timeout(&target, LIMIT).with_context(|| format!("connect to {target}"))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let sender = std::thread::spawn(move || stream.write_all(&vec![0x5a; octets]));
        Ok(sender)
    })?;
    let (mut stream, _) = listener.accept().context("accept")?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut received = 0;
    let mut buffer = [0u8; 8192];
    loop {
        match stream.read(&mut buffer).context("the stream stalls")? {
            0 => break,
            n => received += n,
        }
    }
    match sent.join() {
        Ok(result) => result.context("send")?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    Ok(received)
}

/// Opens a TCP connection from one namespace to an address in another, and gives the source address the receiver saw.
///
/// # Errors
/// When the connection does not come about within two seconds.
pub fn seen_source(from: &Netns, to: &Netns, address: IpAddr) -> Result<IpAddr> {
    const LIMIT: Duration = Duration::from_secs(2);
    let listener = to.within(|| TcpListener::bind((address, 0)).context("listen"))?;
    listener.set_nonblocking(true)?;
    let target = SocketAddr::new(address, listener.local_addr()?.port());
    let _stream =
        from.within(|| TcpStream::connect_timeout(&target, LIMIT).with_context(|| format!("connect to {target}")))?;
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((_, peer)) => return Ok(peer.ip()),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && start.elapsed() < LIMIT => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(e) => return Err(e).context("accept"),
        }
    }
}
