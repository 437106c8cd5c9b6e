//! The changes of an etcd cluster in order, over one stream that is opened again whenever it breaks.
//!
//! A stream that breaks loses nothing: the next one starts where the last change was. A start that etcd has compacted is
//! said as [`WatchError::Compacted`], and the reader lists everything. What etcd says of its progress between changes is
//! not relied on: some of its versions say it too early.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::client::Client;
use super::proto::event::EventType;
use super::proto::request_op::Request as Op;
use super::proto::watch_request::RequestUnion;
use super::proto::{self, PutRequest, TxnRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use super::{HISTORY, MARK, ROOT, op, prefix_end, revision, signed, text};
use crate::datastore::{Changes, Event, Past, Revision, StorageError, WatchError};

/// How long etcd may take to begin a watch.
const BEGIN: Duration = Duration::from_secs(3);
/// How long it may take to give the past.
const PAST: Duration = Duration::from_secs(10);

/// Reads the changes of every key of ours.
#[derive(Debug)]
pub(crate) struct Watcher {
    client: Client,
    open: Arc<Mutex<Option<Open>>>,
}

/// A stream and how far it was read.
#[derive(Debug)]
struct Open {
    stream: Streaming<WatchResponse>,
    /// etcd ends a stream whose requests end.
    _requests: mpsc::Sender<WatchRequest>,
    /// Every change up to this one was given.
    given: Revision,
    waiting: VecDeque<Event>,
    /// The newest change that arrived, of whatever key.
    seen: Revision,
    /// When another history of changes began, if that was seen.
    begun: Option<Revision>,
}

impl Watcher {
    pub(crate) fn new(client: Client) -> Self {
        Watcher {
            client,
            open: Arc::default(),
        }
    }

    /// The changes after a revision; see [`crate::datastore::Backend::changes`].
    pub(crate) fn changes(
        &self,
        after: Revision,
        limit: usize,
    ) -> impl Future<Output = Result<Changes, WatchError>> + Send + 'static {
        let (client, slot) = (self.client.clone(), Arc::clone(&self.open));
        async move {
            let mut slot = slot.lock().await;
            // Taken out: whatever fails below, the next call begins anew.
            let mut open = match slot.take() {
                Some(open) if open.given == after => open,
                _ => {
                    *slot = Some(Open::begin(&client, after).await?);
                    let events = Vec::new();
                    return Ok(Changes {
                        events,
                        revision: after,
                    });
                }
            };
            // What is nobody's concern moves the revision, too: where this typha is, clients of others may be already.
            while open.waiting.is_empty() && open.seen <= open.given {
                let response = open.next(&client).await?;
                open.take(response, &client)?;
                // What arrived meanwhile goes with it: what is given at once is sent to every client at once. An end is
                // seen by the next reading.
                while open.waiting.len() < limit
                    && let Some(Ok(Some(response))) = open.stream.message().now_or_never()
                {
                    open.take(response, &client)?;
                }
                if open.begun.is_some() {
                    // Whoever reads looks at it before reading on.
                    return Err(StorageError("etcd: watch: another history of changes began".to_owned()).into());
                }
            }
            let events = open.give(limit);
            let revision = open.given;
            *slot = Some(open);
            Ok(Changes { events, revision })
        }
    }
}

impl Open {
    async fn begin(client: &Client, after: Revision) -> Result<Self, WatchError> {
        let (requests, outgoing) = mpsc::channel(1);
        let create = WatchCreateRequest {
            key: ROOT.into(),
            range_end: prefix_end(ROOT),
            start_revision: signed(after.saturating_add(1)),
        };
        let union = Some(RequestUnion::CreateRequest(create));
        // The channel is new and has room for one.
        let _ = requests.try_send(WatchRequest { request_union: union });
        let stream = client.watch(ReceiverStream::new(outgoing)).await?;
        let mut open = Open {
            stream,
            _requests: requests,
            given: after,
            waiting: VecDeque::new(),
            seen: after,
            begun: None,
        };
        let silent = || StorageError(format!("etcd: watch: it did not begin within {} s", BEGIN.as_secs()));
        let first = timeout(BEGIN, open.next(client)).await.map_err(|_| silent())??;
        let now = first.header.as_ref().map_or(0, |h| revision(h.revision));
        open.take(first, client)?;
        if now < after {
            return Err(WatchError::Backwards {
                held: after,
                found: now,
            });
        }
        Ok(open)
    }

