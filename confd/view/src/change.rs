//! What the step from one view to another does to a node: to its sessions and to what it announces of its own.
//!
//! Pure, and computed before anything happens. How much a field of a session disturbs it is bird-rs's: confd's tests compare
//! this table with what bird-rs's own comparison of the rendered files says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Serialize;
use tortie_net::{Asn, NodeName, Prefix};

use crate::announce::{Announced, Attributes, announced_besides};
use crate::{BgpView, ChannelView, Direction, Distance, NextHop, Origin, PeerView, Problem, Severity};

/// How much of a session a change disturbs, ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Nothing the peer notices.
    InPlace,
    /// Filters run again over all routes; the session stays up.
    Refeed,
    /// The session goes down and comes up again.
    Reset,
    /// It is new.
    Added,
    /// It ends.
    Removed,
}

/// A field of a session that is another than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// Which.
    pub field: String,
    /// What the change of this field alone does.
    pub effect: Effect,
    /// The value before; empty: none.
    pub before: String,
    /// The value after.
    pub after: String,
}

/// A session that is not as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionChange {
    /// The protocol's name.
    pub name: String,
    /// The peer's address.
    pub address: IpAddr,
    /// The peer's AS.
    pub asn: Asn,
    /// The node behind it, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_node: Option<NodeName>,
    /// The worst of what its fields do.
    pub effect: Effect,
    /// Why; empty for a session that is new or ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
    /// The object that asks, or asked, for the session.
    pub origin: Origin,
}

/// A prefix that some sessions are told, or told no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrefixChange {
    /// Which.
    pub prefix: Prefix,
    /// With what; of a withdrawn prefix, what it had.
    #[serde(flatten)]
    pub attributes: Attributes,
    /// The sessions' names, sorted.
    pub sessions: Vec<String>,
}

/// What changes on a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeChange {
    /// Which.
    pub node: NodeName,
    /// Is it new (true), gone (false), or neither?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<bool>,
    /// Sessions that are not as before, sorted by name.
    pub sessions: Vec<SessionChange>,
    /// Prefixes of its own that sessions are told newly, or with other attributes.
    pub announced: Vec<PrefixChange>,
    /// Prefixes of its own that sessions are told no more. A session that is reset withdraws everything and tells it again:
    /// that is not here.
    pub withdrawn: Vec<PrefixChange>,
    /// What cannot be done as asked, and was not so before.
    pub problems: Vec<Problem>,
}

impl NodeChange {
    /// Is everything as before?
    pub fn is_empty(&self) -> bool {
        let parts = [
            self.sessions.is_empty(),
            self.announced.is_empty(),
            self.withdrawn.is_empty(),
            self.problems.is_empty(),
        ];
        self.new.is_none() && parts.into_iter().all(|empty| empty)
    }
}

/// What the step from `before` to `after` does on the node; none: there is no such node.
pub fn change(node: &NodeName, before: Option<&BgpView>, after: Option<&BgpView>) -> NodeChange {
    let same = unchanged(before, after);
    let told = |view: Option<&BgpView>| view.map(|v| announced_besides(v, &same)).unwrap_or_default();
    let (old, new) = (told(before), told(after));
    let known: BTreeSet<String> = problems(before).iter().map(told_of).collect();
    let exists = (before.is_some(), after.is_some());
    NodeChange {
        node: node.clone(),
        new: (exists.0 != exists.1).then_some(exists.1),
        sessions: sessions(before, after, &same),
        announced: only_in(&new, &old),
        withdrawn: withdrawn(&old, &new),
        problems: problems(after)
            .iter()
            .filter(|p| !known.contains(&told_of(p)))
            .cloned()
            .collect(),
    }
}

/// Sessions of which it is plain that nothing is otherwise: in a large mesh nearly all.
fn unchanged<'a>(before: Option<&'a BgpView>, after: Option<&'a BgpView>) -> BTreeSet<&'a str> {
    let router = |v: &'a BgpView| {
        let own = (v.router_id, v.asn, v.listen_port, v.bind_node_ip, v.severity);
        (own, &v.families, &v.filters, &v.policies)
    };
    let Some((before, after)) = before.zip(after).filter(|(b, a)| router(b) == router(a)) else {
        return BTreeSet::new();
    };
    let old: BTreeMap<&str, &PeerView> = before.peers.iter().map(|p| (p.name.as_str(), p.as_ref())).collect();
    let new = after.peers.iter();
    let same = new.filter(|p| old.get(p.name.as_str()) == Some(&p.as_ref()));
    same.map(|p| p.name.as_str()).collect()
}

