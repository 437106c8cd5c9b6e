//! One block: addresses taken, released, and what is left.
//!
//! Blocks come from the datastore and may have been written by anybody. A block whose parts contradict each other is
//! never trusted further than they agree: an ordinal that is out of range or taken is not given out, an index without an
//! attribute belongs to nobody.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::{SignedDuration, Timestamp};
use tortie_model::Owner;
use tortie_model::ipam::{AllocationAttribute, Block};
use tortie_net::Prefix;

/// Blocks have at most so many host bits: 4096 addresses, Calico's largest.
pub(crate) const MAX_HOST_BITS: u8 = 12;

/// One address wanted: whose, and what its owner says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// The handle by which it is released.
    pub handle: String,
    /// Attributes such as pod, namespace, node.
    pub attributes: BTreeMap<String, String>,
}

/// Addresses of a block, or 0 when its prefix is no block's.
pub(crate) fn size(cidr: Prefix) -> u32 {
    let bits = cidr.max_len() - cidr.len();
    if bits <= MAX_HOST_BITS { 1 << bits } else { 0 }
}

/// The address of an ordinal.
pub(crate) fn address(cidr: Prefix, ordinal: u32) -> IpAddr {
    match cidr.addr() {
        IpAddr::V4(base) => Ipv4Addr::from(u32::from(base).wrapping_add(ordinal)).into(),
        IpAddr::V6(base) => Ipv6Addr::from(u128::from(base).wrapping_add(ordinal.into())).into(),
    }
}

/// The ordinal of an address.
pub(crate) fn ordinal(cidr: Prefix, ip: IpAddr) -> Option<u32> {
    if !cidr.contains(ip) {
        return None;
    }
    let offset = match (cidr.addr(), ip) {
        (IpAddr::V4(base), IpAddr::V4(ip)) => u128::from(u32::from(ip) - u32::from(base)),
        (IpAddr::V6(base), IpAddr::V6(ip)) => u128::from(ip) - u128::from(base),
        _ => return None,
    };
    u32::try_from(offset).ok().filter(|o| *o < size(cidr))
}

/// A new block of this owner.
pub(crate) fn claimed(cidr: Prefix, owner: Owner, now: Timestamp) -> Block {
    let count = size(cidr);
    let mut block = Block::new(cidr);
    block.affinity = Some(owner);
    block.affinity_claim_time = Some(seconds(now));
    block.allocations = vec![None; usize::try_from(count).unwrap_or(0)];
    block.unallocated = (0..count).collect();
    block.sequence_number = u64::try_from(now.as_nanosecond()).unwrap_or(0);
    block
}

/// RFC 3339 with whole seconds, as Go writes it.
fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// Says that the block is about to be written: every write has a sequence number of its own.
pub(crate) fn touch(block: &mut Block) {
    block.sequence_number = block.sequence_number.wrapping_add(1);
}

/// Is no address in use or cooling down?
pub(crate) fn is_empty(block: &Block) -> bool {
    block.allocations.iter().all(Option::is_none)
}

/// About how long its document is.
pub(crate) fn octets(block: &Block) -> usize {
    /// Of an ordinal in three lists.
    const SLOT: usize = 32;
    /// Of an attribute beside its texts, and of an entry in it.
    const FRAME: usize = 64;
    let texts = |a: &AllocationAttribute| {
        let entries = a.secondary.iter().flatten();
        let handle = a.handle_id.as_ref().map_or(0, String::len);
        FRAME + handle + entries.map(|(k, v)| k.len() + v.len() + FRAME).sum::<usize>()
    };
    block.allocations.len() * SLOT + block.attributes.iter().map(texts).sum::<usize>()
}

/// Addresses in use or cooling down.
pub(crate) fn in_use(block: &Block) -> u64 {
    block.allocations.iter().flatten().count() as u64
}

fn slot(block: &Block, ordinal: u32) -> Option<usize> {
    usize::try_from(ordinal)
        .ok()
        .filter(|o| *o < block.allocations.len() && ordinal < size(block.cidr))
}

fn is_free(block: &Block, ordinal: u32) -> bool {
    slot(block, ordinal).is_some_and(|o| block.allocations[o].is_none())
}

