//! What changes the cluster: writes through typha's store, on a thread of its own.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::Semaphore;
use tortie_kit::address::ServiceAddr;
use tortie_proto::common::Hello;
use tortie_typha_client::Store;

use super::cluster::node;

/// Writes on their way at once.
const AT_ONCE: usize = 32;

/// A write that was done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    /// When it was asked for.
    pub(crate) asked: Instant,
    /// When it was answered: it is in the datastore then.
    pub(crate) answered: Instant,
    /// Which revision it made.
    pub(crate) revision: u64,
}

/// How many writes, of which.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) per_second: u32,
    pub(crate) count: u32,
    /// The first one's number: no two write the same.
    pub(crate) first: u32,
    /// Documents that are written in turn.
    pub(crate) nodes: u32,
}

/// Asks for writes, evenly; each is given once it is done.
///
/// # Errors
/// When there is no runtime to be had.
pub(crate) fn writes(
    socket: &Path,
    load: Load,
) -> Result<(mpsc::Receiver<Result<Written>>, std::thread::JoinHandle<()>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let addr = ServiceAddr::Unix(socket.to_owned());
    let (done, written) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        runtime.block_on(async {
            let store = Store::new(addr, Hello::new("bench", "", "1"));
            let permits = std::sync::Arc::new(Semaphore::new(AT_ONCE));
            let mut pace = tokio::time::interval(Duration::from_secs(1) / load.per_second);
            let mut all = tokio::task::JoinSet::new();
            for n in load.first..load.first + load.count {
                pace.tick().await;
                let Ok(permit) = std::sync::Arc::clone(&permits).acquire_owned().await else {
                    return;
                };
                let (store, done) = (store.clone(), done.clone());
                all.spawn(async move {
                    let asked = Instant::now();
                    let (key, document) = node(n % load.nodes, 1 + n / load.nodes);
                    let put = store.put(&key, document.to_string()).await;
                    drop(permit);
                    let written = put.map(|w| Written {
                        asked,
                        answered: Instant::now(),
                        revision: w.revision,
                    });
                    // Whoever asked may be gone.
                    let _ = done.send(written.context("write"));
                });
            }
            drop(done);
            all.join_all().await;
        });
    });
    Ok((written, thread))
}
