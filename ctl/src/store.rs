//! The cluster's documents, through typha.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;
use tortie_kit::address::Target;
use tortie_model::{Key, Kind, View};
use tortie_proto::common::Hello;
use tortie_typha_client::Store;

use crate::cli::Usage;

/// A connection to the typha that was named.
pub(crate) fn connect(typha: Option<Target>) -> Result<Store> {
    let typha = typha.ok_or_else(|| Usage::error("no typha: use --typha ADDR or the environment's TORTIE_TYPHA"))?;
    Ok(Store::new(typha, hello()))
}

/// What tortiectl says of itself.
pub(crate) fn hello() -> Hello {
    Hello::new("tortiectl", "", &tortie_kit::instance())
}

/// A stored document and the revision of its last change.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) value: Value,
    pub(crate) revision: u64,
}

/// A part of the cluster's state, with the changes we are about to make laid over it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    entries: BTreeMap<String, (Vec<u8>, u64)>,
}

impl Snapshot {
    /// Reads everything under these prefixes.
    pub(crate) async fn load(store: &Store, prefixes: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for prefix in prefixes {
            let listing = store.list(&prefix).await?;
            entries.extend(
                listing
                    .entries
                    .into_iter()
                    .map(|e| (e.key, (e.value.to_vec(), e.revision))),
            );
        }
        Ok(Snapshot { entries })
    }

    /// What is stored under a key.
    pub(crate) fn get(&self, key: &Key) -> Result<Option<Stored>> {
        let Some((json, revision)) = self.entries.get(&key.to_string()) else {
            return Ok(None);
        };
        let value = serde_json::from_slice(json)
            .with_context(|| format!("what is stored as {} is not JSON", key.object_name()))?;
        Ok(Some(Stored {
            value,
            revision: *revision,
        }))
    }

    /// Every document with its key and the revision of its last change.
    pub(crate) fn documents(&self) -> impl Iterator<Item = (&str, &[u8], u64)> {
        let entries = self.entries.iter();
        entries.map(|(key, (json, revision))| (key.as_str(), json.as_slice(), *revision))
    }

    /// A document; what is not JSON is none.
    pub(crate) fn json(&self, key: &str) -> Option<Value> {
        serde_json::from_slice(&self.entries.get(key)?.0).ok()
    }

    /// Takes a document out of the state.
    pub(crate) fn remove(&mut self, key: &Key) {
        self.entries.remove(&key.to_string());
    }

    /// Lays a change over the state.
    pub(crate) fn set(&mut self, key: &Key, value: &Value) {
        self.entries
            .insert(key.to_string(), (value.to_string().into_bytes(), 0));
    }
}

impl View for Snapshot {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &[u8])) {
        let from = self.entries.range(prefix.to_owned()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .for_each(|(key, (json, _))| f(key, json));
    }

    fn exists(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }
}

/// How messages name a resource: `ippool/default-pool`, `workloadendpoint/web/n1-k8s-a-eth0`.
pub(crate) fn short_name(key: &Key) -> String {
    match key {
        Key::Resource { kind, namespace, name } => {
            let namespace = namespace.as_ref().map(|n| format!("{n}/")).unwrap_or_default();
            format!("{}/{namespace}{name}", kind_word(*kind))
        }
        other => other.object_name(),
    }
}

/// A kind in lower case.
pub(crate) fn kind_word(kind: Kind) -> String {
    kind.name().to_ascii_lowercase()
}

/// What is to be done with what is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Also kinds that other programs store and Tortie does not act on.
    Read,
    /// Kinds that Tortie acts on.
    Write,
}

impl Reach {
    /// Affinities of blocks are IPAM's documents, not resources.
    fn has(self, kind: Kind) -> bool {
        kind.supported() || (self == Reach::Read && kind != Kind::BlockAffinity)
    }
}

/// The kind and the names of `KIND NAME...`, `KIND/NAME` or, for several kinds, `KIND/NAME KIND/NAME`.
pub(crate) fn named(what: &[String], namespace: &str, reach: Reach) -> Result<(Vec<Kind>, Vec<Key>)> {
    let kind_of = |word: &str| {
        Kind::from_alias(word).filter(|k| reach.has(*k)).ok_or_else(|| {
            let known: Vec<String> = Kind::ALL
                .iter()
                .filter(|k| reach.has(**k))
                .map(|k| kind_word(*k))
                .collect();
            Usage::error(format!("no kind '{word}': there are {}", known.join(", ")))
        })
    };
    if what.iter().any(|w| w.contains('/')) {
        let keys = what.iter().map(|word| {
            let (kind, name) = word
                .split_once('/')
                .ok_or_else(|| Usage::error(format!("'{word}' is not kind/name")))?;
            key(kind_of(kind)?, namespace, name)
        });
        return Ok((Vec::new(), keys.collect::<Result<_>>()?));
    }
    let Some((kind, names)) = what.split_first() else {
        return Err(Usage::error("no kind given"));
    };
    let kind = kind_of(kind)?;
    let keys = names
        .iter()
        .map(|name| key(kind, namespace, name))
        .collect::<Result<_>>()?;
    Ok((vec![kind], keys))
}

fn key(kind: Kind, namespace: &str, name: &str) -> Result<Key> {
    // `get -o name` prints namespace and name of a namespaced resource; it is taken back here.
    let (namespace, name) = match name.split_once('/') {
        Some((namespace, name)) if kind.namespaced() => (namespace, name),
        _ => (namespace, name),
    };
    if name.is_empty() || name.contains('/') {
        return Err(Usage::error(format!("'{name}' is no name of a {kind}")));
    }
    Ok(Key::resource(kind, Some(namespace), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(what: &[&str]) -> Result<Vec<String>> {
        let what: Vec<String> = what.iter().map(|s| s.to_string()).collect();
        Ok(named(&what, "web", Reach::Write)?.1.iter().map(short_name).collect())
    }

    #[test]
    fn names_on_the_command_line() {
        assert_eq!(keys(&["pool", "a", "b"]).unwrap(), ["ippool/a", "ippool/b"]);
        assert_eq!(keys(&["bgpp/tor", "no/n1"]).unwrap(), ["bgppeer/tor", "node/n1"]);
        assert_eq!(keys(&["wep", "x"]).unwrap(), ["workloadendpoint/web/x"]);
        assert_eq!(keys(&["wep/other/x"]).unwrap(), ["workloadendpoint/other/x"]);
        for bad in [
            &["gizmo"][..],
            &["networkpolicy"],
            &["pool/"],
            &["pool/a/b"],
            &["pool/a", "b"],
            &["pool", ""],
        ] {
            assert!(keys(bad).unwrap_err().is::<Usage>(), "{bad:?}");
        }
        let read = |kind: &str| named(&[kind.to_owned()], "web", Reach::Read).map(|(kinds, _)| kinds);
        assert_eq!(read("np").unwrap(), [Kind::NetworkPolicy]);
        assert!(read("blockaffinity").is_err());
    }
}
