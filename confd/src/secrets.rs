//! Passwords of sessions, read from a directory as a mounted Kubernetes Secret has it: `DIR/<secret>/<key>`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use crate::state::{ClusterState, Secret};
use crate::view::SecretRef;

/// How often the directory is looked at. A mounted Secret is another directory under the same name after each change, which is
/// seen by asking for the files.
pub const POLL: Duration = Duration::from_secs(5);

/// The secrets that objects name.
pub fn wanted(state: &ClusterState) -> BTreeSet<SecretRef> {
    state.wanted_secrets()
}

/// Those of them that are there. One trailing newline, which editors add, is no part of a password.
pub fn read(dir: Option<&Path>, wanted: BTreeSet<SecretRef>) -> BTreeMap<SecretRef, Secret> {
    let Some(dir) = dir else { return BTreeMap::new() };
    let there = wanted.into_iter().filter_map(|secret| {
        if !is_file_name(&secret.name) || !is_file_name(&secret.key) {
            return None;
        }
        let text = std::fs::read_to_string(dir.join(&secret.name).join(&secret.key)).ok()?;
        let text = text.strip_suffix('\n').unwrap_or(&text).to_owned();
        Some((secret, Secret(text)))
    });
    there.collect()
}

/// Names come from the datastore: they must not lead out of the directory.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_never_outside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bgp")).unwrap();
        std::fs::write(dir.path().join("bgp/tor"), "pass word\n").unwrap();
        std::fs::write(dir.path().join("outside"), "no").unwrap();
        let secret = |name: &str, key: &str| SecretRef {
            name: name.into(),
            key: key.into(),
        };
        let wanted = [
            secret("bgp", "tor"),
            secret("bgp", "gone"),
            secret("..", "outside"),
            secret("bgp", "../outside"),
        ];
        let read = read(Some(dir.path()), wanted.into_iter().collect());
        assert_eq!(
            read,
            BTreeMap::from([(secret("bgp", "tor"), Secret("pass word".into()))])
        );
    }
}
