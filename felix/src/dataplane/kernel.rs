//! The kernel as the dataplane task sees it: a thread that owns the blocking socket and answers one request at a time.

use std::sync::mpsc as blocking;

use tokio::sync::oneshot;
use tortie_netlink::route::{Change, Filter, Kernel, KernelError, Refusal};

use super::manager::Dump;

/// How often a dump that a change interrupted is begun again before the error is given.
const DUMP_ATTEMPTS: u32 = 5;

/// A batch and what the kernel did with it.
pub(crate) type Applied = (Vec<Change>, Result<Vec<Refusal>, KernelError>);

enum Request {
    Dump(oneshot::Sender<Result<Dump, KernelError>>),
    Apply(Vec<Change>, oneshot::Sender<Applied>),
}

/// A handle on the thread, which ends with it.
#[derive(Debug)]
pub(crate) struct KernelThread {
    requests: blocking::SyncSender<Request>,
}

/// The thread has ended, which only a panic in it can cause.
#[derive(Debug, thiserror::Error)]
#[error("the kernel thread has ended")]
pub struct KernelThreadEnded;

impl KernelThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(kernel: impl Kernel) -> std::io::Result<Self> {
        // One request at a time: the task waits for each answer.
        let (requests, queue) = blocking::sync_channel(1);
        std::thread::Builder::new()
            .name("netlink-routes".to_owned())
            .spawn(move || serve(kernel, &queue))?;
        Ok(KernelThread { requests })
    }

    /// Everything in the kernel.
    pub(crate) async fn dump(&self) -> Result<Result<Dump, KernelError>, KernelThreadEnded> {
        let (answer, done) = oneshot::channel();
        self.requests
            .send(Request::Dump(answer))
            .map_err(|_| KernelThreadEnded)?;
        done.await.map_err(|_| KernelThreadEnded)
    }

    /// Makes the changes; gives them back with the refusals.
    pub(crate) async fn apply(&self, changes: Vec<Change>) -> Result<Applied, KernelThreadEnded> {
        let (answer, done) = oneshot::channel();
        self.requests
            .send(Request::Apply(changes, answer))
            .map_err(|_| KernelThreadEnded)?;
        done.await.map_err(|_| KernelThreadEnded)
    }
}

fn serve(mut kernel: impl Kernel, queue: &blocking::Receiver<Request>) {
    // A receiver that is gone has no use for the answer.
    while let Ok(request) = queue.recv() {
        match request {
            Request::Dump(answer) => drop(answer.send(dump(&mut kernel))),
            Request::Apply(changes, answer) => {
                let result = kernel.apply(&changes);
                drop(answer.send((changes, result)));
            }
        }
    }
}

fn dump(kernel: &mut impl Kernel) -> Result<Dump, KernelError> {
    Ok(Dump {
        interfaces: whole(|| kernel.interfaces())?,
        addresses: whole(|| kernel.addresses())?,
        routes: whole(|| kernel.routes(Filter::MAIN))?,
    })
}

fn whole<T>(mut read: impl FnMut() -> Result<T, KernelError>) -> Result<T, KernelError> {
    let mut attempts = 1;
    loop {
        match read() {
            Err(KernelError::DumpInterrupted) if attempts < DUMP_ATTEMPTS => attempts += 1,
            other => return other,
        }
    }
}
