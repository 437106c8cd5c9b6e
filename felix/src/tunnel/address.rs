//! The addresses of this node's tunnel devices: taken from the pools that want the tunnel, written to the node's record,
//! given back when no pool wants it and the device is gone.
//!
//! Handles and attributes are Calico's, so that whoever allocated first, this task finds what is there. Nothing is done
//! before typha itself has spoken: what a snapshot on disk says may have changed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tortie_calc::{Pool as CalcPool, Tunnel};
use tortie_ipam::{Pool, PoolQuery, choose};
use tortie_model::resource::{AllowedUse, IpPoolSpec};
use tortie_model::{Key, Kind};
use tortie_net::NodeName;
use tortie_typha_client::{Store, StoreError};

use super::Status;
use crate::ipam::{Failure, Ipam};
use crate::state::{Source, State, StateHandle};

/// The first delay after a failure.
const RETRY_MIN: Duration = Duration::from_millis(250);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How often a write of the node's record that lost against another is tried again at once.
const ATTEMPTS: usize = 10;

/// What the task works with.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    pub(crate) node: NodeName,
    pub(crate) ipam: Ipam,
    pub(crate) store: Store,
    pub(crate) state: StateHandle,
    pub(crate) status: watch::Receiver<Arc<Status>>,
}

/// One tunnel: which pools want it, and what address the node's record has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Demand {
    tunnel: Tunnel,
    pools: Vec<String>,
    stored: Option<IpAddr>,
}

fn demand(state: &State) -> Vec<Demand> {
    let node = state.node.as_ref().map(|n| &*n.value);
    let demand = |tunnel| Demand {
        tunnel,
        pools: state
            .pools
            .iter()
            .filter(|(_, p)| wants(&p.value.spec, tunnel))
            .map(|(name, _)| name.clone())
            .collect(),
        stored: node.and_then(|n| managed(tunnel).address(&n.spec)),
    };
    match (state.source, node) {
        (Source::Typha, Some(_)) => Tunnel::ALL.map(demand).to_vec(),
        _ => Vec::new(),
    }
}

fn wants(pool: &IpPoolSpec, tunnel: Tunnel) -> bool {
    CalcPool::of(pool).tunnel().is_some_and(|(t, _)| t == tunnel)
}

/// As address management knows it: with the handle, the attributes and the field that Calico gives it.
fn managed(tunnel: Tunnel) -> tortie_ipam::Tunnel {
    match tunnel {
        Tunnel::Ipip => tortie_ipam::Tunnel::Ipip,
        Tunnel::VxlanV4 => tortie_ipam::Tunnel::VxlanV4,
        Tunnel::VxlanV6 => tortie_ipam::Tunnel::VxlanV6,
    }
}

/// Puts the address in its place in a Node's JSON, or takes it out. `false` when it is so already.
fn put(node: &mut Value, tunnel: Tunnel, address: Option<IpAddr>) -> bool {
    let (parent, field) = match tunnel {
        Tunnel::Ipip => ("/spec/bgp", "ipv4IPIPTunnelAddr"),
        Tunnel::VxlanV4 => ("/spec", "ipv4VXLANTunnelAddr"),
        Tunnel::VxlanV6 => ("/spec", "ipv6VXLANTunnelAddr"),
    };
    let Some(Value::Object(fields)) = node.pointer_mut(parent) else {
        return false;
    };
    let shall = address.map(|a| Value::from(a.to_string()));
    if fields.get(field) == shall.as_ref() {
        return false;
    }
    match shall {
        Some(text) => fields.insert(field.to_owned(), text),
        None => fields.remove(field),
    };
    true
}

impl Addresses {
    /// Keeps the addresses as wanted until the token is cancelled.
    pub(crate) async fn run(mut self, token: CancellationToken) {
        let work = async {
            // What was found to be right in this life.
            let mut right = BTreeMap::new();
            let mut delay = RETRY_MIN;
            loop {
                let state = self.state.current();
                let demands = demand(&state);
                let devices = self.status.borrow_and_update().devices.clone();
                let mut failed = false;
                for demand in &demands {
                    let there = devices.contains(&demand.tunnel) && demand.tunnel != Tunnel::Ipip;
                    if let Err(error) = self.settle(&state, demand, there, &mut right).await {
                        let device = demand.tunnel.device();
                        tracing::warn!(device, %error, "no address for a tunnel device, trying again");
                        failed = true;
                    }
                }
                let retry = if failed { delay } else { Duration::MAX };
                delay = if failed { (delay * 2).min(RETRY_MAX) } else { RETRY_MIN };
                let handle = self.state.clone();
                tokio::select! {
                    _ = handle.wait_for(|s| demand(s) != demands) => {}
                    changed = self.status.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(retry) => {}
                }
            }
        };
        token.run_until_cancelled(work).await;
    }

