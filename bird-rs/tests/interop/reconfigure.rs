//! Edits of a file in stock BIRD and in bird-rs: what restarts a session there may restart it here, and nothing else does;
//! and a session with a neighbour lives through all edits that restart nothing.

use std::collections::BTreeSet;

use crate::lab::{Client, Lab, Running, eventually, tool};

const FILE: &str = r#"
router id 10.77.0.1;
log stderr { info, error };
ipv4 table second;
filter fi { accept; }
filter fo { bgp_med = 5; accept; }
function fn(int a) { return a > 5; }
define N = 7;
protocol device device1 { }
template bgp tpl { connect retry time 9; }
protocol static s4 { ipv4 { }; route 10.1.0.0/24 blackhole; }
protocol static sv { ipv4; route 10.1.1.0/24 via 10.77.0.9; }
protocol bgp up from tpl { connect delay time 1; hold time 90;
  local 10.77.0.1 as 65001; neighbor 10.77.0.2 as 65002; direct;
  ipv4 { import filter fi; export filter fo; }; }
protocol bgp two { local 10.77.0.1 as 65001; neighbor 10.77.0.3 as 65001; passive;
  ipv4 { import where fn(bgp_local_pref); export where net.len > N; }; }
protocol bgp mh { local 10.77.0.1 as 65001; neighbor 10.88.0.3 as 65003; multihop; ipv4 { import all; export all; }; }
"#;

const NEIGHBOUR: &str = "router id 10.77.0.2;
protocol device { }
protocol static { ipv4; route 10.2.0.0/24 blackhole; }
protocol bgp up { passive; local 10.77.0.2 as 65002; neighbor 10.77.0.1 as 65001; direct;
  ipv4 { import all; export all; }; }
";

/// Options of the session with the neighbour.
const SESSION: &[&str] = &[
    "hold time 60;",
    "startup hold time 30;",
    "min hold time 10;",
    "min keepalive time 5;",
    "keepalive time 10;",
    "connect delay time 3;",
    "connect retry time 30;",
    "error wait time 5, 60;",
    "error forget time 200;",
    "description \"x\";",
    "password \"abc\";",
    "passive;",
    "ttl security;",
    "rs client;",
    "rr cluster id 1.2.3.4;",
    "graceful restart;",
    "graceful restart time 77;",
    "long lived graceful restart;",
    "long lived stale time 100;",
    "path metric off;",
    "igp metric off;",
    "med metric;",
    "prefer older;",
    "deterministic med;",
    "default bgp_med 5;",
    "default bgp_local_pref 50;",
    "capabilities off;",
    "enable route refresh off;",
    "enable as4 off;",
    "enable extended messages;",
    "interpret communities off;",
    "allow local as 2;",
    "allow bgp_local_pref;",
    "allow as sets off;",
    "enforce first as;",
    "local role peer;",
    "disable after error;",
    "disable after cease;",
    "bfd;",
    "strict bind;",
    "router id 9.9.9.9;",
    "local port 1179;",
    "neighbor port 1179;",
    "interface \"eth0\";",
    "source address 10.77.0.1;",
];

/// Options of its channel.
const CHANNEL: &[&str] = &[
    "table second;",
    "preference 50;",
    "import limit 10;",
    "import limit 10 action block;",
    "export limit 10;",
    "receive limit 10;",
    "import keep filtered;",
    "next hop self;",
    "next hop self ibgp;",
    "next hop keep;",
    "next hop address 10.77.0.1;",
    "gateway recursive;",
    "add paths;",
    "add paths rx;",
    "add paths tx;",
    "extended next hop;",
    "mandatory;",
    "import table;",
    "export table;",
    "graceful restart off;",
    "long lived graceful restart;",
    "cost 5;",
    "rpki reload off;",
    "import none;",
    "export none;",
    "import all;",
    "export all;",
];

/// Other edits.
const EDITS: &[(&str, &str)] = &[
    ("10.77.0.2 as 65002", "10.77.0.2 as 65009"),
    ("as 65001; neighbor 10.77.0.2", "as 65011; neighbor 10.77.0.2"),
    ("neighbor 10.77.0.2", "neighbor 10.77.0.22"),
    (
        "local 10.77.0.1 as 65001; neighbor 10.77.0.2",
        "local 10.77.0.5 as 65001; neighbor 10.77.0.2",
    ),
    ("router id 10.77.0.1", "router id 10.77.0.7"),
    ("retry time 9;", "retry time 19;"),
    ("retry time 9;", "retry time 9; error wait time 5, 60;"),
    ("fi { accept; }", "fi { reject; }"),
    ("bgp_med = 5", "bgp_med = 6"),
    ("filter fi {", "\n# moved\nfilter fi {"),
    ("a > 5", "a > 6"),
    ("N = 7", "N = 8"),
    ("define N", "define UNUSED = 1; define N"),
    (
        "10.1.0.0/24 blackhole;",
        "10.1.0.0/24 blackhole; route 10.1.2.0/24 blackhole;",
    ),
    ("route 10.1.0.0/24 blackhole;", ""),
    ("10.1.0.0/24 blackhole", "10.1.0.0/24 unreachable"),
    ("10.1.0.0/24 blackhole;", "10.1.0.0/24 blackhole { bgp_med = 7; };"),
    ("via 10.77.0.9", "via 10.77.0.8"),
    ("s4 { ipv4 { }", "s4 { ipv4 { import none; }"),
    ("s4 { ipv4 { }", "s4 { ipv4 { table second; }"),
    ("s4 { ipv4 { }", "s4 { ipv4 { preference 150; }"),
    ("bgp mh {", "bgp renamed {"),
    (
        "protocol bgp mh",
        "protocol static more { ipv4; route 10.9.0.0/24 blackhole; }\nprotocol bgp mh",
    ),
    (
        "ipv4 { import filter fi",
        "ipv6 { import all; export all; }; ipv4 { import filter fi",
    ),
    ("ipv4 { import filter fi", "ipv6 { import filter fi"),
    ("device1 { }", "device1 { scan time 30; }"),
    ("ipv4 table second;", "ipv4 table second; ipv6 table third;"),
    ("multihop;", "multihop 5;"),
    ("multihop;", "multihop 5; ttl security;"),
    ("define N", "timeformat base iso long;\ndefine N"),
    ("define N", "graceful restart wait 99;\ndefine N"),
    ("direct;\n", "direct;\n#\n"),
    ("10.88.0.3 as 65003", "10.88.0.3 as 65004"),
];

