//! BIRD's command line, understood by bird-rs: giving up root, recovery from a restart.

use crate::lab::{Lab, eventually};

const OURS: &str = "router id 10.77.0.1;
protocol device { }
protocol static { ipv4; route 10.1.0.0/24 blackhole; }
protocol bgp up { local 10.77.0.1 as 65001; neighbor 10.77.0.2 as 65002; direct; password \"secret\";
  connect delay time 1; connect retry time 2; graceful restart on;
  ipv4 { import all; export all; }; ipv6 { import all; export all; }; }
";

const THEIRS: &str = "router id 10.77.0.2;
protocol device { }
protocol bgp up { local 10.77.0.2 as 65002; neighbor 10.77.0.1 as 65001; direct; password \"secret\"; passive;
  graceful restart on; ipv4 { import all; export all; }; ipv6 { import all; export all; }; }
";

/// What the kernel says of a process.
fn status_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

fn row<'a>(status: &'a str, name: &str) -> Vec<&'a str> {
    let row = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default();
    row.split_whitespace().collect()
}

#[test]
fn root_is_given_up_but_for_what_a_router_needs() {
    let lab = Lab::new();
    let _neighbour = lab.bird("b", THEIRS, false);
    let daemon = lab.bird_rs_with("a", OURS, &["-u", "nobody", "-g", "nogroup"]);
    // It listens below 1024 and connects with a TCP MD5 key.
    lab.client("a").established("up");
    let status = status_of(daemon.0.id());
    let ids = row(&status, "Uid:");
    assert!(ids.len() == 4 && ids.iter().all(|id| *id == "65534"), "{status}");
    assert!(row(&status, "Gid:").iter().all(|id| *id == "65534"), "{status}");
    // NET_BIND_SERVICE, NET_ADMIN, NET_RAW.
    for set in ["CapEff:", "CapPrm:"] {
        assert_eq!(row(&status, set), ["0000000000003400"], "{status}");
    }
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.0.id())).unwrap();
    for thread in threads.flatten() {
        // A thread may have ended meanwhile.
        let Ok(status) = std::fs::read_to_string(thread.path().join("status")) else {
            continue;
        };
        assert_eq!(row(&status, "CapPrm:"), ["0000000000003400"], "{status}");
    }
    assert!(lab.birdc_of("a", "show status").contains("Daemon is up"));
    // The file is read again by a user that may.
    lab.write("a.conf", &OURS.replace("10.1.0.0/24", "10.3.0.0/24"));
    assert!(lab.birdc_of("a", "configure").contains("Reconfigured"));
    eventually("the neighbour has the other route", || {
        lab.birdc("show route").contains("10.3.0.0/24").then_some(())
    });
}

/// What the neighbour was told of our past.
fn told(arguments: &[&str]) -> (bool, bool) {
    let lab = Lab::new();
    let _neighbour = lab.bird("b", THEIRS, false);
    let _daemon = lab.bird_rs_with("a", OURS, arguments);
    lab.client("a").established("up");
    let shown = lab.birdc("show protocols all up");
    let theirs = shown.split("Neighbor capabilities").nth(1).unwrap_or_default();
    (
        theirs.contains("Restart recovery"),
        theirs.contains("AF preserved: ipv4 ipv6"),
    )
}

#[test]
fn recovery_is_claimed_when_it_is_wanted() {
    assert_eq!(told(&["-R"]), (true, true));
    assert_eq!(told(&[]), (false, false));
}
