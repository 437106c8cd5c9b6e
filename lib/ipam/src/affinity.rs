//! Claims on blocks: pending, then the block, then confirmed (or, where there is neither, both in one write); given up in
//! the opposite order.
//!
//! Every transition rewrites the document it relies on, so that whoever read it earlier loses its compare-and-swap:
//! nobody confirms an affinity without having created or rewritten its block after setting it pending (or with it), and nobody removes
//! a block without having set its affinity to pendingDeletion after reading the block.

use tortie_model::ipam::{Affinity, AffinityState, Block};
use tortie_model::{Key, Owner};
use tortie_net::Prefix;

use crate::error::IpamError;
use crate::plan::{Change, Document, Ops, Plan, Stored};
use crate::{RETRIES, Setting, block};

fn contended(key: &Key) -> IpamError {
    IpamError::Contended {
        object: key.object_name(),
        attempts: RETRIES,
    }
}

/// The same claim in another state; what others wrote into the document stays.
fn in_state(affinity: &Affinity, state: AffinityState) -> Document {
    Document::Affinity(Affinity {
        state,
        ..affinity.clone()
    })
}

/// Claims a block that nobody has, or takes up this node's own claim on it. `None`: another owner has it.
pub(crate) async fn claim(ops: &Ops, setting: &Setting, cidr: Prefix) -> Result<Option<Stored<Block>>, IpamError> {
    let key = setting.affinity_key(cidr);
    let block = block::claimed(cidr, setting.owner(), setting.now);
    // Where there is neither, there is nobody whom three steps would warn: both are made in one.
    let confirmed = Document::Affinity(Affinity::new(AffinityState::Confirmed));
    let both = vec![
        (key.clone(), Change::Create(confirmed)),
        (
            Key::Block(cidr),
            Change::Create(Document::Block(Box::new(block.clone()))),
        ),
    ];
    if let Some(revisions) = ops.write_all(both).await? {
        let revision = revisions.last().copied().unwrap_or_default();
        return Ok(Some(Stored { value: block, revision }));
    }
    if let Some(affinity) = ops.affinity(&key).await? {
        return block_of(ops, setting, cidr, Some(affinity)).await;
    }
    let other = |b: Stored<Block>| b.value.affinity != Some(setting.owner());
    if ops.block(cidr).await?.is_some_and(other) {
        return Ok(None);
    }
    let pending = Affinity::new(AffinityState::Pending);
    let change = Change::Create(Document::Affinity(pending.clone()));
    let created = ops.write(key, change).await?;
    let known = created.map(|revision| Stored {
        value: pending,
        revision,
    });
    block_of(ops, setting, cidr, known).await
}

/// The block of an affinity of this node, made consistent first when a crash left it otherwise. `None`: the affinity is
/// gone, or was removed because the block is another's.
pub(crate) async fn block_of(
    ops: &Ops,
    setting: &Setting,
    cidr: Prefix,
    known: Option<Stored<Affinity>>,
) -> Result<Option<Stored<Block>>, IpamError> {
    let key = setting.affinity_key(cidr);
    let mut known = known;
    for _ in 0..RETRIES {
        let affinity = match known.take() {
            Some(affinity) => affinity,
            None => match ops.affinity(&key).await? {
                Some(affinity) => affinity,
                None => return Ok(None),
            },
        };
        let block = ops.block(cidr).await?;
        match block {
            Some(block) if block.value.affinity != Some(setting.owner()) => {
                if ops
                    .write(key.clone(), Change::Delete(affinity.revision))
                    .await?
                    .is_some()
                {
                    return Ok(None);
                }
            }
            Some(block) if affinity.value.state == AffinityState::Confirmed => return Ok(Some(block)),
            block => {
                if let Some(block) = complete(ops, setting, cidr, affinity, block).await? {
                    return Ok(Some(block));
                }
            }
        }
    }
    Err(contended(&key))
}

