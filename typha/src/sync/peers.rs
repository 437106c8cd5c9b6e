//! Where else the same state is served, as clients are told.
//!
//! Each client is told another one first, in turn: when all leave at once, they are spread evenly.

use std::sync::atomic::{AtomicUsize, Ordering};

use tortie_kit::address::ServiceAddr;

#[derive(Debug, Default)]
pub(crate) struct Peers {
    addrs: Vec<String>,
    turn: AtomicUsize,
}

impl Peers {
    pub(crate) fn new(addrs: &[ServiceAddr]) -> Self {
        Peers {
            addrs: addrs.iter().map(ToString::to_string).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// All of them, beginning with the next in turn; and which turn it is.
    pub(crate) fn next(&self) -> (Vec<String>, usize) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut addrs = self.addrs.clone();
        if !addrs.is_empty() {
            addrs.rotate_left(turn % self.addrs.len());
        }
        (addrs, turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_spread_evenly_and_know_all() {
        let addrs = ["tcp:a:1", "tcp:b:1", "tcp:c:1"].map(|a| a.parse().unwrap());
        let peers = Peers::new(&addrs);
        let mut first = [0; 3];
        for _ in 0..300 {
            let (mut told, _) = peers.next();
            first[told[0].as_bytes()[4] as usize - b'a' as usize] += 1;
            told.sort();
            assert_eq!(told, ["tcp:a:1", "tcp:b:1", "tcp:c:1"]);
        }
        assert_eq!(first, [100; 3]);
        assert!(Peers::default().next().0.is_empty());
    }
}
