//! What is shown with BIRD alone: two-octet AS numbers, extended messages, demarcated refreshes, IPv4 over an IPv6
//! session with its own next hops, and packets that flow through a router whose speakers restart.

use std::collections::BTreeSet;

use crate::bird_peer;
use crate::foreign::{LEARNED, OUR_AS, Setup, THEIR_AS, ours};
use crate::lab::{Lab, Running, eventually, eventually_or, run};

const FOUR_OCTETS: [u32; 2] = [4_200_000_002, 4_200_000_003];

/// One of us with an AS number of four octets and a neighbour that knows two only.
fn modern(number: u8, asn: u32) -> String {
    format!(
        "router id 10.77.0.{number};
protocol device {{ }}
protocol static own {{ ipv4; route 10.88.{number}.0/24 blackhole; }}
protocol bgp Peer {{
  connect delay time 1; connect retry time 2; error wait time 1, 4;
  local 10.77.0.{number} as {asn}; neighbor 10.77.0.2 as 65002;
  ipv4 {{ import all; export where source = RTS_STATIC; }};
}}
"
    )
}

#[test]
fn as_numbers_of_four_octets_pass_through_a_bird_that_knows_two() {
    let lab = Lab::new();
    lab.third();
    let old = "router id 10.77.0.2;
log stderr all;
protocol device { }
template bgp old {
  connect delay time 1; connect retry time 2; error wait time 1, 4; direct; enable as4 off; local 10.77.0.2 as 65002;
  ipv4 { import all; export all; next hop self; };
}
protocol bgp left from old { neighbor 10.77.0.1 external; }
protocol bgp right from old { neighbor 10.77.0.3 external; }
";
    let _bird = lab.bird("b", old, false);
    let _left = lab.bird_rs("a", &modern(1, FOUR_OCTETS[0]));
    let _right = lab.bird_rs("c", &modern(3, FOUR_OCTETS[1]));
    for (side, from, last) in [("a", 3, FOUR_OCTETS[1]), ("c", 1, FOUR_OCTETS[0])] {
        let mut client = lab.client(side);
        let route = eventually("the other's route is there", || {
            client.route("Peer", &format!("10.88.{from}.0/24"))
        });
        assert_eq!(route.as_path, format!("65002 {last}"));
        let theirs = client.session("Peer").neighbor_capabilities;
        assert!(!theirs.iter().any(|shown| shown.contains("4-octet")), "{theirs:?}");
    }
    let shown = lab.birdc("show route all 10.88.1.0/24");
    assert!(shown.contains(&format!("BGP.as_path: {}\n", FOUR_OCTETS[0])), "{shown}");
}

/// A filter that adds so many communities of an AS.
fn many(asn: u32, count: u32) -> String {
    let mut filter = "filter many {\n if source != RTS_STATIC then reject;\n".to_owned();
    for number in 0..count {
        filter += &format!(" bgp_large_community.add(({asn},1,{number}));\n");
    }
    filter + " accept;\n}\n"
}

#[test]
fn a_route_with_more_attributes_than_a_plain_message_holds_goes_both_ways() {
    /// 12 octets each, and a plain message has 4,096.
    const COUNT: u32 = 1000;
    let lab = Lab::new();
    let ours = (many(OUR_AS, COUNT)
        + &ours(&format!(
            "neighbor 10.77.0.2 as {THEIR_AS}; enable extended messages on;"
        )))
        .replace("export filter mine", "export filter many");
    let all = format!(
        "bgp_large_community.len = {COUNT} && ({OUR_AS},1,{}) ~ bgp_large_community",
        COUNT - 1
    );
    let theirs = many(65002, COUNT)
        + &bird_peer::config(&Setup::of(THEIR_AS))
            .replace("direct;", "direct; enable extended messages on;")
            .replace(
                "import all; export filter four",
                &format!("import where {all}; export filter many"),
            );
    let _bird = lab.bird("b", &theirs, false);
    let _daemon = lab.bird_rs("a", &ours);
    let mut client = lab.client("a");
    client.established("Peer");
    let wanted = |asn| (0..COUNT).map(move |number| format!("{asn}:1:{number}"));
    let route = eventually("theirs is there", || client.route("Peer", "10.99.0.0/24"));
    let learned: BTreeSet<String> = route.communities.into_iter().collect();
    assert_eq!(learned, wanted(65002).collect());
    // It shows only as many as fit into a line, and takes the route only with all of them.
    eventually("BIRD has ours", || {
        lab.birdc("show route 10.244.0.0/26").contains("tortie").then_some(())
    });
    assert_eq!(client.session("Peer").state, "Established");
}

