//! ipam split: several pools in the place of one.
//!
//! Blocks stay as they are: each lies in one of the new pools, since those are not smaller than a block. The new pools
//! are stored before the old one goes, so that there is a pool for every address at every moment, wherever this stops;
//! done again, it goes on from there. They overlap meanwhile, which typha would refuse of a person: hence the lock.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail};
use tortie_ipam_client::cluster;
use tortie_model::resource::IpPool;
use tortie_net::Prefix;
use tortie_typha_client::Store;

use crate::cli::IpamSplitArgs;
use crate::datastore::lock::is_locked;
use crate::output::say;

/// New pools at most: each is a document that every node reads.
const PARTS_MAX: u32 = 256;
/// The kernel's source of new identities.
const UUID: &str = "/proc/sys/kernel/random/uuid";

/// `tortiectl ipam split`.
pub(super) async fn split(store: &Store, args: &IpamSplitArgs) -> Result<()> {
    check_count(args.count)?;
    if !is_locked(store).await? {
        bail!("the datastore is not locked: run tortiectl datastore lock, so that no address is given meanwhile");
    }
    let pools = cluster::pools(store).await?;
    let chosen = |p: &&IpPool| Some(p.spec.cidr) == args.cidr || Some(p.name()) == args.name.as_deref();
    let Some(old) = pools.iter().find(chosen) else {
        let wanted = args
            .cidr
            .map(|c| c.to_string())
            .or(args.name.clone())
            .unwrap_or_default();
        bail!("there is no IPPool {}", wanted.escape_debug());
    };
    let parts = parts(old, args.count)?;
    for part in &parts {
        if let Some(there) = pools.iter().find(|p| p.name() == part.name() && p.spec != part.spec) {
            bail!("IPPool({}) exists already, with {}", there.name(), there.spec.cidr);
        }
    }
    for part in &parts {
        if pools.iter().any(|p| p.name() == part.name()) {
            continue;
        }
        let json = serde_json::to_vec(&identified(part.clone())?).context("cannot write a pool")?;
        let stored = store.restore(&part.key().to_string(), Some(json)).await;
        stored.with_context(|| format!("cannot store IPPool({})", part.name()))?;
    }
    let gone = store.restore(&old.key().to_string(), None).await;
    gone.with_context(|| format!("cannot delete IPPool({}): its parts are there already", old.name()))?;
    for part in &parts {
        say(&format!(
            "Successfully created IPPool {} with {}",
            part.name(),
            part.spec.cidr
        ))?;
    }
    say(&format!(
        "Successfully split IPPool {} into {}",
        old.name(),
        parts.len()
    ))
}

/// A new identity, as typha gives what it admits.
fn identified(mut pool: IpPool) -> Result<IpPool> {
    let uid = std::fs::read_to_string(UUID).with_context(|| format!("cannot read {UUID}"))?;
    pool.metadata.uid = Some(uid.trim().to_owned());
    let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second())?;
    pool.metadata.creation_timestamp = Some(now.to_string());
    pool.metadata.resource_version = None;
    Ok(pool)
}

fn check_count(count: u32) -> Result<()> {
    if count < 2 || !count.is_power_of_two() || count > PARTS_MAX {
        bail!("{count} is no number of parts: want a power of two from 2 to {PARTS_MAX}");
    }
    Ok(())
}

/// The pools that take its place: like it in all but name and network.
fn parts(old: &IpPool, count: u32) -> Result<Vec<IpPool>> {
    check_count(count)?;
    let (cidr, block) = (old.spec.cidr, old.spec.block_size());
    let bits = u8::try_from(count.trailing_zeros())?;
    let length = cidr.len().saturating_add(bits);
    if length > block {
        bail!(
            "IPPool({}) {cidr} has blocks of /{block}: {count} parts of /{length} would be smaller than a block",
            old.name()
        );
    }
    let part = |n: u32| {
        let mut pool = old.clone();
        pool.metadata.name = format!("split-{}-{n}", old.name());
        pool.spec.cidr = nth(cidr, length, n)?;
        Ok(pool)
    };
    (0..count).map(part).collect()
}

fn nth(cidr: Prefix, length: u8, n: u32) -> Result<Prefix> {
    let shift = u32::from(cidr.max_len() - length);
    let offset = u128::from(n).checked_shl(shift).unwrap_or_default();
    let base: IpAddr = match cidr.addr() {
        IpAddr::V4(a) => Ipv4Addr::from(u32::from(a).wrapping_add(u32::try_from(offset)?)).into(),
        IpAddr::V6(a) => Ipv6Addr::from(u128::from(a).wrapping_add(offset)).into(),
    };
    Ok(Prefix::new(base, length)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pool(cidr: &str, block_size: u8) -> IpPool {
        let document =
            json!({"metadata": {"name": "a"}, "spec": {"cidr": cidr, "blockSize": block_size, "natOutgoing": true}});
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn parts_are_the_whole_and_nothing_else() {
        for (cidr, block, count, first, last) in [
            ("10.1.0.0/24", 26, 4, "10.1.0.0/26", "10.1.0.192/26"),
            ("0.0.0.0/0", 26, 2, "0.0.0.0/1", "128.0.0.0/1"),
            ("fd00::/64", 122, 2, "fd00::/65", "fd00::8000:0:0:0/65"),
            ("fd00::/120", 128, 256, "fd00::/128", "fd00::ff/128"),
        ] {
            let found = parts(&pool(cidr, block), count).unwrap();
            assert_eq!(found.len(), count as usize);
            let ends = [found.first(), found.last()].map(|p| p.unwrap().spec.cidr.to_string());
            assert_eq!(ends, [first, last]);
            assert_eq!(found[1].name(), "split-a-1");
            assert!(
                found
                    .iter()
                    .all(|p| p.spec.nat_outgoing && p.spec.block_size() == block)
            );
            let mut cidrs = found.iter().map(|p| p.spec.cidr);
            assert!(cidrs.all(|c| cidr.parse::<Prefix>().unwrap().covers(c)));
        }
    }

    #[test]
    fn what_is_no_split() {
        for (count, said) in [
            (0, "power of two"),
            (1, "power of two"),
            (3, "power of two"),
            (512, "256"),
            (8, "smaller than a block"),
        ] {
            let e = parts(&pool("10.1.0.0/24", 26), count).unwrap_err().to_string();
            assert!(e.contains(said), "{count}: {e}");
        }
    }
}
