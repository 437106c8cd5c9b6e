//! Tables of nftables: translation of what leaves the pools, and the filter of packets that come through tunnels.
//!
//! | task | in | out |
//! |---|---|---|
//! | [`run`] | what the datastore wants (latest value), hints from the kernel | [`Status`] (latest value) |
//!
//! A table is ours by its name, and written as a whole in one transaction; the kernel is compared with what is wanted at
//! every change of either, and from time to time. Nothing depends on what was done before, so a restart changes nothing.
//! Tables of others are neither read nor written. At the end nothing is undone.

mod driver;
mod plan;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tortie_netlink::nft::{Changes, Nft, Tables};

use driver::{Driver, Open};

use crate::dataplane::until;

pub use driver::Status;
pub use plan::Wanted;

/// How often the kernel is compared with what is wanted when it does not tell.
const BLIND_INTERVAL: Duration = Duration::from_secs(10);

/// The kernel's tables, and who tells of their changes.
pub struct Kernel<T> {
    open: Open<T>,
    changes: Option<Changes>,
}

/// The real kernel, of the calling thread's network namespace. One without nftables is found out when it is needed.
pub fn kernel() -> Kernel<Nft> {
    let changes = Changes::open(plan::OURS);
    if let Err(error) = &changes {
        tracing::warn!(%error, "changes of nftables cannot be followed, looking now and then");
    }
    Kernel {
        open: Box::new(Nft::open),
        changes: changes.ok(),
    }
}

/// Keeps the tables as wanted until the token is cancelled.
pub async fn run<T: Tables>(
    mut wanted: watch::Receiver<Arc<Wanted>>,
    mut kernel: Kernel<T>,
    status: watch::Sender<Arc<Status>>,
    token: CancellationToken,
) {
    let work = async {
        let mut driver = Driver::new(kernel.open);
        loop {
            let shall = Arc::clone(&wanted.borrow_and_update());
            let refresh = shall.settings.refresh.tables;
            let passed = tokio::task::spawn_blocking(move || {
                driver.pass(&shall, Instant::now());
                driver
            });
            // A panic in there is a defect; felix ends with this task, and its tables stay.
            let Ok(after) = passed.await else { return };
            driver = after;
            status.send_if_modified(|before| {
                let changed = **before != driver.status;
                if changed {
                    *before = Arc::new(driver.status.clone());
                }
                changed
            });
            let blind = kernel.changes.is_none().then_some(BLIND_INTERVAL);
            let audit = refresh
                .into_iter()
                .chain(blind)
                .min()
                .map(|interval| Instant::now() + interval);
            let next = driver.next_deadline().into_iter().chain(audit).min();
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                told = changed(&mut kernel.changes) => if let Err(error) = told {
                    tracing::error!(%error, "changes of nftables cannot be followed any more, looking now and then");
                    kernel.changes = None;
                },
                () = until(next.map(Into::into)) => {}
            }
        }
    };
    token.run_until_cancelled(work).await;
}

/// Waits for a change; for ever when nobody tells.
async fn changed(changes: &mut Option<Changes>) -> std::io::Result<()> {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}
