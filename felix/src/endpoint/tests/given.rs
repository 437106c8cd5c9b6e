//! Endpoints whose addresses another plugin gives.

use serde_json::{Value, json};
use tonic::Request;
use tortie_model::{Key, decode};
use tortie_proto::felix::endpoint_server::Endpoint as _;
use tortie_proto::felix::{self, Attachment, PrepareRequest, ReadyRequest};

use super::{Node, Pod, attachment, hello, in_a_host_of_its_own, outcome};

async fn prepare(node: &Node, attachment: Option<&Attachment>) -> felix::Result {
    let request = PrepareRequest {
        hello: hello(),
        attachment: attachment.cloned(),
    };
    outcome(node.service.prepare(Request::new(request)).await).unwrap()
}

fn record(node: &Node) -> Value {
    let key = node.keys("workloadendpoints").remove(0);
    serde_json::from_slice(&node.memory.0.lock().unwrap().entries[&key].value).unwrap()
}

#[test]
fn an_address_that_another_gave_is_wired_and_is_not_ours() {
    in_a_host_of_its_own(|| async {
        let mut node = Node::new("10.77.0.0/24").await;
        let key: Key = format!("{}nodes/n1", tortie_model::key::RESOURCES).parse().unwrap();
        let document = json!({"metadata": {"name": "n1"}, "spec": {}, "status": {"podCIDRs": ["10.65.1.0/24"]}});
        let stored = decode(&key, document.to_string().as_bytes()).unwrap();
        node.writer.apply(&key, Some(&stored), 2);
        node.writer.publish();

        let pod = Pod::new("given");
        let a = attachment("c1", "web-0", &pod.path());
        assert_eq!(prepare(&node, None).await.pod_cidrs, ["10.65.1.0/24"]);
        assert!(prepare(&node, Some(&a)).await.ips.is_empty());
        for _ in 0..2 {
            let made = node.add(&a, |r| r.given_ips = vec!["10.65.1.7".into()]).await.unwrap();
            assert_eq!(made.ips, ["10.65.1.7/32"]);
            node.has_record("web--0", &made);
            assert!(
                pod.run(&["ip", "-o", "addr", "show", "eth0"])
                    .1
                    .contains("10.65.1.7/32")
            );
            assert_eq!(
                (node.allocated(), node.keys("/handle/").len()),
                (0, 0),
                "no block, no handle"
            );
        }
        // What the container has already is said to nobody else.
        assert_eq!(prepare(&node, Some(&a)).await.ips, ["10.65.1.7/32"]);
        let newer = attachment("c2", "web-0", &pod.path());
        assert!(prepare(&node, Some(&newer)).await.ips.is_empty());
        node.check(&a, &["10.65.1.7/32"]).await.unwrap();
        node.del(&a).await.unwrap();
        node.nothing_is_left();

        let e = node
            .add(&a, |r| r.given_ips = vec!["10.65.1.7/24".into()])
            .await
            .unwrap_err();
        assert!(e.message.contains("'10.65.1.7/24'"), "{}", e.message);
        node.nothing_is_left();
    });
}

#[test]
fn no_pool_is_needed_where_addresses_are_given() {
    in_a_host_of_its_own(|| async {
        let mut node = Node::new("10.77.0.0/24").await;
        for pool in ["four", "six"] {
            let key: Key = format!("{}ippools/{pool}", tortie_model::key::RESOURCES)
                .parse()
                .unwrap();
            node.writer.apply(&key, None, 3);
        }
        node.writer.publish();
        let ready = async |given| {
            let request = ReadyRequest {
                hello: hello(),
                addresses_given: given,
            };
            outcome(node.service.ready(Request::new(request)).await)
        };
        assert_eq!(ready(false).await.unwrap_err().code, 50);
        ready(true).await.unwrap();
    });
}

#[test]
fn floating_addresses_are_kept_in_the_record() {
    in_a_host_of_its_own(|| async {
        let node = Node::new("10.77.0.0/24").await;
        let pod = Pod::new("float");
        let a = attachment("c1", "web-0", &pod.path());
        let made = node
            .add(&a, |r| r.floating_ips = vec!["192.0.2.7".into()])
            .await
            .unwrap();
        let own = made.ips[0].trim_end_matches("/32");
        assert_eq!(
            record(&node)["spec"]["ipNATs"],
            json!([{"internalIP": own, "externalIP": "192.0.2.7"}])
        );
        node.del(&a).await.unwrap();
        // One that cannot be: nothing is made, and the address goes back.
        let e = node
            .add(&a, |r| r.floating_ips = vec!["2001:db8::1".into()])
            .await
            .unwrap_err();
        assert!(e.code == 4 && e.message.contains("2001:db8::1"), "{}", e.message);
        node.nothing_is_left();
    });
}
