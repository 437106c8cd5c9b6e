//! The labels of a workload's namespace, which pools may select by.
//!
//! Calico keeps them in the namespace's Profile, `kns.<namespace>`: `labelsToApply`, each with `pcns.` before its name.

use std::collections::BTreeMap;

use serde_json::Value;
use tortie_model::{Key, Kind};
use tortie_typha_client::{Store, StoreError};

use super::failure::Failure;
use super::request::{Attachment, Orchestrator};
use crate::state::State;

const PREFIX: &str = "pcns.";

/// The labels, if a pool looks at them; the datastore is asked only then. A namespace without a Profile has none.
pub(super) async fn labels(
    store: &Store,
    state: &State,
    attachment: &Attachment,
) -> Result<BTreeMap<String, String>, Failure> {
    let selective = state.pools.values().any(|p| p.value.spec.namespace_selector.is_some());
    if !selective || attachment.orchestrator != Orchestrator::Kubernetes {
        return Ok(BTreeMap::new());
    }
    let key = Key::resource(Kind::Profile, None, &format!("kns.{}", attachment.namespace));
    match store.get(&key.to_string()).await {
        Ok(entry) => Ok(of_profile(&entry.value)),
        Err(StoreError::NotFound(_)) => Ok(BTreeMap::new()),
        Err(e) => Err(e.into()),
    }
}

fn of_profile(json: &[u8]) -> BTreeMap<String, String> {
    let profile: Value = serde_json::from_slice(json).unwrap_or_default();
    let labels = profile.pointer("/spec/labelsToApply").and_then(Value::as_object);
    let of_namespace = labels.into_iter().flatten().filter_map(|(name, value)| {
        let name = name.strip_prefix(PREFIX)?;
        Some((name.to_owned(), value.as_str()?.to_owned()))
    });
    of_namespace.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profiles_labels_are_its_namespaces() {
        let profile = br#"{"spec": {"labelsToApply": {"pcns.team": "red", "projectcalico.org/x": "y", "pcns.n": 1}}}"#;
        let labels = of_profile(profile);
        assert_eq!(labels, BTreeMap::from([("team".to_owned(), "red".to_owned())]));
        assert!(of_profile(b"{").is_empty() && of_profile(b"{}").is_empty());
    }
}
