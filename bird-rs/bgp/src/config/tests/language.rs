//! What the language means.

use std::net::IpAddr;
use std::time::Duration;

use super::*;

fn bgp<'c>(config: &'c Config, name: &str) -> &'c BgpConfig {
    match &config.protocol(name).expect("the protocol").kind {
        ProtocolKind::Bgp(bgp) => bgp,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_as_confd_renders_it() {
    let config = parsed(NODE);
    assert_eq!(
        config.router_id,
        Some(RouterId::from(std::net::Ipv4Addr::new(172, 30, 0, 11)))
    );
    let names: Vec<&str> = config.protocols.iter().map(|p| p.name.as_ref()).collect();
    assert_eq!(
        names,
        [
            "device1",
            "own_blocks_v4",
            "felix1",
            "Mesh_172_30_0_12",
            "Global_172_30_0_1"
        ]
    );
    let mesh = bgp(&config, "Mesh_172_30_0_12");
    assert_eq!(mesh.timers.connect_retry, Duration::from_secs(5), "from the template");
    assert_eq!(mesh.graceful_restart, GracefulRestart::On);
    assert!(mesh.transport.passive && mesh.peer_type.is_internal(mesh.local_as));
    assert_eq!(mesh.channels.len(), 2);
    let limit = mesh.channels[0].channel.import_limit.expect("a limit");
    assert_eq!((limit.routes, limit.action), (100, LimitAction::Restart));
    let address: IpAddr = "2001:db8::1".parse().unwrap();
    assert_eq!(mesh.channels[1].next_hop_address, Some(address));
    let global = bgp(&config, "Global_172_30_0_1");
    assert!(!global.transport.passive, "the mesh's own option is not the template's");
    assert_eq!(global.channels[0].next_hop_keep, NextHopRewrite::On);
}

#[test]
fn defaults_that_depend_on_the_peer() {
    let config = parsed(
        "protocol bgp i { local 10.0.0.1 as 1; neighbor 10.0.0.2 as 1; ipv4; }
         protocol bgp e { local 10.0.0.1 as 1; neighbor 10.0.0.3 as 2; ipv4 { import all; export none; }; }",
    );
    let (internal, external) = (bgp(&config, "i"), bgp(&config, "e"));
    assert_eq!(
        (internal.transport.multihop, external.transport.multihop),
        (Some(64), None)
    );
    assert_eq!(internal.channels[0].gateway, Gateway::Recursive);
    assert_eq!(external.channels[0].gateway, Gateway::Direct);
    assert_eq!(internal.channels[0].channel.import, Policy::All);
    assert_eq!(internal.channels[0].channel.export, Policy::None);
}

#[test]
fn a_copy_inherits_channels_and_may_change_them() {
    let config = parsed(
        "template bgp t { local 10.0.0.1 as 1; ipv4 { import none; export all; next hop self; }; }
         protocol bgp a from t { neighbor 10.0.0.2 as 2; ipv4 { import all; }; }",
    );
    let channel = &bgp(&config, "a").channels[0];
    assert_eq!(channel.channel.import, Policy::All);
    assert_eq!(channel.channel.export, Policy::All);
    assert_eq!(channel.next_hop_self, NextHopRewrite::On);
}

#[test]
fn includes_are_spliced_in() {
    struct Files;
    impl Loader for Files {
        fn load(&mut self, from: &str, pattern: &str) -> Result<Vec<(String, String)>, String> {
            match pattern {
                "peers/*.conf" => Ok(vec![
                    (
                        "peers/a.conf".into(),
                        "protocol static a { ipv4; route OWN blackhole; }\n".into(),
                    ),
                    ("peers/b.conf".into(), "include \"loop\";\n".into()),
                ]),
                "loop" => Ok(vec![("loop".into(), "include \"loop\";\n".into())]),
                other => Err(format!("{other} from {from} does not exist")),
            }
        }
    }
    let text = "define OWN = 10.0.0.0/8;\ninclude \"peers/*.conf\";\n";
    let errors = parse("main.conf", text, &mut Files).expect_err("a loop");
    assert_eq!((errors.len(), errors[0].file.as_str()), (1, "loop"));
    let missing = parse("main.conf", "include \"x\";", &mut Files).expect_err("a missing file");
    assert_eq!(missing[0].message, "include \"x\": x from main.conf does not exist");
}

#[test]
fn static_routes() {
    let config = parsed(
        "protocol static {
           ipv4; check link; igp table master4;
           route 10.0.0.0/8 via 10.9.0.1 weight 3 onlink via fe80::1%eth0 bfd via \"eth1\";
           route 10.1.0.0/16 recursive 10.2.0.1 { bgp_med = 5; bgp_community.add((1,2)); };
           route 10.2.0.0/16 unreachable; route 10.3.0.0/16 prohibit;
         }",
    );
    let ProtocolKind::Static(fixed) = &config.protocols[0].kind else {
        panic!("not static")
    };
    let StaticDestination::Via(hops) = &fixed.routes[0].destination else {
        panic!("not via")
    };
    assert_eq!((hops.len(), hops[0].weight, hops[0].onlink), (3, 3, true));
    assert_eq!((hops[1].interface.as_deref(), hops[1].bfd), (Some("eth0"), true));
    assert!(fixed.routes[1].attributes.is_some());
}

