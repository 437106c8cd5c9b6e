//! Origin validation (RFC 6811): stock BIRD and bird-rs with the same file, the same neighbour and the same cache, StayRTR, must
//! come to the same verdict on every route, also when the cache changes its mind, goes, and comes back as another.

use std::fmt::Write as _;

use crate::lab::{Lab, Running, eventually, eventually_or, tool};

const TABLES: &str = r#"
router id 10.77.0.1;
roa4 table r4;
roa6 table r6;
protocol device { }
protocol static local_roas { roa4; route 172.16.0.0/12 max 16 as 64999; }
protocol rpki cache { roa4 { table r4; }; roa6 { table r6; }; remote "10.77.0.2" port 8282;
  retry keep 1; refresh keep 2; expire keep 600; transport tcp; }
"#;

/// For each family: the verdicts on a route, by its origin and by its first AS, become communities.
const FILTER: &str = r#"
filter checkN {
  case roa_check(rN) { ROA_VALID: bgp_community.add((1,1)); ROA_INVALID: bgp_community.add((1,2)); ROA_UNKNOWN: bgp_community.add((1,3)); }
  case roa_check(rN, net, bgp_path.first) { ROA_VALID: bgp_community.add((2,1)); ROA_INVALID: bgp_community.add((2,2)); else: bgp_community.add((2,3)); }
  accept;
}
"#;

/// Without `import table` BIRD does not apply filters anew when ROAs change; bird-rs needs none.
const PROTOCOLS: &str = r#"
protocol bgp up { connect delay time 1; connect retry time 2; local 10.77.0.1 as 65001; neighbor 10.77.0.2 as 65002; direct;
  ipv4 { import table; import filter check4; export none; };
  ipv6 { import table; import filter check6; export where roa_check(r6, net, 65001) != ROA_INVALID; };
}
protocol static own { ipv6; route 2001:db7:1::/48 blackhole; route 2001:db7:2::/48 blackhole; }
"#;

fn file() -> String {
    let filter = |family: &str| {
        let named = FILTER.replace("checkN", &format!("check{family}"));
        named.replace("rN", &format!("r{family}"))
    };
    [TABLES, &filter("4"), &filter("6"), PROTOCOLS].concat()
}

/// Always the same numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// A prefix within a few bits of 10.0.0.0/8 or 2001:db8::/32, so that they nest.
    fn net(&mut self, shortest: u64) -> (String, u64) {
        let len = shortest + self.roll(9 - shortest);
        let bits = self.roll(256) >> (8 - len) << (8 - len);
        if self.roll(2) == 0 {
            (format!("10.{bits}.0.0/{}", 8 + len), 8 + len)
        } else {
            (format!("2001:db8:{:x}::/{}", bits << 8, 32 + len), 32 + len)
        }
    }
}