/// Does it have an address that could be given out?
pub(crate) fn has_room(block: &Block, reserved: impl Fn(IpAddr) -> bool) -> bool {
    block
        .unallocated
        .iter()
        .any(|o| is_free(block, *o) && !reserved(address(block.cidr, *o)))
}

/// Gives addresses to `wants`, in order, until one or the other runs out. The longest free come first; reserved ones are
/// passed over and stay where they are.
pub(crate) fn assign(block: &mut Block, wants: &[Want], reserved: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let queue = std::mem::take(&mut block.unallocated);
    let mut given = Vec::new();
    for ordinal in queue {
        let ip = address(block.cidr, ordinal);
        match wants.get(given.len()) {
            Some(want) if is_free(block, ordinal) && !reserved(ip) => {
                allocate(block, ordinal, want);
                given.push(ip);
            }
            _ => block.unallocated.push(ordinal),
        }
    }
    given
}

/// Gives this very address. `false` when it is not free.
pub(crate) fn assign_ip(block: &mut Block, ip: IpAddr, want: &Want) -> bool {
    let Some(ordinal) = ordinal(block.cidr, ip).filter(|o| is_free(block, *o)) else {
        return false;
    };
    block.unallocated.retain(|o| *o != ordinal);
    allocate(block, ordinal, want);
    true
}

fn allocate(block: &mut Block, ordinal: u32, want: &Want) {
    let attribute = AllocationAttribute {
        handle_id: Some(want.handle.clone()),
        secondary: Some(want.attributes.clone()),
        ..AllocationAttribute::default()
    };
    set(block, ordinal, attribute);
}

fn set(block: &mut Block, ordinal: u32, attribute: AllocationAttribute) {
    let index = block
        .attributes
        .iter()
        .position(|a| *a == attribute)
        .unwrap_or_else(|| {
            block.attributes.push(attribute);
            block.attributes.len() - 1
        });
    if let Some(slot) = slot(block, ordinal) {
        block.allocations[slot] = Some(index);
        block
            .sequence_number_for_allocation
            .insert(ordinal, block.sequence_number);
    }
}

/// The attribute of an allocated ordinal.
fn attribute(block: &Block, ordinal: u32) -> Option<&AllocationAttribute> {
    let index = block.allocations[slot(block, ordinal)?]?;
    block.attributes.get(index)
}

/// Every allocated address, with what its owner said of itself. One whose index leads nowhere is left out.
pub(crate) fn allocated(block: &Block) -> impl Iterator<Item = (IpAddr, &AllocationAttribute)> {
    (0..size(block.cidr)).filter_map(|o| Some((address(block.cidr, o), attribute(block, o)?)))
}

/// The block's sequence number when this address was last given or taken; 0 when that is not known.
pub(crate) fn sequence_of(block: &Block, ip: IpAddr) -> u64 {
    let ordinal = ordinal(block.cidr, ip);
    let sequence = ordinal.and_then(|o| block.sequence_number_for_allocation.get(&o));
    sequence.copied().unwrap_or(0)
}

/// Whose address is it? `None`: nobody's, or cooling down.
pub(crate) fn handle_of(block: &Block, ip: IpAddr) -> Option<&str> {
    attribute(block, ordinal(block.cidr, ip)?)?.handle_id.as_deref()
}

/// Is the address taken, by whomever?
pub(crate) fn is_taken(block: &Block, ip: IpAddr) -> bool {
    ordinal(block.cidr, ip)
        .and_then(|o| slot(block, o))
        .is_some_and(|o| block.allocations[o].is_some())
}

/// The addresses of a handle. Old releases on Windows left a carriage return at its end.
pub(crate) fn addresses_of(block: &Block, handle: &str) -> Vec<IpAddr> {
    let is_its = |o: &u32| {
        attribute(block, *o)
            .and_then(|a| a.handle_id.as_deref())
            .is_some_and(|h| h.trim_end_matches('\r') == handle)
    };
    (0..size(block.cidr))
        .filter(is_its)
        .map(|o| address(block.cidr, o))
        .collect()
}

