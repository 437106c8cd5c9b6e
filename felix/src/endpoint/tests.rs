//! The service against a store in memory and a real kernel, in a network namespace of its own: the test's thread leaves
//! the host's namespace before anything is started, and every thread it starts stays with it.

mod asked;
mod given;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};
use tortie_kit::address::ServiceAddr;
use tortie_model::{Key, decode};
use tortie_netlink::request::Connection;
use tortie_proto::common::Hello;
use tortie_proto::felix::endpoint_response::Outcome;
use tortie_proto::felix::endpoint_server::Endpoint;
use tortie_proto::felix::{self, AddRequest, Attachment, CheckRequest, CollectRequest, DelRequest, ReadyRequest};
use tortie_proto::store::store_server::{Store as StoreService, StoreServer};
use tortie_proto::store::write_request::{Operation, Precondition};
use tortie_proto::store::{
    Entry, GetRequest, GetResponse, ListRequest, ListResponse, WriteManyRequest, WriteManyResponse, WriteRequest,
    WriteResponse,
};
use tortie_typha_client::Store;

use super::{Parts, Service};
use crate::dataplane::{self, Dataplane, DataplaneError};
use crate::ipam::Ipam;
use crate::state::{Source, StateWriter};

// === The store in memory ===

#[derive(Default)]
struct Memory {
    entries: BTreeMap<String, Entry>,
    revision: u64,
    transactions: u64,
}

#[derive(Clone, Default)]
struct MemoryStore(Arc<Mutex<Memory>>);

fn hello() -> Option<Hello> {
    Some(Hello::new("test", "n1", "1"))
}

#[tonic::async_trait]
impl StoreService for MemoryStore {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let memory = self.0.lock().unwrap();
        let entry = memory.entries.get(&request.into_inner().key).cloned();
        let entry = entry.ok_or_else(|| Status::not_found("no such key"))?;
        Ok(Response::new(GetResponse {
            stale: None,
            hello: hello(),
            entry: Some(entry),
        }))
    }

    async fn accept(
        &self,
        _: Request<tortie_proto::store::AcceptRequest>,
    ) -> Result<Response<tortie_proto::store::AcceptResponse>, Status> {
        Err(Status::unimplemented("no operator comes here"))
    }

    async fn status(
        &self,
        _: Request<tortie_proto::store::StatusRequest>,
    ) -> Result<Response<tortie_proto::store::StatusResponse>, Status> {
        Err(Status::unimplemented("no operator comes here"))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let memory = self.0.lock().unwrap();
        let prefix = request.into_inner().prefix;
        let entries = memory
            .entries
            .values()
            .filter(|e| e.key.starts_with(&prefix))
            .cloned()
            .collect();
        Ok(Response::new(ListResponse {
            stale: None,
            hello: hello(),
            entries,
            revision: memory.revision,
        }))
    }

    async fn write(&self, request: Request<WriteRequest>) -> Result<Response<WriteResponse>, Status> {
        let request = request.into_inner();
        let mut memory = self.0.lock().unwrap();
        memory.allows(&request)?;
        memory.transactions += 1;
        let previous = memory.entries.get(&request.key).cloned();
        let entry = memory.write(request);
        Ok(Response::new(WriteResponse {
            hello: hello(),
            entry,
            previous,
            revision: memory.revision,
        }))
    }

    async fn write_many(&self, request: Request<WriteManyRequest>) -> Result<Response<WriteManyResponse>, Status> {
        let writes = request.into_inner().writes;
        let mut memory = self.0.lock().unwrap();
        writes.iter().try_for_each(|w| memory.allows(w))?;
        memory.transactions += 1;
        let mut revisions = Vec::new();
        for write in writes {
            let entry = memory.write(write);
            revisions.push(entry.map_or(memory.revision, |e| e.revision));
        }
        Ok(Response::new(WriteManyResponse {
            hello: hello(),
            revisions,
        }))
    }
}

impl Memory {
    fn allows(&self, request: &WriteRequest) -> Result<(), Status> {
        match (&request.precondition, self.entries.get(&request.key)) {
            (Some(Precondition::Absent(_)), Some(_)) => Err(Status::already_exists("exists")),
            (Some(Precondition::Revision(_)), None) => Err(Status::not_found("gone")),
            (Some(Precondition::Revision(r)), Some(p)) if p.revision != *r => Err(Status::aborted("moved")),
            _ => Ok(()),
        }
    }

