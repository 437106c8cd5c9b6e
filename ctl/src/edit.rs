//! patch and label: a part of a stored document is changed, compared and swapped, whoever else writes it meanwhile.

mod json_patch;
mod merge_patch;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use tortie_kit::address::Target;
use tortie_model::{Key, Kind, admit};
use tortie_typha_client::{Store, StoreError};

use crate::apply::{ATTEMPTS, Alone, read};
use crate::cli::{LabelArgs, PatchArgs, PatchType, Usage};
use crate::output::Report;
use crate::store::{Reach, connect, named, short_name};

/// `tortiectl patch`.
pub(crate) async fn patch(typha: Option<Target>, args: &PatchArgs) -> Result<()> {
    let key = one(&args.what, &args.namespace)?;
    let patch: Value = serde_saphyr::from_str(&args.patch)
        .map_err(|e| Usage::error(format!("the patch is neither JSON nor YAML: {e}")))?;
    let operations = match args.kind {
        PatchType::Json => Some(json_patch::parse(&patch).map_err(Usage::error)?),
        PatchType::Strategic | PatchType::Merge if !patch.is_object() => {
            return Err(Usage::error(
                "a merge patch is an object; a list of operations wants --type json",
            ));
        }
        PatchType::Strategic | PatchType::Merge => None,
    };
    let store = connect(typha)?;
    let changed = edit(&store, &key, args.dry_run, |old| {
        let mut new = old.clone();
        match (&operations, args.kind) {
            (Some(operations), _) => json_patch::apply(&mut new, operations)?,
            (None, PatchType::Strategic) => merge_patch::strategic(&mut new, &patch)?,
            (None, _) => merge_patch::merge(&mut new, &patch),
        }
        Ok(new)
    });
    let outcome = if changed.await? { "patched" } else { "unchanged" };
    done(&key, outcome, Report::new(args.output, args.dry_run))
}

/// `tortiectl label`.
pub(crate) async fn label(typha: Option<Target>, args: &LabelArgs) -> Result<()> {
    let named_at_once = args.what.first().is_some_and(|w| w.contains('/'));
    let (what, labels) = args.what.split_at(if named_at_once { 1 } else { 2 });
    if labels.is_empty() {
        return Err(Usage::error("no label: say KEY=VALUE, or KEY with --remove"));
    }
    let key = one(what, &args.namespace)?;
    let changes = labels
        .iter()
        .map(|l| parse_label(l, args.remove))
        .collect::<Result<Vec<_>>>()?;
    let store = connect(typha)?;
    let changed = edit(&store, &key, args.dry_run, |old| {
        let mut new = old.clone();
        relabel(&mut new, &changes, args.overwrite)?;
        Ok(new)
    });
    let outcome = if changed.await? { "labelled" } else { "unchanged" };
    done(&key, outcome, Report::new(args.output, args.dry_run))
}

fn done(key: &Key, outcome: &str, mut report: Report) -> Result<()> {
    report.object(key, outcome)?;
    report.end(None)
}

/// The only object that is named.
fn one(what: &[String], namespace: &str) -> Result<Key> {
    let keys = named(what, namespace, Reach::Write)?.1;
    match <[Key; 1]>::try_from(keys) {
        Ok([key]) if key.kind() == Some(Kind::ClusterInformation) => {
            bail!(
                "{}: is written by typha and cannot be changed by hand",
                key.object_name()
            )
        }
        Ok([key]) => Ok(key),
        Err(_) => Err(Usage::error("want one object: KIND NAME or KIND/NAME")),
    }
}

/// A label to set, or to take away.
fn parse_label(text: &str, remove: bool) -> Result<(String, Option<String>)> {
    match (text.split_once('='), remove) {
        (Some((key, value)), false) if !key.is_empty() => Ok((key.to_owned(), Some(value.to_owned()))),
        (None, true) if !text.is_empty() => Ok((text.to_owned(), None)),
        (_, false) => Err(Usage::error(format!("'{text}' is no label: want KEY=VALUE"))),
        (_, true) => Err(Usage::error(format!("'{text}' is no label's key"))),
    }
}

