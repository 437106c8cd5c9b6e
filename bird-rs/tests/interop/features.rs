//! What one asks of a session beyond routes, written once for every peer that can: signatures, TTL security, limits,
//! graceful restart, reflection, IPv4 routes over IPv6, peers without a name, and goodbyes.

use crate::foreign::{Cease, Foreign, LEARNED, OUR_AS, Setup, THEIR_AS, as_received, ours};
use crate::lab::{Client, Lab, Running, eventually, eventually_or};

/// Our side of an external session.
fn external(options: &str) -> String {
    ours(&format!("neighbor 10.77.0.2 as {THEIR_AS}; {options}"))
}

/// Both, established, all routes of theirs learned.
fn pair(lab: &Lab, foreign: &dyn Foreign, setup: &Setup, ours: &str) -> (Running, Running, Client) {
    let them = foreign.start(lab, setup);
    let daemon = lab.bird_rs("a", ours);
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    (them, daemon, client)
}

/// Waits for words in what the peer says about the end of the session.
fn peer_says(lab: &Lab, foreign: &dyn Foreign, cease: Cease) {
    let words = foreign.words(cease);
    eventually_or(|| {
        let said = foreign.last_reason(lab);
        if said.contains(words) {
            Ok(())
        } else {
            Err(format!("the peer does not say {words:?} but: {said}"))
        }
    });
}

/// Waits for words in what we say about the end of the session.
fn we_say(client: &mut Client, words: &str) {
    eventually_or(|| {
        let said = client.session("Peer").last_error;
        if said.contains(words) {
            Ok(())
        } else {
            Err(format!("we do not say {words:?} but: {said}"))
        }
    });
}

/// TCP MD5: a connection that stands has another key at once, and a session is not made with a wrong one.
pub(crate) fn signed(foreign: &dyn Foreign) {
    let lab = Lab::new();
    let setup = Setup {
        password: Some("tabby"),
        ..Setup::of(THEIR_AS)
    };
    let ours = external("password \"tabby\";");
    let (_them, _daemon, mut client) = pair(&lab, foreign, &setup, &ours);
    assert_eq!(lab.tcp_counter("b", "TCPMD5Failure"), 0);
    let wrong = ours.replace("tabby", "calico");
    for (config, revision) in [(&wrong, "other"), (&ours, "same")] {
        assert!(client.configure(config, false, revision).accepted);
        assert_eq!(client.session("Peer").state, "Established");
    }
    // The peer hears the goodbye, which has its password.
    lab.birdc_of("a", "disable Peer");
    assert!(client.configure(&wrong, false, "wrong").accepted);
    lab.birdc_of("a", "enable Peer");
    eventually("the peer's kernel drops what is signed otherwise", || {
        (lab.tcp_counter("b", "TCPMD5Failure") > 0).then_some(())
    });
    assert_ne!(client.session("Peer").state, "Established");
    assert!(client.configure(&ours, false, "right").accepted);
    client.established("Peer");
    client.learns("Peer", &LEARNED);
}

/// GTSM: with it, and without. Not with it again: the peer may go on trying to finish what its kernel dropped.
pub(crate) fn guarded(foreign: &dyn Foreign) {
    let lab = Lab::new();
    let setup = Setup {
        ttl_security: true,
        ..Setup::of(THEIR_AS)
    };
    let ours = external("ttl security on;");
    let (_them, _daemon, mut client) = pair(&lab, foreign, &setup, &ours);
    let without = ours.replace("ttl security on;", "");
    assert!(client.configure(&without, false, "without").accepted);
    eventually("the peer's kernel drops what may come from afar", || {
        (lab.tcp_counter("b", "TCPMinTTLDrop") > 0).then_some(())
    });
    // A peer that guards a connection only once it stands may get our OPEN before, and then nothing: it has no route.
    eventually("no session without the guard", || {
        let apart = client.session("Peer").state != "Established" || foreign.received(&lab, "10.244.0.0/26").is_none();
        apart.then_some(())
    });
}

/// The protocol goes from our configuration.
pub(crate) fn removed(foreign: &dyn Foreign) {
    let lab = Lab::new();
    let ours = external("");
    let (_them, _daemon, mut client) = pair(&lab, foreign, &Setup::of(THEIR_AS), &ours);
    eventually("the peer has our route", || foreign.received(&lab, "10.244.0.0/26"));
    let without: Vec<&str> = ours.lines().filter(|line| !line.starts_with("protocol bgp")).collect();
    assert!(client.configure(&without.join("\n"), false, "without").accepted);
    peer_says(&lab, foreign, Cease::Deconfigured);
    eventually("the peer forgets our routes", || {
        foreign.received(&lab, "10.244.0.0/26").is_none().then_some(())
    });
}

