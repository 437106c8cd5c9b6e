//! The store service: reads, and writes that are validated and compared.
//!
//! While the datastore does not answer, reads are answered from what typha holds, and say so; writes are refused.
//!
//! | part | what it is |
//! |---|---|
//! | this | the gRPC service: wire to domain and back |
//! | [`write`] | one write: precondition, admission, commit, and again when something moved |
//! | [`many`] | which writes go together in one transaction |
//! | [`restore`] | one write as it is, for an import |
//! | [`view`] | what admission looked at, so that it can be guarded |

mod many;
mod restore;
mod view;
mod write;

use std::sync::Arc;

use tonic::{Request, Response, Status};
use tortie_proto::common::Hello;
use tortie_proto::store::{
    self, AcceptRequest, AcceptResponse, GetRequest, GetResponse, ListRequest, ListResponse, StatusRequest,
    StatusResponse, WriteManyRequest, WriteManyResponse, WriteRequest, WriteResponse, store_server,
};

use crate::access::Subject;
use crate::datastore::{Backend, Committed, Entry, Listing, StorageError};
use crate::metrics::{Metrics, Outcome};
use crate::sync::hub::Hub;
use crate::sync::peers::Peers;

pub(crate) use write::{Change, Precondition, WriteError, Writer};

/// Serves the store.
#[derive(Debug)]
pub(crate) struct StoreService {
    backend: Arc<dyn Backend>,
    writer: Writer,
    hub: Hub,
    hello: Hello,
    peers: Peers,
    metrics: Arc<Metrics>,
}

impl StoreService {
    pub(crate) fn new(backend: Arc<dyn Backend>, hub: Hub, hello: Hello, peers: Peers, metrics: Arc<Metrics>) -> Self {
        let writer = Writer::new(Arc::clone(&backend), metrics.transactions.clone());
        StoreService {
            backend,
            writer,
            hub,
            hello,
            peers,
            metrics,
        }
    }

    /// What typha says of itself, and who else may be asked.
    fn hello(&self) -> Option<Hello> {
        Some(Hello {
            peers: self.peers.next().0,
            ..self.hello.clone()
        })
    }

    async fn do_write(&self, request: WriteRequest, subject: Subject) -> Result<Committed, WriteError> {
        if let Some(e) = self.away() {
            return Err(e.into());
        }
        if request.verbatim {
            subject.administers("write documents verbatim")?;
            return self.writer.restore(request).await;
        }
        self.writer.write(&Change::of(request, subject)?).await
    }

    async fn do_write_many(&self, request: WriteManyRequest, subject: &Subject) -> Result<Vec<Committed>, WriteError> {
        if let Some(e) = self.away() {
            return Err(e.into());
        }
        let dry_run = request.dry_run;
        self.writer.write_all(&many::changes(request, subject)?, dry_run).await
    }

    /// Why the datastore is known not to answer.
    fn away(&self) -> Option<StorageError> {
        self.hub.away().map(|away| StorageError(away.reason))
    }

    /// A read of the datastore, unless it is known not to answer: then nobody waits for it.
    async fn ask<T>(&self, read: impl Future<Output = Result<T, StorageError>>) -> Result<T, StorageError> {
        match self.away() {
            None => read.await.inspect_err(|_| self.hub.doubt()),
            Some(e) => Err(e),
        }
    }

    /// Whoever follows the datastore is told when it failed somebody else.
    fn hear<T>(&self, written: &Result<T, WriteError>) {
        if matches!(written, Err(WriteError::Storage(_))) {
            self.hub.doubt();
        }
    }

    /// What typha holds, and why that may be old.
    async fn held(&self, prefix: &str, error: StorageError) -> Result<(Listing, String), Status> {
        let age = self.hub.away().map_or(0, |away| away.age().as_secs());
        match self.hub.held(prefix).await {
            Ok(listing) => Ok((listing, format!("{error}; this is what typha held {age} s ago"))),
            Err(_) => Err(WriteError::from(error).into()),
        }
    }
}

