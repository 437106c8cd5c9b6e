//! Reads the manifests people write: YAML (or JSON) documents with resources, strictly.
//!
//! Nothing is guessed and nothing ignored: an unknown kind or field, a key given twice, text where a number belongs, or
//! a plain word that other YAML readers would take for a truth value or number (`NO`, `012`) is a [`Problem`] with file,
//! line, document, object and field. All problems of a file are found in one reading.
//!
//! `List` and `<Kind>List` documents are taken apart. Empty documents are skipped. Rules on values are `admit`'s;
//! [`Manifest::locate`] finds the lines of what it refuses,
//! [`Manifest::without_effect`] those of what nobody acts on yet.

mod convert;
mod tree;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::inert::without_effect;
use crate::invalid::{Invalid, Refused};
use crate::key::Key;
use crate::kind::Kind;
use crate::meta::API_VERSION;
use crate::schema;
use convert::Converter;
use tree::{Node, Shape};

/// A resource as a person wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Where it is stored.
    pub key: Key,
    /// Its kind.
    pub kind: Kind,
    /// The document. `metadata.resourceVersion`, when given, is what the person has seen last.
    pub value: Value,
    /// Its place.
    pub place: Place,
    lines: BTreeMap<String, usize>,
}

/// Where a document begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's name as it was given.
    pub file: String,
    /// Which document of the file, from 1.
    pub document: usize,
    /// The line, from 1.
    pub line: usize,
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: the line is that of the field.
    pub place: Place,
    /// The object, as far as it is known.
    pub object: Option<String>,
    /// What is wrong.
    pub what: What,
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The text is no YAML, or no resource.
    Document(String),
    /// A field is wrong.
    Field(Invalid),
    /// A field is right, but nobody acts on it yet.
    Inert(Invalid),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { file, document, line } = &self.place;
        write!(f, "{file}:{line}: document {document}: ")?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        match &self.what {
            What::Document(text) => f.write_str(text),
            What::Field(invalid) => write!(f, "error with field {invalid}"),
            What::Inert(invalid) => write!(f, "has no effect yet: {invalid}"),
        }
    }
}

impl Manifest {
    /// Gives each refused field its line.
    pub fn locate(&self, refused: &Refused) -> Vec<Problem> {
        let refused = refused.invalid.iter().cloned();
        refused
            .map(|invalid| self.problem(&invalid.field.clone(), What::Field(invalid)))
            .collect()
    }

    /// What of `admitted`, which was made from this manifest, has no effect yet.
    pub fn without_effect(&self, admitted: &Value) -> Vec<Problem> {
        without_effect(&self.key, admitted)
            .into_iter()
            .map(|invalid| self.problem(&invalid.field.clone(), What::Inert(invalid)))
            .collect()
    }

    fn problem(&self, field: &str, what: What) -> Problem {
        Problem {
            place: Place {
                line: line_of(&self.lines, field).unwrap_or(self.place.line),
                ..self.place.clone()
            },
            object: Some(self.key.object_name()),
            what,
        }
    }
}

/// The line of a field, or of the nearest object around it that was written.
fn line_of(lines: &BTreeMap<String, usize>, field: &str) -> Option<usize> {
    let mut path = field;
    loop {
        if let Some(line) = lines.get(path) {
            return Some(*line);
        }
        path = &path[..path.rfind(['.', '['])?];
    }
}

/// Reads every resource of a file. A namespaced resource without a namespace gets `namespace`.
///
/// # Errors
/// Every problem of the file, in the order of its lines. A file with problems gives no resource at all.
pub fn read_manifests(file: &str, text: &str, namespace: &str) -> Result<Vec<Manifest>, Vec<Problem>> {
    let mut reader = Reader {
        file,
        namespace,
        manifests: Vec::new(),
        problems: Vec::new(),
    };
    match tree::documents(text) {
        Ok(documents) => {
            for (i, document) in documents.iter().enumerate() {
                reader.document(i + 1, document);
            }
        }
        Err(e) => reader.say(e.document, e.line, None, What::Document(e.reason)),
    }
    reader.problems.sort_by_key(|p| p.place.line);
    if reader.problems.is_empty() {
        Ok(reader.manifests)
    } else {
        Err(reader.problems)
    }
}