fn problems(view: Option<&BgpView>) -> &[Problem] {
    view.map(|view| view.problems.as_slice()).unwrap_or_default()
}

/// A problem without the revision of its object, which every write changes.
fn told_of(problem: &Problem) -> String {
    let Problem { object, field, kind } = problem;
    format!("{} {} {field} {kind}", object.kind, object.name)
}

fn sessions(before: Option<&BgpView>, after: Option<&BgpView>, same: &BTreeSet<&str>) -> Vec<SessionChange> {
    let by_name = |view: Option<&'_ BgpView>| -> BTreeMap<String, usize> {
        let peers = view.into_iter().flat_map(|v| v.peers.iter().enumerate());
        peers.map(|(index, p)| (p.name.clone(), index)).collect()
    };
    let (old, new) = (by_name(before), by_name(after));
    let names = old.keys().chain(new.keys());
    let names: BTreeSet<&String> = names.filter(|n| !same.contains(n.as_str())).collect();
    let peer =
        |view: Option<&'_ BgpView>, index: Option<&usize>| view.zip(index.copied()).map(|(v, i)| v.peers[i].clone());
    let mut all = Vec::new();
    for name in names {
        let pair = (peer(before, old.get(name)), peer(after, new.get(name)));
        match (pair, before.zip(after)) {
            ((Some(was), None), _) => all.push(session(&was, Effect::Removed, Vec::new())),
            ((None, Some(is)), _) => all.push(session(&is, Effect::Added, Vec::new())),
            ((Some(was), Some(is)), Some((before, after))) => {
                let fields = fields((before, &was), (after, &is));
                if let Some(effect) = fields.iter().map(|f| f.effect).max() {
                    all.push(session(&is, effect, fields));
                }
            }
            _ => {}
        }
    }
    all
}

fn session(peer: &PeerView, effect: Effect, fields: Vec<FieldChange>) -> SessionChange {
    SessionChange {
        name: peer.name.clone(),
        address: peer.address,
        asn: peer.asn,
        remote_node: peer.remote_node.clone(),
        effect,
        fields,
        origin: peer.origin.clone(),
    }
}

/// A field as it is compared: its name, what a change of it does, what is shown, and what is compared when that is more.
struct Row {
    field: String,
    effect: Effect,
    shown: String,
    compared: String,
}

fn row(field: impl Into<String>, effect: Effect, value: impl std::fmt::Display) -> Row {
    let shown = value.to_string();
    Row {
        field: field.into(),
        effect,
        compared: shown.clone(),
        shown,
    }
}

