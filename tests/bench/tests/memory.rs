//! What tables and sessions take, measured as resident memory in a process of their own.
//!
//! The bounds are those of the whole program but for sockets and tasks: a million routes with a quarter of a million
//! attribute sets, from one peer to another, and sessions that have nothing to say.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

use tortie_bench::{DAEMON_AS, Router, Setup, announcement};

const ROUTES: u32 = 1_000_000;
const PER_UPDATE: u32 = 4;
const SESSIONS: u32 = 1_000;

/// Resident memory of this process, in octets: now, and at its peak.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// One test, so that nothing else runs in the process.
#[test]
fn tables_and_sessions_are_small() {
    let (before, _) = resident();
    let mut idle = Router::new(SESSIONS, &|_| DAEMON_AS, &Setup::default()).unwrap();
    idle.flush();
    let (after, _) = resident();
    let each = after.saturating_sub(before) / u64::from(SESSIONS);
    println!("an idle session: {each} octets");
    assert!(each <= 12_000, "an idle session takes {each} octets");

    let (before, _) = resident();
    let mut router = Router::new(2, &|peer| 4_200_000_000 + peer, &Setup::default()).unwrap();
    for number in 0..ROUTES / PER_UPDATE {
        let prefixes = number * PER_UPDATE..(number + 1) * PER_UPDATE;
        router.receive(0, &announcement(4_200_000_000, 0, 1, prefixes).unwrap());
        if number % 250 == 0 {
            router.flush();
        }
    }
    router.flush();
    let (after, peak) = resident();
    let status = router.speaker.status();
    assert_eq!((status.prefixes, status.paths), (ROUTES as usize, ROUTES as usize));
    assert!(router.sent > 4 * ROUTES as usize, "everything went to the other peer");
    let (took, peak) = (after.saturating_sub(before) >> 20, peak.saturating_sub(before) >> 20);
    println!("{ROUTES} routes: {took} MiB, {peak} MiB at the peak");
    assert!(
        peak <= 105,
        "{ROUTES} routes take {peak} MiB at the peak, {took} MiB then"
    );
    // Kept until here, so that the routes found no room that the sessions had left.
    assert_eq!(idle.speaker.protocols().len(), SESSIONS as usize);
}
