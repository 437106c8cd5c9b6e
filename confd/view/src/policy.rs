//! Which named filter each channel uses. Channels that treat routes alike share one, so that a speaker can see that.

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::filters::Compiled;
use super::mesh::Draft;
use super::short_hash;
use super::types::{ChannelView, Direction, Family, FilterCall, Policy};

/// Gives every channel its policies; returns those, sorted by name.
pub(super) fn assign(cluster: &Cluster<'_>, drafts: &mut [Draft], compiled: &Compiled) -> Vec<Policy> {
    let mut policies: BTreeMap<String, Policy> = BTreeMap::new();
    for draft in drafts {
        let session = Family::of(draft.peer.address);
        let mut name = |direction, family| {
            let policy = policy(draft, compiled, direction, family);
            let name = policy.name.clone();
            policies.entry(name.clone()).or_insert(policy);
            name
        };
        let channels = draft.families.iter().map(|&family| ChannelView {
            family,
            import: name(Direction::Import, family),
            export: name(Direction::Export, family),
            next_hop: draft.next_hop,
            next_hop_address: cluster
                .own
                .address(family)
                .filter(|_| family != session)
                .map(|a| a.addr),
        });
        draft.peer.channels = channels.collect();
    }
    policies.into_values().collect()
}

fn policy(draft: &Draft, compiled: &Compiled, direction: Direction, family: Family) -> Policy {
    let functions = draft
        .filters
        .iter()
        .filter_map(|f| compiled.function(f, direction, family));
    let calls: Vec<FilterCall> = functions
        .map(|function| FilterCall {
            function: function.name.clone(),
            wants_internal: function.wants_internal,
            origin: function.origin.clone(),
        })
        .collect();
    let base = match direction {
        Direction::Import => "import_from_peers",
        Direction::Export => "export_to_peers",
    };
    let mut name = format!("{base}_v{}", family.digit());
    // Whether a session is internal makes a difference to filters that ask only.
    let internal = draft.peer.internal && calls.iter().any(|c| c.wants_internal);
    if !calls.is_empty() {
        let all: Vec<&str> = calls.iter().map(|c| c.origin.name.as_str()).collect();
        name = format!("{name}_{}", short_hash(&all.join("/")));
        if internal {
            name.push_str("_ibgp");
        }
    }
    Policy {
        name,
        family,
        direction,
        internal,
        calls,
    }
}
