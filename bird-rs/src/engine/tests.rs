use std::sync::mpsc;

use tokio::sync::Notify;
use tortie_bgp::config::{NoInclude, parse};
use tortie_kit::health::Health;

use super::*;

/// More than a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

fn start() -> (JoinHandle<()>, Engine) {
    let config = parse("x.conf", "router id 10.0.0.1;\nprotocol device { }\n", &mut NoInclude).unwrap();
    let (clock, config) = (Clock::start(), Arc::new(config));
    let (metrics, _) = Metrics::new(Health::new().guard("initial table"));
    let speaker = Speaker::new(clock.now(), config.clone()).unwrap();
    let bfd = Bfd::start(clock).unwrap();
    let (engine_loop, engine) = Loop::new(speaker, clock, &config, metrics, Vec::new(), bfd);
    (engine_loop.start(), engine)
}

/// A peer's writer that waits for the engine to pause may wait for as long as a million routes take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_engine_wakes_runs_while_the_engine_works() {
    let (task, engine) = start();
    let wake = Arc::new(Notify::new());
    let (waits, waiting) = mpsc::channel();
    let (woken, ran) = mpsc::channel();
    let waiter = tokio::spawn({
        let wake = wake.clone();
        async move {
            let mut notified = std::pin::pin!(wake.notified());
            notified.as_mut().enable();
            waits.send(()).unwrap();
            notified.await;
            woken.send(()).unwrap();
        }
    });
    let ran = engine.query(move |_| {
        waiting.recv_timeout(PATIENCE).unwrap();
        wake.notify_one();
        ran.recv_timeout(PATIENCE)
    });
    assert_eq!(ran.await, Ok(Ok(())));
    waiter.await.unwrap();
    engine.ask(Request::Stop).await.unwrap();
    task.await.unwrap();
}
