//! What our operator says with `disable` and `restart` (RFC 9003), in the words of those who are told.

use crate::bird_peer::Bird;
use crate::foreign::{Foreign, Setup, THEIR_AS, ours};
use crate::frr::{self, Frr};
use crate::gobgp::GoBgp;
use crate::lab::{Lab, eventually_or, run};
use crate::openbgpd::{self, OpenBgpd};

/// As many octets as a message may have.
const LONGEST: usize = 255;
/// The same of RFC 8203, which came before.
const ONCE: usize = 128;

/// Somebody who is told.
struct Peer<'a> {
    foreign: &'a dyn Foreign,
    /// Where the words are to be found.
    shown: &'a dyn Fn(&Lab) -> String,
    /// How many octets of them.
    takes: usize,
    /// Has it take part again without a long wait.
    again: &'a dyn Fn(&Lab),
}

/// Ends the session and begins it anew, and looks for the words each time.
fn told(peer: &Peer<'_>) {
    let foreign = peer.foreign;
    let lab = Lab::new();
    let _them = foreign.start(&lab, &Setup::of(THEIR_AS));
    let _daemon = lab.bird_rs("a", &ours(&format!("neighbor 10.77.0.2 as {THEIR_AS};")));
    let mut client = lab.client("a");
    let says = |words: &str| {
        eventually_or(|| {
            let now = (peer.shown)(&lab);
            if now.contains(words) {
                Ok(())
            } else {
                Err(format!("{words} is not in {now}"))
            }
        });
    };
    let longest = format!("moved away {}", "x".repeat(LONGEST - "moved away ".len()));
    for (command, words) in [
        ("disable", "new rack in row 7"),
        ("restart", "new optics"),
        ("disable", &longest),
    ] {
        client.established("Peer");
        let answer = lab.birdc_of("a", &format!("{command} Peer \"{words}\""));
        assert!(answer.contains(&format!("Peer: {command}")), "{answer}");
        says(&words[..words.len().min(peer.takes)]);
        if command == "disable" {
            lab.birdc_of("a", "enable Peer");
        }
        (peer.again)(&lab);
    }
    client.established("Peer");
    let refused = lab.birdc_of("a", &format!("disable Peer \"{longest}x\""));
    assert!(refused.contains("255"), "{refused}");
    assert_eq!(client.session("Peer").state, "Established");
}

#[test]
fn bird_shows_what_our_operator_says() {
    told(&Peer {
        foreign: &Bird,
        shown: &|lab| Bird.last_reason(lab),
        takes: LONGEST,
        again: &|_| {},
    });
}

#[test]
fn frr_shows_what_our_operator_says() {
    told(&Peer {
        foreign: &Frr,
        shown: &frr::neighbor,
        takes: LONGEST,
        again: &|_| {},
    });
}

/// It logs the first half, as a message, and the other octets as data.
#[test]
fn gobgp_logs_what_our_operator_says() {
    told(&Peer {
        foreign: &GoBgp,
        shown: &|lab| lab.log("gobgp"),
        takes: ONCE,
        again: &|_| {},
    });
}

#[test]
fn openbgpd_shows_what_our_operator_says() {
    told(&Peer {
        foreign: &OpenBgpd,
        shown: &|lab| OpenBgpd.last_reason(lab),
        takes: LONGEST,
        // It would wait for half a minute, then for a minute.
        again: &|lab| drop(run(openbgpd::bgpctl(lab).args(["neighbor", "10.77.0.1", "up"]))),
    });
}
