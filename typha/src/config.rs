//! What typha is told on its command line.

use std::path::{Path, PathBuf};

use clap::Parser;
use tortie_kit::address::ServiceAddr;
use tortie_kit::http::HttpArgs;
use tortie_kit::telemetry::LogArgs;
use tortie_kit::tls::TlsArgs;

use tortie_etcd::{EtcdArgs, EtcdConfigError};

use crate::sync::log::Limits;

/// The one gateway between the datastore and every agent.
#[derive(Debug, Parser)]
#[command(name = "typha", version)]
pub(crate) struct Config {
    /// The embedded datastore: one file, made when it does not exist
    #[arg(long, env = "TORTIE_DATASTORE", value_name = "FILE")]
    pub(crate) datastore: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) etcd: EtcdArgs,
    /// With etcd: keep the last good state in this file; served, marked as old, when typha begins and etcd does not answer.
    /// `none`: keep nothing [default: /var/lib/tortie/typha/state]
    #[arg(long, env = "TORTIE_STATE", value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// The other typhas of this datastore, as clients reach them, tcp:host:port; they are sent there when this one stops
    #[arg(long, env = "TORTIE_PEERS", value_name = "ADDR", value_delimiter = ',')]
    pub(crate) peers: Vec<ServiceAddr>,
    /// Serve clients here, unix:/path or tcp:host:port; may be repeated
    #[arg(
        long,
        env = "TORTIE_LISTEN",
        value_name = "ADDR",
        required = true,
        value_delimiter = ','
    )]
    pub(crate) listen: Vec<ServiceAddr>,
    /// TLS for tcp listeners: clients must show a certificate of the authority, which says what they may write
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// Allow tcp listeners without TLS: whoever reaches them may read and write everything
    #[arg(long)]
    pub(crate) insecure: bool,
    #[command(flatten)]
    pub(crate) memory: MemoryArgs,
    #[command(flatten)]
    pub(crate) http: HttpArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// What typha may hold in memory besides the state itself.
///
/// The recent changes are what a client that was away needs in the place of a whole snapshot.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct MemoryArgs {
    /// Recent changes that are held for clients that come back, in batches as the datastore gave them
    #[arg(
        long,
        env = "TORTIE_CHANGES_KEPT",
        value_name = "N",
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    changes_kept: u32,
    /// MiB of documents that these changes may have; and once more as they are sent, for each kind of client
    #[arg(
        long,
        env = "TORTIE_CHANGES_MEMORY",
        value_name = "MIB",
        default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=65_536)
    )]
    changes_memory: u32,
    /// MiB of the embedded datastore's file that are held
    #[arg(
        long,
        env = "TORTIE_CACHE_MEMORY",
        value_name = "MIB",
        default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=65_536)
    )]
    cache_memory: u32,
}

impl MemoryArgs {
    /// Of the recent changes.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            changes: usize::try_from(self.changes_kept).unwrap_or(usize::MAX),
            octets: octets(self.changes_memory),
        }
    }

    /// Of the embedded datastore's file, in octets.
    pub(crate) fn cache(&self) -> usize {
        octets(self.cache_memory)
    }
}

fn octets(mib: u32) -> usize {
    usize::try_from(u64::from(mib) << 20).unwrap_or(usize::MAX)
}

/// A command line that parses and still cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error(
        "--listen {0}: tcp without TLS lets everybody who reaches it write; give --tls-ca, --tls-cert and --tls-key, use \
         unix:/path, or add --insecure"
    )]
    Insecure(ServiceAddr),
    #[error("--insecure and --tls-cert exclude each other")]
    Both,
    #[error("--listen {0}: given twice")]
    Twice(ServiceAddr),
    #[error("no datastore: use --datastore FILE or --etcd-endpoints URL")]
    NoDatastore,
    #[error(
        "--state {0}: it is for a datastore that is elsewhere (--etcd-endpoints); the file of --datastore is at hand \
         whenever typha is"
    )]
    StateOfFile(String),
    #[error("--datastore and --etcd-endpoints exclude each other")]
    TwoDatastores,
    #[error(transparent)]
    Etcd(#[from] EtcdConfigError),
}

/// Where the state is kept unless the command line says otherwise: beside what the other programs keep there.
const DEFAULT_STATE: &str = "/var/lib/tortie/typha/state";
/// In the place of a file: keep nothing.
const NONE: &str = "none";

impl Config {
    /// Where the last good state of a datastore that is elsewhere is kept, if it is.
    pub(crate) fn state_file(&self) -> Option<&Path> {
        let file = self.state.as_deref().unwrap_or(Path::new(DEFAULT_STATE));
        (self.etcd.is_used() && file.as_os_str() != NONE).then_some(file)
    }

