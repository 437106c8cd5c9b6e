//! Policies as GoBGP's.
//!
//! GoBGP has policies for all sessions together, and a statement names the neighbours it is for. So each policy of the view
//! becomes one for every way of setting next hops in which it is used, with the set of its neighbours.
//!
//! GoBGP's file knows no prefixes of one's own and its daemon no kernel: it can be a reflector, no node with blocks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tortie_net::Asn;

use super::{Inexpressible, Networks, Range, networks, rules};
use crate::view::{
    BgpView, ChannelView, CommunityValue, Direction, Family, FilterRule, Lengths, Match, NextHop, Operation, Origin,
    PeerView, Policy, RuleAction,
};

/// What the template needs. Sets and policies are JSON, which a YAML file may have in it.
#[derive(Debug, Default, Serialize)]
pub(in crate::render) struct Gobgp {
    problems: Vec<Inexpressible>,
    defined_sets: String,
    policies: String,
    import: Vec<String>,
    export: Vec<String>,
}

/// Channels with one policy that also agree on what becomes of next hops.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group<'a> {
    policy: &'a str,
    next_hop: Option<String>,
    /// To internal peers, what external ones said gets our own address.
    own_for_external: bool,
}

impl<'a> Group<'a> {
    fn import(channel: &'a ChannelView) -> Self {
        Group {
            policy: &channel.import,
            next_hop: None,
            own_for_external: false,
        }
    }

    fn export(peer: &PeerView, channel: &'a ChannelView) -> Self {
        let own = || {
            channel
                .next_hop_address
                .map_or_else(|| "self".to_owned(), |a| a.to_string())
        };
        let next_hop = match channel.next_hop {
            NextHop::Keep => Some("unchanged".to_owned()),
            NextHop::Own => Some(own()),
            NextHop::Auto => channel
                .next_hop_address
                .filter(|_| !peer.internal)
                .map(|a| a.to_string()),
        };
        Group {
            policy: &channel.export,
            own_for_external: next_hop.is_none() && peer.internal,
            next_hop,
        }
    }
}

#[derive(Default)]
struct Sets {
    prefixes: Vec<Value>,
    neighbours: Vec<Value>,
    communities: Vec<Value>,
    large: Vec<Value>,
    paths: Vec<Value>,
    problems: Vec<Inexpressible>,
}

impl Gobgp {
    pub(in crate::render) fn new(view: &BgpView) -> Self {
        let mut groups: BTreeMap<Group<'_>, Vec<IpAddr>> = BTreeMap::new();
        for peer in &view.peers {
            for channel in &peer.channels {
                for group in [Group::import(channel), Group::export(peer, channel)] {
                    groups.entry(group).or_default().push(peer.address);
                }
            }
        }
        let (mut gobgp, mut sets, mut policies) = (Gobgp::default(), Sets::default(), Vec::new());
        sets.refuse(view);
        for (index, (group, neighbours)) in groups.into_iter().enumerate() {
            let Some(policy) = view.policies.iter().find(|p| p.name == group.policy) else {
                continue;
            };
            let name = format!("{}_{}", policy.name, index + 1);
            sets.neighbours
                .push(json!({"neighbor-set-name": name, "neighbor-info-list": neighbours}));
            let statements = Statements::new(&name, policy, &group).of_policy(view, &mut sets);
            policies.push(json!({"name": name, "statements": statements}));
            match policy.direction {
                Direction::Import => gobgp.import.push(name),
                Direction::Export => gobgp.export.push(name),
            }
        }
        gobgp.problems = std::mem::take(&mut sets.problems);
        gobgp.defined_sets = sets.into_json().to_string();
        gobgp.policies = Value::Array(policies).to_string();
        gobgp
    }
}

impl Sets {
    fn refuse(&mut self, view: &BgpView) {
        for family in &view.families {
            for own in &family.originated {
                let message = format!(
                    "GoBGP's file has no prefixes of its own: {} cannot be originated",
                    own.prefix
                );
                self.problems.push(Inexpressible::new(&own.origin, message));
            }
            for peer in &family.reachable_by {
                let message = format!("GoBGP writes no routes: none to {} by {}", peer.prefix, peer.gateway);
                self.problems.push(Inexpressible::new(&peer.origin, message));
            }
        }
        for pair in view.peers.windows(2) {
            if let [first, second] = pair
                && first.address == second.address
            {
                let message = format!("GoBGP has one session with {}, whatever the port", second.address);
                self.problems.push(Inexpressible::new(&second.origin, message));
            }
        }
    }

