//! The command line: BIRD's, and what is ours.

use std::path::PathBuf;

use clap::Parser;
use tortie_kit::address::{ServiceAddr, local_only};
use tortie_kit::http::HttpArgs;
use tortie_kit::telemetry::LogArgs;

use crate::privileges::Identity;

/// A BGP speaker with BIRD 2's configuration language.
#[derive(Debug, Parser)]
#[command(version, mut_arg("log_level", |arg| arg.default_value_if("debug", "true", Some("debug"))))]
pub(crate) struct Args {
    /// The configuration file
    #[arg(
        short,
        long = "config",
        value_name = "FILE",
        default_value = "/etc/tortie/bird.conf",
        default_value_if("local", "true", Some("bird.conf"))
    )]
    pub(crate) config: PathBuf,
    /// Parse the configuration and exit: 0 when it is good, 1 with the errors on standard error
    #[arg(short, long)]
    pub(crate) parse_only: bool,
    /// Serve gRPC here: unix:/path
    #[arg(long, env = "TORTIE_BIRD", value_name = "ADDR", value_parser = local_only)]
    pub(crate) grpc: Option<ServiceAddr>,
    /// Serve BIRD's control protocol on this unix socket, for birdc
    #[arg(
        short = 's',
        long = "control",
        value_name = "SOCKET",
        default_value_if("local", "true", Some("bird.ctl"))
    )]
    pub(crate) control: Option<PathBuf>,
    /// Write the process id here
    #[arg(short = 'P', long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Recover from a restart: peers with graceful restart are told that they may go on with the routes they kept
    #[arg(short = 'R', long)]
    pub(crate) recover: bool,
    /// Run as this user, keeping only CAP_NET_BIND_SERVICE, CAP_NET_ADMIN and CAP_NET_RAW
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Run as this group instead of the user's own
    #[arg(short, long, value_name = "GROUP", requires = "user")]
    group: Option<String>,
    /// Stay in the foreground: accepted as BIRD's, and always so
    #[arg(short, long)]
    foreground: bool,
    /// Log at level debug, unless --log-level says otherwise
    #[arg(short, long)]
    debug: bool,
    /// Log to this file instead of to standard error
    #[arg(short = 'D', long, value_name = "FILE")]
    pub(crate) debug_file: Option<PathBuf>,
    /// Look for bird.conf and bird.ctl in the current directory
    #[arg(short, long)]
    local: bool,
    #[command(flatten)]
    pub(crate) http: HttpArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

impl Args {
    /// Whom to become, if anybody.
    ///
    /// # Errors
    /// There is no such user or group.
    pub(crate) fn identity(&self) -> anyhow::Result<Option<Identity>> {
        let find = |user: &String| Identity::find(user, self.group.as_deref());
        self.user.as_ref().map(find).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Args {
        Args::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn birds_command_lines_are_understood() {
        let args = parsed("bird-rs -c x.conf -s x.ctl -P x.pid -f -R -u bird -g bird");
        assert_eq!(args.config, PathBuf::from("x.conf"));
        assert!(args.recover && args.foreground);
        assert_eq!(args.log.log_level, "info");
        assert_eq!(parsed("bird-rs -d").log.log_level, "debug");
        assert_eq!(parsed("bird-rs -d --log-level warn").log.log_level, "warn");
        let args = parsed("bird-rs -l");
        assert_eq!(
            (args.config, args.control),
            (PathBuf::from("bird.conf"), Some(PathBuf::from("bird.ctl")))
        );
        let args = parsed("bird-rs -l -c y.conf");
        assert_eq!(args.config, PathBuf::from("y.conf"));
        assert!(Args::try_parse_from(["bird-rs", "-g", "bird"]).is_err());
    }

    #[test]
    fn an_unknown_user_is_named() {
        let wrong = parsed("bird-rs -u no-such-user-here").identity().unwrap_err();
        assert!(wrong.to_string().contains("no-such-user-here"));
    }
}
