//! Handles: counters of an owner's addresses, by block.
//!
//! A handle is raised before a block gives an address, so it never counts too little.

use tortie_model::Key;
use tortie_model::ipam::Handle;
use tortie_net::Prefix;

use crate::RETRIES;
use crate::error::IpamError;
use crate::plan::{Change, Document, Ops};

fn contended(id: &str) -> IpamError {
    IpamError::Contended {
        object: Key::Handle(id.to_owned()).object_name(),
        attempts: RETRIES,
    }
}

/// Counts one more address of a block.
pub(crate) async fn increment(ops: &Ops, id: &str, cidr: Prefix) -> Result<(), IpamError> {
    let key = Key::Handle(id.to_owned());
    // Nearly always it is the owner's first address: create without reading.
    let first = Handle {
        block: [(cidr, 1)].into(),
        ..Handle::default()
    };
    let create = Change::Create(Document::Handle(first));
    for _ in 0..RETRIES {
        if ops.write(key.clone(), create.clone()).await?.is_some() {
            return Ok(());
        }
        let Some(stored) = ops.handle(id).await? else { continue };
        let mut handle = stored.value;
        let count = handle.block.entry(cidr).or_default();
        *count = count.saturating_add(1);
        let change = Change::Update(Document::Handle(handle), stored.revision);
        if ops.write(key.clone(), change).await?.is_some() {
            return Ok(());
        }
    }
    Err(contended(id))
}

/// Counts one address less; a handle that counts none is deleted. One that is gone already is fine.
pub(crate) async fn decrement(ops: &Ops, id: &str, cidr: Prefix) -> Result<(), IpamError> {
    let key = Key::Handle(id.to_owned());
    for _ in 0..RETRIES {
        let Some(stored) = ops.handle(id).await? else {
            return Ok(());
        };
        let mut handle = stored.value;
        match handle.block.get_mut(&cidr) {
            None => return Ok(()),
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                handle.block.remove(&cidr);
            }
        }
        let change = if handle.block.is_empty() {
            Change::Delete(stored.revision)
        } else {
            Change::Update(Document::Handle(handle), stored.revision)
        };
        if ops.write(key.clone(), change).await?.is_some() {
            return Ok(());
        }
    }
    Err(contended(id))
}
