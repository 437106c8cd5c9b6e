//! Stock `birdc` against stock BIRD and against bird-rs, each with the same file and the same neighbour: what it prints
//! must be the same, but for times and the order of a table.

use std::process::Command;

use crate::lab::{Lab, Running, eventually, tool};

pub(crate) const FILE: &str = r#"
router id 10.77.0.1;
define X = 5;
filter flt { if net ~ [10.1.0.0/16+] then accept; reject; }
ipv4 table second;
protocol device device1 { }
protocol direct d1 { ipv4; ipv6; }
protocol static s4 { ipv4;
  route 10.1.0.0/24 blackhole;
  route 10.1.1.0/24 unreachable { bgp_community.add((1,2)); bgp_large_community.add((1,2,3)); bgp_ext_community.add((rt,1,2)); bgp_med = 5; };
  route 10.1.2.0/24 prohibit;
  route 10.1.3.0/24 via 10.77.0.2;
  route 10.1.5.0/24 via "eth0";
  route 10.1.6.0/24 via 10.99.0.1;
  route 10.1.7.0/24 via 10.77.0.8 weight 2 via 10.99.0.7;
}
protocol static s6 { ipv6; route 2001:db8:1::/48 via fd77::2; route 2001:db8:2::/48 blackhole; }
protocol static s_second { ipv4 { table second; }; route 10.7.0.0/16 blackhole; }
protocol bgp up { description "the peer"; connect delay time 1; connect retry time 2; hold time 90;
  local 10.77.0.1 as 65001; neighbor 10.77.0.2 as 65002; direct;
  ipv4 { import keep filtered; import filter { if net = 10.2.2.0/24 then reject; accept; };
    export filter { if net = 10.1.2.0/24 then reject; bgp_med = 9; accept; }; };
  ipv6 { import all; export none; }; }
protocol bgp offf { disabled; local 10.77.0.1 as 65001; neighbor 10.77.0.78 as 65003; ipv4 { import none; export none; }; }
protocol bgp pas { passive; local 10.77.0.1 as 65001; neighbor 10.77.0.79 as 65001; ipv4 { import all; export none; }; }
"#;

pub(crate) const NEIGHBOUR: &str = r#"
router id 10.77.0.2;
protocol device { }
protocol static s4 { ipv4;
  route 10.2.0.0/24 blackhole { bgp_community.add((65002,2)); bgp_community.add((65535,65281)); bgp_med = 7;
    bgp_path.prepend(65009); bgp_ext_community.add((rt,1,2)); bgp_large_community.add((1,2,3)); bgp_origin = ORIGIN_EGP; };
  route 10.2.1.0/24 unreachable;
  route 10.2.2.0/24 unreachable;
  route 10.1.0.0/24 unreachable;
}
protocol static s6 { ipv6; route 2001:db8:3::/48 blackhole; }
protocol bgp up { connect delay time 1; connect retry time 2; local 10.77.0.2 as 65002; neighbor 10.77.0.1 as 65001; direct;
  ipv4 { import all; export all; }; ipv6 { import all; export all; next hop self; }; }
"#;

const LISTINGS: [&str; 34] = [
    "show route",
    "show route all",
    "show route count",
    "show route all count",
    "show route stats",
    "show route 10.1.3.0/24",
    "show route for 10.1.3.7 all",
    "show route for 10.2.0.0/25",
    "show route for 11.1.3.7",
    "show route 11.1.3.0/24",
    "show route table master6",
    "show route table second",
    "show route table all count",
    "show route table second table master4 count",
    "show route protocol s4",
    "show route protocol up all",
    "show route export up",
    "show route all export up",
    "show route noexport up",
    "show route preexport up",
    "show route export up count",
    "show route noexport up table master4",
    "show route noexport pas",
    "show route primary",
    "show route primary count",
    "show route filtered all",
    "show route where net ~ 10.1.0.0/16",
    "show route filter flt all",
    "show route filter { if net ~ 10.2.0.0/16 then { bgp_med = 1; accept; } reject; } all",
    "show route in 10.1.0.0/22",
    "show route where source = RTS_BGP count",
    "show route stats table second",
    "show route count stats table second",
    "show route all stats protocol s6",
];

