//! Who may write what.
//!
//! A certificate's organization says in which capacity its owner comes, its common name who it is. Whoever the authority
//! gave a certificate may read. A node writes what is its own; operators write what people configure; administrators do
//! everything. A unix socket, or `--insecure`, makes everybody an administrator.
//!
//! What a node left behind that does not exist any more, any node may remove: its endpoints, its claims, its blocks and
//! single addresses, its felix's reports. Which nodes are gone the caller finds out, of those that [`Subject::others`] names, and it has to
//! guard the write by their absence.

use std::collections::BTreeSet;

use serde_json::Value;
use tortie_kit::address::Peer;
use tortie_kit::tls::Name;
use tortie_model::{Key, Kind, Owner};

/// In which capacity somebody comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Everything.
    Admin,
    /// What people configure: resources, but those of nodes, and IPAM's documents are not written by hand.
    Operator,
    /// Nothing is written.
    Reader,
    /// The programs of this node.
    Node(String),
}

/// What somebody may not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error(
        "the certificate's organization is '{0}': want tortie:nodes, tortie:operators, tortie:readers or tortie:admins"
    )]
    Organization(String),
    #[error("the certificate of a node has no common name: want the node's name")]
    NoNode,
    #[error("nothing is known of who asks")]
    Nobody,
    #[error("{who} may not write {object}: {rule}")]
    Write {
        who: String,
        object: String,
        rule: &'static str,
    },
    #[error("{who} may not {act}: only administrators may")]
    Act { who: String, act: &'static str },
}

impl Subject {
    /// Who asks, as the connection says.
    ///
    /// # Errors
    /// [`Denied`] for a certificate that was given to somebody else.
    pub(crate) fn of(extensions: &tonic::Extensions) -> Result<Self, Denied> {
        match extensions.get::<Peer>() {
            Some(Peer::Local | Peer::Anonymous) => Ok(Subject::Admin),
            Some(Peer::Certified(name)) => Subject::named(name),
            None => Err(Denied::Nobody),
        }
    }

    fn named(name: &Name) -> Result<Self, Denied> {
        match name.organization.as_str() {
            "tortie:admins" => Ok(Subject::Admin),
            "tortie:operators" => Ok(Subject::Operator),
            // typhas ask each other how many clients they have.
            "tortie:readers" | "tortie:typha" => Ok(Subject::Reader),
            "tortie:nodes" if name.common.is_empty() => Err(Denied::NoNode),
            "tortie:nodes" => Ok(Subject::Node(name.common.clone())),
            other => Err(Denied::Organization(other.to_owned())),
        }
    }

    fn who(&self) -> String {
        match self {
            Subject::Admin => "an administrator".to_owned(),
            Subject::Operator => "an operator".to_owned(),
            Subject::Reader => "a reader".to_owned(),
            Subject::Node(node) => format!("node {node}"),
        }
    }

    /// May it do what concerns the whole datastore?
    ///
    /// # Errors
    /// [`Denied::Act`].
    pub(crate) fn administers(&self, act: &'static str) -> Result<(), Denied> {
        match self {
            Subject::Admin => Ok(()),
            Subject::Operator | Subject::Reader | Subject::Node(_) => Err(Denied::Act { who: self.who(), act }),
        }
    }

    /// May it do this, where the nodes `gone` do not exist?
    ///
    /// # Errors
    /// [`Denied::Write`] with the rule.
    pub(crate) fn may_write(&self, write: &Write<'_>, gone: &BTreeSet<String>) -> Result<(), Denied> {
        let broken = match self {
            Subject::Admin => None,
            Subject::Operator => operator(write.key),
            Subject::Reader => Some("readers write nothing"),
            Subject::Node(node) => Node { name: node, gone }.breaks(write),
        };
        match broken {
            None => Ok(()),
            Some(rule) => Err(Denied::Write {
                who: self.who(),
                object: write.key.object_name(),
                rule,
            }),
        }
    }

    /// The other nodes that a write of a node concerns: it is allowed more when they do not exist. At most
    /// [`OTHERS_MAX`].
    pub(crate) fn others(&self, write: &Write<'_>) -> BTreeSet<String> {
        let Subject::Node(own) = self else {
            return BTreeSet::new();
        };
        let named = match write.key {
            Key::Affinity {
                owner: Owner::Host(node),
                ..
            }
            | Key::IpamHost(node) => vec![node.as_str()],
            Key::Report(report) => vec![report.node.as_str()],
            Key::Block(_) => {
                let owner = write.old.and_then(owner).and_then(|o| o.strip_prefix("host:"));
                owner.into_iter().chain(changed(write).filter_map(node_of)).collect()
            }
            Key::Resource { .. } => write.old.and_then(|d| text(d, "/spec/node")).into_iter().collect(),
            Key::Affinity { .. } | Key::Handle(_) | Key::IpamConfig | Key::Lease(_) => Vec::new(),
        };
        // No document can make another key of a name.
        let is_node = |name: &&str| *name != own && format!("host:{name}").parse::<Owner>().is_ok();
        let distinct: BTreeSet<&str> = named.into_iter().filter(is_node).collect();
        distinct.into_iter().take(OTHERS_MAX).map(str::to_owned).collect()
    }
}

/// So many nodes are looked up for one write at most; a garbage collector gives back the addresses of one handle at a time.
const OTHERS_MAX: usize = 16;

/// `new` (`None`: nothing) in the place of `old`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write<'a> {
    pub(crate) key: &'a Key,
    pub(crate) new: Option<&'a Value>,
    pub(crate) old: Option<&'a Value>,
}