fn relabel(object: &mut Value, changes: &[(String, Option<String>)], overwrite: bool) -> Result<()> {
    let meta = object.get_mut("metadata").and_then(Value::as_object_mut);
    let meta = meta.context("what is stored has no metadata")?;
    let labels = meta.entry("labels").or_insert_with(|| Value::Object(Map::new()));
    if labels.is_null() {
        *labels = Value::Object(Map::new());
    }
    let labels = labels
        .as_object_mut()
        .context("what is stored as labels is no object")?;
    for (key, value) in changes {
        match (value, labels.get(key).and_then(Value::as_str)) {
            (None, None) => bail!("has no label {key}"),
            (None, Some(_)) => {
                labels.shift_remove(key);
            }
            (Some(value), Some(old)) if old != value && !overwrite => {
                bail!("label {key} is '{old}' already: use --overwrite")
            }
            (Some(value), _) => {
                labels.insert(key.clone(), Value::from(value.as_str()));
            }
        }
    }
    if labels.is_empty() {
        meta.shift_remove("labels");
    }
    Ok(())
}

/// Changes a stored document; typha admits what comes of it. Says whether anything changed.
pub(crate) async fn edit(
    store: &Store,
    key: &Key,
    dry_run: bool,
    change: impl Fn(&Value) -> Result<Value>,
) -> Result<bool> {
    let name = short_name(key);
    let store = if dry_run { store.dry_run() } else { store.clone() };
    for _ in 0..ATTEMPTS {
        let Some(old) = read(&store, &key.to_string()).await? else {
            bail!("{name} not found");
        };
        let new = change(&old.value).with_context(|| name.clone())?;
        same_object(&old.value, &new).with_context(|| name.clone())?;
        if admit(key, new.clone(), Some(&old.value), &Alone).is_ok_and(|value| value == old.value) {
            return Ok(false);
        }
        match store.update(&key.to_string(), new.to_string(), old.revision).await {
            Ok(_) => return Ok(true),
            // Somebody was faster: look again what is there now.
            Err(StoreError::Conflict(_) | StoreError::NotFound(_)) => {}
            Err(e) => return Err(anyhow::Error::from(e).context(name)),
        }
    }
    bail!("{name}: others change it all the time: gave up after {ATTEMPTS} attempts")
}

/// A change leaves kind, name and namespace alone.
fn same_object(old: &Value, new: &Value) -> Result<()> {
    for field in ["/kind", "/apiVersion", "/metadata/name", "/metadata/namespace"] {
        if old.pointer(field) != new.pointer(field) {
            bail!("{} cannot be changed", field.trim_start_matches('/').replace('/', "."));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_are_set_changed_and_taken_away() {
        let set = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        let take = |key: &str| (key.to_owned(), None);
        let mut node = json!({"metadata": {"name": "n1"}});
        relabel(&mut node, &[set("rr", "true"), set("rack", "")], false).unwrap();
        assert_eq!(node["metadata"]["labels"], json!({"rr": "true", "rack": ""}));
        relabel(&mut node, &[set("rr", "true")], false).unwrap();
        let e = relabel(&mut node, &[set("rr", "false")], false).unwrap_err();
        assert_eq!(e.to_string(), "label rr is 'true' already: use --overwrite");
        relabel(&mut node, &[set("rr", "false"), take("rack")], true).unwrap();
        assert_eq!(node["metadata"]["labels"], json!({"rr": "false"}));
        assert!(relabel(&mut node, &[take("rack")], false).is_err());
        relabel(&mut node, &[take("rr")], false).unwrap();
        assert_eq!(node, json!({"metadata": {"name": "n1"}}));
        for (bad, remove) in [("rr", false), ("=x", false), ("rr=x", true), ("", true)] {
            assert!(parse_label(bad, remove).is_err(), "{bad}");
        }
    }

    #[test]
    fn identity_stays() {
        let old = json!({"kind": "Node", "metadata": {"name": "n1"}});
        let e = same_object(&old, &json!({"kind": "Node", "metadata": {"name": "n2"}})).unwrap_err();
        assert_eq!(e.to_string(), "metadata.name cannot be changed");
        assert!(same_object(&old, &old).is_ok());
    }
}
