//! Who may write what.
//!
//! A certificate's organization says in which capacity its owner comes, its common name who it is. Whoever the authority
//! gave a certificate may read. A node writes what is its own; operators write what people configure; administrators do
//! everything. A unix socket, or `--insecure`, makes everybody an administrator.

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
            "tortie:readers" => Ok(Subject::Reader),
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

    /// May it put `new` (`None`: nothing) in the place of `old`?
    ///
    /// # Errors
    /// [`Denied::Write`] with the rule.
    pub(crate) fn may_write(&self, key: &Key, new: Option<&Value>, old: Option<&Value>) -> Result<(), Denied> {
        let broken = match self {
            Subject::Admin => None,
            Subject::Operator => operator(key),
            Subject::Reader => Some("readers write nothing"),
            Subject::Node(node) => of_node(node, key, new, old),
        };
        match broken {
            None => Ok(()),
            Some(rule) => Err(Denied::Write {
                who: self.who(),
                object: key.object_name(),
                rule,
            }),
        }
    }
}

fn operator(key: &Key) -> Option<&'static str> {
    match key {
        Key::Resource { .. } | Key::IpamConfig => None,
        Key::Block(_) | Key::Affinity { .. } | Key::Handle(_) | Key::IpamHost(_) | Key::Lease(_) => {
            Some("address management writes it by itself")
        }
    }
}

/// The rule that a node breaks, if any.
fn of_node(node: &str, key: &Key, new: Option<&Value>, old: Option<&Value>) -> Option<&'static str> {
    let unless = |allowed: bool, rule| (!allowed).then_some(rule);
    let names_it = |document: Option<&Value>| document.is_none_or(|d| text(d, "/spec/node") == Some(node));
    match key {
        Key::Resource {
            kind: Kind::Node, name, ..
        } => unless(name == node, "a node writes its own Node only"),
        Key::Resource {
            kind: Kind::WorkloadEndpoint | Kind::CalicoNodeStatus,
            ..
        } => unless(names_it(new) && names_it(old), "its spec.node is another node's"),
        Key::Resource { .. } | Key::IpamConfig => Some("a node does not configure the cluster"),
        Key::Affinity { owner, .. } => unless(is_own(owner, node), "it is another owner's"),
        Key::IpamHost(host) => unless(host.as_str() == node, "it is another node's"),
        // A handle is named after its owner's interface, not its node; the addresses are kept in blocks.
        Key::Handle(_) => None,
        // Which node has it is what a lease is about.
        Key::Lease(_) => None,
        Key::Block(_) => of_block(node, new, old),
    }
}

fn is_own(owner: &Owner, node: &str) -> bool {
    matches!(owner, Owner::Host(host) if host.as_str() == node)
}

/// A node does what it likes with its own block, and in others' it takes and gives back single addresses.
fn of_block(node: &str, new: Option<&Value>, old: Option<&Value>) -> Option<&'static str> {
    let own = format!("host:{node}");
    let owner = |block: &Value| text(block, "/affinity").map(str::to_owned);
    let Some(old) = old else {
        let claimed = new.and_then(owner).is_some_and(|o| o == own);
        return (!claimed).then_some("a node makes blocks of its own only");
    };
    let before = owner(old);
    if before.as_deref() == Some(own.as_str()) {
        let kept = new.and_then(owner);
        let given = kept.is_some_and(|o| o != own);
        return given.then_some("a node does not make its block another's");
    }
    let Some(new) = new else {
        // Released by its owner, and empty: whoever took the last address out may remove it.
        let empty = before.is_none() && (0..slots(old)).all(|n| slot(old, n).is_none());
        return (!empty).then_some("it is another owner's");
    };
    let after = owner(new);
    if after != before && !(before.is_none() && after.as_deref() == Some(own.as_str())) {
        return Some("a node does not change whose a block is");
    }
    // An address without a handle is nobody's any more: it was released and cools down.
    let is_its = |attribute: Option<&Value>| {
        attribute.is_none_or(|a| text(a, "/handle_id").is_none() || text(a, "/secondary/node") == Some(node))
    };
    for n in 0..slots(old).max(slots(new)) {
        let (was, is) = (slot(old, n), slot(new, n));
        if was != is && !(is_its(was) && is_its(is)) {
            return Some("in another's block a node takes and gives back its own addresses only");
        }
    }
    None
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
