//! What is wrong with a configuration, and where.

use std::fmt;
use std::sync::Arc;

/// A place in the configuration: a file by its number, a line and a column, both from 1. Columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    pub(crate) file: u16,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// One error in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as the caller or an `include` named it.
    pub file: String,
    /// From 1; 0 when it is about the file as a whole.
    pub line: u32,
    /// From 1, in characters; 0 as the line.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line itself; empty when there is none.
    pub excerpt: String,
}

impl Diagnostic {
    /// In one line, as BIRD says it: `file:line:column message`, or `file: message`.
    pub fn brief(&self) -> String {
        match self.line {
            0 => format!("{}: {}", self.file, self.message),
            line => format!("{}:{line}:{} {}", self.file, self.column, self.message),
        }
    }
}

impl fmt::Display for Diagnostic {
    /// In one line, then the line of the file with a caret under the place, and the hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.brief())?;
        if !self.excerpt.is_empty() {
            let before = usize::try_from(self.column.saturating_sub(1)).unwrap_or(0);
            // Tabs stay tabs, so that the caret lines up whatever their width.
            let indent: String = self
                .excerpt
                .chars()
                .take(before)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            write!(f, "\n  | {}\n  | {indent}^", self.excerpt)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  = {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// An error on its way to becoming a [`Diagnostic`].
#[derive(Debug)]
pub(crate) struct Complaint {
    pub(crate) at: Position,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Complaints travel boxed: they are rare, results are not.
pub(crate) type Checked<T> = Result<T, Box<Complaint>>;

impl Complaint {
    pub(crate) fn new(at: Position, message: impl Into<String>) -> Box<Self> {
        Box::new(Complaint {
            at,
            message: message.into(),
            hint: None,
        })
    }

    pub(crate) fn with_hint(mut self: Box<Self>, hint: impl Into<String>) -> Box<Self> {
        self.hint = Some(hint.into());
        self
    }
}

/// The files of a configuration: their names and texts.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    files: Vec<(String, Arc<str>)>,
}

impl Sources {
    /// Adds a file and gives its number; `None` when there are too many.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> Option<u16> {
        let number = u16::try_from(self.files.len()).ok()?;
        self.files.push((name.to_owned(), text.into()));
        Some(number)
    }

    pub(crate) fn name(&self, file: u16) -> &str {
        self.files.get(usize::from(file)).map_or("", |(name, _)| name)
    }

    /// A complaint with the names and the line that a reader wants.
    pub(crate) fn diagnose(&self, complaint: Complaint) -> Diagnostic {
        /// Longer lines are cut: nobody wants to read a binary file's.
        const MAX_EXCERPT: usize = 200;
        let at = complaint.at;
        let excerpt = self.files.get(usize::from(at.file)).and_then(|(_, text)| {
            let line = text.lines().nth(usize::try_from(at.line.checked_sub(1)?).ok()?)?;
            let printable = line.chars().all(|c| c == '\t' || !c.is_control());
            // Reports travel to logs and other processes; a session's key must not.
            let printable = printable && !["password", "secret"].iter().any(|word| line.contains(word));
            (printable && line.chars().count() <= MAX_EXCERPT).then(|| line.to_owned())
        });
        Diagnostic {
            file: self.name(at.file).to_owned(),
            line: at.line,
            column: at.column,
            message: complaint.message,
            hint: complaint.hint,
            excerpt: excerpt.unwrap_or_default(),
        }
    }
}
