//! What filters had to say since the last flush: lines they print, and their failures; and limits that were reached.
//!
//! Bounded, since a filter may have something to say of each of a million routes; what is left out is counted.

use std::sync::Arc;

use tortie_net::Prefix;

use super::io::{Log, LogEvent};
use crate::config::Limit;
use crate::filter::RunError;

/// So many lines are kept between two flushes.
const LINES: usize = 64;

/// What filters said, in order.
#[derive(Debug, Default)]
pub(super) struct Said {
    lines: Vec<Log>,
    /// Lines that were too many, and whose filter was the last to say one.
    dropped: Option<(u64, Arc<str>)>,
}

impl Said {
    /// A filter of a protocol printed these.
    pub(super) fn lines(&mut self, protocol: &Arc<str>, lines: Vec<String>) {
        for text in lines {
            self.push(protocol, || LogEvent::FilterMessage { text });
        }
    }

    /// A filter of a protocol failed on a route.
    pub(super) fn failed(&mut self, protocol: &Arc<str>, net: Prefix, error: &RunError) {
        self.push(protocol, || LogEvent::FilterFailed {
            net,
            reason: error.to_string(),
        });
    }

    /// A limit of a protocol was reached.
    pub(super) fn limit(&mut self, protocol: &Arc<str>, kind: &'static str, limit: Limit) {
        self.push(protocol, || LogEvent::Limit {
            kind,
            limit: limit.routes,
            action: limit.action.as_str(),
        });
    }

    fn push(&mut self, protocol: &Arc<str>, event: impl FnOnce() -> LogEvent) {
        let protocol = protocol.clone();
        if self.lines.len() < LINES {
            self.lines.push(Log {
                protocol,
                event: event(),
            });
        } else {
            let before = self.dropped.as_ref().map_or(0, |(lines, _)| *lines);
            self.dropped = Some((before.saturating_add(1), protocol));
        }
    }

    /// Takes everything, for the log.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Log> + '_ {
        let dropped = self.dropped.take().map(|(lines, protocol)| Log {
            protocol,
            event: LogEvent::FilterSilenced { lines },
        });
        self.lines.drain(..).chain(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted() {
        let mut said = Said::default();
        let protocol: Arc<str> = "up".into();
        said.lines(&protocol, (0..LINES + 3).map(|n| n.to_string()).collect());
        let logs: Vec<Log> = said.drain().collect();
        assert_eq!(logs.len(), LINES + 1);
        assert_eq!(
            logs.last().map(|log| &log.event),
            Some(&LogEvent::FilterSilenced { lines: 3 })
        );
        assert_eq!(said.drain().count(), 0, "said once");
    }
}
