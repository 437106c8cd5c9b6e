//! The document that says which history of changes this is.

use serde_json::{Value, json};

use super::proto::RangeResponse;
use super::{AnswerError, HISTORY, at, revisions, shown};
use crate::{History, Revision};

/// The history that is there, if there is one, and the revision at which that was said.
///
/// # Errors
/// [`AnswerError::History`]: something else is there; else another [`AnswerError`].
pub fn read(answer: &RangeResponse) -> Result<Option<(History, Revision)>, AnswerError> {
    let now = at(answer.header.as_ref())?;
    let Some(kv) = answer.kvs.first() else { return Ok(None) };
    if kv.key != HISTORY.as_bytes() {
        return Err(AnswerError::NotAsked { key: shown(&kv.key) });
    }
    let revision = Revision::try_from(kv.mod_revision).ok();
    let revision = revision
        .filter(|r| (1..=now).contains(r))
        .ok_or_else(|| revisions(kv, now))?;
    let document: Option<Value> = serde_json::from_slice(&kv.value).ok();
    let id = document.as_ref().and_then(|d| d.get("id")?.as_str());
    let id = id.filter(|id| !id.is_empty()).ok_or(AnswerError::History)?.to_owned();
    let succeeds = document.as_ref().and_then(|d| d.get("succeeds")?.as_array());
    let succeeds = succeeds.into_iter().flatten();
    let succeeds = succeeds.filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(Some((History { id, succeeds }, revision)))
}

/// The document that says so.
pub fn document(history: &History) -> Vec<u8> {
    json!({ "id": history.id, "succeeds": history.succeeds })
        .to_string()
        .into()
}
