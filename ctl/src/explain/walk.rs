//! The explanation: facts in, findings and at most one cause out. Pure.
//!
//! It walks the way that a route goes: the datastore says who has the address and which prefix travels ([`super::address`]);
//! its owner must have it in place; from there it must come to each node that is asked about ([`super::trace`]), and there
//! into the kernel ([`super::forward`]). The first thing on this way that keeps it is the cause. What is wrong and does not
//! keep it (a daemon that does not answer while the kernel has the route) is the cause only when nothing else is.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tortie_net::Prefix;

use super::address::{self, Destination};
use super::cause::{Cause, Link};
use super::facts::{BirdFacts, ClusterFacts, Fact, Facts, FelixFacts, KernelFacts, NodeFacts, Session, Subject};

/// Where on the way something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Typha,
    Datastore,
    Confd,
    Session,
    Rib,
    Fib,
    Kernel,
}

impl Stage {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Stage::Typha => "typha",
            Stage::Datastore => "datastore",
            Stage::Confd => "confd",
            Stage::Session => "session",
            Stage::Rib => "rib",
            Stage::Fib => "fib",
            Stage::Kernel => "kernel",
        }
    }
}

/// How it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Good,
    Wrong,
    /// Worth knowing, neither good nor wrong.
    Note,
    /// Nobody could be asked.
    Unknown,
}

impl Mark {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Mark::Good => "ok",
            Mark::Wrong => "WRONG",
            Mark::Note => "note",
            Mark::Unknown => "unknown",
        }
    }
}

/// A step of the walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) stage: Stage,
    pub(super) node: Option<String>,
    pub(super) mark: Mark,
    pub(super) text: String,
}

/// What the walk came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Explanation {
    pub(super) subject: Subject,
    pub(super) from: Vec<String>,
    pub(super) findings: Vec<Finding>,
    pub(super) cause: Option<Cause>,
    /// A network of services that nodes announce: reaching it is not a matter of routes in the cluster.
    pub(super) announced: Option<Prefix>,
    /// Who would have had to be asked, and was not: `bird-rs of n2`.
    pub(super) not_asked: BTreeSet<String>,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Everything that was asked is as it should be.
    Healthy,
    /// There is a cause.
    Fault,
    /// Nothing wrong was seen, and not everything that matters could be asked.
    Unclear,
}

impl Verdict {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Verdict::Healthy => "healthy",
            Verdict::Fault => "fault",
            Verdict::Unclear => "unclear",
        }
    }
}

impl Explanation {
    pub(super) fn verdict(&self) -> Verdict {
        let wrong = self.findings.iter().any(|f| f.mark == Mark::Wrong);
        match &self.cause {
            Some(_) => Verdict::Fault,
            None if wrong || !self.not_asked.is_empty() || self.from.is_empty() => Verdict::Unclear,
            None => Verdict::Healthy,
        }
    }

    /// The last word.
    pub(super) fn sentence(&self) -> String {
        let from = self.from.join(", ");
        let missing: Vec<&str> = self.not_asked.iter().map(String::as_str).collect();
        match (&self.cause, self.verdict()) {
            (Some(cause), _) => cause.to_string(),
            (None, Verdict::Healthy) => match self.announced {
                Some(cidr) => format!(
                    "Nothing is wrong: {from} announces {cidr}, in which {} is.",
                    self.subject
                ),
                None => format!("Nothing is wrong: {from} can reach {}.", self.subject),
            },
            (None, _) if self.from.is_empty() => {
                "Nothing wrong was seen in the datastore, and no node was asked (see --bird and --felix).".to_owned()
            }
            (None, _) if missing.is_empty() => "What is wrong has no cause that is known here.".to_owned(),
            (None, _) if self.findings.iter().any(|f| f.mark == Mark::Wrong) => {
                format!(
                    "The cause of what is wrong is not known, because not asked: {}.",
                    missing.join(", ")
                )
            }
            (None, _) => format!("Nothing wrong was seen, but not asked: {}.", missing.join(", ")),
        }
    }
}

/// Explains.
pub(super) fn explain(facts: &Facts) -> Explanation {
    let mut walk = Walk {
        facts,
        findings: Vec::new(),
        weak: None,
        announced: None,
        not_asked: BTreeSet::new(),
    };
    let cause = walk.run();
    Explanation {
        subject: facts.subject.clone(),
        from: facts.from.clone(),
        cause: cause.or(walk.weak),
        findings: walk.findings,
        announced: walk.announced,
        not_asked: walk.not_asked,
    }
}

