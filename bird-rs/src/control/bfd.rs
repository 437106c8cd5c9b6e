//! `show bfd sessions [NAME]`.

use std::time::Duration;

use tortie_bgp::config::ProtocolKind;

use super::reply::Reply;
use super::words::{NoneMeant, Word};
use super::{Control, not_running, operate, time, unknown};
use crate::bfd::Seen;
use crate::engine::Clock;

impl Control {
    pub(super) async fn bfd(&self, words: &[Word]) -> Reply {
        let config = self.configurator.config().await;
        if !config.protocols.iter().any(|p| matches!(p.kind, ProtocolKind::Bfd(_))) {
            return not_running("BFD");
        }
        let plain: Option<Vec<&str>> = words.iter().map(Word::plain).collect();
        match plain.as_deref() {
            Some(["sessions"]) => render(&self.bfd.sessions(), None, self.clock),
            Some(["sessions", name]) => match config.protocols.iter().find(|p| *p.name == **name) {
                Some(named) if matches!(named.kind, ProtocolKind::Bfd(_)) => {
                    render(&self.bfd.sessions(), Some(name), self.clock)
                }
                Some(_) => Reply::of(9001, &format!("{name}: Not a BFD protocol")),
                None => {
                    let unknown = NoneMeant::Unknown((*name).to_owned());
                    operate::none_meant(&unknown, &config.names, "END or CF_SYM_KNOWN")
                }
            },
            Some(_) | None => unknown("show bfd"),
        }
    }
}

fn render(sessions: &[Seen], protocol: Option<&str>, clock: Clock) -> Reply {
    let mut reply = Reply::default();
    let mut last = None;
    let shown = sessions
        .iter()
        .filter(|seen| protocol.is_none_or(|name| *seen.protocol == *name));
    let now = clock.unix_ms(clock.now());
    for seen in shown {
        if last.replace(&seen.protocol) != Some(&seen.protocol) {
            reply.line(1020, &format!("{}:", seen.protocol));
            let head = ["IP address", "Interface", "State", "Since", "Interval", "Timeout"];
            let [address, interface, state, since, interval, timeout] = head;
            let text = format!("{address:<25} {interface:<10} {state:<10} {since:<12}  {interval:>8} {timeout:>8}");
            reply.line(1020, &text);
        }
        let view = &seen.view;
        let (peer, state) = (view.key.peer.to_string(), view.state.as_str());
        let interface = view.key.interface.as_deref().unwrap_or("---");
        let since = time::show(&time::SHORT, clock.unix_ms(view.since), now);
        let (interval, timeout) = (seconds(view.interval), seconds(view.timeout));
        let text = format!("{peer:<25} {interface:<10} {state:<10} {since:<12}  {interval:>7}  {timeout:>7}");
        reply.line(1020, &text);
    }
    if last.is_none() {
        return Reply::of(1020, "There are no BFD sessions");
    }
    reply.end(0, "");
    reply
}

fn seconds(time: Option<Duration>) -> String {
    format!("{:.3}", time.unwrap_or_default().as_secs_f64())
}
