//! Giving addresses: from the node's own blocks, from a block it claims, from a block it borrows from.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::SignedDuration;
use tortie_model::ipam::{Affinity, Block, Handle};
use tortie_model::{Key, Owner};
use tortie_net::Prefix;

use crate::error::{Full, IpamError, Limit, PoolUsage};
use crate::plan::{Change, Collection, Document, Ops, Plan, StoreFailure, Stored, TOGETHER};
use crate::pools::{Pool, seed};
use crate::{IpFamily, RETRIES, Setting, Want, affinity, block, handle};

/// A claim on an empty block younger than this is not taken away: its owner is about to use it.
const RECLAIM_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// Wants served by one write: their handles and the block go together.
const AT_ONCE: usize = TOGETHER - 1;

/// Blocks that a node reads one by one on its way to one that nobody has. Where more are in its way, it reads all at once.
const IN_THE_WAY: usize = 8;

/// Broken blocks that a search passes over.
const BROKEN_MAX: usize = 16;

/// What was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Assigned {
    /// The first of the wants got these, in order.
    pub addresses: Vec<IpAddr>,
    /// Why the others got none; `None` when every want got one.
    pub shortage: Option<Full>,
}

/// Gives one address to each of `wants`, from `pools` (all of one family, in this order of preference).
///
/// The wants share writes: a block that gives addresses is written once, together with the handles that get them. A failure
/// in the middle may leave addresses with the handles: release each of them.
pub fn auto_assign(setting: Setting, pools: Vec<Pool>, wants: Vec<Want>) -> Plan<Result<Assigned, IpamError>> {
    Plan::new(|ops| async move {
        let family = pools.first().map_or(IpFamily::V4, |p| IpFamily::of(p.cidr));
        let mut search = Search {
            ops,
            setting,
            pools,
            family,
            wants,
            given: Vec::new(),
            owned: 0,
            broken: BTreeMap::new(),
        };
        let limit = search.run().await?;
        if search.given.is_empty()
            && let Some((_, failure)) = search.broken.pop_first()
        {
            return Err(failure.into());
        }
        let shortage = if search.is_done() {
            None
        } else {
            Some(search.shortage(limit).await?)
        };
        Ok(Assigned {
            addresses: search.given,
            shortage,
        })
    })
}

/// Gives this very address. Reservations and selectors do not matter; a handle that has it already keeps it.
pub fn assign_ip(setting: Setting, pools: Vec<Pool>, ip: IpAddr, want: Want) -> Plan<Result<(), IpamError>> {
    Plan::new(move |ops| async move {
        let cidr = pools
            .iter()
            .find_map(|p| p.block_of(ip))
            .ok_or(IpamError::NotInPool(ip))?;
        for _ in 0..RETRIES {
            let stored = match ops.block(cidr).await? {
                Some(stored) => stored,
                None => match affinity::claim(&ops, &setting, cidr).await? {
                    Some(stored) => stored,
                    None => continue,
                },
            };
            let revision = stored.revision;
            let mut block = stored.value;
            block::expire(&mut block, setting.cooldown(), setting.now);
            if setting.config.strict_affinity && block.affinity != Some(setting.owner()) {
                let owner = block.affinity.map_or_else(|| "nobody".to_owned(), |o| o.to_string());
                return Err(IpamError::NotOurs { ip, block: cidr, owner });
            }
            if block::is_taken(&block, ip) {
                let to = block::handle_of(&block, ip).map(str::to_owned);
                return if to.as_ref() == Some(&want.handle) {
                    Ok(())
                } else {
                    Err(IpamError::Taken { ip, to })
                };
            }
            if !block::assign_ip(&mut block, ip, &want) {
                return Err(IpamError::NotInPool(ip));
            }
            if commit(&ops, block, revision, std::slice::from_ref(&want)).await? {
                return Ok(());
            }
        }
        Err(IpamError::Contended {
            object: Key::Block(cidr).object_name(),
            attempts: RETRIES,
        })
    })
}

