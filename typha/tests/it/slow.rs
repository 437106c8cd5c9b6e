//! An etcd that takes seconds to answer, on connections that are alive: a disk that stalls, not a cut. And one that says
//! nothing because there is nothing to say.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep};
use tortie_typha_client::{StoreError, SyncStatus};

use crate::etcd::{command_at, handle_key};
use crate::etcd_server::{Etcd, free_port};
use crate::process::{Client, DEADLINE, HANDLES, Typha, handle};

/// How often what is held back is looked at.
const TICK: Duration = Duration::from_millis(10);

/// How late answers are.
#[derive(Default)]
struct Pace {
    milliseconds: AtomicU64,
    /// So many answers are not.
    in_time: AtomicI64,
}

impl Pace {
    fn late(&self) -> Duration {
        Duration::from_millis(self.milliseconds.load(Ordering::SeqCst))
    }
}

/// Stands between typha and a member of etcd.
struct Slow {
    port: u16,
    pace: Arc<Pace>,
}

impl Slow {
    async fn before(member: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let pace = Arc::new(Pace::default());
        let with = Arc::clone(&pace);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(etcd) = TcpStream::connect(&member).await else {
                    continue;
                };
                let ((mut asks, told), (says, mut asked)) = (client.into_split(), etcd.into_split());
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut asks, &mut asked).await;
                });
                hold_back(says, told, Arc::clone(&with));
            }
        });
        Slow { port, pace }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on answers are so late, but for the next few.
    fn answers_after(&self, late: Duration, in_time: i64) {
        self.pace.in_time.store(in_time, Ordering::SeqCst);
        let late = u64::try_from(late.as_millis()).unwrap();
        self.pace.milliseconds.store(late, Ordering::SeqCst);
    }
}

/// A frame of HTTP/2: its type and flags, and all its octets.
async fn frame(from: &mut OwnedReadHalf) -> std::io::Result<(u8, u8, Vec<u8>)> {
    let mut octets = vec![0; 9];
    from.read_exact(&mut octets).await?;
    let (kind, flags) = (octets[3], octets[4]);
    let length = u32::from_be_bytes([0, octets[0], octets[1], octets[2]]);
    octets.resize(9 + usize::try_from(length).unwrap(), 0);
    from.read_exact(&mut octets[9..]).await?;
    Ok((kind, flags, octets))
}

