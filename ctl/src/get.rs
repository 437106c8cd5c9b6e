//! get: resources as tables, YAML, JSON, names, columns of the person's choice, or through a template.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use tortie_kit::address::Target;
use tortie_model::resource::BgpConfigurationSpec;
use tortie_model::selector::Labels;
use tortie_model::{API_VERSION, Key, Kind, Object, decode};
use tortie_typha_client::{Entry, Store, StoreError};

use crate::cli::{Format, GetArgs, Usage};
use crate::columns::{self, Cluster, Column};
use crate::output::say;
use crate::store::{Reach, connect, named, short_name};
use crate::{source, table, template};

/// A resource that is to be printed.
struct Found {
    key: Key,
    kind: Kind,
    value: Value,
}

/// The labels of a stored document.
struct DocumentLabels<'a>(Option<&'a Map<String, Value>>);

impl Labels for DocumentLabels<'_> {
    fn label(&self, name: &str) -> Option<&str> {
        self.0?.get(name)?.as_str()
    }
}

/// `tortiectl get`.
pub(crate) async fn get(typha: Option<Target>, args: &GetArgs) -> Result<()> {
    let (kinds, keys) = asked(args)?;
    let template = template_text(&args.output)?;
    let store = connect(typha)?;
    let (mut found, missing) = read(&store, (&kinds, &keys), args).await?;
    if let Some(selector) = &args.selector {
        found.retain(|f| {
            selector.matches(&DocumentLabels(
                f.value.pointer("/metadata/labels").and_then(Value::as_object),
            ))
        });
    }
    if args.export {
        found.iter_mut().for_each(|f| unbind(&mut f.value));
    }
    let single = keys.len() == 1 && found.len() == 1;
    match &args.output {
        _ if found.is_empty() && !missing.is_empty() => {}
        Format::Table | Format::Wide | Format::Columns(_) => {
            tables(&store, &found, kinds.first().copied(), args).await?;
        }
        Format::Yaml => {
            let text = serde_saphyr::to_string(&document(&found, single)).context("cannot write YAML")?;
            say(text.trim_end())?;
        }
        Format::Json => say(&format!("{:#}", document(&found, single)))?,
        Format::Name => found.iter().try_for_each(|f| say(&short_name(&f.key)))?,
        Format::Template(_) | Format::TemplateFile(_) => {
            let text = template::render(&template.unwrap_or_default(), &document(&found, single))?;
            say(text.strip_suffix('\n').unwrap_or(&text))?;
        }
    }
    if !missing.is_empty() {
        bail!(missing.join("\n"));
    }
    Ok(())
}

/// The kinds that are asked for, or the objects.
fn asked(args: &GetArgs) -> Result<(Vec<Kind>, Vec<Key>)> {
    if args.source.files.is_empty() {
        return named(&args.what, &args.source.namespace, Reach::Read);
    }
    let manifests = source::read(&args.source)?;
    Ok((Vec::new(), manifests.into_iter().map(|m| m.key).collect()))
}

async fn read(store: &Store, (kinds, keys): (&[Kind], &[Key]), args: &GetArgs) -> Result<(Vec<Found>, Vec<String>)> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    if keys.is_empty() {
        for kind in kinds {
            let mut prefix = Key::collection(*kind);
            if kind.namespaced() && !args.all_namespaces {
                prefix.push_str(&format!("{}/", args.source.namespace));
            }
            for entry in store.list(&prefix).await?.entries {
                found.push(resource(&entry)?);
            }
        }
    }
    for key in keys {
        match store.get(&key.to_string()).await {
            Ok(entry) => found.push(resource(&entry)?),
            Err(StoreError::NotFound(_)) => missing.push(format!("{} not found", short_name(key))),
            Err(e) => return Err(e.into()),
        }
    }
    Ok((found, missing))
}

/// The stored object, with the revision it has.
fn resource(entry: &Entry) -> Result<Found> {
    let key: Key = entry
        .key
        .parse()
        .with_context(|| format!("cannot read key {}", entry.key))?;
    let kind = key.kind().with_context(|| format!("{} is no resource", entry.key))?;
    let mut value: Value = serde_json::from_slice(&entry.value)
        .with_context(|| format!("what is stored as {} is not JSON", key.object_name()))?;
    if let Some(Value::Object(meta)) = value.get_mut("metadata") {
        meta.insert("resourceVersion".to_owned(), Value::from(entry.revision.to_string()));
    }
    Ok(Found { key, kind, value })
}

/// Leaves out what is this cluster's own.
fn unbind(value: &mut Value) {
    if let Some(Value::Object(meta)) = value.get_mut("metadata") {
        for field in ["uid", "resourceVersion", "creationTimestamp", "namespace"] {
            meta.shift_remove(field);
        }
    }
}

