//! apply, create, replace.
//!
//! Every document is read and admitted, over the cluster's state and over the documents before it, before the first is
//! written. typha admits each again when it is written; what a concurrent writer breaks meanwhile is reported with what
//! was and what was not written.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};
use tortie_kit::address::Target;
use tortie_model::{Key, Kind, Manifest, Place, Problem, What, admit, key};
use tortie_typha_client::{Store, StoreError};

use crate::cli::WriteArgs;
use crate::output::{Report, warn};
use crate::store::{Snapshot, Stored, connect, short_name};
use crate::{diff, foretell, source};

/// How often a write is tried anew when somebody else changed the object meanwhile.
pub(crate) const ATTEMPTS: u32 = 5;

/// What to do with the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Apply,
    Create,
    Replace,
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Created,
    Configured,
    Replaced,
    Unchanged,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Created => "created",
            Outcome::Configured => "configured",
            Outcome::Replaced => "replaced",
            Outcome::Unchanged => "unchanged",
        })
    }
}

/// What writing documents would do.
pub(crate) struct Planned {
    outcomes: Vec<Outcome>,
    warnings: Vec<Problem>,
    pub(crate) before: Snapshot,
    pub(crate) after: Snapshot,
}

/// Plans every document; every problem of every document is reported at once. `more` is read beside what admission looks at.
pub(crate) async fn plan_all(
    store: &Store,
    verb: Verb,
    manifests: &[Manifest],
    more: BTreeSet<String>,
) -> Result<Planned> {
    let before = Snapshot::load(store, prefixes(manifests).into_iter().chain(more)).await?;
    let mut after = before.clone();
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let mut outcomes = Vec::new();
    for manifest in manifests {
        match plan(verb, manifest, &mut after)? {
            Ok((outcome, inert)) => {
                outcomes.push(outcome);
                warnings.extend(inert);
            }
            Err(found) => problems.extend(found),
        }
    }
    source::report(&problems)?;
    Ok(Planned {
        outcomes,
        warnings,
        before,
        after,
    })
}

/// `tortiectl apply|create|replace`.
pub(crate) async fn write(typha: Option<Target>, verb: Verb, args: &WriteArgs) -> Result<()> {
    let manifests = source::read(&args.source)?;
    let store = connect(typha)?;
    let more = if args.dry_run {
        foretell::prefixes()
    } else {
        BTreeSet::new()
    };
    let planned = plan_all(&store, verb, &manifests, more).await?;
    planned.warnings.iter().for_each(|w| warn(&w.to_string()));
    let mut report = Report::new(args.output, args.dry_run);
    if args.dry_run {
        for (manifest, outcome) in manifests.iter().zip(&planned.outcomes) {
            report.object(&manifest.key, &outcome.to_string())?;
        }
        return report.end(Some(&diff::told(&planned.before, &planned.after)));
    }
    for (done, manifest) in manifests.iter().enumerate() {
        match execute(&store, verb, manifest).await {
            Ok(outcome) => report.object(&manifest.key, &outcome.to_string())?,
            Err(e) => {
                report.end(None)?;
                return Err(after(
                    e.context(short_name(&manifest.key)),
                    done,
                    manifests.len(),
                    "written",
                ));
            }
        }
    }
    report.end(None)
}

/// A failure in the middle says how far it came.
pub(crate) fn after(e: anyhow::Error, done: usize, all: usize, what: &str) -> anyhow::Error {
    if all == 1 {
        e
    } else {
        anyhow!("{e:#}\n{done} of {all} objects were {what}, the rest was not tried")
    }
}

/// What must be known to admit these documents.
pub(crate) fn prefixes(manifests: &[Manifest]) -> BTreeSet<String> {
    let mut prefixes: BTreeSet<String> = manifests.iter().map(|m| Key::collection(m.kind)).collect();
    let has = |kind| manifests.iter().any(|m| m.kind == kind);
    if has(Kind::BgpPeer) {
        prefixes.insert(Key::collection(Kind::BgpFilter));
    }
    if has(Kind::IpPool) {
        prefixes.insert(key::BLOCKS.to_owned());
    }
    prefixes
}

/// What writing a document would do, with what of it has no effect yet; or why it is refused.
type Plan = Result<(Outcome, Vec<Problem>), Vec<Problem>>;