    fn write(&mut self, request: WriteRequest) -> Option<Entry> {
        self.revision += 1;
        let Some(Operation::Put(value)) = request.operation else {
            self.entries.remove(&request.key);
            return None;
        };
        let previous = self.entries.get(&request.key);
        let entry = Entry {
            key: request.key.clone(),
            value,
            revision: self.revision,
            create_revision: previous.map_or(self.revision, |p| p.create_revision),
        };
        self.entries.insert(request.key, entry.clone());
        Some(entry)
    }
}

// === A node ===

/// A pod's namespace, gone with this value.
struct Pod(String);

impl Pod {
    fn new(name: &str) -> Self {
        let name = format!("tt-f2-{name}-{}", std::process::id());
        assert!(
            Command::new("ip")
                .args(["netns", "add", &name])
                .status()
                .unwrap()
                .success()
        );
        Pod(name)
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }

    fn run(&self, args: &[&str]) -> (bool, String) {
        let out = Command::new("ip")
            .args(["netns", "exec", &self.0])
            .args(args)
            .output()
            .unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn sh(command: &str) -> bool {
    Command::new("sh").args(["-c", command]).status().unwrap().success()
}

struct Node {
    service: Service,
    memory: MemoryStore,
    writer: StateWriter,
    refuse_routes: Arc<Mutex<bool>>,
    _dir: tempfile::TempDir,
}

/// Routes endpoints the way the dataplane does, without its care.
async fn routes(mut commands: mpsc::Receiver<dataplane::Command>, refuse: Arc<Mutex<bool>>) {
    while let Some(command) = commands.recv().await {
        match command {
            dataplane::Command::Up(endpoint, answer) => {
                let done = if *refuse.lock().unwrap() {
                    let (interface, waited) = (endpoint.interface, Duration::ZERO);
                    Err(DataplaneError::NotProgrammed {
                        interface,
                        waited,
                        reason: "refused by the test".into(),
                    })
                } else {
                    for ip in &endpoint.ips {
                        assert!(sh(&format!("ip route replace {ip} dev {}", endpoint.interface)));
                    }
                    Ok(())
                };
                let _ = answer.send(done);
            }
            dataplane::Command::Down(interface, answer)
                if *refuse.lock().unwrap() && sh(&format!("ip link show {interface} >/dev/null 2>&1")) =>
            {
                let (waited, reason) = (Duration::ZERO, "refused by the test".into());
                let _ = answer.send(Err(DataplaneError::NotProgrammed {
                    interface,
                    waited,
                    reason,
                }));
            }
            dataplane::Command::Down(interface, answer) => {
                sh(&format!(
                    "ip route flush dev {interface} 2>/dev/null; ip -6 route flush dev {interface} 2>/dev/null"
                ));
                let _ = answer.send(Ok(()));
            }
            // What only shows is not asked for here; whoever does is told that nobody answers.
            other => drop(other),
        }
    }
}

impl Node {
    async fn new(pool4: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = ServiceAddr::Unix(dir.path().join("typha.sock"));
        let memory = MemoryStore::default();
        let incoming = address.listen().await.unwrap();
        let server = tonic::transport::Server::builder().add_service(StoreServer::new(memory.clone()));
        tokio::spawn(server.serve_with_incoming(incoming));
        let mut node = Node::with_store(address, pool4, dir).await;
        node.memory = memory;
        node
    }

    async fn with_store(address: ServiceAddr, pool4: &str, dir: tempfile::TempDir) -> Self {
        let store = Store::new(address, Hello::new("felix", "n1", "1"));
        let (mut writer, state) = StateWriter::new("n1".parse().unwrap());
        let objects = [
            (
                "nodes/n1",
                r#"{"metadata":{"name":"n1"},"spec":{"bgp":{"ipv4Address":"10.99.0.1/24"}}}"#.to_owned(),
            ),
            (
                "ippools/four",
                format!(r#"{{"metadata":{{"name":"four"}},"spec":{{"cidr":"{pool4}","blockSize":30}}}}"#),
            ),
            (
                "ippools/six",
                r#"{"metadata":{"name":"six"},"spec":{"cidr":"fd00:10::/112"}}"#.to_owned(),
            ),
        ];
        for (name, json) in objects {
            let key: Key = format!("{}{name}", tortie_model::key::RESOURCES).parse().unwrap();
            writer.apply(&key, Some(&decode(&key, json.as_bytes()).unwrap()), 1);
        }
        writer.synced(Source::Typha, 1);
        writer.publish();
        let (commands, queue) = mpsc::channel(8);
        let refuse_routes = Arc::new(Mutex::new(false));
        tokio::spawn(routes(queue, Arc::clone(&refuse_routes)));
        let ipam = Ipam::start("n1".parse().unwrap(), store.clone(), state.clone());
        let dataplane = Dataplane::new(commands);
        let service = Service::new(Parts {
            node: "n1".parse().unwrap(),
            store,
            state,
            dataplane,
            ipam,
        });
        Node {
            service,
            memory: MemoryStore::default(),
            writer,
            refuse_routes,
            _dir: dir,
        }
    }

    async fn add(
        &self,
        attachment: &Attachment,
        change: impl FnOnce(&mut AddRequest),
    ) -> Result<felix::Result, felix::Failure> {
        let mut request = AddRequest {
            hello: hello(),
            attachment: Some(attachment.clone()),
            assign_ipv4: true,
            ..AddRequest::default()
        };
        change(&mut request);
        outcome(self.service.add(Request::new(request)).await)
    }

    async fn del(&self, attachment: &Attachment) -> Result<felix::Result, felix::Failure> {
        let request = DelRequest {
            hello: hello(),
            attachment: Some(attachment.clone()),
        };
        outcome(self.service.del(Request::new(request)).await)
    }

    async fn check(&self, attachment: &Attachment, ips: &[&str]) -> Result<felix::Result, felix::Failure> {
        let expected_ips = ips.iter().map(|s| (*s).to_owned()).collect();
        let request = CheckRequest {
            hello: hello(),
            attachment: Some(attachment.clone()),
            expected_ips,
        };
        outcome(self.service.check(Request::new(request)).await)
    }

    /// What typha would have told by now.
    fn synced(&mut self) {
        for entry in self.memory.0.lock().unwrap().entries.values() {
            let key: Key = entry.key.parse().unwrap();
            self.writer
                .apply(&key, Some(&decode(&key, &entry.value).unwrap()), entry.revision);
        }
        self.writer.publish();
    }

    fn keys(&self, part: &str) -> Vec<String> {
        self.memory
            .0
            .lock()
            .unwrap()
            .entries
            .keys()
            .filter(|k| k.contains(part))
            .cloned()
            .collect()
    }

    fn allocated(&self) -> usize {
        let memory = self.memory.0.lock().unwrap();
        let blocks = memory.entries.values().filter(|e| e.key.contains("/assignment/"));
        let count = |e: &Entry| {
            let block: serde_json::Value = serde_json::from_slice(&e.value).unwrap();
            block["allocations"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|a| !a.is_null())
                .count()
        };
        blocks.map(count).sum()
    }

    fn cali(&self) -> Vec<String> {
        let links = Connection::open().unwrap().links().unwrap();
        links
            .into_iter()
            .map(|l| l.name)
            .filter(|n| n.starts_with("cali"))
            .collect()
    }

    /// The stored record says what the answer said.
    fn has_record(&self, name: &str, made: &felix::Result) {
        let key = self.keys(name);
        let stored: serde_json::Value =
            serde_json::from_slice(&self.memory.0.lock().unwrap().entries[&key[0]].value).unwrap();
        let spec = &stored["spec"];
        assert_eq!(spec["containerID"], "c1");
        assert_eq!(spec["ipNetworks"], serde_json::json!(made.ips));
        assert_eq!(spec["interfaceName"], made.host_interface);
        assert_eq!(spec["mac"], made.container_mac);
    }

    fn nothing_is_left(&self) {
        assert_eq!(self.allocated(), 0);
        assert!(self.keys("/handle/").is_empty() && self.keys("workloadendpoints").is_empty());
        assert!(self.cali().is_empty(), "{:?}", self.cali());
    }
}

fn outcome(answer: Result<Response<felix::EndpointResponse>, Status>) -> Result<felix::Result, felix::Failure> {
    match answer.unwrap().into_inner().outcome.unwrap() {
        Outcome::Result(result) => Ok(result),
        Outcome::Failure(failure) => Err(failure),
    }
}

fn attachment(container: &str, pod: &str, netns: &str) -> Attachment {
    Attachment {
        network: "net".into(),
        container_id: container.into(),
        ifname: "eth0".into(),
        netns: netns.into(),
        orchestrator: "k8s".into(),
        namespace: "web".into(),
        pod: pod.into(),
    }
}

/// Runs in a network namespace of its own, with an address to ping.
fn in_a_host_of_its_own<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    unshare(CloneFlags::CLONE_NEWNET).expect("needs root");
    assert!(sh(
        "ip link set lo up && ip addr add 10.99.0.1/24 dev lo && ip -6 addr add fd99::1/128 dev lo"
    ));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test());
}

#[test]
fn a_pool_for_a_namespace_is_for_that_namespace() {
    in_a_host_of_its_own(|| async {
        let mut node = Node::new("10.77.0.0/24").await;
        let pool = r#"{"metadata":{"name":"a-red"},"spec":{"cidr":"10.78.0.0/24","allowedUses":["Workload"],
            "namespaceSelector":"team == 'red'"}}"#;
        let key: Key = format!("{}ippools/a-red", tortie_model::key::RESOURCES)
            .parse()
            .unwrap();
        node.writer
            .apply(&key, Some(&decode(&key, pool.as_bytes()).unwrap()), 2);
        node.writer.publish();
        let profile = r#"{"metadata":{"name":"kns.web"},"spec":{"labelsToApply":{"pcns.team":"red"}}}"#;
        let key = format!("{}profiles/kns.web", tortie_model::key::RESOURCES);
        let entry = Entry {
            key: key.clone(),
            value: profile.into(),
            revision: 1,
            create_revision: 1,
        };
        node.memory.0.lock().unwrap().entries.insert(key, entry);
        let pods = [Pod::new("red"), Pod::new("blue")];
        let red = attachment("c1", "web-0", &pods[0].path());
        let blue = Attachment {
            namespace: "db".into(),
            ..attachment("c2", "db-0", &pods[1].path())
        };
        let ips = |made: felix::Result| made.ips[0].clone();
        let (of_red, of_blue) = (
            ips(node.add(&red, |_| ()).await.unwrap()),
            ips(node.add(&blue, |_| ()).await.unwrap()),
        );
        assert!(
            of_red.starts_with("10.78.0.") && of_blue.starts_with("10.77.0."),
            "{of_red} {of_blue}"
        );
    });
}

