//! What typha counts. Names are those of Calico's typha where the meaning is the same.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::sync::log::Encoded;

type Count = Gauge<i64, AtomicI64>;

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    Committed,
    DryRun,
    /// The document breaks a rule.
    Invalid,
    /// The precondition does not hold.
    Conflict,
    /// Whoever asked may not.
    Denied,
    /// The datastore did not answer.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct WriteLabels {
    pub(crate) outcome: Outcome,
}

/// What a message is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Sent {
    Snapshot,
    Changes,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SentLabels {
    pub(crate) part: Sent,
}

/// The metrics of one typha.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) connections_accepted: Counter,
    pub(crate) connections_active: Count,
    pub(crate) connections_dropped: Counter,
    pub(crate) breadcrumb_revision: Count,
    pub(crate) keys: Count,
    pub(crate) changes_octets: Count,
    pub(crate) changes_forgotten: Counter,
    pub(crate) snapshots_sent: Counter,
    pub(crate) sent: Family<SentLabels, Counter>,
    pub(crate) encoded: Family<SentLabels, Counter>,
    pub(crate) clients_coalesced: Counter,
    pub(crate) connections_handed_over: Counter,
    pub(crate) connections_moved: Counter,
    pub(crate) stale: Count,
    pub(crate) current_at: Count,
    pub(crate) states_kept: Counter,
    pub(crate) writes: Family<WriteLabels, Counter>,
    pub(crate) transactions: Counter,
}

impl Metrics {
    /// Registers them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Metrics::default();
        let r = registry.sub_registry_with_prefix("typha");
        r.register(
            "connections_accepted",
            "Sync clients accepted",
            metrics.connections_accepted.clone(),
        );
        r.register(
            "connections_active",
            "Sync clients connected now",
            metrics.connections_active.clone(),
        );
        let dropped = "Sync clients cut because they neither answered nor took data";
        r.register("connections_dropped", dropped, metrics.connections_dropped.clone());
        let revision = "Datastore revision of the state that clients are sent";
        r.register("breadcrumb_revision", revision, metrics.breadcrumb_revision.clone());
        r.register(
            "breadcrumb_keys",
            "Keys in the state that clients are sent",
            metrics.keys.clone(),
        );
        let held = "Octets of documents in the changes that are held for clients that come back";
        r.register("changes_held_octets", held, metrics.changes_octets.clone());
        let forgotten = "Batches of changes that are no longer held, because of --changes-kept or --changes-memory";
        r.register("changes_forgotten", forgotten, metrics.changes_forgotten.clone());
        let snapshots = "Snapshots sent: to new clients and to those too far behind";
        r.register("snapshots_sent", snapshots, metrics.snapshots_sent.clone());
        let sent = "Octets of messages handed to sync clients' connections, by what they are part of";
        r.register("sent_octets", sent, metrics.sent.clone());
        let encoded = "Snapshots and batches of changes that were encoded, once for all clients that want the same";
        r.register("encoded", encoded, metrics.encoded.clone());
        let coalesced = "How often a client too slow for the log was sent the state instead of changes";
        r.register("clients_coalesced", coalesced, metrics.clients_coalesced.clone());
        let over = "Sync clients told where to go when this typha stopped";
        r.register("connections_handed_over", over, metrics.connections_handed_over.clone());
        let moved = "Sync clients asked to go to another typha that has far fewer";
        r.register("connections_moved", moved, metrics.connections_moved.clone());
        let stale = "1 while the datastore does not answer and what is sent may be old";
        r.register("stale", stale, metrics.stale.clone());
        let current = "When the datastore answered last, in seconds since the epoch; 0 while it answers";
        r.register("stale_since_timestamp_seconds", current, metrics.current_at.clone());
        let kept = "How often the state was written to the file of --state";
        r.register("states_kept", kept, metrics.states_kept.clone());
        r.register(
            "writes",
            "Writes asked for, by what became of them",
            metrics.writes.clone(),
        );
        let transactions = "Transactions asked of the datastore; writes asked for together share one";
        r.register("transactions", transactions, metrics.transactions.clone());
        metrics
    }

    pub(crate) fn count_encoded(&self, encoded: Encoded) {
        for (part, n) in [(Sent::Snapshot, encoded.snapshots), (Sent::Changes, encoded.batches)] {
            if n > 0 {
                self.encoded.get_or_create(&SentLabels { part }).inc_by(n);
            }
        }
    }

    pub(crate) fn count_sent(&self, part: Sent, octets: usize) {
        self.sent.get_or_create(&SentLabels { part }).inc_by(octets as u64);
    }

    /// The datastore answers.
    pub(crate) fn show_current(&self) {
        self.stale.set(0);
        self.current_at.set(0);
    }

    /// The datastore does not answer; it did at this time since the epoch.
    pub(crate) fn show_stale(&self, current: Duration) {
        self.stale.set(1);
        self.current_at
            .set(i64::try_from(current.as_secs()).unwrap_or(i64::MAX));
    }

    pub(crate) fn count_writes(&self, outcome: Outcome, n: u64) {
        self.writes.get_or_create(&WriteLabels { outcome }).inc_by(n);
    }
}