const COMMANDS: [&str; 81] = [
    "show interfaces",
    "show interfaces summary",
    "show static",
    "show static s_second",
    "show static up",
    "show ospf",
    "show rip neighbors",
    "show babel routes",
    "show bfd sessions",
    "configure confirm",
    "configure undo",
    "configure",
    "configure soft",
    "configure check",
    "configure status",
    "configure undo",
    "configure undo",
    "configure timeout 30",
    "configure confirm",
    "configure soft timeout 0",
    "show protocols",
    "show protocols all",
    "show protocols \"s*\"",
    "show protocols \"nope*\"",
    "eval X * 2",
    "eval [ 1..3 ]",
    "disable offf",
    "enable up",
    "disable \"pa*\" \"for now\"",
    "disable pas",
    "show protocols pas",
    "enable pas",
    "restart pas",
    "restart offf",
    "reload in up",
    "reload out up",
    "reload up",
    "reload pas",
    "enable \"nope*\"",
    "show protocols nope",
    "show protocols all nope",
    "show protocols flt",
    "show protocols 5",
    "show protocols table",
    "show static nope",
    "show static flt",
    "enable nope",
    "enable flt",
    "disable nope \"why\"",
    "restart 7",
    "reload in nope",
    "reload flt",
    "reload out \"nope*\"",
    "show route protocol nope",
    "show route export nope",
    "show route noexport flt",
    "show route export s4",
    "show route primary filtered",
    "show route filtered export up",
    "show route 10.1.3.0/24 table master6",
    "show route for 2001:db8:1::7 table master4 table master6",
    "show route where bgp_path ~ [= * 65009 =] && defined(bgp_med) count",
    "show symbols flt",
    "show symbols nope",
    "show symbols X",
    "show symbols second",
    "show symbols filter",
    "eval [(1..3,2..5), (2,9)]",
    "eval [(rt,1,*), (ro,2,3..4)]",
    "eval [RTS_BGP, RTS_OSPF]",
    "eval ::ffff:10.0.0.1",
    "eval net",
    "eval bgp_path.len",
    "eval add(add(-empty-, (1,2)), (3,4)).max",
    "eval prepend(+empty+, 5) ~ [= 5 =]",
    "configure \"/nonexistent\"",
    "configure check \"/nonexistent\"",
    "echo all 255",
    "echo off",
    "restrict",
    "show protocols offf",
];

/// A line with its code, whether it was written or is that of the line before, and without times.
fn lines(text: &str) -> Vec<String> {
    let mut code = String::new();
    let mut lines = Vec::new();
    for line in text.lines().skip_while(|line| !line.contains("ready.")).skip(1) {
        let text = match line.split_at_checked(5) {
            Some((head, text)) if head.bytes().take(4).all(|b| b.is_ascii_digit()) => {
                code = head.trim_end_matches('-').to_owned();
                text
            }
            // birdc aligns what has the code of the line before.
            _ => line.get(5..).unwrap_or_default(),
        };
        let words = text.split(' ').map(|word| {
            let word = word.trim_end_matches(']');
            let digits = word.bytes().filter(u8::is_ascii_digit).count();
            match word {
                _ if digits == 9 && word.contains(':') && word.contains('.') => "TIME",
                _ if word.trim_start().starts_with("fe80::") => "LINK-LOCAL",
                _ if word.ends_with("/a.conf") => "FILE",
                word => word,
            }
        });
        let words: Vec<&str> = words.collect();
        lines.push(format!("{code} {}", settled_text(&words.join(" "))));
    }
    // Whether the kernel has given the link an address of its own yet.
    lines.retain(|line| !(line.starts_with("1003") && line.contains("LINK-LOCAL")));
    lines
}

