//! What a new configuration asks of the running protocols.

use super::*;

/// Applies a textual edit to the node's configuration and tells what changes.
fn edit(from: &str, to: &str) -> Vec<(String, Action, &'static str)> {
    assert!(NODE.contains(from), "{from}");
    let changes = diff(&parsed(NODE), &parsed(&NODE.replacen(from, to, 1)));
    changes
        .into_iter()
        .map(|c| (c.protocol.as_ref().to_owned(), c.action, c.reason))
        .collect()
}

const MESH: &str = "Mesh_172_30_0_12";
const GLOBAL: &str = "Global_172_30_0_1";

#[test]
fn the_same_is_no_change() {
    assert_eq!(edit("\n", "\n\n\n# moved\n"), []);
    assert_eq!(edit("define POOL", "define UNUSED = 5;\ndefine POOL"), []);
}

#[test]
fn policies_refeed_also_when_only_a_called_function_changed() {
    let both = |a: &str, b: &str| {
        let all = edit(a, b);
        assert!(all.iter().all(|(_, action, _)| *action == Action::Refeed), "{all:?}");
        all.into_iter().map(|(name, ..)| name).collect::<Vec<_>>()
    };
    assert_eq!(both("{26,32}", "{27,32}"), ["felix1"], "through is_ours");
    assert_eq!(both("(64512,100)", "(64512,101)"), [MESH]);
    assert_eq!(both("net.len < 25", "net.len < 24"), [GLOBAL]);
    assert_eq!(
        both("filter to_kernel_v6 { accept", "filter to_kernel_v6 { reject"),
        ["felix1"]
    );
}

#[test]
fn sessions_restart_only_for_their_own_terms() {
    assert_eq!(
        edit("passive on", "passive off"),
        [(MESH.into(), Action::Restart, "transport")]
    );
    assert_eq!(
        edit("password \"x\";", ""),
        [(GLOBAL.into(), Action::Restart, "transport")]
    );
    assert_eq!(
        edit("as 65001", "as 65002"),
        [(GLOBAL.into(), Action::Restart, "neighbor")]
    );
    assert_eq!(
        edit("import limit 100", "import limit 200"),
        [(MESH.into(), Action::Refeed, "import limit")]
    );
    assert_eq!(
        edit("next hop keep;", ""),
        [(GLOBAL.into(), Action::Refeed, "next hop")]
    );
    let retry = edit("connect retry time 5", "connect retry time 6");
    assert_eq!(retry.iter().map(|c| c.1).collect::<Vec<_>>(), [Action::InPlace; 2]);
    let hold = edit("hold time 240", "hold time 90");
    assert_eq!(
        hold.iter().map(|c| (c.1, c.2)).collect::<Vec<_>>(),
        [(Action::Restart, "hold time"); 2]
    );
}

#[test]
fn protocols_come_and_go() {
    let gone = edit(
        "protocol felix { ipv4 { export filter to_kernel_v4; }; ipv6 { export filter to_kernel_v6; }; }",
        "",
    );
    assert_eq!(gone, [("felix1".into(), Action::Remove, "protocol")]);
    let new = edit("protocol device { }", "protocol device { } protocol direct { ipv4; }");
    assert_eq!(new, [("direct1".into(), Action::Add, "protocol")]);
    let routes = edit("route 10.244.0.0/26 blackhole;", "route 10.244.0.64/26 blackhole;");
    assert_eq!(routes, [("own_blocks_v4".into(), Action::InPlace, "route")]);
    let id = edit("router id 172.30.0.11", "router id 172.30.0.99");
    assert_eq!(
        id.iter().map(|c| (c.1, c.2)).collect::<Vec<_>>(),
        [(Action::Restart, "router id"); 2]
    );
}

#[test]
fn a_station_s_change_restarts_its_session_alone() {
    let with = |options: &str| {
        let station = format!("protocol bmp station {{ station address ip 192.0.2.9 port 1790; {options} }}");
        parsed(&format!("{NODE}\n{station}\n"))
    };
    let before = with("");
    for (options, reason) in [
        ("station address ip 192.0.2.8 port 1790;", "station address"),
        ("monitoring rib in pre_policy;", "monitoring rib"),
        ("monitoring rib in post_policy on;", "monitoring rib"),
        ("tx buffer limit 8;", "tx buffer limit"),
        ("statistics period 8;", "statistics period"),
        ("system name \"n\";", "system name"),
        ("system description \"d\";", "system description"),
    ] {
        let changes = diff(&before, &with(options));
        let shown: Vec<_> = changes.iter().map(|c| (&*c.protocol, c.action, c.reason)).collect();
        assert_eq!(shown, [("station", Action::Restart, reason)]);
    }
    assert_eq!(diff(&before, &with("monitoring rib in pre_policy off;")), []);
}

#[test]
fn a_password_changes_in_place_but_for_a_range() {
    assert_eq!(
        edit("password \"x\"", "password \"y\""),
        [(GLOBAL.into(), Action::InPlace, "keys")]
    );
    let range = |password: &str| {
        let text = NODE.replacen(
            "neighbor 172.30.0.1 port 179 as 65001",
            "neighbor range 172.30.0.0/24 as 65001",
            1,
        );
        parsed(&text.replacen("password \"x\"", password, 1))
    };
    let changes = diff(&range("password \"x\""), &range("password \"y\""));
    assert_eq!((changes[0].action, changes[0].reason), (Action::Restart, "transport"));
}

#[test]
fn keys_change_in_place_as_long_as_one_of_them_stays() {
    let with = |keys: &str| {
        let all = format!("authentication ao; keys {{ {keys} }};");
        parsed(&NODE.replacen("password \"x\";", &all, 1))
    };
    let (one, two) = ("key { id 1; secret \"a\"; };", "key { id 2; secret \"b\"; };");
    let change = |from: &str, to: &str| {
        let changes = diff(&with(from), &with(to));
        changes.first().map(|change| (change.action, change.reason))
    };
    assert_eq!(change(one, &format!("{one} {two}")), Some((Action::InPlace, "keys")));
    assert_eq!(change(&format!("{one} {two}"), two), Some((Action::InPlace, "keys")));
    assert_eq!(change(one, two), Some((Action::Restart, "transport")));
    assert_eq!(change(one, one), None);
    let from_md5 = diff(&parsed(NODE), &with(one));
    assert_eq!((from_md5[0].action, from_md5[0].reason), (Action::Restart, "transport"));
}