#[test]
fn a_refresh_that_bird_asks_for_is_demarcated() {
    let lab = Lab::new();
    let theirs =
        bird_peer::config(&Setup::of(THEIR_AS)).replace("log stderr all;", "log stderr all; debug protocols all;");
    let _bird = lab.bird("b", &theirs, false);
    let _daemon = lab.bird_rs("a", &ours(&format!("neighbor 10.77.0.2 as {THEIR_AS};")));
    let mut client = lab.client("a");
    client.learns("Peer", &LEARNED);
    eventually("BIRD has both initial tables", || {
        (lab.log("bird").matches("Got END-OF-RIB").count() == 2).then_some(())
    });
    lab.birdc("reload in tortie");
    let log = eventually("both families are demarcated", || {
        let log = lab.log("bird");
        (log.matches("Got END-OF-RR").count() == 2).then_some(log)
    });
    assert_eq!(log.matches("Got BEGIN-OF-RR").count(), 2, "{log}");
    assert!(!log.contains("ignoring"), "{log}");
    assert!(lab.birdc("show route 10.244.0.64/26").contains("tortie"));
}

#[test]
fn ipv4_over_an_ipv6_session_keeps_ipv4_next_hops() {
    let lab = Lab::new();
    let setup = Setup {
        over_v6: true,
        ..Setup::of(THEIR_AS)
    };
    let theirs = bird_peer::config(&setup).replace("extended next hop on;", "next hop address 10.77.0.2;");
    let ours = ours(&format!("neighbor fd77::2 as {THEIR_AS};")).replace("local 10.77.0.1 as", "local fd77::1 as");
    let _bird = lab.bird("b", &theirs, false);
    let _daemon = lab.bird_rs("a", &ours);
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    eventually_or(|| {
        let shown = lab.birdc("show route all 10.244.0.0/26");
        if shown.contains("BGP.next_hop: 10.77.0.1\n") {
            Ok(())
        } else {
            Err(format!("BIRD does not have it: {shown}"))
        }
    });
}

/// Echo requests from c, twenty in a second.
struct Pings<'a> {
    lab: &'a Lab,
    running: Running,
}

impl<'a> Pings<'a> {
    fn start(lab: &'a Lab, to: &str) -> Self {
        let mut command = lab.command("c", "ping");
        command.args(["-i", "0.05", to]);
        Pings {
            lab,
            running: lab.spawn(command, "ping"),
        }
    }

    /// Waits until twenty more were answered.
    fn flow(&self) {
        let answered = || self.lab.log("ping").matches("bytes from").count();
        let before = answered();
        eventually("packets flow", || (answered() >= before + 20).then_some(()));
    }

    /// How many were sent and not answered. The last may be on its way.
    fn lost(mut self) -> u32 {
        self.running.signal("-INT");
        self.running.ended();
        let log = self.lab.log("ping");
        let summary = log.lines().find(|line| line.contains("packets transmitted")).unwrap();
        let numbers: Vec<u32> = summary.split(' ').filter_map(|word| word.parse().ok()).collect();
        numbers[0] - numbers[1]
    }
}

#[test]
fn packets_flow_through_bird_while_it_or_we_are_killed_and_come_back() {
    let lab = Lab::new();
    lab.third();
    for setting in [
        "net.ipv4.ip_forward=1",
        "net.ipv4.conf.all.send_redirects=0",
        "net.ipv4.conf.br0.send_redirects=0",
    ] {
        run(lab.command("b", "sysctl").args(["-q", "-w", setting]));
    }
    lab.ip("a", "link set lo up");
    lab.ip("a", "address add 10.244.0.1/32 dev lo");
    lab.ip("c", "route add 10.244.0.0/26 via 10.77.0.2");
    let setup = Setup {
        graceful: true,
        ..Setup::of(THEIR_AS)
    };
    let theirs = bird_peer::config(&setup)
        + "protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; graceful restart on; persist on; }\n";
    let ours = ours(&format!("neighbor 10.77.0.2 as {THEIR_AS};"));
    let bird = lab.bird("b", &theirs, false);
    let daemon = lab.bird_rs("a", &ours);
    let installed = || {
        let shown = run(lab.command("b", "ip").args(["route", "show", "10.244.0.0/26"]));
        String::from_utf8_lossy(&shown.stdout).contains("via 10.77.0.1")
    };
    eventually("BIRD's kernel has our route", || installed().then_some(()));
    let pings = Pings::start(&lab, "10.244.0.1");
    pings.flow();

    drop(daemon);
    eventually("BIRD misses us", || {
        (!lab.birdc("show protocols tortie").contains("Established")).then_some(())
    });
    pings.flow();
    let _daemon = lab.bird_rs("a", &ours);
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    pings.flow();

    drop(bird);
    let stale = LEARNED.map(|route| format!("{route} stale"));
    client.learns("Peer", &stale.each_ref().map(String::as_str));
    pings.flow();
    let _bird = lab.bird("b", &theirs, true);
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    eventually("BIRD's recovery is over", || {
        let shown = lab.birdc("show status");
        (!shown.is_empty() && !shown.contains("recovery in progress")).then_some(())
    });
    pings.flow();
    assert!(installed());
    assert!(pings.lost() <= 1, "{}", lab.log("ping"));
}
