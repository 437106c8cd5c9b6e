//! The store service: reads, and writes that are validated and compared.
//!
//! | part | what it is |
//! |---|---|
//! | this | the gRPC service: wire to domain and back |
//! | [`write`] | one write: precondition, admission, commit, and again when something moved |
//! | [`view`] | what admission looked at, so that it can be guarded |

mod view;
mod write;

use std::sync::Arc;

use tonic::{Request, Response, Status};
use tortie_proto::common::Hello;
use tortie_proto::store::{
    self, GetRequest, GetResponse, ListRequest, ListResponse, WriteRequest, WriteResponse, store_server,
};

use crate::datastore::{Backend, Entry, StorageError};
use crate::metrics::{Metrics, Outcome};

pub(crate) use write::{Change, Precondition, WriteError, Writer};

/// Serves the store.
#[derive(Debug)]
pub(crate) struct StoreService {
    backend: Arc<dyn Backend>,
    writer: Writer,
    hello: Hello,
    metrics: Arc<Metrics>,
}

impl StoreService {
    pub(crate) fn new(backend: Arc<dyn Backend>, hello: Hello, metrics: Arc<Metrics>) -> Self {
        let writer = Writer::new(Arc::clone(&backend));
        StoreService {
            backend,
            writer,
            hello,
            metrics,
        }
    }
}

#[tonic::async_trait]
impl store_server::Store for StoreService {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let request = request.into_inner();
        Hello::check(request.hello.as_ref())?;
        let entry = self.backend.get(&request.key).await.map_err(unavailable)?;
        let entry = entry.ok_or_else(|| Status::from(WriteError::NotFound(write::name(&request.key))))?;
        Ok(Response::new(GetResponse {
            hello: Some(self.hello.clone()),
            entry: Some(entry.into()),
        }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let request = request.into_inner();
        Hello::check(request.hello.as_ref())?;
        let listing = self.backend.list(&request.prefix).await.map_err(unavailable)?;
        let entries = listing.entries.into_iter().map(store::Entry::from).collect();
        Ok(Response::new(ListResponse {
            hello: Some(self.hello.clone()),
            entries,
            revision: listing.revision,
        }))
    }

    async fn write(&self, request: Request<WriteRequest>) -> Result<Response<WriteResponse>, Status> {
        let request = request.into_inner();
        Hello::check(request.hello.as_ref())?;
        let dry_run = request.dry_run;
        let written = match Change::try_from(request) {
            Ok(change) => self.writer.write(&change).await,
            Err(e) => Err(e),
        };
        self.metrics.count_write(match &written {
            Ok(_) if dry_run => Outcome::DryRun,
            Ok(_) => Outcome::Committed,
            Err(e) => e.outcome(),
        });
        let committed = written?;
        Ok(Response::new(WriteResponse {
            hello: Some(self.hello.clone()),
            entry: committed.entry.map(store::Entry::from),
            previous: committed.previous.map(store::Entry::from),
            revision: committed.revision,
        }))
    }
}

fn unavailable(e: StorageError) -> Status {
    WriteError::from(e).into()
}

impl From<Entry> for store::Entry {
    fn from(e: Entry) -> Self {
        store::Entry {
            key: e.key,
            value: e.value.to_vec(),
            revision: e.revision,
            create_revision: e.create_revision,
        }
    }
}

#[cfg(test)]
mod tests;
