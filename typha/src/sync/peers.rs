//! Where else the same state is served, as clients are told.
//!
//! Each client is told another one first, in turn: when all leave at once, they are spread evenly. While clients shall move
//! there are places to be taken, one client each.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tortie_kit::address::ServiceAddr;

#[derive(Debug, Default)]
pub(crate) struct Peers {
    addrs: Vec<String>,
    turn: AtomicUsize,
    /// Which peers clients may go to, one each.
    places: Mutex<Vec<usize>>,
}

impl Peers {
    pub(crate) fn new(addrs: &[ServiceAddr]) -> Self {
        Peers {
            addrs: addrs.iter().map(ToString::to_string).collect(),
            ..Peers::default()
        }
    }

    /// All of them, beginning with the next in turn; and which turn it is.
    pub(crate) fn next(&self) -> (Vec<String>, usize) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        (self.beginning_with(turn), turn)
    }

    /// So many clients may move, each to a peer by its place in the list. Places offered before are withdrawn.
    pub(crate) fn offer(&self, places: Vec<usize>) {
        // A list that a panic left behind is replaced as well.
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = places;
    }

    /// Where a client that may move is to go, the first is where its place is.
    pub(crate) fn take_place(&self) -> Option<Vec<String>> {
        let place = self.places.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(self.beginning_with(place))
    }

    fn beginning_with(&self, first: usize) -> Vec<String> {
        let mut addrs = self.addrs.clone();
        if !addrs.is_empty() {
            addrs.rotate_left(first % self.addrs.len());
        }
        addrs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Peers {
        Peers::new(&["tcp:a:1", "tcp:b:1", "tcp:c:1"].map(|a| a.parse().unwrap()))
    }

    #[test]
    fn clients_are_spread_evenly_and_know_all() {
        let peers = three();
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

    #[test]
    fn a_place_is_taken_once_and_withdrawn_by_the_next_offer() {
        let peers = three();
        assert_eq!(peers.take_place(), None);
        peers.offer(vec![0, 2]);
        assert_eq!(peers.take_place().unwrap(), ["tcp:c:1", "tcp:a:1", "tcp:b:1"]);
        peers.offer(vec![1]);
        assert_eq!(peers.take_place().unwrap()[0], "tcp:b:1");
        assert_eq!(peers.take_place(), None);
    }
}