/// Releases addresses: they are free again after the cool-down, at the end of the queue.
pub(crate) fn release(block: &mut Block, ips: &[IpAddr], cooldown: SignedDuration, now: Timestamp) {
    let released = AllocationAttribute {
        released_at: Some(seconds(now)),
        ..AllocationAttribute::default()
    };
    let cidr = block.cidr;
    for ordinal in ips.iter().filter_map(|ip| ordinal(cidr, *ip)) {
        set(block, ordinal, released.clone());
    }
    expire(block, cooldown, now);
}

/// Frees what has cooled down, and drops attributes nothing refers to any more.
pub(crate) fn expire(block: &mut Block, cooldown: SignedDuration, now: Timestamp) {
    let is_cold = |a: &AllocationAttribute| {
        let at = a.released_at.as_deref().map(str::parse::<Timestamp>);
        // A time that cannot be read is taken as long past: an address must not be lost to a typing error.
        at.is_some_and(|at| at.map_or(true, |at| now.duration_since(at) >= cooldown))
    };
    for ordinal in 0..size(block.cidr) {
        if attribute(block, ordinal).is_some_and(is_cold)
            && let Some(slot) = slot(block, ordinal)
        {
            block.allocations[slot] = None;
            block.unallocated.push(ordinal);
            block
                .sequence_number_for_allocation
                .insert(ordinal, block.sequence_number);
        }
    }
    compact(block);
}

