//! Garbage collection, the judgement: what is garbage, seen often enough and long enough to be sure.
//!
//! A [`Watch`] is shown the cluster again and again and remembers since when each thing looks abandoned. Nothing is
//! collected on first sight; an address has to be without its workload for the whole grace time, under the same
//! allocation, and every address of its handle with it. When in doubt, something stays: what cannot be read, what says
//! nothing of its owner, and what other programs allocated.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use tortie_model::Owner;
use tortie_model::ipam::{AllocationAttribute, Block, Handle};
use tortie_net::{NodeName, Prefix};

use crate::block;
use crate::collect::Leak;

/// How long an address is without its workload before it is released, as in Calico.
pub const DEFAULT_GRACE: SignedDuration = SignedDuration::from_mins(15);

/// Whose garbage is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// What this node allocated or claims.
    Node(NodeName),
    /// What nodes have that do not exist, these being the ones that do; and what is nobody's.
    Gone(BTreeSet<NodeName>),
}

impl Scope {
    fn includes(&self, node: &NodeName) -> bool {
        match self {
            Scope::Node(own) => own == node,
            Scope::Gone(existing) => !existing.contains(node),
        }
    }
}

/// What is to be seen at one moment. The blocks must have been read before the workloads.
pub struct View<'a> {
    /// The moment.
    pub now: Timestamp,
    /// The blocks that may hold something of the scope. One that cannot be read is left out and its handles in
    /// `unreadable`.
    pub blocks: Vec<&'a Block>,
    /// The claims on blocks that may be of the scope.
    pub affinities: Vec<(Owner, Prefix)>,
    /// Handles, where they are looked at.
    pub handles: Vec<(String, &'a Handle)>,
    /// Blocks that exist but cannot be read.
    pub unreadable: BTreeSet<Prefix>,
    /// Is this the address of a workload that is there?
    pub is_live: &'a dyn Fn(IpAddr) -> bool,
    /// May this node have new addresses of this block: is it in an enabled pool that selects it?
    pub is_pooled: &'a dyn Fn(&NodeName, Prefix) -> bool,
}

/// Something to collect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Garbage {
    /// [`crate::release_leaked`].
    Leaked {
        /// Whose addresses.
        handle: String,
        /// All of them.
        addresses: Vec<Leak>,
    },
    /// [`crate::delete_empty_handle`].
    EmptyHandle(String),
    /// [`crate::release_affinity`].
    IdleBlock(NodeName, Prefix),
    /// [`crate::release_affinity_of_gone`].
    GoneClaim(NodeName, Prefix),
    /// [`crate::sweep_block`].
    Unswept(Prefix),
}

/// Remembers what looks abandoned, and since when.
#[derive(Debug)]
pub struct Watch {
    grace: SignedDuration,
    since: BTreeMap<Suspect, Timestamp>,
}

/// Something that looks abandoned. Any change of it makes it another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Suspect {
    Addresses(String, Vec<Leak>),
    Handle(String, Vec<(Prefix, u64)>),
    Block(NodeName, Prefix, u64),
    Claim(NodeName, Prefix),
}

/// What an allocation's attributes say of its owner.
struct Said<'a> {
    node: Option<NodeName>,
    /// A tunnel's address, and not a workload's.
    tunnel: bool,
    handle: &'a str,
}

impl<'a> Said<'a> {
    /// `None`: it says too little, or is not a workload's or a tunnel's.
    fn of(attribute: &'a AllocationAttribute) -> Option<Self> {
        let handle = attribute.handle_id.as_deref()?;
        let secondary = attribute.secondary.as_ref()?;
        let tunnel = secondary.get("type").is_some_and(|t| t.ends_with("TunnelAddress"));
        let workload = secondary.contains_key("pod") || secondary.contains_key("timestamp");
        (tunnel || workload).then(|| Said {
            node: secondary.get("node").and_then(|n| n.parse().ok()),
            tunnel,
            handle,
        })
    }
}

impl Watch {
    /// Nothing seen yet.
    pub fn new(grace: SignedDuration) -> Self {
        Watch {
            grace,
            since: BTreeMap::new(),
        }
    }

    /// Looks again, and says what to collect now.
    pub fn look(&mut self, scope: &Scope, view: &View<'_>) -> Vec<Garbage> {
        let mut suspects = Vec::new();
        addresses(scope, view, self.grace, &mut suspects);
        if matches!(scope, Scope::Gone(_)) {
            empty_handles(view, self.grace, &mut suspects);
        }
        claims(scope, view, self.grace, &mut suspects);
        let mut garbage = Vec::new();
        let mut since = BTreeMap::new();
        for (suspect, grace, collect) in suspects {
            let first = self.since.get(&suspect).copied();
            since.insert(suspect, first.unwrap_or(view.now));
            if first.is_some_and(|f| view.now.duration_since(f) >= grace) {
                garbage.push(collect);
            }
        }
        self.since = since;
        // What a cool-down left needs no second look: it says itself since when.
        let swept = view.blocks.iter().filter(|b| needs_sweep(scope, b));
        garbage.extend(swept.map(|b| Garbage::Unswept(b.cidr)));
        keep_one_block(view, garbage)
    }
}

type Found = Vec<(Suspect, SignedDuration, Garbage)>;