#[tonic::async_trait]
impl store_server::Store for StoreService {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let subject = Subject::of(request.extensions());
        let request = request.into_inner();
        Hello::check(request.hello.as_ref())?;
        subject.map_err(WriteError::from)?;
        let key = request.key;
        let (entry, stale) = match self.ask(self.backend.get(&key)).await {
            Ok(entry) => (entry, None),
            Err(e) => {
                let (listing, stale) = self.held(&key, e.clone()).await?;
                let entry = listing.entries.into_iter().find(|e| e.key == key);
                // It may have been made meanwhile: that it is not held is no answer.
                (Some(entry.ok_or(WriteError::Storage(e))?), Some(stale))
            }
        };
        let entry = entry.ok_or_else(|| Status::from(WriteError::NotFound(write::name(&key))))?;
        Ok(Response::new(GetResponse {
            hello: self.hello(),
            entry: Some(sent(entry)),
            stale,
        }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let subject = Subject::of(request.extensions());
        let request = request.into_inner();
        Hello::check(request.hello.as_ref())?;
        subject.map_err(WriteError::from)?;
        let (listing, stale) = match self.ask(self.backend.list(&request.prefix)).await {
            Ok(listing) => (listing, None),
            Err(e) => {
                let (listing, stale) = self.held(&request.prefix, e).await?;
                (listing, Some(stale))
            }
        };
        let told = |mut entry: Entry| {
            if request.keys_only {
                entry.value.clear();
            }
            sent(entry)
        };
        let entries = listing.entries.into_iter().map(told).collect();
        Ok(Response::new(ListResponse {
            hello: self.hello(),
            entries,
            revision: listing.revision,
            stale,
        }))
    }

    async fn accept(&self, request: Request<AcceptRequest>) -> Result<Response<AcceptResponse>, Status> {
        let subject = Subject::of(request.extensions()).map_err(WriteError::from)?;
        Hello::check(request.into_inner().hello.as_ref())?;
        let allowed = subject.administers("accept another history of changes");
        allowed.map_err(WriteError::from)?;
        let accepted = self.hub.accept().await.map_err(WriteError::from)?;
        Ok(Response::new(AcceptResponse {
            hello: self.hello(),
            cluster_id: accepted.history.id,
            revision: accepted.revision,
        }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let subject = Subject::of(request.extensions());
        Hello::check(request.into_inner().hello.as_ref())?;
        subject.map_err(WriteError::from)?;
        let stale = self.hub.away().map(|away| store::Stale {
            age_seconds: away.age().as_secs(),
            reason: away.reason,
        });
        let count = |n: i64| u64::try_from(n).unwrap_or_default();
        Ok(Response::new(StatusResponse {
            hello: self.hello(),
            cluster_id: self.hub.history().borrow().id.clone(),
            revision: *self.hub.head().borrow(),
            documents: count(self.metrics.keys.get()),
            clients: count(self.metrics.connections_active.get()),
            stale,
        }))
    }

    async fn write(&self, request: Request<WriteRequest>) -> Result<Response<WriteResponse>, Status> {
        let subject = Subject::of(request.extensions()).map_err(WriteError::from)?;
        let request = request.into_inner();
        Hello::check(request.hello.as_ref())?;
        let dry_run = request.dry_run;
        let written = self.do_write(request, subject).await;
        self.hear(&written);
        self.metrics.count_writes(outcome(&written, dry_run), 1);
        let committed = written?;
        Ok(Response::new(WriteResponse {
            hello: self.hello(),
            entry: committed.entry.map(sent),
            previous: committed.previous.map(sent),
            revision: committed.revision,
        }))
    }

    async fn write_many(&self, request: Request<WriteManyRequest>) -> Result<Response<WriteManyResponse>, Status> {
        let subject = Subject::of(request.extensions()).map_err(WriteError::from)?;
        let request = request.into_inner();
        Hello::check(request.hello.as_ref())?;
        let (dry_run, count) = (request.dry_run, request.writes.len());
        let written = self.do_write_many(request, &subject).await;
        self.hear(&written);
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.metrics.count_writes(outcome(&written, dry_run), count);
        let revision = |c: Committed| c.entry.map_or(c.revision, |e| e.revision);
        Ok(Response::new(WriteManyResponse {
            hello: self.hello(),
            revisions: written?.into_iter().map(revision).collect(),
        }))
    }
}

fn outcome<T>(written: &Result<T, WriteError>, dry_run: bool) -> Outcome {
    match written {
        Ok(_) if dry_run => Outcome::DryRun,
        Ok(_) => Outcome::Committed,
        Err(e) => e.outcome(),
    }
}

fn sent(e: Entry) -> store::Entry {
    store::Entry {
        key: e.key,
        value: e.value.to_vec(),
        revision: e.revision,
        create_revision: e.create_revision,
    }
}

#[cfg(test)]
mod tests;