/// A file of StayRTR's: edges by hand, and many more by dice.
fn payloads(seed: u64) -> String {
    let mut roas: Vec<(String, u64, u64)> = [
        ("192.0.2.0/24", 24, 0),
        ("198.51.100.0/24", 32, 65002),
        ("203.0.113.0/24", 24, 65010),
        ("203.0.113.0/24", 26, 65002),
        ("2001:db7:1::/48", 48, 1),
    ]
    .map(|(net, max, asn)| (net.to_owned(), max, asn))
    .into();
    let mut dice = Dice(seed);
    for _ in 0..60 {
        // None covers everything.
        let (net, len) = dice.net(3);
        let longest = len + dice.roll(4);
        roas.push((net, longest, [65002, 65010, 65011, 0][dice.roll(4) as usize]));
    }
    roas.sort();
    roas.dedup();
    let row = |(net, max, asn): &(String, u64, u64)| {
        format!(r#"{{"prefix":"{net}","maxLength":{max},"asn":"AS{asn}","ta":"test"}}"#)
    };
    let rows: Vec<String> = roas.iter().map(row).collect();
    format!(r#"{{"roas":[{}]}}"#, rows.join(",\n"))
}

/// Routes with origins: the neighbour's own AS, others behind it, and paths that end in a set.
fn neighbour() -> String {
    let mut text = String::from(
        "router id 10.77.0.2; protocol device { }
         protocol bgp up { connect delay time 1; connect retry time 2; local 10.77.0.2 as 65002; neighbor 10.77.0.1 as 65001; direct;
           ipv4 { import all; export all; }; ipv6 { import all; export all; next hop self; }; }\n",
    );
    let mut dice = Dice(99);
    let (mut v4, mut v6) = (String::new(), String::new());
    let mut known = Vec::new();
    for net in [
        "192.0.2.0/24",
        "198.51.100.0/24",
        "198.51.100.7/32",
        "203.0.113.0/24",
        "203.0.113.64/26",
        "203.0.113.64/27",
        "172.16.0.0/16",
        "172.16.1.0/24",
        "100.64.0.0/10",
    ] {
        writeln!(v4, "route {net} blackhole;").unwrap();
    }
    for _ in 0..200 {
        let (net, _) = dice.net(0);
        if known.contains(&net) {
            continue;
        }
        let origin = [
            "",
            "bgp_path.prepend(65010);",
            "bgp_path.prepend(65011); bgp_path.prepend(65010);",
        ][dice.roll(3) as usize];
        let to = if net.contains(':') { &mut v6 } else { &mut v4 };
        writeln!(to, "route {net} blackhole {{ {origin} }};").unwrap();
        known.push(net);
    }
    write!(
        text,
        "protocol static s4 {{ ipv4;\n{v4}}}\nprotocol static s6 {{ ipv6;\n{v6}}}\n"
    )
    .unwrap();
    text
}

/// A daemon with the file on side a, the neighbour and the cache on side b.
struct World {
    lab: Lab,
    cache: Option<Running>,
    _daemon: Running,
    _neighbour: Running,
}

impl World {
    fn new(start: impl FnOnce(&Lab) -> Running) -> Self {
        let lab = Lab::new();
        lab.write("roas.json", &payloads(1));
        let cache = Some(cache(&lab));
        let neighbour = lab.bird("b", &neighbour(), false);
        let daemon = start(&lab);
        World {
            lab,
            cache,
            _daemon: daemon,
            _neighbour: neighbour,
        }
    }

    fn birdc(&self, what: &str) -> String {
        self.lab.birdc_of("a", what)
    }

    /// Every route that the neighbour told, with the verdicts on it.
    fn verdicts(&self) -> Vec<String> {
        let text = self.birdc("show route protocol up all");
        let mut verdicts = Vec::new();
        let mut net = String::new();
        for line in text.lines() {
            match line.split_whitespace().next() {
                Some(word) if !line.starts_with(char::is_whitespace) && word.contains('/') => net = word.to_owned(),
                Some("BGP.community:") => verdicts.push(format!(
                    "{net}{}",
                    line.trim_start().trim_start_matches("BGP.community:")
                )),
                _ => {}
            }
        }
        verdicts.sort();
        verdicts
    }

    /// The ROAs of both tables, without times.
    fn roas(&self) -> Vec<String> {
        let text = self.birdc("show route table r4") + &self.birdc("show route table r6");
        let roa = |line: &str| {
            let (net, protocol) = line.split_once('[')?;
            let protocol = protocol.split(' ').next()?;
            net.contains(" AS").then(|| format!("{} {protocol}", net.trim_end()))
        };
        let mut roas: Vec<String> = text.lines().filter_map(roa).collect();
        roas.sort();
        roas
    }

    /// What `eval` says of prefixes around the ROAs, by dice.
    fn evaluated(&self) -> Vec<String> {
        let mut dice = Dice(7);
        let one = |_| {
            let (net, _) = dice.net(2);
            let table = if net.contains(':') { "r6" } else { "r4" };
            let asn = [65002, 65010, 65011, 0][dice.roll(4) as usize];
            let answer = self.birdc(&format!("eval roa_check({table}, {net}, {asn})"));
            format!("{net} {asn}: {}", answer.lines().last().unwrap_or_default())
        };
        (0..40).map(one).collect()
    }

    fn told_to_the_neighbour(&self) -> String {
        let text = self.lab.birdc("show route protocol up");
        let mut nets: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .filter(|w| w.contains("::/"))
            .collect();
        nets.sort_unstable();
        nets.join(" ")
    }

    /// Since when the session is up.
    fn since(&self) -> Vec<String> {
        let text = self.birdc("show protocols up");
        let line = text.lines().find(|line| line.starts_with("up ")).unwrap_or_default();
        assert!(line.contains("Established"), "{text}");
        line.split_whitespace().map(str::to_owned).collect()
    }
}

/// StayRTR at 10.77.0.2, which follows `roas.json`.
pub(crate) fn cache(lab: &Lab) -> Running {
    let mut command = lab.command("b", tool("/usr/bin/stayrtr"));
    command
        .args([
            "-bind",
            "10.77.0.2:8282",
            "-metrics.addr",
            "",
            "-checktime=false",
            "-refresh",
            "1",
            "-cache",
        ])
        .arg(lab.path("roas.json"));
    let cache = lab.spawn(command, "cache");
    // Who is refused once may wait for ten minutes (OpenBGPD).
    eventually("the cache listens", || {
        let mut sockets = lab.command("b", "ss");
        let said = sockets.args(["-Hltn", "sport = :8282"]).output().ok()?;
        (!said.stdout.is_empty()).then_some(())
    });
    cache
}

fn both() -> (World, World) {
    let bird = World::new(|lab| {
        let config = lab.write("a.conf", &file());
        let mut command = lab.command("a", tool("/usr/sbin/bird"));
        command.arg("-f").arg("-c").arg(config);
        command
            .arg("-s")
            .arg(lab.path("a.ctl"))
            .arg("-P")
            .arg(lab.path("a.pid"));
        lab.spawn(command, "a")
    });
    (bird, World::new(|lab| lab.bird_rs("a", &file())))
}

/// Waits until both have come to the same verdicts on this set of ROAs.
fn agree(bird: &World, ours: &World, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
    eventually_or(|| {
        let (theirs, mine) = (bird.roas(), ours.roas());
        if theirs != mine || !wanted(&mine) {
            let (theirs, mine) = (theirs.len(), mine.len());
            return Err(format!("BIRD has {theirs} ROAs, bird-rs {mine}"));
        }
        let (theirs, mine) = (bird.verdicts(), ours.verdicts());
        let differ: Vec<_> = mine.iter().filter(|verdict| !theirs.contains(verdict)).collect();
        if mine.len() > 100 && theirs == mine {
            Ok(mine)
        } else {
            Err(format!(
                "{} and {} routes, of ours differ {differ:?}",
                theirs.len(),
                mine.len()
            ))
        }
    })
}

#[test]
fn bird_and_we_come_to_the_same_verdicts_with_the_same_cache() {
    let (bird, mut ours) = both();
    let mut bird = bird;
    let first = agree(&bird, &ours, |roas| roas.len() > 50);
    for (mark, why) in [
        ("(1,1)", "valid"),
        ("(1,2)", "invalid"),
        ("(1,3)", "unknown"),
        ("(2,2)", "invalid by its first AS"),
    ] {
        assert!(
            first.iter().filter(|verdict| verdict.contains(mark)).count() > 5,
            "too few are {why}: {first:?}"
        );
    }
    let evaluated = ours.evaluated();
    assert_eq!(evaluated, bird.evaluated());
    for verdict in [")0", ")1", ")2"] {
        let has = |line: &String| line.contains("(enum 35") && line.ends_with(verdict);
        assert!(evaluated.iter().any(has), "{verdict}: {evaluated:?}");
    }
    for world in [&bird, &ours] {
        assert!(
            world.birdc("eval roa_check(r4)").contains("runtime error"),
            "of which route?"
        );
    }
    // BIRD 2.0.12 does not take back what it told before the ROAs came, so only our word counts here.
    eventually_or(|| {
        let told = ours.told_to_the_neighbour();
        if told == "2001:db7:2::/48" {
            Ok(())
        } else {
            Err(format!("the neighbour was told of {told}"))
        }
    });

    // The cache changes its mind: no session notices, the verdicts follow.
    let since = ours.since();
    for world in [&bird, &ours] {
        world.lab.write("roas.json", &payloads(2));
    }
    let before = ours.roas();
    let second = agree(&bird, &ours, |roas| roas.len() > 50 && roas != before);
    assert_ne!(first, second);
    assert_eq!(ours.since(), since, "the session stayed up");

    // It goes: what it said holds. BIRD has the same idea of that.
    let held = ours.roas();
    for world in [&mut bird, &mut ours] {
        world.cache = None;
    }
    eventually("the loss is noticed", || {
        let shown = [bird.birdc("show protocols cache"), ours.birdc("show protocols cache")];
        shown.iter().all(|shown| shown.contains(" start ")).then_some(())
    });
    assert_eq!(ours.roas(), held);
    assert_eq!(agree(&bird, &ours, |roas| roas == held), second);

    // It comes back as another one, with another session and other ROAs.
    for world in [&mut bird, &mut ours] {
        world.lab.write("roas.json", &payloads(3));
        world.cache = Some(cache(&world.lab));
    }
    let third = agree(&bird, &ours, |roas| roas.len() > 50 && roas != held);
    assert_ne!(second, third);
    assert_eq!(ours.since(), since, "the session stayed up");
    eventually("the cache is up again", || {
        ours.birdc("show protocols cache").contains("Established").then_some(())
    });
}
