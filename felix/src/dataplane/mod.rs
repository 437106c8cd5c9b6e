//! The dataplane: one task that owns every route of this node, and the handle by which others talk to it.
//!
//! Local endpoints reach the dataplane on two ways: from the datastore (WorkloadEndpoints, after a restart) and from the
//! endpoint service through [`Dataplane`], which counts at once and does not wait for the datastore's echo.

mod admission;
pub mod class;
pub mod fib;
mod hold;
pub mod manager;
pub mod marks;
mod remotes;
mod task;
pub mod view;
pub mod why;
mod workloads;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tortie_netlink::monitor::Monitor;
use tortie_netlink::route::{Kernel, KernelError};
use tortie_netlink::worker::Worker;

use manager::{Input, Row, Summary};
use marks::Remembered;
pub use task::TaskError;
pub(crate) use task::until;

/// How long [`Dataplane::endpoint_up`] and [`Dataplane::endpoint_down`] wait for the kernel. Longer than the first few
/// retries of a route the kernel refuses, shorter than a container runtime's patience.
pub const ENDPOINT_DEADLINE: Duration = Duration::from_secs(10);

/// A workload on this node, as its routes need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalEndpoint {
    /// The host's side of the veth pair ("cali…").
    pub interface: String,
    /// The workload's addresses: each becomes a host route to the interface.
    pub ips: Vec<IpAddr>,
    /// The datastore key of its WorkloadEndpoint, by which the datastore's own word about it is recognised.
    pub key: String,
}

/// Why an endpoint's routes are not (or not yet gone from) the kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataplaneError {
    /// The kernel did not take a route before [`ENDPOINT_DEADLINE`]. It stays wanted until `endpoint_down`.
    #[error("interface {interface}: routes not in the kernel after {waited:?}: {reason}")]
    NotProgrammed {
        /// Whose routes.
        interface: String,
        /// How long was waited.
        waited: Duration,
        /// What the kernel (or felix) said last of the first missing route.
        reason: String,
    },
    /// The dataplane task has ended: felix is stopping.
    #[error("the dataplane is stopping")]
    Stopping,
}

/// What a handle asks of the dataplane task.
#[derive(Debug)]
pub(crate) enum Command {
    /// Want this endpoint's routes; answer when they are in the kernel.
    Up(LocalEndpoint, oneshot::Sender<Result<(), DataplaneError>>),
    /// Stop wanting the routes of this interface; answer when they are out of the kernel.
    Down(String, oneshot::Sender<Result<(), DataplaneError>>),
    /// Show every prefix somebody wants.
    Rows(oneshot::Sender<Vec<Row>>),
    /// Sum up as of now.
    Summary(oneshot::Sender<Summary>),
}

/// Commands that wait for the task; each is one caller, who waits too.
const COMMANDS: usize = 64;
/// Inputs that wait for the task: batches, so that a source is slowed down rather than queued.
const INPUTS: usize = 16;

/// The dataplane could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Netlink does not work.
    #[error("start the dataplane: {0}")]
    Kernel(#[from] KernelError),
    /// No thread.
    #[error("start the dataplane: {0}")]
    Thread(#[from] std::io::Error),
}

/// A dataplane that runs.
#[derive(Debug)]
pub struct Running {
    /// For the endpoint service and for whoever shows the state.
    pub handle: Dataplane,
    /// For the sources: the datastore's and bird-rs's.
    pub inputs: mpsc::Sender<Input>,
    /// The state in numbers, now and then.
    pub summary: watch::Receiver<Arc<Summary>>,
    /// Ends when the token is cancelled, or with the reason why it could not go on.
    pub task: JoinHandle<Result<(), TaskError>>,
}

/// Starts the dataplane task on this kernel; `monitor` was joined before the kernel is first read. `marks` is the file by which
/// one life tells the next what its routes have, see [`marks`]; one that cannot be read is left, and said. Must be called inside
/// a runtime.
///
/// # Errors
/// [`StartError`].
pub fn start(
    kernel: impl Kernel,
    monitor: Monitor,
    marks: &Path,
    token: CancellationToken,
) -> Result<Running, StartError> {
    let remembered = Remembered::read(marks).unwrap_or_else(|error| {
        tracing::error!(%error, "routes of a former life may not be known by their numbers");
        Remembered::default()
    });
    let kernel = Worker::start(kernel)?;
    let (commands, queue) = mpsc::channel(COMMANDS);
    let (inputs, wishes) = mpsc::channel(INPUTS);
    let (summary, seen) = watch::channel(Arc::default());
    let task = task::Task {
        kernel,
        monitor,
        inputs: wishes,
        commands: queue,
        summary,
        marks: marks.to_owned(),
        remembered,
    };
    let task = tokio::spawn(task.run(token));
    Ok(Running {
        handle: Dataplane::new(commands),
        inputs,
        summary: seen,
        task,
    })
}

/// A handle on the dataplane task.
#[derive(Debug, Clone)]
pub struct Dataplane {
    commands: mpsc::Sender<Command>,
}

impl Dataplane {
    /// A handle on whoever answers these commands.
    pub(crate) fn new(commands: mpsc::Sender<Command>) -> Self {
        Dataplane { commands }
    }

    /// Wants the endpoint's routes from now on, whatever the datastore says, and returns when they are in the kernel.
    /// Repeating it is harmless; another call for the same interface replaces what it was.
    ///
    /// # Errors
    /// [`DataplaneError`]. The routes stay wanted also then: call [`Dataplane::endpoint_down`] to give up.
    pub async fn endpoint_up(&self, endpoint: LocalEndpoint) -> Result<(), DataplaneError> {
        let (answer, done) = oneshot::channel();
        self.ask(Command::Up(endpoint, answer), done).await
    }

    /// Stops wanting the routes of this interface, also those the datastore still names, and returns when they are out
    /// of the kernel. Nothing there is success.
    ///
    /// # Errors
    /// [`DataplaneError`].
    pub async fn endpoint_down(&self, interface: &str) -> Result<(), DataplaneError> {
        let (answer, done) = oneshot::channel();
        self.ask(Command::Down(interface.to_owned(), answer), done).await
    }

    /// Every prefix somebody wants, and what became of it; sorted.
    ///
    /// # Errors
    /// [`DataplaneError::Stopping`].
    pub async fn rows(&self) -> Result<Vec<Row>, DataplaneError> {
        let (answer, done) = oneshot::channel();
        self.commands
            .send(Command::Rows(answer))
            .await
            .map_err(|_| DataplaneError::Stopping)?;
        done.await.map_err(|_| DataplaneError::Stopping)
    }

    /// The state in numbers, as of now.
    ///
    /// # Errors
    /// [`DataplaneError::Stopping`].
    pub async fn summary(&self) -> Result<Summary, DataplaneError> {
        let (answer, done) = oneshot::channel();
        let sent = self.commands.send(Command::Summary(answer)).await;
        sent.map_err(|_| DataplaneError::Stopping)?;
        done.await.map_err(|_| DataplaneError::Stopping)
    }

    async fn ask(
        &self,
        command: Command,
        done: oneshot::Receiver<Result<(), DataplaneError>>,
    ) -> Result<(), DataplaneError> {
        self.commands
            .send(command)
            .await
            .map_err(|_| DataplaneError::Stopping)?;
        done.await.unwrap_or(Err(DataplaneError::Stopping))
    }
}
