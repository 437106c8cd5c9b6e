//! Answers a plan's requests through typha's store.

use tortie_ipam::{Change, Document, Next, Plan, Request, Response, StoreFailure, Stored};
use tortie_model::{Key, Object, decode};
use tortie_typha_client::{Entry, Store, StoreError, Write, Written};

/// Steps a plan to its end.
pub async fn drive<T>(store: &Store, mut plan: Plan<T>) -> T {
    let mut answer = None;
    loop {
        match plan.step(answer.take()) {
            Next::Done(result) => return result,
            Next::Ask(request) => answer = Some(perform(store, request).await),
        }
    }
}

async fn perform(store: &Store, request: Request) -> Response {
    match request {
        Request::Get(key) => match store.get(&key.to_string()).await {
            Ok(entry) => document(&key, &entry).map_or_else(Response::Failed, |d| Response::Found(Some(d))),
            Err(StoreError::NotFound(_)) => Response::Found(None),
            Err(e) => Response::Failed(failure(e)),
        },
        Request::List(collection) => match store.list(&collection.prefix()).await {
            Ok(listing) => Response::Listed(listing.entries.iter().filter_map(listed).collect()),
            Err(e) => Response::Failed(failure(e)),
        },
        Request::Keys(collection) => match store.keys(&collection.prefix()).await {
            Ok(keys) => Response::Keys(keys.iter().filter_map(|k| k.parse().ok()).collect()),
            Err(e) => Response::Failed(failure(e)),
        },
        Request::Write(key, change) => write(store, &key, change).await,
        Request::WriteAll(changes) => write_all(store, changes).await,
    }
}

/// A document that cannot be read is left out of a list, as its own read would fail with a message that names it.
fn listed(entry: &Entry) -> Option<(Key, Stored<Document>)> {
    let key: Key = entry.key.parse().ok()?;
    match document(&key, entry) {
        Ok(document) => Some((key, document)),
        Err(e) => {
            tracing::warn!(key = %entry.key, error = %e, "unreadable IPAM document left out");
            None
        }
    }
}

fn document(key: &Key, entry: &Entry) -> Result<Stored<Document>, StoreFailure> {
    let unreadable = |message: String| StoreFailure {
        retryable: false,
        message,
    };
    let value = match decode(key, &entry.value).map_err(|e| unreadable(e.to_string()))? {
        Object::Block(block) => Document::Block(block),
        Object::Affinity(affinity) => Document::Affinity(affinity),
        Object::Handle(handle) => Document::Handle(handle),
        Object::Lease(lease) => Document::Lease(Box::new(lease)),
        _ => return Err(unreadable(format!("{}: no document of IPAM", key.object_name()))),
    };
    Ok(Stored {
        value,
        revision: entry.revision,
    })
}

async fn write(store: &Store, key: &Key, change: Change) -> Response {
    let text = key.to_string();
    let written = match change {
        Change::Create(document) => match json(key, &document) {
            Ok(json) => store.create(&text, json).await,
            Err(failure) => return Response::Failed(failure),
        },
        Change::Update(document, revision) => match json(key, &document) {
            Ok(json) => store.update(&text, json, revision).await,
            Err(failure) => return Response::Failed(failure),
        },
        Change::Delete(revision) => store.delete(&text, Some(revision)).await,
    };
    match written {
        Ok(Written { entry, revision, .. }) => Response::Written(entry.map_or(revision, |e| e.revision)),
        Err(e) => refused(e),
    }
}

async fn write_all(store: &Store, changes: Vec<(Key, Change)>) -> Response {
    let mut writes = Vec::with_capacity(changes.len());
    for (key, change) in changes {
        let text = key.to_string();
        let write = match change {
            Change::Create(document) => json(&key, &document).map(|json| Write::create(&text, json)),
            Change::Update(document, revision) => {
                json(&key, &document).map(|json| Write::update(&text, json, revision))
            }
            Change::Delete(revision) => Ok(Write::delete(&text, revision)),
        };
        match write {
            Ok(write) => writes.push(write),
            Err(failure) => return Response::Failed(failure),
        }
    }
    store
        .write_many(writes)
        .await
        .map_or_else(refused, Response::WrittenAll)
}

/// Nothing was written: because another change came first, or for whatever reason.
fn refused(e: StoreError) -> Response {
    match e {
        StoreError::AlreadyExists(_) | StoreError::Conflict(_) | StoreError::NotFound(_) => Response::Refused,
        e => Response::Failed(failure(e)),
    }
}

fn json(key: &Key, document: &Document) -> Result<Vec<u8>, StoreFailure> {
    let json = match document {
        Document::Block(block) => serde_json::to_vec(block),
        Document::Affinity(affinity) => serde_json::to_vec(affinity),
        Document::Handle(handle) => serde_json::to_vec(handle),
        Document::Lease(lease) => serde_json::to_vec(lease),
    };
    json.map_err(|e| StoreFailure {
        retryable: false,
        message: format!("{}: {e}", key.object_name()),
    })
}

fn failure(e: StoreError) -> StoreFailure {
    let retryable = matches!(e, StoreError::Unavailable(_));
    StoreFailure {
        retryable,
        message: e.to_string(),
    }
}
