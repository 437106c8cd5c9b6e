//! Calls to an etcd cluster: which member, as whom, how long, and what a failure means.
//!
//! Every call asks for a member that sees its leader, so that a member that is cut off refuses at once. A member that
//! cannot be reached is passed over for the next one. A read is then repeated; a write only when it certainly did not
//! reach the first: else nobody knows what became of it, and the caller is told.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tonic::metadata::{AsciiMetadataValue, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, ConnectError, Request, Response, Status, Streaming};
use tortie_datastore::StorageError;
use tortie_datastore::etcd::proto::{
    AuthenticateRequest, LeaseGrantRequest, LeaseGrantResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
    WatchRequest, WatchResponse,
};

use crate::config::{EtcdArgs, EtcdConfigError, Secret};
use crate::services::auth_client::AuthClient;
use crate::services::kv_client::KvClient;
use crate::services::lease_client::LeaseClient;
use crate::services::watch_client::WatchClient;

/// How long a member may take for one call; etcd commits within milliseconds, elects a leader within two seconds.
const CALL: Duration = Duration::from_secs(3);
/// How long to connect may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How often a connection that says nothing is probed while it carries a watch or a call. etcd ends one that is probed twice
/// within 5 s (`--grpc-keepalive-min-time`) three times, or at all while it carries nothing: `too_many_pings`.
const KEEPALIVE: Duration = Duration::from_secs(6);
/// How long the answer to a probe may take.
const PROBE: Duration = Duration::from_secs(2);
/// A page of documents of the largest size, and more.
const MAX_MESSAGE: usize = 512 << 20;

/// A call that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The revision asked for is compacted.
    Compacted,
    /// The revision asked for is yet to come.
    Future,
    /// Anything else.
    Storage(StorageError),
}

impl From<CallError> for StorageError {
    fn from(e: CallError) -> Self {
        match e {
            CallError::Compacted => StorageError("the revision that was asked for is compacted".to_owned()),
            CallError::Future => StorageError("the revision that was asked for is yet to come".to_owned()),
            CallError::Storage(e) => e,
        }
    }
}

/// A handle to the cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    members: Vec<Member>,
    /// The member that answered last.
    current: AtomicUsize,
    login: Option<(String, Secret)>,
    token: Mutex<Option<AsciiMetadataValue>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Member {
    url: String,
    channel: Channel,
}

/// What a failed call says about whether it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It never reached the member, or the member refused to begin.
    NotDone,
    /// Nobody knows.
    Unknown,
    /// The member does not know us (any more).
    WhoAreYou,
    /// The cluster answered, with no.
    Final,
}

type Method<Q, A> = fn(Channel, Request<Q>) -> BoxFuture<'static, Result<Response<A>, Status>>;

impl Client {
    /// Must be called inside a tokio runtime; connects when first used.
    ///
    /// # Errors
    /// [`EtcdConfigError`]: a file that cannot be used.
    pub fn new(args: &EtcdArgs) -> Result<Self, EtcdConfigError> {
        let tls = args.tls()?;
        let mut members = Vec::new();
        for endpoint in &args.endpoints {
            let unusable = |e: tonic::transport::Error| EtcdConfigError::Unreadable {
                option: "--etcd-endpoints",
                path: endpoint.url.clone(),
                reason: innermost(&e),
            };
            let mut target = Endpoint::from_shared(endpoint.url.clone()).map_err(unusable)?;
            if let Some(tls) = tls.as_ref().filter(|_| endpoint.tls) {
                target = target.tls_config(tls.clone()).map_err(unusable)?;
            }
            let target = target
                .connect_timeout(CONNECT)
                .http2_keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(PROBE)
                .keep_alive_while_idle(false)
                .tcp_nodelay(true);
            members.push(Member {
                url: endpoint.url.clone(),
                channel: target.connect_lazy(),
            });
        }
        let shared = Shared {
            members,
            current: AtomicUsize::new(0),
            login: args.login()?,
            token: Mutex::new(None),
        };
        Ok(Client {
            shared: Arc::new(shared),
        })
    }

