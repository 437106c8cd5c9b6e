//! The configuration: from files to a checked value.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tortie_bgp::config::{self, Config, Diagnostic, Loader};
use tortie_bgp::speaker::InterfaceAddress;
use tortie_net::RouterId;

/// A configuration that cannot be used, and everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejected(pub(crate) Vec<Diagnostic>);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "\n" })?;
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl Rejected {
    /// The parser itself failed.
    pub(crate) fn internal(error: &str) -> Self {
        Self::of_file("", format!("internal error while reading the configuration: {error}"))
    }

    fn of_file(file: &str, message: String) -> Self {
        Rejected(vec![Diagnostic {
            file: file.to_owned(),
            line: 0,
            column: 0,
            message,
            hint: None,
            excerpt: String::new(),
        }])
    }
}

/// Reads and checks a file.
///
/// # Errors
/// [`Rejected`], also when the file cannot be read.
pub(crate) fn load(path: &Path) -> Result<Arc<Config>, Rejected> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| Rejected::of_file(&name, said(&error)))?;
    parse(&name, &text)
}

/// What the system says of an error, as `perror` writes it.
fn said(error: &io::Error) -> String {
    let errno = error.raw_os_error().map(nix::errno::Errno::from_raw);
    errno.map_or_else(|| error.to_string(), |errno| errno.desc().to_owned())
}

/// Checks a text.
///
/// # Errors
/// [`Rejected`].
pub(crate) fn parse(name: &str, text: &str) -> Result<Arc<Config>, Rejected> {
    config::parse(name, text, &mut Files).map(Arc::new).map_err(Rejected)
}

/// Gives a configuration without `router id` one, as BIRD does: the lowest IPv4 address of the host that is not loopback.
///
/// # Errors
/// [`Rejected`] when there is no such address.
pub(crate) fn with_router_id(
    config: Arc<Config>,
    file: &str,
    addresses: &[InterfaceAddress],
) -> Result<Arc<Config>, Rejected> {
    if config.router_id.is_some() {
        return Ok(config);
    }
    let lowest = addresses
        .iter()
        .filter_map(|address| match address.address {
            IpAddr::V4(addr) if !addr.is_loopback() && !addr.is_unspecified() => Some(RouterId::from(addr)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        })
        .min();
    let Some(router_id) = lowest else {
        let message = "no router id: the host has no IPv4 address to take it from; add 'router id 192.0.2.1;'";
        return Err(Rejected::of_file(file, message.to_owned()));
    };
    Ok(Arc::new(Config {
        router_id: Some(router_id),
        ..(*config).clone()
    }))
}

/// `include` from the file system.
struct Files;

impl Loader for Files {
    fn load(&mut self, from: &str, pattern: &str) -> Result<Vec<(String, String)>, String> {
        let path = match Path::new(from).parent() {
            Some(folder) => folder.join(pattern),
            None => PathBuf::from(pattern),
        };
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        if folder.to_string_lossy().contains(['*', '?', '[']) {
            return Err("wildcards are only known in the last part of a path".to_owned());
        }
        let paths = if name.contains(['*', '?', '[']) {
            matching(folder, &name)?
        } else {
            vec![path]
        };
        paths
            .into_iter()
            .map(|path| {
                let name = path.display().to_string();
                let text =
                    fs::read_to_string(&path).map_err(|error| format!("'{name}' cannot be read: {}", said(&error)))?;
                Ok((name, text))
            })
            .collect()
    }
}

/// The files of a folder whose names match, sorted. Hidden files need a pattern that begins with a dot.
fn matching(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("'{}' cannot be read: {error}", folder.display()))?;
    let pattern: Vec<char> = pattern.chars().collect();
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("'{}' cannot be read: {error}", folder.display()))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let hidden = name.starts_with('.') && pattern.first() != Some(&'.');
        if !hidden && entry.path().is_file() && wildcard(&pattern, &name.chars().collect::<Vec<_>>()) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// `*`, `?` and `[a-z]` as in a shell. In time proportional to pattern times name.
fn wildcard(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut pos) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if at == pattern.len() && pos == name.len() {
            return true;
        }
        if pattern.get(at) == Some(&'*') {
            star = Some((at + 1, pos));
            at += 1;
            continue;
        }
        if let (Some(rest), Some(&letter)) = (pattern.get(at..), name.get(pos))
            && let Some(used) = one(rest, letter)
        {
            at += used;
            pos += 1;
            continue;
        }
        match star {
            Some((after, from)) if from < name.len() => {
                star = Some((after, from + 1));
                (at, pos) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// How many letters of the pattern stand for this one letter, if it fits.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => {
            let end = pattern.iter().skip(2).position(|&c| c == ']')? + 2;
            let mut set = pattern.get(1..end)?;
            let negated = matches!(set.first(), Some('!' | '^'));
            if negated {
                set = set.get(1..)?;
            }
            let mut found = false;
            while let Some((&low, rest)) = set.split_first() {
                if let ['-', high, after @ ..] = rest {
                    found |= (low..=*high).contains(&letter);
                    set = after;
                } else {
                    found |= low == letter;
                    set = rest;
                }
            }
            (found != negated).then_some(end + 1)
        }
        &c => (c == letter).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_are_a_shells() {
        let matches = |pattern: &str, name: &str| {
            wildcard(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
        };
        assert!(matches("*.conf", "a.conf") && matches("*", "") && matches("a*b*c", "axxbyyc"));
        assert!(matches("peer?.[a-c]*", "peer1.bx") && matches("[!x]y", "ay"));
        assert!(!matches("*.conf", "a.conf~") && !matches("a?", "a") && !matches("[!x]y", "xy"));
        assert!(!matches("a*a*a*a*a*a*a*a*b", &"a".repeat(200)));
    }

    #[test]
    fn includes_are_read_relative_and_sorted() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", "c.txt"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let from = folder.path().join("bird.conf").display().to_string();
        let texts: Vec<String> = Files
            .load(&from, "*.conf")
            .unwrap()
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(texts, ["a.conf", "b.conf"]);
        assert!(
            Files
                .load(&from, "none.conf")
                .unwrap_err()
                .contains("none.conf' cannot be read")
        );
        assert_eq!(Files.load(&from, "none*.conf"), Ok(Vec::new()));
    }
}