#[test]
fn add_check_del() {
    in_a_host_of_its_own(|| async {
        let node = Node::new("10.77.0.0/24").await;
        let pod = Pod::new("life");
        let a = attachment("c1", "web-0", &pod.path());
        let dual = |r: &mut AddRequest| (r.assign_ipv6, r.mtu) = (true, 1400);
        let made = node.add(&a, dual).await.unwrap();
        assert_eq!(
            (made.host_mac.as_str(), made.mtu, made.ips.len()),
            ("ee:ee:ee:ee:ee:ee", 1400, 2)
        );
        let (ip4, ip6) = (
            made.ips[0].trim_end_matches("/32"),
            made.ips[1].trim_end_matches("/128"),
        );
        assert!(
            ip4.starts_with("10.77.0.") && ip6.starts_with("fd00:10::"),
            "{:?}",
            made.ips
        );
        for target in ["10.99.0.1", "fd99::1"] {
            let (answered, said) = pod.run(&["ping", "-c1", "-W3", "-n", target]);
            assert!(answered, "{target}: {said}");
        }
        assert!(pod.run(&["ip", "route"]).1.contains("default via 169.254.1.1 dev eth0"));
        assert_eq!(pod.run(&["cat", "/proc/sys/net/ipv4/ip_forward"]).1.trim(), "0");
        assert!(node.keys("/handle/").iter().all(|k| k.ends_with("/net.c1")));
        node.has_record("workloadendpoints/web/n1-k8s-web--0-eth0", &made);

        assert_eq!(node.add(&a, dual).await.unwrap(), made, "the same again");
        assert_eq!(node.allocated(), 2);
        let expected: Vec<&str> = made.ips.iter().map(String::as_str).collect();
        node.check(&a, &expected).await.unwrap();
        let e = node.check(&a, &["10.0.0.9/32"]).await.unwrap_err();
        assert_eq!(
            (e.code, e.message.contains("'10.0.0.9/32'")),
            (102, true),
            "{}",
            e.message
        );
        pod.run(&["ip", "route", "del", "default"]);
        let e = node.check(&a, &expected).await.unwrap_err();
        assert!(e.message.contains("no default route via 169.254.1.1"), "{}", e.message);

        let gone = attachment("c1", "web-0", "/run/netns/tt-f2-none");
        node.del(&gone).await.unwrap();
        node.nothing_is_left();
        node.del(&gone).await.unwrap();
        node.del(&attachment("never", "seen", "")).await.unwrap();
        assert!(
            node.check(&a, &[])
                .await
                .unwrap_err()
                .message
                .contains("does not exist")
        );
    });
}

