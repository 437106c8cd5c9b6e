//! typha's last good state as a file, in the sync contract's messages.
//!
//! Layout, numbers big endian: `tortie-typha`, the version (u32), how many octets follow the checksum (u64), SHA-256 of
//! those; in them milliseconds since the epoch (u64), the revision (u64), the `Welcome` (which history this is), and a
//! `Change` for each document in ascending order of keys. Welcome and changes are preceded by their length.
//!
//! A file that is cut off, damaged, of another version or none of typha's is refused as a whole, with the reason: half a
//! state would be deletions that did not happen. Pure: no IO, no clock.

use std::time::Duration;

use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes};
use sha2::{Digest, Sha256};

use crate::sync::{Change, Welcome};

const MAGIC: &[u8; 12] = b"tortie-typha";
/// The only version so far.
const VERSION: u32 = 1;
const DIGEST: usize = 32;
/// Magic, version, length, checksum.
const HEAD: usize = MAGIC.len() + 4 + 8 + DIGEST;

/// A complete state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Which history of changes it belongs to.
    pub cluster_id: String,
    /// In whose place that history stands.
    pub succeeds: Vec<String>,
    /// Every change up to this one is contained.
    pub revision: u64,
    /// When it was current, since the epoch; whole milliseconds are kept.
    pub at: Duration,
    /// Every document, keys ascending.
    pub documents: Vec<Document>,
}

/// A document and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its key.
    pub key: String,
    /// The revision of its last change: not above the state's.
    pub revision: u64,
    /// What is stored.
    pub value: Bytes,
}

/// Why a file is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Something else's file.
    #[error("is no state file of typha's")]
    Foreign,
    /// Written by another release.
    #[error("is a state file of version {0}; this typha reads version {VERSION}")]
    Version(u32),
    /// Its end is missing, or something follows it.
    #[error("is cut off or has been added to: it holds {found} octets after its head and should hold {want}")]
    Length {
        /// What the head says.
        want: u64,
        /// What is there.
        found: u64,
    },
    /// Something in it has changed.
    #[error("is damaged: its checksum does not match")]
    Checksum,
    /// The checksum is right and the content is not: no typha wrote this.
    #[error("is damaged: {0}")]
    Format(&'static str),
}

/// The file's content. Documents must be in ascending order of keys.
pub fn encode(state: &State) -> Vec<u8> {
    let documents = state.documents.iter();
    let octets: usize = documents.map(|d| d.key.len() + d.value.len() + 24).sum();
    let mut file = Vec::with_capacity(HEAD + octets + 1024);
    file.put_slice(MAGIC);
    file.put_u32(VERSION);
    file.put_bytes(0, 8 + DIGEST);
    file.put_u64(u64::try_from(state.at.as_millis()).unwrap_or(u64::MAX));
    file.put_u64(state.revision);
    let welcome = Welcome {
        cluster_id: state.cluster_id.clone(),
        succeeds: state.succeeds.clone(),
        ..Welcome::default()
    };
    file.extend(welcome.encode_length_delimited_to_vec());
    for document in &state.documents {
        let change = Change {
            key: document.key.clone(),
            revision: document.revision,
            value: Some(document.value.to_vec()),
        };
        file.extend(change.encode_length_delimited_to_vec());
    }
    let (head, body) = file.split_at_mut(HEAD);
    let mut head = &mut head[MAGIC.len() + 4..];
    head.put_u64(body.len() as u64);
    head.put_slice(&Sha256::digest(body));
    file
}

/// Reads a file's content.
///
/// # Errors
/// [`StateError`]: nothing of it is to be used.
pub fn decode(mut file: Bytes) -> Result<State, StateError> {
    if !file.starts_with(MAGIC) {
        return Err(StateError::Foreign);
    }
    file.advance(MAGIC.len());
    let version = file.try_get_u32().map_err(|_| StateError::Foreign)?;
    if version != VERSION {
        return Err(StateError::Version(version));
    }
    let want = file.try_get_u64().map_err(|_| StateError::Foreign)?;
    let found = (file.len() as u64).saturating_sub(DIGEST as u64);
    if file.len() < DIGEST || found != want {
        return Err(StateError::Length { want, found });
    }
    let digest = file.split_to(DIGEST);
    if Sha256::digest(&file)[..] != digest[..] {
        return Err(StateError::Checksum);
    }
    body(file)
}

