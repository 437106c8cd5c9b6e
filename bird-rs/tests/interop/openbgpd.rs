//! OpenBGPD.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::foreign::{Foreign, OUR_AS, Received, THEIR_AS, both_ways, number, said, texts};
use crate::lab::{Lab, Running, run, tool};

struct OpenBgpd;

fn bgpctl(lab: &Lab) -> Command {
    let mut command = Command::new(tool("/usr/sbin/bgpctl"));
    command.arg("-s").arg(lab.path("openbgpd.ctl"));
    command
}

impl Foreign for OpenBgpd {
    fn start(&self, lab: &Lab, asn: u32) -> Running {
        // Its chroot.
        std::fs::create_dir_all("/run/openbgpd").unwrap();
        // On Linux it takes the first IPv6 address of the namespace for the next hop of a session over IPv4.
        lab.address("b", "lo", "fd77::2/128");
        let set = "set { community 65002:1 large-community 65002:1:2 metric 50 localpref 200 }";
        let socket = lab.path("openbgpd.ctl");
        let config = lab.write(
            "openbgpd.conf",
            &format!(
                "AS {asn}\nrouter-id 10.77.0.2\nfib-update no\nsocket \"{}\"
network 10.99.0.0/24 {set}\nnetwork 10.99.1.0/24\nnetwork fd99::/64 {set}
neighbor 10.77.0.1 {{\n\tremote-as {OUR_AS}\n\tannounce IPv4 unicast\n\tannounce IPv6 unicast\n}}
allow from any\nallow to any\n",
                socket.display()
            ),
        );
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = lab.command("b", tool("/usr/sbin/bgpd"));
        command.arg("-d").arg("-f").arg(config);
        lab.spawn(command, "openbgpd")
    }

    fn received(&self, lab: &Lab, prefix: &str) -> Option<Received> {
        let shown = said(bgpctl(lab).args(["-j", "show", "rib", "detail", prefix]))?;
        let shown: Value = serde_json::from_str(&shown).ok()?;
        let route = &shown["rib"][0];
        Some(Received {
            next_hop: route["exit_nexthop"].as_str()?.to_owned(),
            as_path: route["aspath"].as_str()?.to_owned(),
            local_pref: number(&route["localpref"]),
            med: number(&route["metric"]),
            communities: texts(&route["communities"])
                .chain(texts(&route["large_communities"]))
                .collect(),
        })
    }

    fn withdraw(&self, lab: &Lab, _asn: u32) {
        run(bgpctl(lab).args(["network", "delete", "10.99.1.0/24"]));
    }

    fn refresh(&self, lab: &Lab) -> bool {
        run(bgpctl(lab).args(["neighbor", "10.77.0.1", "refresh"]));
        true
    }

    fn shut_down(&self, lab: &Lab, _asn: u32, message: &str) -> bool {
        run(bgpctl(lab).args(["neighbor", "10.77.0.1", "down", message]));
        true
    }
}

#[test]
fn an_internal_session_with_openbgpd_carries_both_families_both_ways() {
    both_ways(&OpenBgpd, OUR_AS);
}

#[test]
fn an_external_session_with_openbgpd_carries_both_families_both_ways() {
    both_ways(&OpenBgpd, THEIR_AS);
}
