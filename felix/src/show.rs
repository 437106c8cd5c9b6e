//! The Felix gRPC service: what felix wants of the kernel, and what became of it.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use jiff::Timestamp;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tortie_net::NodeName;
use tortie_proto::common::Hello;
use tortie_proto::felix::felix_server::{Felix, FelixServer};
use tortie_proto::felix::status_response::{ClassCount, FailingObject};
use tortie_proto::felix::{Route, ShowRoutesRequest, StatusRequest, StatusResponse};

use crate::dataplane::Dataplane;
use crate::dataplane::manager::{Row, Summary};
use crate::failures::Failing;
use crate::fib::FibStatus;
use crate::state::StateHandle;
use crate::sync::DatastoreStatus;

/// What the service reads.
#[derive(Debug, Clone)]
pub struct Show {
    /// Whose state it is.
    pub node: NodeName,
    /// What felix says of itself.
    pub hello: Hello,
    /// The datastore's documents.
    pub state: StateHandle,
    /// The dataplane, for its rows.
    pub dataplane: Dataplane,
    /// The dataplane in numbers.
    pub summary: watch::Receiver<Arc<Summary>>,
    /// The datastore.
    pub datastore: watch::Receiver<DatastoreStatus>,
    /// bird-rs.
    pub fib: watch::Receiver<FibStatus>,
    /// The tunnel devices.
    pub tunnels: watch::Receiver<Arc<crate::tunnel::Status>>,
    /// The tables of nftables.
    pub tables: watch::Receiver<Arc<crate::tables::Status>>,
    /// The addresses at which workloads find the speaker: those that the kernel refuses.
    pub peering: watch::Receiver<Vec<Failing>>,
}

/// What is not as it shall be, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// Those that are named, and how many there are.
    pub(crate) routes: (Vec<Failing>, u64),
    pub(crate) objects: (Vec<Failing>, u64),
    pub(crate) tunnels: Vec<Failing>,
    pub(crate) tables: Vec<Failing>,
    pub(crate) addresses: Vec<Failing>,
    pub(crate) documents: Vec<Failing>,
}

impl Failures {
    /// All that are named.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Failing> {
        let kernel = self.routes.0.iter().chain(&self.objects.0);
        let objects = kernel.chain(&self.tunnels).chain(&self.tables);
        objects.chain(&self.addresses).chain(&self.documents)
    }

    /// How many, by the kind's name in metrics.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 6] {
        [
            ("route", self.routes.1),
            ("nexthop", self.objects.1),
            ("tunnel", self.tunnels.len() as u64),
            ("table", self.tables.len() as u64),
            ("address", self.addresses.len() as u64),
            ("document", self.documents.len() as u64),
        ]
    }

    /// For people, a line each; those that are not named are counted.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.all().map(|f| format!("failing: {f}")).collect();
        let more = self.routes.1.saturating_sub(self.routes.0.len() as u64);
        if more > 0 {
            lines.push(format!("failing: {more} more routes"));
        }
        lines
    }
}

impl Show {
    /// The service to mount.
    pub fn service(self) -> FelixServer<Self> {
        FelixServer::new(self)
    }

    /// Everything that is not as it shall be, of which only the first routes are named.
    pub(crate) fn failing(&self, summary: &Summary) -> Failures {
        let state = self.state.current();
        let document = |(key, reason): (&String, &String)| Failing {
            object: key.clone(),
            error: reason.clone(),
            attempts: 1,
            since: None,
            next_try: None,
        };
        Failures {
            routes: (summary.failing.clone(), summary.failing_total),
            objects: (summary.failing_objects.clone(), summary.objects.failing),
            tunnels: self.tunnels.borrow().failing.clone(),
            tables: self.tables.borrow().failing.clone(),
            addresses: self.peering.borrow().clone(),
            documents: state.unreadable.iter().map(document).collect(),
        }
    }

    /// Everything in numbers, sorted.
    pub fn debug_state(&self) -> serde_json::Value {
        let state = self.state.current();
        serde_json::json!({
            "node": self.node.as_str(),
            "datastore": format!("{:?}", *self.datastore.borrow()),
            "fib": format!("{:?}", *self.fib.borrow()),
            "revision": state.revision,
            "pools": state.pools.keys().collect::<Vec<_>>(),
            "blocks": state.affinities.keys().map(ToString::to_string).collect::<Vec<_>>(),
            "endpoints": state.endpoints.keys().map(ToString::to_string).collect::<Vec<_>>(),
            "unreadable": *state.unreadable,
            "dataplane": **self.summary.borrow(),
            "tunnels": self.tunnels.borrow().lines(),
            "tables": self.tables.borrow().lines(),
        })
    }
}

#[tonic::async_trait]
impl Felix for Show {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Hello::check(request.get_ref().hello.as_ref())?;
        let summary = self
            .dataplane
            .summary()
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        let state = self.state.current();
        let routes = summary.classes.iter().map(|(class, count)| ClassCount {
            class: class.to_string(),
            wanted: count.wanted,
            programmed: count.programmed,
        });
        let failing = self.failing(&summary);
        let failing = failing.all().map(|f| FailingObject {
            object: f.object.clone(),
            error: f.error.clone(),
            attempts: f.attempts,
            since_unix_ms: f.since.map(Timestamp::as_millisecond),
            next_try_unix_ms: f.next_try.map(Timestamp::as_millisecond),
        });
        Ok(Response::new(StatusResponse {
            hello: Some(self.hello.clone()),
            node: self.node.as_str().to_owned(),
            datastore_in_sync: matches!(*self.datastore.borrow(), DatastoreStatus::InSync { .. }),
            fib_in_sync: *self.fib.borrow() == FibStatus::InSync,
            dataplane_in_sync: summary.settled,
            datastore_revision: state.revision,
            routes: routes.collect(),
            failing: failing.collect(),
        }))
    }

    type ShowRoutesStream = Pin<Box<dyn Stream<Item = Result<Route, Status>> + Send>>;

    async fn show_routes(
        &self,
        request: Request<ShowRoutesRequest>,
    ) -> Result<Response<Self::ShowRoutesStream>, Status> {
        Hello::check(request.get_ref().hello.as_ref())?;
        let rows = self
            .dataplane
            .rows()
            .await
            .map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(Response::new(Box::pin(futures::stream::iter(
            rows.into_iter().map(|row| Ok(route(row))),
        ))))
    }
}

fn route(row: Row) -> Route {
    Route {
        prefix: Some(row.prefix.into()),
        class: row.class.to_string(),
        route: row.route,
        state: row.state.as_str().to_owned(),
        reason: row.reason,
        losers: row.losers,
    }
}