    fn prefix(&mut self, name: &str, range: &Range) -> Value {
        let lengths = format!("{}..{}", range.lengths.min, range.lengths.max);
        self.prefixes.push(json!({
            "prefix-set-name": name,
            "prefix-list": [{"ip-prefix": range.prefix, "masklength-range": lengths}],
        }));
        let option = if range.not { "invert" } else { "any" };
        json!({"prefix-set": name, "match-set-options": option})
    }

    fn into_json(self) -> Value {
        json!({
            "prefix-sets": self.prefixes,
            "neighbor-sets": self.neighbours,
            "bgp-defined-sets": {
                "community-sets": self.communities,
                "large-community-sets": self.large,
                "as-path-sets": self.paths,
            },
        })
    }
}

/// The statements of one policy.
struct Statements<'a> {
    name: &'a str,
    policy: &'a Policy,
    group: &'a Group<'a>,
    all: Vec<Value>,
}

/// What a statement asks beside neighbours and family.
#[derive(Default, Clone)]
struct Conditions {
    prefix: Option<Value>,
    bgp: Map<String, Value>,
}

impl<'a> Statements<'a> {
    fn new(name: &'a str, policy: &'a Policy, group: &'a Group<'a>) -> Self {
        Statements {
            name,
            policy,
            group,
            all: Vec::new(),
        }
    }

    fn of_policy(mut self, view: &BgpView, sets: &mut Sets) -> Vec<Value> {
        if self.group.own_for_external {
            let mut learned = Conditions::default();
            learned.bgp.insert("route-type".to_owned(), json!("external"));
            let own = Map::from_iter([("set-next-hop".to_owned(), json!("self"))]);
            self.push(learned, "none", own);
        }
        for (origin, rule) in rules(view, self.policy) {
            self.filter_rule(origin, rule, sets);
        }
        if self.policy.direction == Direction::Import {
            return self.all;
        }
        let export = view.families.iter().find(|f| f.family == self.policy.family);
        for rule in export.into_iter().flat_map(|f| &f.export) {
            let max = if rule.exact {
                rule.prefix.len()
            } else {
                rule.prefix.max_len()
            };
            let range = Range {
                prefix: rule.prefix,
                lengths: Lengths {
                    min: rule.prefix.len(),
                    max,
                },
                not: false,
            };
            let set = self.set_name();
            let conditions = Conditions {
                prefix: Some(sets.prefix(&set, &range)),
                ..Conditions::default()
            };
            match rule.action {
                RuleAction::Accept => self.push(conditions, "accept-route", Map::new()),
                RuleAction::Reject => self.push(conditions, "reject-route", Map::new()),
                RuleAction::AddCommunities => self.push(conditions, "none", added(&rule.communities)),
            }
        }
        self.all
    }

    fn set_name(&self) -> String {
        format!("{}_{}", self.name, self.all.len() + 1)
    }

    fn push(&mut self, conditions: Conditions, disposition: &str, mut actions: Map<String, Value>) {
        let family = match self.policy.family {
            Family::Ipv4 => "ipv4-unicast",
            Family::Ipv6 => "ipv6-unicast",
        };
        let mut bgp = conditions.bgp;
        bgp.insert("afi-safi-in-list".to_owned(), json!([family]));
        let mut asked = json!({
            "match-neighbor-set": {"neighbor-set": self.name, "match-set-options": "any"},
            "bgp-conditions": bgp,
        });
        if let (Some(prefix), Some(asked)) = (conditions.prefix, asked.as_object_mut()) {
            asked.insert("match-prefix-set".to_owned(), prefix);
        }
        if disposition == "accept-route"
            && let Some(next_hop) = &self.group.next_hop
        {
            actions.insert("set-next-hop".to_owned(), json!(next_hop));
        }
        let name = self.set_name();
        self.all.push(json!({
            "name": name,
            "conditions": asked,
            "actions": {"route-disposition": disposition, "bgp-actions": actions},
        }));
    }

