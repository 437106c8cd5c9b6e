//! The data that templates get: the view as it is shown, with passwords filled in.

use std::collections::BTreeMap;

use serde_json::Value;

use super::dialect::frr::Frr;
use super::dialect::gobgp::Gobgp;
use crate::state::Secret;
use crate::view::{BgpView, PeerView, SecretRef};

/// The view as JSON. Where it names a secret, the template finds the password itself.
///
/// The result is for rendering only: it must not be shown or logged.
pub fn for_templates(view: &BgpView, secrets: &BTreeMap<SecretRef, Secret>) -> Value {
    let mut data = without_peers(view);
    let peers = view.peers.iter().map(|p| of_peer(p, view.bind_node_ip, secrets));
    data["peers"] = Value::Array(peers.collect());
    data
}

/// All of it but the sessions.
pub(super) fn without_peers(view: &BgpView) -> Value {
    let peers = Vec::new();
    let rest = BgpView {
        node: view.node.clone(),
        origin: view.origin.clone(),
        asn_origin: view.asn_origin.clone(),
        ignored_interfaces: view.ignored_interfaces.clone(),
        families: view.families.clone(),
        filters: view.filters.clone(),
        policies: view.policies.clone(),
        problems: view.problems.clone(),
        peers,
        ..*view
    };
    serde_json::to_value(rest).expect("invariant: a view has text keys only")
}

/// One session, as `.peers` has it.
pub(super) fn of_peer(peer: &PeerView, strict_bind: bool, secrets: &BTreeMap<SecretRef, Secret>) -> Value {
    let mut data = serde_json::to_value(peer).expect("invariant: a view has text keys only");
    data["strict_bind"] = Value::Bool(strict_bind);
    if let Some(secret) = peer.password.as_ref().and_then(|p| secrets.get(p)) {
        data["password"] = Value::String(secret.0.clone());
    }
    data
}

/// The same with what templates for FRR and GoBGP need: `.frr` and `.gobgp`.
pub fn for_any_template(view: &BgpView, secrets: &BTreeMap<SecretRef, Secret>) -> Value {
    let mut data = for_templates(view, secrets);
    let parts = [
        ("frr", serde_json::to_value(Frr::new(view))),
        ("gobgp", serde_json::to_value(Gobgp::new(view))),
    ];
    for (name, part) in parts {
        let part = part.expect("invariant: parts have text keys only");
        if let Some(fields) = data.as_object_mut() {
            fields.insert(name.to_owned(), part);
        }
    }
    data
}
