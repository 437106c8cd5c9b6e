//! `protocol kernel` beside stock BIRD's: the same file in two namespaces that are alike leaves the same routes in the
//! kernel, whatever others put there, and however the program ends. What is ours alone (drift is repaired at once, a crash
//! costs no route) is shown by itself.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::lab::{Lab, Running, eventually_or, run, tool};

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Ours,
    Bird,
}

/// A namespace with `d0` (10.1.0.1/24, fd01::1/64) and `d1` (10.2.0.1/24), and a program in it.
struct Host {
    program: Program,
    netns: String,
    folder: tempfile::TempDir,
    running: Option<Running>,
}

impl Host {
    fn new(program: Program) -> Host {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let host = Host {
            program,
            netns: format!("tt-k-{}-{serial}", std::process::id()),
            folder: tempfile::tempdir().unwrap(),
            running: None,
        };
        run(Command::new("ip").args(["netns", "add", &host.netns]));
        for command in [
            "link set lo up",
            "link add d0 type veth peer name p0",
            "link add d1 type veth peer name p1",
            "link set p0 up",
            "link set p1 up",
            "link set d0 up",
            "link set d1 up",
            "address add 10.1.0.1/24 dev d0",
            "address add fd01::1/64 dev d0 nodad",
            "address add 10.2.0.1/24 dev d1",
        ] {
            host.ip(command);
        }
        host
    }

    fn ip(&self, arguments: &str) {
        run(Command::new("ip").args(["-n", &self.netns]).args(arguments.split(' ')));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, config: &str) -> PathBuf {
        let path = self.path("router.conf");
        std::fs::write(&path, config).unwrap();
        path
    }