/// Raises the handles and writes the block that gives them addresses, all in one. `false`: another change of the block came
/// first, and nothing was written. At most [`AT_ONCE`].
async fn commit(ops: &Ops, mut block: Block, revision: u64, given: &[Want]) -> Result<bool, IpamError> {
    let cidr = block.cidr;
    block::touch(&mut block);
    let give = Change::Update(Document::Block(Box::new(block)), revision);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for want in given {
        *counts.entry(&want.handle).or_default() += 1;
    }
    // Nearly always these are their owners' first addresses: the handles are created without being read.
    let mut present: BTreeMap<&str, Stored<Handle>> = BTreeMap::new();
    for _ in 0..RETRIES {
        let handles = counts
            .iter()
            .map(|(id, n)| handle::raised(id, present.get(id), cidr, *n));
        let together = handles.chain([(Key::Block(cidr), give.clone())]).collect();
        if ops.write_all(together).await?.is_some() {
            return Ok(true);
        }
        // Either the block has moved, or a handle is not as it was taken to be.
        if ops.block(cidr).await?.is_none_or(|b| b.revision != revision) {
            return Ok(false);
        }
        present.clear();
        for id in counts.keys() {
            if let Some(stored) = ops.handle(id).await? {
                present.insert(id, stored);
            }
        }
    }
    Err(IpamError::Contended {
        object: Key::Block(cidr).object_name(),
        attempts: RETRIES,
    })
}

/// A search in progress.
struct Search {
    ops: Ops,
    setting: Setting,
    pools: Vec<Pool>,
    family: IpFamily,
    wants: Vec<Want>,
    given: Vec<IpAddr>,
    /// This node's blocks in the pools.
    owned: usize,
    /// Blocks that cannot be used because a document of theirs cannot be read or written: the others can.
    broken: BTreeMap<Prefix, StoreFailure>,
}

impl Search {
    fn is_done(&self) -> bool {
        self.given.len() >= self.wants.len()
    }

    /// Until every want has an address, or there is none; then the rule that stood in the way, if one did.
    async fn run(&mut self) -> Result<Option<Limit>, IpamError> {
        if self.is_done() {
            return Ok(None);
        }
        let claims = self.claims().await?;
        self.owned = claims.len();
        for (cidr, claim) in claims {
            if self.is_done() {
                return Ok(None);
            }
            if self.setting.is_wholly_reserved(cidr) {
                continue;
            }
            let block = affinity::block_of(&self.ops, &self.setting, cidr, Some(claim)).await;
            if let Some(block) = self.passed_over(cidr, block)? {
                self.fill(block, true).await?;
            }
        }
        // Every round claims a block, or loses one to another node.
        for _ in 0..RETRIES {
            if self.is_done() {
                return Ok(None);
            }
            if self.owned >= self.setting.max_blocks() {
                return Ok(Some(Limit::MaxBlocksPerHost(self.owned)));
            }
            if !self.setting.config.auto_allocate_blocks {
                return Ok(Some(Limit::AutoAllocateBlocks));
            }
            let Some(cidr) = self.usable_block().await? else { break };
            let block = affinity::claim(&self.ops, &self.setting, cidr).await;
            if let Some(block) = self.passed_over(cidr, block)? {
                self.owned += 1;
                self.fill(block, true).await?;
            }
        }
        if self.is_done() {
            return Ok(None);
        }
        if self.setting.config.strict_affinity {
            return Ok(Some(Limit::StrictAffinity));
        }
        self.borrow().await?;
        Ok(None)
    }

    /// Notes a block that is broken instead of failing with it; a few, for when everything fails it is no block's fault.
    fn passed_over<T>(&mut self, cidr: Prefix, found: Result<Option<T>, IpamError>) -> Result<Option<T>, IpamError> {
        match found {
            Err(IpamError::Store(failure)) if !failure.retryable && self.broken.len() < BROKEN_MAX => {
                self.broken.insert(cidr, failure);
                Ok(None)
            }
            other => other,
        }
    }

