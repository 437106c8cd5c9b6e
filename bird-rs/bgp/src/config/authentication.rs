//! How the segments of a BGP session are signed: not at all, with TCP MD5 (RFC 2385), or with the TCP Authentication Option
//! (RFC 5925), whose keys may change while the session is up. No `Debug` here shows a secret.

use std::fmt;
use std::sync::Arc;

/// How segments are signed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authentication {
    /// Not at all.
    None,
    /// With the `password` (RFC 2385), at most 80 octets.
    Md5(String),
    /// With `keys` (RFC 5925).
    Ao(AoKeys),
}

/// One of the keys.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AoKey {
    /// `send id`: what our segments say.
    pub send_id: u8,
    /// `recv id`: what the peer's segments say.
    pub recv_id: u8,
    /// `secret`, 1 to 80 octets.
    pub secret: String,
    /// `algorithm`. Default `hmac sha1`.
    pub algorithm: AoAlgorithm,
    /// `preferred` or `deprecated`.
    pub preference: AoPreference,
}

/// How segments are signed with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AoAlgorithm {
    /// `hmac md5`.
    HmacMd5,
    /// `hmac sha1`, which every implementation has (RFC 5926).
    HmacSha1,
    /// `hmac sha224`.
    HmacSha224,
    /// `hmac sha256`.
    HmacSha256,
    /// `hmac sha384`.
    HmacSha384,
    /// `hmac sha512`.
    HmacSha512,
    /// `cmac aes128`, which every implementation has too.
    CmacAes128,
}

impl AoAlgorithm {
    /// The names in a configuration, and those that Linux has for them.
    pub(super) const NAMES: [(Self, &'static str, &'static str); 7] = [
        (AoAlgorithm::HmacMd5, "hmac md5", "hmac(md5)"),
        (AoAlgorithm::HmacSha1, "hmac sha1", "hmac(sha1)"),
        (AoAlgorithm::HmacSha224, "hmac sha224", "hmac(sha224)"),
        (AoAlgorithm::HmacSha256, "hmac sha256", "hmac(sha256)"),
        (AoAlgorithm::HmacSha384, "hmac sha384", "hmac(sha384)"),
        (AoAlgorithm::HmacSha512, "hmac sha512", "hmac(sha512)"),
        (AoAlgorithm::CmacAes128, "cmac aes128", "cmac(aes128)"),
    ];

    fn names(self) -> (&'static str, &'static str) {
        let row = Self::NAMES.iter().find(|(algorithm, ..)| *algorithm == self);
        row.map_or(("", ""), |(_, ours, kernel)| (ours, kernel))
    }

    /// As a configuration has it.
    pub fn as_str(self) -> &'static str {
        self.names().0
    }

    /// As Linux has it.
    pub fn kernel_name(self) -> &'static str {
        self.names().1
    }
}

/// Which of several keys the peer is asked to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AoPreference {
    /// Never this one; the peer may ask us for it.
    Deprecated,
    /// This one, if none is preferred.
    Plain,
    /// This one.
    Preferred,
}

/// The keys of a session: no two with the same send id or receive id, and at least one that is not deprecated.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AoKeys {
    selected: usize,
    keys: Arc<[AoKey]>,
}

/// Why keys cannot be those of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAoKeys {
    /// There is none that the peer may be asked to use.
    #[error("keys: at least one key that is not deprecated expected")]
    NoneUsable,
    /// Two have an identifier in common.
    #[error("keys: two keys have the {0} id {1}")]
    SameId(&'static str, u8),
}

/// What makes one set of keys of a connection another, step by step in this order.
#[derive(Clone, PartialEq, Eq)]
pub struct AoChange {
    /// Send and receive ids of the keys that go.
    pub remove: Vec<(u8, u8)>,
    /// Those of the key that takes over from one that was in use: it is in both sets.
    pub instead: (u8, u8),
    /// The keys that come.
    pub add: Vec<AoKey>,
    /// The receive id of the key that the peer is to use from now on.
    pub request: u8,
}

impl AoKey {
    /// Send and receive id.
    pub fn ids(&self) -> (u8, u8) {
        (self.send_id, self.recv_id)
    }

    /// For the kernel it is the same key, however much it is wanted.
    pub fn is_same(&self, other: &AoKey) -> bool {
        (self.ids(), self.algorithm, &self.secret) == (other.ids(), other.algorithm, &other.secret)
    }
}

