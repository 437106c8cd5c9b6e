//! Rules of the IPAM documents: what would make allocations contradict themselves.

use serde_json::json;

use crate::invalid::Invalid;
use crate::ipam::Block;

/// Checks both forms of the configuration, whose fields have other names in the resource.
pub(super) fn check_config(
    [auto_field, max_field]: [&str; 2],
    [strict, auto]: [bool; 2],
    max_blocks: u32,
    out: &mut Vec<Invalid>,
) {
    if !strict && !auto {
        let reason = "cannot be false while strictAffinity is false: no address could ever be given out";
        out.push(Invalid::new(auto_field, auto, reason));
    }
    if max_blocks > 0 && !strict {
        out.push(Invalid::new(
            max_field,
            max_blocks,
            "needs strictAffinity, or nodes would borrow instead",
        ));
    }
}

/// Every ordinal is either allocated or free, never both, and refers to what exists.
pub(super) fn check_block(block: &Block, out: &mut Vec<Invalid>) {
    let bits = u32::from(block.cidr.max_len() - block.cidr.len());
    let size = 1u64.checked_shl(bits).unwrap_or(u64::MAX);
    if block.allocations.len() as u64 != size {
        let reason = format!(
            "must have one item for each of the block's {size} addresses, not {}",
            block.allocations.len()
        );
        return out.push(Invalid::json("allocations", &json!(block.allocations), reason));
    }
    for (ordinal, attribute) in block.allocations.iter().enumerate() {
        if let Some(index) = attribute
            && *index >= block.attributes.len()
        {
            let reason = format!(
                "refers to an attribute that does not exist: there are {}",
                block.attributes.len()
            );
            out.push(Invalid::new(format!("allocations[{ordinal}]"), index, reason));
        }
    }
    let mut seen = vec![false; block.allocations.len()];
    for (i, ordinal) in block.unallocated.iter().enumerate() {
        let at = *ordinal as usize;
        let reason = match block.allocations.get(at) {
            None => Some("is beyond the block"),
            Some(Some(_)) => Some("is allocated"),
            Some(None) if seen[at] => Some("is listed twice"),
            Some(None) => None,
        };
        match reason {
            Some(reason) => out.push(Invalid::new(format!("unallocated[{i}]"), ordinal, reason)),
            None => seen[at] = true,
        }
    }
}