/// Plans a document. Lays it over the state, so that later documents see it.
fn plan(verb: Verb, manifest: &Manifest, state: &mut Snapshot) -> Result<Plan> {
    let problem = |text: &str| {
        Ok(Err(vec![Problem {
            place: Place::clone(&manifest.place),
            object: Some(manifest.key.object_name()),
            what: What::Document(text.to_owned()),
        }]))
    };
    if manifest.kind == Kind::ClusterInformation {
        return problem("is written by typha and cannot be changed by hand");
    }
    let old = state.get(&manifest.key)?;
    match (verb, &old) {
        (Verb::Create, Some(_)) => return problem("exists already: use apply or replace"),
        (Verb::Replace, None) => return problem("does not exist: use apply or create"),
        _ => {}
    }
    if let Some(reason) = moved(manifest, old.as_ref()) {
        return problem(&reason);
    }
    let merged = merge(&manifest.value, old.as_ref().map(|o| &o.value));
    Ok(
        match admit(&manifest.key, merged, old.as_ref().map(|o| &o.value), state) {
            Ok(value) => {
                let outcome = outcome(verb, &value, old.as_ref());
                state.set(&manifest.key, &value);
                Ok((outcome, manifest.without_effect(&value)))
            }
            Err(refused) => Err(manifest.locate(&refused)),
        },
    )
}

/// Why the version the person has seen is not the stored one, if they said which they have seen.
fn moved(manifest: &Manifest, old: Option<&Stored>) -> Option<String> {
    let seen = seen_revision(&manifest.value)?;
    match old {
        None => Some(format!("resourceVersion is {seen}, but the object does not exist")),
        Some(old) if old.revision.to_string() != seen => Some(format!(
            "update conflict: resourceVersion is {seen}, but it was changed since, in revision {}: get it again",
            old.revision
        )),
        Some(_) => None,
    }
}

fn seen_revision(value: &Value) -> Option<&str> {
    value
        .get("metadata")?
        .get("resourceVersion")?
        .as_str()
        .filter(|s| !s.is_empty())
}

fn outcome(verb: Verb, admitted: &Value, old: Option<&Stored>) -> Outcome {
    match old {
        None => Outcome::Created,
        Some(old) if old.value == *admitted => Outcome::Unchanged,
        Some(_) if verb == Verb::Replace => Outcome::Replaced,
        Some(_) => Outcome::Configured,
    }
}

/// The specification, labels and annotations a person wrote, in the rest of what is stored.
fn merge(new: &Value, old: Option<&Value>) -> Value {
    let (Some(Value::Object(old)), Value::Object(new_fields)) = (old, new) else {
        return new.clone();
    };
    let mut merged = old.clone();
    for (field, value) in new_fields {
        if field != "metadata" && field != "status" {
            merged.insert(field.clone(), value.clone());
        }
    }
    if !new_fields.contains_key("spec") {
        merged.remove("spec");
    }
    let empty = Map::new();
    let given = new_fields.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    if let Some(Value::Object(meta)) = merged.get_mut("metadata") {
        for field in ["labels", "annotations"] {
            match given.get(field) {
                Some(value) => meta.insert(field.to_owned(), value.clone()),
                None => meta.remove(field),
            };
        }
    }
    Value::Object(merged)
}

async fn execute(store: &Store, verb: Verb, manifest: &Manifest) -> Result<Outcome> {
    let key = manifest.key.to_string();
    for _ in 0..ATTEMPTS {
        let old = read(store, &key).await?;
        if let Some(reason) = moved(manifest, old.as_ref()) {
            bail!(reason);
        }
        let merged = merge(&manifest.value, old.as_ref().map(|o| &o.value));
        let written = match (&old, verb) {
            (Some(_), Verb::Create) => bail!("exists already"),
            (None, Verb::Replace) => bail!("does not exist"),
            (None, Verb::Apply | Verb::Create) => store.create(&key, merged.to_string()).await,
            (Some(old), Verb::Apply | Verb::Replace) => {
                // Admission by itself needs no other object here: whether anything changed is all that is asked.
                let admitted = admit(&manifest.key, merged.clone(), Some(&old.value), &Alone);
                if admitted.is_ok_and(|value| value == old.value) {
                    return Ok(Outcome::Unchanged);
                }
                store.update(&key, merged.to_string(), old.revision).await
            }
        };
        match written {
            Ok(written) => {
                let stored = written.entry.context("typha did not say what it stored")?;
                let value = serde_json::from_slice(&stored.value).context("typha stored what is not JSON")?;
                return Ok(outcome(verb, &value, old.as_ref()));
            }
            // Somebody was faster: look again what is there now.
            Err(StoreError::Conflict(_) | StoreError::AlreadyExists(_) | StoreError::NotFound(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    bail!("others change it all the time: gave up after {ATTEMPTS} attempts")
}

/// A cluster with nothing in it.
pub(crate) struct Alone;

impl tortie_model::View for Alone {
    fn visit(&self, _: &str, _: &mut dyn FnMut(&str, &[u8])) {}

    fn exists(&self, _: &str) -> bool {
        true
    }
}

pub(crate) async fn read(store: &Store, key: &str) -> Result<Option<Stored>> {
    match store.get(key).await {
        Ok(entry) => {
            let value = serde_json::from_slice(&entry.value).context("what is stored is not JSON")?;
            Ok(Some(Stored {
                value,
                revision: entry.revision,
            }))
        }
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