    /// Reads keys; of a member that cannot be reached, the next one is asked.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn range(&self, question: RangeRequest) -> Result<RangeResponse, CallError> {
        let send: Method<RangeRequest, RangeResponse> = |channel, request| {
            Box::pin(async move {
                let mut kv = KvClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
                kv.range(request).await
            })
        };
        self.call("read", question, true, send).await
    }

    /// Writes, or, when it `reads_only`, reads several things at one moment.
    ///
    /// # Errors
    /// [`CallError`]; it says when a write may have been done all the same.
    pub async fn txn(&self, question: TxnRequest, reads_only: bool) -> Result<TxnResponse, CallError> {
        let send: Method<TxnRequest, TxnResponse> = |channel, request| {
            Box::pin(async move {
                let mut kv = KvClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
                kv.txn(request).await
            })
        };
        self.call("write", question, reads_only, send).await
    }

    /// A lease of so many seconds; gives its number. One that is never used ends by itself, so this may be asked twice.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn lease(&self, seconds: i64) -> Result<i64, CallError> {
        let send: Method<LeaseGrantRequest, LeaseGrantResponse> =
            |channel, request| Box::pin(async move { LeaseClient::new(channel).lease_grant(request).await });
        let question = LeaseGrantRequest { ttl: seconds };
        Ok(self.call("lease", question, true, send).await?.id)
    }

    /// Opens a watch stream; the requests are those of the receiver.
    ///
    /// # Errors
    /// No member that answers, or one that refuses.
    pub async fn watch(
        &self,
        requests: tokio_stream::wrappers::ReceiverStream<WatchRequest>,
    ) -> Result<Streaming<WatchResponse>, StorageError> {
        let n = self.shared.current.load(Ordering::Relaxed);
        let member = self.member(n);
        let opened = async {
            let request = self.request(member, requests).await?;
            let mut client = WatchClient::new(member.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
            tokio::time::timeout(CALL, client.watch(request))
                .await
                .unwrap_or_else(|_| Err(silent()))
        };
        match opened.await {
            Ok(stream) => Ok(stream.into_inner()),
            Err(status) => {
                self.watch_failed(&status);
                Err(failed(member, "watch", &status))
            }
        }
    }

    /// A watch ended badly: the next call goes to another member, as whom etcd says anew.
    pub fn watch_failed(&self, status: &Status) {
        if verdict(status) == Verdict::WhoAreYou {
            self.forget_token();
        } else {
            let n = self.shared.current.load(Ordering::Relaxed);
            self.pass_over(n);
        }
    }

    /// Whatever typha was known by is not used again.
    pub fn forget_token(&self) {
        *self.shared.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn member(&self, n: usize) -> &Member {
        let members = &self.shared.members;
        &members[n % members.len()]
    }

    /// The next call goes to the member after `n`, unless another call has moved on already.
    fn pass_over(&self, n: usize) {
        let next = (n + 1) % self.shared.members.len();
        let (seen, relaxed) = (Ordering::Relaxed, Ordering::Relaxed);
        // Lost races are fine: somebody else has chosen.
        let _ = self.shared.current.compare_exchange(n, next, seen, relaxed);
    }

    async fn call<Q: Clone + Send, A>(
        &self,
        act: &'static str,
        question: Q,
        repeatable: bool,
        send: Method<Q, A>,
    ) -> Result<A, CallError> {
        let mut introduced = false;
        let mut tries = self.shared.members.len();
        loop {
            let n = self.shared.current.load(Ordering::Relaxed);
            let member = self.member(n);
            let asked = async {
                let request = self.request(member, question.clone()).await?;
                tokio::time::timeout(CALL, send(member.channel.clone(), request))
                    .await
                    .unwrap_or_else(|_| Err(silent()))
            };
            let status = match asked.await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            if status.code() == Code::OutOfRange && status.message().contains("compacted") {
                return Err(CallError::Compacted);
            }
            if status.code() == Code::OutOfRange && status.message().contains("future revision") {
                return Err(CallError::Future);
            }
            tries -= 1;
            let again = match verdict(&status) {
                Verdict::WhoAreYou if self.shared.login.is_some() && !introduced => {
                    introduced = true;
                    tries += 1;
                    self.forget_token();
                    true
                }
                Verdict::WhoAreYou | Verdict::Final => false,
                Verdict::NotDone => {
                    self.pass_over(n);
                    tries > 0
                }
                Verdict::Unknown => {
                    self.pass_over(n);
                    tries > 0 && repeatable
                }
            };
            if !again {
                return Err(CallError::Storage(failed(member, act, &status)));
            }
            tracing::debug!(
                etcd = member.url,
                act,
                reason = status.message(),
                "etcd call begins anew"
            );
        }
    }

    /// A request with what every call carries.
    async fn request<Q>(&self, member: &Member, question: Q) -> Result<Request<Q>, Status> {
        let mut request = Request::new(question);
        let metadata = request.metadata_mut();
        metadata.insert("hasleader", AsciiMetadataValue::from_static("true"));
        if let Some(token) = self.token(member).await? {
            metadata.insert("token", token);
        }
        Ok(request)
    }

    async fn token(&self, member: &Member) -> Result<Option<AsciiMetadataValue>, Status> {
        let Some((name, password)) = &self.shared.login else {
            return Ok(None);
        };
        let known = self.shared.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if known.is_some() {
            return Ok(known);
        }
        let question = AuthenticateRequest {
            name: name.clone(),
            password: password.0.clone(),
        };
        let mut auth = AuthClient::new(member.channel.clone());
        let answer = tokio::time::timeout(CALL, auth.authenticate(question))
            .await
            .unwrap_or_else(|_| Err(silent()));
        let token = match answer {
            Ok(answer) => MetadataValue::try_from(answer.into_inner().token).ok(),
            // Without users in etcd nobody needs a token.
            Err(status) if status.message().contains("authentication is not enabled") => return Ok(None),
            Err(status) => return Err(status),
        };
        let token = token.ok_or_else(|| Status::internal("etcd gave a token that no header can carry"))?;
        *self.shared.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(Some(token))
    }
}

fn silent() -> Status {
    Status::deadline_exceeded(format!("no answer within {} s", CALL.as_secs()))
}

fn verdict(status: &Status) -> Verdict {
    let said = status.message();
    if status.code() == Code::Unauthenticated || said.contains("invalid auth token") {
        return Verdict::WhoAreYou;
    }
    if said.contains("etcdserver: no leader") || never_sent(status) {
        return Verdict::NotDone;
    }
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled | Code::Internal => {
            Verdict::Unknown
        }
        _ => Verdict::Final,
    }
}

