//! Garbage collection of addresses and blocks: `tortie-ipam`'s judgement, shown the cluster and carried out.
//!
//! | task | number | in | out |
//! |---|---|---|---|
//! | `own` | 1 | this node's state, the kernel's routes | releases of what this node lost |
//! | [`leader`] | 1 | the lease; the whole of IPAM, when it holds it | releases of what nodes left that are gone |
//!
//! A node judges its own addresses, because it alone knows what runs on it: an address that the kernel still routes to a
//! workload is never released, whatever the datastore says. What nodes left behind that no longer exist, one felix of the
//! cluster collects: the one that holds the lease `ipam-gc`.

mod leader;
mod remains;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use tortie_ipam::{
    Garbage, IpamError, Plan, Scope, Setting, View, Watch, delete_empty_handle, is_enabled, release_affinity,
    release_affinity_of_gone, release_leaked, sweep_block,
};
use tortie_ipam_client::{cluster, drive};
use tortie_model::resource::IpPool;
use tortie_model::{Key, Kind, Owner};
use tortie_net::{NodeName, Prefix};
use tortie_netlink::route::{Filter, Netlink};
use tortie_typha_client::Store;

use crate::endpoint::Parts;
use crate::state::{Source, State, StateHandle};

/// How often this node looks at its own addresses, unless the grace time is so short that it must look more often.
const ROUND_MAX: Duration = Duration::from_secs(60);
const ROUND_MIN: Duration = Duration::from_millis(500);
/// Looks within one grace time.
const LOOKS: u32 = 5;

/// What garbage collection works with.
#[derive(Debug, Clone)]
pub struct Collector {
    /// This node.
    pub node: NodeName,
    /// Where IPAM's documents are.
    pub store: Store,
    /// What is known of the cluster.
    pub state: StateHandle,
    /// How long an address may be without its workload; zero: nothing is ever collected.
    pub grace: Duration,
}

impl Collector {
    /// With what the endpoint service works with.
    pub fn of(parts: &Parts, grace: Duration) -> Self {
        Collector {
            node: parts.node.clone(),
            store: parts.store.clone(),
            state: parts.state.clone(),
            grace,
        }
    }

    /// Starts both tasks. They end with the token.
    pub fn start(self, token: &CancellationToken) {
        if self.grace.is_zero() {
            tracing::info!("garbage collection of addresses is off");
            return;
        }
        let stop = token.clone();
        let own = self.clone();
        tokio::spawn(async move { stop.run_until_cancelled(own.collect_own()).await });
        let stop = token.clone();
        tokio::spawn(async move { stop.run_until_cancelled(leader::run(self)).await });
    }

    fn watch(&self) -> Watch {
        Watch::new(SignedDuration::try_from(self.grace).unwrap_or(tortie_ipam::DEFAULT_GRACE))
    }

    /// Between two looks.
    fn round(&self) -> Duration {
        (self.grace / LOOKS).clamp(ROUND_MIN, ROUND_MAX)
    }

    async fn collect_own(self) {
        let mut watch = self.watch();
        loop {
            tokio::time::sleep(self.round()).await;
            let state = self.state.current();
            // Only typha's word counts: a state from disk may be long past.
            if state.source == Source::Typha && is_ready(&state) && state.node.is_some() {
                let garbage = look(&self.node, &state, &mut watch);
                self.collect(garbage).await;
            }
        }
    }

    /// Undoes what was found, one by one; what fails is found again.
    async fn collect(&self, garbage: Vec<Garbage>) {
        if garbage.is_empty() {
            return;
        }
        let setting = match cluster::setting(&self.store, self.node.clone(), Timestamp::now()).await {
            Ok(setting) => setting,
            Err(error) => return tracing::warn!(%error, "garbage collection postponed"),
        };
        let routed = match tokio::task::spawn_blocking(routed).await {
            Ok(Ok(routed)) => routed,
            Ok(Err(error)) => return tracing::warn!(%error, "garbage collection postponed"),
            Err(error) => return tracing::warn!(%error, "garbage collection postponed"),
        };
        for found in garbage {
            if let Garbage::Leaked { handle, addresses } = &found
                && let Some(leak) = addresses.iter().find(|l| routed.contains(&l.ip))
            {
                tracing::warn!(%handle, address = %leak.ip, "an address without a record is in use here: it stays");
                continue;
            }
            if let Err(error) = self.collect_one(&setting, &found).await {
                tracing::warn!(?found, %error, "garbage not collected");
            }
        }
    }

