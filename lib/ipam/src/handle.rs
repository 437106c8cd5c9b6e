//! Handles: counters of an owner's addresses, by block.
//!
//! A handle is raised with the block's write that gives an address, and lowered after the block has taken it back, so it
//! never counts too little. (Calico raises it before: what was raised and not used, the next user or collector finds.)

use tortie_model::Key;
use tortie_model::ipam::Handle;
use tortie_net::Prefix;

use crate::RETRIES;
use crate::error::IpamError;
use crate::plan::{Change, Document, Ops, Stored};

fn contended(id: &str) -> IpamError {
    IpamError::Contended {
        object: Key::Handle(id.to_owned()).object_name(),
        attempts: RETRIES,
    }
}

/// Counts `n` more addresses of a block; `None`: there is no handle yet.
pub(crate) fn raised(id: &str, present: Option<&Stored<Handle>>, cidr: Prefix, n: u64) -> (Key, Change) {
    let mut handle = present.map_or_else(Handle::default, |stored| stored.value.clone());
    let count = handle.block.entry(cidr).or_default();
    *count = count.saturating_add(n);
    let document = Document::Handle(handle);
    let change = match present {
        None => Change::Create(document),
        Some(stored) => Change::Update(document, stored.revision),
    };
    (Key::Handle(id.to_owned()), change)
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
