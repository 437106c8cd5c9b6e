//! `configure`.

use std::time::Duration;

use tortie_bgp::config::Diagnostic;

use super::reply::Reply;
use super::words::Word;
use super::{Client, Control, unknown};
use crate::configure::{How, Text};
use crate::engine::Stopped;

/// BIRD's, when `timeout` says none.
const TRIAL: Duration = Duration::from_secs(300);

/// What is wanted.
#[derive(Debug)]
enum Order {
    Check(Text),
    Apply(Text, How),
    Confirm,
    Undo,
    Status,
}

impl Order {
    /// `[soft] ["FILE"] [timeout [SECONDS]]`, `check ["FILE"]`, `confirm`, `undo`, `status`.
    fn parse(words: &[Word]) -> Option<Self> {
        let keyword = words.first().and_then(Word::plain).unwrap_or_default();
        let rest = words.get(1..).unwrap_or_default();
        match (keyword, rest) {
            ("confirm", []) => Some(Order::Confirm),
            ("undo", []) => Some(Order::Undo),
            ("status", []) => Some(Order::Status),
            ("check", rest) => match file(rest) {
                (text, []) => Some(Order::Check(text)),
                _ => None,
            },
            ("soft", rest) => Self::apply(rest, true),
            _ => Self::apply(words, false),
        }
    }

    fn apply(words: &[Word], soft: bool) -> Option<Self> {
        let (text, rest) = file(words);
        let plain: Option<Vec<&str>> = rest.iter().map(Word::plain).collect();
        let trial = match plain?.as_slice() {
            [] => None,
            ["timeout"] => Some(TRIAL),
            ["timeout", seconds] => {
                let seconds = seconds.parse::<u32>().ok()?;
                (seconds > 0).then(|| Duration::from_secs(seconds.into()))
            }
            _ => return None,
        };
        Some(Order::Apply(text, How { soft, trial }))
    }
}

/// The file that is named, and what is behind it.
fn file(words: &[Word]) -> (Text, &[Word]) {
    match words {
        [Word::Text(file), rest @ ..] => (Text::File(file.into()), rest),
        rest => (Text::Own, rest),
    }
}

impl Control {
    pub(super) async fn configure(&self, words: &[Word], client: &mut Client) -> Result<Reply, Stopped> {
        let Some(order) = Order::parse(words) else {
            return Ok(unknown("configure"));
        };
        if client.restricted && !matches!(order, Order::Status) {
            return Ok(Reply::of(8007, "Access denied"));
        }
        let mut reply = Reply::default();
        match order {
            Order::Check(text) => {
                reply.line(
                    2,
                    &format!("Reading configuration from {}", self.configurator.name(&text)),
                );
                let outcome = self.configurator.check(text).await;
                match &outcome.diagnostics[..] {
                    [] => reply.end(20, "Configuration OK"),
                    wrong => rejected(&mut reply, wrong),
                }
            }
            Order::Apply(text, how) => {
                reply.line(
                    2,
                    &format!("Reading configuration from {}", self.configurator.name(&text)),
                );
                let (outcome, trial) = self.configurator.apply(text, String::new(), how).await?;
                match (&outcome.diagnostics[..], how.trial) {
                    ([], None) => reply.end(3, "Reconfigured"),
                    ([], Some(time)) => {
                        client.trial = Some(trial);
                        reply.line(22, &format!("Undo scheduled in {} s", time.as_secs()));
                        reply.end(3, "Reconfigured");
                    }
                    (wrong, _) => rejected(&mut reply, wrong),
                }
            }
            Order::Confirm => match self.configurator.confirm().await {
                true => reply.end(18, "Reconfiguration confirmed"),
                false => reply.end(19, "Nothing to do"),
            },
            Order::Undo => {
                reply.line(21, "Undo requested");
                match self.configurator.undo().await? {
                    true => reply.end(3, "Reconfigured"),
                    false => reply.end(19, "Nothing to do"),
                }
            }
            Order::Status => {
                reply.line(3, "Daemon is up and running");
                if let Some(left) = self.configurator.revisions().await.undo_in {
                    let text = format!("Configuration unconfirmed, undo in {:.3} s", left.as_secs_f64());
                    reply.line(22, &text);
                }
                reply.end(0, "");
            }
        }
        Ok(reply)
    }
}

/// A line for each error.
fn rejected(reply: &mut Reply, diagnostics: &[Diagnostic]) {
    if let Some((last, others)) = diagnostics.split_last() {
        others.iter().for_each(|other| reply.line(8002, &other.brief()));
        reply.end(8002, &last.brief());
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::split;
    use super::*;

    fn how(line: &str) -> Option<(Option<String>, How)> {
        match Order::parse(&split(line).unwrap())? {
            Order::Apply(Text::File(file), how) => Some((Some(file.display().to_string()), how)),
            Order::Apply(_, how) => Some((None, how)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_may_be_said_behind_configure() {
        let trial = |seconds| How {
            soft: false,
            trial: Some(Duration::from_secs(seconds)),
        };
        assert_eq!(how(""), Some((None, How::default())));
        assert_eq!(how("timeout"), Some((None, trial(300))));
        assert_eq!(how("timeout 5"), Some((None, trial(5))));
        assert_eq!(how("timeout 0"), Some((None, How::default())));
        let soft = How { soft: true, ..trial(7) };
        assert_eq!(
            how("soft \"x.conf\" timeout 7"),
            Some((Some("x.conf".to_owned()), soft))
        );
        for wrong in [
            "timeout x",
            "timeout 5 \"x.conf\"",
            "foo",
            "confirm now",
            "check x y",
            "soft soft",
        ] {
            assert!(Order::parse(&split(wrong).unwrap()).is_none(), "{wrong}");
        }
    }
}