/// We take one IPv4 route of its two.
pub(crate) fn limited_by_us(foreign: &dyn Foreign) {
    let lab = Lab::new();
    let wide = external("");
    let narrow = wide.replace(
        "ipv4 { import all;",
        "ipv4 { import all; import limit 1 action restart;",
    );
    assert_ne!(narrow, wide);
    let _them = foreign.start(&lab, &Setup::of(THEIR_AS));
    let _daemon = lab.bird_rs("a", &narrow);
    let mut client = lab.client("a");
    peer_says(&lab, foreign, Cease::MaximumPrefixes);
    we_say(&mut client, "prefix");
    client.learns("Peer", &[]);
    assert!(client.configure(&wide, false, "wide").accepted);
    client.established("Peer");
    client.learns("Peer", &LEARNED);
}

/// It takes one IPv4 route of our three. Not of two: FRR counts what it has when another comes.
pub(crate) fn limits_us(foreign: &dyn Foreign) {
    let lab = Lab::new();
    let setup = Setup {
        max_prefixes: Some(1),
        ..Setup::of(THEIR_AS)
    };
    let _them = foreign.start(&lab, &setup);
    let more = external("").replace(
        "protocol static own4 { ipv4;",
        "protocol static own4 { ipv4; route 10.244.0.128/26 blackhole;",
    );
    let _daemon = lab.bird_rs("a", &more);
    let mut client = lab.client("a");
    we_say(&mut client, "aximum number of prefixes");
}

/// Our OPEN waits for the peer's (RFC 4271's DelayOpenTime), for longer than any test.
pub(crate) fn delayed_open(foreign: &dyn Foreign) {
    let lab = Lab::new();
    let ours = ours(&format!("neighbor 10.77.0.2 as {THEIR_AS}; delay open time 240;"));
    let _them = foreign.start(&lab, &Setup::of(THEIR_AS));
    let _daemon = lab.bird_rs("a", &ours);
    let mut client = lab.client("a");
    client.learns("Peer", &LEARNED);
    eventually("the peer has our route", || foreign.received(&lab, "10.244.0.0/26"));
}

/// A protocol for whoever connects from a subnet, made when it does and gone when it is.
pub(crate) fn unnamed(foreign: &dyn Foreign) {
    let lab = Lab::new();
    let ours = ours("neighbor range 10.77.0.0/24 external; dynamic name \"kitten\";");
    let _daemon = lab.bird_rs("a", &ours);
    let mut client = lab.client("a");
    let kittens = |client: &mut Client| -> Vec<String> {
        let protocols = client.protocols().into_iter();
        let made = protocols.filter(|protocol| protocol.name.starts_with("kitten"));
        made.map(|protocol| format!("{} {}", protocol.name, protocol.bgp.unwrap().state))
            .collect()
    };
    assert!(kittens(&mut client).is_empty());
    let _them = foreign.start(&lab, &Setup::of(THEIR_AS));
    let up = eventually("it is there", || {
        kittens(&mut client)
            .into_iter()
            .find(|one| one.ends_with(" Established"))
    });
    let name = up.split(' ').next().unwrap_or_default();
    client.learns(name, &LEARNED);
    eventually("the peer has our route", || foreign.received(&lab, "10.244.0.0/26"));
    foreign.shut_down(&lab, THEIR_AS, "bye");
    eventually("it is gone", || kittens(&mut client).is_empty().then_some(()));
}

/// What a peer can do about restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restarts {
    /// It keeps our routes and asks for its own to be kept.
    Both,
    /// It keeps our routes; its own go with it.
    KeepsOurs,
}

/// Either side is killed and comes back.
pub(crate) fn restarts(foreign: &dyn Foreign, able: Restarts) {
    let lab = Lab::new();
    let mut setup = Setup {
        graceful: true,
        ..Setup::of(THEIR_AS)
    };
    let ours = external("");
    let (them, daemon, _) = pair(&lab, foreign, &setup, &ours);
    let has = |prefix: &str| foreign.received(&lab, prefix).is_some();
    for prefix in ["10.244.0.0/26", "10.244.0.64/26", "fd00:244::/64"] {
        eventually("the peer has our route", || has(prefix).then_some(()));
    }
    drop(daemon);
    eventually("the peer misses us", || (!foreign.is_up(&lab)).then_some(()));
    // What is not there any more goes at the end of the restart, the rest stays.
    let fewer = ours.replace("route 10.244.0.64/26 blackhole;", "");
    let _daemon = lab.bird_rs("a", &fewer);
    let mut client = lab.client("a");
    eventually("the restart is over", || {
        for prefix in ["10.244.0.0/26", "fd00:244::/64"] {
            assert!(has(prefix), "{prefix} was lost");
        }
        (foreign.is_up(&lab) && !has("10.244.0.64/26")).then_some(())
    });
    client.learns("Peer", &LEARNED);

    drop(them);
    if able == Restarts::KeepsOurs {
        client.learns("Peer", &[]);
        return;
    }
    let stale = LEARNED.map(|route| format!("{route} stale"));
    client.learns("Peer", &stale.each_ref().map(String::as_str));
    setup.restarted = true;
    let _them = foreign.start(&lab, &setup);
    client.established("Peer");
    client.learns("Peer", &LEARNED);
    assert!(
        !lab.log("a").contains("stale routes removed"),
        "what the peer announces again was never gone"
    );
}

