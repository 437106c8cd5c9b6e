//! Nexthop objects: shared, replaced, lost, refused, found again.

use tortie_calc::Settings;
use tortie_netlink::route::object::{Body, Object, ObjectChange, ObjectId};

use super::*;
use crate::dataplane::manager::objects::OURS;

const FIRST: ObjectId = OURS.first;

fn node() -> Node {
    let mut node = Node::with(FakeKernel::with_objects());
    node.give([settings(true), Input::DatastoreSynced { live: true }, fib_in_sync()]);
    node
}

/// So many routes by one router.
fn shared(node: &mut Node, routes: u8, gateway: &[&str]) {
    node.give((0..routes).map(|i| learn(&format!("10.{i}.0.0/16"), gateway)));
}

/// Next hops of the routes learned, as text, without repetition.
fn ways(node: &Node) -> BTreeSet<String> {
    let routes = node
        .kernel
        .all_routes()
        .into_iter()
        .filter(|r| r.protocol == Protocol::BIRD);
    let way = |mut r: Route| {
        r.prefix = p("10.0.0.0/16");
        node.manager.text(&r)
    };
    routes.map(way).collect()
}

/// What was written since the last time: changes of objects, and how many of routes.
fn written(node: &Node) -> (Vec<ObjectChange>, usize) {
    let (mut objects, mut routes) = (Vec::new(), 0);
    for change in node.kernel.take_applied() {
        match change {
            Change::Object(change) => objects.push(change),
            Change::Create(_) | Change::Replace(_) | Change::Delete(_) => routes += 1,
        }
    }
    (objects, routes)
}

fn single(gateway: &str) -> Body {
    Body::Single(NextHop::via(ip(gateway), IfIndex(2)))
}

fn settings(nexthop_objects: bool) -> Input {
    let settings = Settings {
        nexthop_objects,
        ..Settings::default()
    };
    Input::Desired(vec![Update::Settings(Box::new(settings))])
}

const BY_OBJECT: &str = "10.0.0.0/16 nhid 80000000 via 172.30.0.12 dev eth0 proto bird metric 1024";
const PLAIN: &str = "10.0.0.0/16 via 172.30.0.12 dev eth0 proto bird metric 1024";

#[test]
fn routes_by_the_same_next_hops_share_an_object_that_goes_after_the_last() {
    let mut node = node();
    shared(&mut node, 20, &["172.30.0.12"]);
    assert_eq!(ways(&node), [BY_OBJECT.to_owned()].into());
    let (objects, routes) = written(&node);
    assert_eq!((objects.len(), routes), (1, 20));
    // Workloads and blackholes have nothing to share.
    node.give([
        own_block("10.244.0.0/26"),
        Input::Desired(vec![endpoint("a", "cali1", "10.244.0.5")]),
    ]);
    assert_eq!(node.row("10.244.0.5/32").route, POD);
    let gone = |i: u8| Input::Fib(vec![Delta::Delete(p(&format!("10.{i}.0.0/16")))]);
    node.give((0..19).map(gone));
    assert_eq!(node.kernel.all_objects().len(), 1);
    node.give([gone(19)]);
    assert_eq!(node.kernel.all_objects(), []);
    assert!(node.manager.summary().settled);
}

#[test]
fn several_next_hops_are_a_group() {
    let mut node = node();
    shared(&mut node, 5, &["172.30.0.12", "172.30.0.13"]);
    let objects: Vec<Body> = node.kernel.all_objects().into_iter().map(|o| o.body).collect();
    let members = vec![(FIRST, 1), (ObjectId(FIRST.0 + 1), 1)];
    let want = [single("172.30.0.12"), single("172.30.0.13"), Body::Group(members)];
    assert_eq!(objects, want);
    let row = node.row("10.1.0.0/16");
    assert_eq!(
        (row.route.as_str(), row.state),
        (
            "10.1.0.0/16 nhid 80000002 proto bird metric 1024 nexthop via 172.30.0.12 dev eth0 weight 1 nexthop via \
             172.30.0.13 dev eth0 weight 1",
            RowState::Programmed
        )
    );
    // One fewer: the group's member has an object of its own already.
    shared(&mut node, 5, &["172.30.0.12"]);
    assert_eq!(ways(&node), [BY_OBJECT.to_owned()].into());
    assert_eq!(node.kernel.all_objects().len(), 1);
}