    /// Everything that is wrong with it.
    pub(crate) fn errors(&self) -> Vec<ConfigError> {
        let mut errors: Vec<ConfigError> = self.etcd.errors().into_iter().map(ConfigError::from).collect();
        match (&self.datastore, self.etcd.is_used()) {
            (None, false) => errors.push(ConfigError::NoDatastore),
            (Some(_), true) => errors.push(ConfigError::TwoDatastores),
            (Some(_), false) | (None, true) => {}
        }
        if let (Some(state), Some(_)) = (self.state.as_ref().filter(|s| s.as_os_str() != NONE), &self.datastore) {
            errors.push(ConfigError::StateOfFile(state.display().to_string()));
        }
        if self.insecure && self.tls.files().is_some() {
            errors.push(ConfigError::Both);
        }
        for (n, addr) in self.listen.iter().enumerate() {
            if matches!(addr, ServiceAddr::Tcp(_)) && !self.insecure && self.tls.files().is_none() {
                errors.push(ConfigError::Insecure(addr.clone()));
            }
            if self.listen[..n].contains(addr) {
                errors.push(ConfigError::Twice(addr.clone()));
            }
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(args: &[&str]) -> Vec<String> {
        let base = ["typha", "--datastore", "/x"];
        let config = Config::try_parse_from(base.iter().chain(args)).unwrap();
        config.errors().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn there_is_one_datastore() {
        let said = |args: &[&str]| -> Vec<String> {
            let base = ["typha", "--listen", "unix:/a"];
            let config = Config::try_parse_from(base.iter().chain(args)).unwrap();
            config.errors().iter().map(ToString::to_string).collect()
        };
        assert_eq!(said(&["--etcd-endpoints", "http://a:1,http://b:1"]), [""; 0]);
        assert!(said(&[])[0].starts_with("no datastore"));
        assert_eq!(said(&["--etcd-endpoints", "http://a:1", "--state", "/s"]), [""; 0]);
        assert!(said(&["--datastore", "/x", "--state", "/s"])[0].starts_with("--state /s: it is for a datastore"));
        let both = ["--datastore", "/x", "--etcd-endpoints", "http://a:1"];
        assert_eq!(said(&both), ["--datastore and --etcd-endpoints exclude each other"]);
    }

    #[test]
    fn the_state_of_a_datastore_elsewhere_is_kept_unless_nobody_wants_it() {
        let etcd = ["--etcd-endpoints", "http://a:1"];
        let file = |args: &[&str]| {
            let all = ["typha", "--listen", "unix:/a"].iter().chain(args);
            let config = Config::try_parse_from(all).unwrap();
            assert!(config.errors().is_empty());
            config.state_file().map(Path::to_owned)
        };
        assert_eq!(file(&etcd), Some(DEFAULT_STATE.into()));
        assert_eq!(file(&[&etcd[..], &["--state", "/s"]].concat()), Some("/s".into()));
        assert_eq!(file(&[&etcd[..], &["--state", "none"]].concat()), None);
        assert_eq!(file(&["--datastore", "/x"]), None, "it is at hand");
        assert_eq!(file(&["--datastore", "/x", "--state", "none"]), None);
    }

    #[test]
    fn tls_is_whole_or_not_there() {
        let tcp = ["--listen", "tcp:127.0.0.1:1"];
        let all = ["--tls-ca", "/a", "--tls-cert", "/b", "--tls-key", "/c"];
        assert_eq!(errors(&[&tcp[..], &all].concat()), [""; 0]);
        let half = [&["typha", "--datastore", "/x"], &tcp[..], &all[..4]].concat();
        let refused = Config::try_parse_from(half).unwrap_err().to_string();
        assert!(refused.contains("--tls-key"), "{refused}");
        let both = errors(&[&tcp[..], &all, &["--insecure"]].concat());
        assert_eq!(both, ["--insecure and --tls-cert exclude each other"]);
    }

    #[test]
    fn memory_is_bounded_as_the_log_says_unless_told_otherwise() {
        let parse = |args: &[&str]| {
            let all = ["typha", "--datastore", "/x", "--listen", "unix:/a"].iter().chain(args);
            Config::try_parse_from(all).map(|c| (c.memory.limits(), c.memory.cache()))
        };
        let (limits, cache) = parse(&[]).unwrap();
        assert_eq!((limits, cache), (Limits::default(), 64 << 20));
        let told = ["--changes-kept", "7", "--changes-memory", "2", "--cache-memory", "3"];
        let (limits, cache) = parse(&told).unwrap();
        assert_eq!((limits.changes, limits.octets, cache), (7, 2 << 20, 3 << 20));
        for bad in ["0", "65537", "64MiB"] {
            let refused = parse(&["--changes-memory", bad]).unwrap_err().to_string();
            assert!(refused.contains("--changes-memory"), "{refused}");
        }
    }

    #[test]
    fn tcp_needs_a_word_and_addresses_are_unique() {
        assert_eq!(errors(&["--listen", "unix:/a", "--listen", "unix:/b"]), [""; 0]);
        assert_eq!(errors(&["--listen", "tcp:127.0.0.1:1", "--insecure"]), [""; 0]);
        let refused = errors(&["--listen", "tcp:127.0.0.1:1,unix:/a,unix:/a"]);
        assert_eq!(refused.len(), 2);
        assert!(
            refused[0].starts_with("--listen tcp:127.0.0.1:1: tcp without TLS"),
            "{refused:?}"
        );
        assert_eq!(refused[1], "--listen unix:/a: given twice");
        assert!(
            Config::try_parse_from(["typha", "--datastore", "/x"]).is_err(),
            "nowhere to listen"
        );
    }
}
