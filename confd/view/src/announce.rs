//! What a node announces of its own on each session: originated prefixes, through the peer's BGPFilters and the node's own
//! export rules, in the order in which the rendered filters ask them.
//!
//! Not here: routes that the node learned and passes on. They depend on what peers say.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tortie_net::{Asn, Prefix};

use crate::{BgpView, ChannelView, FamilyView, FilterRule, Match, NetworkOperator, Operation, PeerView, RuleAction};

/// What is told with a prefix, as far as filters change it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Attributes {
    /// Communities that are added, as they are written.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub communities: BTreeSet<String>,
    /// AS numbers in front of the path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prepended: Vec<Asn>,
    /// The route priority that is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
}

/// Prefixes a session is told, each with its attributes.
pub type Announced = BTreeMap<Prefix, Attributes>;

/// What the node announces of its own, by session. Every session is there, also one that is told nothing.
pub fn announced(view: &BgpView) -> BTreeMap<String, Announced> {
    announced_besides(view, &BTreeSet::new())
}

/// The same without some sessions.
pub(crate) fn announced_besides(view: &BgpView, without: &BTreeSet<&str>) -> BTreeMap<String, Announced> {
    let each = view.peers.iter().filter(|p| !without.contains(p.name.as_str()));
    each.map(|peer| (peer.name.clone(), to_peer(view, peer))).collect()
}

fn to_peer(view: &BgpView, peer: &PeerView) -> Announced {
    let mut all = Announced::new();
    for channel in &peer.channels {
        let Some(family) = view.families.iter().find(|f| f.family == channel.family) else {
            continue;
        };
        let rules = rules(view, channel);
        for originated in &family.originated {
            if let Some(attributes) = export(originated.prefix, family, &rules, peer.internal) {
                all.insert(originated.prefix, attributes);
            }
        }
    }
    all
}

/// The rules of the functions that the channel's export policy calls, in order.
fn rules<'a>(view: &'a BgpView, channel: &ChannelView) -> Vec<&'a FilterRule> {
    let policy = view.policies.iter().find(|p| p.name == channel.export);
    let calls = policy.into_iter().flat_map(|p| &p.calls);
    let functions = calls.filter_map(|call| view.filters.iter().find(|f| f.name == call.function));
    functions.flat_map(|f| &f.rules).collect()
}

fn export(prefix: Prefix, family: &FamilyView, rules: &[&FilterRule], internal: bool) -> Option<Attributes> {
    let mut attributes = Attributes::default();
    let decides = |rule: &&&FilterRule| rule.matches.iter().all(|m| holds(m, prefix, internal));
    if let Some(rule) = rules.iter().find(decides) {
        rule.operations.iter().for_each(|o| operate(o, &mut attributes));
        return rule.accept.then_some(attributes);
    }
    for rule in &family.export {
        let applies = if rule.exact {
            rule.prefix == prefix
        } else {
            rule.prefix.covers(prefix)
        };
        match rule.action {
            _ if !applies => {}
            RuleAction::Accept => return Some(attributes),
            RuleAction::Reject => return None,
            RuleAction::AddCommunities => {
                let written = rule.communities.iter().map(ToString::to_string);
                attributes.communities.extend(written);
            }
        }
    }
    None
}

/// Does a match hold for a route of our own? Such a route has no interface, no path, no community, no local preference, and
/// no peer told it.
fn holds(asked: &Match, route: Prefix, internal_session: bool) -> bool {
    match asked {
        Match::Network {
            operator,
            prefix,
            lengths,
        } => {
            let within = lengths.is_none_or(|l| prefix.covers(route) && (l.min..=l.max).contains(&route.len()));
            match operator {
                NetworkOperator::Equal => route == *prefix && within,
                NetworkOperator::NotEqual => !(route == *prefix && within),
                NetworkOperator::In => prefix.covers(route) && within,
                NetworkOperator::NotIn => !(prefix.covers(route) && within),
            }
        }
        Match::Session { internal } => *internal == internal_session,
        Match::FromPeer
        | Match::Interface { .. }
        | Match::Community { .. }
        | Match::AsPathPrefix { .. }
        | Match::Priority { .. } => false,
    }
}

fn operate(operation: &Operation, attributes: &mut Attributes) {
    match operation {
        Operation::AddCommunity { community } => {
            attributes.communities.insert(community.to_string());
        }
        Operation::PrependAsPath { asns } => {
            attributes.prepended.splice(0..0, asns.iter().copied());
        }
        Operation::SetPriority { priority, .. } => attributes.priority = Some(*priority),
    }
}