/// What does not depend on when it was asked.
fn settled_text(text: &str) -> String {
    let is_timer = ["timer:", "wait:", "delay:"].iter().any(|kind| text.contains(kind));
    match (text.rsplit_once(' '), text.rsplit_once('/')) {
        (Some((title, _)), Some((_, total))) if is_timer => format!("{title} LEFT/{total}"),
        // A route that the policy rejects is also a withdrawal that is ignored to BIRD, if it knows the prefix otherwise.
        _ if text.contains("Import withdraws:") => text.split("---").next().unwrap_or_default().to_owned(),
        // As with the addresses of interfaces.
        _ if text.contains("BGP Next hop:") => text.trim_end_matches(" LINK-LOCAL").to_owned(),
        _ => text.to_owned(),
    }
}

/// Networks in order, as their order in a table means nothing.
fn ordered(lines: Vec<String>) -> Vec<String> {
    let mut tables: Vec<Vec<Vec<String>>> = vec![vec![]];
    for line in lines {
        let text = line.get(5..).unwrap_or_default();
        let is_net = line.starts_with("1007") && text.contains('/');
        let goes_on = line.starts_with("10") && (text.starts_with('\t') || text.starts_with("   "));
        let table = tables.last_mut().unwrap();
        match table.last_mut() {
            Some(net) if goes_on => net.push(line),
            _ if is_net => table.push(vec![line]),
            _ => tables.extend([vec![vec![line]], vec![]]),
        }
    }
    tables.iter_mut().for_each(|table| table.sort());
    tables.into_iter().flatten().flatten().collect()
}

