//! Counters and gauges under `confd_`.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::apply::Outcome;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum RenderResult {
    Rendered,
    NoNode,
    TemplateError,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RenderLabels {
    pub(crate) result: RenderResult,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum ApplyResult {
    Applied,
    Rejected,
    Unanswered,
    Written,
    WriteFailed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApplyLabels {
    result: ApplyResult,
}

#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) renders: Family<RenderLabels, Counter>,
    pub(crate) render_seconds: Histogram,
    pub(crate) problems: Gauge,
    pub(crate) peers: Gauge,
    /// Datastore revision of the state that was rendered last.
    pub(crate) desired_revision: Gauge,
    /// The newest such revision whose configuration is in force.
    pub(crate) applied_revision: Gauge,
    pub(crate) in_force: Gauge,
    pub(crate) typha_connected: Gauge,
    applies: Family<ApplyLabels, Counter>,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let m = Metrics {
            renders: Family::default(),
            render_seconds: Histogram::new(exponential_buckets(0.000_5, 2.0, 14)),
            problems: Gauge::default(),
            peers: Gauge::default(),
            desired_revision: Gauge::default(),
            applied_revision: Gauge::default(),
            in_force: Gauge::default(),
            typha_connected: Gauge::default(),
            applies: Family::default(),
        };
        let r = registry.sub_registry_with_prefix("confd");
        r.register(
            "renders",
            "Renderings of the configuration, by result",
            m.renders.clone(),
        );
        r.register("render_seconds", "Time from state to text", m.render_seconds.clone());
        r.register(
            "problems",
            "Parts of the wanted state that have no effect",
            m.problems.clone(),
        );
        r.register("peers", "BGP sessions in the configuration", m.peers.clone());
        let text = "Newest datastore revision of an object that was rendered (deletions have none)";
        r.register("desired_revision", text, m.desired_revision.clone());
        let text = "The same of the configuration that is in force";
        r.register("applied_revision", text, m.applied_revision.clone());
        r.register(
            "in_force",
            "1 when bird-rs runs the wanted configuration",
            m.in_force.clone(),
        );
        r.register(
            "typha_connected",
            "1 when cluster state is current",
            m.typha_connected.clone(),
        );
        r.register(
            "applies",
            "Attempts to bring file and bird-rs up to date, by result",
            m.applies.clone(),
        );
        m
    }

    pub(crate) fn count(&self, outcome: Outcome) {
        let result = match outcome {
            Outcome::Applied => ApplyResult::Applied,
            Outcome::Rejected => ApplyResult::Rejected,
            Outcome::Unanswered => ApplyResult::Unanswered,
            Outcome::Written => ApplyResult::Written,
            Outcome::WriteFailed => ApplyResult::WriteFailed,
        };
        self.applies.get_or_create(&ApplyLabels { result }).inc();
    }
}
