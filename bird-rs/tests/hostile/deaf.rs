//! A peer that takes nothing of what we send and keeps its side of the session alive (RFC 9687).

use std::io::Write;
use std::time::Duration;

use crate::Scene;
use crate::lab::eventually;
use crate::scripted::{KEEPALIVE, Peer, message};

const ROUTES: u32 = 50_000;
/// What changes that often fills every buffer on the way.
const ROUNDS: u32 = 16;

#[test]
fn a_peer_that_stops_reading_and_keeps_talking_is_given_up() {
    let mut scene = Scene::with(
        "",
        "protocol bgp Deaf from t {
  neighbor 10.77.0.6 as 65006; hold time 6; send hold time 7; ipv4 { import all; export all; };
}
",
    );
    let deaf = Peer::established(&scene.lab, 6, 6, Some(4096));
    let mut mouth = deaf.framed.stream.try_clone().unwrap();
    // Longer than any test; it ends with the connection.
    let talking = std::thread::spawn(move || {
        for _ in 0..300 {
            if mouth.write_all(&message(KEEPALIVE, &[])).is_err() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        false
    });
    let mut feeder = Peer::established(&scene.lab, 5, 90, None);
    let mut rounds = 0..ROUNDS;
    eventually("it is given up", || {
        if let Some(med) = rounds.next() {
            feeder.announce(0..ROUTES, med).unwrap();
        }
        scene.witness.is_well();
        let session = scene.client.session("Deaf");
        (session.state != "Established" && session.last_error.contains("Send hold timer expired")).then_some(())
    });
    assert!(talking.join().unwrap(), "the connection is closed");
    drop(deaf);
    scene.witness.has(ROUTES as usize);
    // One that reads is welcome.
    let _reading = Peer::established(&scene.lab, 6, 6, None);
    scene.unharmed();
}
