//! The felix program, between a typha and a bird-rs that this test plays, on the real kernel in a network namespace.
//! Needs root.

#![allow(clippy::unwrap_used)] // Helpers of tests too.

use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use futures::{Stream, StreamExt};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tortie_kit::address::ServiceAddr;
use tortie_net::Prefix;
use tortie_netlink::monitor::{Event, Monitor, Without};
use tortie_netlink::route::{self, Protocol, TABLE_MAIN};
use tortie_proto::bird::bird_server::{Bird, BirdServer};
use tortie_proto::bird::{self, FibBatch, FibInSync, FibMessage, FibRequest, FibRoute, NextHop, fib_message};
use tortie_proto::common::Hello;
use tortie_proto::felix::felix_client::FelixClient;
use tortie_proto::felix::{Route, ShowRoutesRequest, StatusRequest, StatusResponse};
use tortie_proto::sync::sync_server::{Sync, SyncServer};
use tortie_proto::sync::{Batch, Change, ClientMessage, InSync, ServerMessage, SnapshotBegin, Welcome, server_message};

const PATIENCE: Duration = Duration::from_secs(20);

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// typha: one document set, never changing.
struct Typha {
    documents: Vec<(&'static str, &'static str)>,
    /// Ends every stream.
    stop: CancellationToken,
}

#[tonic::async_trait]
impl Sync for Typha {
    type WatchStream = Out<ServerMessage>;

    async fn watch(&self, _: Request<tonic::Streaming<ClientMessage>>) -> Result<Response<Self::WatchStream>, Status> {
        use server_message::Message;
        let changes = self.documents.iter().enumerate().map(|(i, (key, json))| Change {
            key: (*key).to_owned(),
            revision: i as u64 + 1,
            value: Some(json.as_bytes().to_vec()),
        });
        let revision = self.documents.len() as u64;
        let hello = Some(Hello::new("typha", "", "test"));
        let messages = [
            Message::Welcome(Welcome {
                hello,
                cluster_id: "test".into(),
                succeeds: vec![],
                peers: vec![],
            }),
            Message::SnapshotBegin(SnapshotBegin { revision }),
            Message::Batch(Batch {
                revision,
                changes: changes.collect(),
            }),
            Message::InSync(InSync { revision }),
        ];
        let messages = messages.map(|m| Ok(ServerMessage { message: Some(m) }));
        let stop = self.stop.clone().cancelled_owned();
        let stream = futures::stream::iter(messages)
            .chain(futures::stream::pending())
            .take_until(stop);
        Ok(Response::new(Box::pin(stream)))
    }
}

/// bird-rs: whatever the test wants it to say to everybody, now.
struct BirdRs(watch::Receiver<Vec<FibMessage>>);

#[tonic::async_trait]
impl Bird for BirdRs {
    type FibStream = Out<FibMessage>;
    type ShowRoutesStream = Out<bird::Route>;

    async fn fib(&self, _: Request<FibRequest>) -> Result<Response<Self::FibStream>, Status> {
        let hello = fib_message::Message::Hello(Hello::new("bird-rs", "n1", "test"));
        let first = futures::stream::iter([Ok(FibMessage { message: Some(hello) })]);
        let said = WatchStream::new(self.0.clone()).flat_map(|all| futures::stream::iter(all.into_iter().map(Ok)));
        Ok(Response::new(Box::pin(first.chain(said))))
    }

    async fn configure(&self, _: Request<bird::ConfigureRequest>) -> Result<Response<bird::ConfigureResponse>, Status> {
        Err(Status::unimplemented("not felix's business"))
    }

    async fn status(&self, _: Request<bird::StatusRequest>) -> Result<Response<bird::StatusResponse>, Status> {
        Err(Status::unimplemented("not felix's business"))
    }

    async fn show_protocols(
        &self,
        _: Request<bird::ShowProtocolsRequest>,
    ) -> Result<Response<bird::ShowProtocolsResponse>, Status> {
        Err(Status::unimplemented("not felix's business"))
    }

