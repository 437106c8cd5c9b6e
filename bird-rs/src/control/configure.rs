//! `configure`.

use tortie_bgp::config::Diagnostic;

use super::reply::Reply;
use super::words::Word;
use super::{Control, unknown};
use crate::configure::Text;
use crate::engine::Stopped;

impl Control {
    pub(super) async fn configure(&self, words: &[Word]) -> Result<Reply, Stopped> {
        let (check, rest) = match words {
            [Word::Plain(word), rest @ ..] if word == "check" => (true, rest),
            rest => (false, rest),
        };
        let text = match rest {
            [] => Text::Own,
            [Word::Text(file) | Word::Plain(file)] => Text::File(file.into()),
            _ => return Ok(unknown("configure")),
        };
        let outcome = if check {
            self.configurator.check(text).await?
        } else {
            self.configurator.apply(text, String::new()).await?
        };
        if !outcome.diagnostics.is_empty() {
            return Ok(rejected(&outcome.diagnostics));
        }
        Ok(match check {
            true => Reply::of(20, "Configuration OK"),
            false => Reply::of(3, "Reconfigured"),
        })
    }
}

/// A line for each error.
fn rejected(diagnostics: &[Diagnostic]) -> Reply {
    let mut reply = Reply::default();
    let text = |d: &Diagnostic| format!("{}:{}:{} {}", d.file, d.line, d.column, d.message);
    if let Some((last, others)) = diagnostics.split_last() {
        others.iter().for_each(|other| reply.line(8002, &text(other)));
        reply.end(8002, &text(last));
    }
    reply
}
