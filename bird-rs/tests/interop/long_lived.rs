//! Long-lived graceful restart (RFC 9494) with BIRD, either side being the one that dies.

use crate::lab::{Lab, eventually};

const SESSION: &str = "connect delay time 1; connect retry time 2; error wait time 1, 4; graceful restart on;
  graceful restart time 4; long lived graceful restart on; long lived stale time 600;";

fn configs() -> (String, String) {
    let ours = format!(
        "router id 10.77.0.1;
protocol device {{ }}
protocol static own4 {{ ipv4; route 10.244.0.0/26 blackhole; }}
protocol bgp Peer {{ local 10.77.0.1 as 64512; neighbor 10.77.0.2 as 64512; direct; {SESSION}
  ipv4 {{ import all; export where source = RTS_STATIC; }}; }}\n"
    );
    let birds = format!(
        "router id 10.77.0.2; log stderr all;
protocol device {{ }}
protocol static s4 {{ ipv4; route 10.99.0.0/24 blackhole; }}
protocol bgp tortie {{ local 10.77.0.2 as 64512; neighbor 10.77.0.1 as 64512; direct; {SESSION}
  ipv4 {{ import all; export where source = RTS_STATIC; }}; }}\n"
    );
    (ours, birds)
}

#[test]
fn long_lived_graceful_restart_with_bird_both_ways() {
    let lab = Lab::new();
    let (ours, birds) = configs();
    let bird = lab.bird("b", &birds, false);
    let daemon = lab.bird_rs("a", &ours);
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &["10.99.0.0/24 via 10.77.0.2"]);
    eventually("BIRD has ours", || {
        lab.birdc("show route protocol tortie")
            .contains("10.244.0.0/26")
            .then_some(())
    });

    drop(bird);
    eventually("the restart time is over, the route is the last resort", || {
        let route = client.route("Peer", "10.99.0.0/24")?;
        (route.stale && route.communities.contains(&"65535:6".to_owned())).then_some(())
    });
    let bird = lab.bird("b", &birds, true);
    eventually("it is fresh again", || {
        let route = client.route("Peer", "10.99.0.0/24")?;
        (!route.stale && route.communities.is_empty()).then_some(())
    });

    eventually("BIRD has ours again", || {
        lab.birdc("show route protocol tortie")
            .contains("10.244.0.0/26")
            .then_some(())
    });
    drop(daemon);
    eventually("BIRD keeps ours as the last resort", || {
        let routes = lab.birdc("show route all protocol tortie");
        (routes.contains("10.244.0.0/26") && routes.contains("(65535,6)")).then_some(())
    });
    let _daemon = lab.bird_rs("a", &ours);
    eventually("ours are fresh again", || {
        let routes = lab.birdc("show route all protocol tortie");
        (routes.contains("10.244.0.0/26") && !routes.contains("(65535,6)")).then_some(())
    });
    drop(bird);
}
