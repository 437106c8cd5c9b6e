//! datastore export, import, accept, status, lock: the whole state, from one datastore to another of whatever kind.
//!
//! Documents travel octet for octet, also those of kinds that Tortie does not act on; only what says who is alive stays where
//! it is true, and goes away by itself. An import that was interrupted is
//! done by running it again.

mod archive;
pub(crate) mod lock;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tortie_kit::address::Target;
use tortie_model::Key;
use tortie_typha_client::{ServerStatus, Store, StoreError};

use self::archive::Archive;
use crate::cli::{DatastoreCommand, ImportArgs, TextFormat};
use crate::output::{Progress, say};
use crate::store::connect;

/// Under which everything lies.
const ROOT: &str = "/calico/";
/// typha makes it in an empty datastore: that one holds something else is no reason to refuse an import.
const INFORMATION: &str = "/calico/resources/v3/projectcalico.org/clusterinformations/default";
/// Writes on their way at once.
const WRITES: usize = 32;
/// How many keys a refusal names.
const NAMED: usize = 5;

/// `tortiectl datastore ...`.
pub(crate) async fn run(typha: Option<Target>, command: &DatastoreCommand) -> Result<()> {
    let store = connect(typha)?;
    match command {
        DatastoreCommand::Export(args) => export(&store, args.output.as_deref()).await,
        DatastoreCommand::Import(args) => import(&store, args).await,
        DatastoreCommand::Accept => {
            let (id, revision) = store.accept_history().await?;
            say(&format!("accepted: history {id} begins with revision {revision}"))
        }
        DatastoreCommand::Status(args) => {
            let status = store.status().await?;
            // typha is shown as it is, also when this cannot be read.
            let locked = lock::is_locked(&store).await.ok();
            say(&match args.output {
                TextFormat::Text => describe(&status, locked == Some(true)),
                TextFormat::Json => format!("{:#}", described(&status, locked)),
            })
        }
        DatastoreCommand::Lock => lock::set(&store, true).await,
        DatastoreCommand::Unlock => lock::set(&store, false).await,
    }
}

fn describe(status: &ServerStatus, locked: bool) -> String {
    let datastore = match &status.stale {
        None => "answers".to_owned(),
        Some((reason, age)) => format!("STALE, last good {} s ago: {reason}", age.as_secs()),
    };
    let locked = if locked {
        "\nlocked:    no pod gets an address until tortiectl datastore unlock"
    } else {
        ""
    };
    format!(
        "history:   {}\nrevision:  {}\ndocuments: {}\nclients:   {}\ndatastore: {datastore}{locked}",
        status.cluster_id, status.revision, status.documents, status.clients
    )
}

fn described(status: &ServerStatus, locked: Option<bool>) -> Value {
    let stale = status.stale.as_ref();
    json!({
        "history": status.cluster_id,
        "revision": status.revision,
        "documents": status.documents,
        "clients": status.clients,
        "version": status.version,
        "locked": locked,
        "stale": stale.map(|(reason, age)| json!({"reason": reason, "age_seconds": age.as_secs()})),
    })
}

async fn export(store: &Store, output: Option<&Path>) -> Result<()> {
    let (revision, documents) = documents(store).await?;
    let archive = Archive { revision, documents };
    let text = archive.encode()?;
    match output {
        // Documents may hold secrets: the file is its owner's only.
        Some(path) => tortie_kit::file::write_atomic(path, text.as_bytes(), 0o600)?,
        None => say(text.trim_end())?,
    }
    eprintln!("{} documents of revision {}", archive.documents.len(), archive.revision);
    Ok(())
}

async fn import(store: &Store, args: &ImportArgs) -> Result<()> {
    let mut wanted = read(&args.file)?.documents;
    wanted.retain(|key, _| !expires(key));
    let (_, held) = documents(store).await?;
    let plan = Plan::new(&wanted, &held);
    if !plan.in_the_way.is_empty() && !args.replace {
        let n = plan.in_the_way.len();
        let named = plan.in_the_way[..n.min(NAMED)].join("\n  ");
        bail!(
            "the datastore is not empty: {n} documents are not in the file or differ from it; --replace makes it what \
             the file says\n  {named}{}",
            if n > NAMED { "\n  ..." } else { "" }
        );
    }
    let (put, delete) = (plan.put.len(), plan.delete.len());
    if args.dry_run {
        return say(&format!(
            "{put} documents to be written, {delete} to be deleted (dry run)"
        ));
    }
    write(store, plan).await?;
    if documents(store).await?.1 != wanted {
        bail!("the datastore differs from the file: somebody else writes to it; run the import again");
    }
    say(&format!(
        "{put} documents written, {delete} deleted: the datastore holds the {} of the file",
        wanted.len()
    ))
}