fn body(mut body: Bytes) -> Result<State, StateError> {
    let short = |_| StateError::Format("the time or the revision is missing");
    let at = Duration::from_millis(body.try_get_u64().map_err(short)?);
    let revision = body.try_get_u64().map_err(short)?;
    let welcome = Welcome::decode_length_delimited(&mut body);
    let welcome = welcome.map_err(|_| StateError::Format("which history it belongs to cannot be read"))?;
    if welcome.cluster_id.is_empty() {
        return Err(StateError::Format("which history it belongs to is missing"));
    }
    let mut documents: Vec<Document> = Vec::new();
    while body.has_remaining() {
        let change = Change::decode_length_delimited(&mut body);
        let change = change.map_err(|_| StateError::Format("a document cannot be read"))?;
        let value = change.value.ok_or(StateError::Format("a document has no value"))?;
        if documents.last().is_some_and(|before| before.key >= change.key) {
            return Err(StateError::Format("its keys are not in ascending order"));
        }
        if change.revision > revision {
            return Err(StateError::Format("a document is newer than the state"));
        }
        documents.push(Document {
            key: change.key,
            revision: change.revision,
            value: value.into(),
        });
    }
    Ok(State {
        cluster_id: welcome.cluster_id,
        succeeds: welcome.succeeds,
        revision,
        at,
        documents,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state() -> State {
        let document = |key: &str, revision, value: &'static [u8]| Document {
            key: key.to_owned(),
            revision,
            value: Bytes::from_static(value),
        };
        State {
            cluster_id: "c".to_owned(),
            succeeds: vec!["b".to_owned(), "a".to_owned()],
            revision: 12,
            at: Duration::from_millis(1_700_000_000_123),
            documents: vec![
                document("/calico/a", 7, b"{}"),
                document("/calico/b", 12, b""),
                document("/calico/c", 1, b"\xff\x00"),
            ],
        }
    }

    #[test]
    fn foreign_files_are_named_as_what_they_are() {
        let refused = |file: &[u8]| decode(Bytes::copy_from_slice(file)).unwrap_err();
        assert_eq!(refused(b""), StateError::Foreign);
        assert_eq!(refused(b"tortie-snapshot1 and more of it"), StateError::Foreign);
        assert_eq!(refused(MAGIC), StateError::Foreign);
        let mut other = encode(&state());
        other[15] = 9;
        assert_eq!(refused(&other), StateError::Version(9));
        let said = refused(&other).to_string();
        assert_eq!(said, "is a state file of version 9; this typha reads version 1");
        let good = encode(&state());
        let cut = refused(&good[..good.len() - 3]).to_string();
        assert!(cut.starts_with("is cut off"), "{cut}");
        let longer = [good.as_slice(), b"x"].concat();
        assert!(matches!(refused(&longer), StateError::Length { .. }));
        assert!(matches!(refused(&good[..20]), StateError::Foreign));
    }

    #[test]
    fn a_right_checksum_makes_no_state_of_nonsense() {
        let refused = |change: fn(&mut State)| {
            let mut state = state();
            change(&mut state);
            decode(encode(&state).into()).unwrap_err().to_string()
        };
        assert_eq!(
            refused(|s| s.cluster_id.clear()),
            "is damaged: which history it belongs to is missing"
        );
        assert_eq!(
            refused(|s| s.documents.swap(0, 1)),
            "is damaged: its keys are not in ascending order"
        );
        assert_eq!(
            refused(|s| s.revision = 3),
            "is damaged: a document is newer than the state"
        );
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            cluster_id in "[a-z]{1,8}", succeeds in proptest::collection::vec("[a-z]{1,8}", 0..3), millis in any::<u32>(),
            values in proptest::collection::btree_map("[a-z/]{1,12}", (0u64..100, proptest::collection::vec(any::<u8>(), 0..40)), 0..20),
        ) {
            let documents = values.into_iter().map(|(key, (revision, value))| Document { key, revision, value: value.into() });
            let at = Duration::from_millis(millis.into());
            let state = State { cluster_id, succeeds, revision: 100, at, documents: documents.collect() };
            prop_assert_eq!(decode(encode(&state).into()), Ok(state));
        }

        /// A truncated file or one with any octet changed is refused, never half used.
        #[test]
        fn damage_is_found(cut in 0usize..400, flip in 0usize..400, bits in 1u8..) {
            let good = encode(&state());
            let truncated = Bytes::copy_from_slice(&good[..cut.min(good.len() - 1)]);
            prop_assert!(decode(truncated).is_err());
            let mut flipped = good;
            let at = flip % flipped.len();
            flipped[at] ^= bits;
            prop_assert!(decode(flipped.into()).is_err());
        }
    }
}
