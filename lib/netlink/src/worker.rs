//! The kernel as a task sees it: a thread that owns the blocking socket and answers one request at a time.

use std::collections::BTreeMap;
use std::sync::mpsc as blocking;

use tokio::sync::oneshot;

use crate::route::object::{Object, hops_of};
use crate::route::{Change, Filter, Interface, InterfaceAddress, Kernel, KernelError, Refusal, Route};

/// How often a dump that a change interrupted is begun again before the error is given.
const DUMP_ATTEMPTS: u32 = 5;

/// What is in the kernel, all of it.
#[derive(Debug, Clone, Default)]
pub struct Dump {
    /// Every interface.
    pub interfaces: Vec<Interface>,
    /// Every address.
    pub addresses: Vec<InterfaceAddress>,
    /// Every nexthop object; `None` when this kernel has no such thing.
    pub objects: Option<Vec<Object>>,
    /// Every route that passes the filter, its object's next hops filled in.
    pub routes: Vec<Route>,
}

/// A batch and what the kernel did with it.
pub type Applied = (Vec<Change>, Result<Vec<Refusal>, KernelError>);

/// Batches that may be under way at once: one that the kernel works on, and one that waits for it.
pub const UNDER_WAY: usize = 2;

enum Request {
    Dump(Filter, oneshot::Sender<Result<Dump, KernelError>>),
    Apply(Vec<Change>, oneshot::Sender<Applied>),
}

/// A handle on the thread, which ends with it.
#[derive(Debug)]
pub struct Worker {
    requests: blocking::SyncSender<Request>,
}

/// The thread has ended, which only a panic in it can cause.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the kernel thread has ended")]
pub struct WorkerEnded;

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(kernel: impl Kernel) -> std::io::Result<Self> {
        let (requests, queue) = blocking::sync_channel(UNDER_WAY);
        std::thread::Builder::new()
            .name("netlink-routes".to_owned())
            .spawn(move || serve(kernel, &queue))?;
        Ok(Worker { requests })
    }

    /// Everything in the kernel, of routes those that pass the filter.
    ///
    /// # Errors
    /// [`WorkerEnded`]; inside, the kernel's.
    pub async fn dump(&self, filter: Filter) -> Result<Result<Dump, KernelError>, WorkerEnded> {
        let (answer, done) = oneshot::channel();
        self.requests
            .send(Request::Dump(filter, answer))
            .map_err(|_| WorkerEnded)?;
        done.await.map_err(|_| WorkerEnded)
    }

    /// Makes the changes; gives them back with the refusals.
    ///
    /// # Errors
    /// [`WorkerEnded`].
    pub async fn apply(&self, changes: Vec<Change>) -> Result<Applied, WorkerEnded> {
        self.begin(changes)?.done().await
    }

    /// Has the changes made while the caller does something else, in the order of calls. With [`UNDER_WAY`] of them unanswered
    /// an answer must be awaited before the next request, which else would block.
    ///
    /// # Errors
    /// [`WorkerEnded`].
    pub fn begin(&self, changes: Vec<Change>) -> Result<Writing, WorkerEnded> {
        let (answer, done) = oneshot::channel();
        self.requests
            .send(Request::Apply(changes, answer))
            .map_err(|_| WorkerEnded)?;
        Ok(Writing(done))
    }
}

/// Changes that the thread is making.
#[derive(Debug)]
pub struct Writing(oneshot::Receiver<Applied>);

impl Writing {
    /// Gives them back with the refusals, once. Cancelling loses nothing.
    ///
    /// # Errors
    /// [`WorkerEnded`].
    pub async fn done(&mut self) -> Result<Applied, WorkerEnded> {
        (&mut self.0).await.map_err(|_| WorkerEnded)
    }
}

fn serve(mut kernel: impl Kernel, queue: &blocking::Receiver<Request>) {
    // A receiver that is gone has no use for the answer.
    while let Ok(request) = queue.recv() {
        match request {
            Request::Dump(filter, answer) => drop(answer.send(dump(&mut kernel, filter))),
            Request::Apply(changes, answer) => {
                let result = kernel.apply(&changes);
                drop(answer.send((changes, result)));
            }
        }
    }
}

fn dump(kernel: &mut impl Kernel, filter: Filter) -> Result<Dump, KernelError> {
    let interfaces = whole(|| kernel.interfaces())?;
    let addresses = whole(|| kernel.addresses())?;
    let objects = whole(|| kernel.objects())?;
    let mut routes = whole(|| kernel.routes(filter))?;
    let known: BTreeMap<_, _> = objects.iter().flatten().map(|o| (o.id, &o.body)).collect();
    for route in &mut routes {
        if let (Some(id), []) = (route.object, &*route.next_hops) {
            route.next_hops = hops_of(id, |id| known.get(&id).copied()).unwrap_or_default();
        }
    }
    Ok(Dump {
        interfaces,
        addresses,
        objects,
        routes,
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