fn maybe(value: Option<impl ToString>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

fn fields(before: (&BgpView, &PeerView), after: (&BgpView, &PeerView)) -> Vec<FieldChange> {
    let new: BTreeMap<String, Row> = rows(after).into_iter().map(|r| (r.field.clone(), r)).collect();
    let mut changed = Vec::new();
    for old in rows(before) {
        // A channel that one side lacks is told by `families`.
        let Some(new) = new.get(&old.field).filter(|new| new.compared != old.compared) else {
            continue;
        };
        let after = if new.shown == old.shown {
            format!("{} (other rules)", new.shown)
        } else {
            new.shown.clone()
        };
        changed.push(FieldChange {
            field: old.field,
            effect: old.effect,
            before: old.shown,
            after,
        });
    }
    changed
}

/// Every field of a session, those of the router first.
fn rows((view, peer): (&BgpView, &PeerView)) -> Vec<Row> {
    use Effect::{InPlace, Reset};
    let distance = match (peer.ttl_security_hops, peer.distance) {
        (Some(hops), _) => format!("within {hops} hops (TTL security)"),
        (None, Distance::Direct) => "direct".to_owned(),
        (None, Distance::Multihop) => "multihop".to_owned(),
    };
    let families: Vec<String> = peer
        .channels
        .iter()
        .map(|c| format!("{:?}", c.family).to_lowercase())
        .collect();
    let password = peer
        .password
        .as_ref()
        .map(|s| format!("secret {} key {}", s.name, s.key));
    let mut rows = vec![
        row("router id", Reset, view.router_id),
        row("local AS", Reset, peer.local_asn.unwrap_or(view.asn)),
        row("listen port", Reset, maybe(view.listen_port)),
        row("strict bind", Reset, view.bind_node_ip && peer.source_address.is_some()),
        row("address", Reset, peer.address),
        row("port", Reset, maybe(peer.port)),
        row("AS", Reset, peer.asn),
        row("source address", Reset, maybe(peer.source_address)),
        row("distance", Reset, distance),
        row("passive", Reset, peer.passive),
        row("restart time", Reset, maybe(peer.restart_time_s)),
        row("keepalive time", Reset, maybe(peer.keepalive_s)),
        row("reflector client of", Reset, maybe(peer.rr_client_of)),
        row("password", Reset, maybe(password)),
        row("own AS allowed", Reset, maybe(peer.allow_local_as)),
        row("families", Reset, families.join(" ")),
        row("description", InPlace, maybe(peer.remote_node.as_ref())),
        row("debug", InPlace, view.severity == Severity::Debug),
    ];
    peer.channels.iter().for_each(|c| rows.extend(channel(view, c)));
    rows
}

fn channel(view: &BgpView, channel: &ChannelView) -> [Row; 3] {
    let family = format!("{:?}", channel.family).to_lowercase();
    let hop = match channel.next_hop {
        NextHop::Auto => "auto",
        NextHop::Own => "self",
        NextHop::Keep => "keep",
    };
    let hop = format!("{hop} {}", maybe(channel.next_hop_address));
    [
        policy(view, channel, Direction::Import),
        policy(view, channel, Direction::Export),
        row(format!("{family} next hop"), Effect::Refeed, hop.trim_end()),
    ]
}

/// A policy is shown by the names of its filters and compared by all their rules and, for exports, those of the family.
fn policy(view: &BgpView, channel: &ChannelView, direction: Direction) -> Row {
    let family = format!("{:?}", channel.family).to_lowercase();
    let (name, what) = match direction {
        Direction::Import => (&channel.import, "import"),
        Direction::Export => (&channel.export, "export"),
    };
    let found = view.policies.iter().find(|p| p.name == *name);
    let calls = found.map(|p| p.calls.as_slice()).unwrap_or_default();
    let names: Vec<&str> = calls.iter().map(|c| c.origin.name.as_str()).collect();
    let shown = if names.is_empty() {
        "no filter".to_owned()
    } else {
        format!("filters {}", names.join(", "))
    };
    let mut compared = format!("{name} {:?}", found.map(|p| p.internal));
    for call in calls {
        if let Some(function) = view.filters.iter().find(|f| f.name == call.function) {
            compared.push_str(&format!("{:?}", function.rules));
        }
    }
    if direction == Direction::Export
        && let Some(family) = view.families.iter().find(|f| f.family == channel.family)
    {
        compared.push_str(&maybe(family.workloads.then_some(family.address)));
        for rule in &family.export {
            compared.push_str(&format!(
                "{:?}",
                (rule.prefix, rule.exact, rule.action, &rule.communities)
            ));
        }
    }
    Row {
        field: format!("{family} {what}"),
        effect: Effect::Refeed,
        shown,
        compared,
    }
}

type ByPrefix = BTreeMap<(Prefix, Attributes), Vec<String>>;

fn listed(all: ByPrefix) -> Vec<PrefixChange> {
    all.into_iter()
        .map(|((prefix, attributes), sessions)| PrefixChange {
            prefix,
            attributes,
            sessions,
        })
        .collect()
}

/// What sessions are told in `of` and not, or otherwise, in `other`.
fn only_in(of: &BTreeMap<String, Announced>, other: &BTreeMap<String, Announced>) -> Vec<PrefixChange> {
    let mut all = ByPrefix::new();
    for (session, announced) in of {
        for (prefix, attributes) in announced {
            if other.get(session).and_then(|o| o.get(prefix)) != Some(attributes) {
                let sessions = all.entry((*prefix, attributes.clone())).or_default();
                sessions.push(session.clone());
            }
        }
    }
    listed(all)
}

/// What sessions were told and are told no more, in whatever form.
fn withdrawn(old: &BTreeMap<String, Announced>, new: &BTreeMap<String, Announced>) -> Vec<PrefixChange> {
    let mut all = ByPrefix::new();
    for (session, announced) in old {
        for (prefix, attributes) in announced {
            if new.get(session).is_none_or(|n| !n.contains_key(prefix)) {
                let sessions = all.entry((*prefix, attributes.clone())).or_default();
                sessions.push(session.clone());
            }
        }
    }
    listed(all)
}
