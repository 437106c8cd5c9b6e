//! Which named filter each channel uses. Channels that treat routes alike share one, so that a speaker can see that.

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::filters::Compiled;
use super::mesh::Draft;
use super::short_hash;
use super::types::{ChannelView, Direction, Family, FilterCall, Policy};

/// Gives every channel its policies; returns those by name.
pub(super) fn assign(cluster: &Cluster<'_>, drafts: &mut [Draft], compiled: &Compiled) -> BTreeMap<String, Policy> {
    let mut policies: BTreeMap<String, Policy> = BTreeMap::new();
    for draft in drafts {
        let mut name = |direction, family| {
            let policy = policy(draft, compiled, direction, family);
            let name = policy.name.clone();
            policies.entry(name.clone()).or_insert(policy);
            name
        };
        draft.peer.channels = channels(cluster, draft, &mut name);
    }
    policies
}

/// A session's channels; `name` says which policies they have.
fn channels(
    cluster: &Cluster<'_>,
    draft: &Draft,
    name: &mut dyn FnMut(Direction, Family) -> String,
) -> Vec<ChannelView> {
    let session = Family::of(draft.peer.address);
    let own = |family| cluster.own.address(family).filter(|_| family != session);
    let each = draft.families.iter().map(|&family| ChannelView {
        family,
        import: name(Direction::Import, family),
        export: name(Direction::Export, family),
        next_hop: draft.next_hop,
        next_hop_address: own(family).map(|a| a.addr),
    });
    each.collect()
}

/// The channels of a session without filters.
pub(super) fn plain_channels(cluster: &Cluster<'_>, draft: &Draft) -> Vec<ChannelView> {
    channels(cluster, draft, &mut |direction, family| base(direction, family))
}

/// The policies of these channels.
pub(super) fn plain(family: Family) -> [Policy; 2] {
    [Direction::Import, Direction::Export].map(|direction| Policy {
        name: base(direction, family),
        family,
        direction,
        internal: false,
        calls: Vec::new(),
    })
}

fn base(direction: Direction, family: Family) -> String {
    let base = match direction {
        Direction::Import => "import_from_peers",
        Direction::Export => "export_to_peers",
    };
    format!("{base}_v{}", family.digit())
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
    let mut name = base(direction, family);
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
