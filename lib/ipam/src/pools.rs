//! Which pools a request draws from, and in which order their blocks are tried.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;
use tortie_model::resource::{AllowedUse, AssignmentMode, IpPool};
use tortie_net::{NodeName, Prefix};

use crate::IpFamily;

/// A pool as far as IPAM looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub cidr: Prefix,
    /// The length of its blocks, in bits.
    pub block_size: u8,
}

/// What a pool is chosen by.
#[derive(Debug, Clone)]
pub struct PoolQuery<'a> {
    /// The node that asks; for messages.
    pub node: &'a NodeName,
    /// The family.
    pub family: IpFamily,
    /// Names or CIDRs; exactly these when there are any, whatever their selectors say.
    pub named: &'a [String],
    /// The node's labels.
    pub node_labels: &'a BTreeMap<String, String>,
    /// The namespace's labels; empty when there is no namespace.
    pub namespace_labels: &'a BTreeMap<String, String>,
    /// What the address is for.
    pub usage: AllowedUse,
}

/// Why no pool can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// A pool was asked for by name or CIDR.
    #[error("the given pool ({0}) does not exist, or is not enabled")]
    Unknown(String),
    /// A pool of the other family was asked for.
    #[error("the given pool ({pool}) is not of {family}")]
    WrongFamily {
        /// As it was given.
        pool: String,
        /// What was wanted.
        family: IpFamily,
    },
    /// None is there, enabled, and selects the node and the namespace.
    #[error(
        "no configured Calico pools for node {node}: of {total} {family} pools {disabled} are disabled, {manual} are \
         Manual, and the others do not select it; add an IPPool or change a nodeSelector or namespaceSelector"
    )]
    None {
        /// Which node.
        node: NodeName,
        /// Which family.
        family: IpFamily,
        /// Pools of the family.
        total: usize,
        /// Of these, how many are not enabled.
        disabled: usize,
        /// Of the enabled, how many are used only when named.
        manual: usize,
    },
    /// There are pools, but not for this use.
    #[error("none of the pools {pools} has '{usage}' in its allowedUses")]
    NotQualified {
        /// Their names.
        pools: String,
        /// What for.
        usage: AllowedUse,
    },
}

/// May new addresses come from this pool at all?
pub fn is_enabled(pool: &IpPool) -> bool {
    let refused = |condition: &Value| {
        condition.get("type").and_then(Value::as_str) == Some("Allocatable")
            && condition.get("status").and_then(Value::as_str) == Some("False")
    };
    let conditions = pool
        .status
        .as_ref()
        .and_then(|s| s.get("conditions"))
        .and_then(Value::as_array);
    let deleting = pool
        .metadata
        .extra
        .get("deletionTimestamp")
        .is_some_and(|t| !t.is_null());
    !pool.spec.disabled && !deleting && !conditions.is_some_and(|c| c.iter().any(refused))
}

fn pool(pool: &IpPool) -> Pool {
    Pool {
        name: pool.metadata.name.clone(),
        cidr: pool.spec.cidr,
        block_size: pool.spec.block_size(),
    }
}

/// The pools to use, by name (or in the order in which they were named).
///
/// # Errors
/// [`PoolError`] when there is none.
pub fn choose<'a>(pools: impl Iterator<Item = &'a IpPool>, query: &PoolQuery<'_>) -> Result<Vec<Pool>, PoolError> {
    let mut all: Vec<&IpPool> = pools.collect();
    all.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let chosen = if query.named.is_empty() {
        automatic(&all, query)?
    } else {
        named(&all, query)?
    };
    let allowed: Vec<Pool> = chosen
        .iter()
        .filter(|p| p.spec.allows(query.usage))
        .map(|p| pool(p))
        .collect();
    if allowed.is_empty() {
        let names: Vec<&str> = chosen.iter().map(|p| p.metadata.name.as_str()).collect();
        return Err(PoolError::NotQualified {
            pools: names.join(", "),
            usage: query.usage,
        });
    }
    Ok(allowed)
}

fn named<'a>(all: &[&'a IpPool], query: &PoolQuery<'_>) -> Result<Vec<&'a IpPool>, PoolError> {
    let find = |text: &String| {
        let cidr = Prefix::parse_with_address(text).ok().map(|(_, prefix)| prefix);
        let found = all
            .iter()
            .find(|p| p.metadata.name == *text || Some(p.spec.cidr) == cidr);
        let pool = found
            .filter(|p| is_enabled(p))
            .ok_or_else(|| PoolError::Unknown(text.clone()))?;
        if IpFamily::of(pool.spec.cidr) != query.family {
            return Err(PoolError::WrongFamily {
                pool: text.clone(),
                family: query.family,
            });
        }
        Ok(*pool)
    };
    query.named.iter().map(find).collect()
}