    /// This node's claims in the pools, in address order.
    async fn claims(&self) -> Result<BTreeMap<Prefix, Stored<Affinity>>, IpamError> {
        let listed = self
            .ops
            .list(Collection::Affinities(self.setting.node.clone(), self.family))
            .await?;
        let of_pools = |(key, stored): (Key, Stored<Document>)| match (key, stored.value) {
            (Key::Affinity { cidr, .. }, Document::Affinity(value))
                if self.pools.iter().any(|p| p.cidr.covers(cidr)) =>
            {
                Some((
                    cidr,
                    Stored {
                        value,
                        revision: stored.revision,
                    },
                ))
            }
            _ => None,
        };
        Ok(listed.into_iter().filter_map(of_pools).collect())
    }

    async fn blocks(&self) -> Result<BTreeMap<Prefix, Stored<Block>>, IpamError> {
        let listed = self.ops.list(Collection::Blocks(self.family)).await?;
        let block = |(_, stored): (Key, Stored<Document>)| match stored.value {
            Document::Block(block) => Some((
                block.cidr,
                Stored {
                    value: *block,
                    revision: stored.revision,
                },
            )),
            Document::Affinity(_) | Document::Handle(_) | Document::Lease(_) => None,
        };
        Ok(listed.into_iter().filter_map(block).collect())
    }

    /// Takes what the block has, up to what is still wanted. A block that is no longer this node's gives nothing when
    /// `own` is set.
    async fn fill(&mut self, block: Stored<Block>, own: bool) -> Result<(), IpamError> {
        let cidr = block.value.cidr;
        let mut next = Some(block);
        for _ in 0..RETRIES {
            let stored = match next.take() {
                Some(stored) => stored,
                None => match self.ops.block(cidr).await? {
                    Some(stored) => stored,
                    None => return Ok(()),
                },
            };
            let mut block = stored.value;
            if own && block.affinity != Some(self.setting.owner()) {
                return Ok(());
            }
            block::expire(&mut block, self.setting.cooldown(), self.setting.now);
            let wanted = self.wants.get(self.given.len()..).unwrap_or_default();
            let open = wanted.get(..AT_ONCE).unwrap_or(wanted);
            let addresses = block::assign(&mut block, open, |ip| self.setting.is_reserved(ip));
            let given = open.get(..addresses.len()).unwrap_or_default();
            if given.is_empty() {
                return Ok(());
            }
            if commit(&self.ops, block, stored.revision, given).await? {
                let more = given.len() < wanted.len() && given.len() == open.len();
                self.given.extend(addresses);
                if !more {
                    return Ok(());
                }
            }
        }
        Err(IpamError::Contended {
            object: Key::Block(cidr).object_name(),
            attempts: RETRIES,
        })
    }

    /// A block to claim: one that does not exist, one that is this node's but has lost its claim, or, when there is no
    /// other, one that its owner does not use.
    async fn usable_block(&mut self) -> Result<Option<Prefix>, IpamError> {
        match self.near_block().await? {
            Some(cidr) => Ok(Some(cidr)),
            None => self.usable_block_of_all().await,
        }
    }

    /// The block that [`Search::usable_block_of_all`] finds, if few others are in the way: nodes begin at different places,
    /// so nearly always the first one is free, and what is in the other blocks of a large cluster need not be read.
    async fn near_block(&mut self) -> Result<Option<Prefix>, IpamError> {
        let existing = self.ops.blocks_there(self.family).await?;
        let reserved = self.setting.reservations.clone();
        let mut in_the_way = 0;
        for pool in self.pools.clone() {
            for cidr in pool.walk(self.seed(&pool), &reserved) {
                if !existing.contains(&cidr) {
                    if !existing.iter().chain(self.broken.keys()).any(|b| b.overlaps(cidr)) {
                        return Ok(Some(cidr));
                    }
                    continue;
                }
                if in_the_way == IN_THE_WAY {
                    return Ok(None);
                }
                in_the_way += 1;
                if self.broken.contains_key(&cidr) {
                    continue;
                }
                let block = self.ops.block(cidr).await.map_err(IpamError::from);
                let block = self.passed_over(cidr, block)?;
                if block.is_some_and(|b| self.has_lost_claim(&b.value)) {
                    return Ok(Some(cidr));
                }
            }
        }
        Ok(None)
    }

