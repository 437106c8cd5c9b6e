//! Which writes go together in one transaction.
//!
//! Each is permitted, compared and admitted as if it were alone. So what admission of one looked at must not be what
//! another of them writes: alone they would be right, and together break a rule.

use std::collections::BTreeSet;

use tortie_proto::store::WriteManyRequest;

use super::view::Seen;
use super::write::{Change, MAX_VALUE, Prepared, WriteError};
use crate::access::Subject;
use crate::datastore::{Guard, MAX_OPERATIONS, Transaction};

/// The octets of all documents: one that is as large as it may be and small ones beside it. etcd takes 1.5 MiB at once.
const MAX_OCTETS: usize = MAX_VALUE + (256 << 10);

/// What somebody asks for.
///
/// # Errors
/// [`WriteError::Invalid`] for what cannot be asked for, or not together.
pub(super) fn changes(request: WriteManyRequest, subject: &Subject) -> Result<Vec<Change>, WriteError> {
    let n = request.writes.len();
    if n == 0 || n > MAX_OPERATIONS {
        let text = format!("{n} writes at once, want at least 1 and at most {MAX_OPERATIONS}");
        return Err(WriteError::Invalid(text));
    }
    let mut changes: Vec<Change> = Vec::with_capacity(n);
    let mut keys = BTreeSet::new();
    let mut octets = 0;
    for write in request.writes {
        if write.verbatim || write.dry_run {
            let rule = "verbatim and dry_run are not said of one of several writes";
            return Err(WriteError::Invalid(format!("{}: {rule}", write.key)));
        }
        let mut change = Change::of(write, subject.clone())?;
        change.dry_run = request.dry_run;
        if !keys.insert(change.key.to_string()) {
            let text = format!("{}: written twice in one transaction", change.key.object_name());
            return Err(WriteError::Invalid(text));
        }
        octets += change.document.as_ref().map_or(0, |d| d.sent.len());
        changes.push(change);
    }
    if octets > MAX_OCTETS {
        let text = format!("{n} documents have {octets} octets, at most {MAX_OCTETS} are allowed at once");
        return Err(WriteError::Invalid(text));
    }
    Ok(changes)
}

/// The transaction of writes that are right each by itself.
///
/// # Errors
/// [`WriteError::Invalid`] when they do not go together.
pub(super) fn transaction(
    changes: &[Change],
    prepared: Vec<Prepared>,
    dry_run: bool,
) -> Result<Transaction, WriteError> {
    let mut transaction = Transaction {
        guards: Vec::with_capacity(prepared.len()),
        operations: Vec::with_capacity(prepared.len()),
        dry_run,
    };
    let mut others: Vec<Guard> = Vec::new();
    for (n, prepared) in prepared.into_iter().enumerate() {
        independent(changes, n, &prepared.seen)?;
        transaction.guards.push(prepared.own);
        transaction.operations.push(prepared.operation);
        for guard in prepared.absent.into_iter().chain(prepared.seen.guards()) {
            if !others.contains(&guard) {
                others.push(guard);
            }
        }
    }
    transaction.guards.extend(others);
    let (n, guards) = (changes.len(), transaction.guards.len());
    if n > 1 && guards > MAX_OPERATIONS {
        let text = format!("{n} writes depend on {guards} others, at most {MAX_OPERATIONS} are allowed at once");
        return Err(WriteError::Invalid(text));
    }
    Ok(transaction)
}

/// Does admission of the `n`th look at none of the others' keys?
fn independent(changes: &[Change], n: usize, seen: &Seen) -> Result<(), WriteError> {
    if seen.prefixes().next().is_none() {
        return Ok(());
    }
    for (other, change) in changes.iter().enumerate() {
        let key = change.key.to_string();
        if other != n && seen.prefixes().any(|prefix| key.starts_with(prefix)) {
            let looked = changes.get(n).map_or_else(String::new, |c| c.key.object_name());
            let text = format!(
                "{looked} depends on what {} is: they are not written at once, write one after the other",
                change.key.object_name()
            );
            return Err(WriteError::Invalid(text));
        }
    }
    Ok(())
}