#[test]
fn felix_is_told_of_each_family_by_one_protocol() {
    let text = |family: &str| format!("protocol felix a {{ ipv4; }}\nprotocol felix b {{ {family}; }}\n");
    assert_eq!(parsed(&text("ipv6")).protocols.len(), 2);
    let errors = parse("x.conf", &text("ipv4"), &mut NoInclude).expect_err("two of one family");
    assert_eq!(errors[0].message, "b: another protocol already exports ipv4 to felix");
}

fn with_option(option: &str) -> String {
    format!(
        "router id 1.2.3.4; protocol bgp a {{ local as 1; neighbor 10.0.0.2 as 2; {option} ipv4 {{ import all; export all; }}; }}\n"
    )
}

#[test]
fn keys_are_read_as_later_versions_of_bird_have_them() {
    let options = "authentication ao; keys { key { id 1; secret \"one\"; };
 key { send id 2; recv id 3; secret \"two\"; algorithm cmac aes128; preferred; };
 key { id 255; secret \"three\"; algorithm hmac sha256; deprecated; }; };";
    let config = parsed(&with_option(options));
    let ProtocolKind::Bgp(bgp) = &config.protocols[0].kind else {
        panic!("not BGP")
    };
    let Authentication::Ao(keys) = &bgp.transport.authentication else {
        panic!("not AO")
    };
    let all: Vec<_> = keys
        .iter()
        .map(|key| (key.ids(), &*key.secret, key.algorithm.kernel_name(), key.preference))
        .collect();
    assert_eq!(
        all,
        [
            ((1, 1), "one", "hmac(sha1)", AoPreference::Plain),
            ((2, 3), "two", "cmac(aes128)", AoPreference::Preferred),
            ((255, 255), "three", "hmac(sha256)", AoPreference::Deprecated),
        ]
    );
    assert_eq!(keys.selected().ids(), (2, 3));
    super::properties::round_trips(&config);
    // What a protocol says replaces what its template says.
    let text = "router id 1.2.3.4; template bgp t { local as 1; authentication ao; keys { key { id 1; secret \"x\"; }; }; }
protocol bgp a from t { neighbor 10.0.0.2 as 2; keys { key { id 2; secret \"y\"; }; }; ipv4 { import all; export all; }; }\n";
    let config = parsed(text);
    let ProtocolKind::Bgp(bgp) = &config.protocols[0].kind else {
        panic!("not BGP")
    };
    assert_eq!(format!("{:?}", bgp.transport.authentication), "Ao([(2, 2)])");
    assert!(matches!(
        &parsed(&with_option("authentication md5; password \"x\";")).protocols[0].kind,
        ProtocolKind::Bgp(bgp) if bgp.transport.authentication == Authentication::Md5("x".to_owned())
    ));
}

#[test]
fn keys_that_cannot_be_meant_are_refused() {
    for (option, about) in [
        (
            "authentication ao;",
            "keys: at least one key that is not deprecated expected",
        ),
        (
            "authentication ao; keys { key { id 1; secret \"x\"; deprecated; }; };",
            "keys: at least one key that is not deprecated expected",
        ),
        (
            "authentication ao; keys { key { id 1; secret \"x\"; }; key { id 1; secret \"y\"; }; };",
            "keys: two keys have the send id 1",
        ),
        (
            "keys { key { id 1; secret \"x\"; }; };",
            "'keys' are for TCP-AO, which is not asked for",
        ),
        (
            "authentication ao; password \"x\"; keys { key { id 1; secret \"x\"; }; };",
            "'password' is for TCP MD5, 'keys' are for TCP-AO",
        ),
        ("authentication md5;", "'authentication md5' without a password"),
        (
            "authentication none; password \"x\";",
            "'authentication none' with a password or keys",
        ),
        (
            "authentication sha;",
            "authentication: 'none', 'md5' or 'ao' expected, found 'sha'",
        ),
        ("keys { key { secret \"x\"; }; };", "key: no id in both directions"),
        (
            "keys { key { send id 1; secret \"x\"; }; };",
            "key: no id in both directions",
        ),
        ("keys { key { id 1; }; };", "key: no secret"),
        (
            "keys { key { id 256; }; };",
            "id: 256 is out of range, 0 to 255 expected",
        ),
        (
            "keys { key { secret \"\"; }; };",
            "secret: 1 to 80 octets expected, found 0",
        ),
        (
            "keys { key { algorithm sha1; }; };",
            "algorithm: one of 'hmac md5', 'hmac sha1'",
        ),
        ("keys { id 1; };", "'key' expected, found 'id'"),
    ] {
        let errors = parse("x.conf", &with_option(option), &mut NoInclude).expect_err(option);
        assert!(errors[0].message.starts_with(about), "{option}: {}", errors[0].message);
        assert!(!errors[0].excerpt.contains("secret"), "{}", errors[0].excerpt);
    }
}

#[test]
fn the_send_hold_time_is_longer_than_the_hold_time_or_none() {
    let text = |seconds: u32| {
        format!(
            "router id 1.2.3.4; protocol bgp a {{ local as 1; neighbor 10.0.0.2 as 2; hold time 90; send hold time {seconds};
  ipv4 {{ import all; export all; }}; }}\n"
        )
    };
    for seconds in [0, 91] {
        let config = parsed(&text(seconds));
        let ProtocolKind::Bgp(bgp) = &config.protocols[0].kind else {
            panic!("{config:?}");
        };
        assert_eq!(bgp.timers.send_hold.map(|time| time.as_secs()), Some(seconds.into()));
    }
    let errors = parse("x.conf", &text(90), &mut NoInclude).expect_err("as long as the hold time");
    assert!(errors[0].message.contains("send hold time"), "{}", errors[0].message);
}

#[test]
fn merge_paths_is_felix_channels_and_is_printed_as_it_is_read() {
    for (said, limit) in [
        ("", None),
        ("merge paths;", Some(16)),
        ("merge paths on limit 8;", Some(8)),
        ("merge paths limit 255;", Some(255)),
        ("merge paths off limit 8;", None),
    ] {
        let config = parsed(&format!(
            "router id 1.2.3.4; protocol felix {{ ipv4 {{ {said} }}; ipv6; }}"
        ));
        let ProtocolKind::Felix(felix) = &config.protocols[0].kind else {
            panic!("{config:?}");
        };
        let limits = [felix.channels[0].merge_paths, felix.channels[1].merge_paths];
        assert_eq!(limits, [limit, None], "{said}");
        assert_eq!(parsed(&config.to_string()), config);
    }
    let refused = |text: &str| parse("x.conf", text, &mut NoInclude).expect_err("it is wrong");
    for text in [
        "protocol felix { ipv4 { merge paths limit 256; }; }",
        "protocol felix { ipv4 { merge paths limit 0; }; }",
        "protocol static { ipv4 { merge paths; }; }",
    ] {
        assert_eq!(refused(text).len(), 1, "{text}");
    }
}

#[test]
fn the_routers_name_and_where_its_id_is_from() {
    let config = parsed("router id from -\"eth1\", \"eth*\" 10.0.0.0/8; hostname \"tor 1\";");
    assert_eq!(config.hostname.as_deref(), Some("tor 1"));
    let selects = |interface: &str, address: &str| {
        let address = address.parse().expect("an address");
        InterfacePattern::selects(&config.router_id_from, interface, address)
    };
    assert!(selects("eth0", "10.1.1.1"));
    assert!(!selects("eth0", "11.1.1.1") && !selects("eth1", "10.1.1.1") && !selects("lo", "10.1.1.1"));
}

#[test]
fn words_with_two_spellings() {
    let config = parsed(
        "ipv4 table t { sorted; trie off; }
         protocol static { ipv4; route 10.0.0.0/8 drop; route 11.0.0.0/8 reject; }
         protocol bgp b { local as 1; neighbor 10.0.0.2 as 1; start delay time 9; ipv4 { import limit 0 action block; }; }",
    );
    let ProtocolKind::Static(fixed) = &config.protocols[0].kind else {
        panic!("not static")
    };
    let destinations: Vec<_> = fixed.routes.iter().map(|route| &route.destination).collect();
    assert_eq!(
        destinations,
        [&StaticDestination::Blackhole, &StaticDestination::Unreachable]
    );
    let limit = bgp(&config, "b").channels[0].channel.import_limit;
    assert_eq!(limit.map(|limit| limit.routes), Some(0));
    assert_eq!(bgp(&config, "b").timers.connect_delay, Duration::from_secs(9));
    assert!(config.tables.iter().any(|table| &*table.name == "t" && table.sorted));
}