    async fn collect_one(&self, setting: &Setting, found: &Garbage) -> Result<(), IpamError> {
        let setting = setting.clone();
        let flag = |plan: Plan<Result<bool, IpamError>>| drive(&self.store, plan);
        match found.clone() {
            Garbage::Leaked { handle, addresses } => {
                let released = drive(&self.store, release_leaked(setting, handle.clone(), addresses)).await?;
                tracing::info!(%handle, ?released, "leaked addresses released");
            }
            Garbage::EmptyHandle(handle) => {
                if flag(delete_empty_handle(handle.clone())).await? {
                    tracing::info!(%handle, "handle without addresses deleted");
                }
            }
            Garbage::IdleBlock(node, block) => {
                if flag(release_affinity(setting, Owner::Host(node), block)).await? {
                    tracing::info!(%block, "idle block given up");
                }
            }
            Garbage::GoneClaim(node, block) => {
                if flag(release_affinity_of_gone(setting, node.clone(), block)).await? {
                    tracing::info!(%node, %block, "abandoned claim released");
                }
            }
            Garbage::Unswept(block) => {
                flag(sweep_block(setting, block)).await?;
            }
        }
        Ok(())
    }
}

/// Nobody said that nothing may be changed.
fn is_ready(state: &State) -> bool {
    let said = state.cluster.as_ref().and_then(|c| c.value.spec.datastore_ready);
    said != Some(false)
}

/// May the node have new addresses of this block?
fn is_pooled(pools: &[&IpPool], labels: &std::collections::BTreeMap<String, String>, block: Prefix) -> bool {
    let of = |p: &&&IpPool| p.spec.cidr.covers(block) && is_enabled(p) && p.spec.selects_node(labels);
    pools.iter().any(|p| of(&p))
}

/// What this node sees of its own.
fn look(node: &NodeName, state: &State, watch: &mut Watch) -> Vec<Garbage> {
    let unreadable: Vec<Key> = state.unreadable.keys().filter_map(|k| k.parse().ok()).collect();
    // An endpoint that cannot be read may have any address.
    let unsure = unreadable.iter().any(|k| k.kind() == Some(Kind::WorkloadEndpoint));
    let live: BTreeSet<IpAddr> = state
        .endpoints
        .values()
        .flat_map(|w| w.value.spec.ip_networks.iter().map(|p| p.addr()))
        .collect();
    let empty = std::collections::BTreeMap::new();
    let labels = state.node.as_ref().map_or(&empty, |n| &n.value.metadata.labels);
    let pools: Vec<&IpPool> = state.pools.values().map(|p| &*p.value).collect();
    let view = View {
        now: Timestamp::now(),
        blocks: state
            .blocks
            .values()
            .chain(state.borrowed.values())
            .map(|b| &*b.value)
            .collect(),
        affinities: state
            .affinities
            .keys()
            .map(|b| (Owner::Host(node.clone()), *b))
            .collect(),
        handles: Vec::new(),
        unreadable: blocks_of(&unreadable),
        is_live: &|ip| unsure || live.contains(&ip),
        is_pooled: &|_, block| is_pooled(&pools, labels, block),
    };
    watch.look(&Scope::Node(node.clone()), &view)
}

fn blocks_of(keys: &[Key]) -> BTreeSet<Prefix> {
    let block = |k: &Key| match k {
        Key::Block(cidr) => Some(*cidr),
        _ => None,
    };
    keys.iter().filter_map(block).collect()
}

/// The addresses to which the kernel has a route of their own to a workload's interface.
fn routed() -> Result<BTreeSet<IpAddr>, tortie_netlink::route::KernelError> {
    use tortie_netlink::route::Kernel as _;
    let mut kernel = Netlink::open()?;
    let interfaces = kernel.interfaces()?;
    let is_workload = |index| {
        interfaces
            .iter()
            .any(|i| i.index == index && i.name.starts_with("cali"))
    };
    let routes = kernel.routes_where(Filter::MAIN, |r| r.prefix.is_host() && r.interfaces().any(is_workload))?;
    Ok(routes.into_iter().map(|r| r.prefix.addr()).collect())
}
