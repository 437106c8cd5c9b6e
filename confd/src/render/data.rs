//! The data that templates get: the view as it is shown, with passwords filled in.

use std::collections::BTreeMap;

use serde_json::Value;

use super::dialect::frr::Frr;
use super::dialect::gobgp::Gobgp;
use crate::state::Secret;
use crate::view::{BgpView, SecretRef};

/// The view as JSON. Where it names a secret, the template finds the password itself.
///
/// The result is for rendering only: it must not be shown or logged.
pub fn for_templates(view: &BgpView, secrets: &BTreeMap<SecretRef, Secret>) -> Value {
    let mut data = serde_json::to_value(view).expect("invariant: a view has text keys only");
    let peers = data.get_mut("peers").and_then(Value::as_array_mut);
    for (shown, peer) in peers.into_iter().flatten().zip(&view.peers) {
        let secret = peer.password.as_ref().and_then(|p| secrets.get(p));
        if let (Some(fields), Some(secret)) = (shown.as_object_mut(), secret) {
            fields.insert("password".to_owned(), Value::String(secret.0.clone()));
        }
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
