use std::time::Duration;

use nix::errno::Errno;
use proptest::prelude::*;
use tortie_calc::Tunnel;
use tortie_netlink::nft::fake::FakeTables;

use super::*;

const FOREIGN: TableId = TableId {
    family: tortie_netlink::nft::Family::V4,
    name: "somebody's",
};

fn driver(kernel: &FakeTables) -> Driver<FakeTables> {
    let kernel = kernel.clone();
    Driver::new(Box::new(move || Ok(kernel.clone())))
}

/// One of several sets of pools and tunnels; 0 wants nothing.
fn wanted(which: u8, live: bool) -> Wanted {
    let mut wanted = Wanted {
        known: true,
        live,
        hosts: ["172.30.0.11", "fd30::11"].map(|h| h.parse().unwrap()).into(),
        ..Wanted::default()
    };
    let pool = |p: &str| (p.parse().unwrap(), true);
    match which % 4 {
        1 => wanted.pools = [pool("10.244.0.0/16")].into(),
        2 => wanted.pools = [pool("10.245.0.0/16"), pool("fd00::/48")].into(),
        3 => {
            wanted.pools = [pool("10.244.0.0/16")].into();
            wanted.tunnels = Tunnel::ALL.into();
        }
        _ => {}
    }
    wanted
}

fn is_whole(kernel: &FakeTables, wanted: &Wanted) -> bool {
    let tables = wanted.tables();
    let there: Vec<TableId> = kernel.ids().into_iter().filter(|id| *id != FOREIGN).collect();
    there == tables.keys().copied().collect::<Vec<_>>() && tables.iter().all(|(id, t)| kernel.holds(*id, t))
}

/// What may happen.
#[derive(Debug, Clone)]
enum Happens {
    Want(u8, bool),
    /// The kernel refuses a table some times.
    Refuse(usize, u8, u32),
    RefuseReads(u32),
    LoseAnswers(u32),
    /// Somebody edits a table of ours, or removes it.
    Edit(usize, u8),
    Delete(usize),
    /// Everything is forgotten.
    Restart,
    Pass,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (any::<u8>(), any::<bool>()).prop_map(|(w, live)| Happens::Want(w, live)),
        (0usize..4, any::<u8>(), 0u32..4).prop_map(|(t, e, n)| Happens::Refuse(t, e, n)),
        (0u32..4).prop_map(Happens::RefuseReads),
        (0u32..3).prop_map(Happens::LoseAnswers),
        (0usize..4, any::<u8>()).prop_map(|(t, w)| Happens::Edit(t, w)),
        (0usize..4).prop_map(Happens::Delete),
        Just(Happens::Restart),
        Just(Happens::Pass),
    ]
}

proptest! {
    /// Whatever happens: in the end the kernel holds what is wanted, nothing of others was touched, and a restart then
    /// changes nothing.
    #[test]
    fn whatever_happens_it_ends_well(story in proptest::collection::vec(happens(), 0..24), last in any::<u8>()) {
        let kernel = FakeTables::new();
        let foreign = wanted(1, true).tables().into_values().next().unwrap();
        kernel.put(FOREIGN, &foreign);
        let mut now = Instant::now();
        let mut felix = driver(&kernel);
        let mut shall = wanted(0, false);
        for event in story {
            match event {
                Happens::Want(which, live) => shall = wanted(which, live || shall.live),
                Happens::Refuse(table, errno, times) => {
                    let errors = [Errno::EBUSY, Errno::ENOBUFS, Errno::EEXIST, Errno::ENODEV, Errno::EPERM];
                    kernel.refuse(ALL[table], errors[usize::from(errno) % errors.len()], times);
                }
                Happens::RefuseReads(times) => kernel.refuse_reads(times),
                Happens::LoseAnswers(times) => kernel.lose_answers(times),
                Happens::Edit(table, which) => {
                    if let Some(other) = wanted(which, true).tables().get(&ALL[table]) {
                        kernel.put(ALL[table], other);
                    }
                }
                Happens::Delete(table) => kernel.delete(ALL[table]),
                Happens::Restart => felix = driver(&kernel),
                Happens::Pass => {
                    felix.pass(&shall, now);
                    now += Duration::from_millis(40);
                }
            }
            prop_assert!(kernel.holds(FOREIGN, &foreign));
        }
        let shall = wanted(last, true);
        for _ in 0..40 {
            felix.pass(&shall, now);
            now = felix.next_deadline().unwrap_or(now).max(now);
        }
        prop_assert!(is_whole(&kernel, &shall), "{:?}", felix.status);
        prop_assert_eq!(&felix.status.failing, &vec![]);
        let writes = kernel.writes();
        let mut after = driver(&kernel);
        after.pass(&shall, now);
        after.pass(&wanted(last, false), now);
        prop_assert_eq!(kernel.writes(), writes, "a restart changes nothing");
        prop_assert_eq!(&after.status.there, &felix.status.there);
        prop_assert!(kernel.holds(FOREIGN, &foreign));
    }
}

#[test]
fn a_restart_without_memory_removes_nothing_before_the_datastore_is_in_sync() {
    let kernel = FakeTables::new();
    let now = Instant::now();
    driver(&kernel).pass(&wanted(3, true), now);
    let writes = kernel.writes();
    let mut after = driver(&kernel);
    after.pass(&Wanted::default(), now);
    for less in [0, 1] {
        after.pass(&wanted(less, false), now);
    }
    assert_eq!(kernel.writes(), writes);
    assert!(is_whole(&kernel, &wanted(3, true)));
    after.pass(&wanted(1, true), now);
    assert!(is_whole(&kernel, &wanted(1, true)));
}

#[test]
fn one_refused_table_delays_itself_alone() {
    let kernel = FakeTables::new();
    let mut now = Instant::now();
    let mut felix = driver(&kernel);
    let shall = wanted(2, true);
    kernel.refuse(ALL[0], Errno::EOPNOTSUPP, 3);
    felix.pass(&shall, now);
    let [failing] = felix.status.failing.as_slice() else {
        panic!("{:?}", felix.status)
    };
    assert_eq!((failing.object.as_str(), failing.attempts), ("table ip tortie-nat", 1));
    assert!(
        failing
            .error
            .starts_with("write table ip tortie-nat: Operation not supported")
    );
    assert_eq!(kernel.ids(), [ALL[1]], "the other family's is there");
    // Not before its time, whatever else happens.
    let writes = kernel.writes();
    felix.pass(&shall, now);
    assert_eq!(kernel.writes(), writes);
    let mut waits = Vec::new();
    while let Some(next) = felix.next_deadline() {
        waits.push(next.duration_since(now).as_millis());
        now = next;
        felix.pass(&shall, now);
    }
    assert_eq!(waits, [100, 200, 400]);
    assert!(is_whole(&kernel, &shall));
}

#[test]
fn a_kernel_without_nftables_fails_where_something_is_wanted_of_it() {
    let refused = || Err(RequestError::new("open", "it", std::io::ErrorKind::Unsupported.into()));
    let mut felix = Driver::<FakeTables>::new(Box::new(refused));
    felix.pass(&wanted(0, true), Instant::now());
    assert_eq!(felix.status.failing, []);
    felix.pass(&wanted(1, true), Instant::now());
    assert_eq!(felix.status.failing.len(), 1);
}
