//! delete: resources, by kind and name or by files.

use anyhow::{Result, bail};
use tortie_kit::address::Target;
use tortie_model::{Key, Object, admit_delete, decode, decode_value, key};
use tortie_typha_client::{Store, StoreError};

use crate::apply::{after, read};
use crate::cli::{DeleteArgs, Usage};
use crate::output::{say, warn};
use crate::source;
use crate::store::{Reach, Stored, connect, named, short_name};

/// `tortiectl delete`.
pub(crate) async fn delete(typha: Option<Target>, args: &DeleteArgs) -> Result<()> {
    let keys = if args.what.is_empty() {
        if args.source.files.is_empty() {
            return Err(Usage::error("nothing named: say KIND NAME, KIND/NAME or -f FILE"));
        }
        let mut manifests = source::read(&args.source)?;
        // The other way round than they are written: what is referred to goes last.
        manifests.reverse();
        manifests.into_iter().map(|m| m.key).collect()
    } else {
        named(&args.what, &args.source.namespace, Reach::Write)?.1
    };
    if keys.is_empty() {
        return Err(Usage::error("no names: say which to delete"));
    }
    let refused: Vec<String> = keys
        .iter()
        .filter_map(|key| admit_delete(key).err())
        .map(|e| e.to_string())
        .collect();
    if !refused.is_empty() {
        bail!("nothing was deleted\n{}", refused.join("\n"));
    }
    let store = connect(typha)?;
    let mut found = Vec::new();
    let mut missing = Vec::new();
    let mut warnings = Vec::new();
    for key in keys {
        match read(&store, &key.to_string()).await? {
            Some(stored) => {
                if let Some(left) = left_behind(&store, &key, &stored).await? {
                    warnings.push(format!("{}: {left}", short_name(&key)));
                }
                found.push(key);
            }
            None if args.ignore_not_found => {}
            None => missing.push(format!("{} not found", short_name(&key))),
        }
    }
    if !missing.is_empty() {
        bail!("nothing was deleted\n{}", missing.join("\n"));
    }
    warnings.iter().for_each(|w| warn(w));
    for (done, key) in found.iter().enumerate() {
        let name = short_name(key);
        if args.dry_run {
            say(&format!("{name} deleted (dry run)"))?;
            continue;
        }
        match store.delete(&key.to_string(), None).await {
            Ok(_) => say(&format!("{name} deleted"))?,
            Err(StoreError::NotFound(_)) => say(&format!("{name} deleted by somebody else meanwhile"))?,
            Err(e) => {
                return Err(after(
                    anyhow::Error::from(e).context(name),
                    done,
                    found.len(),
                    "deleted",
                ));
            }
        }
    }
    Ok(())
}

/// What deleting this object leaves allocated for the moment.
async fn left_behind(store: &Store, key: &Key, stored: &Stored) -> Result<Option<String>> {
    let decoded = |key: &str, json: &[u8]| key.parse().ok().and_then(|key| decode(&key, json).ok());
    match decode_value(key, stored.value.clone()) {
        Ok(Object::IpPool(pool)) => {
            let mut addresses = 0;
            for entry in store.list(key::BLOCKS).await?.entries {
                if let Some(Object::Block(block)) = decoded(&entry.key, &entry.value)
                    && pool.spec.cidr.covers(block.cidr)
                {
                    addresses += block.allocations.iter().flatten().count();
                }
            }
            Ok((addresses > 0).then(|| {
                format!(
                    "addresses of {} are in use: {addresses}; they stay with their workloads; empty blocks are released soon",
                    pool.spec.cidr
                )
            }))
        }
        Ok(Object::Node(node)) => {
            let Ok(name) = node.name().parse() else { return Ok(None) };
            let blocks = store.list(&Key::affinities_of(&name)).await?.entries.len();
            Ok((blocks > 0).then(|| {
                format!(
                    "address blocks of this node: {blocks}; they are released when no workload has an address of them"
                )
            }))
        }
        _ => Ok(None),
    }
}