    async fn settle(
        &self,
        state: &State,
        demand: &Demand,
        device_is_there: bool,
        right: &mut BTreeMap<Tunnel, (Vec<String>, IpAddr)>,
    ) -> Result<(), Failure> {
        let (tunnel, stored) = (demand.tunnel, demand.stored);
        if demand.pools.is_empty() {
            right.remove(&tunnel);
            return match stored {
                Some(_) if !device_is_there => self.give_back(tunnel, stored).await,
                _ => Ok(()),
            };
        }
        if right
            .get(&tunnel)
            .is_some_and(|(p, a)| *p == demand.pools && Some(*a) == stored)
        {
            return Ok(());
        }
        let address = self.take(state, demand).await?;
        if stored != Some(address) {
            self.write(tunnel, Some(address)).await?;
            tracing::info!(device = tunnel.device(), %address, "tunnel address");
        }
        right.insert(tunnel, (demand.pools.clone(), address));
        Ok(())
    }

    /// The address that is ours already, the one in the record if it can be ours, or a new one.
    async fn take(&self, state: &State, demand: &Demand) -> Result<IpAddr, Failure> {
        let tunnel = managed(demand.tunnel);
        let handle = tunnel.handle(&self.node);
        let networks = demand.pools.iter().filter_map(|n| state.pools.get(n));
        let networks: Vec<_> = networks.map(|p| p.value.spec.cidr).collect();
        let fits = |ip: &IpAddr| networks.iter().any(|n| n.contains(*ip));
        let held = self.ipam.addresses(&handle).await?;
        let stored = demand.stored.filter(|ip| fits(ip));
        if let Some(ip) = stored
            .filter(|ip| held.contains(ip))
            .or(held.iter().copied().find(fits))
        {
            return Ok(ip);
        }
        if !held.is_empty() {
            // Of a pool that wants the tunnel no longer.
            self.ipam.release(&handle).await?;
        }
        if let Some(ip) = stored
            && self.ipam.assign_ip(ip, tunnel.want(&self.node)).await.is_ok()
        {
            return Ok(ip);
        }
        let pools = self.pools(state, demand)?;
        self.ipam.assign_from(pools, tunnel.want(&self.node)).await
    }

    fn pools(&self, state: &State, demand: &Demand) -> Result<Vec<Pool>, Failure> {
        let none = BTreeMap::new();
        let query = PoolQuery {
            node: &self.node,
            family: managed(demand.tunnel).family(),
            named: &[],
            node_labels: state.node.as_ref().map_or(&none, |n| &n.value.metadata.labels),
            namespace_labels: &none,
            usage: AllowedUse::Tunnel,
        };
        let pools = state.pools.values().map(|p| &*p.value);
        Ok(choose(pools.filter(|p| wants(&p.spec, demand.tunnel)), &query)?)
    }

    async fn give_back(&self, tunnel: Tunnel, stored: Option<IpAddr>) -> Result<(), Failure> {
        let handle = managed(tunnel).handle(&self.node);
        let held = self.ipam.addresses(&handle).await?;
        // An address that an operator wrote there is the operator's.
        if stored.is_some_and(|ip| held.contains(&ip)) {
            self.write(tunnel, None).await?;
        }
        if !held.is_empty() {
            self.ipam.release(&handle).await?;
            tracing::info!(device = tunnel.device(), "tunnel address given back");
        }
        Ok(())
    }

    async fn write(&self, tunnel: Tunnel, address: Option<IpAddr>) -> Result<(), Failure> {
        let key = Key::resource(Kind::Node, None, self.node.as_str()).to_string();
        let failed = |e: StoreError| match e {
            StoreError::Unavailable(_) => Failure::TryLater(e.to_string()),
            _ => Failure::Refused(e.to_string()),
        };
        for _ in 0..ATTEMPTS {
            let entry = self.store.get(&key).await.map_err(failed)?;
            let mut node: Value =
                serde_json::from_slice(&entry.value).map_err(|e| Failure::Refused(format!("{key}: {e}")))?;
            if !put(&mut node, tunnel, address) {
                return Ok(());
            }
            match self.store.update(&key, node.to_string(), entry.revision).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict(_)) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Err(Failure::TryLater(format!("{key} is written by others all the time")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_in_its_place_and_nothing_else_changed() {
        let before = json!({"kind": "Node", "spec": {"bgp": {"ipv4Address": "10.0.0.1/24", "x": 1}, "y": [2]}});
        let mut node = before.clone();
        let ip = |s: &str| Some(s.parse().unwrap());
        assert!(put(&mut node, Tunnel::VxlanV4, ip("10.244.0.1")));
        assert!(!put(&mut node, Tunnel::VxlanV4, ip("10.244.0.1")));
        assert!(put(&mut node, Tunnel::Ipip, ip("10.244.0.2")));
        assert!(put(&mut node, Tunnel::VxlanV6, ip("fd00::1")));
        assert_eq!(node["spec"]["bgp"]["ipv4IPIPTunnelAddr"], "10.244.0.2");
        assert_eq!(node["spec"]["ipv4VXLANTunnelAddr"], "10.244.0.1");
        assert_eq!(node["spec"]["ipv6VXLANTunnelAddr"], "fd00::1");
        for tunnel in Tunnel::ALL {
            assert!(put(&mut node, tunnel, None));
        }
        assert_eq!(node, before);
        let mut without = json!({"kind": "Node", "spec": {}});
        assert!(!put(&mut without, Tunnel::Ipip, ip("10.244.0.2")), "it speaks no BGP");
    }
}