#[test]
fn an_old_containers_del_leaves_the_newer_one() {
    in_a_host_of_its_own(|| async {
        let node = Node::new("10.77.0.0/24").await;
        let (old_pod, new_pod) = (Pod::new("old"), Pod::new("new"));
        let (old, new) = (
            attachment("c1", "web-0", &old_pod.path()),
            attachment("c2", "web-0", &new_pod.path()),
        );
        let first = node.add(&old, |_| ()).await.unwrap();
        let second = node.add(&new, |_| ()).await.unwrap();
        assert_ne!(
            first.ips, second.ips,
            "the old address is the old container's until its DEL"
        );
        node.del(&old).await.unwrap();
        node.check(&new, &[&second.ips[0]]).await.unwrap();
        assert!(new_pod.run(&["ping", "-c1", "-W3", "10.99.0.1"]).0);
        assert_eq!(node.allocated(), 1);
        node.del(&new).await.unwrap();
        node.nothing_is_left();
    });
}

/// The second interface of pod "web" and the first of pod "web.eth1" have one name on the host.
#[test]
fn an_endpoint_that_has_the_interface_keeps_it() {
    in_a_host_of_its_own(|| async {
        let node = Node::new("10.77.0.0/24").await;
        let (first_pod, second_pod) = (Pod::new("first"), Pod::new("second"));
        let first = Attachment {
            ifname: "eth1".into(),
            ..attachment("c1", "web", &first_pod.path())
        };
        let second = attachment("c2", "web.eth1", &second_pod.path());
        let made = node.add(&first, |_| ()).await.unwrap();
        // The datastore has not told of the first one yet.
        let e = node.add(&second, |_| ()).await.unwrap_err();
        assert!(e.message.contains("needs another name"), "{}", e.message);
        node.check(&first, &[&made.ips[0]]).await.unwrap();
        node.del(&second).await.unwrap();
        node.check(&first, &[&made.ips[0]]).await.unwrap();
        assert!(first_pod.run(&["ping", "-c1", "-W3", "10.99.0.1"]).0);
        assert_eq!(node.allocated(), 1);
        node.del(&first).await.unwrap();
        node.add(&second, |_| ()).await.unwrap();
        node.del(&first).await.unwrap();
        node.check(&second, &[]).await.unwrap();
        node.del(&second).await.unwrap();
        node.nothing_is_left();
    });
}