#[test]
fn a_route_that_resolves_another_way_moves_all_that_go_by_it_with_one_replacement() {
    let mut node = node();
    // The routers are behind another one.
    node.kernel.put(via("192.0.2.0/24", "172.30.0.12", Protocol::STATIC, 0));
    node.work();
    shared(&mut node, 20, &["192.0.2.1"]);
    assert_eq!(ways(&node), [BY_OBJECT.to_owned()].into());
    node.kernel.take_applied();
    node.kernel.put(via("192.0.2.0/24", "172.30.0.13", Protocol::STATIC, 0));
    node.work();
    let object = Object {
        id: FIRST,
        protocol: OURS.protocol,
        body: single("172.30.0.13"),
    };
    assert_eq!(written(&node), (vec![ObjectChange::Replace(object)], 0));
    assert_eq!(ways(&node), [BY_OBJECT.replace("0.12", "0.13")].into());
    assert!(node.manager.summary().settled);
    // With a route that stays behind each goes alone.
    node.give([learn("10.99.0.0/16", &["172.30.0.13"])]);
    node.kernel.take_applied();
    node.kernel.put(via("192.0.2.0/24", "172.30.0.14", Protocol::STATIC, 0));
    node.work();
    assert_eq!(written(&node).1, 20);
    assert!(node.row("10.99.0.0/16").route.contains("via 172.30.0.13"));
    assert!(node.row("10.7.0.0/16").route.contains("via 172.30.0.14"));
}

#[test]
fn an_object_deleted_or_edited_under_us_is_repaired_with_its_routes() {
    let mut node = node();
    shared(&mut node, 20, &["172.30.0.12"]);
    node.give([learn("fd00:1::/64", &["172.30.0.12"])]);
    let before = node.kernel.all_routes();
    node.kernel.delete_object(FIRST);
    assert!(node.kernel.all_routes().len() < before.len() - 19);
    node.work();
    assert_eq!(node.kernel.all_routes(), before);
    node.kernel.take_applied();
    node.kernel.put_object(Object {
        id: FIRST,
        protocol: OURS.protocol,
        body: single("172.30.0.66"),
    });
    node.work();
    assert_eq!(node.kernel.all_routes(), before);
    assert_eq!(written(&node).1, 0, "the object alone is put right");
}

#[test]
fn a_member_deleted_under_a_group_comes_back() {
    let mut node = node();
    shared(&mut node, 5, &["172.30.0.12", "172.30.0.13"]);
    let before = (node.kernel.all_objects(), node.kernel.all_routes());
    node.kernel.delete_object(ObjectId(FIRST.0 + 1));
    assert_ne!((node.kernel.all_objects(), node.kernel.all_routes()), before);
    node.work();
    assert_eq!((node.kernel.all_objects(), node.kernel.all_routes()), before);
}

#[test]
fn a_restart_without_memory_uses_what_is_there_and_sweeps_the_rest_when_told_all() {
    let mut node = node();
    shared(&mut node, 5, &["172.30.0.12", "172.30.0.13"]);
    shared(&mut node, 2, &["172.30.0.14"]);
    let left = Object {
        id: ObjectId(FIRST.0 + 70),
        protocol: OURS.protocol,
        body: single("172.30.0.70"),
    };
    // Not ours: by number, by protocol.
    let foreign = [
        Object {
            id: ObjectId(7),
            ..left.clone()
        },
        Object {
            id: ObjectId(FIRST.0 + 4),
            protocol: Protocol::STATIC,
            ..left.clone()
        },
    ];
    for object in foreign.iter().chain([&left]) {
        node.kernel.put_object(object.clone());
    }
    let mut node = node.restarted();
    let before = (node.kernel.all_objects(), node.kernel.all_routes());
    node.give([Input::DatastoreSynced { live: true }]);
    shared(&mut node, 2, &["172.30.0.14"]);
    for i in 2..5 {
        node.give([learn(&format!("10.{i}.0.0/16"), &["172.30.0.12", "172.30.0.13"])]);
    }
    assert_eq!((node.kernel.all_objects(), node.kernel.all_routes()), before);
    assert_eq!(node.kernel.take_applied(), []);
    node.give([fib_in_sync()]);
    assert_eq!(written(&node), (vec![ObjectChange::Delete(left.id)], 0));
    // A new one goes around somebody else's.
    node.give([learn("10.7.0.0/16", &["172.30.0.15"])]);
    let objects = node.kernel.all_objects();
    assert!(foreign.iter().all(|f| objects.contains(f)));
    assert!(node.row("10.7.0.0/16").state == RowState::Programmed);
}

