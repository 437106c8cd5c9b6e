//! Dynamic peers out of a range, with BIRD: guarded by the TTL of their packets, and so many at a time.

use crate::lab::{Lab, eventually};

fn ours(limit: u32) -> String {
    format!(
        "router id 10.77.0.1;
protocol device {{ }}
protocol bgp Range {{ local 10.77.0.1 as 64512; neighbor range 10.77.0.0/24 external; ttl security; dynamic limit {limit};
  ipv4 {{ import all; export all; }}; }}\n"
    )
}

fn birds(options: &str) -> String {
    format!(
        "router id 10.77.0.2; log stderr all;
protocol device {{ }}
protocol static s4 {{ ipv4; route 10.99.0.0/24 blackhole; }}
protocol bgp tortie {{ local 10.77.0.2 as 65002; neighbor 10.77.0.1 as 64512; {options}
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 {{ import all; export all; }}; }}\n"
    )
}

#[test]
fn a_range_lets_in_only_neighbours_that_are_near() {
    let lab = Lab::new();
    let _daemon = lab.bird_rs("a", &ours(1));
    let mut client = lab.client("a");
    // Its packets arrive with TTL 1, as if from far away. An OPEN may be in before the guard is; what the far one says
    // later, also that it ends, is dropped, and must not keep the near one out.
    let far = lab.bird("b", &birds(""), false);
    eventually("the far one has tried", || {
        (lab.tcp_counter("a", "TCPMinTTLDrop") > 0).then_some(())
    });
    assert!(
        !client
            .protocols()
            .iter()
            .any(|p| p.bgp.as_ref().is_some_and(|s| s.state == "Established"))
    );
    drop(far);
    let _near = lab.bird("b", &birds("ttl security on;"), false);
    eventually("the near one is up", || {
        let protocols = client.protocols();
        let up = protocols
            .iter()
            .find(|p| p.bgp.as_ref().is_some_and(|s| s.state == "Established"))?;
        up.name.starts_with("dynbgp").then_some(())
    });
    eventually("the range says so", || {
        let range = client.protocols().into_iter().find(|p| p.name == "Range")?;
        range.info.starts_with("1 of 1 peers").then_some(())
    });
}
