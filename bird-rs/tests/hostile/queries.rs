//! A query never blocks the RIB: clients of every kind list half a million routes, as fast as they can or hardly at all,
//! while peers must be heard and answered as ever. What bounds a page is proved in the core; this is what it is for.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tortie_proto::bird::ShowRoutesRequest;

use crate::Scene;
use crate::lab::{Client, eventually, eventually_or, hello};
use crate::scripted::{Peer, prefix};

const ROUTES: u32 = 500_000;
/// So many of them come at a time: this build is not the fast one.
const STEP: u32 = 25_000;

/// What the clients did.
#[derive(Default)]
struct Progress {
    leaving: AtomicBool,
    /// Reads by those who do: octets of birdc's, routes of gRPC's.
    greedy: AtomicU64,
    /// Reads by those who do not hurry.
    slow: AtomicU64,
}

impl Progress {
    fn on(&self) -> bool {
        !self.leaving.load(Ordering::Relaxed)
    }
}

/// Clients, each in a thread of its own.
struct Clients {
    progress: Arc<Progress>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(&mut self, run: impl FnOnce(&Progress) + Send + 'static) {
        let progress = self.progress.clone();
        self.threads.push(std::thread::spawn(move || run(&progress)));
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.progress.leaving.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a client failed");
        }
    }
}

fn ask(socket: &PathBuf, command: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    stream.write_all(command.as_bytes()).unwrap();
    stream
}

/// Reads listings one after the other as fast as they come.
fn greedy(socket: &PathBuf, progress: &Progress) {
    let mut stream = ask(socket, "show route all\n");
    let (mut chunk, mut end) = (vec![0; 1 << 16], Vec::new());
    while progress.on() {
        let count = match stream.read(&mut chunk) {
            Ok(0) => panic!("the daemon closed the control connection"),
            Ok(count) => count,
            Err(_) => continue,
        };
        // The end of the reply, wherever the chunks are cut.
        end.extend_from_slice(&chunk[..count]);
        let behind = end.len().saturating_sub(64);
        end.drain(..behind);
        progress.greedy.fetch_add(1, Ordering::Relaxed);
        if end.ends_with(b"\n0000 \n") {
            stream.write_all(b"show route all\n").unwrap();
            end.clear();
        }
    }
}

/// Reads some octets, now and then.
fn slow(socket: &PathBuf, progress: &Progress) {
    let mut stream = ask(socket, "show route all\n");
    let mut few = [0; 4096];
    while progress.on() {
        if stream.read(&mut few).is_ok_and(|count| count > 0) {
            progress.slow.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Lists routes as long as `each` wants more; gives how many there were.
fn list(client: &mut Client, mut each: impl FnMut(u64) -> bool) -> u64 {
    let request = ShowRoutesRequest {
        hello: hello(),
        ..ShowRoutesRequest::default()
    };
    client.runtime.block_on(async {
        let mut stream = client.bird.show_routes(request).await.unwrap().into_inner();
        let mut count = 0;
        while each(count) && stream.message().await.unwrap().is_some() {
            count += 1;
        }
        count
    })
}

/// Lists over gRPC: without a pause, or with one after each hundred routes.
fn over_grpc(client: &mut Client, progress: &Progress, pause: Option<Duration>) {
    while progress.on() {
        let count = list(client, |count| {
            match pause {
                None => drop(progress.greedy.fetch_add(1, Ordering::Relaxed)),
                Some(pause) if count % 100 == 99 => {
                    std::thread::sleep(pause);
                    progress.slow.fetch_add(1, Ordering::Relaxed);
                }
                Some(_) => {}
            }
            progress.on()
        });
        if progress.on() {
            assert!(count >= ROUTES.into(), "only {count} routes");
        }
    }
}

fn start(scene: &Scene) -> Clients {
    let progress = Arc::default();
    let threads = Vec::new();
    let mut clients = Clients { progress, threads };
    let socket = scene.lab.path("a.ctl");
    for pause in [None, Some(Duration::from_millis(50))] {
        let of = socket.clone();
        match pause {
            None => clients.start(move |progress| greedy(&of, progress)),
            Some(_) => clients.start(move |progress| slow(&of, progress)),
        }
        let mut client = scene.lab.client("a");
        clients.start(move |progress| over_grpc(&mut client, progress, pause));
    }
    // These ask and never read.
    let silent: Vec<_> = (0..4).map(|_| ask(&socket, "show route all\n")).collect();
    clients.start(move |progress| {
        while progress.on() {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(silent);
    });
    // And felix begins anew all the time.
    let mut client = scene.lab.client("a");
    clients.start(move |progress| {
        while progress.on() {
            client.fib_until(|fib, _| fib.len() >= 20_000 || !progress.on());
        }
    });
    clients
}

#[test]
fn nobody_who_looks_keeps_peers_waiting() {
    let mut scene = Scene::with("", "protocol felix { ipv4 { export all; }; }\n");
    let mut feeder = Peer::established(&scene.lab, 5, 90, None);
    for end in (STEP..=ROUTES).step_by(STEP as usize) {
        feeder.announce(end - STEP..end, 0).unwrap();
        scene.witness.has(end as usize);
    }
    let before = scene.memory();
    let clients = start(&scene);
    let progress = clients.progress.clone();
    eventually("everybody has begun", || {
        (progress.slow.load(Ordering::Relaxed) > 4).then_some(())
    });
    // Each is told to the witness before the next one comes, with all those listings open.
    for number in ROUTES..ROUTES + 50 {
        feeder.announce(number..number + 1, 0).unwrap();
        eventually_or(|| {
            scene.witness.is_well();
            let arrived = scene.witness.has_route(&prefix(number));
            if arrived { Ok(()) } else { Err(number) }
        });
    }
    scene.witness.stays_well();
    let (greedy, slow) = (
        progress.greedy.load(Ordering::Relaxed),
        progress.slow.load(Ordering::Relaxed),
    );
    eventually("the listings go on meanwhile", || {
        scene.witness.is_well();
        let more = |now: &AtomicU64, before| now.load(Ordering::Relaxed) > before + 10;
        (more(&progress.greedy, greedy) && more(&progress.slow, slow)).then_some(())
    });
    scene.grew_at_most(before, 24_000);
    drop(clients);
    scene.unharmed();
}
