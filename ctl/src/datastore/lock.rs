//! datastore lock, unlock: `datastoreReady` of ClusterInformation, which felix asks before it gives an address.

use anyhow::{Context, Result, bail};
use tortie_ipam_client::cluster::object;
use tortie_model::{Key, Kind, Object};
use tortie_typha_client::{Store, StoreError};

use crate::output::say;

/// How often what others change meanwhile is written anew.
const ATTEMPTS: usize = 5;

/// Do pods get no address now? Also a datastore without ClusterInformation is not locked.
pub(crate) async fn is_locked(store: &Store) -> Result<bool> {
    let key = Key::resource(Kind::ClusterInformation, None, "default");
    Ok(match object(store, &key).await? {
        Some((Object::ClusterInformation(information), _)) => information.spec.datastore_ready == Some(false),
        Some(_) | None => false,
    })
}

/// Locks, or unlocks.
pub(super) async fn set(store: &Store, locked: bool) -> Result<()> {
    let key = Key::resource(Kind::ClusterInformation, None, "default");
    let done = if locked {
        "Datastore locked."
    } else {
        "Datastore unlocked."
    };
    for _ in 0..ATTEMPTS {
        let Some((Object::ClusterInformation(mut information), revision)) = object(store, &key).await? else {
            bail!("there is no {}", key.object_name());
        };
        if information.spec.datastore_ready == Some(!locked) {
            return say(done);
        }
        information.spec.datastore_ready = Some(!locked);
        let json = serde_json::to_vec(&information).context("cannot write it")?;
        match store.update(&key.to_string(), json, revision).await {
            Ok(_) => return say(done),
            Err(StoreError::Conflict(_) | StoreError::NotFound(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    bail!(
        "{} was changed by others {ATTEMPTS} times while it was being written",
        key.object_name()
    )
}
