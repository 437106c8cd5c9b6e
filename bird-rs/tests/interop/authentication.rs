//! TCP-AO (RFC 5925) between two of ours: none of the other programs has it yet. Where the kernel has it, keys guard sessions
//! and change under them; where not, an operator is told so, and nobody gets in without a signature.

use std::net::TcpListener;

use tortie_netlink::sockopt::ao;

use crate::lab::{Client, Lab, Running, eventually};

/// What an operator must see where the kernel cannot do it.
const CANNOT: &str = "CONFIG_TCP_AO";

fn kernel_can() -> bool {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let key = ao::AoKey {
        send_id: 1,
        recv_id: 1,
        algorithm: "hmac(sha1)",
        secret: b"x",
    };
    ao::add(&socket, "127.0.0.1/32".parse().unwrap(), &key, false).is_ok()
}

const OLD: &str = "key { id 1; secret \"old\"; };";
const NEW: &str = "key { send id 2; recv id 2; secret \"new\"; algorithm cmac aes128; preferred; };";

fn config(own: u8, neighbor: &str, options: &str, keys: &str) -> String {
    format!(
        "router id 10.77.0.{own};
protocol device {{ }}
protocol static {{ ipv4; route 10.{own}.0.0/16 blackhole; }}
protocol bgp Peer {{ local 10.77.0.{own} as 6500{own}; neighbor {neighbor} as 6500{}; {options}
  connect delay time 1; connect retry time 3; error wait time 1, 2;
  authentication ao; keys {{ {keys} }};
  ipv4 {{ import all; export all; }}; }}\n",
        3 - own
    )
}

/// The side that connects and the side that is connected to, with these keys.
fn both(lab: &Lab, theirs: &str, keys: [&str; 2]) -> ([Running; 2], [Client; 2]) {
    let daemons = [
        lab.bird_rs("a", &config(1, "10.77.0.2", "", keys[0])),
        lab.bird_rs("b", &config(2, theirs, "passive;", keys[1])),
    ];
    (daemons, [lab.client("a"), lab.client("b")])
}

fn is_up(client: &mut Client) -> bool {
    let session = client.protocols().into_iter().filter_map(|p| p.bgp);
    session.into_iter().any(|session| session.state == "Established")
}

/// Where the kernel has no TCP-AO: both sides say so, in the log and when asked, and have no session.
fn told(lab: &Lab, clients: &mut [Client; 2]) {
    for (client, side) in clients.iter_mut().zip(["a", "b"]) {
        eventually("who asks is told", || {
            let shown = lab.birdc_of(side, "show protocols all Peer");
            shown.contains(CANNOT).then_some(())
        });
        assert!(!is_up(client));
    }
    // Only the side that listens has something to refuse: there every connection costs a line.
    assert!(lab.log("b").contains(CANNOT), "{}", lab.log("b"));
}

#[test]
fn keys_guard_a_session_and_change_under_it_or_the_kernel_is_named() {
    let lab = Lab::new();
    let (_daemons, mut clients) = both(&lab, "10.77.0.1", [OLD, OLD]);
    if !kernel_can() {
        return told(&lab, &mut clients);
    }
    for client in &mut clients {
        client.established("Peer");
    }
    assert!(lab.tcp_counter("b", "TCPAOGood") > 0);
    let since = |clients: &mut [Client; 2]| {
        clients.each_mut().map(|client| {
            let protocols = client.protocols();
            protocols.iter().find(|p| p.name == "Peer").unwrap().since_unix_ms
        })
    };
    let before = since(&mut clients);
    // A second key on one side, then on the other, which both prefer; then the first one goes.
    let (deprecated, more) = (OLD.replace("secret", "deprecated; secret"), format!("{OLD} {NEW}"));
    for keys in [&*more, &format!("{deprecated} {NEW}"), NEW] {
        for (client, own) in clients.iter_mut().zip([1, 2]) {
            let neighbor = format!("10.77.0.{}", 3 - own);
            let options = if own == 2 { "passive;" } else { "" };
            let given = client.configure(&config(own, &neighbor, options, keys), false, keys);
            assert!(given.accepted, "{given:?}");
        }
        // Segments are taken with the new keys: routes go both ways.
        for (client, other) in clients.iter_mut().zip([2, 1]) {
            client.learns("Peer", &[&format!("10.{other}.0.0/16 via 10.77.0.{other}")]);
        }
    }
    assert_eq!(since(&mut clients), before, "the session never went down");
    // Nothing in common any more.
    let wrong = NEW.replace("new", "wrong");
    assert!(
        clients[0]
            .configure(&config(1, "10.77.0.2", "", &wrong), false, "wrong")
            .accepted
    );
    eventually("the kernel drops what is signed otherwise", || {
        (lab.tcp_counter("b", "TCPAOBad") > 0).then_some(())
    });
    assert_ne!(clients[0].session("Peer").state, "Established");
}

#[test]
fn keys_guard_a_range_or_the_kernel_is_named() {
    let lab = Lab::new();
    let (_daemons, mut clients) = both(&lab, "range 10.77.0.0/24", [OLD, OLD]);
    if !kernel_can() {
        return told(&lab, &mut clients);
    }
    clients[0].established("Peer");
    assert!(is_up(&mut clients[1]));
    // Without a signature nobody gets in, although the range is open.
    let without = config(1, "10.77.0.2", "", OLD).replace(&format!("authentication ao; keys {{ {OLD} }};"), "");
    assert!(clients[0].configure(&without, false, "without").accepted);
    eventually("the kernel drops what is not signed", || {
        (lab.tcp_counter("b", "TCPAORequired") > 0).then_some(())
    });
    assert!(!is_up(&mut clients[0]));
}
