//! Tunnel devices: `vxlan.calico`, `vxlan-v6.calico` and `tunl0`, with their addresses, MTU, neighbours and forwarding.
//!
//! | task | in | out |
//! |---|---|---|
//! | `run` | what the datastore wants (latest value), hints from the kernel | [`Status`] (latest value) |
//! | `address` | the state, the status | tunnel addresses in the node's record, by way of IPAM |
//!
//! Routes through the devices are the dataplane's: it sees the devices come and go as it sees every other interface. Here
//! the kernel is compared with what is wanted at every change of either, and from time to time; nothing depends on what
//! was done before, so a restart changes nothing.

pub(crate) mod address;
mod driver;
pub(crate) mod mtu;
mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tortie_calc::{Desired, Pool, Tunnel};
use tortie_netlink::touch::{Touched, Touches};

use driver::Driver;
pub use driver::Status;
pub use plan::Wanted;

use crate::dataplane::until;
use crate::state::State;

impl Wanted {
    /// What is wanted by these documents. `live`: the datastore was in sync.
    pub fn of(desired: &Desired, live: bool) -> Self {
        let uses = |tunnel: &Tunnel| desired.settings.ipv6 || *tunnel != Tunnel::VxlanV6;
        Wanted {
            known: true,
            live,
            tunnels: desired
                .tunnels
                .iter()
                .filter(|(t, _)| uses(t))
                .map(|(t, l)| (*t, *l))
                .collect(),
            vteps: desired.vteps.clone(),
            own: desired.node_addresses.iter().map(|a| a.addr).collect(),
            pools: desired.pools.values().map(|p| p.cidr).collect(),
            settings: desired.settings.clone(),
        }
    }
}

/// The tunnels that pools send packets through, and what their devices are told to carry.
pub(crate) fn in_use(state: &State) -> BTreeMap<Tunnel, Option<u32>> {
    let tunnels = state.pools.values().filter_map(|p| Pool::of(&p.value.spec).tunnel());
    tunnels
        .map(|(tunnel, _)| (tunnel, state.settings.mtu(tunnel)))
        .collect()
}

/// Keeps the devices as wanted until the token is cancelled. Nothing is undone at the end.
pub(crate) async fn run(
    mut wanted: watch::Receiver<Arc<Wanted>>,
    mut touches: Touches,
    status: watch::Sender<Arc<Status>>,
    token: CancellationToken,
) {
    let work = async {
        let mut driver = Driver::default();
        loop {
            let shall = Arc::clone(&wanted.borrow_and_update());
            let asked = Arc::clone(&shall);
            let passed = tokio::task::spawn_blocking(move || {
                driver.pass(&asked);
                driver
            });
            // A panic in there is a defect; felix ends with this task, and its routes stay.
            let Ok(after) = passed.await else { return };
            driver = after;
            status.send_if_modified(|before| {
                let changed = **before != driver.status;
                if changed {
                    *before = Arc::new(driver.status.clone());
                }
                changed
            });
            let audit = shall
                .settings
                .refresh
                .interfaces
                .map(|interval| Instant::now() + interval);
            let next = driver
                .next_deadline()
                .map(Instant::from_std)
                .into_iter()
                .chain(audit)
                .min();
            loop {
                tokio::select! {
                    changed = wanted.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    touched = touches.next() => match touched {
                        Ok(touched) if concerns(&touched, &shall, &driver) => break,
                        Ok(_) => {}
                        Err(error) => {
                            tracing::error!(%error, "the kernel's links cannot be followed");
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

/// May what changed be of a tunnel device, of what it stands on, or of what its MTU follows?
fn concerns(touched: &Touched, wanted: &Wanted, driver: &Driver) -> bool {
    let named = |n: &String| mtu::is_card(n) || Tunnel::ALL.iter().any(|t| t.device() == n);
    touched.anything
        || touched.names.iter().any(named)
        || touched.addresses.iter().any(|a| wanted.own.contains(a))
        || touched.interfaces.iter().any(|i| driver.interest.contains(i))
}