/// Each file with the edit that made it.
fn files() -> Vec<(String, String)> {
    let edited = |from: &str, to: &str, name: &str| {
        assert!(FILE.contains(from), "{from}");
        (name.to_owned(), FILE.replacen(from, to, 1))
    };
    let (session, channel) = ("hold time 90;", "import filter fi; export filter fo;");
    let sessions = SESSION
        .iter()
        .map(|option| edited(session, &format!("{session} {option}"), option));
    let channels = CHANNEL
        .iter()
        .map(|option| edited(channel, &format!("{channel} {option}"), option));
    let edits = EDITS.iter().map(|(from, to)| edited(from, to, to));
    sessions.chain(channels).chain(edits).collect()
}

/// Stock BIRD in our place.
fn bird(lab: &Lab) -> Running {
    let config = lab.write("a.conf", FILE);
    let mut command = lab.command("a", tool("/usr/sbin/bird"));
    command.arg("-f").arg("-c").arg(config);
    command.arg("-s").arg(lab.path("a.ctl"));
    command.arg("-P").arg(lab.path("a.pid"));
    lab.spawn(command, "a")
}

/// What BIRD restarts for a file; none when it refuses it. The file before is its own again afterwards.
fn restarted_by_bird(lab: &Lab, file: &str) -> Option<BTreeSet<String>> {
    let change = |file: &str| {
        let before = lab.log("a").len();
        lab.write("a.conf", file);
        if lab.birdc_of("a", "configure").contains("a.conf:") {
            return None;
        }
        Some(eventually("BIRD has reconfigured", || {
            let log = lab.log("a").split_off(before);
            log.contains("Reconfigured").then_some(log)
        }))
    };
    let log = change(file)?;
    change(FILE).expect("the first file is good");
    let restarted = log.lines().filter_map(|line| line.split("Restarting protocol ").nth(1));
    Some(restarted.map(str::to_owned).collect())
}

/// What we restart for a file; none when we refuse it. Nothing is changed.
fn restarted_by_us(client: &mut Client, file: &str) -> Option<BTreeSet<String>> {
    let answer = client.configure(file, true, "");
    let changes = answer.changes.into_iter().filter(|change| change.action == "restart");
    answer.accepted.then(|| changes.map(|change| change.protocol).collect())
}

#[test]
fn an_edit_restarts_nothing_that_it_does_not_restart_in_bird() {
    let (birds, ours) = (Lab::new(), Lab::new());
    let _bird = bird(&birds);
    let _ours = ours.bird_rs("a", FILE);
    eventually("BIRD runs", || {
        birds.birdc_of("a", "show status").contains("is up").then_some(())
    });
    let mut client = ours.client("a");
    let (mut wrong, mut both) = (String::new(), 0);
    for (name, file) in files() {
        match (restarted_by_bird(&birds, &file), restarted_by_us(&mut client, &file)) {
            (Some(bird), Some(ours)) => {
                both += usize::from(bird == ours && !bird.is_empty());
                if !ours.is_subset(&bird) {
                    wrong += &format!("{name}: BIRD restarts {bird:?}, we restart {ours:?}\n");
                }
            }
            (bird, ours) if bird.is_some() == ours.is_some() => {}
            (bird, ours) => wrong += &format!("{name}: BIRD {bird:?}, we {ours:?}; none is a refusal\n"),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(both > 30, "only {both} edits restart the same in both");
}

#[test]
fn a_session_lives_through_every_edit_that_does_not_restart_it() {
    let lab = Lab::new();
    let _neighbour = lab.bird("b", NEIGHBOUR, false);
    let _ours = lab.bird_rs("a", FILE);
    let mut client = lab.client("a");
    client.established("up");
    let since = |client: &mut Client| {
        let up = client.protocols().into_iter().find(|protocol| &*protocol.name == "up");
        let up = up.unwrap();
        (up.bgp.unwrap().state, up.since_unix_ms)
    };
    let first = since(&mut client);
    assert_eq!(first.0, "Established");
    let mut lived_through = 0;
    for (name, file) in files() {
        if !matches!(restarted_by_us(&mut client, &file), Some(restarted) if !restarted.contains("up")) {
            continue;
        }
        for text in [&*file, FILE] {
            assert!(client.configure(text, false, &name).accepted, "{name}");
            assert_eq!(since(&mut client), first, "{name}");
        }
        lived_through += 1;
    }
    assert!(lived_through > 50, "{lived_through}");
    // Neither has the neighbour seen anything; an edit that must restart the session does.
    let theirs = lab.birdc("show protocols up");
    assert!(theirs.contains("Established"), "{theirs}");
    client.learns("up", &["10.2.0.0/24 via 10.77.0.2"]);
    let other = FILE.replace("hold time 90", "hold time 60");
    assert!(client.configure(&other, false, "other").accepted);
    assert_ne!(since(&mut client), first);
    client.established("up");
}