    fn start(&mut self, config: &str) {
        let config = self.write(config);
        let program: &[&str] = match self.program {
            Program::Ours => &[env!("CARGO_BIN_EXE_bird-rs")],
            Program::Bird => &[tool("/usr/sbin/bird"), "-f"],
        };
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.netns]).args(program);
        command.arg("-c").arg(config).arg("-s").arg(self.path("ctl"));
        command.arg("-P").arg(self.path("pid"));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.running = Some(Running(command.spawn().unwrap()));
    }

    /// The file is another one now.
    fn reconfigure(&mut self, config: &str) {
        self.write(config);
        self.signal("-HUP");
    }

    fn signal(&mut self, signal: &str) {
        let running = self.running.as_mut().unwrap();
        running.signal(signal);
    }

    fn end(&mut self, signal: &str) {
        self.signal(signal);
        self.running.as_mut().unwrap().ended();
        self.running = None;
        // BIRD does not start beside a socket of its own that seems to be in use.
        let _ = std::fs::remove_file(self.path("ctl"));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn birdc(&self, what: &str) -> String {
        let mut command = Command::new("birdc");
        command.arg("-s").arg(self.path("ctl")).args(what.split(' '));
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    }

    /// Every route of every table but what the kernel itself put there, all fields, sorted.
    fn routes(&self) -> BTreeSet<String> {
        let mut routes = BTreeSet::new();
        for family in ["-4", "-6"] {
            let arguments = ["-n", &self.netns, "-j", family, "route", "show", "table", "all"];
            let output = run(Command::new("ip").args(arguments));
            let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
            let own = all.iter().filter(|route| route["protocol"] != "kernel");
            routes.extend(own.map(canonical));
        }
        routes
    }

    /// The destinations of BIRD's own routes.
    fn written(&self) -> BTreeSet<String> {
        let own = self.routes().into_iter().filter(|route| route.contains("\"bird\""));
        let parsed = own.map(|route| serde_json::from_str::<Value>(&route).unwrap());
        parsed
            .map(|route| route["dst"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Waits until the destinations are these.
    fn comes_to(&self, wanted: &[&str]) {
        let wanted: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
        eventually_or(|| {
            let written = self.written();
            let differs = || format!("{:?} has {written:?}, not {wanted:?}\n{}", self.program, self.log());
            if written == wanted { Ok(()) } else { Err(differs()) }
        });
    }
}

/// The next hops of a route in one order: theirs is of no meaning.
fn canonical(route: &Value) -> String {
    let mut route = route.clone();
    if let Some(hops) = route.get_mut("nexthops").and_then(Value::as_array_mut) {
        hops.sort_by_key(ToString::to_string);
    }
    route.to_string()
}

impl Drop for Host {
    fn drop(&mut self) {
        self.running = None;
        // It may never have been made.
        let _ = Command::new("ip").args(["netns", "del", &self.netns]).output();
    }
}

/// Both programs, in namespaces that are alike.
struct Twins([Host; 2]);

impl Twins {
    fn new() -> Twins {
        Twins([Program::Ours, Program::Bird].map(Host::new))
    }

    fn each(&mut self, act: impl FnMut(&mut Host)) {
        self.0.iter_mut().for_each(act);
    }

    /// Both come to have written routes to these destinations, and then all routes are equal.
    fn agree(&self, wanted: &[&str]) -> BTreeSet<String> {
        self.0.iter().for_each(|host| host.comes_to(wanted));
        let [ours, bird] = &self.0;
        eventually_or(|| {
            let (ours, bird) = (ours.routes(), bird.routes());
            let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
            let differs = || {
                format!(
                    "ours alone: {:#?}\nBIRD alone: {:#?}",
                    only(&ours, &bird),
                    only(&bird, &ours)
                )
            };
            if ours == bird { Ok(ours.clone()) } else { Err(differs()) }
        })
    }
}

/// Both kernel protocols with these options, and these routes.
fn config(options: &str, routes: &str) -> String {
    format!(
        "router id 10.1.0.1;
log stderr all;
ipv4 table beside;
protocol device {{ scan time 1; }}
protocol kernel k4 {{ scan time 1; {options} ipv4 {{ export all; }}; }}
protocol kernel k6 {{ scan time 1; {options} ipv6 {{ export filter {{ krt_prefsrc = fd01::1; accept; }}; }}; }}
protocol kernel k100 {{ scan time 1; kernel table 100; {options} ipv4 {{ table beside; export all; }}; }}
{routes}"
    )
}

const ROUTES: &str = "protocol direct { ipv4; }
protocol static s4 { ipv4;
  route 10.70.0.0/24 via 10.1.0.5 weight 3 via 10.2.0.5 weight 7;
  route 10.71.0.0/24 via \"d0\";
  route 10.72.0.0/24 via 169.254.8.8%'d0' onlink;
  route 10.73.0.0/24 via 10.1.0.5 { krt_prefsrc = 10.2.0.1; };
  route 10.74.0.0/24 blackhole;
  route 10.75.0.0/24 unreachable;
  route 10.76.0.0/24 prohibit;
  route 10.77.0.0/24 via 10.1.0.5 { krt_metric = 99; };
  route 0.0.0.0/0 via 10.1.0.5;
}
protocol static s6 { ipv6;
  route fd50::/64 via fd01::5;
  route fd51::/64 blackhole;
  route fd52::/64 unreachable;
}
protocol static s100 { ipv4 { table beside; }; route 10.70.0.0/24 via 10.2.0.9; }
";

const WRITTEN: [&str; 14] = [
    "10.1.0.0/24",
    "10.2.0.0/24",
    "10.70.0.0/24",
    "10.71.0.0/24",
    "10.72.0.0/24",
    "10.73.0.0/24",
    "10.74.0.0/24",
    "10.75.0.0/24",
    "10.76.0.0/24",
    "10.77.0.0/24",
    "default",
    "fd50::/64",
    "fd51::/64",
    "fd52::/64",
];

#[test]
fn the_same_file_leaves_the_same_routes_and_takes_them_away() {
    let mut twins = Twins::new();
    twins.each(|host| host.start(&config("", ROUTES)));
    let routes = twins.agree(&WRITTEN);
    let written = routes.iter().filter(|route| route.contains("\"bird\""));
    assert_eq!(written.count(), WRITTEN.len() + 1, "one of them in another table");
    // Replaced in place, added, withdrawn.
    let changed = ROUTES
        .replace(
            "10.70.0.0/24 via 10.1.0.5 weight 3 via 10.2.0.5 weight 7",
            "10.70.0.0/24 via 10.1.0.9",
        )
        .replace("10.74.0.0/24 blackhole", "10.74.0.0/24 via 10.1.0.5 via 10.2.0.5")
        .replace("route 10.75.0.0/24 unreachable;", "")
        .replace("fd51::/64 blackhole", "fd51::/64 via fd01::7")
        .replace("fd50::/64 via fd01::5", "fd50::/64 unreachable");
    twins.each(|host| host.reconfigure(&config("", &changed)));
    let without = WRITTEN.iter().copied().filter(|net| *net != "10.75.0.0/24");
    let without: Vec<&str> = without.collect();
    twins.agree(&without);
    twins.each(|host| host.end("-TERM"));
    twins.agree(&[]);
}

#[test]
fn the_metric_is_the_protocols_or_the_routes_own() {
    let mut twins = Twins::new();
    let routes = "protocol static { ipv4; route 10.77.0.0/24 via 10.1.0.5 { krt_metric = 99; };
        route 10.78.0.0/24 blackhole; }
        protocol static { ipv6; route fd50::/64 via fd01::5; }";
    let all = ["10.77.0.0/24", "10.78.0.0/24", "fd50::/64"];
    twins.each(|host| host.start(&config("metric 0;", routes)));
    let shown = twins.agree(&all);
    assert!(shown.iter().any(|route| route.contains("\"metric\":99")), "{shown:?}");
    // Another metric is another place in the kernel: nothing stays in the old one.
    twins.each(|host| host.reconfigure(&config("metric 500;", routes)));
    let wanted = |routes: &BTreeSet<String>| routes.iter().all(|route| route.contains("\"metric\":500"));
    eventually_or(|| {
        let shown = twins.agree(&all);
        if wanted(&shown) {
            Ok(())
        } else {
            Err(format!("{shown:?}"))
        }
    });
}

#[test]
fn paths_of_equal_cost_are_merged() {
    let routes = "protocol static a { ipv4; route 10.70.0.0/24 via 10.1.0.5; }
        protocol static b { ipv4; route 10.70.0.0/24 via 10.2.0.5; }";
    let mut twins = Twins::new();
    twins.each(|host| host.start(&config("merge paths on;", routes)));
    let shown = twins.agree(&["10.70.0.0/24"]);
    assert!(shown.iter().any(|route| route.contains("nexthops")), "{shown:?}");
    twins.each(|host| host.reconfigure(&config("merge paths off;", routes)));
    eventually_or(|| {
        let shown = twins.agree(&["10.70.0.0/24"]);
        let single = !shown.iter().any(|route| route.contains("nexthops"));
        if single { Ok(()) } else { Err(format!("{shown:?}")) }
    });
}

/// Routes of others, and what former lives left.
const OTHERS: [&str; 12] = [
    "route add 10.60.0.0/24 via 10.1.0.8 proto static metric 5 src 10.2.0.1",
    "route add 10.60.0.0/24 via 10.1.0.7 proto static metric 4",
    "route add 10.61.0.0/24 dev d0 metric 32",
    "route add blackhole 10.62.0.0/24",
    "route add throw 10.63.0.0/24",
    "route add 10.64.0.0/24 tos 0x10 via 10.1.0.8",
    "route add 10.65.0.0/24 nexthop via 10.1.0.8 weight 3 nexthop via 10.2.0.8 weight 2",
    "route add 10.66.0.0/24 via 10.1.0.8 proto 186 src 10.2.0.1",
    "route add 10.67.0.0/24 via 169.254.9.9 dev d0 onlink",
    "-6 route add fd99::/64 via fd01::9 metric 7",
    "route add 10.50.0.0/24 via 10.1.0.9 proto bird metric 77",
    "route add 10.51.0.0/24 via 10.1.0.9 proto bird metric 32",
];

/// What birdc says of the routes of a protocol, without times.
fn shown(host: &Host, what: &str) -> BTreeSet<String> {
    let text = host.birdc(what);
    let mut blocks: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with(['1', 'f', '\t'])) {
        let line = line.split_once(" [").map_or(line.to_owned(), |(head, rest)| {
            let (inside, tail) = rest.split_once(']').unwrap_or_default();
            let protocol = inside.split(' ').next().unwrap_or_default();
            format!("{head} [{protocol}]{tail}")
        });
        match blocks.last_mut().filter(|_| line.starts_with('\t')) {
            Some(block) => *block += &line,
            None => blocks.push(line),
        }
    }
    blocks.into_iter().collect()
}

#[test]
fn routes_of_others_are_learned_and_those_in_the_way_stay() {
    let routes = "protocol static { ipv4; route 10.60.0.0/24 via 10.1.0.5; route 10.61.0.0/24 via 10.1.0.5; }";
    let mut twins = Twins::new();
    twins.each(|host| {
        OTHERS.iter().for_each(|command| host.ip(command));
        host.start(&config("learn;", routes));
    });
    // 10.50.0.0/24 is of another BIRD; 10.51.0.0/24 was ours; 10.61.0.0/24 is taken.
    twins.agree(&["10.50.0.0/24", "10.60.0.0/24"]);
    let learned = |what: &str, count: usize| {
        let [ours, bird] = &twins.0;
        eventually_or(|| {
            let (ours, bird) = (shown(ours, what), shown(bird, what));
            if ours == bird && ours.len() == count {
                return Ok(());
            }
            Err(format!("ours: {ours:#?}\nBIRD: {bird:#?}"))
        });
    };
    learned("show route primary where source = RTS_INHERIT", 5);
    learned("show route all 10.66.0.0/24", 1);
    learned("show route all 10.65.0.0/24", 1);
    learned("show route all 10.67.0.0/24", 1);
    learned("show route all fd99::/64", 1);
    // One goes, one comes, one changes.
    twins.0.iter().for_each(|host| {
        host.ip("route del blackhole 10.62.0.0/24");
        host.ip("route add 10.68.0.0/24 via 10.1.0.8 proto static");
        host.ip("route replace 10.66.0.0/24 via 10.1.0.9 proto 186");
    });
    learned("show route 10.62.0.0/24", 0);
    learned("show route all 10.68.0.0/24", 1);
    learned("show route all 10.66.0.0/24", 1);
    let [ours, bird] = &twins.0;
    assert!(
        ours.log().contains("somebody else's route is in the way"),
        "{}",
        ours.log()
    );
    assert!(bird.log().contains("File exists"), "{}", bird.log());
    // The way is free.
    twins
        .0
        .iter()
        .for_each(|host| host.ip("route del 10.61.0.0/24 dev d0 metric 32"));
    twins.agree(&["10.50.0.0/24", "10.60.0.0/24", "10.61.0.0/24"]);
    twins.each(|host| host.end("-TERM"));
    twins.agree(&["10.50.0.0/24"]);
}

#[test]
fn routes_outlive_the_program_when_they_are_to_or_when_it_crashes() {
    let routes = |last: &str| format!("protocol static {{ ipv4; route 10.70.0.0/24 via 10.1.0.5; {last} }}");
    let (old, new) = (
        routes("route 10.71.0.0/24 blackhole;"),
        routes("route 10.72.0.0/24 blackhole;"),
    );
    let both = ["10.70.0.0/24", "10.71.0.0/24"];
    let mut twins = Twins::new();
    twins.each(|host| host.start(&config("persist;", &old)));
    twins.agree(&both);
    twins.each(|host| host.end("-TERM"));
    twins.agree(&both);
    // What was left is recognised, and what is not wanted any more goes.
    twins.each(|host| host.start(&config("", &new)));
    twins.agree(&["10.70.0.0/24", "10.72.0.0/24"]);
    twins.each(|host| host.end("-KILL"));
    twins.agree(&["10.70.0.0/24", "10.72.0.0/24"]);
    twins.each(|host| host.start(&config("", &old)));
    twins.agree(&both);
}

#[test]
fn a_restart_sweeps_nothing_before_the_peers_were_waited_for() {
    let text = |peer: &str| {
        format!(
            "router id 10.1.0.1; protocol device {{ }} protocol kernel {{ ipv4 {{ export all; }}; }}
            protocol static {{ ipv4; route 10.70.0.0/24 via 10.1.0.5; }} {peer}"
        )
    };
    let peer = "protocol bgp absent { local 10.1.0.1 as 65001; neighbor 10.1.0.7 as 65002; ipv4 { import all; export none; }; }";
    let mut host = Host::new(Program::Ours);
    // As it was before a crash: the peer's route is there.
    host.ip("route add 10.90.0.0/24 via 10.1.0.7 proto bird metric 32");
    host.start(&text(peer));
    host.comes_to(&["10.70.0.0/24", "10.90.0.0/24"]);
    host.reconfigure(&text(""));
    // Nobody is left to wait for.
    host.comes_to(&["10.70.0.0/24"]);
}

#[test]
fn drift_is_repaired_from_events() {
    let text = "router id 10.1.0.1; protocol device { }
        protocol kernel { scan time 3600; ipv4 { export all; }; }
        protocol kernel { scan time 3600; ipv6 { export all; }; }
        protocol static { ipv4; route 10.70.0.0/24 via 10.1.0.5; route 10.71.0.0/24 via 10.2.0.5; }
        protocol static { ipv6; route fd50::/64 via fd01::5; }";
    let all = ["10.70.0.0/24", "10.71.0.0/24", "fd50::/64"];
    let mut host = Host::new(Program::Ours);
    host.start(text);
    host.comes_to(&all);
    let right = host.routes();
    let repaired = || {
        eventually_or(|| {
            let now = host.routes();
            if now == right {
                Ok(())
            } else {
                Err(format!("{now:#?}\n{}", host.log()))
            }
        });
    };
    for drift in [
        "route del 10.70.0.0/24",
        "route replace 10.70.0.0/24 via 10.1.0.99 proto bird metric 32",
        "-6 route del fd50::/64",
        "route add 10.99.0.0/24 via 10.1.0.99 proto bird metric 32",
    ] {
        host.ip(drift);
        repaired();
    }
    // With its link a route goes without a word, and comes back with it.
    host.ip("link set d1 down");
    host.comes_to(&["10.70.0.0/24", "fd50::/64"]);
    host.ip("link set d1 up");
    repaired();
    // By the operator's word.
    host.birdc("disable kernel1");
    host.comes_to(&["fd50::/64"]);
    host.birdc("enable kernel1");
    repaired();
}

/// Lines of `ip monitor` about a destination.
fn changes(lab: &Lab, net: &str) -> Vec<String> {
    let all = lab.log("monitor");
    all.lines()
        .filter(|line| line.contains(net))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_router_by_itself_forwards_and_its_crash_costs_no_packet() {
    const BEHIND: &str = "198.51.100.0/24";
    let lab = Lab::new();
    lab.address("b", "lo", "198.51.100.1/32");
    let theirs = "router id 10.77.0.2; log stderr all; protocol device { }
protocol static { ipv4; route 198.51.100.0/24 blackhole; }
protocol bgp tor { connect delay time 1; connect retry time 2; error wait time 1, 4; graceful restart on;
  local 10.77.0.2 as 65002; neighbor 10.77.0.1 as 65001; ipv4 { import none; export all; }; }
";
    let ours = "router id 10.77.0.1; protocol device { }
protocol kernel { ipv4 { export where source = RTS_BGP; }; }
protocol bgp Peer { connect delay time 1; connect retry time 2; error wait time 1, 4; graceful restart on;
  local 10.77.0.1 as 65001; neighbor 10.77.0.2 as 65002; ipv4 { import all; export none; }; }
";
    let mut bird = lab.bird("b", theirs, false);
    let mut monitor = lab.command("a", "ip");
    monitor.args(["monitor", "route"]);
    let _monitor = lab.spawn(monitor, "monitor");
    let mut daemon = lab.bird_rs("a", ours);
    eventually_or(|| {
        if changes(&lab, BEHIND).is_empty() {
            Err("no route yet")
        } else {
            Ok(())
        }
    });
    let reaches = || {
        let mut ping = lab.command("a", "ping");
        run(ping.args(["-c", "1", "-W", "5", "198.51.100.1"]));
    };
    reaches();
    daemon.signal("-KILL");
    daemon.ended();
    reaches();
    let daemon = lab.bird_rs("a", ours);
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &["198.51.100.0/24 via 10.77.0.2"]);
    reaches();
    let seen = changes(&lab, BEHIND);
    assert_eq!(seen.len(), 1, "written once, and never touched since: {seen:?}");
    // The peer says goodbye, and then we do.
    bird.signal("-TERM");
    bird.ended();
    eventually_or(|| {
        let seen = changes(&lab, BEHIND);
        if seen.iter().any(|line| line.starts_with("Deleted")) {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
    drop(daemon);
}
