//! `mrt dump`.

use std::path::Path;

use super::reply::Reply;
use super::words::Word;
use super::{Control, unknown};
use crate::engine::Stopped;
use crate::mrt::{DumpError, dump};

impl Control {
    /// `mrt dump table NAME to "FILE"`. The file's name is taken as it is.
    pub(super) async fn mrt(&self, words: &[Word]) -> Result<Reply, Stopped> {
        let [
            Word::Plain(act),
            Word::Plain(what),
            Word::Plain(table) | Word::Text(table),
            Word::Plain(to),
            Word::Text(file),
        ] = words
        else {
            return Ok(unknown("mrt"));
        };
        if (&**act, &**what, &**to) != ("dump", "table", "to") {
            return Ok(unknown("mrt"));
        }
        match dump(&self.engine, self.clock, table, false, Path::new(file)).await {
            Ok(dumped) => {
                let said = format!("{} prefixes of {table} written to {file}", dumped.prefixes);
                Ok(Reply::of(14, &said))
            }
            Err(DumpError::Stopped(stopped)) => Err(stopped),
            Err(error) => Ok(Reply::of(8008, &error.to_string())),
        }
    }
}
