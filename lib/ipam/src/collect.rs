//! Garbage collection, the writes: each plan undoes one thing that a crash or a lost DEL left behind, and undoes nothing
//! that has come to life since it was observed.
//!
//! Which things, and after how long, is [`crate::watch`]'s to say.

use std::net::IpAddr;

use tortie_model::Key;
use tortie_net::{NodeName, Prefix};

use crate::error::IpamError;
use crate::plan::{Change, Document, Ops, Plan};
use crate::release::write_or_delete;
use crate::{RETRIES, Setting, affinity, block, handle};
use tortie_model::Owner;

/// An address of a handle, as it was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// Its block.
    pub block: Prefix,
    /// The address.
    pub ip: IpAddr,
    /// The block's sequence number when the address was allocated.
    pub sequence: u64,
}

fn contended(key: &Key) -> IpamError {
    IpamError::Contended {
        object: key.object_name(),
        attempts: RETRIES,
    }
}

/// Releases these addresses of a handle, each only while it is the very allocation that was observed. Gives those it
/// released.
pub fn release_leaked(setting: Setting, id: String, leaks: Vec<Leak>) -> Plan<Result<Vec<IpAddr>, IpamError>> {
    Plan::new(move |ops| async move {
        let mut released = Vec::new();
        for leak in leaks {
            if release_one(&ops, &setting, &id, leak).await? {
                handle::decrement(&ops, &id, leak.block).await?;
                released.push(leak.ip);
            }
        }
        Ok(released)
    })
}

async fn release_one(ops: &Ops, setting: &Setting, id: &str, leak: Leak) -> Result<bool, IpamError> {
    for _ in 0..RETRIES {
        let Some(stored) = ops.block(leak.block).await? else {
            return Ok(false);
        };
        let mut block = stored.value;
        let same =
            block::handle_of(&block, leak.ip) == Some(id) && block::sequence_of(&block, leak.ip) == leak.sequence;
        if !same {
            return Ok(false);
        }
        block::release(&mut block, &[leak.ip], setting.cooldown(), setting.now);
        if write_or_delete(ops, block, stored.revision).await? {
            return Ok(true);
        }
    }
    Err(contended(&Key::Block(leak.block)))
}

/// Deletes a handle that counts addresses although no block gives it one. Says whether it is gone.
///
/// Each block it names is rewritten after the handle was read: whoever raised it before that and has yet to write the
/// block loses, and whoever raises it afterwards makes the deletion lose.
pub fn delete_empty_handle(id: String) -> Plan<Result<bool, IpamError>> {
    Plan::new(move |ops| async move {
        let key = Key::Handle(id.clone());
        for _ in 0..RETRIES {
            let Some(stored) = ops.handle(&id).await? else {
                return Ok(true);
            };
            for cidr in stored.value.block.keys() {
                if !gives_nothing(&ops, &id, *cidr).await? {
                    return Ok(false);
                }
            }
            if ops.write(key.clone(), Change::Delete(stored.revision)).await?.is_some() {
                return Ok(true);
            }
        }
        Err(contended(&key))
    })
}

async fn gives_nothing(ops: &Ops, id: &str, cidr: Prefix) -> Result<bool, IpamError> {
    for _ in 0..RETRIES {
        let Some(stored) = ops.block(cidr).await? else {
            return Ok(true);
        };
        if !block::addresses_of(&stored.value, id).is_empty() {
            return Ok(false);
        }
        if write_or_delete(ops, stored.value, stored.revision).await? {
            return Ok(true);
        }
    }
    Err(contended(&Key::Block(cidr)))
}

/// Frees the addresses of a block whose cool-down is over, and deletes a block that is empty and nobody's, which would
/// otherwise be claimed by no one. Says whether there was anything to do.
pub fn sweep_block(setting: Setting, cidr: Prefix) -> Plan<Result<bool, IpamError>> {
    Plan::new(move |ops| async move {
        for _ in 0..RETRIES {
            let Some(stored) = ops.block(cidr).await? else {
                return Ok(false);
            };
            let mut swept = stored.value.clone();
            block::expire(&mut swept, setting.cooldown(), setting.now);
            let abandoned = swept.affinity.is_none() && block::is_empty(&swept);
            if swept == stored.value && !abandoned {
                return Ok(false);
            }
            if write_or_delete(&ops, swept, stored.revision).await? {
                return Ok(true);
            }
        }
        Err(contended(&Key::Block(cidr)))
    })
}

/// Gives up a claim of a node that is gone: also one whose block was never made. Says whether the claim is gone; it stays
/// while the block has addresses in use.
pub fn release_affinity_of_gone(setting: Setting, node: NodeName, cidr: Prefix) -> Plan<Result<bool, IpamError>> {
    let as_owner = Setting {
        node: node.clone(),
        ..setting
    };
    Plan::new(move |ops| async move { affinity::release(&ops, &as_owner, Owner::Host(node), cidr).await })
}

/// A lease: who of several does what only one should do.
///
/// Takes or renews it: `seen` is the revision at which the caller last saw it unrenewed for longer than its term. Says
/// whether the caller has it now, and the revision it has.
pub fn take_lease(
    name: String,
    holder: String,
    term_seconds: u32,
    seen: Option<u64>,
) -> Plan<Result<(bool, Option<u64>), IpamError>> {
    Plan::new(move |ops| async move {
        let key = Key::Lease(name.clone());
        let mine = tortie_model::ipam::Lease {
            holder: holder.clone(),
            term_seconds,
            extra: tortie_model::Extra::new(),
        };
        let document = Document::Lease(Box::new(mine));
        let Some(stored) = ops.lease(&name).await? else {
            let written = ops.write(key, Change::Create(document)).await?;
            return Ok((written.is_some(), written));
        };
        if stored.value.holder != holder && seen != Some(stored.revision) {
            return Ok((false, Some(stored.revision)));
        }
        let written = ops.write(key, Change::Update(document, stored.revision)).await?;
        Ok((written.is_some(), written))
    })
}
