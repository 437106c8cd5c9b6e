//! One peer's connection and what it has heard.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::workload::Workload;

/// A connection over which nothing has come by then may be one that the daemon never saw: the kernel answers for a
/// daemon whose queue is full, and then forgets.
const SILENCE: Duration = Duration::from_secs(2);
/// It is twice as patient each time, up to this: a slow daemon gets its time.
const MOST_SILENCE: Duration = Duration::from_secs(32);

/// One peer.
pub(crate) struct Peer {
    /// Its connection, or one that is being made.
    pub(crate) stream: Option<TcpStream>,
    /// When it began to connect.
    pub(crate) since: Instant,
    /// Has the daemon sent anything over this connection?
    pub(crate) answered: bool,
    /// After so much silence it tries another connection.
    pub(crate) patience: Duration,
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
            answered: false,
            patience: SILENCE,
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

    /// Has it waited in vain for this connection?
    pub(crate) fn is_ignored(&self, now: Instant) -> bool {
        self.stream.is_some() && !self.answered && now.saturating_duration_since(self.since) > self.patience
    }

    /// It will wait longer for the next.
    pub(crate) fn be_patient(&mut self) {
        self.patience = (self.patience * 2).min(MOST_SILENCE);
    }

    /// The connection is gone, and with it all that came over it.
    pub(crate) fn disconnect(&mut self) {
        self.stream = None;
        (self.answered, self.established, self.keepalive_sent) = (false, false, false);
        self.writable_wanted = false;
        self.input.clear();
        self.output.clear();
        self.written = 0;
        self.heard.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_waited_for_longer_each_time_but_not_for_ever() {
        let mut peer = Peer::new(&Workload::reflector(2, 1));
        let later = |peer: &Peer, by| peer.since + by + Duration::from_millis(1);
        assert!(!peer.is_ignored(later(&peer, SILENCE)), "there is no connection");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        peer.stream = Some(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        assert!(!peer.is_ignored(peer.since + SILENCE));
        assert!(peer.is_ignored(later(&peer, SILENCE)));
        peer.be_patient();
        assert!(!peer.is_ignored(later(&peer, SILENCE)));
        for _ in 0..40 {
            peer.be_patient();
        }
        assert!(peer.is_ignored(later(&peer, MOST_SILENCE)));
        peer.answered = true;
        assert!(!peer.is_ignored(later(&peer, MOST_SILENCE)));
    }
}
