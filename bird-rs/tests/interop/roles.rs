//! Roles and the OTC attribute (RFC 9234), with those that have them: BIRD, FRR and OpenBGPD.

use crate::foreign::{OUR_AS, THEIR_AS, ours};
use crate::frr;
use crate::lab::{Client, Lab, eventually};
use crate::openbgpd;

const ROLES: [(&str, &str, &str); 3] = [
    ("provider", "customer", "customer"),
    ("customer", "provider", "provider"),
    ("rs_client", "rs_server", "rs-server"),
];

fn start_ours(lab: &Lab, role: &str) -> (crate::lab::Running, Client) {
    let role = format!("neighbor 10.77.0.2 as {THEIR_AS}; local role {role}; require roles;");
    let daemon = lab.bird_rs("a", &ours(&role));
    (daemon, lab.client("a"))
}

/// What we hold of a route of theirs: marked by whom it came down from.
fn is_marked(client: &mut Client, wanted: Option<u32>) {
    eventually("their route", || client.route("Peer", "10.99.1.0/24"));
    let route = client.route("Peer", "10.99.1.0/24").expect("it was there");
    assert_eq!(route.only_to_customer, wanted, "{route:?}");
}

fn is_refused(client: &mut Client) {
    eventually("the roles do not match", || {
        let session = client.session("Peer");
        session.last_error.contains("Role mismatch").then_some(())
    });
}

#[test]
fn roles_and_otc_with_bird() {
    for (mine, theirs, _) in ROLES {
        let lab = Lab::new();
        let bird = |role: &str| {
            format!(
                "router id 10.77.0.2; log stderr all; protocol device {{ }}
protocol static s4 {{ ipv4; route 10.99.0.0/24 blackhole; route 10.99.1.0/24 blackhole; }}
protocol static s6 {{ ipv6; route fd99::/64 blackhole; }}
protocol bgp tortie {{ local 10.77.0.2 as {THEIR_AS}; neighbor 10.77.0.1 as {OUR_AS};
  connect delay time 1; connect retry time 2; error wait time 1, 4; local role {role}; require roles on;
  ipv4 {{ import all; export all; }}; ipv6 {{ import all; export all; next hop address fd77::2; }}; }}\n"
            )
        };
        let them = lab.bird("b", &bird(theirs), false);
        let (_daemon, mut client) = start_ours(&lab, mine);
        client.established("Peer");
        is_marked(&mut client, (mine != "provider").then_some(THEIR_AS));
        eventually("BIRD has ours, marked as it must be", || {
            let routes = lab.birdc("show route all protocol tortie");
            let mark = format!("BGP.otc: {OUR_AS}");
            (routes.contains("10.244.0.64/26") && routes.contains(&mark) == (mine == "provider")).then_some(())
        });
        drop(them);
        let _them = lab.bird("b", &bird("peer"), false);
        is_refused(&mut client);
    }
}

#[test]
fn roles_and_otc_with_frr() {
    for (mine, _, theirs) in ROLES {
        let lab = Lab::new();
        let role = |role: &str| {
            frr::config(
                THEIR_AS,
                &format!(" neighbor 10.77.0.1 local-role {role} strict-mode"),
                "",
            )
        };
        let them = frr::start(&lab, &role(theirs));
        let (_daemon, mut client) = start_ours(&lab, mine);
        client.established("Peer");
        is_marked(&mut client, (mine != "provider").then_some(THEIR_AS));
        eventually("FRR has ours, marked as it must be", || {
            let path = frr::path(&lab, "10.244.0.64/26", "10.77.0.1")?;
            let mark = path["otc"].as_u64().map(|asn| asn == u64::from(OUR_AS));
            // It marks what its provider has not marked, as everybody does.
            (mark == (mine == "provider").then_some(true)).then_some(())
        });
        drop(them);
        let _them = frr::start(&lab, &role("peer"));
        is_refused(&mut client);
    }
}

#[test]
fn roles_and_otc_with_openbgpd() {
    for (mine, _, theirs) in ROLES {
        let lab = Lab::new();
        let role = |role: &str| {
            format!(
                "neighbor 10.77.0.1 {{\n\tremote-as {OUR_AS}\n\tannounce IPv4 unicast\n\tannounce policy {role} enforce\n}}\n"
            )
        };
        let theirs = theirs.replace("rs-server", "rs");
        let _them = openbgpd::start(&lab, THEIR_AS, &role(&theirs));
        let (_daemon, mut client) = start_ours(&lab, mine);
        client.established("Peer");
        is_marked(&mut client, (mine != "provider").then_some(THEIR_AS));
        eventually("OpenBGPD has ours, marked as it must be", || {
            let route = openbgpd::routes(&lab, "10.244.0.64/26")?.into_iter().next()?;
            let mut attributes = route["attributes"].as_array().into_iter().flatten();
            let mark = attributes.find(|attribute| attribute["type"] == "OTC");
            let mark = mark.map(|mark| mark["as"] == OUR_AS);
            (mark == (mine == "provider").then_some(true)).then_some(())
        });
        // Another one, since the processes it started end a moment after it.
        let lab = Lab::new();
        let _them = openbgpd::start(&lab, THEIR_AS, &role("peer"));
        let (_daemon, mut client) = start_ours(&lab, mine);
        is_refused(&mut client);
    }
}