fn automatic<'a>(all: &[&'a IpPool], query: &PoolQuery<'_>) -> Result<Vec<&'a IpPool>, PoolError> {
    let of_family: Vec<&IpPool> = all
        .iter()
        .filter(|p| IpFamily::of(p.spec.cidr) == query.family)
        .copied()
        .collect();
    let enabled: Vec<&IpPool> = of_family.iter().filter(|p| is_enabled(p)).copied().collect();
    let is_automatic = |p: &&IpPool| p.spec.assignment_mode() == AssignmentMode::Automatic;
    let selects = |p: &&IpPool| {
        p.spec.selects_node(query.node_labels)
            && p.spec
                .namespace_selector
                .as_ref()
                .is_none_or(|s| s.matches(query.namespace_labels))
    };
    let chosen: Vec<&IpPool> = enabled
        .iter()
        .filter(|p| is_automatic(p) && selects(p))
        .copied()
        .collect();
    if chosen.is_empty() {
        return Err(PoolError::None {
            node: query.node.clone(),
            family: query.family,
            total: of_family.len(),
            disabled: of_family.len() - enabled.len(),
            manual: enabled.iter().filter(|p| !is_automatic(p)).count(),
        });
    }
    Ok(chosen)
}

impl Pool {
    /// How many blocks it has.
    fn blocks(&self) -> u128 {
        match self.block_size.checked_sub(self.cidr.len()) {
            Some(bits) if self.block_size <= self.cidr.max_len() => 1u128.checked_shl(bits.into()).unwrap_or(0),
            _ => 0,
        }
    }

    fn block(&self, index: u128) -> Option<Prefix> {
        let offset = index << (self.cidr.max_len() - self.block_size);
        let addr = match self.cidr.addr() {
            IpAddr::V4(base) => IpAddr::from((u32::from(base).checked_add(u32::try_from(offset).ok()?)?).to_be_bytes()),
            IpAddr::V6(base) => IpAddr::from((u128::from(base).checked_add(offset)?).to_be_bytes()),
        };
        Prefix::new(addr, self.block_size).ok()
    }

    /// The block that holds an address.
    pub(crate) fn block_of(&self, ip: IpAddr) -> Option<Prefix> {
        if self.cidr.contains(ip) && self.blocks() > 0 {
            Prefix::new(ip, self.block_size).ok()
        } else {
            None
        }
    }

    /// Every block, from a start that `seed` decides, once around; whole reservations are stepped over at once.
    pub(crate) fn walk<'a>(&'a self, seed: u64, reserved: &'a [Prefix]) -> impl Iterator<Item = Prefix> + 'a {
        let count = self.blocks();
        let start = if count == 0 { 0 } else { u128::from(mix(seed)) % count };
        let mut passed: u128 = 0;
        std::iter::from_fn(move || {
            while passed < count {
                let index = (start + passed) % count;
                let block = self.block(index)?;
                match reserved.iter().find(|r| r.covers(block)) {
                    None => {
                        passed += 1;
                        return Some(block);
                    }
                    Some(reservation) => {
                        let width = 1u128
                            .checked_shl((self.block_size - reservation.len()).into())
                            .unwrap_or(count);
                        // Not beyond the end of the pool: the walk goes on at its beginning.
                        passed += (width - index % width).min(count - index);
                    }
                }
            }
            None
        })
    }
}

