//! What templates read: keys that are paths, and their values.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use globset::GlobBuilder;

/// Keys, each `/a/b/c`, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<String, String>);

/// The path as keys are written: one slash in front, none behind, none twice; `.` and `..` are resolved.
pub fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.extend(part.to_str()),
            Component::ParentDir => {
                parts.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    format!("/{}", parts.join("/"))
}

/// What is below `path`, as far as `key` is: `/a/b` below `/a` is `b`; a key is not below itself.
fn below<'a>(key: &'a str, path: &str) -> Option<&'a str> {
    match path {
        "/" => key.strip_prefix('/'),
        _ => key.strip_prefix(path)?.strip_prefix('/'),
    }
}

impl Keys {
    /// The value that was there before, if any.
    pub fn insert(&mut self, key: &str, value: String) -> Option<String> {
        self.0.insert(normal(key), value)
    }

    /// The value that was there, if any.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        self.0.remove(&normal(key))
    }

    /// The value of one key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(&normal(key)).map(String::as_str)
    }

    /// All, in the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Those whose whole key matches the pattern: `*` is any part of a name, `?` one character, `[a-c]` one of these.
    ///
    /// # Errors
    /// What is wrong with the pattern.
    pub fn matching(&self, pattern: &str) -> Result<Vec<(&str, &str)>, String> {
        let glob = GlobBuilder::new(&normal(pattern))
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|e| format!("pattern '{pattern}': {}", e.kind()))?
            .compile_matcher();
        Ok(self.iter().filter(|(k, _)| glob.is_match(k)).collect())
    }

    /// The names directly below `path`; those that have something below themselves only, if `parents`.
    pub fn children(&self, path: &str, parents: bool) -> Vec<&str> {
        let path = normal(path);
        let mut names: Vec<&str> = Vec::new();
        for rest in self.0.keys().filter_map(|k| below(k, &path)) {
            let (name, deeper) = rest.split_once('/').map_or((rest, false), |(name, _)| (name, true));
            if deeper || !parents {
                names.push(name);
            }
        }
        // `a`, `a-b`, `a/c` is the order of keys: equal names are not always neighbours.
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The keys at and below these paths, all of them seen from `prefix`: `/app/db` is `/db` from `/app`. No other key is
    /// looked at.
    pub fn seen_from(&self, prefix: &str, paths: &[String]) -> Keys {
        let prefix = normal(prefix);
        let mut seen = BTreeMap::new();
        for path in paths {
            let whole = normal(&format!("{prefix}/{}", normal(path)));
            for (key, value) in self.within(&whole) {
                if let Some(rest) = below(key, &prefix) {
                    seen.insert(format!("/{rest}"), value.to_owned());
                }
            }
        }
        Keys(seen)
    }

    /// A path that is normal, and what is below it.
    fn within(&self, path: &str) -> impl Iterator<Item = (&str, &str)> {
        let exactly = self.0.get_key_value(path);
        let folder = format!("{}/", path.trim_end_matches('/'));
        let from = self.0.range(folder.clone()..);
        let inside = from.take_while(move |(key, _)| key.starts_with(&folder));
        let all = exactly.into_iter().chain(inside);
        all.map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let mut keys = Keys::default();
        for key in [
            "/app/db/url",
            "/app/db/user",
            "app/db-old",
            "/app/name/",
            "/application",
        ] {
            keys.insert(key, format!("v{key}"));
        }
        keys
    }

    #[test]
    fn paths_are_made_equal() {
        for (path, is) in [
            ("a//b/", "/a/b"),
            ("/", "/"),
            ("", "/"),
            ("/a/../b/./c", "/b/c"),
            ("../..", "/"),
        ] {
            assert_eq!(normal(path), is, "{path}");
        }
    }

    #[test]
    fn children_are_names_and_no_key_is_below_its_sibling() {
        let keys = keys();
        assert_eq!(keys.children("/app", false), ["db", "db-old", "name"]);
        assert_eq!(keys.children("/app/", true), ["db"]);
        assert_eq!(keys.children("/", false), ["app", "application"]);
        assert!(keys.children("/app/name", false).is_empty());
    }

    #[test]
    fn patterns_stay_within_a_name() {
        let keys = keys();
        let found = |p: &str| {
            keys.matching(p)
                .unwrap()
                .into_iter()
                .map(|(k, _)| k)
                .collect::<Vec<_>>()
        };
        assert_eq!(found("/app/*"), ["/app/db-old", "/app/name"]);
        assert_eq!(found("/app/*/us?r"), ["/app/db/user"]);
        assert_eq!(found("/app/db/u[a-r]*"), ["/app/db/url"]);
        assert!(keys.matching("/a[").unwrap_err().contains("/a["));
    }

    #[test]
    fn a_prefix_is_whole_names() {
        let seen = keys().seen_from("/app", &["/db".into()]);
        let found: Vec<_> = seen.iter().map(|(k, _)| k).collect();
        assert_eq!(found, ["/db/url", "/db/user"]);
        assert_eq!(keys().seen_from("", &["/app/name".into()]).iter().count(), 1);
    }
}