    fn filter_rule(&mut self, origin: &Origin, rule: &FilterRule, sets: &mut Sets) {
        let Some((conditions, learned)) = self.conditions(origin, rule, sets) else {
            return;
        };
        let actions = match operations(&rule.operations) {
            Ok(actions) => actions,
            Err(message) => return sets.problems.push(Inexpressible::new(origin, message)),
        };
        let disposition = if rule.accept { "accept-route" } else { "reject-route" };
        if !learned {
            return self.push(conditions, disposition, actions);
        }
        for route in ["external", "internal"] {
            let mut conditions = conditions.clone();
            conditions.bgp.insert("route-type".to_owned(), json!(route));
            self.push(conditions, disposition, actions.clone());
        }
    }

    /// None when the rule never holds or cannot be said; true when it is for learned routes.
    fn conditions(&self, origin: &Origin, rule: &FilterRule, sets: &mut Sets) -> Option<(Conditions, bool)> {
        let (set, mut asked, mut learned) = (self.set_name(), Conditions::default(), false);
        let (mut standard, mut large) = (Vec::new(), Vec::new());
        for m in &rule.matches {
            match m {
                Match::Network {
                    operator,
                    prefix,
                    lengths,
                } => match networks(*operator, *prefix, *lengths) {
                    Networks::Always => {}
                    Networks::Never => return None,
                    Networks::These(range) => asked.prefix = Some(sets.prefix(&set, &range)),
                },
                Match::FromPeer => learned = self.policy.direction == Direction::Export,
                Match::Interface { pattern } => {
                    let message = format!("GoBGP cannot match the interface '{pattern}' that a route points to");
                    sets.problems.push(Inexpressible::new(origin, message));
                    return None;
                }
                Match::Session { .. } => {}
                Match::Community { community } if community.large => large.push(format!("^{community}$")),
                Match::Community { community } => standard.push(format!("^{community}$")),
                Match::AsPathPrefix { asns } => {
                    let path: String = asns.iter().map(|a| format!("{a}_")).collect();
                    sets.paths
                        .push(json!({"as-path-set-name": set, "as-path-list": [format!("^{path}")]}));
                    asked.bgp.insert(
                        "match-as-path-set".to_owned(),
                        json!({"as-path-set": set, "match-set-options": "any"}),
                    );
                }
                Match::Priority { local_pref, .. } => {
                    asked.bgp.insert("local-pref-eq".to_owned(), json!(local_pref));
                }
            }
        }
        if !standard.is_empty() {
            sets.communities
                .push(json!({"community-set-name": set, "community-list": standard}));
            let wanted = json!({"community-set": set, "match-set-options": "all"});
            asked.bgp.insert("match-community-set".to_owned(), wanted);
        }
        if !large.is_empty() {
            sets.large
                .push(json!({"large-community-set-name": set, "large-community-list": large}));
            let wanted = json!({"large-community-set": set, "match-set-options": "all"});
            asked.bgp.insert("match-large-community-set".to_owned(), wanted);
        }
        Some((asked, learned))
    }
}

/// # Errors
/// A path of several AS numbers: GoBGP prepends one, any number of times.
fn operations(all: &[Operation]) -> Result<Map<String, Value>, String> {
    let (mut communities, mut path, mut actions) = (Vec::new(), Vec::<Asn>::new(), Map::new());
    for operation in all {
        match operation {
            Operation::AddCommunity { community } => communities.push(community.clone()),
            Operation::PrependAsPath { asns } => path.extend(asns),
            Operation::SetPriority { local_pref, .. } => {
                actions.insert("set-local-pref".to_owned(), json!(local_pref));
            }
        }
    }
    actions.extend(added(&communities));
    if let Some(first) = path.first() {
        if path.iter().any(|a| a != first) {
            return Err("GoBGP prepends one AS number, not several different ones".to_owned());
        }
        let prepend = json!({"as": first.to_string(), "repeat-n": path.len()});
        actions.insert("set-as-path-prepend".to_owned(), prepend);
    }
    Ok(actions)
}

fn added(all: &[CommunityValue]) -> Map<String, Value> {
    let of = |large: bool| -> Vec<String> {
        let some = all.iter().filter(|c| c.large == large);
        some.map(ToString::to_string).collect()
    };
    let mut actions = Map::new();
    for (word, list) in [("set-community", of(false)), ("set-large-community", of(true))] {
        if !list.is_empty() {
            let method = format!("{word}-method");
            actions.insert(
                word.to_owned(),
                json!({"options": "add", method: {"communities-list": list}}),
            );
        }
    }
    actions
}