impl AoKeys {
    /// A session's keys.
    ///
    /// # Errors
    /// [`BadAoKeys`].
    pub fn new(keys: Vec<AoKey>) -> Result<Self, BadAoKeys> {
        for (at, key) in keys.iter().enumerate() {
            let before = keys.iter().take(at);
            for other in before {
                if other.send_id == key.send_id {
                    return Err(BadAoKeys::SameId("send", key.send_id));
                } else if other.recv_id == key.recv_id {
                    return Err(BadAoKeys::SameId("recv", key.recv_id));
                }
            }
        }
        let selected = best(&keys).ok_or(BadAoKeys::NoneUsable)?;
        Ok(AoKeys {
            selected,
            keys: keys.into(),
        })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &AoKey> {
        self.keys.iter()
    }

    /// The one to begin with, which the peer is asked to use too: the first of those that are wanted most.
    pub fn selected(&self) -> &AoKey {
        self.keys
            .get(self.selected)
            .expect("invariant: the index is one of `new`'s own enumeration, and the keys never change")
    }

    /// Those of `other` that are not here.
    pub fn lacks<'a>(&'a self, other: &'a AoKeys) -> impl Iterator<Item = &'a AoKey> {
        other.iter().filter(|key| !self.iter().any(|own| own.is_same(key)))
    }

    /// How a connection that has these keys gets others without being closed. `None`: there is no key in both that the peer
    /// may be asked to use, so that in between there would be no key at all.
    pub fn towards(&self, new: &AoKeys) -> Option<AoChange> {
        let common: Vec<AoKey> = new
            .iter()
            .filter(|key| self.iter().any(|own| own.is_same(key)))
            .cloned()
            .collect();
        let instead = common.get(best(&common)?)?.ids();
        Some(AoChange {
            remove: new.lacks(self).map(AoKey::ids).collect(),
            instead,
            add: self.lacks(new).cloned().collect(),
            request: new.selected().recv_id,
        })
    }
}

/// The place of the first of those that are wanted most.
fn best(keys: &[AoKey]) -> Option<usize> {
    let wanted = keys.iter().map(|key| key.preference).max()?;
    let usable = wanted > AoPreference::Deprecated;
    keys.iter().position(|key| usable && key.preference == wanted)
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Authentication::None => f.write_str("None"),
            Authentication::Md5(_) => f.write_str("Md5"),
            Authentication::Ao(keys) => f.debug_tuple("Ao").field(keys).finish(),
        }
    }
}

impl fmt::Debug for AoKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(AoKey::ids)).finish()
    }
}

impl fmt::Debug for AoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AoKey{:?}", self.ids())
    }
}

impl fmt::Debug for AoChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AoChange")
            .field("remove", &self.remove)
            .field("instead", &self.instead)
            .field("add", &self.add)
            .field("request", &self.request)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u8, secret: &str, preference: AoPreference) -> AoKey {
        AoKey {
            send_id: id,
            recv_id: id + 100,
            secret: secret.to_owned(),
            algorithm: AoAlgorithm::HmacSha1,
            preference,
        }
    }

    fn keys(keys: &[(u8, &str, AoPreference)]) -> AoKeys {
        AoKeys::new(keys.iter().map(|(id, secret, p)| key(*id, secret, *p)).collect()).unwrap()
    }

    use AoPreference::{Deprecated, Plain, Preferred};

    #[test]
    fn the_first_of_the_most_wanted_is_selected() {
        for (given, selected) in [
            (&[(1, "a", Plain), (2, "b", Plain)][..], 1),
            (&[(1, "a", Plain), (2, "b", Preferred), (3, "c", Preferred)], 2),
            (&[(1, "a", Deprecated), (2, "b", Plain)], 2),
        ] {
            assert_eq!(keys(given).selected().send_id, selected);
        }
        let none = AoKeys::new(vec![key(1, "a", Deprecated)]);
        assert_eq!(none.unwrap_err(), BadAoKeys::NoneUsable);
        assert_eq!(AoKeys::new(Vec::new()).unwrap_err(), BadAoKeys::NoneUsable);
    }

    #[test]
    fn identifiers_are_unique_in_each_direction() {
        let (first, mut second) = (key(1, "a", Plain), key(1, "b", Plain));
        let both = |second: &AoKey| AoKeys::new(vec![first.clone(), second.clone()]);
        assert_eq!(both(&second).unwrap_err(), BadAoKeys::SameId("send", 1));
        second.send_id = 2;
        assert_eq!(both(&second).unwrap_err(), BadAoKeys::SameId("recv", 101));
        // What one sends may be what another receives.
        (second.send_id, second.recv_id) = (101, 1);
        assert!(both(&second).is_ok());
    }

    #[test]
    fn a_connection_changes_its_keys_as_long_as_one_stays() {
        let old = keys(&[(1, "a", Plain), (2, "b", Plain)]);
        let new = keys(&[(1, "a", Plain), (2, "other", Plain), (3, "c", Preferred)]);
        let change = old.towards(&new).unwrap();
        assert_eq!(change.remove, [(2, 102)], "the same identifiers, another secret");
        assert_eq!(change.instead, (1, 101));
        assert_eq!(
            change.add.iter().map(AoKey::ids).collect::<Vec<_>>(),
            [(2, 102), (3, 103)]
        );
        assert_eq!(change.request, 103);
        // The only one that stays is not to be used any more.
        assert_eq!(old.towards(&keys(&[(1, "a", Deprecated), (3, "c", Plain)])), None);
        assert_eq!(old.towards(&keys(&[(1, "x", Plain)])), None);
        // Only what is wanted changes.
        let change = old.towards(&keys(&[(1, "a", Deprecated), (2, "b", Plain)])).unwrap();
        assert_eq!((change.remove.len(), change.add.len(), change.request), (0, 0, 102));
    }

    #[test]
    fn secrets_are_not_printed() {
        let old = keys(&[(1, "hush", Plain), (2, "b", Plain)]);
        let change = old.towards(&keys(&[(2, "b", Plain), (3, "hush", Plain)]));
        let all = format!(
            "{:?} {change:?} {:?}",
            Authentication::Ao(old.clone()),
            Authentication::Md5("hush".to_owned())
        );
        assert!(!all.contains("hush"), "{all}");
        assert!(all.contains("(1, 101)"), "{all}");
    }
}