/// A third router of our AS, at 10.77.0.3, whose neighbour reflects.
fn third(reflector: &str) -> String {
    format!(
        "router id 10.77.0.3;
protocol device {{ }}
protocol static own {{ ipv4; route 10.88.0.0/24 blackhole; }}
protocol bgp Peer {{
  connect delay time 1; connect retry time 2; error wait time 1, 4;
  local 10.77.0.3 as {OUR_AS}; neighbor {reflector} as {OUR_AS};
  ipv4 {{ import all; export where source = RTS_STATIC; }};
}}
"
    )
}

/// It and a third are our clients.
pub(crate) fn reflected_by_us(foreign: &dyn Foreign) {
    let lab = Lab::new();
    lab.third();
    let ours = ours("neighbor 10.77.0.2 as 64512; rr client;")
        .replace("export filter mine", "export where source = RTS_BGP")
        + "protocol bgp Third from t { neighbor 10.77.0.3 as 64512; rr client; }\n";
    let (_them, _daemon, mut client) = pair(&lab, foreign, &Setup::of(OUR_AS), &ours);
    let _third = lab.bird_rs("c", &third("10.77.0.1"));
    let mut other = lab.client("c");
    client.learns("Third", &["10.88.0.0/24 via 10.77.0.3"]);
    let route = eventually("the peer has the reflected route", || {
        foreign.received(&lab, "10.88.0.0/24")
    });
    assert_eq!(
        (route.originator.as_deref(), &*route.cluster_list, &*route.next_hop),
        (Some("10.77.0.3"), &["10.77.0.1".to_owned()][..], "10.77.0.3")
    );
    other.learns("Peer", &LEARNED[..2]);
    let route = as_received(other.route("Peer", "10.99.0.0/24").unwrap());
    assert_eq!(
        (route.originator.as_deref(), &*route.cluster_list, route.local_pref),
        (Some("10.77.0.2"), &["10.77.0.1".to_owned()][..], Some(200))
    );
}

/// We and a third are its clients.
pub(crate) fn reflected_by_them(foreign: &dyn Foreign) {
    let lab = Lab::new();
    lab.third();
    let setup = Setup {
        reflects: true,
        ..Setup::of(OUR_AS)
    };
    let _them = foreign.start(&lab, &setup);
    let _daemon = lab.bird_rs("a", &ours("neighbor 10.77.0.2 as 64512;"));
    let _third = lab.bird_rs("c", &third("10.77.0.2"));
    let (mut client, mut other) = (lab.client("a"), lab.client("c"));
    let reflected = "10.88.0.0/24 via 10.77.0.3";
    client.learns("Peer", &[reflected, LEARNED[0], LEARNED[1], LEARNED[2]]);
    let route = as_received(client.route("Peer", "10.88.0.0/24").unwrap());
    assert_eq!(
        (route.originator.as_deref(), &*route.cluster_list),
        (Some("10.77.0.3"), &["10.77.0.2".to_owned()][..])
    );
    let route = eventually("ours arrives at the other client", || {
        other.route("Peer", "10.244.0.0/26").map(as_received)
    });
    assert_eq!(
        (route.originator.as_deref(), &*route.cluster_list, route.local_pref),
        (Some("10.77.0.1"), &["10.77.0.2".to_owned()][..], Some(150))
    );
}

/// One session over IPv6 that carries both families, IPv4 with IPv6 next hops (RFC 8950).
pub(crate) fn ipv4_over_ipv6(foreign: &dyn Foreign) {
    let lab = Lab::new();
    let setup = Setup {
        over_v6: true,
        ..Setup::of(THEIR_AS)
    };
    let ours = ours(&format!("neighbor fd77::2 as {THEIR_AS};"))
        .replace("local 10.77.0.1 as", "local fd77::1 as")
        .replace("ipv4 { import all;", "ipv4 { import all; extended next hop on;");
    let _them = foreign.start(&lab, &setup);
    let _daemon = lab.bird_rs("a", &ours);
    let mut client = lab.client("a");
    client.established("Peer");
    client.learns(
        "Peer",
        &[
            "10.99.0.0/24 via fd77::2",
            "10.99.1.0/24 via fd77::2",
            "fd99::/64 via fd77::2",
        ],
    );
    for prefix in ["10.244.0.0/26", "fd00:244::/64"] {
        let route = eventually("the peer has our route", || foreign.received(&lab, prefix));
        assert_eq!((&*route.next_hop, route.med), ("fd77::1", Some(30)), "{prefix}");
    }
}