/// Was there no connection to send it on?
fn never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(e) = source {
        if e.is::<ConnectError>() {
            return true;
        }
        source = e.source();
    }
    false
}

fn failed(member: &Member, act: &str, status: &Status) -> StorageError {
    let reason = match std::error::Error::source(status) {
        Some(source) => innermost(source),
        None => status.message().to_owned(),
    };
    let unknown = if act == "write" && verdict(status) == Verdict::Unknown {
        " (it may have been done: read before writing again)"
    } else {
        ""
    };
    StorageError(format!("etcd at {}: {act}: {reason}{unknown}", member.url))
}

fn innermost(e: &dyn std::error::Error) -> String {
    let mut e = e;
    while let Some(source) = e.source() {
        e = source;
    }
    e.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failure_says_about_the_call() {
        let cases = [
            (Status::unavailable("etcdserver: no leader"), Verdict::NotDone),
            (Status::unavailable("etcdserver: leader changed"), Verdict::Unknown),
            (Status::unavailable("etcdserver: request timed out"), Verdict::Unknown),
            (silent(), Verdict::Unknown),
            (
                Status::unauthenticated("etcdserver: invalid auth token"),
                Verdict::WhoAreYou,
            ),
            (
                Status::permission_denied("etcdserver: permission denied"),
                Verdict::Final,
            ),
            (
                Status::resource_exhausted("etcdserver: mvcc: database space exceeded"),
                Verdict::Final,
            ),
        ];
        for (status, expected) in cases {
            assert_eq!(verdict(&status), expected, "{status:?}");
        }
    }

    #[tokio::test]
    async fn a_member_that_cannot_be_reached_is_passed_over_also_for_writes() {
        let args = EtcdArgs {
            // Reserved ports of this machine, where nobody answers.
            endpoints: ["http://127.0.0.1:1", "http://127.0.0.1:2"]
                .map(|e| e.parse().unwrap())
                .into(),
            ..EtcdArgs::default()
        };
        let client = Client::new(&args).unwrap();
        let refused = client.txn(TxnRequest::default(), false).await.unwrap_err();
        let CallError::Storage(StorageError(said)) = refused else {
            panic!("{refused:?}")
        };
        assert!(
            said.starts_with("etcd at http://127.0.0.1:2: write: "),
            "the second was tried: {said}"
        );
        assert!(!said.contains("may have been done"), "{said}");
    }
}
