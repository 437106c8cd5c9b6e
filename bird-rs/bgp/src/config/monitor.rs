//! Protocols that show others what this router has: dumps of tables.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::diff::{Action, Verdict, Worst};
use crate::filter::{glob, write_name};

/// What may stand behind a `%` in a file name: strftime's sequences that need no locale, and BIRD's `%N`.
pub(super) const FILE_NAME_SEQUENCES: &str = "YmdHMSyjsFTN%";

/// `protocol mrt`: tables are dumped to files again and again (RFC 6396).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MrtConfig {
    /// `table`: which ones.
    pub table: TableChoice,
    /// `filename`: a strftime format; `%N` is the table's name.
    pub filename: String,
    /// `period`: from the begin of one dump to the begin of the next, at least a second.
    pub period: Duration,
    /// `always add path`: entries have path identifiers also where no peer sent any.
    pub always_add_path: bool,
}

/// One table, or those whose names match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableChoice {
    /// By name. It exists.
    Name(Arc<str>),
    /// A shell pattern with `*` and `?`.
    Mask(Arc<str>),
}

impl TableChoice {
    /// Is a table of this name meant?
    pub fn has(&self, name: &str) -> bool {
        match self {
            TableChoice::Name(wanted) => **wanted == *name,
            TableChoice::Mask(mask) => glob(mask, name),
        }
    }
}

pub(super) fn write_mrt(f: &mut fmt::Formatter<'_>, mrt: &MrtConfig) -> fmt::Result {
    f.write_str("  table ")?;
    match &mrt.table {
        TableChoice::Name(name) => write_name(f, name)?,
        TableChoice::Mask(mask) => write!(f, "\"{mask}\"")?,
    }
    writeln!(f, ";\n  filename \"{}\";", mrt.filename)?;
    writeln!(f, "  period {};", mrt.period.as_secs())?;
    f.write_str(if mrt.always_add_path {
        "  always add path;\n"
    } else {
        ""
    })
}

/// Nothing of a dump outlives it: a new one begins.
pub(super) fn diff_mrt(old: &MrtConfig, new: &MrtConfig) -> Verdict {
    Worst(None)
        .when(old.table != new.table, Action::Restart, "table")
        .when(old.filename != new.filename, Action::Restart, "filename")
        .when(old.period != new.period, Action::Restart, "period")
        .when(
            old.always_add_path != new.always_add_path,
            Action::Restart,
            "always add path",
        )
        .0
}