/// Handles all of whose addresses in the scope have no workload.
fn addresses(scope: &Scope, view: &View<'_>, grace: SignedDuration, out: &mut Found) {
    let mut of_handle: BTreeMap<&str, Option<Vec<Leak>>> = BTreeMap::new();
    let mut impatient: BTreeSet<&str> = BTreeSet::new();
    for block in &view.blocks {
        for (ip, attribute) in block::allocated(block) {
            let Some(id) = attribute.handle_id.as_deref() else {
                continue;
            };
            let leak = Said::of(attribute).and_then(|said| {
                let gone = said.node.as_ref().is_some_and(|n| scope.includes(n));
                // A tunnel's address is its node's, whatever workloads there are.
                let kept = said.tunnel && matches!(scope, Scope::Node(_));
                if said.tunnel {
                    impatient.insert(said.handle);
                }
                (gone && !kept && !(view.is_live)(ip)).then(|| Leak {
                    block: block.cidr,
                    ip,
                    sequence: block::sequence_of(block, ip),
                })
            });
            let leaks = of_handle.entry(id).or_insert_with(|| Some(Vec::new()));
            match (leak, leaks.as_mut()) {
                (Some(leak), Some(leaks)) => leaks.push(leak),
                // One address in use keeps all of its handle's.
                (None, _) => *leaks = None,
                (Some(_), None) => {}
            }
        }
    }
    for (id, leaks) in of_handle {
        let Some(addresses) = leaks.filter(|l| !l.is_empty()) else {
            continue;
        };
        let suspect = Suspect::Addresses(id.to_owned(), addresses.clone());
        let grace = if impatient.contains(id) {
            SignedDuration::ZERO
        } else {
            grace
        };
        let handle = id.to_owned();
        out.push((suspect, grace, Garbage::Leaked { handle, addresses }));
    }
}

/// Handles that no block gives an address.
fn empty_handles(view: &View<'_>, grace: SignedDuration, out: &mut Found) {
    let blocks: BTreeMap<Prefix, &Block> = view.blocks.iter().map(|b| (b.cidr, *b)).collect();
    for (id, handle) in &view.handles {
        let known = handle.block.keys().all(|b| !view.unreadable.contains(b));
        let given = |b: &Prefix| blocks.get(b).is_some_and(|b| !block::addresses_of(b, id).is_empty());
        if known && !handle.block.keys().any(given) {
            let counts = handle.block.iter().map(|(b, n)| (*b, *n)).collect();
            out.push((
                Suspect::Handle(id.clone(), counts),
                grace,
                Garbage::EmptyHandle(id.clone()),
            ));
        }
    }
}

/// Claims on blocks that are empty, or were never made.
fn claims(scope: &Scope, view: &View<'_>, grace: SignedDuration, out: &mut Found) {
    let blocks: BTreeMap<Prefix, &Block> = view.blocks.iter().map(|b| (b.cidr, *b)).collect();
    for (owner, cidr) in &view.affinities {
        let Owner::Host(node) = owner else { continue };
        if !scope.includes(node) || view.unreadable.contains(cidr) {
            continue;
        }
        let block = blocks.get(cidr).filter(|b| b.affinity.as_ref() == Some(owner));
        match (scope, block) {
            (Scope::Gone(_), block) if block.is_none_or(|b| block::is_empty(b)) => {
                let suspect = Suspect::Claim(node.clone(), *cidr);
                out.push((suspect, SignedDuration::ZERO, Garbage::GoneClaim(node.clone(), *cidr)));
            }
            // Left in the middle of a claim that failed.
            (Scope::Node(_), None) => {
                let suspect = Suspect::Claim(node.clone(), *cidr);
                out.push((suspect, grace, Garbage::GoneClaim(node.clone(), *cidr)));
            }
            (Scope::Node(_), Some(b)) if block::is_empty(b) => {
                let suspect = Suspect::Block(node.clone(), *cidr, b.sequence_number);
                let grace = if (view.is_pooled)(node, *cidr) {
                    grace
                } else {
                    SignedDuration::ZERO
                };
                out.push((suspect, grace, Garbage::IdleBlock(node.clone(), *cidr)));
            }
            _ => {}
        }
    }
}

/// An address of this node's blocks cools down, or a block is nobody's and empty.
fn needs_sweep(scope: &Scope, block: &Block) -> bool {
    let cooling = || block::allocated(block).any(|(_, a)| a.handle_id.is_none() && a.released_at.is_some());
    match (scope, &block.affinity) {
        (Scope::Node(own), Some(Owner::Host(node))) => own == node && cooling(),
        (Scope::Gone(_), None) => block::is_empty(block) || cooling(),
        (Scope::Gone(existing), Some(Owner::Host(node))) => !existing.contains(node) && cooling(),
        _ => false,
    }
}

/// A node keeps one block of each family that it may have addresses of, so that its next workload need not claim one.
fn keep_one_block(view: &View<'_>, garbage: Vec<Garbage>) -> Vec<Garbage> {
    let mut left: BTreeMap<(NodeName, bool), usize> = BTreeMap::new();
    for block in &view.blocks {
        let cidr = &block.cidr;
        if let Some(Owner::Host(node)) = &block.affinity
            && (view.is_pooled)(node, *cidr)
        {
            *left.entry((node.clone(), cidr.is_v4())).or_default() += 1;
        }
    }
    let mut stays = |g: &Garbage| match g {
        Garbage::IdleBlock(node, cidr) if (view.is_pooled)(node, *cidr) => {
            let left = left.entry((node.clone(), cidr.is_v4())).or_default();
            let last = *left <= 1;
            *left -= usize::from(!last);
            last
        }
        _ => false,
    };
    garbage.into_iter().filter(|g| !stays(g)).collect()
}

#[cfg(test)]
mod tests;
