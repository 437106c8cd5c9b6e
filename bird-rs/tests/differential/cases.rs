//! One test for each file in `cases`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::script::{Case, Step};
use crate::side::{Program, Side, Snapshot};

/// How long a difference may last before it is one: what programs do by their own clocks within a second is awaited.
const GRACE: Duration = Duration::from_secs(3);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/cases")
}

/// Lines that only one side has, as the case would name them.
fn differences(bird: &Snapshot, ours: &Snapshot) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (section, birds) in bird {
        let mut ours = ours[section].clone();
        for line in birds {
            match ours.iter().position(|known| known == line) {
                Some(at) => drop(ours.swap_remove(at)),
                None => drop(found.insert(format!("{section} - {line}"))),
            }
        }
        found.extend(ours.iter().map(|line| format!("{section} + {line}")));
    }
    found
}

/// Does the same with both, at the same time.
fn both(sides: &mut [Side], work: impl Fn(&mut Side) + Sync) {
    std::thread::scope(|scope| {
        for side in sides {
            scope.spawn(|| work(side));
        }
    });
}

/// What differs when both are at rest.
fn compare(sides: &mut [Side], case: &Case) -> BTreeSet<String> {
    let start = Instant::now();
    loop {
        let snapshots: Vec<Snapshot> = sides.iter().map(|side| side.snapshot(case)).collect();
        let found = differences(&snapshots[0], &snapshots[1]);
        let known = found.iter().all(|line| case.admits(line));
        if known || start.elapsed() > GRACE {
            if std::env::var_os("SHOW").is_some() {
                println!("{:#?}", snapshots[0]);
            }
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Case {
    fn admits(&self, line: &str) -> bool {
        self.differences
            .iter()
            .any(|(_, lines)| lines.iter().any(|known| known == line))
    }
}

fn run(name: &str) {
    let case = Case::read(&folder().join(format!("{name}.case")));
    let mut sides: Vec<Side> = std::thread::scope(|scope| {
        let case = &case;
        let started = [Program::Bird, Program::BirdRs].map(|program| scope.spawn(move || Side::new(program, case)));
        started.into_iter().map(|side| side.join().unwrap()).collect()
    });
    both(&mut sides, |side| side.begin(&case));
    let mut unknown = String::new();
    let mut known = BTreeSet::new();
    for at in 0..=case.steps.len() {
        let what = match at.checked_sub(1).map(|at| &case.steps[at]) {
            None => "the beginning".to_owned(),
            Some(step) => {
                both(&mut sides, |side| side.step(step));
                let what = match step {
                    Step::Neighbour(name, _) => name,
                    Step::Configure(_) => "config",
                    Step::Birdc(_) => "birdc",
                    Step::Router(_) => "router",
                };
                format!("step {at}, {what}")
            }
        };
        for line in compare(&mut sides, &case) {
            if case.admits(&line) {
                known.insert(line);
            } else {
                unknown += &format!("after {what}: {line}\n");
            }
        }
    }
    sides.iter_mut().for_each(Side::is_well);
    assert!(
        unknown.is_empty(),
        "BIRD (-) and bird-rs (+) differ in {name}:\n{unknown}"
    );
    documented(&case, &known);
}

/// What a case admits is in the documentation, and happens.
fn documented(case: &Case, seen: &BTreeSet<String>) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let read = |name: &str| std::fs::read_to_string(docs.join(name)).unwrap();
    let text = read("bird-rs-configuration.md") + &read("bird-rs-control-socket.md");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (quotation, lines) in &case.differences {
        assert!(
            words(&text).contains(&words(quotation)),
            "no documentation says {quotation:?}"
        );
        for line in lines {
            assert!(seen.contains(line), "this is no difference any more: {line}");
        }
    }
}

macro_rules! cases {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { run(stringify!($name)); })*
    };
}

cases! {
    add_paths_from_a_neighbour
    add_paths_to_a_neighbour
    aggregates_and_unknown_attributes
    as_sets_refused
    best_path_steps
    both_families_over_ipv4
    calico_node
    calico_node_with_filters
    communities_of_all_kinds
    confederation_segments
    datacenter_leaf
    default_local_pref_and_med
    deterministic_med
    direct_routes
    enforce_first_as
    export_filters_that_change_attributes
    export_limit_block
    export_limit_disable
    export_limit_restart
    extended_next_hop
    far_neighbours
    filters_are_changed_while_running
    filters_on_what_a_route_is
    functions_case_and_for
    gateway_modes
    graceful_shutdown
    guarded_sessions
    igp_metric_decides
    igp_metric_off
    import_by_prefix_sets
    import_filters_that_change_attributes
    import_limit_block
    import_limit_disable
    import_limit_restart
    import_limit_warn
    ipv6_only
    limits_of_own_routes
    link_local_session
    local_as_of_four_octets
    local_pref_over_external_sessions
    long_paths
    loops
    malformed_attributes
    med_metric
    med_without_knobs
    neighbours_are_changed_while_running
    neighbours_of_a_range
    next_hop_prefer_global
    next_hop_self_keep_and_address
    next_hops_beyond_the_subnet
    next_hops_nobody_can_reach
    one_line_each_way
    operators_commands
    path_masks
    path_metric_off
    path_operations
    prefer_older
    preference_of_channels
    receive_limit_block
    receive_limit_disable
    recursive_static_routes
    reflector
    reflector_with_policies
    reflector_with_several_cluster_ids
    refused_opens
    roles
    roles_that_do_not_fit
    route_refresh
    second_best
    route_server
    route_server_with_filters_for_each_client
    separate_tables
    static_routes_come_and_go
    static_routes_of_every_kind
    static_routes_with_attributes
    templates
    the_router_connects
    two_octet_neighbours
    values_in_filters
    well_known_communities
}

#[test]
fn every_file_is_a_test() {
    let files = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let cases = files.filter(|path| path.extension().is_some_and(|kind| kind == "case"));
    let mut names: Vec<String> = cases
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mut known = NAMES.to_vec();
    known.sort_unstable();
    assert_eq!(names, known);
}
