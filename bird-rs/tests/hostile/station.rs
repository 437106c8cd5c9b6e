//! A monitoring station that connects and does not read.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Scene;
use crate::lab::{Lab, eventually};
use crate::scripted::{Peer, UPDATE, apply, prefix, shown};

const STATION: &str = "protocol bmp station {
  station address ip 10.77.0.6 port 1790; tx buffer limit 1;
  monitoring rib in pre_policy; monitoring rib in post_policy;
}
";

const ROUTES: u32 = 100_000;
/// The types of BMP's messages.
const ROUTE_MONITORING: u8 = 0;
const PEER_UP: u8 = 3;
/// The per-peer header, and its flag for routes behind the policy.
const PER_PEER: usize = 42;
const POST_POLICY: u8 = 0x40;

/// Listens in side b with as little room as there can be.
fn listen(lab: &Lab) -> TcpListener {
    let netns = format!("/run/netns/{}", lab.netns("b"));
    // Threads have network namespaces of their own; this one ends in the other.
    let thread = std::thread::spawn(move || -> io::Result<TcpListener> {
        setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_recv_buffer_size(4096)?;
        socket.bind(&SocketAddr::from(([10, 77, 0, 6], 1790)).into())?;
        socket.listen(64)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    });
    thread.join().unwrap().unwrap()
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = eventually("it connects to the station", || listener.accept().ok());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// The next message: its type and what follows the common header.
fn receive(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 6];
    stream.read_exact(&mut header)?;
    assert_eq!(header[0], 3, "the version");
    let length = u32::from_be_bytes(header[1..5].try_into().unwrap());
    let mut body = vec![0; usize::try_from(length).unwrap() - header.len()];
    stream.read_exact(&mut body)?;
    Ok((header[5], body))
}

/// Reads until everything is there, in both tables.
fn read_all(stream: &mut TcpStream) -> io::Result<()> {
    let (mut pre, mut post) = (HashSet::new(), HashSet::new());
    let mut peers = 0;
    while pre.len() < ROUTES as usize || post.len() < ROUTES as usize {
        let (kind, body) = receive(stream)?;
        peers += u8::from(kind == PEER_UP);
        if kind == ROUTE_MONITORING {
            assert_eq!(body[PER_PEER + 18], UPDATE);
            let table = if body[1] & POST_POLICY == 0 {
                &mut pre
            } else {
                &mut post
            };
            apply(&body[PER_PEER + 19..], table);
        }
    }
    assert_eq!(peers, 2, "the feeder and the witness");
    Ok(())
}

#[test]
fn a_station_that_does_not_read_costs_its_queue() {
    let mut scene = Scene::with("", STATION);
    let listener = listen(&scene.lab);
    let held = accept(&listener);
    let mut feeder = Peer::established(&scene.lab, 5, 90, None);
    let mut given_up = None;
    let last = shown(&prefix(ROUTES - 1));
    for med in 1..=60 {
        feeder.announce(0..ROUTES, med).unwrap();
        eventually("the change arrives", || {
            scene.witness.is_well();
            (scene.client.route("Feeder", &last)?.med == Some(med)).then_some(())
        });
        if given_up.is_none() && scene.lab.log("a").contains("does not read fast enough") {
            given_up = Some((med, scene.memory()));
        }
        // As much again behind it, on connections that are not read either.
        if given_up.is_some_and(|(at, _)| med >= at + 12) {
            break;
        }
    }
    let (_, settled) = given_up.unwrap_or_else(|| panic!("the station was never given up"));
    scene.grew_at_most(settled, 16_000);
    scene.witness.has(ROUTES as usize);
    drop(held);
    // Once it reads, it has everything, on the connection that is the last one then.
    while let Err(ended) = read_all(&mut accept(&listener)) {
        assert!(
            matches!(
                ended.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            ),
            "{ended}"
        );
    }
    eventually("it is shown as connected", || {
        scene
            .lab
            .birdc_of("a", "show protocols station")
            .contains("Established")
            .then_some(())
    });
    scene.unharmed();
}