fn operator(key: &Key) -> Option<&'static str> {
    match key {
        Key::Resource { .. } | Key::IpamConfig => None,
        Key::Block(_) | Key::Affinity { .. } | Key::Handle(_) | Key::IpamHost(_) | Key::Lease(_) => {
            Some("address management writes it by itself")
        }
        Key::Report(_) => Some("felix writes it by itself"),
    }
}

/// A node that writes, and which others do not exist.
struct Node<'a> {
    name: &'a str,
    gone: &'a BTreeSet<String>,
}

impl Node<'_> {
    /// The rule that it breaks, if any.
    fn breaks(&self, write: &Write<'_>) -> Option<&'static str> {
        let Write { key, new, old } = *write;
        let unless = |allowed: bool, rule| (!allowed).then_some(rule);
        let names_it = |document: Option<&Value>| document.is_none_or(|d| text(d, "/spec/node") == Some(self.name));
        let left_behind = old.and_then(|d| text(d, "/spec/node")).is_some_and(|n| self.is_gone(n));
        match key {
            Key::Resource {
                kind: Kind::Node, name, ..
            } => unless(name == self.name, "a node writes its own Node only"),
            Key::Resource {
                kind: Kind::WorkloadEndpoint,
                ..
            } => unless(
                names_it(new) && names_it(old) || new.is_none() && left_behind,
                "its spec.node is another node's",
            ),
            Key::Resource {
                kind: Kind::CalicoNodeStatus,
                ..
            } => unless(names_it(new) && names_it(old), "its spec.node is another node's"),
            Key::Resource { .. } | Key::IpamConfig => Some("a node does not configure the cluster"),
            Key::Affinity { owner, .. } => unless(
                self.is_own(owner) || old.is_some() && matches!(owner, Owner::Host(n) if self.is_gone(n.as_str())),
                "it is another owner's",
            ),
            Key::IpamHost(host) => unless(
                host.as_str() == self.name || new.is_none() && self.is_gone(host.as_str()),
                "it is another node's",
            ),
            // A handle is named after its owner's interface, not its node; the addresses are kept in blocks.
            Key::Handle(_) => None,
            // Which node has it is what a lease is about.
            Key::Lease(_) => None,
            Key::Report(report) => unless(
                report.node.as_str() == self.name || new.is_none() && self.is_gone(report.node.as_str()),
                "it is of another node",
            ),
            Key::Block(_) => self.breaks_of_block(write),
        }
    }

    fn is_gone(&self, node: &str) -> bool {
        self.gone.contains(node)
    }

    fn is_own(&self, owner: &Owner) -> bool {
        matches!(owner, Owner::Host(host) if host.as_str() == self.name)
    }

    /// A node does what it likes with its own block, and in others' it takes and gives back single addresses. Of nodes
    /// that are gone it gives back addresses too, and removes blocks.
    fn breaks_of_block(&self, write: &Write<'_>) -> Option<&'static str> {
        let own = format!("host:{}", self.name);
        let Some(old) = write.old else {
            let claimed = write.new.and_then(owner).is_some_and(|o| o == own);
            return (!claimed).then_some("a node makes blocks of its own only");
        };
        let before = owner(old);
        if before == Some(own.as_str()) {
            let given = write.new.and_then(owner).is_some_and(|o| o != own);
            return given.then_some("a node does not make its block another's");
        }
        let Some(new) = write.new else {
            // Released by its owner, or its owner is gone; and empty: whoever took the last address out may remove it.
            let abandoned = before.is_none_or(|o| o.strip_prefix("host:").is_some_and(|n| self.is_gone(n)));
            let empty = abandoned && (0..slots(old)).all(|n| slot(old, n).is_none());
            return (!empty).then_some("it is another owner's");
        };
        let after = owner(new);
        if after != before && !(before.is_none() && after == Some(own.as_str())) {
            return Some("a node does not change whose a block is");
        }
        let is_its = |attribute: Option<&Value>| attribute.is_none_or(|a| is_free(a) || node_of(a) == Some(self.name));
        let is_of_gone = |a: &Value| node_of(a).is_some_and(|n| self.is_gone(n));
        for n in 0..slots(old).max(slots(new)) {
            let (was, is) = (slot(old, n), slot(new, n));
            if was != is && !((is_its(was) || was.is_some_and(is_of_gone)) && is_its(is)) {
                return Some("in another's block a node takes and gives back its own addresses only");
            }
        }
        None
    }
}

/// Whose a block is.
fn owner(block: &Value) -> Option<&str> {
    text(block, "/affinity")
}

/// An address without a handle is nobody's any more: it was released and cools down.
fn is_free(attribute: &Value) -> bool {
    text(attribute, "/handle_id").is_none()
}

/// The node that has the address.
fn node_of(attribute: &Value) -> Option<&str> {
    text(attribute, "/secondary/node")
}

/// What held the addresses of a block that a write changes.
fn changed<'a>(write: &Write<'a>) -> impl Iterator<Item = &'a Value> {
    let (old, new) = (write.old, write.new);
    let slot_of = |block: Option<&'a Value>, n| block.and_then(|b| slot(b, n));
    (0..old.map_or(0, slots)).filter_map(move |n| slot_of(old, n).filter(|was| slot_of(new, n) != Some(*was)))
}

fn text<'a>(document: &'a Value, pointer: &str) -> Option<&'a str> {
    document.pointer(pointer)?.as_str()
}

fn slots(block: &Value) -> usize {
    block.get("allocations").and_then(Value::as_array).map_or(0, Vec::len)
}

/// What holds an address; `None`: it is free.
fn slot(block: &Value, n: usize) -> Option<&Value> {
    let index = block.get("allocations")?.get(n)?.as_u64()?;
    block.get("attributes")?.get(usize::try_from(index).ok()?)
}

#[cfg(test)]
mod tests;