/// The state of a walk.
pub(super) struct Walk<'a> {
    pub(super) facts: &'a Facts,
    findings: Vec<Finding>,
    /// Wrong, though it keeps nothing.
    weak: Option<Cause>,
    pub(super) announced: Option<Prefix>,
    pub(super) not_asked: BTreeSet<String>,
}

impl<'a> Walk<'a> {
    fn run(&mut self) -> Option<Cause> {
        self.typha();
        let facts = self.facts;
        let destination = match &facts.cluster {
            Fact::Known(cluster) => {
                let (found, cause) = address::destination(cluster, &facts.subject);
                self.findings.extend(found);
                match cause {
                    Ok(destination) => self.whole(destination),
                    Err(cause) => return Some(self.blame_age(cause)),
                }
            }
            Fact::NotAsked | Fact::Failed(_) => match facts.subject {
                Subject::Net(net) => Destination::outside(net),
                Subject::LostPod(_) => return None,
            },
        };
        if let Some(unknown) = facts.from.iter().find(|n| !self.exists(n)) {
            let why = "and nobody was named to be asked for it".to_owned();
            return Some(Cause::UnknownNode {
                node: unknown.clone(),
                why,
            });
        }
        if let Some(cause) = self.owner(&destination) {
            return Some(cause);
        }
        for viewer in facts.from.iter().filter(|v| Some(*v) != destination.owner.as_ref()) {
            self.daemons(viewer);
            if let Some(network) = &destination.service
                && self.cluster().is_some_and(|c| c.nodes.contains_key(viewer))
            {
                if let Some(cause) = self.announces(viewer, network) {
                    return Some(cause);
                }
                continue;
            }
            let cause = self.arrives(viewer, &destination);
            if let Some(cause) = cause.or_else(|| self.forwards(viewer, &destination)) {
                return Some(cause);
            }
        }
        None
    }

    /// A part of a block is reached with the whole, unless somebody tells a route of its own to it.
    fn whole(&self, to: Destination) -> Destination {
        let told = |node: &NodeFacts| {
            let path = node
                .bird
                .known()
                .is_some_and(|b| b.paths.iter().any(|p| p.prefix == to.net));
            path || node
                .felix
                .known()
                .is_some_and(|f| f.rows.iter().any(|r| r.prefix == to.net))
        };
        match &to.within {
            Some((owner, block)) if !self.facts.nodes.values().any(told) => Destination {
                owner: Some(owner.clone()),
                prefix: *block,
                within: None,
                ..to
            },
            Some(_) | None => to,
        }
    }

    /// What is not in a state that is old may be in the datastore.
    fn blame_age(&self, cause: Cause) -> Cause {
        match &self.weak {
            Some(stale @ Cause::TyphaStale { .. }) => stale.clone(),
            Some(_) | None => cause,
        }
    }

    fn typha(&mut self) {
        match &self.facts.typha {
            Fact::Known(typha) => match &typha.stale {
                None => self.good(Stage::Typha, None, format!("serves revision {}", typha.revision)),
                Some((why, age)) => {
                    let (age_s, why) = (age.as_secs(), why.clone());
                    self.wrong(
                        Stage::Typha,
                        None,
                        format!("serves a state that is {age_s} s old: {why}"),
                    );
                    self.suspect(Cause::TyphaStale { age_s, why });
                }
            },
            Fact::Failed(why) => {
                self.wrong(Stage::Typha, None, format!("does not answer: {why}"));
                self.suspect(Cause::TyphaDown { why: why.clone() });
            }
            Fact::NotAsked => {
                self.not_asked.insert("typha".to_owned());
                self.find(Stage::Typha, None, (Mark::Unknown, "not asked".to_owned()));
            }
        }
    }

    /// Do the daemons of a node answer, and are they in step?
    pub(super) fn daemons(&mut self, node: &str) {
        if let Some(why) = self.node(node).and_then(|n| n.bird.failure()) {
            self.suspect(Cause::BirdDown {
                node: node.to_owned(),
                why: why.to_owned(),
            });
        }
        if let Some(why) = self.node(node).and_then(|n| n.felix.failure()) {
            self.suspect(Cause::FelixDown {
                node: node.to_owned(),
                why: why.to_owned(),
            });
        }
        if let Some(bird) = self.bird(node)
            && !bird.desired.is_empty()
            && bird.desired != bird.applied
        {
            let text = format!("revision {} is in force, {} was asked for", bird.applied, bird.desired);
            self.wrong(Stage::Confd, Some(node), text);
            self.suspect(Cause::ConfigRejected {
                node: node.to_owned(),
                applied: bird.applied.clone(),
                desired: bird.desired.clone(),
            });
        }
        if let Some(felix) = self.felix(node) {
            if !felix.datastore_in_sync {
                self.wrong(Stage::Fib, Some(node), "felix is not in sync with typha".to_owned());
                self.suspect(felix_stale(node, felix));
            }
            if !felix.fib_in_sync {
                self.wrong(Stage::Fib, Some(node), "felix is not in sync with bird-rs".to_owned());
                self.suspect(Cause::FibStale { node: node.to_owned() });
            }
        }
    }

