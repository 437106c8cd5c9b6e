//! What the decisions depend on, read from the store.

use jiff::Timestamp;
use tortie_ipam::Setting;
use tortie_model::resource::{IpPool, Node};
use tortie_model::{DecodeError, Key, Kind, Object, decode};
use tortie_net::NodeName;
use tortie_typha_client::{Store, StoreError};

/// A read that gave nothing to decide upon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store did not answer, or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored cannot be read.
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
}

/// The document of a key and its revision. `None`: it does not exist.
///
/// # Errors
/// [`ReadError`].
pub async fn object(store: &Store, key: &Key) -> Result<Option<(Object, u64)>, ReadError> {
    match store.get(&key.to_string()).await {
        Ok(entry) => Ok(Some((decode(key, &entry.value)?, entry.revision))),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Every document of a kind.
///
/// # Errors
/// [`ReadError`].
pub async fn objects(store: &Store, kind: Kind) -> Result<Vec<Object>, ReadError> {
    let listing = store.list(&Key::collection(kind)).await?;
    let mut objects = Vec::new();
    for entry in listing.entries {
        let Ok(key) = entry.key.parse::<Key>() else { continue };
        objects.push(decode(&key, &entry.value)?);
    }
    Ok(objects)
}

/// Every pool.
///
/// # Errors
/// [`ReadError`].
pub async fn pools(store: &Store) -> Result<Vec<IpPool>, ReadError> {
    let pool = |object| match object {
        Object::IpPool(pool) => Some(*pool),
        _ => None,
    };
    Ok(objects(store, Kind::IpPool)
        .await?
        .into_iter()
        .filter_map(pool)
        .collect())
}

/// Every node.
///
/// # Errors
/// [`ReadError`].
pub async fn nodes(store: &Store) -> Result<Vec<Node>, ReadError> {
    let node = |object| match object {
        Object::Node(node) => Some(*node),
        _ => None,
    };
    Ok(objects(store, Kind::Node).await?.into_iter().filter_map(node).collect())
}

/// The rules by which a node decides now.
///
/// # Errors
/// [`ReadError`].
pub async fn setting(store: &Store, node: NodeName, now: Timestamp) -> Result<Setting, ReadError> {
    let config = match object(store, &Key::IpamConfig).await? {
        Some((Object::IpamConfig(config), _)) => config,
        _ => tortie_model::ipam::IpamConfig::default(),
    };
    let mut reservations = Vec::new();
    for object in objects(store, Kind::IpReservation).await? {
        if let Object::IpReservation(r) = object {
            reservations.extend(r.spec.reserved_cidrs.iter().map(|n| n.network()));
        }
    }
    Ok(Setting {
        node,
        now,
        config,
        reservations,
    })
}
