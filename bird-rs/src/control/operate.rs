//! `enable`, `disable`, `restart`, `reload`.

use std::sync::Arc;

use tortie_bgp::config::Names;
use tortie_bgp::speaker::{Command, MAX_REASON, Operated, Speaker};

use super::reply::Reply;
use super::words::{self, NoneMeant, Which, Word};
use crate::engine::{Engine, Request, Stopped};

/// A command for protocols, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) which: Which,
    pub(crate) command: Command,
    pub(crate) reason: String,
}

impl Order {
    /// `enable|disable|restart WHICH ["REASON"]`, `reload [in|out] WHICH`.
    ///
    /// # Errors
    /// What is wrong with the words.
    pub(crate) fn parse(verb: &str, words: &[Word]) -> Result<Self, String> {
        let direction = words.first().and_then(Word::plain).filter(|_| words.len() > 1);
        let (command, words) = match (verb, direction) {
            ("enable", _) => (Command::Enable, words),
            ("disable", _) => (Command::Disable, words),
            ("restart", _) => (Command::Restart, words),
            (_, Some("in")) => (Command::ReloadIn, words.get(1..).unwrap_or_default()),
            (_, Some("out")) => (Command::ReloadOut, words.get(1..).unwrap_or_default()),
            _ => (Command::Reload, words),
        };
        let reason = match words {
            [_] => String::new(),
            [_, Word::Text(reason)] if reason.len() <= MAX_REASON => reason.clone(),
            [_, Word::Text(_)] => return Err(format!("a message has at most {MAX_REASON} octets")),
            [] => {
                return Err(format!(
                    "{verb}: a protocol's name, a pattern in quotes, or 'all' expected"
                ));
            }
            _ => {
                return Err(format!(
                    "{verb}: a message in double quotes expected behind the protocol"
                ));
            }
        };
        let which = words.first().map_or(Which::All, Which::of);
        Ok(Order { which, command, reason })
    }
}

/// A protocol and what became of the command for it.
pub(crate) type Done = (Arc<str>, Operated);

/// Obeys.
///
/// # Errors
/// [`Stopped`]; within, that no protocol is meant.
pub(crate) async fn obey(engine: &Engine, order: Order) -> Result<Result<Vec<Done>, NoneMeant>, Stopped> {
    let names = engine.query(Speaker::protocol_names).await?;
    let protocols = match order.which.select(&names) {
        Ok(protocols) => protocols,
        Err(none) => return Ok(Err(none)),
    };
    let (command, reason) = (order.command, order.reason);
    tracing::info!(?command, ?protocols, reason, "an operator's command");
    let request = |done| Request::Operate {
        protocols,
        command,
        reason,
        done,
    };
    engine.ask(request).await.map(Ok)
}

/// Obeys and says so.
pub(super) async fn answer(engine: &Engine, names: &Names, order: Order) -> Result<Reply, Stopped> {
    Ok(match obey(engine, order).await? {
        Ok(done) => render(&done),
        Err(none) => none_meant(&none, names, words::PROTOCOL),
    })
}

/// That a command means no protocol. It takes what `expecting` says.
pub(super) fn none_meant(none: &NoneMeant, names: &Names, expecting: &str) -> Reply {
    let (code, text) = none.reply(names, expecting);
    Reply::of(code, &text)
}

/// A line for each protocol, with BIRD's codes.
fn render(done: &[Done]) -> Reply {
    let mut reply = Reply::default();
    for (name, operated) in done {
        let code = match operated {
            Operated::AlreadyDisabled => 8,
            Operated::Disabled => 9,
            Operated::AlreadyEnabled => 10,
            Operated::Enabled => 11,
            Operated::Restarted => 12,
            Operated::Reloading => 15,
            // It has no routes; or it went while we asked.
            Operated::NotUp | Operated::Unknown => continue,
        };
        reply.line(code, &format!("{name}: {}", operated.as_str()));
    }
    reply.end(0, "");
    reply
}

#[cfg(test)]
mod tests {
    use super::super::words::split;
    use super::*;

    fn parse(line: &str) -> Result<Order, String> {
        let words = split(line).unwrap();
        let verb = words[0].plain().unwrap().to_owned();
        Order::parse(&verb, &words[1..])
    }

    #[test]
    fn orders_are_read() {
        let order = parse("disable \"Mesh*\" \"new rack\"").unwrap();
        assert_eq!(order.command, Command::Disable);
        assert_eq!(order.which, Which::Pattern("Mesh*".to_owned()));
        assert_eq!(order.reason, "new rack");
        assert_eq!(parse("reload in p1").unwrap().command, Command::ReloadIn);
        assert_eq!(parse("reload out all").unwrap().command, Command::ReloadOut);
        // A protocol may be named so.
        let order = parse("reload in").unwrap();
        assert_eq!(
            (order.command, order.which),
            (Command::Reload, Which::Named("in".to_owned()))
        );
        assert!(parse("disable").unwrap_err().contains("expected"));
        assert!(parse("disable p1 p2").unwrap_err().contains("double quotes"));
        let long = format!("restart p1 \"{}\"", "x".repeat(256));
        assert!(parse(&long).unwrap_err().contains("at most 255 octets"));
    }

    #[test]
    fn replies_are_birds() {
        let done = [
            ("device1".into(), Operated::Disabled),
            ("d1".into(), Operated::Disabled),
            ("idl".into(), Operated::AlreadyDisabled),
            ("pas".into(), Operated::Disabled),
            ("gone".into(), Operated::Unknown),
        ];
        assert_eq!(
            render(&done).take(),
            "0009-device1: disabled\n d1: disabled\n0008-idl: already disabled\n0009-pas: disabled\n0000 \n"
        );
        assert_eq!(render(&[]).take(), "0000 \n");
    }
}
