//! BFD's sockets and clock: a thread of its own, so that no work of the engine's, however long, lets a session down.
//!
//! ```text
//!  engine ──what is wanted (watch)──▶ ┌─ thread "bfd", one task ──┐ ◀── UDP 3784, 4784 (1 socket per family and port)
//!                                     │         Sessions          │ ──▶ UDP (1 socket per session)
//!  birdc ◀──sessions (watch)───────── └─────────────┬─────────────┘
//!  engine ◀──changes── forwarder (1) ◀──sessions────┘
//! ```
//!
//! Neither direction waits: what is wanted and how sessions are are values, the latest of which counts. A failure that
//! was over before the engine heard of it is still told, since sessions count their failures. The decisions are
//! `tortie-bfd`'s; what a failure does to a BGP session is the speaker's.

mod forward;
mod metrics;
mod socket;
mod task;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tortie_bfd::{Hops, Key, View};
use tortie_bgp::speaker::{BfdKey, BfdSpec};

pub(crate) use forward::forward;

use crate::engine::Clock;

/// How long the thread may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

/// A session as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The `protocol bfd` it belongs to.
    pub(crate) protocol: Arc<str>,
    pub(crate) view: View,
}

#[cfg(test)]
impl Seen {
    /// A session in this state, for tests.
    fn played(key: Key, state: tortie_bfd::State, failures: u64) -> Self {
        let view = View {
            key,
            state,
            remote_state: None,
            diagnostic: tortie_bfd::Diagnostic::NONE,
            since: Duration::ZERO,
            interval: None,
            timeout: None,
            failures,
            control_plane_independent: true,
        };
        let protocol = "bfd1".into();
        Seen { protocol, view }
    }
}

/// All of them, by protocol and peer.
pub(crate) type Sessions = Arc<Vec<Seen>>;

/// How the program talks to the thread.
#[derive(Debug, Clone)]
pub(crate) struct Bfd {
    wanted: watch::Sender<Arc<Vec<BfdSpec>>>,
    sessions: watch::Receiver<Sessions>,
    stop: Arc<Mutex<Option<Stop>>>,
}

/// Asks the thread to end; answered when the peers are told.
type Stop = oneshot::Sender<oneshot::Sender<()>>;

impl Bfd {
    /// Starts the thread. No socket is opened before a session is wanted.
    ///
    /// # Errors
    /// The system's, when there can be no thread.
    pub(crate) fn start(clock: Clock) -> io::Result<Self> {
        let (wanted, wanted_receiver) = watch::channel(Arc::new(Vec::new()));
        let (sessions_sender, sessions) = watch::channel(Sessions::default());
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let task = task::Task::new(clock, wanted_receiver, sessions_sender);
        std::thread::Builder::new()
            .name("bfd".to_owned())
            .spawn(move || runtime.block_on(task.run(stopped)))?;
        Ok(Bfd {
            wanted,
            sessions,
            stop: Arc::new(Mutex::new(Some(stop))),
        })
    }

    /// Replaces what is wanted.
    pub(crate) fn want(&self, specs: Vec<BfdSpec>) {
        self.wanted.send_replace(Arc::new(specs));
    }

    /// The sessions as they are now, at most a second old.
    pub(crate) fn sessions(&self) -> Sessions {
        self.sessions.borrow().clone()
    }

    /// Follows the sessions.
    fn follow(&self) -> watch::Receiver<Sessions> {
        self.sessions.clone()
    }

    /// Tells the peers that the end of this process says nothing about the paths, and ends the thread.
    pub(crate) async fn stop(&self) {
        let stop = self.stop.lock().ok().and_then(|mut stop| stop.take());
        let (told, hear) = oneshot::channel();
        let asked = stop.is_some_and(|stop| stop.send(told).is_ok());
        if asked && tokio::time::timeout(GOODBYE, hear).await.is_err() {
            tracing::debug!("BFD peers were not told of the end in time");
        }
    }
}

/// The speaker's name of a session as the sessions' own.
fn key(key: &BfdKey) -> Key {
    Key {
        peer: key.peer,
        local: key.local,
        interface: key.interface.clone(),
        hops: if key.interface.is_some() {
            Hops::Single
        } else {
            Hops::Multiple
        },
    }
}

/// And back.
fn bfd_key(key: &Key) -> BfdKey {
    BfdKey {
        peer: key.peer,
        local: key.local,
        interface: key.interface.clone(),
    }
}
