//! Extended messages (RFC 8654): a route with more attributes than a plain message holds, both ways.

use std::collections::BTreeSet;

use crate::bird_peer;
use crate::foreign::{Foreign, OUR_AS, Setup, THEIR_AS, ours};
use crate::frr::{self, Frr};
use crate::lab::{Client, Lab, Running, eventually, eventually_or};

/// 12 octets each, and a plain message has 4,096.
const COUNT: u32 = 1000;

/// A filter that adds so many communities of an AS.
fn many(asn: u32) -> String {
    let mut filter = "filter many {\n if source != RTS_STATIC then reject;\n".to_owned();
    for number in 0..COUNT {
        filter += &format!(" bgp_large_community.add(({asn},1,{number}));\n");
    }
    filter + " accept;\n}\n"
}

/// Those communities.
fn wanted(asn: u32) -> BTreeSet<String> {
    (0..COUNT).map(|number| format!("{asn}:1:{number}")).collect()
}

/// We have a session, and their route with all of its communities.
fn start_ours(lab: &Lab) -> (Running, Client) {
    let session = format!("neighbor 10.77.0.2 as {THEIR_AS}; enable extended messages on;");
    let config = (many(OUR_AS) + &ours(&session)).replace("export filter mine", "export filter many");
    let daemon = lab.bird_rs("a", &config);
    let mut client = lab.client("a");
    client.established("Peer");
    let route = eventually("theirs is there", || client.route("Peer", "10.99.0.0/24"));
    let learned: BTreeSet<String> = route.communities.into_iter().collect();
    assert_eq!(learned, wanted(65002));
    (daemon, client)
}

#[test]
fn a_route_with_more_attributes_than_a_plain_message_holds_goes_both_ways_with_bird() {
    let lab = Lab::new();
    let all = format!(
        "bgp_large_community.len = {COUNT} && ({OUR_AS},1,{}) ~ bgp_large_community",
        COUNT - 1
    );
    let theirs = many(65002)
        + &bird_peer::config(&Setup::of(THEIR_AS))
            .replace("direct;", "direct; enable extended messages on;")
            .replace(
                "import all; export filter four",
                &format!("import where {all}; export filter many"),
            );
    let _bird = lab.bird("b", &theirs, false);
    let (_daemon, mut client) = start_ours(&lab);
    // It shows only as many as fit into a line, and takes the route only with all of them.
    eventually("BIRD has ours", || {
        lab.birdc("show route 10.244.0.0/26").contains("tortie").then_some(())
    });
    assert_eq!(client.session("Peer").state, "Established");
}

#[test]
fn a_route_with_more_attributes_than_a_plain_message_holds_goes_both_ways_with_frr() {
    let lab = Lab::new();
    let network = "network 10.99.0.0/24 route-map";
    let mut theirs = frr::config(THEIR_AS, "", "").replace(&format!("{network} tag"), &format!("{network} many"));
    let all: Vec<String> = wanted(65002).into_iter().collect();
    // A line holds no more than this.
    for (number, part) in all.chunks(100).enumerate() {
        theirs += &format!(
            "route-map many permit {}\n set large-community {} additive\n on-match next\n!\n",
            number + 1,
            part.join(" ")
        );
    }
    theirs += "route-map many permit 100\n!\n";
    let _frr = frr::start(&lab, &theirs);
    let (_daemon, mut client) = start_ours(&lab);
    eventually_or(|| {
        let route = Frr
            .received(&lab, "10.244.0.0/26")
            .ok_or("FRR does not have ours".to_owned())?;
        let received: BTreeSet<String> = route.communities.into_iter().collect();
        if received == wanted(OUR_AS) {
            Ok(())
        } else {
            Err(format!("FRR has {} communities", received.len()))
        }
    });
    assert_eq!(client.session("Peer").state, "Established");
}
