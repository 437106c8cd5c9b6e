//! What nodes left behind that no longer exist, collected by one felix of the cluster.
//!
//! The lease is a document that its holder rewrites. Whoever sees it unchanged for its whole term, by its own clock, may
//! take it: no two clocks are compared. Two holders for a moment do no harm, since every write is compared with what was
//! read.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tortie_ipam::{Garbage, Scope, View, Watch, take_lease};
use tortie_ipam_client::drive;
use tortie_model::ipam::{Block, Handle};
use tortie_model::{Key, Kind, Object, Owner, decode, key};
use tortie_net::{NodeName, Prefix};
use tortie_typha_client::{Entry, Store, StoreError};

use super::remains::{Record, Remains};
use super::{Collector, blocks_of};

/// The lease's name.
const LEASE: &str = "ipam-gc";
/// Terms are so many renewals long.
const RENEWALS: u32 = 3;
/// Between two renewals at most. A thousand nodes that wait ask typha 33 times a second.
const RENEW_MAX: Duration = Duration::from_secs(30);
const RENEW_MIN: Duration = Duration::from_secs(1);

/// A revision of the lease, and since when it is known.
type Seen = Option<(u64, Instant)>;

/// Runs until it is dropped.
pub(super) async fn run(collector: Collector) {
    let renew = collector.round().clamp(RENEW_MIN, RENEW_MAX);
    let term = renew * RENEWALS;
    let mut seen: Seen = None;
    let mut watch = collector.watch();
    let mut remains = Remains::new(collector.grace);
    let mut leads = false;
    loop {
        tokio::time::sleep(renew).await;
        let held = match lease(&collector, term, &mut seen).await {
            Ok(held) => held,
            Err(error) => {
                tracing::debug!(%error, "lease not asked for");
                false
            }
        };
        if held != leads {
            tracing::info!(leads = held, "collector of the cluster's abandoned addresses");
            // Since when things look abandoned is known only to who looked.
            watch = collector.watch();
            remains = Remains::new(collector.grace);
            leads = held;
        }
        if held && super::is_ready(&collector.state.current()) {
            match Everything::read(&collector.store).await {
                // A list of nodes without this one is no list of the nodes there are.
                Ok(all) if all.nodes.contains(&collector.node) => {
                    let left = all.records.iter().filter(|r| r.is_left(&all.nodes));
                    let standing = remains.collect(&collector.store, left).await;
                    let mut garbage = all.look(&mut watch);
                    garbage.retain(|g| !is_of(g, &standing));
                    collector.collect(garbage).await;
                }
                Ok(_) => tracing::debug!("this node is not in the datastore: nothing is collected"),
                Err(error) => tracing::warn!(%error, "abandoned addresses not looked for"),
            }
        }
    }
}

/// Takes or renews the lease. Says whether this node holds it.
async fn lease(collector: &Collector, term: Duration, seen: &mut Seen) -> Result<bool, tortie_ipam::IpamError> {
    let stale = seen
        .filter(|(_, since)| since.elapsed() > term)
        .map(|(revision, _)| revision);
    let seconds = u32::try_from(term.as_secs()).unwrap_or(u32::MAX);
    let plan = take_lease(LEASE.to_owned(), collector.node.to_string(), seconds, stale);
    let (held, revision) = drive(&collector.store, plan).await?;
    *seen = match (*seen, revision) {
        (Some((known, since)), Some(revision)) if known == revision => Some((known, since)),
        (_, revision) => revision.map(|r| (r, Instant::now())),
    };
    Ok(held)
}

/// All of IPAM, as far as it can be read.
struct Everything {
    blocks: Vec<Block>,
    unreadable: BTreeSet<Prefix>,
    handles: Vec<(String, Handle)>,
    affinities: Vec<(Owner, Prefix)>,
    /// What belongs to a node and is not IPAM's.
    records: Vec<Record>,
    /// An endpoint cannot be read: it may have any address.
    unsure: bool,
    nodes: BTreeSet<NodeName>,
}

impl Everything {
    /// Blocks first: an address in them whose workload is not among the endpoints read after had none.
    async fn read(store: &Store) -> Result<Self, StoreError> {
        let (blocks, unreadable) = parts(store.list(key::BLOCKS).await?.entries, |_, object| match object {
            Object::Block(block) => Some(*block),
            _ => None,
        });
        let (handles, _) = parts(store.list(key::HANDLES).await?.entries, |key, object| {
            match (key, object) {
                (Key::Handle(id), Object::Handle(handle)) => Some((id.clone(), handle)),
                _ => None,
            }
        });
        let claims = store.list(key::HOSTS).await?.entries;
        let affinities = claims.iter().filter_map(|e| match e.key.parse() {
            Ok(Key::Affinity { owner, cidr }) => Some((owner, cidr)),
            _ => None,
        });
        let hosts = claims.iter().filter_map(Record::of_host);
        let (endpoints, unread) =
            Record::of_endpoints(store.list(&Key::collection(Kind::WorkloadEndpoint)).await?.entries);
        let nodes = store.list(&Key::collection(Kind::Node)).await?.entries;
        Ok(Everything {
            blocks,
            unreadable: blocks_of(&unreadable),
            handles,
            affinities: affinities.collect(),
            records: endpoints.into_iter().chain(hosts).collect(),
            unsure: unread,
            // Its key says that a node exists, whatever its document says.
            nodes: nodes
                .iter()
                .filter_map(|e| e.key.rsplit('/').next()?.parse().ok())
                .collect(),
        })
    }

    fn look(&self, watch: &mut Watch) -> Vec<Garbage> {
        let live = self.records.iter().filter(|r| !r.is_left(&self.nodes));
        let live: BTreeSet<IpAddr> = live.flat_map(|r| r.ips.iter().copied()).collect();
        let view = View {
            now: Timestamp::now(),
            blocks: self.blocks.iter().collect(),
            affinities: self.affinities.clone(),
            handles: self.handles.iter().map(|(id, h)| (id.clone(), h)).collect(),
            unreadable: self.unreadable.clone(),
            is_live: &|ip| self.unsure || live.contains(&ip),
            is_pooled: &|_, _| false,
        };
        watch.look(&Scope::Gone(self.nodes.clone()), &view)
    }
}

/// Is it one of these addresses?
fn is_of(garbage: &Garbage, addresses: &BTreeSet<IpAddr>) -> bool {
    matches!(garbage, Garbage::Leaked { addresses: leaked, .. } if leaked.iter().any(|l| addresses.contains(&l.ip)))
}

/// The readable documents, and the keys of the others.
fn parts<T>(entries: Vec<Entry>, of: impl Fn(&Key, Object) -> Option<T>) -> (Vec<T>, Vec<Key>) {
    let mut read = Vec::new();
    let mut unreadable = Vec::new();
    for entry in entries {
        let Ok(key) = entry.key.parse::<Key>() else { continue };
        match decode(&key, &entry.value) {
            Ok(object) => read.extend(of(&key, object)),
            Err(_) => unreadable.push(key),
        }
    }
    (read, unreadable)
}