#[test]
fn a_newer_containers_failure_leaves_the_older_one() {
    in_a_host_of_its_own(|| async {
        let node = Node::new("10.77.0.0/30").await;
        let (old_pod, new_pod) = (Pod::new("older"), Pod::new("newer"));
        let old = attachment("c1", "web-0", &old_pod.path());
        let new = attachment("c2", "web-0", &new_pod.path());
        let made = node.add(&old, |_| ()).await.unwrap();
        let unknown = |r: &mut AddRequest| r.requested_ips = vec!["192.0.2.9".into()];
        assert_eq!(node.add(&new, unknown).await.unwrap_err().code, 101);
        node.check(&old, &[&made.ips[0]]).await.unwrap();
        assert!(
            new_pod
                .run(&["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "x"])
                .0
        );
        let e = node.add(&new, |_| ()).await.unwrap_err();
        assert!(e.message.contains("eth0 exists already"), "{}", e.message);
        node.check(&old, &[&made.ips[0]]).await.unwrap();
        node.del(&new).await.unwrap();
        assert!(old_pod.run(&["ping", "-c1", "-W3", "10.99.0.1"]).0);
        assert_eq!(node.allocated(), 1);
        node.del(&old).await.unwrap();
        node.nothing_is_left();
    });
}

#[test]
fn what_fails_is_said_and_undone() {
    in_a_host_of_its_own(|| async {
        let node = Node::new("10.77.0.0/30").await;
        let e = node
            .add(&attachment("c0", "web-0", "/run/netns/tt-f2-none"), |_| ())
            .await
            .unwrap_err();
        assert_eq!(e.code, 4);
        assert!(
            e.message
                .starts_with("CNI_NETNS: network namespace /run/netns/tt-f2-none does not exist"),
            "{}",
            e.message
        );
        let e = node
            .add(&attachment("c0", "web-0", "/proc/thread-self/ns/net"), |_| ())
            .await
            .unwrap_err();
        assert!(
            e.message.contains("is the host's own network namespace"),
            "{}",
            e.message
        );
        let e = node.add(&attachment("../x", "web-0", "/x"), |_| ()).await.unwrap_err();
        assert!(
            e.code == 4 && e.message.contains("container_id '../x'"),
            "{}",
            e.message
        );
        node.nothing_is_left();

        let pod = Pod::new("fail");
        *node.refuse_routes.lock().unwrap() = true;
        let e = node
            .add(&attachment("c0", "web-0", &pod.path()), |_| ())
            .await
            .unwrap_err();
        assert!(
            e.code == 100 && e.message.contains("refused by the test"),
            "{}",
            e.message
        );
        node.nothing_is_left();
        *node.refuse_routes.lock().unwrap() = false;
    });
}

#[test]
fn an_exhausted_pool_is_named_and_nothing_is_left_of_the_attempt() {
    in_a_host_of_its_own(|| async {
        let node = Node::new("10.77.0.0/30").await;
        let pods: Vec<Pod> = (0..5).map(|n| Pod::new(&format!("full{n}"))).collect();
        for (n, pod) in pods.iter().enumerate().take(4) {
            node.add(&attachment(&format!("c{n}"), &format!("web-{n}"), &pod.path()), |_| ())
                .await
                .unwrap();
        }
        let fifth = attachment("c4", "web-4", &pods[4].path());
        let e = node.add(&fifth, |_| ()).await.unwrap_err();
        assert_eq!(e.code, 101);
        assert!(
            e.message
                .contains("IPPool four (10.77.0.0/30) has 4 of 4 addresses in use"),
            "{}",
            e.message
        );
        assert!(
            e.message.contains("delete workloads, or add an IPPool"),
            "{}",
            e.message
        );
        assert_eq!(
            (node.allocated(), node.keys("/handle/").len(), node.cali().len()),
            (4, 4, 4)
        );
        let e = node
            .add(&fifth, |r| r.requested_ips = vec!["10.77.0.1".into()])
            .await
            .unwrap_err();
        assert!(
            e.code == 101 && e.message.contains("already assigned to net.c"),
            "{}",
            e.message
        );
        node.del(&attachment("c2", "web-2", "")).await.unwrap();
        node.add(&fifth, |_| ()).await.unwrap();
    });
}

#[test]
fn without_typha_it_says_so_at_once() {
    in_a_host_of_its_own(|| async {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = ServiceAddr::Unix(dir.path().join("none.sock"));
        let node = Node::with_store(nowhere, "10.77.0.0/24", dir).await;
        let pod = Pod::new("away");
        let begun = Instant::now();
        let a = attachment("c1", "web-0", &pod.path());
        let e = node.add(&a, |_| ()).await.unwrap_err();
        assert_eq!(
            (e.code, e.message.as_str()),
            (11, "typha does not answer, try again later")
        );
        assert_eq!(node.del(&a).await.unwrap_err().code, 11);
        let ready = node
            .service
            .ready(Request::new(ReadyRequest {
                hello: hello(),
                ..ReadyRequest::default()
            }))
            .await;
        assert_eq!(outcome(ready).unwrap_err().code, 50);
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(node.cali().is_empty());
    });
}

#[test]
fn a_block_in_use_that_lost_its_claim_is_claimed_again() {
    in_a_host_of_its_own(|| async {
        let mut node = Node::new("10.77.0.0/24").await;
        let pod = Pod::new("claim");
        let a = attachment("c1", "web-0", &pod.path());
        node.add(&a, |_| ()).await.unwrap();
        node.synced();
        let claim = node.keys("/host/n1/").remove(0);
        node.memory.0.lock().unwrap().entries.remove(&claim).unwrap();
        node.writer.apply(&claim.parse().unwrap(), None, 0);
        node.writer.publish();
        let deadline = Instant::now() + Duration::from_secs(5);
        let confirmed = |node: &Node| {
            let memory = node.memory.0.lock().unwrap();
            let entry = memory.entries.get(&claim);
            entry.is_some_and(|e| String::from_utf8_lossy(&e.value).contains("\"confirmed\""))
        };
        while !confirmed(&node) {
            assert!(Instant::now() < deadline, "nobody claims the block");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        node.check(&a, &[]).await.unwrap();
        node.del(&a).await.unwrap();
        node.nothing_is_left();
    });
}

#[test]
fn calls_for_one_container_do_not_meet() {
    in_a_host_of_its_own(|| async {
        let node = Node::new("10.77.0.0/24").await;
        let pod = Pod::new("race");
        let a = attachment("c1", "web-0", &pod.path());
        let made = futures::future::join_all((0..4).map(|_| node.add(&a, |_| ()))).await;
        let ips: std::collections::BTreeSet<_> = made.into_iter().map(|m| m.unwrap().ips).collect();
        assert_eq!(
            (ips.len(), node.allocated()),
            (1, 1),
            "one endpoint, whoever asked first"
        );
        for wait in [0, 1, 3, 10, 30] {
            // The caller hangs up in the middle of an ADD; its DEL comes at once.
            let limit = Duration::from_millis(wait);
            let _ = tokio::time::timeout(limit, node.add(&a, |_| ())).await;
            let (deleted, checked) = tokio::join!(node.del(&a), node.check(&a, &[]));
            deleted.unwrap();
            // Before or after the DEL, never in the middle of it.
            if let Err(e) = checked {
                assert!(e.message.contains("does not exist"), "{}", e.message);
            }
            node.nothing_is_left();
        }
        // One that hung up before anything was done was there before its DEL all the same.
        for _ in 0..20 {
            let mut add = Box::pin(node.add(&a, |_| ()));
            assert!(futures::poll!(add.as_mut()).is_pending());
            drop(add);
            node.del(&a).await.unwrap();
            node.nothing_is_left();
        }
    });
}

#[test]
fn many_at_once_share_writes() {
    in_a_host_of_its_own(|| async {
        let node = Node::new("10.77.0.0/24").await;
        let pods: Vec<Pod> = (0..16).map(|n| Pod::new(&format!("many{n}"))).collect();
        let of = |n: usize| attachment(&format!("c{n}"), &format!("web-{n}"), &pods[n].path());
        let attachments: Vec<Attachment> = (0..pods.len()).map(of).collect();
        let made = futures::future::join_all(attachments.iter().map(|a| node.add(a, |_| ()))).await;
        let mut ips: Vec<IpAddr> = made
            .into_iter()
            .map(|r| r.unwrap().ips[0].split('/').next().unwrap().parse().unwrap())
            .collect();
        ips.sort();
        ips.dedup();
        assert_eq!(ips.len(), pods.len(), "all different");
        let writes = node.memory.0.lock().unwrap().transactions;
        assert!(writes <= 24, "{writes} transactions for 16 pods in blocks of 4");
        for done in futures::future::join_all(attachments.iter().map(|a| node.del(a))).await {
            done.unwrap();
        }
        node.nothing_is_left();
    });
}

#[test]
fn garbage_is_collected_and_the_rest_stays() {
    in_a_host_of_its_own(|| async {
        let mut node = Node::new("10.77.0.0/24").await;
        let pods = [Pod::new("gc0"), Pod::new("gc1"), Pod::new("gc2")];
        let (keep, drop) = (
            attachment("keep", "web-0", &pods[0].path()),
            attachment("drop", "web-1", &pods[1].path()),
        );
        let other = Attachment {
            network: "other".into(),
            ..attachment("other", "web-2", &pods[2].path())
        };
        for a in [&keep, &drop, &other] {
            node.add(a, |_| ()).await.unwrap();
        }
        node.synced();
        let request = CollectRequest {
            hello: hello(),
            network: "net".into(),
            valid: vec![keep.clone()],
        };
        outcome(node.service.collect(Request::new(request)).await).unwrap();
        node.check(&keep, &[]).await.unwrap();
        node.check(&other, &[]).await.unwrap();
        assert!(
            node.check(&drop, &[])
                .await
                .unwrap_err()
                .message
                .contains("does not exist")
        );
        assert_eq!(node.allocated(), 2);
        // A DEL that does not name the pod finds the record by its container.
        node.synced();
        let nameless = Attachment {
            orchestrator: "cni".into(),
            namespace: "default".into(),
            pod: String::new(),
            ..keep
        };
        node.del(&nameless).await.unwrap();
        node.del(&other).await.unwrap();
        node.nothing_is_left();
    });
}

/// Makes a stored document unreadable, and gives what it was.
fn break_record(node: &Node, key: &str) -> Vec<u8> {
    let mut memory = node.memory.0.lock().unwrap();
    let entry = memory.entries.get_mut(key).unwrap();
    std::mem::replace(&mut entry.value, b"{".to_vec())
}

#[test]
fn garbage_that_cannot_be_collected_is_named_and_does_not_keep_the_rest() {
    in_a_host_of_its_own(|| async {
        let mut node = Node::new("10.77.0.0/24").await;
        let pods: Vec<Pod> = (0..3).map(|n| Pod::new(&format!("left{n}"))).collect();
        let of = |n: usize| attachment(&format!("c{n}"), &format!("web-{n}"), &pods[n].path());
        let all: Vec<Attachment> = (0..pods.len()).map(of).collect();
        for a in &all {
            node.add(a, |_| ()).await.unwrap();
        }
        node.synced();
        // Two records that cannot be read any more, the first and the last: those endpoints cannot be taken down.
        let records = node.keys("workloadendpoints");
        let good: Vec<_> = [0, 2].map(|n| break_record(&node, &records[n])).into();
        let collect = || CollectRequest {
            hello: hello(),
            network: "net".into(),
            valid: Vec::new(),
        };
        let e = outcome(node.service.collect(Request::new(collect())).await).unwrap_err();
        let said = "2 endpoints not collected: containers c0, c2; c0: ";
        assert!(e.message.starts_with(said), "{}", e.message);
        assert_eq!((node.keys("workloadendpoints").len(), node.allocated()), (2, 2));
        // The next one finds what was left.
        for (key, value) in [&records[0], &records[2]].into_iter().zip(good) {
            node.memory.0.lock().unwrap().entries.get_mut(key).unwrap().value = value;
        }
        outcome(node.service.collect(Request::new(collect())).await).unwrap();
        node.nothing_is_left();
    });
}

#[test]
fn another_protocol_version_is_refused() {
    in_a_host_of_its_own(|| async {
        let node = Node::new("10.77.0.0/24").await;
        let mut theirs = Hello::new("tortie", "", "1");
        theirs.major = 9;
        let status = node
            .service
            .ready(Request::new(ReadyRequest {
                hello: Some(theirs),
                ..ReadyRequest::default()
            }))
            .await
            .unwrap_err();
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
        node.service
            .ready(Request::new(ReadyRequest {
                hello: hello(),
                ..ReadyRequest::default()
            }))
            .await
            .unwrap();
    });
}
