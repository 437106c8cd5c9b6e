//! What the speaker has to say, as log lines; and where lines go.

mod route;
mod sink;

use tortie_bgp::speaker::{Log, LogEvent};

pub(crate) use self::route::{AUTH, BUG, Echoed, FATAL, Logs, REMOTE, TRACE};
pub(crate) use self::sink::open;

/// Writes one line: info for what an operator wants once, warn for what somebody should look at.
pub(crate) fn write(entry: &Log) {
    let protocol = &*entry.protocol;
    match &entry.event {
        LogEvent::State {
            from,
            to,
            reason,
            traced,
        } => {
            if *to == "Established" || *from == "Established" {
                tracing::info!(protocol, from, to, reason, "session state changed");
            } else if *traced {
                tracing::info!(target: TRACE, protocol, from, to, reason, "session state changed");
            } else {
                tracing::debug!(protocol, from, to, reason, "session state changed");
            }
        }
        LogEvent::BadRoute { reason } => tracing::warn!(target: REMOTE, protocol, reason, "bad route from the peer"),
        LogEvent::Limit { kind, limit, action } => tracing::warn!(protocol, kind, limit, action, "route limit reached"),
        LogEvent::RangeFull {
            limit,
            refused,
            address,
        } => {
            tracing::warn!(protocol, limit, refused, %address, "range is full, connection refused")
        }
        LogEvent::FilterMessage { text } => tracing::info!(protocol, text, "filter says"),
        LogEvent::FilterSilenced { lines } => {
            tracing::warn!(protocol, lines, "filters say more than is logged at a time")
        }
        LogEvent::FilterFailed { net, reason } => {
            tracing::warn!(protocol, %net, reason, "filter failed, route rejected")
        }
        LogEvent::Unwatched => tracing::warn!(
            protocol,
            "no protocol bfd accepts the session, nothing watches the path"
        ),
        LogEvent::Stale { routes, reason } => tracing::info!(protocol, routes, reason, "session lost, routes kept"),
        LogEvent::LongLivedStale { routes } => tracing::info!(protocol, routes, "stale routes kept as a last resort"),
        LogEvent::Swept { routes } => tracing::info!(protocol, routes, "stale routes removed"),
        LogEvent::Converged => tracing::info!(protocol, "initial table complete"),
    }
}
