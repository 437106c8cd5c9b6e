//! What `/metrics` shows.

use std::sync::{Arc, Mutex};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tortie_bgp::speaker::FibRoute;
use tortie_kit::health::Guard;
use tortie_net::Prefix;
use tortie_replica::Delta;

/// One series: the one before it goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Revisions {
    desired: String,
    applied: String,
}

/// The engine's counters, and its readiness.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) panics: Counter,
    fib_sets: Counter,
    fib_deletes: Counter,
    pub(crate) in_sync: Gauge,
    pub(crate) config_rejections: Counter,
    config_on_trial: Gauge,
    revisions: Family<Revisions, Gauge>,
    ready: Arc<Guard>,
}

impl Metrics {
    /// Registers everything. `ready` becomes ready with the initial table.
    pub(crate) fn new(ready: Guard) -> (Self, Arc<Mutex<Registry>>) {
        let metrics = Metrics {
            panics: Counter::default(),
            fib_sets: Counter::default(),
            fib_deletes: Counter::default(),
            in_sync: Gauge::default(),
            config_rejections: Counter::default(),
            config_on_trial: Gauge::default(),
            revisions: Family::default(),
            ready: Arc::new(ready),
        };
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("bird_rs");
        ours.register(
            "handler_panics",
            "Inputs of peers that cost their connection",
            metrics.panics.clone(),
        );
        ours.register(
            "fib_route_sets",
            "Best routes announced to subscribers",
            metrics.fib_sets.clone(),
        );
        ours.register(
            "fib_route_deletes",
            "Best routes withdrawn from subscribers",
            metrics.fib_deletes.clone(),
        );
        ours.register(
            "fib_in_sync",
            "1 while the initial table is complete and exported to felix",
            metrics.in_sync.clone(),
        );
        ours.register(
            "config_rejections",
            "Configurations that were asked for and rejected",
            metrics.config_rejections.clone(),
        );
        ours.register(
            "config_on_trial",
            "1 while the configuration in force is undone unless confirmed",
            metrics.config_on_trial.clone(),
        );
        ours.register(
            "config_revision",
            "The revisions asked for last and in force",
            metrics.revisions.clone(),
        );
        (metrics, Arc::new(Mutex::new(registry)))
    }

    /// What configuration is asked for, and what is in force.
    pub(crate) fn configured(&self, desired: &str, applied: &str, on_trial: bool) {
        self.config_on_trial.set(i64::from(on_trial));
        self.revisions.clear();
        let revisions = Revisions {
            desired: desired.to_owned(),
            applied: applied.to_owned(),
        };
        self.revisions.get_or_create(&revisions).set(1);
    }

    /// The initial table is complete.
    pub(crate) fn converged(&self) {
        self.ready.ready();
    }

    /// Counts changes of the best routes.
    pub(crate) fn fib(&self, deltas: &[Delta<Prefix, FibRoute>]) {
        for delta in deltas {
            match delta {
                Delta::Set(..) => drop(self.fib_sets.inc()),
                Delta::Delete(_) => drop(self.fib_deletes.inc()),
                Delta::InSync => {}
            }
        }
    }
}