fn compact(block: &mut Block) {
    let mut index = vec![None; block.attributes.len()];
    let mut kept = Vec::new();
    for allocation in &mut block.allocations {
        let Some(old) = *allocation else { continue };
        let Some(new) = index.get_mut(old) else { continue };
        let position = *new.get_or_insert_with(|| {
            kept.push(block.attributes[old].clone());
            kept.len() - 1
        });
        *allocation = Some(position);
    }
    block.attributes = kept;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(cidr: &str) -> Block {
        claimed(cidr.parse().unwrap(), "host:n1".parse().unwrap(), at(0))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_777_630_000 + second).unwrap()
    }

    fn want(handle: &str) -> Want {
        Want {
            handle: handle.into(),
            attributes: BTreeMap::from([("pod".into(), handle.into())]),
        }
    }

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn released_addresses_go_to_the_end_of_the_queue() {
        let mut b = block("10.0.0.0/30");
        let none = |_| false;
        assert_eq!(
            assign(&mut b, &[want("a"), want("b")], none),
            [ip("10.0.0.0"), ip("10.0.0.1")]
        );
        release(&mut b, &[ip("10.0.0.0")], SignedDuration::ZERO, at(1));
        assert_eq!(b.unallocated, [2, 3, 0]);
        assert_eq!(b.attributes.len(), 1, "what nothing refers to is dropped");
        assert_eq!(addresses_of(&b, "b"), [ip("10.0.0.1")]);
        assert_eq!(assign(&mut b, &[want("c")], none), [ip("10.0.0.2")]);
    }

    #[test]
    fn cooling_addresses_are_not_given_out() {
        let mut b = block("10.0.0.0/31");
        let minute = SignedDuration::from_secs(60);
        assign(&mut b, &[want("a"), want("b")], |_| false);
        release(&mut b, &[ip("10.0.0.1")], minute, at(0));
        assert!(!has_room(&b, |_| false) && !is_empty(&b));
        assert_eq!(handle_of(&b, ip("10.0.0.1")), None);
        expire(&mut b, minute, at(59));
        assert!(!has_room(&b, |_| false));
        expire(&mut b, minute, at(60));
        assert_eq!(assign(&mut b, &[want("c")], |_| false), [ip("10.0.0.1")]);
    }

    #[test]
    fn reserved_addresses_stay_in_order() {
        let mut b = block("fd00::/126");
        let reserved = |i: IpAddr| i == ip("fd00::") || i == ip("fd00::2");
        assert_eq!(
            assign(&mut b, &[want("a"), want("b"), want("c")], reserved),
            [ip("fd00::1"), ip("fd00::3")]
        );
        assert_eq!(b.unallocated, [0, 2]);
        assert!(!has_room(&b, reserved));
        assert!(assign_ip(&mut b, ip("fd00::2"), &want("d")), "asked for by name");
        assert!(!assign_ip(&mut b, ip("fd00::2"), &want("e")));
        assert!(!assign_ip(&mut b, ip("fd00::9"), &want("e")), "of another block");
    }

    #[test]
    fn a_document_of_calico_is_kept_but_for_what_changes() {
        let json = r#"{"cidr":"10.50.7.64/30","affinity":"host:n1","affinity_claim_time":"2026-05-01T10:00:00Z",
            "allocations":[0,null,1,2],"unallocated":[1],"attributes":[
            {"handle_id":"ipip-tunnel-addr-n1","secondary":{"node":"n1","type":"ipipTunnelAddress"}},
            {"handle_id":"k8s-pod-network.6fd1","secondary":{"pod":"web-0"},"alternateOwnerAttrs":{"a":"b"}},
            {"releasedAt":"2026-05-01T10:05:00Z"}],"sequenceNumber":1777630000000000007,
            "sequenceNumberForAllocation":{"0":1777630000000000001,"2":1777630000000000003,"3":1777630000000000006},
            "deleted":false,"newer":{"x":18446744073709551615}}"#;
        let key = tortie_model::Key::Block("10.50.7.64/30".parse().unwrap());
        let tortie_model::Object::Block(mut b) = tortie_model::decode(&key, json.as_bytes()).unwrap() else {
            panic!("no block")
        };
        assert_eq!(assign(&mut b, &[want("x")], |_| false), [ip("10.50.7.65")]);
        touch(&mut b);
        let v: serde_json::Value = serde_json::to_value(&*b).unwrap();
        assert_eq!(v["sequenceNumber"].as_u64(), Some(1_777_630_000_000_000_008));
        assert_eq!(
            v["sequenceNumberForAllocation"]["1"].as_u64(),
            Some(1_777_630_000_000_000_007)
        );
        assert_eq!(v["newer"]["x"].as_u64(), Some(u64::MAX));
        assert_eq!(v["attributes"][1]["alternateOwnerAttrs"]["a"], "b");
        assert_eq!(v["allocations"], serde_json::json!([0, 3, 1, 2]));
    }

    #[test]
    fn a_contradictory_block_does_no_harm() {
        let mut b = block("10.0.0.0/30");
        b.allocations = vec![Some(7), None];
        b.unallocated = vec![0, 9, 3, 1, u32::MAX];
        assert_eq!(assign(&mut b, &[want("a"), want("b")], |_| false), [ip("10.0.0.1")]);
        release(&mut b, &[ip("10.0.0.0"), ip("10.0.0.3")], SignedDuration::ZERO, at(1));
        assert_eq!(addresses_of(&b, "a"), [ip("10.0.0.1")]);
        assert_eq!(size("10.0.0.0/8".parse().unwrap()), 0);
        let mut huge = claimed("10.0.0.0/8".parse().unwrap(), "host:n".parse().unwrap(), at(0));
        assert!(assign(&mut huge, &[want("a")], |_| false).is_empty());
    }

    proptest! {
        /// Free and taken ordinals always partition the block, whatever is done to it.
        #[test]
        fn partition(steps in proptest::collection::vec((0u8..3, 0u8..8), 0..40)) {
            let mut b = block("10.0.0.0/29");
            for (n, (what, arg)) in steps.into_iter().enumerate() {
                match what {
                    0 => { assign(&mut b, &[want(&arg.to_string())], |_| false); }
                    1 => {
                        let ip = address(b.cidr, arg.into());
                        assign_ip(&mut b, ip, &want("fixed"));
                    }
                    _ => {
                        let ips = addresses_of(&b, &arg.to_string());
                        release(&mut b, &ips, SignedDuration::ZERO, at(n as i64));
                    }
                }
                let taken = (0..8).filter(|o| !is_free(&b, *o));
                let mut all: Vec<u32> = b.unallocated.iter().copied().chain(taken).collect();
                all.sort_unstable();
                prop_assert_eq!(all, (0..8).collect::<Vec<_>>());
                prop_assert!(b.attributes.len() as u64 <= in_use(&b));
            }
        }
    }
}
