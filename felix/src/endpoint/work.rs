//! What each call does, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tortie_ipam::{IpFamily, Want};
use tortie_model::Key;
use tortie_model::resource::WorkloadEndpoint;
use tortie_net::Prefix;
use tortie_proto::felix::result::Route;
use tortie_proto::felix::{AddRequest, CheckRequest, CollectRequest, DelRequest, Result as Made};

use super::failure::Failure;
use super::lanes::Lanes;
use super::record::{self, NETWORK, Record};
use super::recorder::Recorder;
use super::request::{Attachment, addresses};
use super::{Parts, given, namespace, wiring};
use crate::dataplane::LocalEndpoint;
use crate::ipam;
use crate::state::State;

/// How many endpoints are wired at the same time. The kernel changes interfaces one after the other, under a lock for which
/// its waiters keep processors busy: what more threads would do there is taken from the rest of the work.
const WIRINGS: usize = 2;
/// How long a caller waits while a failed Add is undone; the undoing goes on after that.
const UNDO_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Work {
    pub(super) parts: Parts,
    recorder: Recorder,
    lanes: Lanes,
    /// Whose interface it is, of those made in this life: the datastore's echo of a record may be late.
    holders: Mutex<BTreeMap<String, Key>>,
    links: Arc<wiring::HostMtu>,
    /// Turns at the kernel.
    wirings: Semaphore,
}

/// Runs what blocks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Failure::internal(format!("felix failed in the middle: {e}"))))
}

impl Work {
    pub(super) fn new(parts: Parts) -> Self {
        Work {
            recorder: Recorder::start(parts.store.clone(), parts.ipam.crowd().clone()),
            parts,
            lanes: Lanes::default(),
            holders: Mutex::default(),
            links: Arc::default(),
            wirings: Semaphore::new(WIRINGS),
        }
    }

    /// ADD.
    pub(super) async fn add(self: Arc<Self>, mut request: AddRequest) -> Result<Made, Failure> {
        let attachment = Attachment::new(&self.parts.node, request.attachment.take())?;
        let asked = addresses(&request.requested_ips)?;
        self.state_for_add()?;
        let lane = self.lanes.enter(attachment.interface.clone()).await;
        let _call = self.parts.ipam.crowd().enter();
        self.interface_is_free(&attachment)?;
        let plan = self.plan(&attachment, Vec::new(), request.mtu, request.allow_ip_forwarding)?;
        let found = plan.clone();
        let mut site = blocking(move || wiring::Site::find(&found)).await?;
        let existing = record::read(&self.parts.store, &attachment).await?;
        if existing.is_some() || site.is_used() {
            site = blocking(move || site.when_free(&plan)).await?;
        }
        let repeated = existing.as_ref().is_some_and(|r| r.is_of(&attachment));
        // Until the wiring begins, what an older container of this pod has is not touched, nor is it undone.
        let mut only_addresses = existing.is_some();
        let made = match self.ips(&request, &asked, &attachment, existing.as_ref()).await {
            Ok(ips) => {
                only_addresses = false;
                self.make(&request, (&attachment, site), existing.as_ref(), ips).await
            }
            Err(e) => Err(e),
        };
        match &made {
            Ok(made) => tracing::info!(
                namespace = %attachment.namespace, pod = %attachment.pod, container = %attachment.container_id,
                interface = %attachment.interface, ips = ?made.ips, repeated, "endpoint added"
            ),
            // What a former Add of this container made serves a running workload: it stays.
            Err(e) if repeated => {
                tracing::warn!(container = %attachment.container_id, error = %e, "repeated add failed")
            }
            Err(e) => {
                tracing::warn!(container = %attachment.container_id, error = %e, "add failed, undoing it");
                let undo = tokio::spawn(async move {
                    self.undo(&attachment, only_addresses).await;
                    drop(lane);
                });
                let _ = tokio::time::timeout(UNDO_WITHIN, undo).await;
            }
        }
        made
    }

    /// The state, when it is good enough to add with.
    pub(super) fn state_for_add(&self) -> Result<Arc<State>, Failure> {
        let state = self.parts.state.current();
        if !state.is_known() {
            return Err(Failure::try_later(
                "felix knows nothing of the cluster yet: typha has not answered".to_owned(),
            ));
        }
        let ready = state.cluster.as_ref().and_then(|c| c.value.spec.datastore_ready);
        if ready == Some(false) {
            let message = "Calico is currently not ready to process requests".to_owned();
            return Err(Failure::try_later(message).details("ClusterInformation(default): datastoreReady is false"));
        }
        Ok(state)
    }