#[test]
fn a_refused_object_leaves_its_routes_plain_until_it_is_taken() {
    for errno in [Errno::ENOBUFS, Errno::EBUSY, Errno::ENODEV, Errno::EPERM] {
        let mut node = node();
        node.kernel.refuse_objects(errno, 2);
        shared(&mut node, 20, &["172.30.0.12"]);
        assert_eq!(ways(&node), [PLAIN.to_owned()].into(), "{errno}");
        let summary = node.manager.summary();
        assert_eq!((summary.objects.failing, summary.failing_total), (1, 0));
        assert!(summary.failing_objects[0].object.contains("80000000"), "{summary:?}");
        node.wait(Duration::from_secs(1));
        assert_eq!(ways(&node), [PLAIN.to_owned()].into());
        node.wait(Duration::from_secs(2));
        assert_eq!(ways(&node), [BY_OBJECT.to_owned()].into(), "{errno}");
        assert_eq!(node.manager.summary().objects.failing, 0);
    }
}

#[test]
fn somebody_elses_object_in_the_way_is_left() {
    let mut node = node();
    node.kernel.lose_events(true);
    let foreign = Object {
        id: FIRST,
        protocol: Protocol::STATIC,
        body: single("172.30.0.66"),
    };
    node.kernel.put_object(foreign.clone());
    shared(&mut node, 3, &["172.30.0.12"]);
    assert_eq!(ways(&node), [BY_OBJECT.replace("80000000", "80000001")].into());
    assert!(node.kernel.all_objects().contains(&foreign));
}

#[test]
fn an_object_that_somebody_elses_route_names_is_not_removed() {
    let mut node = node();
    shared(&mut node, 1, &["172.30.0.12"]);
    let mut theirs = via("10.200.0.0/16", "172.30.0.12", Protocol::STATIC, 5);
    theirs.object = Some(FIRST);
    node.kernel.put(theirs.clone());
    node.give([Input::Fib(vec![Delta::Delete(p("10.0.0.0/16"))])]);
    assert_eq!(node.kernel.all_objects().len(), 1);
    assert!(node.kernel.all_routes().contains(&theirs));
    node.kernel.delete(&theirs.key());
    node.work();
    // The next look at any object finds that it may go.
    node.give([learn("10.1.0.0/16", &["172.30.0.13"])]);
    assert_eq!(node.kernel.all_objects().len(), 1);
}

#[test]
fn without_a_carrier_routes_are_plain() {
    let mut node = node();
    shared(&mut node, 20, &["172.30.0.12"]);
    node.kernel.set_carrier(2, false);
    assert_eq!(ways(&node), [].into(), "the kernel dropped them without a word");
    node.work();
    assert_eq!(ways(&node), [PLAIN.to_owned()].into());
    node.kernel.set_carrier(2, true);
    node.work();
    assert_eq!(ways(&node), [BY_OBJECT.to_owned()].into());
}

#[test]
fn an_upgrade_replaces_plain_routes_in_place_and_a_setting_takes_it_back() {
    let mut plain = Node::synced();
    shared(&mut plain, 20, &["172.30.0.12"]);
    let kernel = FakeKernel::with_objects();
    kernel.set_interface(2, "eth0", true);
    kernel.add_address(2, "172.30.0.11/24");
    plain.kernel.all_routes().into_iter().for_each(|r| kernel.put(r));
    let mut node = Node::on(kernel);
    node.give([settings(true), Input::DatastoreSynced { live: true }]);
    shared(&mut node, 20, &["172.30.0.12"]);
    node.give([fib_in_sync()]);
    let changes = node.kernel.take_applied();
    let in_place = |c: &Change| matches!(c, Change::Replace(_) | Change::Object(_));
    assert!(changes.len() == 21 && changes.iter().all(in_place), "{changes:#?}");
    assert_eq!(ways(&node), [BY_OBJECT.to_owned()].into());
    node.give([settings(false)]);
    let changes = node.kernel.take_applied();
    assert!(changes.len() == 21 && changes.iter().all(in_place), "{changes:#?}");
    assert_eq!(ways(&node), [PLAIN.to_owned()].into());
    assert_eq!(node.kernel.all_objects(), []);
    node.give([settings(true)]);
    assert_eq!(ways(&node).len(), 1);
    assert_eq!(node.kernel.all_objects().len(), 1);
}
