//! Releasing addresses: the block first, the handle with it or after it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tortie_model::Key;
use tortie_model::ipam::Block;
use tortie_net::Prefix;

use crate::error::IpamError;
use crate::plan::{Change, Document, Ops, Plan, TOGETHER};
use crate::{RETRIES, Setting, block, handle};

/// Documents written together are about so long at most; the store takes a little more than twice that at once.
const OCTETS_TOGETHER: usize = 512 << 10;

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
pub fn release_handle(setting: Setting, id: String) -> Plan<Result<Vec<IpAddr>, IpamError>> {
    Plan::new(|ops| async move {
        let released = release_all(&ops, &setting, &[id]).await?;
        Ok(released.into_iter().flatten().collect())
    })
}

/// Releases every address of these handles, and the handles, with as few writes as that takes: one, unless they are many.
/// Gives what was released of each, in order; nothing there is success.
pub fn release_handles(setting: Setting, ids: Vec<String>) -> Plan<Result<Vec<Vec<IpAddr>>, IpamError>> {
    Plan::new(|ops| async move { release_all(&ops, &setting, &ids).await })
}

/// Each block is rewritten after its handles were read, also one that has no address of them: whoever raised a handle
/// before that and has yet to write the block loses, whoever raises it afterwards makes the handle's deletion lose.
async fn release_all(ops: &Ops, setting: &Setting, ids: &[String]) -> Result<Vec<Vec<IpAddr>>, IpamError> {
    let mut released = vec![Vec::new(); ids.len()];
    for _ in 0..RETRIES {
        let steps = steps(ops, setting, ids).await?;
        if steps.is_empty() || write_steps(ops, steps, &mut released).await? {
            return Ok(released);
        }
    }
    Err(IpamError::Contended {
        object: Key::Handle(ids.first().cloned().unwrap_or_default()).object_name(),
        attempts: RETRIES,
    })
}

/// One document's part in a release.
struct Step {
    change: (Key, Change),
    /// The addresses that it frees, and of which handle, by position.
    frees: Vec<(usize, IpAddr)>,
    /// About how long its document is.
    octets: usize,
}

/// What to write: every block that the handles name, and after them the handles.
async fn steps(ops: &Ops, setting: &Setting, ids: &[String]) -> Result<Vec<Step>, IpamError> {
    let mut blocks: BTreeMap<Prefix, Vec<usize>> = BTreeMap::new();
    let mut handles = BTreeMap::new();
    for (n, id) in ids.iter().enumerate() {
        if handles.contains_key(id) {
            continue;
        }
        let Some(handle) = ops.handle(id).await? else { continue };
        for cidr in handle.value.block.keys() {
            blocks.entry(*cidr).or_default().push(n);
        }
        handles.insert(id, handle.revision);
    }
    let mut steps = Vec::with_capacity(blocks.len() + handles.len());
    for (cidr, holders) in blocks {
        let Some(stored) = ops.block(cidr).await? else { continue };
        let mut block = stored.value;
        let mut frees = Vec::new();
        for n in holders {
            let ips = ids.get(n).map_or_else(Vec::new, |id| block::addresses_of(&block, id));
            block::release(&mut block, &ips, setting.cooldown(), setting.now);
            frees.extend(ips.into_iter().map(|ip| (n, ip)));
        }
        let octets = block::octets(&block);
        let change = written_or_deleted(block, stored.revision);
        steps.push(Step { change, frees, octets });
    }
    let delete = |(id, revision): (&String, u64)| Step {
        change: (Key::Handle(id.clone()), Change::Delete(revision)),
        frees: Vec::new(),
        octets: 0,
    };
    steps.extend(handles.into_iter().map(delete));
    Ok(steps)
}

/// Writes in order, as much together as may be. `false`: another change came first.
async fn write_steps(ops: &Ops, steps: Vec<Step>, released: &mut [Vec<IpAddr>]) -> Result<bool, IpamError> {
    let mut steps = steps.into_iter().peekable();
    while steps.peek().is_some() {
        let (mut together, mut frees, mut octets) = (Vec::new(), Vec::new(), 0);
        while let Some(step) = steps
            .next_if(|s| together.is_empty() || (together.len() < TOGETHER && octets + s.octets <= OCTETS_TOGETHER))
        {
            octets += step.octets;
            together.push(step.change);
            frees.extend(step.frees);
        }
        if ops.write_all(together).await?.is_none() {
            return Ok(false);
        }
        for (n, ip) in frees {
            if let Some(released) = released.get_mut(n) {
                released.push(ip);
            }
        }
    }
    Ok(true)
}

/// How a block is written; one that is empty and nobody's is deleted.
fn written_or_deleted(mut block: Block, revision: u64) -> (Key, Change) {
    let key = Key::Block(block.cidr);
    if block::is_empty(&block) && block.affinity.is_none() {
        return (key, Change::Delete(revision));
    }
    block::touch(&mut block);
    (key, Change::Update(Document::Block(Box::new(block)), revision))
}

/// Writes a block; one that is empty and nobody's is deleted. `false`: another change came first.
pub(crate) async fn write_or_delete(ops: &Ops, block: Block, revision: u64) -> Result<bool, IpamError> {
    let (key, change) = written_or_deleted(block, revision);
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
