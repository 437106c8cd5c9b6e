//! What is shown with BIRD alone: packets that flow through a router whose speakers restart.

use crate::bird_peer;
use crate::foreign::{LEARNED, Setup, THEIR_AS, ours};
use crate::lab::{Lab, Running, eventually, run};

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
