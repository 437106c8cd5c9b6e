//! What may be stored: defaults, the rules of each kind, rules between objects, and what an update may not change.
//!
//! [`admit`] is called by whoever is about to store a document, with the document it replaces and a view of the others.
//! It says everything that is wrong, not only the first. It never looks at a clock and never makes up identities: who
//! stores gives a new object its `uid` and `creationTimestamp` first.

mod bgp;
mod defaults;
mod ipam;
mod meta;
mod node;
mod pool;

use serde_json::Value;

use crate::invalid::{Invalid, Refused};
use crate::key::Key;
use crate::kind::Kind;
use crate::object::{Object, decode, decode_value};
use crate::schema;

/// The other documents of the datastore, by key string.
pub trait View {
    /// Calls `f` with every document whose key begins with `prefix`.
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &[u8]));

    /// Is there a document with exactly this key?
    fn exists(&self, key: &str) -> bool;
}

/// Decides whether `new` may be stored under `key` in place of `old`, and gives what to store: `new` with defaults, its
/// CIDR in canonical form, what must not change taken from `old`, and `resourceVersion` removed, as it is never stored.
///
/// Unknown fields pass. A resource of a kind Tortie does not act on is refused.
///
/// # Errors
/// [`Refused`], with every broken rule.
pub fn admit(key: &Key, mut new: Value, old: Option<&Value>, view: &dyn View) -> Result<Value, Refused> {
    let refuse = |invalid| Refused {
        object: key.object_name(),
        invalid,
    };
    let mut out = Vec::new();
    if let Key::Resource { kind, .. } = key {
        let Some(fields) = schema::of(*kind) else {
            return Err(refuse(vec![Invalid::new(
                "kind",
                kind,
                "Tortie does not act on this kind yet",
            )]));
        };
        if !new.is_object() {
            return Err(refuse(vec![Invalid::json("document", &new, "want a JSON object")]));
        }
        meta::complete(key, &mut new, old, &mut out);
        schema::check_fields(&new, fields, "", &mut out);
        if !out.is_empty() {
            return Err(refuse(out));
        }
        defaults::apply(*kind, &mut new);
    } else if let Some(fields) = schema::documents::of(key).filter(|_| new.is_object()) {
        schema::check_fields(&new, fields, "", &mut out);
        if !out.is_empty() {
            return Err(refuse(out));
        }
    }
    let unreadable = |reason| refuse(vec![Invalid::json("document", &new, reason)]);
    let object = decode_value(key, new.clone()).map_err(|e| unreadable(e.reason))?;
    // What is there may predate a rule: an unreadable old document does not stand in the way of a good new one.
    let before = old.and_then(|old| decode_value(key, old.clone()).ok());
    check_object(
        &Context {
            key,
            old: before.as_ref(),
            view,
        },
        &object,
        &mut out,
    );
    if out.is_empty() { Ok(new) } else { Err(refuse(out)) }
}

/// Decides whether the document under `key` may be deleted.
///
/// # Errors
/// [`Refused`], with the reason.
pub fn admit_delete(key: &Key) -> Result<(), Refused> {
    if key.kind() != Some(Kind::ClusterInformation) {
        return Ok(());
    }
    let reason = "cannot be deleted: every program needs it";
    Err(Refused {
        object: key.object_name(),
        invalid: vec![Invalid::new("kind", Kind::ClusterInformation, reason)],
    })
}

/// What the rules of an object may look at beside the object.
struct Context<'a> {
    key: &'a Key,
    old: Option<&'a Object>,
    view: &'a dyn View,
}

impl Context<'_> {
    /// The object's own name.
    fn name(&self) -> &str {
        self.key.resource_name().unwrap_or_default()
    }

    /// Every readable object of this kind but the one under our own key.
    fn others(&self, kind: Kind) -> Vec<Object> {
        let own = self.key.to_string();
        let mut found = Vec::new();
        self.view.visit(&Key::collection(kind), &mut |key, json| {
            if key != own
                && let Ok(key) = key.parse::<Key>()
                && let Ok(object) = decode(&key, json)
            {
                found.push(object);
            }
        });
        found
    }
}

fn check_object(cx: &Context<'_>, object: &Object, out: &mut Vec<Invalid>) {
    match object {
        Object::IpPool(pool) => pool::check(cx, &pool.spec, out),
        Object::BgpConfiguration(c) => bgp::check_configuration(cx, &c.spec, out),
        Object::BgpPeer(p) => bgp::check_peer(cx, &p.spec, out),
        Object::BgpFilter(f) => bgp::check_filter(&f.spec, out),
        Object::Node(n) => node::check_node(&n.spec, out),
        Object::WorkloadEndpoint(w) => node::check_workload(cx, &w.spec, out),
        Object::FelixConfiguration(f) => node::check_felix(cx, &f.spec, out),
        Object::ClusterInformation(_) => only_default(cx, out),
        Object::IpamConfiguration(c) => {
            only_default(cx, out);
            let auto = c.spec.auto_allocate_blocks.unwrap_or(true);
            let max = c.spec.max_blocks_per_host.unwrap_or(0);
            let fields = ["spec.autoAllocateBlocks", "spec.maxBlocksPerHost"];
            ipam::check_config(fields, [c.spec.strict_affinity, auto], max, out);
        }
        Object::IpamConfig(c) => {
            ipam::check_config(
                ["auto_allocate_blocks", "maxBlocksPerHost"],
                [c.strict_affinity, c.auto_allocate_blocks],
                c.max_blocks_per_host,
                out,
            );
        }
        Object::Block(b) => ipam::check_block(b, out),
        Object::IpReservation(_)
        | Object::Other(_)
        | Object::Affinity(_)
        | Object::Handle(_)
        | Object::IpamHost
        | Object::Lease(_)
        | Object::StatusReport(_)
        | Object::EndpointReport(_) => {}
    }
}

fn only_default(cx: &Context<'_>, out: &mut Vec<Invalid>) {
    if cx.name() != "default" {
        out.push(Invalid::new(
            "metadata.name",
            cx.name(),
            "the only object of this kind is named default",
        ));
    }
}

#[cfg(test)]
mod tests;
