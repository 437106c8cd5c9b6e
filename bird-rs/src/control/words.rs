//! A command line's words, and which protocols it means.

use std::sync::Arc;

use tortie_bgp::config::{Names, is_keyword};

/// A word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// A keyword, name or number; also a name in single quotes.
    Plain(String),
    /// Text in double quotes.
    Text(String),
}

impl Word {
    /// The keyword, if it is one.
    pub(crate) fn plain(&self) -> Option<&str> {
        match self {
            Word::Plain(word) => Some(word),
            Word::Text(_) => None,
        }
    }
}

/// Splits a line.
///
/// # Errors
/// A quote that is not closed.
pub(crate) fn split(line: &str) -> Result<Vec<Word>, &'static str> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while let Some(first) = rest.chars().next() {
        if matches!(first, '"' | '\'') {
            let inner = rest.get(1..).unwrap_or_default();
            let (text, after) = inner.split_once(first).ok_or("unterminated string")?;
            words.push(match first {
                '"' => Word::Text(text.to_owned()),
                _ => Word::Plain(text.to_owned()),
            });
            rest = after.trim_start();
        } else {
            let end = rest
                .find(|c: char| c.is_whitespace() || c == '"' || c == '\'')
                .unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            words.push(Word::Plain(word.to_owned()));
            rest = after.trim_start();
        }
    }
    Ok(words)
}

/// Protocols as a command names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// Every one.
    All,
    /// This one.
    Named(String),
    /// Those whose names match, with `*` and `?`.
    Pattern(String),
}

/// A command means no protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoneMeant {
    /// There is none of this name.
    #[error("there is no protocol '{0}'")]
    Unknown(String),
    /// None matches.
    #[error("No protocols match")]
    NoMatch,
}

impl NoneMeant {
    /// BIRD's code and words. It tells names that mean something else from those that mean nothing; of these it says what
    /// its grammar would have taken.
    pub(crate) fn reply(&self, names: &Names, expecting: &str) -> (u16, String) {
        let NoneMeant::Unknown(name) = self else {
            return (8003, self.to_string());
        };
        if names.declares(name) {
            return (9001, "Protocol name required".to_owned());
        }
        let found = if name.starts_with(|c: char| c.is_ascii_digit()) {
            "NUM".to_owned()
        } else if is_keyword(name) {
            name.to_uppercase()
        } else {
            "CF_SYM_UNDEFINED".to_owned()
        };
        (9001, format!("syntax error, unexpected {found}, expecting {expecting}"))
    }
}

/// What BIRD's commands take that need a protocol.
pub(crate) const PROTOCOL: &str = "CF_SYM_KNOWN or TEXT or ALL";

impl Which {
    /// A word as a selection.
    pub(crate) fn of(word: &Word) -> Self {
        match word {
            Word::Plain(all) if all == "all" => Which::All,
            Word::Plain(name) => Which::Named(name.clone()),
            Word::Text(pattern) => Which::Pattern(pattern.clone()),
        }
    }

    /// The protocols that are meant, in their order.
    ///
    /// # Errors
    /// When there are none.
    pub(crate) fn select(&self, names: &[Arc<str>]) -> Result<Vec<Arc<str>>, NoneMeant> {
        let meant = |name: &&Arc<str>| match self {
            Which::All => true,
            Which::Named(wanted) => **wanted == ***name,
            Which::Pattern(pattern) => matches(pattern, name),
        };
        let selected: Vec<Arc<str>> = names.iter().filter(meant).cloned().collect();
        match self {
            Which::Named(name) if selected.is_empty() => Err(NoneMeant::Unknown(name.clone())),
            Which::All | Which::Pattern(_) if selected.is_empty() => Err(NoneMeant::NoMatch),
            Which::All | Which::Named(_) | Which::Pattern(_) => Ok(selected),
        }
    }
}

/// Shell patterns with `*` and `?`, in time proportional to pattern times name.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let mut row = vec![false; name.len() + 1];
    if let Some(start) = row.first_mut() {
        *start = true;
    }
    for symbol in pattern {
        let before = row.clone();
        let mut reached = false;
        for (at, place) in row.iter_mut().enumerate() {
            let fits = |from: usize| symbol == '?' || name.get(from) == Some(&symbol);
            *place = if symbol == '*' {
                reached |= before.get(at) == Some(&true);
                reached
            } else {
                at.checked_sub(1)
                    .is_some_and(|from| before.get(from) == Some(&true) && fits(from))
            };
        }
    }
    row.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_spaces_and_quotes() {
        let plain = |word: &str| Word::Plain(word.to_owned());
        let text = |word: &str| Word::Text(word.to_owned());
        assert_eq!(
            split(" disable  'my peer' \"new rack\"x\n").unwrap(),
            [plain("disable"), plain("my peer"), text("new rack"), plain("x")]
        );
        assert_eq!(split("").unwrap(), []);
        assert!(split("disable \"x").is_err());
    }

    #[test]
    fn protocols_are_selected_by_name_pattern_or_all() {
        let names: Vec<Arc<str>> = ["Mesh_1", "Mesh_2", "static1"].map(Arc::from).into();
        let select = |word: &str| Which::of(&split(word).unwrap().remove(0)).select(&names);
        let count = |word: &str| select(word).map(|selected| selected.len());
        assert_eq!(count("all"), Ok(3));
        assert_eq!(count("Mesh_2"), Ok(1));
        assert_eq!(count("\"Mesh*\""), Ok(2));
        assert_eq!(count("\"?es*_2\""), Ok(1));
        assert_eq!(count("\"*\""), Ok(3));
        assert_eq!(count("Mesh"), Err(NoneMeant::Unknown("Mesh".to_owned())));
        assert_eq!(count("\"Mesh\""), Err(NoneMeant::NoMatch));
        assert!(!matches(&"a*".repeat(500), &"a".repeat(499)));
    }
}