    async fn next(&mut self, client: &Client) -> Result<WatchResponse, WatchError> {
        match self.stream.message().await {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(StorageError("etcd: watch: the stream was ended".to_owned()).into()),
            Err(status) => {
                client.watch_failed(&status);
                Err(StorageError(format!("etcd: watch: {}", tortie_kit::status::reason(&status))).into())
            }
        }
    }

    fn take(&mut self, response: WatchResponse, client: &Client) -> Result<(), WatchError> {
        if response.compact_revision > 0 {
            let oldest = revision(response.compact_revision);
            return Err(WatchError::Compacted { oldest });
        }
        if response.canceled {
            // Among the reasons is a token that is too old; a new one costs little.
            client.forget_token();
            let reason = response.cancel_reason;
            return Err(StorageError(format!("etcd: watch: it was cancelled: {reason}")).into());
        }
        for kv in response.events.iter().filter_map(|e| e.kv.as_ref()) {
            self.seen = self.seen.max(revision(kv.mod_revision));
            if kv.key == HISTORY.as_bytes() {
                self.begun = Some(revision(kv.mod_revision));
            }
        }
        self.waiting.extend(response.events.into_iter().filter_map(event));
        Ok(())
    }

    /// What waits, cut between revisions only.
    fn give(&mut self, limit: usize) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        while let Some(next) = self.waiting.front() {
            if events.len() >= limit && events.last().is_some_and(|last| last.revision < next.revision) {
                break;
            }
            events.extend(self.waiting.pop_front());
        }
        let given = match (self.waiting.is_empty(), events.last()) {
            // Changes arrive in order, those of one revision together.
            (true, _) => self.seen,
            (false, last) => last.map_or(self.given, |e| e.revision),
        };
        self.given = self.given.max(given);
        events
    }
}

/// The changes up to `to` after `from`, or after what is compacted, or after this history began, whichever is last.
///
/// etcd does not say reliably when a watch has given everything that was. So a mark is written after the watch began: what
/// arrives before it is everything.
pub(super) async fn past(client: &Client, from: Revision, to: Revision) -> Result<Past, WatchError> {
    match past_after(client, from, to).await {
        Err(WatchError::Compacted { oldest }) if from < oldest && oldest < to => past_after(client, oldest, to).await,
        other => other,
    }
}

async fn past_after(client: &Client, from: Revision, to: Revision) -> Result<Past, WatchError> {
    let mut open = Open::begin(client, from).await?;
    let put = PutRequest {
        key: MARK.into(),
        ..PutRequest::default()
    };
    let question = TxnRequest {
        success: vec![op(Op::RequestPut(put))],
        ..TxnRequest::default()
    };
    let answer = client.txn(question, false).await.map_err(StorageError::from)?;
    let mark = answer.header.as_ref().map_or(0, |h| revision(h.revision));
    let silent = |_| {
        StorageError(format!(
            "etcd: watch: the past did not come within {} s",
            PAST.as_secs()
        ))
    };
    let everything = async {
        while open.seen < mark {
            let response = open.next(client).await?;
            open.take(response, client)?;
        }
        Ok::<_, WatchError>(())
    };
    timeout(PAST, everything).await.map_err(silent)??;
    let oldest = open.begun.map_or(from, |begun| begun.max(from)).min(to);
    let events = open
        .waiting
        .into_iter()
        .filter(|e| oldest < e.revision && e.revision <= to);
    let events = events.collect();
    Ok(Past { oldest, events })
}

/// A change of a document; `None` for keys that are none of Calico's.
pub(super) fn event(event: proto::Event) -> Option<Event> {
    let deleted = event.r#type() == EventType::Delete;
    let kv = event.kv?;
    Some(Event {
        key: text(kv.key)?,
        revision: revision(kv.mod_revision),
        value: (!deleted).then(|| Bytes::from(kv.value)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_ours_and_others() {
        let of = |kind: EventType, key: &[u8]| {
            let kv = proto::KeyValue {
                key: key.to_vec(),
                mod_revision: 7,
                value: b"{}".to_vec(),
                ..proto::KeyValue::default()
            };
            event(proto::Event {
                r#type: kind.into(),
                kv: Some(kv),
            })
        };
        let put = of(EventType::Put, b"/calico/ipam/v2/config").unwrap();
        assert_eq!((put.revision, put.value), (7, Some(Bytes::from_static(b"{}"))));
        assert_eq!(of(EventType::Delete, b"/calico/ipam/v2/config").unwrap().value, None);
        assert_eq!(of(EventType::Put, b"/calico/tortie/v1/history"), None, "typha's own");
        assert_eq!(of(EventType::Put, b"/calico/\xff"), None, "no text");
        assert_eq!(event(proto::Event::default()), None);
    }
}