    async fn show_routes(
        &self,
        _: Request<bird::ShowRoutesRequest>,
    ) -> Result<Response<Self::ShowRoutesStream>, Status> {
        Err(Status::unimplemented("not felix's business"))
    }
}

fn batch(routes: &[(&str, &str)]) -> FibMessage {
    let route = |(prefix, hop): &(&str, &str)| {
        let prefix: Prefix = prefix.parse().unwrap();
        let address = tortie_proto::octets(hop.parse().unwrap());
        let next_hops = vec![NextHop {
            address,
            interface: String::new(),
            weight: 1,
            onlink: false,
        }];
        FibRoute {
            prefix: Some(prefix.into()),
            next_hops,
            protocol: "Mesh".into(),
            ..FibRoute::default()
        }
    };
    let batch = FibBatch {
        set: routes.iter().map(route).collect(),
        delete: Vec::new(),
    };
    FibMessage {
        message: Some(fib_message::Message::Batch(batch)),
    }
}

fn in_sync() -> FibMessage {
    FibMessage {
        message: Some(fib_message::Message::InSync(FibInSync {})),
    }
}

/// Listens, once whoever was told to stop has stopped.
async fn listen(addr: &ServiceAddr) -> tortie_kit::address::Incoming {
    for _ in 0..1_000 {
        if let Ok(incoming) = addr.listen().await {
            return incoming;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    addr.listen().await.unwrap()
}

/// A node in a namespace of its own (this thread's), with its programs' sockets in a directory of its own.
struct Node {
    dir: tempfile::TempDir,
    felix: Option<Child>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Node {
    fn addr(&self, program: &str) -> ServiceAddr {
        format!("unix:{}", self.path(program).display()).parse().unwrap()
    }

    fn path(&self, program: &str) -> PathBuf {
        self.dir.path().join(format!("{program}.sock"))
    }

    async fn serve_typha(&self, documents: Vec<(&'static str, &'static str)>) -> CancellationToken {
        let (incoming, token) = (listen(&self.addr("typha")).await, CancellationToken::new());
        let typha = Typha {
            documents,
            stop: token.clone(),
        };
        let router = tonic::transport::Server::builder().add_service(SyncServer::new(typha));
        let stop = token.clone();
        tokio::spawn(async move { stop.run_until_cancelled(router.serve_with_incoming(incoming)).await });
        token
    }

    async fn serve_bird(&self, says: Vec<FibMessage>) -> (watch::Sender<Vec<FibMessage>>, CancellationToken) {
        let (sender, receiver) = watch::channel(says);
        let (incoming, token) = (self.addr("bird").listen().await.unwrap(), CancellationToken::new());
        let router = tonic::transport::Server::builder().add_service(BirdServer::new(BirdRs(receiver)));
        let stop = token.clone();
        tokio::spawn(async move { stop.run_until_cancelled(router.serve_with_incoming(incoming)).await });
        (sender, token)
    }

    fn start_felix(&mut self) {
        self.start_felix_with(&[]);
    }

    fn start_felix_with(&mut self, more: &[String]) {
        let flag = |program| self.addr(program).to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_felix"))
            .args([
                "--node",
                "n1",
                "--typha",
                &flag("typha"),
                "--bird",
                &flag("bird"),
                "--socket",
                &flag("felix"),
                "--http",
                HTTP,
            ])
            .arg("--state-dir")
            .arg(self.dir.path().join("state"))
            .args(more)
            .spawn();
        self.felix = Some(child.unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut felix) = self.felix.take() {
            felix.kill().unwrap();
            felix.wait().unwrap();
        }
    }

    async fn client(&self) -> FelixClient<tonic::transport::Channel> {
        FelixClient::new(self.addr("felix").channel_lazy())
    }

    fn hello(&self) -> Option<Hello> {
        Some(Hello::new("tortiectl", "", "test"))
    }

    /// Asks for the status until it is as wanted.
    async fn status(&self, wanted: impl Fn(&StatusResponse) -> bool) -> StatusResponse {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.client().await.status(StatusRequest { hello: self.hello() }).await;
            match answer {
                Ok(status) if wanted(status.get_ref()) => return status.into_inner(),
                other => assert!(Instant::now() < deadline, "not as wanted: {other:#?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn rows(&self) -> Vec<Route> {
        let rows = self
            .client()
            .await
            .show_routes(ShowRoutesRequest { hello: self.hello() })
            .await;
        rows.unwrap().into_inner().map(Result::unwrap).collect().await
    }
}

fn ip(args: &str) {
    let output = Command::new("ip")
        .args(args.split_whitespace())
        .output()
        .expect("ip runs");
    assert!(
        output.status.success(),
        "ip {args}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The routes of the main table that are no kernel's, as `ip route` prints them, but for the
/// numbers of nexthop objects.
fn routes() -> Vec<String> {
    let output = Command::new("ip")
        .args(["route", "show", "table", "main"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|l| !l.contains("proto kernel"));
    lines
        .map(|l| {
            let mut words: Vec<_> = l.split_whitespace().collect();
            if let Some(at) = words.iter().position(|w| *w == "nhid") {
                words.drain(at..at + 2);
            }
            words.join(" ")
        })
        .collect()
}

async fn becomes(want: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    while routes() != want {
        assert!(
            Instant::now() < deadline,
            "want {want:#?}, the kernel has {:#?}",
            routes()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce(Node) -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a namespace: needs root");
        ip("link set lo up");
        ip("link add up0 type veth peer name up1");
        ip("link add cali1 type veth peer name pod1");
        ["up0", "up1", "cali1", "pod1"]
            .iter()
            .for_each(|i| ip(&format!("link set {i} up")));
        ip("addr add 172.30.0.11/24 dev up0");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test(Node {
            dir: tempfile::tempdir().unwrap(),
            felix: None,
        }));
    });
    thread.join().unwrap();
}

fn documents() -> Vec<(&'static str, &'static str)> {
    vec![
        (
            "/calico/ipam/v2/host/n1/ipv4/block/10.244.0.0-26",
            r#"{"state":"confirmed"}"#,
        ),
        (
            "/calico/resources/v3/projectcalico.org/nodes/n1",
            r#"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1"},
                "spec":{"bgp":{"ipv4Address":"172.30.0.11/24"}}}"#,
        ),
        (
            "/calico/resources/v3/projectcalico.org/workloadendpoints/web/n1-k8s-a-eth0",
            r#"{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3",
                "metadata":{"name":"n1-k8s-a-eth0","namespace":"web"},
                "spec":{"orchestrator":"k8s","node":"n1","pod":"a","endpoint":"eth0","interfaceName":"cali1",
                        "ipNetworks":["10.244.0.5/32"]}}"#,
        ),
        (
            "/calico/resources/v3/projectcalico.org/ippools/broken",
            r#"{"kind":"IPPool","spec":{"cidr":"not a cidr"}}"#,
        ),
    ]
}

const BLOCK: &str = "blackhole 10.244.0.0/26 proto 80";
/// Where felix serves probes: in the test's own network namespace.
const HTTP: &str = "127.0.0.1:9099";

/// What felix answers to a probe, with the headers.
async fn probe(path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(HTTP).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

const POD: &str = "10.244.0.5 dev cali1 scope link metric 1024";
const REMOTE: &str = "10.244.1.0/26 via 172.30.0.12 dev up0 proto bird metric 1024";

#[test]
fn shows_what_it_wants_and_what_became_of_it() {
    in_namespace(|mut node| async move {
        let _typha = node.serve_typha(documents()).await;
        let said = vec![
            batch(&[("10.244.1.0/26", "172.30.0.12"), ("10.244.0.0/26", "172.30.0.66")]),
            in_sync(),
        ];
        let (_bird, _serving) = node.serve_bird(said).await;
        node.start_felix();
        becomes(&[BLOCK, POD, REMOTE]).await;
        let status = node
            .status(|s| s.dataplane_in_sync && s.fib_in_sync && s.datastore_in_sync)
            .await;
        assert_eq!((status.node.as_str(), status.datastore_revision), ("n1", 4));
        let counts: Vec<_> = status
            .routes
            .iter()
            .map(|c| (c.class.as_str(), c.wanted, c.programmed))
            .collect();
        let expected = [
            ("local-workload", 1, 1),
            ("same-subnet", 0, 0),
            ("vxlan-tunnel", 0, 0),
            ("own-block", 1, 1),
            ("bgp", 2, 1),
        ];
        assert_eq!(counts, expected);
        assert_eq!(status.failing.len(), 1);
        assert!(
            status.failing[0].object.ends_with("ippools/broken"),
            "{:?}",
            status.failing
        );
        let rows = node.rows().await;
        let short: Vec<_> = rows
            .iter()
            .map(|r| (r.class.as_str(), r.state.as_str(), r.losers.len()))
            .collect();
        let programmed = "programmed";
        assert_eq!(
            short,
            [
                ("own-block", programmed, 1),
                ("local-workload", programmed, 0),
                ("bgp", programmed, 0)
            ]
        );
        assert!(rows[0].losers[0].contains("which this node owns"), "{:?}", rows[0]);
        assert_eq!(
            std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(),
            "1"
        );
        let bad = node
            .client()
            .await
            .status(StatusRequest { hello: None })
            .await
            .unwrap_err();
        assert_eq!(bad.code(), tonic::Code::FailedPrecondition);
    });
}

#[test]
fn what_fails_is_named_and_counted_until_it_does_not() {
    in_namespace(|mut node| async move {
        ip("route add 10.244.1.0/26 via 172.30.0.99 metric 1024 proto static");
        let _typha = node.serve_typha(documents()).await;
        let said = vec![batch(&[("10.244.1.0/26", "172.30.0.12")]), in_sync()];
        let (_bird, _serving) = node.serve_bird(said).await;
        node.start_felix();
        let status = node.status(|s| s.failing.len() == 2).await;
        let foreign = &status.failing[0];
        assert!(
            foreign
                .object
                .starts_with("route 10.244.1.0/26 via 172.30.0.12 dev up0")
                && foreign
                    .error
                    .contains("10.244.1.0/26 via 172.30.0.99 dev up0 proto static"),
            "{foreign:?}"
        );
        let deadline = Instant::now() + PATIENCE;
        let ready = loop {
            let ready = probe("/readyz").await;
            if ready.starts_with("HTTP/1.1 200") && ready.contains("failing: route") {
                break ready;
            }
            assert!(Instant::now() < deadline, "{ready}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(ready.contains("ippools/broken: "), "{ready}");
        let metrics = probe("/metrics").await;
        for kind in ["route", "document"] {
            let line = format!("felix_objects_failing{{object=\"{kind}\"}} 1");
            assert!(metrics.contains(&line), "{line}: {metrics}");
        }
        ip("route del 10.244.1.0/26 via 172.30.0.99 metric 1024");
        becomes(&[BLOCK, POD, REMOTE]).await;
        node.status(|s| s.failing.len() == 1).await;
    });
}

/// With a workload that a BGPPeer selects and one that none does, and metrics.
fn with_peering(peer: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut documents = documents();
    documents.truncate(3);
    documents.extend([
        (
            "/calico/resources/v3/projectcalico.org/workloadendpoints/web/n1-k8s-b-eth0",
            r#"{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3",
                "metadata":{"name":"n1-k8s-b-eth0","namespace":"web","labels":{"app":"router"}},
                "spec":{"orchestrator":"k8s","node":"n1","pod":"b","endpoint":"eth0","interfaceName":"cali2",
                        "ipNetworks":["10.244.0.6/32"]}}"#,
        ),
        (
            "/calico/resources/v3/projectcalico.org/bgpconfigurations/default",
            r#"{"kind":"BGPConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},
                "spec":{"localWorkloadPeeringIPV4":"169.254.0.179","localWorkloadPeeringIPV6":"fd12::1",
                        "ipv4NormalRoutePriority":2000}}"#,
        ),
        (
            "/calico/resources/v3/projectcalico.org/felixconfigurations/default",
            r#"{"kind":"FelixConfiguration","apiVersion":"projectcalico.org/v3","metadata":{"name":"default"},
                "spec":{"ipv4NormalRoutePriority":700}}"#,
        ),
        ("/calico/resources/v3/projectcalico.org/bgppeers/routers", peer),
    ]);
    documents
}

/// The addresses of an interface alone, without subnets, as `ip addr` prints them.
fn alone(interface: &str) -> Vec<String> {
    let output = Command::new("ip")
        .args(["-o", "addr", "show", "dev", interface])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let brief = |l: &str| {
        let words: Vec<&str> = l.split_whitespace().collect();
        let old = if words.contains(&"deprecated") {
            " deprecated"
        } else {
            ""
        };
        format!("{} scope {}{old}", words[3], words[5])
    };
    let lines = text.lines().filter(|l| l.contains("/32 ") || l.contains("/128 "));
    lines.map(brief).collect()
}

async fn is_alone(interface: &str, want: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    while alone(interface) != want {
        assert!(
            Instant::now() < deadline,
            "want {want:?}, it has {:?}",
            alone(interface)
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn workloads_find_the_speaker_and_routes_have_the_metric_asked_for() {
    const SELECTS: &str = r#"{"kind":"BGPPeer","apiVersion":"projectcalico.org/v3","metadata":{"name":"routers"},
        "spec":{"asNumber":65401,"localWorkloadSelector":"app == 'router'"}}"#;
    const SELECTS_NONE: &str = r#"{"kind":"BGPPeer","apiVersion":"projectcalico.org/v3","metadata":{"name":"routers"},
        "spec":{"asNumber":65401,"localWorkloadSelector":"app == 'other'"}}"#;
    in_namespace(|mut node| async move {
        ip("link add cali2 type veth peer name pod2");
        ["cali2", "pod2"].iter().for_each(|i| ip(&format!("link set {i} up")));
        let typha = node.serve_typha(with_peering(SELECTS)).await;
        let said = vec![batch(&[("10.244.1.0/26", "172.30.0.12")]), in_sync()];
        let (_bird, _serving) = node.serve_bird(said).await;
        node.start_felix();
        let (a, b) = (
            "10.244.0.5 dev cali1 scope link metric 700",
            "10.244.0.6 dev cali2 scope link metric 700",
        );
        let learned = "10.244.1.0/26 via 172.30.0.12 dev up0 proto bird metric 2000";
        becomes(&[BLOCK, a, b, learned]).await;
        let marks = std::fs::read_to_string(node.dir.path().join("state/marks.json")).unwrap();
        assert_eq!(marks, r#"{"protocols":[],"metrics":[2000]}"#);
        let both = ["169.254.0.179/32 scope host", "fd12::1/128 scope global deprecated"];
        is_alone("cali2", &both).await;
        assert_eq!(alone("cali1"), [""; 0], "no BGPPeer selects it");
        // A workload's probes come from the node's own address as before.
        let route = Command::new("ip")
            .args(["route", "get", "10.244.0.6"])
            .output()
            .unwrap();
        let route = String::from_utf8(route.stdout).unwrap();
        assert!(route.contains("src 172.30.0.11"), "{route}");
        // Somebody takes it away, and it comes back.
        ip("addr del 169.254.0.179/32 dev cali2");
        is_alone("cali2", &both).await;
        typha.cancel();
        node.kill();
        // Other metrics and no peer, asked for while felix is down: what was before goes, also the routes of the other metrics.
        let mut documents = with_peering(SELECTS_NONE);
        let unsaid = [(4, "BGPConfiguration"), (5, "FelixConfiguration")];
        for (at, kind) in unsaid {
            assert!(documents[at].1.contains(kind));
            documents[at].1 = match kind {
                "BGPConfiguration" => r#"{"kind":"BGPConfiguration","metadata":{"name":"default"},"spec":{}}"#,
                _ => r#"{"kind":"FelixConfiguration","metadata":{"name":"default"},"spec":{}}"#,
            };
        }
        let _typha = node.serve_typha(documents).await;
        node.start_felix();
        is_alone("cali2", &[]).await;
        becomes(&[BLOCK, POD, "10.244.0.6 dev cali2 scope link metric 1024", REMOTE]).await;
    });
}

#[test]
fn everything_around_it_may_die_and_so_may_it() {
    in_namespace(|mut node| async move {
        let typha = node.serve_typha(documents()).await;
        let (bird, serving) = node
            .serve_bird(vec![batch(&[("10.244.1.0/26", "172.30.0.12")]), in_sync()])
            .await;
        node.start_felix();
        let want = [BLOCK, POD, REMOTE];
        becomes(&want).await;
        node.status(|s| s.dataplane_in_sync && s.fib_in_sync && s.datastore_in_sync)
            .await;
        // Every event of the kernel's from here on.
        let mut monitor = Monitor::start(TABLE_MAIN, Without::Nothing).unwrap();
        typha.cancel();
        serving.cancel();
        drop(bird);
        let alone = node.status(|s| !s.fib_in_sync && !s.datastore_in_sync).await;
        assert!(alone.dataplane_in_sync);
        node.kill();
        node.start_felix();
        // Alone, from the snapshot: the datastore's part is wanted again, bird-rs's is kept.
        node.status(|s| s.datastore_revision == 4 && s.dataplane_in_sync).await;
        assert_eq!(routes(), want);
        // bird-rs comes back with an empty table that is not complete yet, then with a different one that is.
        let (bird, _serving) = node.serve_bird(vec![batch(&[])]).await;
        let _typha = node.serve_typha(documents()).await;
        node.status(|s| s.datastore_in_sync).await;
        assert_eq!(routes(), want);
        let mut touched = Vec::new();
        while let Ok(Some(events)) = tokio::time::timeout(Duration::from_millis(200), monitor.next()).await {
            let foreign = |r: &route::Route| r.protocol != Protocol::KERNEL;
            touched.extend(events.unwrap().into_iter().filter(|e| match e {
                Event::Route(r) | Event::RouteGone(r) => foreign(r),
                _ => false,
            }));
        }
        assert_eq!(touched, [], "not one route was touched, even for a moment");
        // Then with one that is complete: it was started without its configuration.
        bird.send_replace(vec![in_sync()]);
        while let Ok(Some(events)) = tokio::time::timeout(Duration::from_millis(500), monitor.next()).await {
            let ours = |e: &Event| matches!(e, Event::RouteGone(r) if r.protocol == Protocol::BIRD);
            assert!(
                !events.unwrap().iter().any(ours),
                "an empty table is not believed at once"
            );
        }
        assert_eq!(routes(), want);
        bird.send_replace(vec![batch(&[("10.244.2.0/26", "172.30.0.13")]), in_sync()]);
        becomes(&[
            BLOCK,
            POD,
            "10.244.2.0/26 via 172.30.0.13 dev up0 proto bird metric 1024",
        ])
        .await;
    });
}

#[test]
fn a_document_that_cannot_be_read_cuts_nobody_off() {
    in_namespace(|mut node| async move {
        let typha = node.serve_typha(documents()).await;
        let _bird = node
            .serve_bird(vec![batch(&[("10.244.1.0/26", "172.30.0.12")]), in_sync()])
            .await;
        node.start_felix();
        becomes(&[BLOCK, POD, REMOTE]).await;
        typha.cancel();
        node.kill();
        // Somebody breaks the pod's document while felix is away, and its memory is lost.
        std::fs::remove_dir_all(node.dir.path().join("state")).unwrap();
        let mut broken = documents();
        broken[2].1 = r#"{"kind":"WorkloadEndpoint","spec":{"ipNetworks":"none"}}"#;
        let typha = node.serve_typha(broken).await;
        node.start_felix();
        let status = node
            .status(|s| s.datastore_in_sync && s.fib_in_sync && s.failing.len() == 2)
            .await;
        assert!(status.failing.iter().any(|f| f.object.ends_with("n1-k8s-a-eth0")));
        assert_eq!(routes(), [BLOCK, POD, REMOTE]);
        // It is deleted: now it is known that nobody has the route.
        typha.cancel();
        let mut fewer = documents();
        fewer.remove(2);
        fewer.push((
            "/calico/resources/v3/projectcalico.org/ippools/other",
            r#"{"kind":"IPPool","spec":{"cidr":"x"}}"#,
        ));
        let _typha = node.serve_typha(fewer).await;
        becomes(&[BLOCK, REMOTE]).await;
    });
}

#[test]
fn a_bad_command_line_is_said_and_nothing_is_done() {
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_felix"))
            .args(args)
            .env_clear()
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (code, text) = run(&["--node", "N 1", "--typha", "unix:/x", "--bird", "unix:/y"]);
    assert_eq!(code, Some(64));
    assert!(text.contains("'N 1' is no node name"), "{text}");
    let (code, text) = run(&["--node", "n1", "--typha", "nowhere", "--bird", "unix:/y"]);
    assert_eq!(code, Some(64));
    assert!(text.contains("nowhere"), "{text}");
}

/// IPv6 is forwarded once it is known that the node has it; nothing is switched off again.
#[test]
fn ipv6_is_forwarded_unless_the_node_has_none() {
    const FORWARDING: [&str; 2] = [
        "/proc/sys/net/ipv6/conf/all/forwarding",
        "/proc/sys/net/ipv4/ip_forward",
    ];
    let read = || FORWARDING.map(|path| std::fs::read_to_string(path).unwrap().trim().to_owned());
    for (support, want) in [("false", ["0", "1"]), ("true", ["1", "1"])] {
        in_namespace(move |mut node| async move {
            FORWARDING.iter().for_each(|path| std::fs::write(path, "0").unwrap());
            let said = format!(
                r#"{{"kind":"FelixConfiguration","metadata":{{"name":"default"}},"spec":{{"ipv6Support":{support}}}}}"#
            );
            let key = "/calico/resources/v3/projectcalico.org/felixconfigurations/default";
            let mut all = documents();
            all.push((key, said.leak()));
            let _typha = node.serve_typha(all).await;
            let (_bird, _serving) = node.serve_bird(vec![in_sync()]).await;
            node.start_felix();
            becomes(&[BLOCK, POD]).await;
            if support == "true" {
                let end = std::time::Instant::now() + Duration::from_secs(20);
                while read() != want {
                    assert!(std::time::Instant::now() < end, "{:?}", read());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            assert_eq!(read(), want);
        });
    }
}

#[test]
fn the_end_of_its_certificate_is_a_metric() {
    in_namespace(|mut node| async move {
        let _typha = node.serve_typha(documents()).await;
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
        let certificate = params.self_signed(&key).unwrap().pem();
        let file = |name: &str, text: &str| {
            let path = node.dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("--tls-{name}={}", path.display())
        };
        let files = [
            file("ca", &certificate),
            file("cert", &certificate),
            file("key", &key.serialize_pem()),
        ];
        node.start_felix_with(&files);
        node.status(|s| s.datastore_in_sync).await;
        let end = rcgen::date_time_ymd(2090, 1, 1).unix_timestamp();
        let line = format!("felix_certificate_not_after_seconds{{certificate=\"Own\"}} {end}\n");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = probe("/metrics").await;
            if metrics.contains(&line) {
                return;
            }
            assert!(Instant::now() < deadline, "{metrics}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
