//! Keeping something of this node's interfaces as it is wanted: tunnel devices, the addresses of workloads' interfaces.
//!
//! The kernel is compared with what is wanted at every change of either, and from time to time; nothing depends on what was
//! done before, so a restart changes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tortie_netlink::touch::{Touched, Touches};

use crate::dataplane::until;

/// Who looks at the kernel and changes it.
pub(crate) trait Keeper: Default + Send + 'static {
    /// What is wanted.
    type Wanted: Send + Sync + 'static;
    /// How it stands.
    type Status: PartialEq;

    /// Makes the kernel what is wanted, as far as it lets. Blocks.
    fn pass(&mut self, wanted: &Self::Wanted);

    /// How it stands after that.
    fn status(&self) -> Self::Status;

    /// When to pass again although nothing changed.
    fn next_deadline(&self) -> Option<Instant>;

    /// How often the kernel is looked at although it told nothing; `None`: never.
    fn refresh(wanted: &Self::Wanted) -> Option<Duration>;

    /// May what changed in the kernel be of what is kept, or of what that follows?
    fn concerns(&self, touched: &Touched, wanted: &Self::Wanted) -> bool;
}

/// Keeps it so until the token is cancelled. Nothing is undone at the end.
pub(crate) async fn keep<K: Keeper>(
    mut wanted: watch::Receiver<Arc<K::Wanted>>,
    mut touches: Touches,
    status: watch::Sender<K::Status>,
    token: CancellationToken,
) {
    let work = async {
        let mut keeper = K::default();
        loop {
            let shall = Arc::clone(&wanted.borrow_and_update());
            let asked = Arc::clone(&shall);
            let passed = tokio::task::spawn_blocking(move || {
                keeper.pass(&asked);
                keeper
            });
            // A panic in there is a defect; felix ends with this task, and what is in the kernel stays.
            let Ok(after) = passed.await else { return };
            keeper = after;
            let now = keeper.status();
            status.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
            let audit = K::refresh(&shall).map(|interval| Instant::now() + interval);
            let next = keeper.next_deadline().into_iter().chain(audit).min();
            let next = next.map(tokio::time::Instant::from_std);
            loop {
                tokio::select! {
                    changed = wanted.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    touched = touches.next() => match touched {
                        Ok(touched) if keeper.concerns(&touched, &shall) => break,
                        Ok(_) => {}
                        Err(error) => {
                            tracing::error!(%error, "the kernel's interfaces cannot be followed");
                            return;
                        }
                    },
                    () = until(next) => break,
                }
            }
        }
    };
    token.run_until_cancelled(work).await;
}
