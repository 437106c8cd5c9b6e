//! What routers call themselves in their OPENs, beside stock BIRD.

use crate::lab::{Lab, eventually};

fn config(n: u8, extra: &str) -> String {
    let (peer, role) = (3 - n, if n == 1 { "customer" } else { "provider" });
    format!(
        "router id 10.77.0.{n};
{extra}
protocol device {{ }}
protocol bgp peer {{ local 10.77.0.{n} as 6500{n}; neighbor 10.77.0.{peer} as 6500{peer}; connect delay time 1;
  connect retry time 2; advertise hostname; local role {role}; long lived graceful restart on; graceful restart on;
  ipv4 {{ import all; export all; }}; }}
"
    )
}

/// The lines behind a title, as far as they are indented further.
fn block(shown: &str, title: &str) -> Vec<String> {
    let lines = shown.lines().skip_while(|line| line.trim() != title).skip(1);
    let inside = lines.take_while(|line| line.starts_with("      "));
    inside.map(str::to_owned).collect()
}

#[test]
fn both_show_each_others_name() {
    let lab = Lab::new();
    let _bird = lab.bird("b", &config(2, "hostname \"tor-2 rack 7\";"), false);
    // Without the statement it is the host's name.
    let _daemon = lab.bird_rs("a", &config(1, ""));
    let mut client = lab.client("a");
    client.established("peer");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let ours = format!("      Hostname: {}", host.trim_end());
    eventually("BIRD has our name", || {
        let theirs = lab.birdc("show protocols all peer");
        block(&theirs, "Neighbor capabilities").contains(&ours).then_some(())
    });
    let (ours, theirs) = (
        lab.birdc_of("a", "show protocols all peer"),
        lab.birdc("show protocols all peer"),
    );
    let seen = block(&ours, "Neighbor capabilities");
    assert!(seen.contains(&"      Hostname: tor-2 rack 7".to_owned()), "{ours}");
    assert_eq!(seen, block(&theirs, "Local capabilities"), "in the same order");
    assert_eq!(
        block(&ours, "Local capabilities"),
        block(&theirs, "Neighbor capabilities")
    );
    assert!(
        lab.birdc_of("a", "show status")
            .contains(&format!("Hostname is {}", host.trim_end()))
    );

    // Another name restarts the session, and is seen.
    let changed = client.configure(&config(1, "hostname \"other\";"), false, "2");
    let changes: Vec<_> = changed
        .changes
        .iter()
        .map(|change| (&*change.protocol, &*change.reason))
        .collect();
    assert_eq!(changes, [("peer", "hostname")]);
    eventually("BIRD has our other name", || {
        let theirs = lab.birdc("show protocols all peer");
        theirs.contains("      Hostname: other\n").then_some(())
    });
}
