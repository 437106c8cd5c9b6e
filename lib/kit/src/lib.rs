//! The shell every daemon shares: logging, service addresses, readiness, an HTTP port for probes and metrics, drain.
//!
//! Programs only: cores never depend on this crate. It is also the one place that reads the clock for identities
//! ([`instance`]); cores get time as a parameter.
//!
//! | part | what for |
//! |---|---|
//! | [`address`] | `unix:/path` and `tcp:host:port`, to connect to and to listen on |
//! | [`start`] | the command line read, logging begun |
//! | [`telemetry`] | `tracing` to standard error, as text or JSON |
//! | [`shutdown`] | one token, cancelled by SIGTERM or SIGINT |
//! | [`health`] | readiness by named guards |
//! | [`http`] | `/livez /readyz /metrics /debug/state` |
//! | [`tls`] | mutual TLS, and who is at the other end |
//! | [`status`] | why a gRPC call failed, in words |
//! | [`file`] | files replaced atomically |
//! | [`backoff`] | delays between attempts |

#![warn(missing_docs)]

pub mod address;
pub mod backoff;
pub mod file;
pub mod health;
pub mod http;
pub mod shutdown;
pub mod start;
pub mod status;
pub mod telemetry;
pub mod tls;

/// A name for this process start: two starts, even on different machines, differ. Peers use it to tell a restart from a
/// reconnect.
pub fn instance() -> String {
    static INSTANCE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    INSTANCE
        .get_or_init(|| {
            let since = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default();
            format!("{:x}-{:x}", since.as_nanos(), std::process::id())
        })
        .clone()
}
