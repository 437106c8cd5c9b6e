//! Keeps the address of a node's tunnel device: in IPAM, and in its Node.
//!
//! IPAM first, the Node after it: what a crash leaves between the two is under the tunnel's handle, and the next call
//! takes it up. An address that is still good is never changed.

use std::net::IpAddr;

use tortie_ipam::{IpamError, Pool, Setting, Tunnel, addresses_of_handle, auto_assign, release_handle, release_others};
use tortie_model::resource::{IpPool, Node};
use tortie_model::{Key, Kind, Object};
use tortie_typha_client::{Store, StoreError};

use crate::cluster::{ReadError, object};
use crate::drive;

/// How often the Node is read again when others write it meanwhile.
const ATTEMPTS: u32 = 8;

/// What became of a tunnel's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is what it was: this, or none.
    Same(Option<IpAddr>),
    /// It is another one now, or gone.
    Changed {
        /// What the Node had.
        from: Option<IpAddr>,
        /// What it has.
        to: Option<IpAddr>,
    },
}

/// Why a tunnel has not the address it should have.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The Node cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The Node cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No address.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// The node was removed.
    #[error("Node({0}) does not exist")]
    NoNode(String),
    /// Others write the Node all the time.
    #[error("Node({0}) was changed by others {ATTEMPTS} times while it was being written")]
    Contended(String),
}

/// Sees to it that the node of `setting` has an address for the tunnel exactly when a pool of `pools` asks for one.
///
/// # Errors
/// [`TunnelError`].
pub async fn keep(store: &Store, setting: &Setting, pools: &[IpPool], tunnel: Tunnel) -> Result<Kept, TunnelError> {
    let key = Key::resource(Kind::Node, None, setting.node.as_str());
    for _ in 0..ATTEMPTS {
        let Some((Object::Node(node), revision)) = object(store, &key).await? else {
            return Err(TunnelError::NoNode(setting.node.to_string()));
        };
        let usable = tunnel.pools(pools, &setting.node, &node.metadata.labels);
        let from = tunnel.address(&node.spec);
        let to = address(store, setting, &usable, tunnel, from).await?;
        if from == to {
            return Ok(Kept::Same(to));
        }
        let mut changed = (*node).clone();
        tunnel.set_address(&mut changed.spec, to);
        match write(store, &key, &changed, revision).await {
            Ok(()) => return Ok(Kept::Changed { from, to }),
            Err(StoreError::Conflict(_) | StoreError::NotFound(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(TunnelError::Contended(setting.node.to_string()))
}

/// The address to have: the present one while it is good, else one that the handle has, else a new one.
async fn address(
    store: &Store,
    setting: &Setting,
    usable: &[Pool],
    tunnel: Tunnel,
    present: Option<IpAddr>,
) -> Result<Option<IpAddr>, IpamError> {
    let handle = tunnel.handle(&setting.node);
    let own = drive(store, addresses_of_handle(handle.clone())).await?;
    let in_pool = |ip: &IpAddr| usable.iter().find(|p| p.cidr.contains(*ip));
    let good = |ip: &IpAddr| own.contains(ip) && in_pool(ip).is_some();
    let chosen = present
        .filter(|p| good(p))
        .or_else(|| own.iter().find(|ip| good(ip)).copied());
    let Some(chosen) = chosen else {
        if !own.is_empty() {
            drive(store, release_handle(setting.clone(), handle)).await?;
        }
        if usable.is_empty() {
            return Ok(None);
        }
        let wants = vec![tunnel.want(&setting.node)];
        let given = drive(store, auto_assign(setting.clone(), usable.to_vec(), wants)).await?;
        return match (given.addresses.first(), given.shortage) {
            (Some(ip), _) => Ok(Some(*ip)),
            (None, Some(shortage)) => Err(IpamError::Full(shortage)),
            (None, None) => Ok(None),
        };
    };
    if own.len() > 1 {
        // Two calls met, or a pool was exchanged in between.
        drive(store, release_others(setting.clone(), handle, vec![chosen])).await?;
    }
    Ok(Some(chosen))
}

async fn write(store: &Store, key: &Key, node: &Node, revision: u64) -> Result<(), StoreError> {
    let json = serde_json::to_vec(node).map_err(|e| StoreError::Invalid(format!("{}: {e}", key.object_name())))?;
    store.update(&key.to_string(), json, revision).await.map(|_| ())
}
