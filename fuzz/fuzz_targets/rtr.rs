//! A cache that says anything: what decodes is written again and means the same; the session always has a deadline, and what it
//! says of ROAs is what it counts.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tortie_bgp::rtr::{Action, Event, Pdu, Session, State, Timers, decode};

fn stable(octets: &[u8]) {
    let Ok(Some(decoded)) = decode(octets) else {
        return;
    };
    assert!((8..=octets.len()).contains(&decoded.length));
    // A key of a router is not kept, nor is what an error report quotes; version 0 has no intervals.
    if matches!(decoded.pdu, Pdu::RouterKey | Pdu::ErrorReport { .. }) {
        return;
    }
    let written = decoded.pdu.encode(decoded.version);
    let again = decode(&written)
        .expect("what we write can be read")
        .expect("and is whole");
    assert_eq!((again.version, again.pdu), (decoded.version, decoded.pdu));
}

fuzz_target!(|data: &[u8]| {
    stable(data);
    let mut now = Duration::ZERO;
    let mut session = Session::new(now, Timers::default(), false);
    let mut payloads = 0;
    let mut out = Vec::new();
    let mut rest = data;
    for _ in 0..64 {
        let Some((&length, after)) = rest.split_first() else {
            break;
        };
        let (octets, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        match session.status().state {
            State::Waiting => {
                now = session.next_deadline().max(now);
                session.handle(now, Event::Tick, &mut out);
            }
            State::Connecting => session.handle(now, Event::Connected, &mut out),
            State::Asked | State::Loading | State::Idle | State::NoData if length == 0 => {
                now = session.next_deadline().max(now);
                session.handle(now, Event::Tick, &mut out);
            }
            State::Asked | State::Loading | State::Idle | State::NoData => {
                session.handle(now, Event::Received(octets), &mut out);
            }
        }
        for action in out.drain(..) {
            match action {
                Action::Roas(roas) => payloads = roas.len(),
                Action::Send(octets) => assert!(matches!(decode(&octets), Ok(Some(_))), "we send PDUs"),
                Action::Connect | Action::Close => {}
            }
        }
        let status = session.status();
        assert_eq!(status.payloads, payloads);
        assert!(payloads == 0 || status.expire_at.is_some(), "nothing holds for ever");
    }
});
