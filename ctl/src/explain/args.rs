//! The command line of `explain`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use tortie_kit::address::ServiceAddr;

use crate::cli::StatusFormat;

/// What `tortiectl explain` is told.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 nothing is wrong; 2 there is a cause, which the last line says; 3 nothing wrong was \
                        seen, but not everything that matters could be asked; 1 failed; 64 wrong command line."
)]
pub(crate) struct ExplainArgs {
    /// An address (of a workload or a service), a prefix, or a pod (NAMESPACE/NAME, or a name in "default")
    #[arg(value_name = "IP|PREFIX|POD")]
    pub(crate) subject: String,
    /// From this node only; otherwise from every node that is asked
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Where a bird-rs is, of this node or of NODE; may be repeated
    #[arg(long, env = "TORTIE_BIRD", value_name = "[NODE=]ADDR")]
    pub(crate) bird: Vec<At<ServiceAddr>>,
    /// Where a felix is, of this node or of NODE; may be repeated
    #[arg(long, env = "TORTIE_FELIX", value_name = "[NODE=]ADDR")]
    pub(crate) felix: Vec<At<ServiceAddr>>,
    /// The network namespace of NODE, to look into its kernel; this node's is the one that tortiectl runs in
    #[arg(long, value_name = "NODE=PATH")]
    pub(crate) netns: Vec<At<PathBuf>>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = StatusFormat::Table)]
    pub(crate) output: StatusFormat,
}

/// Something of a node; without a name, of the node that this program runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) node: Option<String>,
    pub(crate) what: T,
}

impl FromStr for At<ServiceAddr> {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (node, text) = split(s);
        // A bare path is a unix socket.
        let text = if text.starts_with('/') {
            format!("unix:{text}")
        } else {
            text.to_owned()
        };
        let what = text.parse().map_err(|e| format!("{e}"))?;
        Ok(At { node, what })
    }
}

impl FromStr for At<PathBuf> {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match split(s) {
            (Some(node), path) if !path.is_empty() => Ok(At {
                node: Some(node),
                what: path.into(),
            }),
            _ => Err(format!("'{s}' is not NODE=PATH")),
        }
    }
}

/// Names of nodes have neither `=` nor `/` nor `:`.
fn split(s: &str) -> (Option<String>, &str) {
    match s.split_once('=') {
        Some((node, rest)) if !node.is_empty() && !node.contains(['/', ':']) => (Some(node.to_owned()), rest),
        _ => (None, s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_may_say_whose_they_are() {
        let at = |s: &str| s.parse::<At<ServiceAddr>>().map(|a| (a.node, a.what.to_string()));
        let n1 = Some("n1".to_owned());
        assert_eq!(at("n1=unix:/run/b"), Ok((n1.clone(), "unix:/run/b".to_owned())));
        assert_eq!(at("n1=/run/b"), Ok((n1, "unix:/run/b".to_owned())));
        assert_eq!(at("unix:/run/a=b"), Ok((None, "unix:/run/a=b".to_owned())));
        assert!(at("n1=nonsense").is_err());
        assert!("/run/netns/x".parse::<At<PathBuf>>().is_err(), "whose?");
        assert!("n1=".parse::<At<PathBuf>>().is_err());
    }
}
