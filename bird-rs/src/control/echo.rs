//! `echo`: messages of some classes are sent to a client as they come, between replies.
//!
//! What a client gets is what `--log-level` lets through. A client that does not keep up misses messages, which it is told.

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tortie_bgp::config::{LogClass, LogClasses};

use super::reply::Reply;
use super::words::Word;
use super::{Client, Control, unknown};
use crate::log::Echoed;

/// What BIRD takes for the size of a buffer, which means nothing here.
const SIZES: std::ops::RangeInclusive<u32> = 256..=65536;

/// What a client listens to.
#[derive(Debug)]
pub(super) struct Echo {
    classes: LogClasses,
    messages: Receiver<Echoed>,
}

impl Echo {
    /// The next line, without its end. Nothing is lost when it is not waited for.
    async fn next(&mut self) -> String {
        loop {
            match self.messages.recv().await {
                Ok(message) if self.classes.contains(message.class) => return format!("+{}", message.text),
                Ok(_) => {}
                Err(RecvError::Lagged(lost)) => return format!("+{lost} messages are lost"),
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

/// The next line for a client; never when it listens to nothing.
pub(super) async fn next(echo: &mut Option<Echo>) -> String {
    match echo {
        Some(echo) => echo.next().await,
        None => std::future::pending().await,
    }
}

/// Why the words behind `echo` are wrong.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Words,
    Size,
}

/// `all|off|{ CLASS, .. } [SIZE]`: what is wanted.
fn parse(words: &[Word]) -> Result<LogClasses, Wrong> {
    let plain: Option<Vec<&str>> = words.iter().map(Word::plain).collect();
    let text = plain.ok_or(Wrong::Words)?.join(" ");
    let (classes, size) = match text.strip_prefix('{').map(|inner| inner.split_once('}')) {
        Some(Some((names, size))) => {
            let mut classes = LogClasses::default();
            for name in names.split(',') {
                let named = LogClass::ALL.into_iter().find(|class| class.as_str() == name.trim());
                classes.insert(named.ok_or(Wrong::Words)?);
            }
            (classes, size)
        }
        Some(None) => return Err(Wrong::Words),
        None => match text.split_once(' ').unwrap_or((&text, "")) {
            ("all", size) => (LogClasses::ALL, size),
            ("off", size) => (LogClasses::default(), size),
            _ => return Err(Wrong::Words),
        },
    };
    match size.trim() {
        "" => Ok(classes),
        size => match size.parse::<u32>() {
            Ok(size) if SIZES.contains(&size) => Ok(classes),
            Ok(_) => Err(Wrong::Size),
            Err(_) => Err(Wrong::Words),
        },
    }
}

impl Control {
    pub(super) fn echo(&self, words: &[Word], client: &mut Client) -> Reply {
        match parse(words) {
            Ok(classes) => {
                let messages = (classes != LogClasses::default()).then(|| self.configurator.logs().listen());
                client.echo = messages.map(|messages| Echo { classes, messages });
                Reply::of(0, "")
            }
            Err(Wrong::Size) => Reply::of(9001, "Invalid log buffer size"),
            Err(Wrong::Words) => unknown("echo"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::split;
    use super::*;

    #[test]
    fn what_may_be_said_behind_echo() {
        let parse = |line: &str| parse(&split(line).unwrap());
        let mut some = LogClasses::default();
        some.insert(LogClass::Debug);
        some.insert(LogClass::Error);
        for (line, classes) in [
            ("all", LogClasses::ALL),
            ("off", LogClasses::default()),
            ("all 256", LogClasses::ALL),
            ("{debug,error}", some),
            ("{ debug, error } 65536", some),
        ] {
            assert_eq!(parse(line), Ok(classes), "{line}");
        }
        for wrong in [
            "",
            "foo",
            "all foo",
            "{ }",
            "{ debug",
            "{ debug, foo }",
            "debug",
            "\"all\"",
        ] {
            assert_eq!(parse(wrong), Err(Wrong::Words), "{wrong}");
        }
        assert_eq!(parse("all 255"), Err(Wrong::Size));
        assert_eq!(parse("{ debug } 65537"), Err(Wrong::Size));
    }
}
