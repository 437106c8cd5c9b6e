//! How a route comes from its owner to a node by BGP, and what keeps it: sessions, filters, loops, reflectors on the way.

use std::collections::BTreeSet;

use tortie_net::Prefix;

use super::address::Destination;
use super::cause::{Cause, Link};
use super::facts::{BirdFacts, Path, Session};
use super::policy::{Direction, Peering, Route};
use super::walk::{Mark, Stage, Walk, shown};

/// bird-rs's words for loops (RFC 4271 section 9.1.2, RFC 4456 section 8).
const LOOPS: [&str; 3] = [
    "own AS in the path",
    "own router id is the originator",
    "own cluster in the cluster list",
];

impl Walk<'_> {
    /// The prefix under which a node may have a route to the destination.
    pub(super) fn travelling(&self, node: &str, to: &Destination) -> Prefix {
        if to.owner.is_some() {
            return to.prefix;
        }
        let paths = self.bird(node).map(|b| b.paths.as_slice()).unwrap_or_default();
        let covering = paths
            .iter()
            .map(|p| p.prefix)
            .filter(|p| p.covers(to.net) && p.len() > 0);
        covering.max_by_key(|p| p.len()).unwrap_or(to.prefix)
    }

    /// Why the route is not among those of the node's bird-rs, if it is not.
    pub(super) fn arrives(&mut self, node: &str, to: &Destination) -> Option<Cause> {
        if !to.by_bgp() {
            let text = "its pool is VXLAN: routes come from the datastore, not by BGP".to_owned();
            self.find(Stage::Rib, Some(node), (Mark::Note, text));
            return None;
        }
        let Some(bird) = self.bird(node) else {
            self.silent(node);
            return None;
        };
        let prefix = self.travelling(node, to);
        let here: Vec<&Path> = bird.paths.iter().filter(|p| p.prefix == prefix).collect();
        if let Some(best) = here.iter().find(|p| p.best && p.refused.is_none()) {
            return self.chosen(node, best, (&here, to));
        }
        if let Some(refused) = here.iter().find(|p| p.refused.is_some()) {
            return Some(self.refused(node, bird, refused));
        }
        self.wrong(
            Stage::Rib,
            Some(node),
            format!("bird-rs has no route to {}", shown(prefix)),
        );
        let seen = BTreeSet::from([node.to_owned()]);
        match &to.owner {
            Some(owner) => self.missing(node, (owner, to), seen),
            None => self.unannounced(node, to),
        }
    }

    /// A bird-rs that says nothing.
    fn silent(&mut self, node: &str) {
        match self.node(node).and_then(|n| n.bird.failure()) {
            Some(why) => {
                let text = format!("bird-rs does not answer: {why}");
                self.wrong(Stage::Rib, Some(node), text);
            }
            None => self.unasked(Stage::Rib, (node, "bird-rs")),
        }
    }

    /// There is a best path: is it the right one, and fresh?
    fn chosen(&mut self, node: &str, best: &Path, (all, to): (&[&Path], &Destination)) -> Option<Cause> {
        let (prefix, next_hop) = (best.prefix, &best.next_hop);
        let text = format!(
            "{} by {next_hop} from {} won ({}) over {} other paths",
            shown(prefix),
            best.protocol,
            best.reason,
            all.len() - 1
        );
        self.good(Stage::Rib, Some(node), text);
        if best.stale {
            let text = format!(
                "the route is stale: {} lost its session and may come back",
                best.protocol
            );
            self.wrong(Stage::Session, Some(node), text);
            let session = self.bird(node)?.sessions.iter().find(|s| s.name == best.protocol);
            return session.filter(|s| !s.is_up()).and_then(|s| self.down(node, s));
        }
        let addresses = self.addresses(to.owner.as_ref()?);
        let leads = |path: &Path| path.next_hop.parse().is_ok_and(|ip| addresses.contains(&ip));
        let loser = all.iter().find(|p| !p.best && p.refused.is_none() && leads(p));
        let loser = loser.filter(|_| !leads(best))?;
        let winner = format!(
            "that of {} by {next_hop} beats that of its owner from {} by {}",
            best.protocol, loser.protocol, loser.reason
        );
        let node = node.to_owned();
        Some(Cause::OtherPath { node, prefix, winner })
    }

    /// bird-rs has it and does not use it.
    fn refused(&mut self, node: &str, bird: &BirdFacts, path: &Path) -> Cause {
        let (prefix, session) = (path.prefix, path.protocol.clone());
        let why = path.refused.clone().unwrap_or_default();
        self.wrong(
            Stage::Rib,
            Some(node),
            format!("{} from {session}: {why}", shown(prefix)),
        );
        let of = bird.sessions.iter().find(|s| s.name == session);
        let node = node.to_owned();
        match why.as_str() {
            "rejected by the import policy" => {
                let rule = of.and_then(|s| {
                    let route = Route {
                        prefix,
                        path: Some(path),
                        internal: s.peer_as == s.local_as,
                        learned: true,
                    };
                    self.cluster()?
                        .rejecting_rule((&node, s.peer?), Direction::Import, &route)
                });
                let filter = rule.unwrap_or_else(|| "its import policy does".to_owned());
                Cause::ImportFilter {
                    node,
                    session,
                    prefix,
                    filter,
                }
            }
            "beyond the import limit" => match of {
                Some(s) => Cause::MaxPrefix {
                    link: self.link(&node, s),
                    why: format!("{} is {why}", shown(prefix)),
                },
                None => Cause::Unusable {
                    node,
                    session,
                    prefix,
                    why,
                },
            },
            "next hop is unreachable" | "next hop is an own address" => {
                let why = format!("{session} says that it is {}, and {why}", path.next_hop);
                Cause::NextHop { node, prefix, why }
            }
            text if LOOPS.contains(&text) => Cause::Loop {
                node,
                session,
                prefix,
                why,
            },
            _ => Cause::Unusable {
                node,
                session,
                prefix,
                why,
            },
        }
    }

    /// It did not come from its owner, directly or by reflectors.
    fn missing(&mut self, node: &str, (owner, to): (&str, &Destination), mut seen: BTreeSet<String>) -> Option<Cause> {
        let wanted = |walk: &Self, other: &str| {
            let planned = walk.cluster().map(|c| c.peering(node, other));
            walk.session(node, other).is_some() || matches!(planned, Some(Peering::Wanted(_)))
        };
        seen.insert(node.to_owned());
        if wanted(self, owner) {
            return self.not_from(node, owner, (to, seen));
        }
        let reflectors: Vec<String> = self
            .cluster()
            .map(|c| c.reflectors().map(str::to_owned).collect())
            .unwrap_or_default();
        let next = reflectors.iter().find(|r| !seen.contains(*r) && wanted(self, r));
        match next {
            Some(reflector) => self.not_from(node, reflector, (to, seen)),
            None => self.no_peering(node, owner),
        }
    }

    fn no_peering(&mut self, node: &str, other: &str) -> Option<Cause> {
        match self.cluster()?.peering(node, other) {
            Peering::Wanted(by) => Some(self.lags(node, format!("the session with {other} that {by} asks for"))),
            Peering::None(why) => {
                self.wrong(Stage::Session, Some(node), format!("no session with {other}: {why}"));
                Some(Cause::NoPeering {
                    node: node.to_owned(),
                    peer: other.to_owned(),
                    why,
                })
            }
        }
    }

    /// What the datastore asks for is not in bird-rs's configuration.
    pub(super) fn lags(&mut self, node: &str, missing: String) -> Cause {
        let bird = self.bird(node);
        let applied = bird.map(|b| b.applied.clone()).unwrap_or_default();
        self.wrong(Stage::Confd, Some(node), format!("bird-rs lacks {missing}"));
        match bird.filter(|b| !b.desired.is_empty() && b.desired != b.applied) {
            Some(bird) => Cause::ConfigRejected {
                node: node.to_owned(),
                applied,
                desired: bird.desired.clone(),
            },
            None => Cause::ConfdLag {
                node: node.to_owned(),
                missing,
                applied,
            },
        }
    }

    /// It should have come from `other` over a session.
    fn not_from(&mut self, node: &str, other: &str, (to, seen): (&Destination, BTreeSet<String>)) -> Option<Cause> {
        let Some(session) = self.session(node, other) else {
            return self.no_peering(node, other);
        };
        if !session.is_up() {
            return self.down(node, session);
        }
        let link = self.link(node, session);
        self.good(Stage::Session, Some(node), format!("the {link} is established"));
        let Some(bird) = self.bird(other) else {
            if let Some(why) = self.node(other).and_then(|n| n.bird.failure()) {
                return Some(Cause::BirdDown {
                    node: other.to_owned(),
                    why: why.to_owned(),
                });
            }
            self.unasked(Stage::Rib, (other, "bird-rs"));
            return self.by_documents(other, to);
        };
        let here = bird.paths.iter().filter(|p| p.prefix == to.prefix);
        let (refused, used): (Vec<&Path>, Vec<&Path>) = here.partition(|p| p.refused.is_some());
        match (used.first(), refused.first()) {
            (Some(path), _) => self.not_announced(other, node, (to, path)),
            (None, Some(refused)) => Some(self.refused(other, bird, refused)),
            (None, None) if to.owner.as_deref() == Some(other) => {
                Some(self.lags(other, format!("the route to its block {}", to.prefix)))
            }
            (None, None) if seen.contains(other) => None,
            (None, None) => {
                let text = format!("bird-rs has no route to {} either", to.prefix);
                self.wrong(Stage::Rib, Some(other), text);
                let owner = to.owner.as_deref()?;
                self.missing(other, (owner, to), seen)
            }
        }
    }

    /// What the documents alone say of the export.
    fn by_documents(&mut self, node: &str, to: &Destination) -> Option<Cause> {
        let pool = to.pool.as_ref().filter(|p| p.spec.disable_bgp_export)?;
        Some(Cause::ExportDisabled {
            node: node.to_owned(),
            pool: pool.metadata.name.clone(),
            prefix: to.prefix,
        })
    }

    /// `from` has the route, has a session with `node`, and `node` has not got it.
    fn not_announced(&mut self, from: &str, node: &str, (to, path): (&Destination, &Path)) -> Option<Cause> {
        let prefix = path.prefix;
        let Some(session) = self.session(from, node) else {
            return self.no_peering(from, node);
        };
        if !session.is_up() {
            return self.down(from, session);
        }
        let announced = self.bird(from).and_then(|b| b.announced.get(&session.name));
        match announced.map(|prefixes| prefixes.contains(&prefix)) {
            None => return self.by_documents(from, to),
            Some(true) => {
                self.good(Stage::Rib, Some(from), format!("announces {prefix} to {node}"));
                return Some(Cause::OnItsWay {
                    node: from.to_owned(),
                    peer: node.to_owned(),
                    prefix,
                });
            }
            Some(false) => self.wrong(Stage::Rib, Some(from), format!("does not announce {prefix} to {node}")),
        }
        if let Some(cause) = self.by_documents(from, to) {
            return Some(cause);
        }
        let sessions = self.bird(from).map(|b| b.sessions.as_slice()).unwrap_or_default();
        let told = sessions.iter().find(|s| s.name == path.protocol);
        let internal = session.peer_as == session.local_as;
        let route = Route {
            prefix,
            path: Some(path),
            internal,
            learned: told.is_some(),
        };
        let rule = session.peer.and_then(|peer| {
            let cluster = self.cluster()?;
            cluster.rejecting_rule((from, peer), Direction::Export, &route)
        });
        let reflection = internal && told.is_some_and(|t| t.peer_as == t.local_as);
        let filter = match rule {
            Some(rule) => rule,
            None if reflection => {
                "a route of an internal peer is passed to internal peers by reflectors only".to_owned()
            }
            None if to.pool.is_none() => {
                "nodes announce blocks, pools and services, and it is none of these".to_owned()
            }
            None => "its export policy rejects it".to_owned(),
        };
        Some(Cause::ExportFilter {
            node: from.to_owned(),
            peer: node.to_owned(),
            prefix,
            filter,
        })
    }

    // === Sessions ===

    /// Why a session is not established.
    fn down(&mut self, node: &str, session: &Session) -> Option<Cause> {
        let link = self.link(node, session);
        let mut said = said(session);
        self.wrong(
            Stage::Session,
            Some(node),
            format!("the {link} is {}: {said}", session.state),
        );
        if session.protocol_state == "down" {
            return Some(Cause::SessionDisabled(link));
        }
        let other = session.peer.and_then(|p| self.who_is(p)).map(str::to_owned);
        let mut signatures = self.kernel(node).is_some_and(|k| k.bad_signatures);
        if let Some(other) = &other {
            if let Some(why) = self.node(other).and_then(|n| n.bird.failure()) {
                let (node, why) = (other.clone(), why.to_owned());
                return Some(Cause::BirdDown { node, why });
            }
            signatures |= self.kernel(other).is_some_and(|k| k.bad_signatures);
            if let Some(cause) = self.other_side(other, node, &mut said) {
                return Some(cause);
            }
        }
        Some(classified(link, said, signatures))
    }

    /// What the other side of a session that is down says of it.
    fn other_side(&mut self, other: &str, node: &str, text: &mut String) -> Option<Cause> {
        self.bird(other)?;
        let Some(back) = self.session(other, node) else {
            return self.no_peering(other, node);
        };
        if back.protocol_state == "down" {
            return Some(Cause::SessionDisabled(self.link(other, back)));
        }
        text.push_str(&format!("; {other} says: {}", said(back)));
        None
    }

    // === What is none of the cluster's ===

    /// No path, and no node of ours has the address.
    fn unannounced(&mut self, node: &str, to: &Destination) -> Option<Cause> {
        if let Some(cause) = self.external_peers(node) {
            return Some(cause);
        }
        let others = self.facts.nodes.keys().filter(|n| *n != node);
        for other in others.cloned().collect::<Vec<_>>() {
            let prefix = self.travelling(&other, to);
            let paths = self.bird(&other).map(|b| b.paths.as_slice()).unwrap_or_default();
            let has = paths
                .iter()
                .find(|p| p.prefix == prefix && p.best && p.refused.is_none());
            if let Some(path) = has
                && self.session(node, &other).is_some()
            {
                let to = Destination { prefix, ..to.clone() };
                let cause = self.not_announced(&other, node, (&to, path));
                if cause.is_some() {
                    return cause;
                }
            }
        }
        let own = to.net.is_host() && self.cluster().is_some_and(|c| c.node_at(to.net.addr()).is_some());
        let foreign = matches!(
            self.kernel(node).and_then(|k| k.lookup.as_ref()),
            Some(super::facts::Lookup::Route { prefix, ours: false, .. }) if prefix.len() > 0
        );
        if own || foreign || to.within.is_some() {
            return None;
        }
        let subject = shown(to.net);
        Some(Cause::NoPool { subject })
    }

    /// A session with a router that is down, or that is not there at all.
    fn external_peers(&mut self, node: &str) -> Option<Cause> {
        let bird = self.bird(node)?;
        let cluster = self.cluster();
        let outside = |s: &&Session| s.peer.is_some_and(|p| cluster.is_none_or(|c| c.node_at(p).is_none()));
        for session in bird.sessions.iter().filter(outside) {
            if !session.is_up() {
                return self.down(node, session);
            }
        }
        for (name, peer) in &cluster?.peers {
            let Some(address) = peer.spec.peer_ip.map(|p| p.ip) else {
                continue;
            };
            if cluster?.node_at(address).is_some() || bird.sessions.iter().any(|s| s.peer == Some(address)) {
                continue;
            }
            if cluster?.selected(peer, node) {
                return Some(self.lags(node, format!("the session with {address} that BGPPeer {name} asks for")));
            }
            if let Some(why) = cluster?.selects_nobody(peer) {
                let why = format!("BGPPeer {name} would ask for one, but {why}");
                self.wrong(Stage::Session, Some(node), format!("no session with {address}: {why}"));
                return Some(Cause::NoPeering {
                    node: node.to_owned(),
                    peer: address.to_string(),
                    why,
                });
            }
        }
        None
    }
}

/// What a session says of its own failure.
fn said(session: &Session) -> String {
    let texts = [&session.last_error, &session.connect_failure];
    let said: Vec<&str> = texts
        .into_iter()
        .filter(|t| !t.is_empty())
        .map(String::as_str)
        .collect();
    if said.is_empty() {
        format!("{} as yet, without an error", session.state)
    } else {
        said.join("; ")
    }
}

fn classified(link: Link, why: String, signatures: bool) -> Cause {
    let text = why.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| text.contains(w));
    if has(&["bad peer as", "bad remote as"]) {
        Cause::WrongAs { link, why }
    } else if has(&["number of prefixes", "limit"]) {
        Cause::MaxPrefix { link, why }
    } else if signatures || has(&["password", "md5"]) {
        Cause::WrongPassword { link, why }
    } else {
        Cause::SessionDown { link, why }
    }
}
