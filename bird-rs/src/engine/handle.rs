//! How the rest of the program talks to the engine.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tortie_bgp::speaker::Speaker;

use super::{QUEUE, Request};

/// The engine has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bird-rs is stopping")]
pub(crate) struct Stopped;

/// Room in the queue.
#[derive(Debug)]
pub(crate) struct Place<'a>(Option<mpsc::Permit<'a, Request>>);

impl Place<'_> {
    /// Queues a request. Lost when the engine has stopped: nobody is left to care.
    pub(crate) fn take(self, request: Request) {
        if let Some(permit) = self.0 {
            permit.send(request);
        }
    }
}

/// How the rest of the program talks to the engine.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    requests: mpsc::Sender<Request>,
    /// Counts the times that something may have changed.
    changed: Arc<watch::Sender<u64>>,
}

impl Engine {
    /// A queue, and the handle that fills it.
    pub(crate) fn queue() -> (Self, mpsc::Receiver<Request>) {
        let (sender, requests) = mpsc::channel(QUEUE);
        let engine = Engine {
            requests: sender,
            changed: Arc::new(watch::Sender::new(0)),
        };
        (engine, requests)
    }

    /// Queues a request, waiting for room. Lost when the engine has stopped: nobody is left to care.
    pub(crate) async fn request(&self, request: Request) {
        let _ = self.requests.send(request).await;
    }

    /// Waits for room in the queue. Less is held while waiting than with the request itself.
    pub(crate) async fn place(&self) -> Place<'_> {
        Place(self.requests.reserve().await.ok())
    }

    /// Runs a closure on the speaker and gives back what it returns.
    ///
    /// # Errors
    /// [`Stopped`].
    pub(crate) async fn query<R, F>(&self, look: F) -> Result<R, Stopped>
    where
        R: Send + 'static,
        F: FnOnce(&Speaker) -> R + Send + 'static,
    {
        self.ask(|answer| {
            Request::Query(Box::new(move |speaker| {
                // Whoever asked may have gone meanwhile.
                let _ = answer.send(look(speaker));
            }))
        })
        .await
    }

    /// Runs a closure on the speaker, which it may change, after a flush, and gives back what it returns.
    ///
    /// # Errors
    /// [`Stopped`].
    pub(crate) async fn act<R, F>(&self, act: F) -> Result<R, Stopped>
    where
        R: Send + 'static,
        F: FnOnce(&mut Speaker) -> R + Send + 'static,
    {
        self.ask(|answer| {
            Request::Act(Box::new(move |speaker| {
                // Whoever asked may have gone meanwhile.
                let _ = answer.send(act(speaker));
            }))
        })
        .await
    }

    /// Changes whenever something in the speaker may have, and when it stops.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Says that something may have.
    pub(super) fn changed(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Sends a request that is answered.
    ///
    /// # Errors
    /// [`Stopped`].
    pub(crate) async fn ask<R>(&self, request: impl FnOnce(oneshot::Sender<R>) -> Request) -> Result<R, Stopped> {
        let (sender, receiver) = oneshot::channel();
        self.requests.send(request(sender)).await.map_err(|_| Stopped)?;
        receiver.await.map_err(|_| Stopped)
    }
}