    /// This node's, with room, and found on the way to blocks that it does not have.
    fn has_lost_claim(&self, block: &Block) -> bool {
        block.affinity == Some(self.setting.owner()) && block::has_room(block, |ip| self.setting.is_reserved(ip))
    }

    async fn usable_block_of_all(&self) -> Result<Option<Prefix>, IpamError> {
        let existing = self.blocks().await?;
        for pool in &self.pools {
            for cidr in pool.walk(self.seed(pool), &self.setting.reservations) {
                let usable = match existing.get(&cidr) {
                    None => !existing.keys().chain(self.broken.keys()).any(|b| b.overlaps(cidr)),
                    Some(b) => self.has_lost_claim(&b.value),
                };
                if usable {
                    return Ok(Some(cidr));
                }
            }
        }
        for stored in existing.values() {
            if let Some(other) = self.idle_owner(&stored.value)
                && affinity::release(&self.ops, &self.setting, other, stored.value.cidr).await?
            {
                return Ok(Some(stored.value.cidr));
            }
        }
        Ok(None)
    }

    /// Blocks of single addresses are as many as addresses: there every attempt begins somewhere else.
    fn seed(&self, pool: &Pool) -> u64 {
        let by_name = seed(&self.setting.node);
        if pool.block_size == pool.cidr.max_len() {
            by_name ^ u64::try_from(self.setting.now.as_nanosecond()).unwrap_or(0)
        } else {
            by_name
        }
    }

    /// The other node that has this block, when it has not used it for [`RECLAIM_AFTER`].
    fn idle_owner(&self, block: &Block) -> Option<Owner> {
        let owner = block
            .affinity
            .clone()
            .filter(|o| *o != self.setting.owner() && matches!(o, Owner::Host(_)))?;
        let in_pools = self
            .pools
            .iter()
            .any(|p| p.cidr.covers(block.cidr) && p.block_size == block.cidr.len());
        let claimed: jiff::Timestamp = block.affinity_claim_time.as_deref()?.parse().ok()?;
        let old = self.setting.now.duration_since(claimed) > RECLAIM_AFTER;
        let usable = !self.setting.is_wholly_reserved(block.cidr);
        (in_pools && old && usable && block::is_empty(block)).then_some(owner)
    }

    /// Takes from blocks of others.
    async fn borrow(&mut self) -> Result<(), IpamError> {
        let mut existing = self.blocks().await?;
        for pool in self.pools.clone() {
            let walk: Vec<Prefix> = {
                let start = pool.walk(self.seed(&pool), &self.setting.reservations).next();
                let of_pool = existing.keys().copied().filter(|b| pool.cidr.covers(*b));
                let (before, after): (Vec<_>, Vec<_>) = of_pool.partition(|b| Some(*b) < start);
                after.into_iter().chain(before).collect()
            };
            for cidr in walk {
                if self.is_done() {
                    return Ok(());
                }
                if let Some(block) = existing
                    .remove(&cidr)
                    .filter(|b| !self.setting.is_wholly_reserved(b.value.cidr))
                {
                    self.fill(block, false).await?;
                }
            }
        }
        Ok(())
    }

    async fn shortage(&self, limit: Option<Limit>) -> Result<Full, IpamError> {
        let existing = self.blocks().await?;
        let owner = self.setting.owner();
        let usage = |pool: &Pool| {
            let blocks = || existing.values().map(|b| &b.value).filter(|b| pool.cidr.covers(b.cidr));
            PoolUsage {
                name: pool.name.clone(),
                cidr: pool.cidr,
                size: 1u128
                    .checked_shl((pool.cidr.max_len() - pool.cidr.len()).into())
                    .unwrap_or(u128::MAX),
                in_use: blocks().map(block::in_use).sum(),
                own_blocks: blocks().filter(|b| b.affinity.as_ref() == Some(&owner)).count(),
            }
        };
        Ok(Full {
            node: self.setting.node.clone(),
            pools: self.pools.iter().map(usage).collect(),
            limit,
        })
    }
}
