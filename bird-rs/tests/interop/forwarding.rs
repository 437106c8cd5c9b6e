//! Packets that flow through the kernel of a router whose speakers restart.

use crate::bird_peer::{self, Bird};
use crate::foreign::{Foreign, LEARNED, Setup, THEIR_AS, ours};
use crate::frr::{self, Frr};
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

/// A router at b with a kernel.
struct Router<'a> {
    /// Starts its speaker, anew when it was there before.
    start: &'a dyn Fn(&Lab, bool) -> Running,
    misses_us: &'a dyn Fn(&Lab) -> bool,
    /// What it has to do after its restart is done.
    has_recovered: &'a dyn Fn(&Lab) -> bool,
}

/// c reaches 10.244.0.1, which is ours, through b.
fn wire(lab: &Lab) {
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
}

/// Either speaker is killed and comes back.
fn packets_flow_through(lab: &Lab, router: &Router<'_>) {
    let ours = ours(&format!("neighbor 10.77.0.2 as {THEIR_AS};"));
    let them = (router.start)(lab, false);
    let daemon = lab.bird_rs("a", &ours);
    let installed = || {
        let shown = run(lab.command("b", "ip").args(["route", "show", "10.244.0.0/26"]));
        String::from_utf8_lossy(&shown.stdout).contains("via 10.77.0.1")
    };
    eventually("its kernel has our route", || installed().then_some(()));
    let pings = Pings::start(lab, "10.244.0.1");
    pings.flow();

    drop(daemon);
    eventually("it misses us", || (router.misses_us)(lab).then_some(()));
    pings.flow();
    let _daemon = lab.bird_rs("a", &ours);
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    pings.flow();

    drop(them);
    let stale = LEARNED.map(|route| format!("{route} stale"));
    client.learns("Peer", &stale.each_ref().map(String::as_str));
    pings.flow();
    let _them = (router.start)(lab, true);
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    eventually("its recovery is over", || (router.has_recovered)(lab).then_some(()));
    pings.flow();
    assert!(installed());
    assert!(pings.lost() <= 1, "{}", lab.log("ping"));
}

#[test]
fn packets_flow_through_bird_while_it_or_we_are_killed_and_come_back() {
    let lab = Lab::new();
    wire(&lab);
    let setup = Setup {
        graceful: true,
        ..Setup::of(THEIR_AS)
    };
    let theirs = bird_peer::config(&setup)
        + "protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; graceful restart on; persist on; }\n";
    packets_flow_through(
        &lab,
        &Router {
            start: &|lab, again| lab.bird("b", &theirs, again),
            misses_us: &|lab| !Bird.is_up(lab),
            has_recovered: &|lab| {
                let shown = lab.birdc("show status");
                !shown.is_empty() && !shown.contains("recovery in progress")
            },
        },
    );
}

/// bgpd is killed; zebra stays, and keeps its routes for it.
#[test]
fn packets_flow_through_frr_while_it_or_we_are_killed_and_come_back() {
    let lab = Lab::new();
    wire(&lab);
    let _zebra = frr::zebra(&lab, &frr::config(THEIR_AS, "", ""));
    packets_flow_through(
        &lab,
        &Router {
            start: &|lab, _| frr::daemon(lab, "bgpd", &["-l", "10.77.0.2"]),
            misses_us: &|lab| !Frr.is_up(lab),
            has_recovered: &|lab| Frr.received(lab, "10.244.0.0/26").is_some(),
        },
    );
}
