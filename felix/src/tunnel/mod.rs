//! Tunnel devices: `vxlan.calico`, `vxlan-v6.calico` and `tunl0`, with their addresses, MTU, neighbours and forwarding.
//!
//! | task | in | out |
//! |---|---|---|
//! | `Driver`, kept as `links.rs` says | what the datastore wants (latest value), hints from the kernel | [`Status`] (latest value) |
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

use tortie_calc::{Desired, Pool, Tunnel};

pub(crate) use driver::Driver;
pub use driver::Status;
pub use plan::Wanted;

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