/// Sets an affinity pending, creates or rewrites its block, confirms. `None`: somebody else changed one of them.
async fn complete(
    ops: &Ops,
    setting: &Setting,
    cidr: Prefix,
    affinity: Stored<Affinity>,
    block: Option<Stored<Block>>,
) -> Result<Option<Stored<Block>>, IpamError> {
    let key = setting.affinity_key(cidr);
    // Also when it is pending already: the new revision defeats whoever is giving the claim up and has removed the block.
    let pending = Change::Update(in_state(&affinity.value, AffinityState::Pending), affinity.revision);
    let Some(pending) = ops.write(key.clone(), pending).await? else {
        return Ok(None);
    };
    let (block, change) = match block {
        None => {
            let block = block::claimed(cidr, setting.owner(), setting.now);
            (block.clone(), Change::Create(Document::Block(Box::new(block))))
        }
        Some(Stored {
            value: mut block,
            revision,
        }) => {
            block::touch(&mut block);
            (
                block.clone(),
                Change::Update(Document::Block(Box::new(block)), revision),
            )
        }
    };
    let Some(revision) = ops.write(Key::Block(cidr), change).await? else {
        return Ok(None);
    };
    let confirmed = Change::Update(in_state(&affinity.value, AffinityState::Confirmed), pending);
    Ok(ops
        .write(key, confirmed)
        .await?
        .map(|_| Stored { value: block, revision }))
}

/// Claims this node's own block again when it has addresses in use and its claim is gone or was left unconfirmed: without
/// a claim nobody announces the block, and its workloads cannot be reached.
///
/// The plan's result says whether the block is claimed now; one that is empty, gone or another's is not.
pub fn restore_affinity(setting: Setting, cidr: Prefix) -> Plan<Result<bool, IpamError>> {
    Plan::new(move |ops| async move {
        let its = |b: &Block| b.affinity == Some(setting.owner()) && !block::is_empty(b);
        match ops.block(cidr).await? {
            Some(stored) if its(&stored.value) => Ok(claim(&ops, &setting, cidr).await?.is_some()),
            Some(_) | None => Ok(false),
        }
    })
}

/// Gives up the claim of `owner` on a block that has no address in use: the block goes, then the claim.
///
/// The plan's result says whether the claim is gone. It stays when the block is in use, and, unless `owner` is the node
/// of `setting`, when there is no block: then its owner is about to create it.
pub fn release_affinity(setting: Setting, owner: Owner, cidr: Prefix) -> Plan<Result<bool, IpamError>> {
    Plan::new(|ops| async move { release(&ops, &setting, owner, cidr).await })
}

pub(crate) async fn release(ops: &Ops, setting: &Setting, owner: Owner, cidr: Prefix) -> Result<bool, IpamError> {
    let own = owner == setting.owner();
    let key = Key::Affinity {
        owner: owner.clone(),
        cidr,
    };
    for _ in 0..RETRIES {
        let Some(affinity) = ops.affinity(&key).await? else {
            return Ok(true);
        };
        let block = ops.block(cidr).await?;
        let its = block.as_ref().filter(|b| b.value.affinity.as_ref() == Some(&owner));
        match its {
            Some(block) if !block::is_empty(&block.value) => return Ok(false),
            None if !own => return Ok(false),
            _ => {}
        }
        let giving_up = Change::Update(
            in_state(&affinity.value, AffinityState::PendingDeletion),
            affinity.revision,
        );
        let Some(revision) = ops.write(key.clone(), giving_up).await? else {
            continue;
        };
        if let Some(block) = its
            && ops
                .write(Key::Block(cidr), Change::Delete(block.revision))
                .await?
                .is_none()
        {
            restore(ops, setting, &owner, cidr).await?;
            continue;
        }
        if ops.write(key.clone(), Change::Delete(revision)).await?.is_some() {
            return Ok(true);
        }
    }
    Err(contended(&key))
}

/// Confirms a claim again whose block was taken into use while it was given up, so that its routes stay.
async fn restore(ops: &Ops, setting: &Setting, owner: &Owner, cidr: Prefix) -> Result<(), IpamError> {
    let Owner::Host(node) = owner else { return Ok(()) };
    let as_owner = Setting {
        node: node.clone(),
        ..setting.clone()
    };
    let key = as_owner.affinity_key(cidr);
    let Some(affinity) = ops.affinity(&key).await? else {
        return Ok(());
    };
    let Some(block) = ops.block(cidr).await? else {
        return Ok(());
    };
    let in_use = block.value.affinity.as_ref() == Some(owner) && !block::is_empty(&block.value);
    if in_use && affinity.value.state == AffinityState::PendingDeletion {
        complete(ops, &as_owner, cidr, affinity, Some(block)).await?;
    }
    Ok(())
}