fn read(file: &str) -> Result<Archive> {
    let mut text = String::new();
    if file == "-" {
        std::io::stdin()
            .read_to_string(&mut text)
            .context("read standard input")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("read {file}"))?;
    }
    Archive::decode(&text).with_context(|| file.to_owned())
}

type Documents = BTreeMap<String, Vec<u8>>;

/// Everything that stays, and of which revision.
async fn documents(store: &Store) -> Result<(u64, Documents)> {
    let listing = store.list(ROOT).await?;
    let entries = listing.entries.into_iter().filter(|e| !expires(&e.key));
    Ok((listing.revision, entries.map(|e| (e.key, e.value.to_vec())).collect()))
}

fn expires(key: &str) -> bool {
    key.parse()
        .is_ok_and(|key: Key| matches!(key, Key::Report(report) if report.expires()))
}

/// What makes a datastore what a file says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    put: Vec<(String, Vec<u8>)>,
    delete: Vec<String>,
    /// Keys of documents that an import into an empty datastore would not meet.
    in_the_way: Vec<String>,
}

impl Plan {
    fn new(wanted: &Documents, held: &Documents) -> Self {
        let mut plan = Plan::default();
        for (key, value) in wanted {
            let there = held.get(key);
            if there == Some(value) {
                continue;
            }
            plan.put.push((key.clone(), value.clone()));
            if there.is_some() && key != INFORMATION {
                plan.in_the_way.push(key.clone());
            }
        }
        let others = held.keys().filter(|key| !wanted.contains_key(*key));
        plan.delete = others.cloned().collect();
        plan.in_the_way
            .extend(plan.delete.iter().filter(|key| *key != INFORMATION).cloned());
        plan
    }
}

async fn write(store: &Store, plan: Plan) -> Result<()> {
    let all = plan.put.len() + plan.delete.len();
    let puts = plan.put.into_iter().map(|(key, value)| (key, Some(value)));
    let deletes = plan.delete.into_iter().map(|key| (key, None));
    let mut waiting = puts.chain(deletes);
    let mut writes: JoinSet<Result<()>> = JoinSet::new();
    let (progress, mut done) = (Progress::new("writing documents"), 0);
    loop {
        while writes.len() < WRITES {
            let Some((key, value)) = waiting.next() else { break };
            let store = store.clone();
            writes.spawn(async move {
                match store.restore(&key, value).await {
                    // Somebody else was faster.
                    Ok(_) | Err(StoreError::NotFound(_)) => Ok(()),
                    Err(e) => Err(e).with_context(|| format!("write {key}")),
                }
            });
        }
        match writes.join_next().await {
            None => return Ok(()),
            Some(written) => {
                written??;
                done += 1;
                progress.show(done, all);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(of: &[(&str, &str)]) -> Documents {
        of.iter()
            .map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn what_is_written_and_what_is_in_the_way() {
        let wanted = documents(&[("/calico/a", "1"), ("/calico/b", "2"), (INFORMATION, "x")]);
        let fresh = Plan::new(&wanted, &documents(&[(INFORMATION, "y")]));
        assert_eq!((fresh.put.len(), fresh.delete.len()), (3, 0));
        assert!(
            fresh.in_the_way.is_empty(),
            "what typha makes by itself is not in the way"
        );
        let interrupted = Plan::new(&wanted, &documents(&[("/calico/a", "1"), (INFORMATION, "x")]));
        assert_eq!(interrupted.put, [("/calico/b".to_owned(), b"2".to_vec())]);
        assert!(interrupted.in_the_way.is_empty());
        let other = Plan::new(&wanted, &documents(&[("/calico/a", "0"), ("/calico/c", "3")]));
        assert_eq!(other.in_the_way, ["/calico/a", "/calico/c"]);
        assert_eq!(other.delete, ["/calico/c"]);
    }
}