struct Reader<'a> {
    file: &'a str,
    namespace: &'a str,
    manifests: Vec<Manifest>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn say(&mut self, document: usize, line: usize, object: Option<String>, what: What) {
        let place = Place {
            file: self.file.to_owned(),
            document,
            line,
        };
        self.problems.push(Problem { place, object, what });
    }

    fn bad(&mut self, document: usize, line: usize, object: Option<String>, reason: impl Into<String>) {
        self.say(document, line, object, What::Document(reason.into()));
    }

    /// A document, or an item of a list.
    fn document(&mut self, document: usize, node: &Node) {
        if node.is_null() {
            return;
        }
        if !matches!(node.shape, Shape::Map(_)) {
            let reason = "a resource is an object with apiVersion, kind, metadata and spec";
            return self.bad(document, node.line, None, reason);
        }
        let Some((kind_line, name)) = node.text("kind") else {
            return self.bad(
                document,
                node.line,
                None,
                "field kind is missing: which resource is it?",
            );
        };
        let element = name.strip_suffix("List");
        if name == "List" || element.is_some_and(|n| Kind::from_name(n).is_some()) {
            return self.list(document, node, name);
        }
        let version = node.text("apiVersion").map(|(_, v)| v).unwrap_or_default();
        if version != API_VERSION {
            let reason = format!("apiVersion is '{version}', Tortie's resources have {API_VERSION}");
            return self.bad(document, node.line, Some(name.to_owned()), reason);
        }
        let Some(kind) = Kind::from_name(name) else {
            let reason = format!(
                "unknown kind '{name}'{}",
                did_you_mean(name, Kind::ALL.iter().map(|k| k.name()))
            );
            return self.bad(document, kind_line, None, reason);
        };
        let Some(fields) = schema::of(kind) else {
            let reason = format!("kind {kind} is Calico's, but Tortie does not act on it yet");
            return self.bad(document, kind_line, None, reason);
        };
        self.resource(document, node, kind, fields);
    }

    fn list(&mut self, document: usize, node: &Node, name: &str) {
        let Shape::Map(entries) = &node.shape else { return };
        for entry in entries {
            match (entry.key.as_str(), &entry.value.shape) {
                ("items", Shape::Seq(items)) => items.iter().for_each(|item| self.document(document, item)),
                ("items", _) if entry.value.is_null() => {}
                ("items", _) => self.bad(document, entry.line, Some(name.to_owned()), "items: want a list"),
                ("kind" | "apiVersion" | "metadata", _) => {}
                (other, _) => {
                    self.bad(
                        document,
                        entry.line,
                        Some(name.to_owned()),
                        format!("unknown field '{other}' in a list"),
                    );
                }
            }
        }
    }

    fn resource(&mut self, document: usize, node: &Node, kind: Kind, fields: &'static [schema::Field]) {
        let meta = node.get("metadata");
        let name = meta.and_then(|m| m.text("name")).map(|(_, n)| n).unwrap_or_default();
        if name.is_empty() {
            let line = meta.map_or(node.line, |m| m.line);
            let missing = Invalid::new("metadata.name", "", "required field is missing");
            return self.say(document, line, Some(format!("{kind}(?)")), What::Field(missing));
        }
        let namespace = meta
            .and_then(|m| m.text("namespace"))
            .map_or(self.namespace, |(_, n)| n);
        let key = Key::resource(kind, Some(namespace), name);
        let mut converter = Converter::default();
        let value = converter.object(node, fields, "");
        for (line, invalid) in converter.problems {
            self.say(document, line, Some(key.object_name()), What::Field(invalid));
        }
        let place = Place {
            file: self.file.to_owned(),
            document,
            line: node.line,
        };
        self.manifests.push(Manifest {
            key,
            kind,
            value,
            place,
            lines: converter.lines,
        });
    }
}

/// A hint at the likeliest of the known words, if one is near.
fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let distance = |k: &&str| edit_distance(&word.to_ascii_lowercase(), &k.to_ascii_lowercase());
    match known.min_by_key(distance) {
        // Two letters changed places count as two edits, the commonest slip of all.
        Some(best) if distance(&best) <= 2.max(1 + word.len() / 5).min(word.len() / 2) => {
            format!(": did you mean {best}?")
        }
        _ => String::new(),
    }
}

/// Levenshtein's: insertions, deletions and replacements of bytes. Words longer than any of ours are far from all.
fn edit_distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return a.len();
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
