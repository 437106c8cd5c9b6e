//! Any keys of an etcd cluster, kept current by a watch.
//!
//! What is at and below the paths that are asked for is read at one revision; a watch tells every change after it. When the
//! watch breaks, or etcd has forgotten where it was, or says what cannot be true, everything is read again; until a whole
//! list was read that can be true, the keys stay as they were.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tortie_datastore::etcd::proto::watch_request::RequestUnion;
use tortie_datastore::etcd::proto::{
    KeyValue, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tortie_datastore::etcd::{AnswerError, Change, RawFeed, RawPages, prefix_end, signed};
use tortie_datastore::{Revision, StorageError, WatchError};
use tortie_etcd::{CallError, Client, EtcdArgs, EtcdConfigError};

use super::keys::Keys;

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
    told: Told,
}

/// What the stream's watches, one for each path, have told.
#[derive(Debug)]
struct Told {
    paths: BTreeSet<String>,
    /// The list's; every watch tells what is later.
    since: Revision,
    /// By etcd's number.
    feeds: BTreeMap<i64, RawFeed>,
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
            let client = &self.client;
            let listed = list(async |question| client.range(question).await, &paths, &self.keys).await;
            let (keys, revision) = listed.map_err(|e| StorageError::from(e).to_string())?;
            self.watch = Some(watch(client, paths, revision).await?);
            self.keys = Arc::new(keys);
        }
        Ok(Arc::clone(&self.keys))
    }

    /// Waits until there may be something new; without a watch, until it is time to try again. May be dropped at any time.
    pub async fn changed(&mut self) {
        if let Some(watch) = &mut self.watch {
            let next = watch.changes.message().await;
            self.answer(next);
        }
        if self.watch.is_none() {
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn answer(&mut self, next: Result<Option<WatchResponse>, tonic::Status>) {
        let Some(watch) = &mut self.watch else { return };
        let why = match next {
            Ok(Some(response)) => match watch.told.take(response) {
                Ok(changes) => {
                    let keys = Arc::make_mut(&mut self.keys);
                    return changes.into_iter().for_each(|change| apply(keys, change));
                }
                Err(ended) => {
                    // Among the reasons is a token that is too old.
                    self.client.forget_token();
                    ended.to_string()
                }
            },
            Ok(None) => "the stream was ended".to_owned(),
            Err(status) => {
                self.client.watch_failed(&status);
                tortie_kit::status::reason(&status)
            }
        };
        tracing::warn!(reason = why, "etcd's watch broke; everything is read again");
        self.watch = None;
    }
}

impl Told {
    fn new(paths: BTreeSet<String>, since: Revision) -> Self {
        Told {
            paths,
            since,
            feeds: BTreeMap::new(),
        }
    }

    /// The changes in an answer: all of them, or none may be believed.
    ///
    /// # Errors
    /// Why nothing more may be taken; everything is to be read again.
    fn take(&mut self, response: WatchResponse) -> Result<Vec<Change>, WatchError> {
        let odd = |e: AnswerError| WatchError::from(StorageError::from(e));
        let (id, created) = (response.watch_id, response.created);
        let changes = match self.feeds.get_mut(&id) {
            Some(feed) => feed.take(response)?,
            None => {
                let mut feed = RawFeed::after(self.since);
                // First, so that a watch that could not be made says why.
                let changes = feed.begin(response)?;
                if !created || self.feeds.len() == self.paths.len() {
                    return Err(odd(AnswerError::NoWatch { id }));
                }
                self.feeds.insert(id, feed);
                changes
            }
        };
        for change in &changes {
            let (Change::Put(kv) | Change::Delete(kv)) = change;
            if !self.paths.iter().any(|p| kv.key.starts_with(p.as_bytes())) {
                let key = String::from_utf8_lossy(&kv.key).into_owned();
                return Err(odd(AnswerError::NotAsked { key }));
            }
        }
        Ok(changes)
    }
}

fn apply(keys: &mut Keys, change: Change) {
    match change {
        Change::Put(kv) => put(keys, kv, |_| None),
        // A key that is no text was never taken.
        Change::Delete(kv) => drop(std::str::from_utf8(&kv.key).map(|key| keys.remove(key))),
    }
}

/// Templates read text: where a value is none, the one before stays, which `before` knows when `keys` do not hold it.
fn put(keys: &mut Keys, kv: KeyValue, before: impl Fn(&str) -> Option<String>) {
    match (String::from_utf8(kv.key), String::from_utf8(kv.value)) {
        (Ok(key), Ok(value)) => drop(keys.insert(&key, value)),
        (Ok(key), Err(error)) => {
            tracing::warn!(%key, %error, "a value is no text; the one before stays");
            if let Some(value) = before(&key) {
                keys.insert(&key, value);
            }
        }
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

/// Everything that begins with these, all of one revision, which is given too.
async fn list(
    ask: impl AsyncFn(RangeRequest) -> Result<RangeResponse, CallError>,
    paths: &BTreeSet<String>,
    before: &Keys,
) -> Result<(Keys, Revision), CallError> {
    let odd = |e| CallError::Storage(StorageError::from(e));
    let mut pages = RawPages::new(paths.iter().map(String::as_str));
    let mut keys = Keys::default();
    while let Some(question) = pages.question() {
        for kv in pages.take(ask(question).await?).map_err(odd)? {
            put(&mut keys, kv, |key| before.get(key).map(str::to_owned));
        }
    }
    let revision = pages.revision().ok_or(odd(AnswerError::NoRevision))?;
    Ok((keys, revision))
}

/// The changes of these after a revision, on one stream.
async fn watch(client: &Client, paths: BTreeSet<String>, since: Revision) -> Result<Watch, String> {
    let (requests, outgoing) = mpsc::channel(paths.len().max(1));
    for path in &paths {
        let create = WatchCreateRequest {
            key: path.clone().into(),
            range_end: prefix_end(path),
            start_revision: signed(since.saturating_add(1)),
        };
        let union = Some(RequestUnion::CreateRequest(create));
        // The channel is new and has room for all.
        let _ = requests.try_send(WatchRequest { request_union: union });
    }
    let changes = client.watch(ReceiverStream::new(outgoing)).await;
    Ok(Watch {
        changes: changes.map_err(|e| e.to_string())?,
        _requests: requests,
        told: Told::new(paths, since),
    })
}

#[cfg(test)]
mod tests {
    use tortie_datastore::etcd::proto::{Event, ResponseHeader};

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

    fn header(revision: i64) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        })
    }

    fn kv(key: &str, value: &[u8], changed: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            create_revision: 1,
            mod_revision: changed,
            value: value.into(),
        }
    }

    fn page(kvs: Vec<KeyValue>, more: bool) -> RangeResponse {
        RangeResponse {
            header: header(7),
            kvs,
            more,
        }
    }

    /// A list of `/app` of an etcd that gives these answers.
    fn listed(answers: Vec<RangeResponse>, before: &Keys) -> Result<(Keys, Revision), String> {
        let left = std::cell::RefCell::new(answers.into_iter());
        let ask = async |_| Ok(left.borrow_mut().next().expect("invariant: not asked once more"));
        let paths = BTreeSet::from(["/app".to_owned()]);
        let done = list(ask, &paths, before).now_or_never().unwrap();
        done.map_err(|e| StorageError::from(e).to_string())
    }

    #[test]
    fn a_list_that_cannot_be_true_is_no_smaller_list() {
        let a = || page(vec![kv("/app/a", b"1", 2)], true);
        let b = || page(vec![kv("/app/b", b"2", 3)], false);
        let (keys, revision) = listed(vec![a(), b()], &Keys::default()).unwrap();
        assert_eq!((keys.iter().count(), revision), (2, 7));
        let headless = RangeResponse { header: None, ..b() };
        let cases = [
            (vec![headless.clone()], "of which revision"),
            (vec![a(), headless], "of which revision"),
            (vec![page(vec![], true)], "there is more, it says, and gives none"),
            (vec![a(), page(vec![], true)], "there is more, it says, and gives none"),
            (vec![a(), a()], "'/app/a' is out of order"),
            (
                vec![page(vec![kv("/other", b"", 2)], false)],
                "'/other' was not asked for",
            ),
            (
                vec![page(vec![kv("/app/a", b"", 8)], false)],
                "changed at 8, the answer is of 7",
            ),
        ];
        for (answers, why) in cases {
            let refused = listed(answers, &Keys::default()).unwrap_err();
            assert!(refused.contains(why), "{refused} is not '{why}'");
        }
    }

    #[test]
    fn a_value_that_is_no_text_leaves_the_one_before() {
        let mut before = Keys::default();
        before.insert("/app/a", "old".into());
        let binary = || vec![page(vec![kv("/app/a", b"\xff", 5)], false)];
        assert_eq!(listed(binary(), &before).unwrap().0.get("/app/a"), Some("old"));
        assert_eq!(listed(binary(), &Keys::default()).unwrap().0.get("/app/a"), None);
        apply(&mut before, Change::Put(kv("/app/a", b"\xff", 8)));
        assert_eq!(before.get("/app/a"), Some("old"));
    }

    fn told(paths: &[&str]) -> Told {
        Told::new(paths.iter().map(|p| (*p).to_owned()).collect(), 7)
    }

    fn said(id: i64, revision: i64, events: Vec<Event>) -> WatchResponse {
        WatchResponse {
            watch_id: id,
            header: header(revision),
            events,
            ..WatchResponse::default()
        }
    }

    fn made(id: i64, revision: i64) -> WatchResponse {
        WatchResponse {
            created: true,
            ..said(id, revision, vec![])
        }
    }

    fn event(kind: i32, key: &str, revision: i64) -> Event {
        Event {
            r#type: kind,
            kv: Some(kv(key, b"x", revision)),
        }
    }

    #[test]
    fn each_watch_tells_its_changes_in_their_order() {
        let mut told = told(&["/app", "/b"]);
        let mut keys = Keys::default();
        let answers = [
            made(0, 7),
            made(1, 9),
            said(1, 9, vec![event(0, "/b/x", 9)]),
            // The other is not as far yet.
            said(
                0,
                9,
                vec![event(0, "/app/x", 8), event(1, "/app/x", 9), event(0, "/app/y", 9)],
            ),
        ];
        for answer in answers {
            let changes = told.take(answer).unwrap();
            changes.into_iter().for_each(|change| apply(&mut keys, change));
        }
        let held: Vec<&str> = keys.iter().map(|(key, _)| key).collect();
        assert_eq!(held, ["/app/y", "/b/x"]);
    }

    #[test]
    fn a_change_that_cannot_be_true_ends_the_watch() {
        let no_key = Event { r#type: 0, kv: None };
        let headless = WatchResponse {
            header: None,
            ..said(0, 9, vec![event(0, "/app/x", 9)])
        };
        let cancelled = WatchResponse {
            canceled: true,
            cancel_reason: "no permission".into(),
            ..made(-1, 7)
        };
        let forgotten = WatchResponse {
            compact_revision: 8,
            ..said(0, 9, vec![])
        };
        let cases = [
            (said(0, 9, vec![no_key]), "a change at 9 says no key"),
            (said(0, 9, vec![event(7, "/app/x", 9)]), "neither put nor delete"),
            (said(0, 9, vec![event(0, "/other", 9)]), "'/other' was not asked for"),
            (said(0, 9, vec![event(0, "/app/x", 7)]), "revision 7 follows 8"),
            (said(5, 9, vec![event(0, "/app/x", 9)]), "watch 5 was not asked for"),
            (made(5, 9), "watch 5 was not asked for"),
            (headless, "of which revision"),
            (cancelled, "no permission"),
            (forgotten, "changes up to revision 8 are compacted"),
        ];
        for (answer, why) in cases {
            let mut told = told(&["/app"]);
            told.take(made(0, 7)).unwrap();
            let ended = told.take(answer).unwrap_err().to_string();
            assert!(ended.contains(why), "{ended} is not '{why}'");
        }
        let restored = told(&["/app"]).take(made(0, 6)).unwrap_err();
        assert_eq!(
            restored,
            WatchError::Backwards { held: 7, found: 6 },
            "it would tell nothing until 8"
        );
    }

    #[tokio::test]
    async fn without_a_watch_it_is_not_tried_at_once() {
        let args = EtcdArgs {
            endpoints: vec!["http://127.0.0.1:1".parse().unwrap()],
            ..EtcdArgs::default()
        };
        let mut etcd = Etcd::new(&args).unwrap();
        assert!(etcd.changed().now_or_never().is_none());
    }
}
