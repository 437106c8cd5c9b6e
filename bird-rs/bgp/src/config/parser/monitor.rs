//! `protocol mrt`.

use std::time::Duration;

use super::super::diagnostic::{Checked, Complaint, Position};
use super::super::monitor::{FILE_NAME_SEQUENCES, MrtConfig, TableChoice};
use super::Parser;

/// `protocol mrt` while its options may still change.
#[derive(Debug, Clone, Default)]
pub(super) struct MrtDraft {
    table: Option<TableChoice>,
    filename: Option<String>,
    period: Option<Duration>,
    always_add_path: bool,
}

pub(super) const MRT_OPTIONS: [&str; 4] = ["table", "filename", "period", "always add path"];
impl Parser {
    pub(super) fn mrt_option(&mut self, draft: &mut MrtDraft) -> Checked<bool> {
        if self.eat_word("table") {
            draft.table = Some(if self.text_next() {
                TableChoice::Mask(self.text("table")?)
            } else {
                TableChoice::Name(self.table_name()?.0)
            });
        } else if self.eat_word("filename") {
            draft.filename = Some(self.dump_file()?);
        } else if self.eat_word("period") {
            draft.period = Some(self.seconds("period", 1..=u32::MAX)?);
        } else if self.eat_phrase("always add path") {
            draft.always_add_path = self.switch("always add path")?;
        } else {
            return Ok(false);
        }
        self.end().map(|()| true)
    }

    /// A file's name with strftime's sequences.
    fn dump_file(&mut self) -> Checked<String> {
        let at = self.here();
        let name = self.text("filename")?;
        if name.is_empty() || name.ends_with('/') {
            return Err(Complaint::new(at, "filename: a file's name expected"));
        }
        let mut letters = name.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                continue;
            }
            let sequence = letters.next();
            if !sequence.is_some_and(|letter| FILE_NAME_SEQUENCES.contains(letter)) {
                let shown = sequence.map(String::from).unwrap_or_default();
                let complaint = Complaint::new(at, format!("filename: '%{shown}' is not supported"));
                return Err(complaint.with_hint(format!("behind '%' stands one of {FILE_NAME_SEQUENCES}")));
            }
        }
        Ok(name.as_ref().to_owned())
    }
}

fn missing(at: Position, option: &str) -> Box<Complaint> {
    Complaint::new(at, format!("protocol mrt has no '{option}'"))
}

impl MrtDraft {
    pub(super) fn finish(self, at: Position) -> Checked<MrtConfig> {
        let table = self.table.ok_or_else(|| missing(at, "table"))?;
        let filename = self.filename.ok_or_else(|| missing(at, "filename"))?;
        // Each dump replaces the file: with one name for several tables the last would be all there is.
        if matches!(table, TableChoice::Mask(_)) && !filename.replace("%%", "").contains("%N") {
            let complaint = Complaint::new(at, "filename: with several tables their name must be in it");
            return Err(complaint.with_hint("write '%N' where the table's name is to be"));
        }
        Ok(MrtConfig {
            table,
            filename,
            period: self.period.ok_or_else(|| missing(at, "period"))?,
            always_add_path: self.always_add_path,
        })
    }
}
