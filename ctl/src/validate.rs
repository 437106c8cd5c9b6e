//! validate: the rules of every kind over files, without a cluster.
//!
//! What documents of the files say of each other is checked; what they say of objects that are in no file cannot be.

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use tortie_model::{Manifest, Problem, View, What, admit};

use crate::cli::{TextFormat, ValidateArgs};
use crate::output::{Silent, say};
use crate::source;
use crate::store::Snapshot;

/// The documents of the files, in a cluster that has whatever else they refer to.
struct Files<'a>(&'a Snapshot);

impl View for Files<'_> {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &[u8])) {
        self.0.visit(prefix, f);
    }

    fn exists(&self, _: &str) -> bool {
        true
    }
}

/// `tortiectl validate`.
pub(crate) fn validate(args: &ValidateArgs) -> Result<()> {
    let (manifests, mut problems) = source::read_all(&args.source)?;
    let mut state = Snapshot::default();
    let mut warnings = Vec::new();
    for manifest in &manifests {
        match check(manifest, &mut state) {
            Ok(inert) => warnings.extend(inert),
            Err(found) => problems.extend(found),
        }
    }
    match args.output {
        TextFormat::Json => {
            let list = |all: &[Problem]| all.iter().map(told).collect::<Vec<Value>>();
            let valid = problems.is_empty();
            let said = json!({
                "valid": valid, "documents": manifests.len(), "errors": list(&problems), "warnings": list(&warnings),
            });
            say(&format!("{said:#}"))?;
            if valid { Ok(()) } else { Err(Silent.into()) }
        }
        TextFormat::Text if problems.is_empty() => {
            warnings.iter().for_each(|w| crate::output::warn(&w.to_string()));
            say(&match manifests.len() {
                1 => "1 document is valid".to_owned(),
                n => format!("{n} documents are valid"),
            })
        }
        TextFormat::Text => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Err(anyhow!("{}\n{}", source::count(lines.len()), lines.join("\n")))
        }
    }
}

fn check(manifest: &Manifest, state: &mut Snapshot) -> Result<Vec<Problem>, Vec<Problem>> {
    // What an export has, nobody stores.
    let mut value = manifest.value.clone();
    if let Some(Value::Object(meta)) = value.get_mut("metadata") {
        meta.shift_remove("resourceVersion");
    }
    let admitted = admit(&manifest.key, value, None, &Files(state)).map_err(|refused| manifest.locate(&refused))?;
    state.set(&manifest.key, &admitted);
    Ok(manifest.without_effect(&admitted))
}

fn told(problem: &Problem) -> Value {
    let (field, value, rule) = match &problem.what {
        What::Document(text) => (None, None, text),
        What::Field(invalid) | What::Inert(invalid) => (Some(&invalid.field), Some(&invalid.value), &invalid.reason),
    };
    json!({
        "file": problem.place.file,
        "document": problem.place.document,
        "line": problem.place.line,
        "object": problem.object,
        "field": field,
        "value": value,
        "rule": rule,
    })
}
