//! The last good state on disk.
//!
//! Layout: magic, SHA-256 of the rest, milliseconds since the epoch (u64, big endian), then three length-delimited
//! protobuf messages of the sync contract: the `Open` this state answers (prefixes and position), and the state as one
//! `Batch`. Replaced atomically; a file that is damaged, of another version or made for other prefixes is reported and
//! not used.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use sha2::{Digest, Sha256};
use tortie_proto::sync::{self, Batch, Change, Open};

use crate::engine::Position;
use crate::{Engine, Versioned};

const MAGIC: &[u8; 16] = b"tortie-snapshot1";
const DIGEST: usize = 32;

/// A state read from disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) position: Position,
    /// Since it was saved; zero when the clock went backwards.
    pub(crate) age: Duration,
    pub(crate) entries: Vec<(String, Versioned)>,
}

/// Why a snapshot file is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("cannot be read: {0}")]
    Io(io::Error),
    #[error("is not a snapshot of this version")]
    Magic,
    #[error("is damaged: its checksum does not match")]
    Checksum,
    #[error("is damaged: {0}")]
    Format(#[from] prost::DecodeError),
    #[error("is damaged: {0} is missing")]
    Missing(&'static str),
    #[error("was made for other key prefixes")]
    Prefixes,
}

/// The file's content for what the engine holds; `None` while it has no complete state.
pub(crate) fn encode(engine: &Engine, prefixes: &[String], now: SystemTime) -> Option<Vec<u8>> {
    let position = engine.position()?;
    let resume = sync::Position {
        cluster_id: position.cluster_id.clone(),
        revision: position.revision,
    };
    let open = Open {
        hello: None,
        prefixes: prefixes.to_vec(),
        resume: Some(resume),
    };
    let changes = engine.entries().map(|(key, v)| Change {
        key: key.clone(),
        revision: v.revision,
        value: Some(v.value.to_vec()),
    });
    let batch = Batch {
        revision: position.revision,
        changes: changes.collect(),
    };
    let mut body = Vec::with_capacity(batch.encoded_len() + 256);
    let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    body.put_u64(u64::try_from(millis).unwrap_or(u64::MAX));
    body.extend(open.encode_length_delimited_to_vec());
    body.extend(batch.encode_length_delimited_to_vec());
    let mut file = MAGIC.to_vec();
    file.extend(Sha256::digest(&body));
    file.extend(body);
    Some(file)
}

/// Reads the file. `None`: there is none.
pub(crate) fn load(path: &Path, prefixes: &[String], now: SystemTime) -> Result<Option<Saved>, LoadError> {
    match std::fs::read(path) {
        Ok(bytes) => decode(Bytes::from(bytes), prefixes, now).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(LoadError::Io(e)),
    }
}

fn decode(mut file: Bytes, prefixes: &[String], now: SystemTime) -> Result<Saved, LoadError> {
    if !file.starts_with(MAGIC) {
        return Err(LoadError::Magic);
    }
    file.advance(MAGIC.len());
    if file.len() < DIGEST {
        return Err(LoadError::Checksum);
    }
    let digest = file.split_to(DIGEST);
    if Sha256::digest(&file)[..] != digest[..] {
        return Err(LoadError::Checksum);
    }
    let saved = UNIX_EPOCH + Duration::from_millis(file.try_get_u64().map_err(|_| LoadError::Missing("the time"))?);
    let open = Open::decode_length_delimited(&mut file)?;
    if open.prefixes != prefixes {
        return Err(LoadError::Prefixes);
    }
    let position = open.resume.ok_or(LoadError::Missing("the position"))?;
    let batch = Batch::decode_length_delimited(&mut file)?;
    let entries = batch.changes.into_iter().map(|c| {
        let value = Bytes::from(c.value.unwrap_or_default());
        (
            c.key,
            Versioned {
                value,
                revision: c.revision,
            },
        )
    });
    Ok(Saved {
        position: Position {
            cluster_id: position.cluster_id,
            revision: position.revision,
        },
        age: now.duration_since(saved).unwrap_or_default(),
        entries: entries.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn engine() -> Engine {
        let mut engine = Engine::new(vec!["/calico/".into()]);
        let value = |v: &'static str, revision| Versioned {
            value: Bytes::from_static(v.as_bytes()),
            revision,
        };
        let entries = [
            ("/calico/a".to_owned(), value("{}", 7)),
            ("/calico/b".to_owned(), value("[1]", 9)),
        ];
        engine.restore(
            Position {
                cluster_id: "c".into(),
                revision: 12,
            },
            entries,
        );
        engine
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let prefixes = ["/calico/".to_owned()];
        let then = UNIX_EPOCH + Duration::from_secs(1_000);
        let file = Bytes::from(encode(&engine(), &prefixes, then).unwrap());
        let saved = decode(file.clone(), &prefixes, then + Duration::from_secs(60)).unwrap();
        assert_eq!(
            saved.position,
            Position {
                cluster_id: "c".into(),
                revision: 12
            }
        );
        assert_eq!(saved.age, Duration::from_secs(60));
        assert_eq!(saved.entries.len(), 2);
        assert_eq!(&saved.entries[1].1.value[..], b"[1]");
        assert_eq!(saved.entries[1].1.revision, 9);
        assert!(matches!(decode(file, &[], then), Err(LoadError::Prefixes)));
        assert_eq!(
            encode(&Engine::new(vec![]), &prefixes, then),
            None,
            "nothing complete is held"
        );
    }

    #[test]
    fn a_missing_file_is_no_error_and_an_unreadable_one_is() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(load(&dir.path().join("none"), &[], UNIX_EPOCH), Ok(None)));
        assert!(matches!(load(dir.path(), &[], UNIX_EPOCH), Err(LoadError::Io(_))));
    }

    proptest! {
        /// A truncated file or one with any octet changed is refused, never half used.
        #[test]
        fn damage_is_found(cut in 0usize..200, flip in 0usize..200, bits in 1u8..) {
            let prefixes = ["/calico/".to_owned()];
            let good = encode(&engine(), &prefixes, UNIX_EPOCH).unwrap();
            let truncated = Bytes::copy_from_slice(&good[..cut.min(good.len() - 1)]);
            prop_assert!(decode(truncated, &prefixes, UNIX_EPOCH).is_err());
            let mut flipped = good;
            let at = flip % flipped.len();
            flipped[at] ^= bits;
            prop_assert!(decode(flipped.into(), &prefixes, UNIX_EPOCH).is_err());
        }
    }
}
