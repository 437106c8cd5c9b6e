//! One peer's connection and what it has heard.

use std::net::TcpStream;
use std::time::Instant;

use crate::workload::Workload;

/// One peer.
pub(crate) struct Peer {
    /// Its connection, or one that is being made.
    pub(crate) stream: Option<TcpStream>,
    /// When it began to connect.
    pub(crate) since: Instant,
    /// Has the daemon taken the connection?
    pub(crate) connected: bool,
    /// Has it had OPEN and KEEPALIVE of the daemon?
    pub(crate) established: bool,
    /// Has it answered the daemon's OPEN?
    pub(crate) keepalive_sent: bool,
    /// What it sends when its session is established.
    pub(crate) hello: Vec<u8>,
    /// Octets read that are no whole message yet.
    pub(crate) input: Vec<u8>,
    /// Octets to write,
    pub(crate) output: Vec<u8>,
    /// of which so many are written.
    pub(crate) written: usize,
    /// Does it wait until it can write?
    pub(crate) writable_wanted: bool,
    /// Does it read what arrives?
    pub(crate) reading: bool,
    /// Per prefix: 0 for none, else the version last heard.
    pub(crate) heard: Vec<u8>,
    /// How many of the goal's prefixes are as the goal wants them.
    pub(crate) right: u32,
    /// When it last became complete.
    pub(crate) complete: Option<Instant>,
}

impl Peer {
    /// Not connected, and told of nothing.
    pub(crate) fn new(workload: &Workload) -> Self {
        Peer {
            stream: None,
            since: Instant::now(),
            connected: false,
            established: false,
            keepalive_sent: false,
            hello: Vec::new(),
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            writable_wanted: false,
            reading: true,
            heard: vec![0; workload.prefixes.count as usize],
            right: 0,
            complete: None,
        }
    }

    /// The connection is gone, and with it all that came over it.
    pub(crate) fn disconnect(&mut self) {
        self.stream = None;
        (self.connected, self.established, self.keepalive_sent) = (false, false, false);
        self.writable_wanted = false;
        self.input.clear();
        self.output.clear();
        self.written = 0;
        self.heard.fill(0);
    }
}
