//! Records of nodes that do not exist any more: their WorkloadEndpoints, and their places in IPAM.
//!
//! An endpoint of a deleted node keeps its address in use only as long as the grace time, during which the node may come
//! back. Its record goes first and the address after it, so that nobody gets an address that a record still names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;
use tortie_model::{Key, Object, decode};
use tortie_net::NodeName;
use tortie_typha_client::{Entry, Store, StoreError};

/// A document that belongs to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// `None`: its name is none, so that nobody can say that it is gone.
    node: Option<NodeName>,
    /// The addresses it names.
    pub(super) ips: Vec<IpAddr>,
    key: Key,
    revision: u64,
}

impl Record {
    /// WorkloadEndpoints. `true`: there are some that cannot be read.
    pub(super) fn of_endpoints(entries: Vec<Entry>) -> (Vec<Record>, bool) {
        let record = |entry: &Entry| {
            let key: Key = entry.key.parse().ok()?;
            let Ok(Object::WorkloadEndpoint(endpoint)) = decode(&key, &entry.value) else {
                return None;
            };
            Some(Record {
                node: endpoint.spec.node.parse().ok(),
                ips: endpoint.spec.ip_networks.iter().map(|p| p.addr()).collect(),
                key,
                revision: entry.revision,
            })
        };
        let records: Vec<Record> = entries.iter().filter_map(record).collect();
        let unread = records.len() < entries.len();
        (records, unread)
    }

    /// Is its node none of these?
    pub(super) fn is_left(&self, nodes: &BTreeSet<NodeName>) -> bool {
        self.node.as_ref().is_some_and(|node| !nodes.contains(node))
    }

    /// A node's place in IPAM, which Calico's programs make.
    pub(super) fn of_host(entry: &Entry) -> Option<Record> {
        let key: Key = entry.key.parse().ok()?;
        let Key::IpamHost(node) = &key else { return None };
        Some(Record {
            node: Some(node.clone()),
            ips: Vec::new(),
            revision: entry.revision,
            key,
        })
    }
}

/// Remembers since when records are of nobody, and deletes them.
#[derive(Debug)]
pub(super) struct Remains {
    grace: Duration,
    /// Any change of a record makes it another.
    since: BTreeMap<(Key, u64), Instant>,
}

impl Remains {
    pub(super) fn new(grace: Duration) -> Self {
        Remains {
            grace,
            since: BTreeMap::new(),
        }
    }

    /// Deletes those of these records that have been there for the whole grace time. Gives the addresses that records
    /// still name.
    pub(super) async fn collect<'a>(
        &mut self,
        store: &Store,
        left: impl Iterator<Item = &'a Record>,
    ) -> BTreeSet<IpAddr> {
        let (due, waiting) = self.judge(Instant::now(), left);
        let mut standing: BTreeSet<IpAddr> = waiting.iter().flat_map(|r| r.ips.iter().copied()).collect();
        for record in due {
            let object = record.key.object_name();
            match store.delete(&record.key.to_string(), Some(record.revision)).await {
                Ok(_) => tracing::info!(%object, "record of a deleted node removed"),
                Err(StoreError::NotFound(_)) => {}
                Err(error) => {
                    tracing::warn!(%object, %error, "record of a deleted node not removed");
                    standing.extend(&record.ips);
                }
            }
        }
        standing
    }

    /// Which are to go, and which may not go yet.
    fn judge<'a>(
        &mut self,
        now: Instant,
        left: impl Iterator<Item = &'a Record>,
    ) -> (Vec<&'a Record>, Vec<&'a Record>) {
        let mut since = BTreeMap::new();
        let judged = left.partition(|record| {
            let id = (record.key.clone(), record.revision);
            let first = self.since.get(&id).copied().unwrap_or(now);
            since.insert(id, first);
            now.duration_since(first) >= self.grace
        });
        self.since = since;
        judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    fn entry(key: &str, value: &str) -> Entry {
        Entry {
            key: key.to_owned(),
            value: value.to_owned().into(),
            revision: 7,
            create_revision: 7,
        }
    }

    #[test]
    fn a_record_goes_when_it_was_left_for_the_whole_grace_time_and_never_changed() {
        let wep = "/calico/resources/v3/projectcalico.org/workloadendpoints/web/n2-k8s-a-eth0";
        let document = r#"{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"n2-k8s-a-eth0",
            "namespace":"web"},"spec":{"node":"n2","ipNetworks":["10.0.0.5/32"]}}"#;
        let (mut records, unread) = Record::of_endpoints(vec![entry(wep, document)]);
        assert!(
            !unread && records[0].is_left(&BTreeSet::new()) && !records[0].is_left(&["n2".parse().unwrap()].into())
        );
        assert_eq!(records[0].ips, ["10.0.0.5".parse::<IpAddr>().unwrap()]);
        records.extend(Record::of_host(&entry("/calico/ipam/v2/host/n2", "")));
        assert_eq!(records.len(), 2);

        let (mut remains, start) = (Remains::new(GRACE), Instant::now());
        let mut due = |records: &[Record], after: u64| {
            let (due, waiting) = remains.judge(start + Duration::from_secs(after), records.iter());
            assert_eq!(due.len() + waiting.len(), records.len());
            due.len()
        };
        assert_eq!(due(&records, 0), 0);
        assert_eq!(due(&records, 59), 0);
        records[0].revision = 8; // written anew: its node may be back
        assert_eq!(due(&records, 60), 1);
        assert_eq!(due(&records, 119), 1);
        assert_eq!(due(&records, 120), 2);
        assert_eq!(due(&[], 121), 0); // the node was back for a moment
        assert_eq!(due(&records, 200), 0);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let wep = "/calico/resources/v3/projectcalico.org/workloadendpoints/web/n2-k8s-a-eth0";
        assert_eq!(Record::of_endpoints(vec![entry(wep, "{")]), (vec![], true));
        assert_eq!(Record::of_host(&entry("/calico/ipam/v2/config", "{}")), None);
        let nameless = r#"{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"n2-k8s-a-eth0",
            "namespace":"web"},"spec":{"node":"a/b","ipNetworks":["10.0.0.5/32"]}}"#;
        let (records, unread) = Record::of_endpoints(vec![entry(wep, nameless)]);
        assert!(
            !unread && !records[0].is_left(&BTreeSet::new()),
            "it is nobody's who is gone"
        );
    }
}
