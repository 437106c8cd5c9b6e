//! Releasing addresses: the block first, the handle after it.

use std::net::IpAddr;

use tortie_model::Key;
use tortie_net::Prefix;

use crate::error::IpamError;
use crate::plan::{Change, Document, Ops, Plan};
use crate::{RETRIES, Setting, block, handle};

/// The addresses a handle has now.
pub fn addresses_of_handle(id: String) -> Plan<Result<Vec<IpAddr>, IpamError>> {
    Plan::new(|ops| async move {
        let Some(handle) = ops.handle(&id).await? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for cidr in handle.value.block.keys() {
            if let Some(block) = ops.block(*cidr).await? {
                found.extend(block::addresses_of(&block.value, &id));
            }
        }
        Ok(found)
    })
}

/// Releases every address of a handle, and the handle. Gives what was released; nothing there is success.
///
/// Each block is rewritten after the handle was read, also one that has no address of it: whoever raised the handle
/// before that and has yet to write the block loses, whoever raises it afterwards makes the handle's deletion lose.
pub fn release_handle(setting: Setting, id: String) -> Plan<Result<Vec<IpAddr>, IpamError>> {
    Plan::new(|ops| async move {
        let key = Key::Handle(id.clone());
        let mut released = Vec::new();
        for _ in 0..RETRIES {
            let Some(handle) = ops.handle(&id).await? else {
                return Ok(released);
            };
            for cidr in handle.value.block.keys() {
                released.extend(release_in(&ops, &setting, &id, *cidr).await?);
            }
            if ops.write(key.clone(), Change::Delete(handle.revision)).await?.is_some() {
                return Ok(released);
            }
        }
        Err(IpamError::Contended {
            object: key.object_name(),
            attempts: RETRIES,
        })
    })
}

async fn release_in(ops: &Ops, setting: &Setting, id: &str, cidr: Prefix) -> Result<Vec<IpAddr>, IpamError> {
    for _ in 0..RETRIES {
        let Some(stored) = ops.block(cidr).await? else {
            return Ok(Vec::new());
        };
        let mut block = stored.value;
        let ips = block::addresses_of(&block, id);
        block::release(&mut block, &ips, setting.cooldown(), setting.now);
        if write_or_delete(ops, block, stored.revision).await? {
            return Ok(ips);
        }
    }
    Err(IpamError::Contended {
        object: Key::Block(cidr).object_name(),
        attempts: RETRIES,
    })
}

/// Writes a block; one that is empty and nobody's is deleted. `false`: another change came first.
pub(crate) async fn write_or_delete(
    ops: &Ops,
    mut block: tortie_model::ipam::Block,
    revision: u64,
) -> Result<bool, IpamError> {
    let key = Key::Block(block.cidr);
    let change = if block::is_empty(&block) && block.affinity.is_none() {
        Change::Delete(revision)
    } else {
        block::touch(&mut block);
        Change::Update(Document::Block(Box::new(block)), revision)
    };
    Ok(ops.write(key, change).await?.is_some())
}

/// Releases one address, if it is `expected`'s (or whosesoever, when that is `None`). `false`: it was free already.
///
/// `cidr` is its block.
pub fn release_address(
    setting: Setting,
    cidr: Prefix,
    ip: IpAddr,
    expected: Option<String>,
) -> Plan<Result<bool, IpamError>> {
    Plan::new(move |ops| async move { release_one(&ops, &setting, (cidr, ip), expected.as_deref()).await })
}

/// Releases every address of a handle but these.
pub fn release_others(setting: Setting, id: String, keep: Vec<IpAddr>) -> Plan<Result<(), IpamError>> {
    Plan::new(move |ops| async move {
        let Some(handle) = ops.handle(&id).await? else {
            return Ok(());
        };
        for cidr in handle.value.block.keys() {
            let Some(block) = ops.block(*cidr).await? else { continue };
            for ip in block::addresses_of(&block.value, &id) {
                if !keep.contains(&ip) {
                    release_one(&ops, &setting, (*cidr, ip), Some(&id)).await?;
                }
            }
        }
        Ok(())
    })
}

async fn release_one(
    ops: &Ops,
    setting: &Setting,
    (cidr, ip): (Prefix, IpAddr),
    expected: Option<&str>,
) -> Result<bool, IpamError> {
    for _ in 0..RETRIES {
        let Some(stored) = ops.block(cidr).await? else {
            return Ok(false);
        };
        let mut block = stored.value;
        let Some(id) = block::handle_of(&block, ip).map(str::to_owned) else {
            return Ok(false);
        };
        if expected.is_some_and(|e| e != id) {
            return Err(IpamError::NotIts { ip, to: id });
        }
        block::release(&mut block, &[ip], setting.cooldown(), setting.now);
        if write_or_delete(ops, block, stored.revision).await? {
            handle::decrement(ops, &id, cidr).await?;
            return Ok(true);
        }
    }
    Err(IpamError::Contended {
        object: Key::Block(cidr).object_name(),
        attempts: RETRIES,
    })
}
