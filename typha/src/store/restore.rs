//! Writes of a document as it is, for operators who move a datastore: no defaults, no rules, no identities.

use std::time::Duration;

use tortie_model::Key;
use tortie_proto::store::{WriteRequest, write_request};

use super::write::{self, MAX_KEY, WriteError, Writer};
use crate::datastore::{CommitError, Committed, Operation, Transaction};

/// Under which Calico's keys lie.
const ROOT: &str = "/calico/";
/// The largest document: etcd's own limit, above what typha takes from other writers.
const MAX_VALUE: usize = 1536 << 10;

/// How long a document lives that says who is alive: as Calico's felix has it. Whoever is will say so again.
const TTL: Duration = Duration::from_secs(90);

fn ttl(key: &str) -> Option<Duration> {
    let expires = |key: Key| matches!(key, Key::Report(report) if report.expires());
    key.parse().is_ok_and(expires).then_some(TTL)
}

impl Writer {
    /// Stores, or deletes, whatever was there.
    ///
    /// # Errors
    /// [`WriteError::Invalid`] for a key that cannot be Calico's, a document that is too large, or a precondition.
    pub(crate) async fn restore(&self, request: WriteRequest) -> Result<Committed, WriteError> {
        let invalid = |text: String| Err(WriteError::Invalid(text));
        let key = request.key;
        if key.len() > MAX_KEY || !key.starts_with(ROOT) || key.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return invalid(format!("{key:?} is no datastore key"));
        }
        if request.precondition.is_some() {
            return invalid(format!("{key}: a verbatim write has no precondition"));
        }
        let operation = match request.operation {
            Some(write_request::Operation::Put(value)) if value.len() > MAX_VALUE => {
                let n = value.len();
                return invalid(format!(
                    "{key}: document has {n} octets, at most {MAX_VALUE} are allowed"
                ));
            }
            Some(write_request::Operation::Put(value)) => Operation::Put {
                ttl: ttl(&key),
                key: key.clone(),
                value: value.into(),
            },
            Some(write_request::Operation::Delete(_)) => Operation::Delete { key: key.clone() },
            None => return invalid(format!("{key}: neither put nor delete")),
        };
        let transaction = Transaction {
            guards: Vec::new(),
            operations: vec![operation],
            dry_run: request.dry_run,
        };
        match self.commit(transaction).await {
            Ok(committed) => Ok(write::only(committed)),
            Err(CommitError::Missing) => Err(WriteError::NotFound(key)),
            // There are none; a backend that says so all the same has not written.
            Err(CommitError::Guard(_)) => Err(WriteError::Busy(key)),
            Err(CommitError::Storage(e)) => Err(e.into()),
        }
    }
}
