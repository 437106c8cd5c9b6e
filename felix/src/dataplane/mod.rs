//! The dataplane: one task that owns every route of this node, and the handle by which others talk to it.
//!
//! Local endpoints reach the dataplane on two ways: from the datastore (WorkloadEndpoints, after a restart) and from the
//! endpoint service through [`Dataplane`], which counts at once and does not wait for the datastore's echo.

mod admission;
pub mod class;
pub mod fib;
pub mod manager;
pub mod view;
pub mod why;
mod workloads;

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

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
}

/// A handle on the dataplane task.
#[derive(Debug, Clone)]
pub struct Dataplane {
    commands: mpsc::Sender<Command>,
}

impl Dataplane {
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
