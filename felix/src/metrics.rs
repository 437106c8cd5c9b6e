//! Metrics, with Calico's names where they mean the same. All are read off the state when scraped or summed up.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::dataplane::manager::Summary;

/// A route class and, for what did not make it, why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Class {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// A kind of the kernel's objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Object {
    object: &'static str,
}

type Count = Gauge<u64, AtomicU64>;

/// What is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    endpoints: Count,
    wanted: Family<Class, Count>,
    programmed: Family<Class, Count>,
    withheld: Family<Class, Count>,
    refused: Family<Reason, Count>,
    failing: Count,
    objects_failing: Family<Object, Count>,
    nexthop_objects: Count,
    shadowed: Count,
    resync_state: Count,
    fib_in_sync: Count,
}

impl Metrics {
    /// Registers everything.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let m = Arc::new(Metrics::default());
        let r = registry.sub_registry_with_prefix("felix");
        r.register(
            "active_local_endpoints",
            "Workload endpoints on this node",
            m.endpoints.clone(),
        );
        r.register(
            "route_table_num_routes",
            "Routes in the kernel as wanted, by class",
            m.programmed.clone(),
        );
        r.register(
            "routes_wanted",
            "Routes that a source wants, let in or not, by class",
            m.wanted.clone(),
        );
        r.register("routes_withheld", "Routes that wait, by class", m.withheld.clone());
        r.register(
            "routes_refused",
            "Routes of peers that are not let in, by reason",
            m.refused.clone(),
        );
        r.register(
            "routes_failing",
            "Routes that the kernel refuses or that another's keeps out",
            m.failing.clone(),
        );
        r.register(
            "objects_failing",
            "Objects that are not as wanted: routes, nexthop objects, steps of tunnel devices, tables of nftables, documents that cannot be read",
            m.objects_failing.clone(),
        );
        r.register(
            "nexthop_objects",
            "Nexthop objects of felix's in the kernel",
            m.nexthop_objects.clone(),
        );
        r.register(
            "routes_shadowed",
            "Routes the kernel prefers somebody else's to",
            m.shadowed.clone(),
        );
        r.register(
            "resync_state",
            "The datastore: 1 waiting for it, 3 in sync once",
            m.resync_state.clone(),
        );
        r.register(
            "fib_in_sync",
            "bird-rs's routes were received in full once",
            m.fib_in_sync.clone(),
        );
        m
    }

    /// Takes over how many objects of each kind are not as wanted.
    pub fn failing<const N: usize>(&self, counts: [(&'static str, u64); N]) {
        for (object, count) in counts {
            self.objects_failing.get_or_create(&Object { object }).set(count);
        }
    }

    /// Takes over the state.
    pub fn update(&self, s: &Summary) {
        self.endpoints.set(s.endpoints);
        for (class, count) in &s.classes {
            let class = Class { class: class.as_str() };
            self.wanted.get_or_create(&class).set(count.wanted);
            self.programmed.get_or_create(&class).set(count.programmed);
        }
        self.withheld.clear();
        for (class, count) in &s.withheld {
            self.withheld
                .get_or_create(&Class { class: class.as_str() })
                .set(*count);
        }
        self.refused.clear();
        for (reason, count) in &s.refused {
            self.refused.get_or_create(&Reason { reason }).set(*count);
        }
        self.failing.set(s.failing_total);
        self.nexthop_objects.set(s.objects.there);
        self.shadowed.set(s.shadowed.len() as u64);
        self.resync_state.set(if s.datastore_synced { 3 } else { 1 });
        self.fib_in_sync.set(u64::from(s.fib_synced));
    }
}