/// What a member says, late and in order; answers to pings are in time: its network works.
fn hold_back(mut from: OwnedReadHalf, to: OwnedWriteHalf, pace: Arc<Pace>) {
    const HEADERS: u8 = 1;
    const PING: u8 = 6;
    const END_STREAM: u8 = 1;
    let to = Arc::new(Mutex::new(to));
    let (hold, mut held) = mpsc::channel::<(Option<Instant>, Vec<u8>)>(1000);
    let (at_once, with) = (Arc::clone(&to), Arc::clone(&pace));
    tokio::spawn(async move {
        while let Ok((kind, flags, octets)) = frame(&mut from).await {
            if kind == PING {
                let _ = at_once.lock().await.write_all(&octets).await;
                continue;
            }
            let in_time = with.in_time.load(Ordering::SeqCst) > 0;
            if kind == HEADERS && flags & END_STREAM != 0 {
                with.in_time.fetch_sub(1, Ordering::SeqCst);
            }
            if hold.send(((!in_time).then(Instant::now), octets)).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((since, octets)) = held.recv().await {
            while since.is_some_and(|since| since.elapsed() < pace.late()) {
                sleep(TICK).await;
            }
            if to.lock().await.write_all(&octets).await.is_err() {
                return;
            }
        }
    });
}

/// How often etcd has written the document.
fn written(etcd: &Etcd, key: &str) -> u64 {
    let text = etcd.must(&["get", key, "-w", "fields"]);
    let version = text.lines().find_map(|l| l.strip_prefix("\"Version\" : ")).unwrap();
    version.parse().unwrap()
}

/// Five documents in an etcd behind a slow one, typha, and a client that holds them.
struct Scene {
    etcd: Etcd,
    slow: Slow,
    typha: Typha,
    port: u16,
    client: Client,
}

impl Scene {
    async fn new() -> Self {
        let etcd = Etcd::start(1).await;
        let member = etcd.url(0).trim_start_matches("http://").to_owned();
        let slow = Slow::before(member).await;
        let (mut typha, port) = (Typha::new(), free_port());
        let mut command: Command = command_at(&slow.url(), &typha.dir);
        command.arg("--http").arg(format!("127.0.0.1:{port}"));
        typha.run(command).await;
        let store = typha.store();
        for n in 0..5 {
            store.create(&handle_key(&format!("h{n}")), handle(n)).await.unwrap();
        }
        let mut client = typha.client(&[HANDLES]);
        client.until("all", |c| c.map.len() == 5).await;
        Scene {
            etcd,
            slow,
            typha,
            port,
            client,
        }
    }

    /// Waits until typha says that etcd answers, or that it does not and why, to all who ask.
    async fn says(&self, away: Option<&str>) {
        let store = self.typha.store();
        let deadline = Instant::now() + DEADLINE;
        let reason = loop {
            let stale = store.status().await.unwrap().stale;
            if stale.is_some() == away.is_some() {
                break stale.map(|(reason, _)| reason);
            }
            assert!(Instant::now() < deadline, "{stale:?}");
            sleep(Duration::from_millis(20)).await;
        };
        if let (Some(why), Some(reason)) = (away, reason) {
            assert!(reason.contains(why), "{reason}");
        }
        assert_eq!(Typha::metric(self.port, "typha_stale").await, u64::from(away.is_some()));
        let readiness = Typha::http(self.port, "/readyz").await;
        let (code, text) = away.map_or(("200", ""), |why| ("503", why));
        assert!(
            readiness.starts_with(&format!("HTTP/1.1 {code}")) && readiness.contains(text),
            "{readiness}"
        );
    }
}

/// etcd ends connections that are probed more often than it likes.
#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_with_nothing_to_say_is_left_in_peace() {
    let mut scene = Scene::new().await;
    // Long enough for the third of probes that come every two to four seconds; nothing ends that could be waited for.
    sleep(Duration::from_secs(13)).await;
    scene.etcd.must(&["put", &handle_key("new"), "{}"]);
    scene.client.until("what is new", |c| c.map.len() == 6).await;
    let stale = |s: &&SyncStatus| matches!(s, SyncStatus::Stale { .. });
    let stale: Vec<_> = scene.client.statuses.iter().filter(stale).collect();
    assert!(stale.is_empty(), "{stale:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_takes_its_time_is_waited_for() {
    let mut scene = Scene::new().await;
    let (store, key) = (scene.typha.store().with_timeout(DEADLINE), handle_key("h0"));
    let late = Duration::from_millis(500);
    scene.slow.answers_after(late, 0);
    let asked = Instant::now();
    store.put(&key, handle(7)).await.unwrap();
    assert!(asked.elapsed() >= late, "it was late indeed");
    assert_eq!(written(&scene.etcd, &key), 2, "created, and written once");
    assert_eq!(store.get(&key).await.unwrap().value, handle(7));
    let is_told = |c: &Client| c.map.get(&handle_key("h0")).is_some_and(|v| v.value == handle(7));
    scene.client.until("told", is_told).await;
    assert_eq!(scene.client.deletes, 0);
    scene.says(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_answers_too_late_is_said_and_nothing_is_done_twice() {
    let mut scene = Scene::new().await;
    let (store, key) = (scene.typha.store().with_timeout(DEADLINE), handle_key("h0"));
    // What is there is read in time; what becomes of the write is heard when nobody waits any more.
    scene.slow.answers_after(Duration::from_secs(8), 1);
    let refused = store.put(&key, handle(7)).await.unwrap_err();
    let StoreError::Unavailable(said) = &refused else {
        panic!("{refused:?}")
    };
    for part in [
        "the datastore does not answer: etcd at http://127.0.0.1:",
        "write: no answer within 3 s (it may have been done: read before writing again)",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(written(&scene.etcd, &key), 2, "it was done, once");
    scene.says(Some("no answer within 3 s")).await;

    // Known to be slow it is not asked: reads are answered from what is held, writes refused.
    assert_eq!(store.list(HANDLES).await.unwrap().entries.len(), 5);
    assert_eq!(store.get(&handle_key("h3")).await.unwrap().value, handle(3));
    let refused = store.put(&handle_key("h4"), handle(7)).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Unavailable(said) if said.contains("no answer within 3 s")),
        "{refused:?}"
    );
    let mut newcomer = scene.typha.client(&[HANDLES]);
    newcomer
        .until("served from memory", |c| c.in_syncs == 1 && c.map.len() == 5)
        .await;
    scene.etcd.must(&["del", &handle_key("h1")]);
    assert_eq!((scene.client.deletes, scene.client.map.len()), (0, 5));

    scene.slow.answers_after(Duration::ZERO, 0);
    scene.says(None).await;
    assert_eq!(written(&scene.etcd, &handle_key("h4")), 1, "refused is refused");
    store.put(&key, handle(8)).await.unwrap();
    assert_eq!(written(&scene.etcd, &key), 3);
    for client in [&mut scene.client, &mut newcomer] {
        client.until_equal(&store, HANDLES).await;
        assert_eq!(client.deletes, 1, "h1 alone");
    }
}
