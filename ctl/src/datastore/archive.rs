//! The file of an export: lines of JSON, octet for octet what is stored.
//!
//! | line | content |
//! |---|---|
//! | first | `{"format":"tortie-datastore-1","revision":N,"documents":N}` |
//! | one for each document, sorted by key | `{"key":K,"value":TEXT}`, or `"hex"` in place of `"value"` for what is no text |
//! | last | `{"sha256":HEX}` of every line before, with their ends |
//!
//! The last line tells a file that was cut off or changed from a whole one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const FORMAT: &str = "tortie-datastore-1";

/// Every document of a datastore by key, and the revision at which that was so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Archive {
    pub(crate) revision: u64,
    pub(crate) documents: BTreeMap<String, Vec<u8>>,
}

/// A file that is no whole export.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadArchive {
    #[error("line 1: this is no export of a datastore (want \"format\": \"{FORMAT}\")")]
    Format,
    #[error("line {line}: {reason}")]
    Line { line: usize, reason: String },
    #[error("line {line}: {key} comes twice")]
    Twice { line: usize, key: String },
    #[error("it ends without its checksum: it was cut off")]
    CutOff,
    #[error("its checksum does not fit: it was changed or damaged")]
    Checksum,
    #[error("it has {found} documents, its first line says {said}")]
    Count { said: usize, found: usize },
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: String,
    revision: u64,
    documents: usize,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Text { key: String, value: String },
    Octets { key: String, hex: String },
    End { sha256: String },
}

impl Archive {
    /// The file's content.
    ///
    /// # Errors
    /// Never for documents that were read from a datastore: serde's.
    pub(crate) fn encode(&self) -> Result<String, serde_json::Error> {
        let head = Head {
            format: FORMAT.to_owned(),
            revision: self.revision,
            documents: self.documents.len(),
        };
        let mut out = serde_json::to_string(&head)? + "\n";
        for (key, value) in &self.documents {
            let key = key.clone();
            let line = match std::str::from_utf8(value) {
                Ok(value) => Line::Text {
                    key,
                    value: value.to_owned(),
                },
                Err(_) => Line::Octets { key, hex: hex(value) },
            };
            out += &serde_json::to_string(&line)?;
            out.push('\n');
        }
        let sha256 = hex(&Sha256::digest(&out));
        out += &serde_json::to_string(&Line::End { sha256 })?;
        out.push('\n');
        Ok(out)
    }

    /// Reads a file's content.
    ///
    /// # Errors
    /// [`BadArchive`] unless it is whole and unchanged.
    pub(crate) fn decode(text: &str) -> Result<Self, BadArchive> {
        let mut read = 0;
        let mut lines = text.split_inclusive('\n').enumerate();
        let (_, first) = lines.next().ok_or(BadArchive::Format)?;
        let head: Head = serde_json::from_str(first).map_err(|_| BadArchive::Format)?;
        if head.format != FORMAT {
            return Err(BadArchive::Format);
        }
        read += first.len();
        let mut documents = BTreeMap::new();
        for (n, line) in lines {
            let bad = |reason: String| BadArchive::Line { line: n + 1, reason };
            let (key, value) = match serde_json::from_str(line) {
                Ok(Line::Text { key, value }) => (key, value.into_bytes()),
                Ok(Line::Octets { key, hex }) => (key, octets(&hex).ok_or_else(|| bad("'hex' is not".to_owned()))?),
                Ok(Line::End { sha256 }) => {
                    let digest = hex(&Sha256::digest(&text[..read]));
                    return match documents.len() {
                        _ if digest != sha256 => Err(BadArchive::Checksum),
                        found if found != head.documents => Err(BadArchive::Count {
                            said: head.documents,
                            found,
                        }),
                        _ => Ok(Archive {
                            revision: head.revision,
                            documents,
                        }),
                    };
                }
                // A line without its end is where the file was cut off.
                Err(_) if !line.ends_with('\n') => return Err(BadArchive::CutOff),
                Err(e) => return Err(bad(e.to_string())),
            };
            if documents.insert(key.clone(), value).is_some() {
                return Err(BadArchive::Twice { line: n + 1, key });
            }
            read += line.len();
        }
        Err(BadArchive::CutOff)
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn octets(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => {
            let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
            Some(digit(*high)? << 4 | digit(*low)?)
        }
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(
            revision: u64,
            documents in proptest::collection::btree_map("/calico/[a-z\"\\\\é]{0,9}", any::<Vec<u8>>(), 0..8),
        ) {
            let archive = Archive { revision, documents };
            prop_assert_eq!(Archive::decode(&archive.encode().unwrap()), Ok(archive));
        }

        #[test]
        fn nothing_panics_and_no_change_goes_unnoticed(at: prop::sample::Index, octet in 32u8..127) {
            let documents = [("/calico/a".to_owned(), b"{}".to_vec()), ("/calico/b".to_owned(), vec![255])].into();
            let archive = Archive { revision: 7, documents };
            let mut text = archive.encode().unwrap().into_bytes();
            let at = at.index(text.len() - 1);
            let before = std::mem::replace(&mut text[at], octet);
            let read = Archive::decode(std::str::from_utf8(&text).unwrap());
            if before == octet || before.eq_ignore_ascii_case(&octet) {
                return Ok(());
            }
            prop_assert!(read.is_err(), "octet {} made {}", at, octet);
        }
    }

    #[test]
    fn a_file_that_was_cut_off_is_refused() {
        let archive = Archive {
            revision: 1,
            documents: [("/calico/a".to_owned(), b"{}".to_vec())].into(),
        };
        let text = archive.encode().unwrap();
        for cut in 0..text.len() - 1 {
            let refused = Archive::decode(&text[..cut]).unwrap_err();
            assert!(
                matches!(refused, BadArchive::Format | BadArchive::CutOff),
                "{cut}: {refused}"
            );
        }
        assert_eq!(Archive::decode("{\"kind\":\"Pod\"}\n"), Err(BadArchive::Format));
        let twice = text.replacen("{\"key\"", "{\"key\":\"/calico/a\",\"value\":\"\"}\n{\"key\"", 1);
        assert!(
            Archive::decode(&twice)
                .unwrap_err()
                .to_string()
                .contains("/calico/a comes twice")
        );
    }
}
