//! Policies as FRR's route maps.
//!
//! A route map is one policy: the rules of its BGPFilters in order, then what Calico's order of exports says. A rule is one entry,
//! for all of an entry's matches must hold; "not" is a list that denies first. Routes of our own carry a tag, which no peer can
//! give: an entry that a learned route alone may enter is jumped over by them.

use std::sync::Arc;

use serde::Serialize;

use super::{Inexpressible, Networks, Range, networks, rules};
use crate::view::{BgpView, CommunityValue, Direction, Family, Match, Operation, Origin, Policy, Rule, RuleAction};

/// The tag of what this node originates.
const OWN_TAG: u32 = 4242;
/// Between entries, so that an operator finds room.
const STEP: u32 = 10;
/// FRR's bounds of `allowas-in`.
const MAX_ALLOWED: u32 = 10;

/// What the template needs.
#[derive(Debug, Default, Serialize)]
pub(in crate::render) struct Frr {
    problems: Vec<Inexpressible>,
    own_tag: u32,
    restart_time_s: u64,
    /// Lines of prefix, community and path lists.
    lists: Vec<Noted>,
    route_maps: Vec<RouteMap>,
}

/// Lines and their object.
#[derive(Debug, Serialize)]
struct Noted {
    origin: Origin,
    lines: Vec<String>,
}

#[derive(Debug, Serialize)]
struct RouteMap {
    name: String,
    entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    sequence: u32,
    permit: bool,
    lines: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
}

impl Frr {
    pub(in crate::render) fn new(view: &BgpView) -> Self {
        let mut frr = Frr {
            own_tag: OWN_TAG,
            ..Frr::default()
        };
        frr.sessions(view);
        for policy in &view.policies {
            let entries = Entries::default();
            let map = RouteMap {
                name: policy.name.clone(),
                entries: entries.of_policy(view, policy, &mut frr),
            };
            frr.route_maps.push(map);
        }
        for family in &view.families {
            let name = format!("to_kernel_v{}", family.family.digit());
            let mut entries = Entries::default();
            for (index, rule) in family.kernel.iter().enumerate() {
                let list = format!("{name}_{}", index + 1);
                entries.rule(family.family, &list, rule, &mut frr);
            }
            entries.push(true, Vec::new(), None);
            frr.route_maps.push(RouteMap {
                name,
                entries: entries.0,
            });
        }
        frr
    }

    /// What FRR cannot say of sessions.
    fn sessions(&mut self, view: &BgpView) {
        let restart = |p: &Arc<crate::view::PeerView>| p.restart_time_s.unwrap_or(120);
        self.restart_time_s = view.peers.first().map_or(120, restart);
        for (index, peer) in view.peers.iter().enumerate() {
            if restart(peer) != self.restart_time_s {
                let message = format!(
                    "FRR has one restart time for all sessions: {} s and {} s are asked for",
                    self.restart_time_s,
                    restart(peer)
                );
                self.problems.push(Inexpressible::new(&peer.origin, message));
            }
            // Sessions are sorted by name: those with one address and several ports are neighbours.
            let same = index.checked_sub(1).and_then(|i| view.peers.get(i));
            if same.is_some_and(|p| p.address == peer.address) {
                let message = format!("FRR has one session with {}, whatever the port", peer.address);
                self.problems.push(Inexpressible::new(&peer.origin, message));
            }
            if peer.allow_local_as.is_some_and(|n| n > MAX_ALLOWED) {
                let message = format!("FRR allows the own AS at most {MAX_ALLOWED} times in a path");
                self.problems.push(Inexpressible::new(&peer.origin, message));
            }
        }
    }

    fn list(&mut self, origin: &Origin, lines: Vec<String>) {
        let origin = origin.clone();
        self.lists.push(Noted { origin, lines });
    }

    /// Makes a prefix list of this name.
    fn prefixes(&mut self, family: Family, name: &str, range: &Range, origin: &Origin) {
        let (ip, all) = match family {
            Family::Ipv4 => ("ip", "0.0.0.0/0 le 32"),
            Family::Ipv6 => ("ipv6", "::/0 le 128"),
        };
        let range_text = range_text(range);
        let lines = if range.not {
            vec![
                format!("{ip} prefix-list {name} seq 5 deny {range_text}"),
                format!("{ip} prefix-list {name} seq 10 permit {all}"),
            ]
        } else {
            vec![format!("{ip} prefix-list {name} seq 5 permit {range_text}")]
        };
        self.list(origin, lines);
    }
}

/// FRR wants `ge` above the prefix's own length.
fn range_text(range: &Range) -> String {
    let (prefix, min, max) = (range.prefix, range.lengths.min, range.lengths.max);
    let bound = |word: &str, length: u8| {
        let beyond = (length > prefix.len()).then(|| format!(" {word} {length}"));
        beyond.unwrap_or_default()
    };
    format!("{prefix}{}{}", bound("ge", min), bound("le", max))
}

fn match_prefixes(family: Family, list: &str) -> String {
    let ip = match family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ipv6",
    };
    format!("match {ip} address prefix-list {list}")
}

#[derive(Default)]
struct Entries(Vec<Entry>);

impl Entries {
    fn next(&self) -> u32 {
        u32::try_from(self.0.len() + 1).unwrap_or(u32::MAX).saturating_mul(STEP)
    }

