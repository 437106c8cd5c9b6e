//! The changes of an etcd cluster in order, over one stream that is opened again whenever it breaks.
//!
//! A stream that breaks loses nothing: the next one starts where the last change was. A start that etcd has compacted is
//! said as [`WatchError::Compacted`], and the reader lists everything. What etcd says of its progress between changes is
//! not relied on: some of its versions say it too early.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tortie_datastore::etcd::proto::request_op::Request as Op;
use tortie_datastore::etcd::proto::watch_request::RequestUnion;
use tortie_datastore::etcd::proto::{PutRequest, TxnRequest, WatchRequest, WatchResponse};
use tortie_datastore::etcd::transaction::op;
use tortie_datastore::etcd::{Ended, Feed, MARK, at};

use crate::datastore::{Changes, Past, Revision, StorageError, WatchError};
use tortie_etcd::Client;

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
    feed: Feed,
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
                Some(open) if open.feed.given() == after => open,
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
            while open.feed.is_idle() {
                let response = open.next(&client).await?;
                open.take(response, &client)?;
                // What arrived meanwhile goes with it: what is given at once is sent to every client at once. An end is
                // seen by the next reading.
                while open.feed.waiting() < limit
                    && let Some(Ok(Some(response))) = open.stream.message().now_or_never()
                {
                    open.take(response, &client)?;
                }
                if open.feed.begun().is_some() {
                    // Whoever reads looks at it before reading on.
                    return Err(StorageError("etcd: watch: another history of changes began".to_owned()).into());
                }
            }
            let changes = open.feed.give(limit);
            *slot = Some(open);
            Ok(changes)
        }
    }
}

impl Open {
    async fn begin(client: &Client, after: Revision) -> Result<Self, WatchError> {
        let (requests, outgoing) = mpsc::channel(1);
        let feed = Feed::after(after);
        let union = Some(RequestUnion::CreateRequest(feed.question()));
        // The channel is new and has room for one.
        let _ = requests.try_send(WatchRequest { request_union: union });
        let stream = client.watch(ReceiverStream::new(outgoing)).await?;
        let mut open = Open {
            stream,
            _requests: requests,
            feed,
        };
        let silent = || StorageError(format!("etcd: watch: it did not begin within {} s", BEGIN.as_secs()));
        let first = timeout(BEGIN, open.next(client)).await.map_err(|_| silent())??;
        open.feed.begin(first)?;
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
        self.feed.take(response).map_err(|ended| {
            if matches!(ended, Ended::Cancelled(_)) {
                // Among the reasons is a token that is too old; a new one costs little.
                client.forget_token();
            }
            ended.into()
        })
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
    let mark = at(answer.header.as_ref()).map_err(StorageError::from)?;
    let silent = |_| {
        StorageError(format!(
            "etcd: watch: the past did not come within {} s",
            PAST.as_secs()
        ))
    };
    let everything = async {
        while open.feed.seen() < mark {
            let response = open.next(client).await?;
            open.take(response, client)?;
        }
        Ok::<_, WatchError>(())
    };
    timeout(PAST, everything).await.map_err(silent)??;
    Ok(open.feed.past(to))
}