    /// Two endpoints whose names have the same digest must not take the interface from each other.
    fn interface_is_free(&self, attachment: &Attachment) -> Result<(), Failure> {
        match self.other_holder(attachment) {
            None => Ok(()),
            Some(other) => Err(Failure::internal(format!(
                "interface {} of {} is that of {}: one of them needs another name",
                attachment.interface,
                attachment.key().object_name(),
                other.object_name()
            ))),
        }
    }

    /// The other endpoint that has this one's interface, if there is one.
    fn other_holder(&self, attachment: &Attachment) -> Option<Key> {
        let key = attachment.key();
        let made = self.holders().get(&attachment.interface).cloned();
        if let Some(made) = made {
            return (made != key).then_some(made);
        }
        let state = self.parts.state.current();
        let is_other = |k: &Key, w: &WorkloadEndpoint| *k != key && w.spec.interface_name == attachment.interface;
        let mut others = state.endpoints.iter().filter(|(k, w)| is_other(k, &w.value));
        others.next().map(|(k, _)| k.clone())
    }

    fn holders(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Key>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses a former Add of this container got, else new ones.
    async fn ips(
        &self,
        request: &AddRequest,
        asked: &[IpAddr],
        attachment: &Attachment,
        existing: Option<&Record>,
    ) -> Result<Vec<IpAddr>, Failure> {
        if !request.given_ips.is_empty() {
            return addresses(&request.given_ips);
        }
        let kept = match existing.filter(|r| r.is_of(attachment)) {
            Some(record) => self.kept(record, attachment).await?,
            None => None,
        };
        match kept {
            Some(ips) => Ok(ips),
            None => self.addresses(request, asked, attachment).await,
        }
    }

    async fn make(
        &self,
        request: &AddRequest,
        (attachment, site): (&Attachment, wiring::Site),
        existing: Option<&Record>,
        ips: Vec<IpAddr>,
    ) -> Result<Made, Failure> {
        let nats = given::nats(&addresses(&request.floating_ips)?, &ips)?;
        let plan = self.plan(attachment, ips.clone(), request.mtu, request.allow_ip_forwarding)?;
        let links = Arc::clone(&self.links);
        let turn = self
            .wirings
            .acquire()
            .await
            .map_err(|e| Failure::internal(e.to_string()))?;
        let wired = blocking(move || wiring::attach(&plan, site, &links)).await?;
        drop(turn);
        let local = LocalEndpoint {
            interface: attachment.interface.clone(),
            ips: ips.clone(),
            key: attachment.key().to_string(),
        };
        self.parts.dataplane.endpoint_up(local).await?;
        let node = &self.parts.node;
        let made = record::Made {
            ips: &ips,
            mac: wired.container_mac,
            nats,
        };
        record::write(&self.recorder, node, attachment, existing, made).await?;
        self.holders().insert(attachment.interface.clone(), attachment.key());
        Ok(Made {
            host_interface: attachment.interface.clone(),
            host_mac: wiring::HOST_MAC.to_string(),
            container_mac: wired.container_mac.to_string(),
            mtu: wired.mtu,
            ips: ips.iter().map(|ip| Prefix::host(*ip).to_string()).collect(),
            routes: routes(&ips),
            ..Made::default()
        })
    }

    /// The addresses of a former Add of this container, if they are still its own.
    async fn kept(&self, record: &Record, attachment: &Attachment) -> Result<Option<Vec<IpAddr>>, Failure> {
        let own = self.parts.ipam.addresses(&attachment.handle()).await?;
        let ips = record.ips();
        Ok((!ips.is_empty() && ips.iter().all(|ip| own.contains(ip))).then_some(ips))
    }

    /// New addresses: those asked for, or one of each family wanted.
    async fn addresses(
        &self,
        request: &AddRequest,
        asked: &[IpAddr],
        attachment: &Attachment,
    ) -> Result<Vec<IpAddr>, Failure> {
        let want = self.want(attachment);
        if !asked.is_empty() {
            for ip in asked {
                self.parts.ipam.assign_ip(*ip, want.clone()).await?;
            }
            return Ok(asked.to_vec());
        }
        let four = request.assign_ipv4.then_some((IpFamily::V4, &request.ipv4_pools));
        let six = request.assign_ipv6.then_some((IpFamily::V6, &request.ipv6_pools));
        let namespace_labels = namespace::labels(&self.parts.store, &self.parts.state.current(), attachment).await?;
        let mut ips = Vec::new();
        for (family, pools) in four.into_iter().chain(six) {
            let request = ipam::Request {
                family,
                pools: pools.clone(),
                namespace_labels: namespace_labels.clone(),
                want: want.clone(),
            };
            ips.push(self.parts.ipam.assign(request).await?);
        }
        if ips.is_empty() {
            return Err(Failure::invalid(
                "neither assign_ipv4 nor assign_ipv6 is true: no address is wanted".to_owned(),
            ));
        }
        Ok(ips)
    }

    fn want(&self, attachment: &Attachment) -> Want {
        let now = jiff::Timestamp::now();
        // Go's form of a time, which Calico writes and its tools show.
        let timestamp = now
            .to_zoned(jiff::tz::TimeZone::UTC)
            .strftime("%Y-%m-%d %H:%M:%S +0000 UTC")
            .to_string();
        let mut attributes = BTreeMap::from([
            ("node".to_owned(), self.parts.node.to_string()),
            ("timestamp".to_owned(), timestamp),
        ]);
        if !attachment.pod.is_empty() {
            attributes.insert("namespace".to_owned(), attachment.namespace.clone());
            attributes.insert("pod".to_owned(), attachment.pod.clone());
        }
        Want {
            handle: attachment.handle(),
            attributes,
        }
    }

    fn plan(
        &self,
        attachment: &Attachment,
        ips: Vec<IpAddr>,
        mtu: u32,
        forwarding: bool,
    ) -> Result<wiring::Plan, Failure> {
        let missing = || Failure::invalid("CNI_NETNS is missing".to_owned());
        let state = self.parts.state.current();
        let bgp = state.node.iter().filter_map(|n| n.value.spec.bgp.as_ref());
        let own = bgp.flat_map(|b| [b.ipv4_address, b.ipv6_address]);
        Ok(wiring::Plan {
            interface: attachment.interface.clone(),
            netns: attachment.netns.clone().ok_or_else(missing)?,
            ifname: attachment.ifname.clone(),
            ips,
            mtu,
            node_addresses: own.flatten().map(|a| a.addr).collect(),
            tunnels: crate::tunnel::in_use(&state),
            forwarding,
        })
    }

    /// Removes what a failed Add may have made, as far as it can: routes, veth, record, and last the address.
    async fn undo(&self, attachment: &Attachment, only_addresses: bool) {
        let undone = if only_addresses {
            self.release(attachment).await
        } else {
            self.unmake(attachment).await
        };
        if let Err(e) = undone {
            tracing::warn!(container = %attachment.container_id, error = %e, "undoing an add failed; the runtime's DEL does it again");
        }
    }

    async fn unmake(&self, attachment: &Attachment) -> Result<(), Failure> {
        let down = self.parts.dataplane.endpoint_down(&attachment.interface).await;
        let interface = attachment.interface.clone();
        blocking(move || wiring::detach(&interface)).await?;
        if let Err(e) = down {
            // A route that would not go goes with its interface. The address is free only when nothing leads to it.
            tracing::warn!(interface = %attachment.interface, error = %e, "routes not removed before their interface");
            self.parts.dataplane.endpoint_down(&attachment.interface).await?;
        }
        record::delete(&self.parts.store, &self.recorder, attachment).await?;
        self.holders().remove(&attachment.interface);
        self.release(attachment).await
    }

    async fn release(&self, attachment: &Attachment) -> Result<(), Failure> {
        self.parts.ipam.release(&attachment.handle()).await?;
        Ok(())
    }

    /// DEL.
    pub(super) async fn del(self: Arc<Self>, request: DelRequest) -> Result<Made, Failure> {
        let attachment = Attachment::new(&self.parts.node, request.attachment)?;
        self.remove(attachment).await?;
        Ok(Made::default())
    }

    async fn remove(&self, attachment: Attachment) -> Result<(), Failure> {
        let lane = self.lanes.enter(attachment.interface.clone()).await;
        let call = self.parts.ipam.crowd().enter();
        match record::read(&self.parts.store, &attachment).await? {
            Some(record) if !record.is_of(&attachment) => {
                // A newer container of this pod has interface and record; the address was this one's own.
                self.release(&attachment).await?;
                tracing::info!(container = %attachment.container_id, "old container's address released");
            }
            None if let Some(other) = self.other_holder(&attachment) => {
                // Its Add was refused because of the interface's holder, who keeps it.
                self.release(&attachment).await?;
                tracing::info!(
                    container = %attachment.container_id, interface = %attachment.interface, holder = %other,
                    "another endpoint's interface left alone"
                );
            }
            Some(_) | None => {
                self.unmake(&attachment).await?;
                tracing::info!(container = %attachment.container_id, interface = %attachment.interface, "endpoint removed");
            }
        }
        drop((lane, call));
        // A runtime may name the pod when it adds and not when it deletes: then the record is found by the container.
        let named = Box::pin(self.others_of(&attachment));
        for other in named.await {
            Box::pin(self.remove(other)).await?;
        }
        Ok(())
    }

    /// Records of the same container and interface under another name.
    async fn others_of(&self, attachment: &Attachment) -> Vec<Attachment> {
        let state = self.parts.state.current();
        let key = attachment.key();
        let same = |w: &WorkloadEndpoint| {
            w.spec.container_id == attachment.container_id
                && w.spec.endpoint == attachment.ifname
                && w.metadata.annotations.get(NETWORK) == Some(&attachment.network)
        };
        let found = state.endpoints.iter().filter(|(k, w)| **k != key && same(&w.value));
        let mut others = Vec::new();
        for (_, endpoint) in found {
            let Some(other) = Attachment::of_record(&self.parts.node, &endpoint.value) else {
                continue;
            };
            // The state may be a moment old: only what is still stored is to be removed, or this would not end.
            if let Ok(Some(record)) = record::read(&self.parts.store, &other).await
                && record.is_of(&other)
            {
                others.push(other);
            }
        }
        others
    }

    /// CHECK.
    pub(super) async fn check(self: Arc<Self>, request: CheckRequest) -> Result<Made, Failure> {
        let attachment = Attachment::new(&self.parts.node, request.attachment)?;
        let _lane = self.lanes.enter(attachment.interface.clone()).await;
        let record = record::read(&self.parts.store, &attachment).await?;
        let name = attachment.key().object_name();
        let record = record.ok_or_else(|| Failure::differs(format!("{name} does not exist")))?;
        if !record.is_of(&attachment) {
            return Err(Failure::differs(format!(
                "{name} is of container {}, not of {}",
                record.endpoint.spec.container_id, attachment.container_id
            )));
        }
        let ips = record.ips();
        for expected in &request.expected_ips {
            let address = expected
                .split_once('/')
                .map_or(expected.as_str(), |(address, _)| address);
            if !address.parse::<IpAddr>().is_ok_and(|ip| ips.contains(&ip)) {
                let shown: String = expected.chars().take(64).collect();
                return Err(Failure::differs(format!(
                    "{name} does not have address '{}'",
                    shown.escape_debug()
                )));
            }
        }
        let plan = self.plan(&attachment, ips, 0, false)?;
        blocking(move || wiring::check(&plan)).await?;
        Ok(Made::default())
    }

    /// GC: forget every endpoint of the network that is not among the valid ones. A failure does not stop the others.
    pub(super) async fn collect(self: Arc<Self>, request: CollectRequest) -> Result<Made, Failure> {
        let valid: BTreeSet<(String, String)> = request.valid.into_iter().map(|a| (a.container_id, a.ifname)).collect();
        let state = self.state_for_add()?;
        let is_stale = |w: &WorkloadEndpoint| {
            w.metadata.annotations.get(NETWORK) == Some(&request.network)
                && !valid.contains(&(w.spec.container_id.clone(), w.spec.endpoint.clone()))
        };
        let stale = state.endpoints.values().map(|w| &*w.value).filter(|w| is_stale(w));
        let mut failures = Vec::new();
        for attachment in stale.filter_map(|w| Attachment::of_record(&self.parts.node, w)) {
            let container = attachment.container_id.clone();
            if let Err(e) = self.remove(attachment).await {
                failures.push((container, e));
            }
        }
        match failures.first() {
            None => Ok(Made::default()),
            Some((container, first)) => Err(Failure {
                message: format!(
                    "{} endpoints not collected: containers {}; {container}: {}",
                    failures.len(),
                    left(&failures),
                    first.message
                ),
                ..first.clone()
            }),
        }
    }
}

/// The containers that garbage collection has left, the first few by name.
fn left(failures: &[(String, Failure)]) -> String {
    const NAMED: usize = 10;
    let named: Vec<&str> = failures.iter().take(NAMED).map(|(c, _)| c.as_str()).collect();
    match failures.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// What the workload can reach and how, for the runtime to know.
fn routes(ips: &[IpAddr]) -> Vec<Route> {
    let via = |(is_there, destination, gateway): (bool, &str, IpAddr)| {
        is_there.then(|| Route {
            destination: destination.to_owned(),
            gateway: gateway.to_string(),
        })
    };
    let four = (ips.iter().any(IpAddr::is_ipv4), "0.0.0.0/0", wiring::GATEWAY4);
    let six = (ips.iter().any(IpAddr::is_ipv6), "::/0", wiring::GATEWAY6);
    [four, six].into_iter().filter_map(via).collect()
}