    // === Findings ===

    pub(super) fn find(&mut self, stage: Stage, node: Option<&str>, (mark, text): (Mark, String)) {
        self.findings.push(Finding {
            stage,
            node: node.map(str::to_owned),
            mark,
            text,
        });
    }

    pub(super) fn good(&mut self, stage: Stage, node: Option<&str>, text: String) {
        self.find(stage, node, (Mark::Good, text));
    }

    pub(super) fn wrong(&mut self, stage: Stage, node: Option<&str>, text: String) {
        self.find(stage, node, (Mark::Wrong, text));
    }

    /// A cause that is only believed when there is no other.
    pub(super) fn suspect(&mut self, cause: Cause) {
        self.weak.get_or_insert(cause);
    }

    /// Notes that this program was not asked.
    pub(super) fn unasked(&mut self, stage: Stage, (node, program): (&str, &str)) {
        if self.not_asked.insert(format!("{program} of {node}")) {
            let text = format!("{program} was not asked");
            self.find(stage, Some(node), (Mark::Unknown, text));
        }
    }

    // === Facts ===

    pub(super) fn node(&self, name: &str) -> Option<&'a NodeFacts> {
        self.facts.nodes.get(name)
    }

    pub(super) fn bird(&self, name: &str) -> Option<&'a BirdFacts> {
        self.node(name)?.bird.known()
    }

    pub(super) fn felix(&self, name: &str) -> Option<&'a FelixFacts> {
        self.node(name)?.felix.known()
    }

    pub(super) fn kernel(&self, name: &str) -> Option<&'a KernelFacts> {
        self.node(name)?.kernel.known()
    }

    pub(super) fn cluster(&self) -> Option<&'a ClusterFacts> {
        self.facts.cluster.known()
    }

    fn exists(&self, name: &str) -> bool {
        self.facts.nodes.contains_key(name) || self.cluster().is_none_or(|c| c.nodes.contains_key(name))
    }

    /// The BGP addresses of a node, or of a router that was asked.
    pub(super) fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let stored = self.cluster().map(|c| c.addresses(name)).unwrap_or_default();
        let sessions = self.bird(name).map(|b| b.sessions.as_slice()).unwrap_or_default();
        stored
            .into_iter()
            .chain(sessions.iter().filter_map(|s| s.source))
            .collect()
    }

    /// Who has this address: a node, or a router that was asked.
    pub(super) fn who_is(&self, address: IpAddr) -> Option<&'a str> {
        let stored = self.cluster().and_then(|c| c.node_at(address));
        stored.or_else(|| {
            let mut asked = self.facts.nodes.keys();
            asked
                .find(|name| self.addresses(name).contains(&address))
                .map(String::as_str)
        })
    }

    /// The session of `node` with `peer`.
    pub(super) fn session(&self, node: &str, peer: &str) -> Option<&'a Session> {
        let addresses = self.addresses(peer);
        let mut sessions = self.bird(node)?.sessions.iter();
        sessions.find(|s| s.peer.is_some_and(|p| addresses.contains(&p)))
    }

    pub(super) fn link(&self, node: &str, session: &Session) -> Link {
        let address = session.peer.map(|p| p.to_string()).unwrap_or_default();
        let name = session.peer.and_then(|p| self.who_is(p));
        Link {
            node: node.to_owned(),
            session: session.name.clone(),
            peer: name.map_or_else(|| address.clone(), |n| format!("{n} ({address})")),
        }
    }
}

pub(super) fn felix_stale(node: &str, felix: &FelixFacts) -> Cause {
    Cause::FelixStale {
        node: node.to_owned(),
        revision: felix.revision,
    }
}

/// A prefix, or the address when it is one.
pub(super) fn shown(net: Prefix) -> String {
    Subject::Net(net).to_string()
}
