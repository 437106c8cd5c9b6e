//! get: resources as tables, YAML, JSON or names.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tortie_kit::address::Target;
use tortie_model::resource::BgpConfigurationSpec;
use tortie_model::{API_VERSION, Key, Kind, Object, decode};
use tortie_typha_client::{Entry, Store, StoreError};

use crate::cli::{Format, GetArgs};
use crate::columns::{self, Cluster, Column};
use crate::output::say;
use crate::store::{connect, named, short_name};
use crate::table;

/// A resource that is to be printed.
struct Found {
    key: Key,
    kind: Kind,
    value: Value,
}

/// `tortiectl get`.
pub(crate) async fn get(typha: Option<Target>, args: &GetArgs) -> Result<()> {
    let (kinds, keys) = named(&args.what, &args.namespace)?;
    let store = connect(typha)?;
    let mut found = Vec::new();
    let mut missing = Vec::new();
    if keys.is_empty() {
        for kind in &kinds {
            let mut prefix = Key::collection(*kind);
            if kind.namespaced() && !args.all_namespaces {
                prefix.push_str(&format!("{}/", args.namespace));
            }
            for entry in store.list(&prefix).await?.entries {
                found.push(resource(&entry)?);
            }
        }
    }
    for key in &keys {
        match store.get(&key.to_string()).await {
            Ok(entry) => found.push(resource(&entry)?),
            Err(StoreError::NotFound(_)) => missing.push(format!("{} not found", short_name(key))),
            Err(e) => return Err(e.into()),
        }
    }
    let single = keys.len() == 1 && missing.is_empty();
    match args.output {
        _ if found.is_empty() && !missing.is_empty() => {}
        Format::Table | Format::Wide => tables(&store, &found, kinds.first().copied(), args).await?,
        Format::Yaml => {
            let text = serde_saphyr::to_string(&document(&found, single)).context("cannot write YAML")?;
            say(text.trim_end())?;
        }
        Format::Json => say(&format!("{:#}", document(&found, single)))?,
        Format::Name => found.iter().try_for_each(|f| say(&short_name(&f.key)))?,
    }
    if !missing.is_empty() {
        bail!(missing.join("\n"));
    }
    Ok(())
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
    if args.output == Format::Wide && kinds.contains(&Kind::Node) {
        cluster.as_number = cluster_as(store).await?;
    }
    let blocks: Vec<String> = kinds
        .iter()
        .map(|kind| {
            let of_kind: Vec<&Found> = found.iter().filter(|f| f.kind == *kind).collect();
            rows(*kind, &of_kind, args, &cluster)
        })
        .collect();
    if blocks.is_empty() {
        Ok(())
    } else {
        say(&blocks.join("\n\n"))
    }
}

fn rows(kind: Kind, found: &[&Found], args: &GetArgs, cluster: &Cluster) -> String {
    let wide = args.output == Format::Wide;
    let columns: Vec<&Column> = columns::of(kind).iter().filter(|c| wide || !c.wide).collect();
    let namespace = kind.namespaced() && args.all_namespaces;
    let mut header: Vec<&str> = columns.iter().map(|c| c.title).collect();
    if namespace {
        header.insert(0, "NAMESPACE");
    }
    let row = |f: &&Found| {
        let mut row: Vec<String> = columns.iter().map(|c| (c.cell)(&f.value, cluster)).collect();
        if namespace {
            row.insert(
                0,
                f.value
                    .pointer("/metadata/namespace")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
            );
        }
        row
    };
    table::aligned(&header, &found.iter().map(row).collect::<Vec<_>>())
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