/// Spreads a seed over 64 bits (splitmix64). Any generator will do: only that nodes differ matters.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1, 32 bits, of a node's name: nodes begin at different places.
pub(crate) fn seed(node: &NodeName) -> u64 {
    let fnv = |hash: u32, byte: &u8| hash.wrapping_mul(0x0100_0193) ^ u32::from(*byte);
    u64::from(node.as_str().as_bytes().iter().fold(0x811c_9dc5, fnv))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(name: &str, cidr: &str, change: impl FnOnce(&mut IpPool)) -> IpPool {
        let json = serde_json::json!({"metadata": {"name": name}, "spec": {"cidr": cidr}});
        let mut pool: IpPool = serde_json::from_value(json).unwrap();
        change(&mut pool);
        pool
    }

    fn ask(pools: &[IpPool], named: &[&str]) -> Result<Vec<String>, String> {
        let node: NodeName = "n1".parse().unwrap();
        let named: Vec<String> = named.iter().map(|s| (*s).to_owned()).collect();
        let query = PoolQuery {
            node: &node,
            family: IpFamily::V4,
            named: &named,
            node_labels: &BTreeMap::from([("rack".to_owned(), "r1".to_owned())]),
            namespace_labels: &BTreeMap::new(),
            usage: AllowedUse::Workload,
        };
        let chosen = choose(pools.iter(), &query);
        chosen
            .map(|p| p.into_iter().map(|p| p.name).collect())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn enabled_selecting_automatic_pools_by_name() {
        let pools = [
            stored("z", "10.1.0.0/16", |_| ()),
            stored("a", "10.2.0.0/16", |p| {
                p.spec.node_selector = Some("rack == 'r1'".parse().unwrap())
            }),
            stored("off", "10.3.0.0/16", |p| p.spec.disabled = true),
            stored("other", "10.4.0.0/16", |p| {
                p.spec.node_selector = Some("rack == 'r2'".parse().unwrap())
            }),
            stored("ns", "10.5.0.0/16", |p| {
                p.spec.namespace_selector = Some("has(team)".parse().unwrap())
            }),
            stored("manual", "10.6.0.0/16", |p| {
                p.spec.assignment_mode = Some(AssignmentMode::Manual)
            }),
            stored("going", "10.7.0.0/16", |p| {
                p.status = Some(serde_json::json!({"conditions": [{"type": "Allocatable", "status": "False"}]}));
            }),
            stored("six", "fd00::/48", |_| ()),
        ];
        assert_eq!(ask(&pools, &[]).unwrap(), ["a", "z"]);
        assert_eq!(ask(&pools, &["manual", "10.4.0.0/16"]).unwrap(), ["manual", "other"]);
        assert_eq!(
            ask(&pools, &["off"]).unwrap_err(),
            "the given pool (off) does not exist, or is not enabled"
        );
        assert_eq!(
            ask(&pools, &["six"]).unwrap_err(),
            "the given pool (six) is not of IPv4"
        );
        let none = ask(&pools[2..4], &[]).unwrap_err();
        assert!(
            none.starts_with("no configured Calico pools for node n1: of 2 IPv4 pools 1 are disabled"),
            "{none}"
        );
        let tunnel = [stored("t", "10.8.0.0/16", |p| {
            p.spec.allowed_uses = vec![AllowedUse::Tunnel]
        })];
        assert_eq!(
            ask(&tunnel, &[]).unwrap_err(),
            "none of the pools t has 'Workload' in its allowedUses"
        );
    }

    fn pool(cidr: &str, block_size: u8) -> Pool {
        Pool {
            name: "p".into(),
            cidr: cidr.parse().unwrap(),
            block_size,
        }
    }

    #[test]
    fn impossible_pools_have_no_blocks() {
        assert_eq!(pool("10.0.0.0/28", 26).walk(1, &[]).count(), 0);
        assert_eq!(pool("10.0.0.0/28", 33).walk(1, &[]).count(), 0);
        // The largest there is still gives its first blocks at once.
        assert_eq!(pool("8000::/1", 128).walk(1, &[]).take(3).count(), 3);
    }

    #[test]
    fn large_reservations_are_stepped_over_at_once() {
        let reserved: Vec<Prefix> = vec!["fd00::/17".parse().unwrap(), "fd00:8000::/18".parse().unwrap()];
        let p = pool("fd00::/16", 122);
        for seed in 0..50 {
            let first = p.walk(seed, &reserved).next().unwrap();
            assert!(
                p.cidr.covers(first) && !reserved.iter().any(|r| r.covers(first)),
                "{first}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_walk_meets_every_unreserved_block_once(seed in any::<u64>(), cut in proptest::collection::vec((20u8..=28, any::<u32>()), 0..4)) {
            let p = pool("10.0.0.0/20", 26);
            let reserved: Vec<Prefix> = cut.iter()
                .map(|(len, bits)| Prefix::new(IpAddr::from((0x0a00_0000u32 | (bits & 0xfff)).to_be_bytes()), *len).unwrap())
                .collect();
            let mut met: Vec<Prefix> = p.walk(seed, &reserved).collect();
            met.sort();
            let all: Vec<Prefix> = (0..64).map(|i| p.block(i).unwrap()).filter(|b| !reserved.iter().any(|r| r.covers(*b))).collect();
            prop_assert_eq!(met, all);
        }
    }
}