fn birdc(lab: &Lab, what: &str) -> String {
    let mut command = Command::new("birdc");
    command.arg("-v").arg("-s").arg(lab.path("a.ctl")).args(what.split(' '));
    // While the daemon starts there is no socket.
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

/// Waits until both sides know the routes of each other.
pub(crate) fn settled(lab: &Lab) {
    eventually("the neighbour's routes are there", || {
        let ours = birdc(lab, "show route where source = RTS_BGP count");
        let theirs = lab.birdc("show route protocol up count");
        (ours.contains("Total: 4 of") && theirs.contains("Total: 5 of")).then_some(())
    });
}

const ROAS: &str = "
router id 10.77.0.1;
define X = 5;
roa4 table r4; roa6 table r6;
protocol device device1 { }
protocol static s4 { ipv4; route 10.1.0.0/24 blackhole; }
protocol static sr4 { roa4 { table r4; }; route 10.0.0.0/8 max 24 as 65000; route 10.9.0.0/16 max 16 as 65001; }
protocol static sr6 { roa6 { table r6; }; route 2001:db8::/32 max 48 as 65000; }
protocol bfd bfd1 { }
";

const OF_ROAS: [&str; 16] = [
    "show route table r4",
    "show route table r4 all",
    "show route table r4 stats",
    "show route table r4 count",
    "show route table r4 primary",
    "show route table r4 filtered",
    "show route table r6 protocol sr6",
    "show route table r4 10.0.0.0/8",
    "show route table r4 for 10.9.0.0/16",
    "show route in 10.9.0.0/16 table r4",
    "show route table master4 table r4 count",
    "show route table master4 table r4",
    "show route table all",
    "show route table all count",
    "show static sr4",
    "show static",
];

/// Commands that change what is told of protocols, and those that take a protocol of a kind.
const OF_PROTOCOLS: [&str; 15] = [
    "debug s4 all",
    "debug all off",
    "debug s4 { states }",
    "debug \"s*\" all",
    "debug \"nope*\" all",
    "debug nope all",
    "debug X all",
    "debug 5 all",
    "debug",
    "debug all",
    "show bfd sessions s4",
    "show bfd sessions nope",
    "show bfd sessions X",
    "restrict",
    "show route table r4 count",
];

fn prints_of_roas(start: impl FnOnce(&Lab) -> Running) -> Vec<(String, Vec<String>)> {
    let lab = Lab::new();
    let _daemon = start(&lab);
    eventually("the daemon runs", || {
        birdc(&lab, "show route table master4 count")
            .contains("1 of 1 routes")
            .then_some(())
    });
    let listings = OF_ROAS.map(|what| (what.to_owned(), ordered(lines(&birdc(&lab, what)))));
    let commands = OF_PROTOCOLS.map(|what| (what.to_owned(), lines(&birdc(&lab, what))));
    listings.into_iter().chain(commands).collect()
}

#[test]
fn birdc_prints_the_same_of_tables_of_roas_and_of_debug() {
    let birds = prints_of_roas(|lab| stock_bird_with(lab, ROAS));
    let ours = prints_of_roas(|lab| lab.bird_rs("a", ROAS));
    for ((what, birds), (_, ours)) in birds.iter().zip(&ours) {
        assert_eq!(birds, ours, "{what}");
    }
}

fn prints(start: impl FnOnce(&Lab) -> Running) -> Vec<(String, Vec<String>)> {
    let lab = Lab::new();
    // A router that starts before its link-local address is usable announces IPv6 next hops without one.
    lab.has_link_locals();
    let _neighbour = lab.bird("b", NEIGHBOUR, false);
    let _daemon = start(&lab);
    settled(&lab);
    let listings = LISTINGS.map(|what| (what.to_owned(), ordered(lines(&birdc(&lab, what)))));
    let commands = COMMANDS.map(|what| (what.to_owned(), lines(&birdc(&lab, what))));
    listings.into_iter().chain(commands).collect()
}

/// Stock BIRD in the place of bird-rs.
pub(crate) fn stock_bird(lab: &Lab) -> Running {
    stock_bird_with(lab, FILE)
}

fn stock_bird_with(lab: &Lab, file: &str) -> Running {
    let config = lab.write("a.conf", file);
    let mut command = lab.command("a", tool("/usr/sbin/bird"));
    command
        .arg("-f")
        .arg("-c")
        .arg(config)
        .arg("-s")
        .arg(lab.path("a.ctl"))
        .arg("-P")
        .arg(lab.path("a.pid"));
    lab.spawn(command, "a")
}

/// Lines that are not the same at the same place.
fn differing(birds: &[String], ours: &[String]) -> String {
    let pairs = birds.iter().zip(ours).filter(|(birds, ours)| birds != ours);
    pairs.map(|(birds, ours)| format!("- {birds}\n+ {ours}\n")).collect()
}

#[test]
fn birdc_prints_the_same_of_bird_and_of_bird_rs() {
    let birds = prints(stock_bird);
    let ours = prints(|lab| lab.bird_rs("a", FILE));
    let mut differences = String::new();
    for ((what, birds), (_, ours)) in birds.iter().zip(&ours) {
        if birds != ours {
            differences += &format!(
                "== {what}\n-- BIRD\n{}\n-- bird-rs\n{}\n-- line by line\n{}",
                birds.join("\n"),
                ours.join("\n"),
                differing(birds, ours)
            );
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// A router with one static route of this number.
fn numbered(number: u8) -> String {
    format!(
        "router id 10.77.0.1;\nprotocol device {{ }}\nprotocol static {{ ipv4; route 10.{number}.0.0/16 blackhole; }}\n"
    )
}

fn has(lab: &Lab, number: u8) -> bool {
    birdc(lab, "show route").contains(&format!("10.{number}.0.0/16"))
}

#[test]
fn a_configuration_that_nobody_confirms_is_undone() {
    let lab = Lab::new();
    let _daemon = lab.bird_rs("a", &numbered(1));
    eventually("bird-rs runs", || has(&lab, 1).then_some(()));
    lab.write("a.conf", &numbered(2));
    // This client is gone at once.
    let reply = birdc(&lab, "configure timeout 1");
    assert!(reply.contains("0022-Undo scheduled in 1 s"), "{reply}");
    eventually("the configuration is undone", || {
        (!has(&lab, 2) && has(&lab, 1)).then_some(())
    });
    // This one waits, and is told.
    let mut waiting = std::os::unix::net::UnixStream::connect(lab.path("a.ctl")).unwrap();
    waiting.set_read_timeout(Some(crate::lab::PATIENCE)).unwrap();
    std::io::Write::write_all(&mut waiting, b"configure timeout 1\nconfigure sta").unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(waiting.try_clone().unwrap()));
    let told = lines.by_ref().map(Result::unwrap).find(|line| line.starts_with('+'));
    assert_eq!(told.as_deref(), Some("+Config timeout expired, starting undo"));
    // What it had begun to say is not lost.
    std::io::Write::write_all(&mut waiting, b"tus\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "0003-Daemon is up and running");
    assert!(has(&lab, 1));
}

#[test]
fn a_confirmed_configuration_stays_and_can_be_undone_by_hand() {
    let lab = Lab::new();
    let _daemon = lab.bird_rs("a", &numbered(1));
    eventually("bird-rs runs", || has(&lab, 1).then_some(()));
    lab.write("a.conf", &numbered(2));
    birdc(&lab, "configure timeout 3600");
    assert!(birdc(&lab, "configure status").contains("0022-Configuration unconfirmed, undo in 3"));
    let mut client = lab.client("a");
    assert!(client.status().undo_in_s.is_some_and(|left| left > 3000));
    assert!(birdc(&lab, "configure confirm").contains("0018 Reconfiguration confirmed"));
    assert_eq!(client.status().undo_in_s, None);
    assert!(has(&lab, 2) && !has(&lab, 1));
    assert!(birdc(&lab, "configure undo").contains("0003 Reconfigured"));
    assert!(has(&lab, 1) && !has(&lab, 2));
    // Asked for and rejected: it can be seen.
    let answer = client.configure("protocol nonsense { }", false, "r7");
    assert!(!answer.accepted);
    let status = client.status();
    assert_eq!((&*status.desired_revision, &*status.applied_revision), ("r7", ""));
    assert!(birdc(&lab, "show status").contains("Configuration revision asked for is r7"));
}

#[test]
fn a_client_sees_the_messages_that_it_asks_for() {
    use std::io::{BufRead, BufReader, Write};
    let lab = Lab::new();
    let _daemon = lab.bird_rs("a", &numbered(1));
    eventually("bird-rs runs", || has(&lab, 1).then_some(()));
    let mut socket = std::os::unix::net::UnixStream::connect(lab.path("a.ctl")).unwrap();
    socket.set_read_timeout(Some(crate::lab::PATIENCE)).unwrap();
    let mut lines = BufReader::new(socket.try_clone().unwrap()).lines().map(Result::unwrap);
    let mut ask = |what: &str, lines: &mut dyn Iterator<Item = String>| {
        socket.write_all(format!("{what}\n").as_bytes()).unwrap();
        loop {
            let line = lines.next()?;
            if line.starts_with(|c: char| c.is_ascii_digit()) && line.get(4..5) == Some(" ") {
                return Some(line);
            }
        }
    };
    assert!(lines.next().unwrap().contains("ready"));
    assert_eq!(ask("echo { info, warning } 4096", &mut lines).as_deref(), Some("0000 "));
    // Somebody else's command.
    birdc(&lab, "disable static1");
    let told = lines.find(|line| line.contains("operator's command"));
    assert!(
        told.as_deref()
            .is_some_and(|line| line.starts_with('+') && line.contains("Disable")),
        "{told:?}"
    );
    assert_eq!(ask("echo { error }", &mut lines).as_deref(), Some("0000 "));
    birdc(&lab, "enable static1");
    // Whatever came before this answer would be in the way of it.
    socket_is_quiet(&mut lines, &mut ask);
    assert_eq!(
        ask("echo { info } 5", &mut lines).as_deref(),
        Some("9001 Invalid log buffer size")
    );
    assert_eq!(ask("echo off", &mut lines).as_deref(), Some("0000 "));
}

/// The next line that comes is the answer to what is asked.
fn socket_is_quiet(
    lines: &mut dyn Iterator<Item = String>,
    ask: &mut dyn FnMut(&str, &mut dyn Iterator<Item = String>) -> Option<String>,
) {
    let mut seen = Vec::new();
    let answer = ask("eval 1 + 1", &mut lines.inspect(|line| seen.push(line.clone())));
    assert_eq!(answer.as_deref(), Some("0023 2"));
    assert_eq!(seen, ["0023 2"]);
}
