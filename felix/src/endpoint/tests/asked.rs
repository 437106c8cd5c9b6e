//! What a pod asks for by itself.

use super::*;

#[test]
fn an_address_and_forwarding_that_a_pod_asks_for_it_gets_and_no_other_does() {
    in_a_host_of_its_own(|| async {
        let node = Node::new("10.77.0.0/24").await;
        let pods = ["ask1", "ask2"].map(Pod::new);
        let first = attachment("c1", "web-0", &pods[0].path());
        let second = attachment("c2", "web-1", &pods[1].path());
        let asks = |r: &mut AddRequest| {
            r.requested_ips = vec!["10.77.0.77".into()];
            r.allow_ip_forwarding = true;
        };
        let made = node.add(&first, asks).await.unwrap();
        assert_eq!(made.ips, ["10.77.0.77/32"]);
        let forwards = |pod: &Pod| pod.run(&["cat", "/proc/sys/net/ipv4/ip_forward"]).1;
        assert_eq!(forwards(&pods[0]).trim(), "1");
        assert_eq!(node.add(&first, asks).await.unwrap(), made, "the same again");
        assert_eq!(node.allocated(), 1);

        let e = node.add(&second, asks).await.unwrap_err();
        assert!(
            e.code == 101 && e.message.contains("10.77.0.77") && e.message.contains("net.c1"),
            "{} {}",
            e.code,
            e.message
        );
        let outside = |r: &mut AddRequest| r.requested_ips = vec!["192.0.2.9".into()];
        let e = node.add(&second, outside).await.unwrap_err();
        assert!(
            e.code == 101 && e.message.contains("192.0.2.9"),
            "{} {}",
            e.code,
            e.message
        );
        assert_eq!((node.allocated(), node.cali().len()), (1, 1));
        node.del(&first).await.unwrap();
        node.nothing_is_left();
    });
}
