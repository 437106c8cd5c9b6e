//! Any keys of an etcd cluster, kept current by a watch.
//!
//! What is at and below the paths that are asked for is read at one revision; a watch tells every change after it. When the
//! watch breaks, or etcd has forgotten where it was, everything is read again; until then the keys stay as they were.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tortie_datastore::StorageError;
use tortie_datastore::etcd::prefix_end;
use tortie_datastore::etcd::proto::event::EventType;
use tortie_datastore::etcd::proto::watch_request::RequestUnion;
use tortie_datastore::etcd::proto::{KeyValue, RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use tortie_etcd::{CallError, Client, EtcdArgs, EtcdConfigError};

use super::keys::Keys;

/// Keys read at once.
const PAGE: i64 = 2000;
/// Before everything is read again.
const AGAIN: Duration = Duration::from_secs(1);

/// A cluster, and what is known of it.
#[derive(Debug)]
pub struct Etcd {
    client: Client,
    keys: Arc<Keys>,
    watch: Option<Watch>,
}

#[derive(Debug)]
struct Watch {
    changes: Streaming<WatchResponse>,
    /// etcd ends a watch whose requests end.
    _requests: mpsc::Sender<WatchRequest>,
}

impl Etcd {
    /// Must be called inside a tokio runtime; connects when first used.
    ///
    /// # Errors
    /// [`EtcdConfigError`]: a file or an endpoint that cannot be used.
    pub fn new(args: &EtcdArgs) -> Result<Self, EtcdConfigError> {
        let client = Client::new(args)?;
        Ok(Etcd {
            client,
            keys: Arc::default(),
            watch: None,
        })
    }

    /// What there is now at and below `paths`.
    ///
    /// # Errors
    /// Why etcd cannot be read or watched.
    pub async fn load(&mut self, paths: &[String]) -> Result<Arc<Keys>, String> {
        // What arrived meanwhile goes with it.
        while let Some(next) = self.watch.as_mut().and_then(|w| w.changes.message().now_or_never()) {
            self.answer(next);
        }
        if self.watch.is_none() {
            let paths = outermost(paths);
            let listed = list(&self.client, &paths).await.map_err(StorageError::from);
            let (keys, revision) = listed.map_err(|e| e.to_string())?;
            self.watch = Some(watch(&self.client, &paths, revision).await?);
            self.keys = Arc::new(keys);
        }
        Ok(Arc::clone(&self.keys))
    }

    /// Waits until there may be something new. May be dropped at any time.
    pub async fn changed(&mut self) {
        if let Some(watch) = &mut self.watch {
            let next = watch.changes.message().await;
            self.answer(next);
            if self.watch.is_none() {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    fn answer(&mut self, next: Result<Option<WatchResponse>, tonic::Status>) {
        let why = match next {
            Ok(Some(response)) if response.compact_revision > 0 => "it has forgotten the changes since".to_owned(),
            Ok(Some(response)) if response.canceled => {
                // Among the reasons is a token that is too old.
                self.client.forget_token();
                response.cancel_reason
            }
            Ok(Some(response)) => return self.take(response),
            Ok(None) => "the stream was ended".to_owned(),
            Err(status) => {
                self.client.watch_failed(&status);
                tortie_kit::status::reason(&status)
            }
        };
        tracing::warn!(reason = why, "etcd's watch broke; everything is read again");
        self.watch = None;
    }

    fn take(&mut self, response: WatchResponse) {
        let keys = Arc::make_mut(&mut self.keys);
        for event in response.events {
            let deleted = event.r#type() == EventType::Delete;
            let Some(kv) = event.kv else { continue };
            if deleted {
                if let Ok(key) = std::str::from_utf8(&kv.key) {
                    keys.remove(key);
                }
            } else {
                put(keys, kv);
            }
        }
    }
}

/// Templates read text.
fn put(keys: &mut Keys, kv: KeyValue) {
    match (String::from_utf8(kv.key), String::from_utf8(kv.value)) {
        (Ok(key), Ok(value)) => drop(keys.insert(&key, value)),
        (Ok(key), Err(error)) => tracing::warn!(%key, %error, "a value is no text; the one before stays"),
        (Err(error), _) => tracing::warn!(%error, "a key is no text; it is left out"),
    }
}

/// Without those that lie below others: one watch for each.
fn outermost(paths: &[String]) -> BTreeSet<String> {
    let inside = |path: &String| {
        let above = |other: &&String| *other != path && path.starts_with(other.as_str());
        paths.iter().any(|p| above(&p))
    };
    paths.iter().filter(|p| !inside(p)).cloned().collect()
}

/// Everything that begins with these, all of one revision.
async fn list(client: &Client, paths: &BTreeSet<String>) -> Result<(Keys, i64), CallError> {
    let (mut keys, mut revision) = (Keys::default(), 0);
    for path in paths {
        let mut question = RangeRequest {
            key: path.clone().into(),
            range_end: prefix_end(path),
            limit: PAGE,
            revision,
        };
        loop {
            let answer = client.range(question.clone()).await?;
            if revision == 0 {
                revision = answer.header.map_or(0, |h| h.revision);
            }
            question.revision = revision;
            let next = answer.kvs.last().map(|kv| [&kv.key[..], b"\0"].concat());
            answer.kvs.into_iter().for_each(|kv| put(&mut keys, kv));
            match next {
                Some(next) if answer.more => question.key = next,
                Some(_) | None => break,
            }
        }
    }
    Ok((keys, revision))
}

/// The changes of these after a revision, on one stream.
async fn watch(client: &Client, paths: &BTreeSet<String>, revision: i64) -> Result<Watch, String> {
    let (requests, outgoing) = mpsc::channel(paths.len().max(1));
    for path in paths {
        let create = WatchCreateRequest {
            key: path.clone().into(),
            range_end: prefix_end(path),
            start_revision: revision + 1,
        };
        let union = Some(RequestUnion::CreateRequest(create));
        // The channel is new and has room for all.
        let _ = requests.try_send(WatchRequest { request_union: union });
    }
    let changes = client.watch(ReceiverStream::new(outgoing)).await;
    Ok(Watch {
        changes: changes.map_err(|e| e.to_string())?,
        _requests: requests,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_below_another_is_watched_with_it() {
        let all = |paths: &[&str]| {
            let paths: Vec<String> = paths.iter().map(|p| (*p).to_owned()).collect();
            outermost(&paths).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(all(&["/app", "/app/db", "/b", "/b"]), ["/app", "/b"]);
        assert_eq!(all(&["/", "/app"]), ["/"]);
    }
}
