//! What is shown with BIRD alone: extended messages, and packets that flow through a router whose speakers restart.

use std::collections::BTreeSet;

use crate::bird_peer;
use crate::foreign::{LEARNED, OUR_AS, Setup, THEIR_AS, ours};
use crate::lab::{Lab, Running, eventually, run};

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