    fn push(&mut self, permit: bool, lines: Vec<String>, origin: Option<&Origin>) {
        let sequence = self.next();
        self.0.push(Entry {
            sequence,
            permit,
            lines,
            origin: origin.cloned(),
        });
    }

    fn of_policy(mut self, view: &BgpView, policy: &Policy, frr: &mut Frr) -> Vec<Entry> {
        for (index, (origin, rule)) in rules(view, policy).enumerate() {
            let list = format!("{}_{}", policy.name, index + 1);
            self.filter_rule(policy, &list, (origin, rule), frr);
        }
        if policy.direction == Direction::Import {
            self.push(true, Vec::new(), None);
            return self.0;
        }
        let export = view.families.iter().find(|f| f.family == policy.family);
        for (index, rule) in export.into_iter().flat_map(|f| &f.export).enumerate() {
            let list = format!("{}_export_{}", policy.name, index + 1);
            self.rule(policy.family, &list, rule, frr);
        }
        // Said, and not left to the end of the map: an entry that only adds communities has matched before.
        self.push(false, Vec::new(), None);
        self.0
    }

    /// One step of an export or kernel filter.
    fn rule(&mut self, family: Family, list: &str, rule: &Rule, frr: &mut Frr) {
        let max = if rule.exact {
            rule.prefix.len()
        } else {
            rule.prefix.max_len()
        };
        let range = Range {
            prefix: rule.prefix,
            lengths: crate::view::Lengths {
                min: rule.prefix.len(),
                max,
            },
            not: false,
        };
        frr.prefixes(family, list, &range, &rule.origin);
        let mut lines = vec![match_prefixes(family, list)];
        if rule.action == RuleAction::AddCommunities {
            lines.extend(communities(&rule.communities));
            lines.push("on-match next".to_owned());
        }
        self.push(rule.action != RuleAction::Reject, lines, Some(&rule.origin));
    }

    /// A rule of a BGPFilter; no entry when it never holds, or cannot be said.
    fn filter_rule(
        &mut self,
        policy: &Policy,
        list: &str,
        (origin, rule): (&Origin, &crate::view::FilterRule),
        frr: &mut Frr,
    ) {
        let (mut lines, mut learned_only) = (Vec::new(), false);
        let (mut standard, mut large) = (Vec::new(), Vec::new());
        for m in &rule.matches {
            match m {
                Match::Network {
                    operator,
                    prefix,
                    lengths,
                } => match networks(*operator, *prefix, *lengths) {
                    Networks::Always => {}
                    Networks::Never => return,
                    Networks::These(range) => {
                        frr.prefixes(policy.family, list, &range, origin);
                        lines.push(match_prefixes(policy.family, list));
                    }
                },
                Match::FromPeer => learned_only = policy.direction == Direction::Export,
                Match::Interface { pattern } => {
                    let message = format!("FRR cannot match the interface '{pattern}' that a route points to");
                    frr.problems.push(Inexpressible::new(origin, message));
                }
                Match::Session { .. } => {}
                Match::Community { community } if community.large => large.push(community.to_string()),
                Match::Community { community } => standard.push(community.to_string()),
                Match::AsPathPrefix { asns } => {
                    let path: String = asns.iter().map(|a| format!("{a}_")).collect();
                    frr.list(origin, vec![format!("bgp as-path access-list {list} permit ^{path}")]);
                    lines.push(format!("match as-path {list}"));
                }
                Match::Priority { local_pref, .. } => lines.push(format!("match local-preference {local_pref}")),
            }
        }
        for (kind, wanted) in [("community", standard), ("large-community", large)] {
            if !wanted.is_empty() {
                // One line of a list is for routes that carry all of it.
                let line = format!("bgp {kind}-list standard {list} permit {}", wanted.join(" "));
                frr.list(origin, vec![line]);
                lines.push(format!("match {kind} {list}"));
            }
        }
        if learned_only {
            let beyond = self.next() + 2 * STEP;
            let jump = vec![format!("match tag {OWN_TAG}"), format!("on-match goto {beyond}")];
            self.push(true, jump, Some(origin));
        }
        lines.extend(operations(&rule.operations));
        self.push(rule.accept, lines, Some(origin));
    }
}

fn operations(all: &[Operation]) -> Vec<String> {
    let (mut added, mut path, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for operation in all {
        match operation {
            Operation::AddCommunity { community } => added.push(community.clone()),
            // What is prepended later stands in front.
            Operation::PrependAsPath { asns } => {
                path.splice(0..0, asns.iter().map(ToString::to_string));
            }
            Operation::SetPriority { local_pref, .. } => lines.push(format!("set local-preference {local_pref}")),
        }
    }
    lines.extend(communities(&added));
    if !path.is_empty() {
        lines.push(format!("set as-path prepend {}", path.join(" ")));
    }
    lines
}

/// An entry has one line for each kind.
fn communities(all: &[CommunityValue]) -> Vec<String> {
    let of = |large: bool| -> Vec<String> {
        let some = all.iter().filter(|c| c.large == large);
        some.map(ToString::to_string).collect()
    };
    let mut lines = Vec::new();
    for (word, values) in [("community", of(false)), ("large-community", of(true))] {
        if !values.is_empty() {
            lines.push(format!("set {word} {} additive", values.join(" ")));
        }
    }
    lines
}
