//! The IPAM documents as stored: block, affinity, handle, configuration (values under [`crate::key::IPAM`]).
//!
//! Types only; the decisions live in `tortie-ipam`. Sequence numbers are exact 64-bit integers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tortie_net::Prefix;

use crate::key::Owner;
use crate::meta::Extra;
use crate::scalar::{is_false, list, text, text_enum};

/// An allocation block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// The addresses it holds.
    pub cidr: Prefix,
    /// Who owns it; `None`: nobody.
    #[serde(default, with = "text")]
    pub affinity: Option<Owner>,
    /// RFC 3339: when the owner claimed it.
    #[serde(default, rename = "affinity_claim_time", skip_serializing_if = "Option::is_none")]
    pub affinity_claim_time: Option<String>,
    /// Per ordinal, an index into `attributes`, or `None` when the address is free.
    #[serde(default, deserialize_with = "list")]
    pub allocations: Vec<Option<usize>>,
    /// Free ordinals, first to be given out first.
    #[serde(default, deserialize_with = "list")]
    pub unallocated: Vec<u32>,
    /// What allocations refer to.
    #[serde(default, deserialize_with = "list")]
    pub attributes: Vec<AllocationAttribute>,
    /// Grows by one with each write; begins at the creation time in Unix nanoseconds.
    #[serde(default)]
    pub sequence_number: u64,
    /// Per ordinal, the block's sequence number when its allocation last changed.
    #[serde(default)]
    pub sequence_number_for_allocation: BTreeMap<u32, u64>,
    /// On its way out (Kubernetes datastore only).
    #[serde(default)]
    pub deleted: bool,
    /// Owner as releases before the `affinity` field wrote it: a bare node name.
    #[serde(default, skip_serializing)]
    host_affinity: Option<String>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Block {
    /// A block nobody has taken an address from, not yet owned.
    pub fn new(cidr: Prefix) -> Self {
        Block {
            cidr,
            affinity: None,
            affinity_claim_time: None,
            allocations: Vec::new(),
            unallocated: Vec::new(),
            attributes: Vec::new(),
            sequence_number: 0,
            sequence_number_for_allocation: BTreeMap::new(),
            deleted: false,
            host_affinity: None,
            extra: Extra::new(),
        }
    }

    /// Folds the owner as older releases wrote it into `affinity`.
    pub(crate) fn fold_legacy(&mut self) {
        if let Some(host) = self.host_affinity.take()
            && self.affinity.is_none()
        {
            self.affinity = host.parse().ok().map(Owner::Host);
        }
    }
}

/// Why an address is not free.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AllocationAttribute {
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle_id: Option<String>,
    /// What the owner said of itself: pod, namespace, node, type, timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secondary: Option<BTreeMap<String, String>>,
    /// RFC 3339: the address was released then and cools down; it has no handle.
    #[serde(default, rename = "releasedAt", skip_serializing_if = "Option::is_none")]
    pub released_at: Option<String>,
    /// Unknown fields, and those of other features (`alternateOwnerAttrs`).
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// How far the claim on a block has come.
    AffinityState, "affinity state" {
        /// The block is the owner's.
        Confirmed = "confirmed",
        /// The owner means to take the block.
        Pending = "pending",
        /// The owner is giving the block up.
        PendingDeletion = "pendingDeletion",
    }
}

/// The claim of an owner on a block. An empty document means confirmed: the oldest releases wrote that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Affinity {
    /// How far it has come.
    #[serde(default = "confirmed", deserialize_with = "state")]
    pub state: AffinityState,
    /// On its way out (Kubernetes datastore only).
    #[serde(default)]
    pub deleted: bool,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Affinity {
    /// A claim in this state.
    pub fn new(state: AffinityState) -> Self {
        Affinity {
            state,
            deleted: false,
            extra: Extra::new(),
        }
    }
}

fn confirmed() -> AffinityState {
    AffinityState::Confirmed
}

fn state<'de, D: serde::Deserializer<'de>>(d: D) -> Result<AffinityState, D::Error> {
    Ok(text::deserialize(d)?.unwrap_or(AffinityState::Confirmed))
}

/// All addresses of one owner, by block. Its id is in its key only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Handle {
    /// How many addresses in which block.
    #[serde(default, deserialize_with = "counts")]
    pub block: BTreeMap<Prefix, u64>,
    /// On its way out (Kubernetes datastore only).
    #[serde(default)]
    pub deleted: bool,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Old handles have no map, or null.
fn counts<'de, D: serde::Deserializer<'de>>(d: D) -> Result<BTreeMap<Prefix, u64>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// Who of several does what only one should do. Whoever sees it unrenewed for longer than its term may take it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// Who has it.
    pub holder: String,
    /// How long it holds without being renewed.
    pub term_seconds: u32,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How IPAM behaves in the whole cluster: the document at [`crate::key::IPAM_CONFIG`], which is what IPAM obeys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IpamConfig {
    /// Never take addresses from another node's block.
    #[serde(default)]
    pub strict_affinity: bool,
    /// May claim new blocks.
    #[serde(default)]
    pub auto_allocate_blocks: bool,
    /// Cap of blocks per node; 0: the built-in one.
    #[serde(default, rename = "maxBlocksPerHost", skip_serializing_if = "is_zero")]
    pub max_blocks_per_host: u32,
    /// How long a released address is not given out again.
    #[serde(default, rename = "ipCooldownSeconds", skip_serializing_if = "is_zero")]
    pub ip_cooldown_seconds: u32,
    /// On its way out (Kubernetes datastore only).
    #[serde(default, skip_serializing_if = "is_false")]
    pub deleted: bool,
    /// Unknown fields, and those of other features (`kubeVirtVMAddressPersistence`).
    #[serde(flatten)]
    pub extra: Extra,
}

impl Default for IpamConfig {
    /// What holds when no document is stored.
    fn default() -> Self {
        IpamConfig {
            strict_affinity: false,
            auto_allocate_blocks: true,
            max_blocks_per_host: 0,
            ip_cooldown_seconds: 0,
            deleted: false,
            extra: Extra::new(),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's `skip_serializing_if` passes a reference.
fn is_zero(n: &u32) -> bool {
    *n == 0
}
