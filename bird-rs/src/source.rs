//! The configuration: from files to a checked value.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tortie_bgp::config::{self, Config, Diagnostic, InterfacePattern, Loader};
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

    /// Something about a file as a whole.
    pub(crate) fn of_file(file: &str, message: String) -> Self {
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
    match (errno, error.kind()) {
        (Some(errno), _) => errno.desc().to_owned(),
        (None, io::ErrorKind::InvalidData) => "This is no text in UTF-8".to_owned(),
        (None, _) => error.to_string(),
    }
}

/// Checks a text.
///
/// # Errors
/// [`Rejected`].
pub(crate) fn parse(name: &str, text: &str) -> Result<Arc<Config>, Rejected> {
    config::parse(name, text, &mut Files).map(Arc::new).map_err(Rejected)
}

/// What a configuration may leave to the host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    /// All of its addresses.
    pub(crate) addresses: Vec<InterfaceAddress>,
    /// As the kernel has it.
    pub(crate) name: String,
}

/// The host's name in the kernel; empty when that does not say.
pub(crate) fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}

/// Gives a configuration without `hostname` the host's, and one without `router id` the one that is in force, or else, as BIRD
/// does, the lowest IPv4 address of the host (of the interfaces in `router id from`) that is neither loopback nor link-local.
///
/// # Errors
/// [`Rejected`] when there is no such address.
pub(crate) fn completed(
    config: &Config,
    file: &str,
    host: &Host,
    in_force: Option<RouterId>,
) -> Result<Arc<Config>, Rejected> {
    let mut config = config.clone();
    if config.hostname.is_none() && !host.name.is_empty() {
        config.hostname = Some(host.name.as_str().into());
    }
    let kept = in_force.filter(|_| config.router_id_from.is_empty());
    config.router_id = config.router_id.or(kept).or_else(|| lowest(&config, host)).or(in_force);
    if config.router_id.is_none() {
        let message = "no router id: the host has no IPv4 address to take it from; add 'router id 192.0.2.1;'";
        return Err(Rejected::of_file(file, message.to_owned()));
    }
    Ok(Arc::new(config))
}

fn lowest(config: &Config, host: &Host) -> Option<RouterId> {
    let from = &config.router_id_from;
    let wanted = host
        .addresses
        .iter()
        .filter(|a| from.is_empty() || InterfacePattern::selects(from, &a.interface, a.address));
    let usable = wanted.filter_map(|a| match a.address {
        IpAddr::V4(addr) if !(addr.is_loopback() || addr.is_unspecified() || addr.is_link_local()) => {
            Some(RouterId::from(addr))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    });
    usable.min()
}

/// `include` from the file system.
struct Files;

impl Loader for Files {
    fn load(&mut self, from: &str, pattern: &str) -> Result<Vec<(String, String)>, String> {
        let path = match Path::new(from).parent() {
            Some(folder) => folder.join(pattern),
            None => PathBuf::from(pattern),
        };
        let mut paths = expanded(&path)?;
        // Without a wildcard a name that does not exist is an error.
        if has_wildcard(&path) {
            paths.retain(|path| path.is_file());
        }
        paths.sort();
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

/// So many files one `include` may name.
const MAX_INCLUDED: usize = 10_000;

fn has_wildcard(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

/// What a path with wildcards in any of its parts stands for.
fn expanded(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let mut paths = vec![PathBuf::new()];
    for part in pattern.components() {
        let name = part.as_os_str();
        if !has_wildcard(Path::new(name)) {
            paths.iter_mut().for_each(|path| path.push(name));
            continue;
        }
        let mut next = Vec::new();
        for folder in paths {
            let here = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                &folder
            };
            // A file where a folder would have to be has nothing in it.
            if here.is_dir() {
                next.extend(matching(here, &name.to_string_lossy())?);
            }
            if next.len() > MAX_INCLUDED {
                return Err(format!("more than {MAX_INCLUDED} files match"));
            }
        }
        paths = next;
    }
    Ok(paths)
}

/// What is in a folder under names that match. Hidden ones need a pattern that begins with a dot.
fn matching(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let entries =
        fs::read_dir(folder).map_err(|error| format!("'{}' cannot be read: {}", folder.display(), said(&error)))?;
    let pattern: Vec<char> = pattern.chars().collect();
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("'{}' cannot be read: {}", folder.display(), said(&error)))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let hidden = name.starts_with('.') && pattern.first() != Some(&'.');
        if !hidden && wildcard(&pattern, &name.chars().collect::<Vec<_>>()) {
            paths.push(entry.path());
        }
    }
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
        for name in ["d2/x.conf", "d1/y.conf", "d1/.hidden.conf"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let found = Files.load(&from, "d?/*.conf").unwrap();
        let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["d1/y.conf", "d2/x.conf"], "wildcards in folders");
        assert_eq!(Files.load(&from, "a.conf/*.conf"), Ok(Vec::new()));
        let absolute = folder.path().join("d*/x.conf").display().to_string();
        assert_eq!(Files.load("elsewhere.conf", &absolute).unwrap().len(), 1);
    }

    #[test]
    fn the_router_id_is_the_lowest_address_and_stays() {
        let addresses = [
            ("lo", "127.0.0.1"),
            ("eth0", "169.254.1.1"),
            ("eth0", "10.0.0.9"),
            ("eth1", "10.0.0.5"),
        ];
        let host = |addresses: &[(&str, &str)]| Host {
            addresses: addresses
                .iter()
                .map(|(interface, address)| InterfaceAddress {
                    interface: (*interface).into(),
                    address: address.parse().unwrap(),
                    subnet: tortie_net::Prefix::host(address.parse().unwrap()),
                })
                .collect(),
            name: "node".to_owned(),
        };
        let chosen = |text: &str, addresses: &[(&str, &str)], in_force: Option<&str>| {
            let config = parse("x.conf", text).unwrap();
            let in_force = in_force.map(|id| RouterId::from(id.parse::<std::net::Ipv4Addr>().unwrap()));
            let completed = completed(&config, "x.conf", &host(addresses), in_force);
            completed.map(|config| config.router_id.unwrap().to_string())
        };
        let ok = |id: &str| Ok(id.to_owned());
        assert_eq!(chosen("", &addresses, None), ok("10.0.0.5"));
        assert_eq!(
            chosen("", &addresses, Some("10.0.0.9")),
            ok("10.0.0.9"),
            "sessions would restart"
        );
        assert_eq!(
            chosen("router id 1.2.3.4;", &addresses, Some("10.0.0.9")),
            ok("1.2.3.4")
        );
        assert_eq!(chosen("router id from \"eth0\";", &addresses, None), ok("10.0.0.9"));
        assert_eq!(
            chosen("router id from -10.0.0.5, \"eth*\";", &addresses, Some("9.9.9.9")),
            ok("10.0.0.9")
        );
        assert_eq!(
            chosen("router id from \"eth7\";", &addresses, Some("9.9.9.9")),
            ok("9.9.9.9")
        );
        assert!(chosen("router id from \"eth7\";", &addresses, None).is_err());
        assert!(chosen("", &addresses[..2], None).is_err());
    }

    #[test]
    fn the_hostname_is_the_hosts_unless_said() {
        let host = Host {
            addresses: Vec::new(),
            name: "node".to_owned(),
        };
        for (text, name) in [
            ("router id 1.1.1.1;", "node"),
            ("router id 1.1.1.1; hostname \"x y\";", "x y"),
        ] {
            let config = completed(&parse("x.conf", text).unwrap(), "x.conf", &host, None).unwrap();
            assert_eq!(config.hostname.as_deref(), Some(name));
        }
    }
}