/// One object by itself, several as a list.
fn document(found: &[Found], single: bool) -> Value {
    match found {
        [only] if single => only.value.clone(),
        all => {
            let same = all
                .first()
                .map(|f| f.kind)
                .filter(|kind| all.iter().all(|f| f.kind == *kind));
            let (version, list) = match same {
                Some(kind) => (API_VERSION, format!("{kind}List")),
                None => ("v1", "List".to_owned()),
            };
            let items: Vec<&Value> = all.iter().map(|f| &f.value).collect();
            json!({"apiVersion": version, "kind": list, "items": items})
        }
    }
}

fn template_text(format: &Format) -> Result<Option<String>> {
    Ok(match format {
        Format::Template(text) => Some(text.clone()),
        Format::TemplateFile(file) => {
            Some(std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?)
        }
        Format::Table | Format::Wide | Format::Columns(_) | Format::Yaml | Format::Json | Format::Name => None,
    })
}

/// A table for each kind, in the order of the first of each.
async fn tables(store: &Store, found: &[Found], asked: Option<Kind>, args: &GetArgs) -> Result<()> {
    let mut kinds: Vec<Kind> = asked.into_iter().collect();
    for f in found {
        if !kinds.contains(&f.kind) {
            kinds.push(f.kind);
        }
    }
    let mut cluster = Cluster {
        as_number: BgpConfigurationSpec::DEFAULT_ASN.0,
    };
    if args.output != Format::Table && kinds.contains(&Kind::Node) {
        cluster.as_number = cluster_as(store).await?;
    }
    let mut blocks = Vec::new();
    for kind in kinds {
        let of_kind: Vec<&Found> = found.iter().filter(|f| f.kind == kind).collect();
        blocks.push(match &args.output {
            Format::Columns(wanted) => chosen(kind, &of_kind, wanted, &cluster)?,
            _ => rows(kind, &of_kind, args, &cluster),
        });
    }
    if blocks.is_empty() {
        Ok(())
    } else {
        say(&blocks.join("\n\n"))
    }
}

fn rows(kind: Kind, found: &[&Found], args: &GetArgs, cluster: &Cluster) -> String {
    let wide = args.output == Format::Wide;
    let columns: Vec<&Column> = columns::of(kind).iter().filter(|c| c.is_in(wide)).collect();
    let namespace = kind.namespaced() && args.all_namespaces;
    let mut header: Vec<&str> = columns.iter().map(|c| c.title).collect();
    if namespace {
        header.insert(0, "NAMESPACE");
    }
    let row = |f: &&Found| {
        let mut row: Vec<String> = columns.iter().map(|c| (c.cell)(&f.value, cluster)).collect();
        if namespace {
            row.insert(0, columns::at(&f.value, "/metadata/namespace"));
        }
        row
    };
    table::aligned(&header, &found.iter().map(row).collect::<Vec<_>>())
}

/// The columns that were asked for: one of the kind's by its title, or a title and the path of a field.
fn chosen(kind: Kind, found: &[&Found], wanted: &[String], cluster: &Cluster) -> Result<String> {
    let mut header = Vec::new();
    let mut rows = vec![Vec::new(); found.len()];
    for word in wanted {
        let cell: Box<dyn Fn(&Value) -> String> = if let Some((title, path)) = word.split_once(':') {
            header.push(title.to_owned());
            let path = columns::Path::parse(path).map_err(Usage::error)?;
            Box::new(move |value| path.of(value))
        } else {
            header.push(word.to_uppercase());
            let column = columns::titled(kind, word).ok_or_else(|| {
                let known = columns::titles(kind).join(", ");
                Usage::error(format!(
                    "a {kind} has no column '{word}': there are {known}, or say TITLE:.path.of.field"
                ))
            })?;
            Box::new(move |value| (column.cell)(value, cluster))
        };
        for (row, f) in rows.iter_mut().zip(found) {
            row.push(cell(&f.value));
        }
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    Ok(table::aligned(&header, &rows))
}

/// The AS number of nodes that set none.
async fn cluster_as(store: &Store) -> Result<u32> {
    let key = Key::resource(Kind::BgpConfiguration, None, "default");
    let default = BgpConfigurationSpec::DEFAULT_ASN.0;
    match store.get(&key.to_string()).await {
        Ok(entry) => match decode(&key, &entry.value)? {
            Object::BgpConfiguration(c) => Ok(c.spec.as_number().0),
            _ => Ok(default),
        },
        Err(StoreError::NotFound(_)) => Ok(default),
        Err(e) => Err(e.into()),
    }
}
