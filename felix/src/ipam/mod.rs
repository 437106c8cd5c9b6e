//! This node's address management: `tortie-ipam`'s plans, driven through typha.
//!
//! | task | number | in | out |
//! |---|---|---|---|
//! | `lane` | 1 | [`Job`]s (bounded queue) | one answer each |
//! | `claims` | 1 | the state | [`Job::RestoreClaim`] |
//!
//! One plan runs at a time, so the node never competes with itself; requests that come together and draw from the same
//! pools are put into one plan and share its write, and so are releases ([`crate::gather`]). A plan that fails, or is dropped with felix, leaves nothing that
//! releasing its handles does not find.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tortie_ipam::{
    Assigned, IpFamily, IpamError, Plan, Pool, PoolError, PoolQuery, Setting, Want, addresses_of_handle, assign_ip,
    auto_assign, choose, is_enabled, release_handles, restore_affinity,
};
use tortie_model::resource::AllowedUse;
use tortie_net::{NodeName, Prefix};
use tortie_typha_client::Store;

use crate::gather::{Crowd, Waiting, gather};
use crate::state::{State, StateHandle};

mod claims;

/// Requests that may wait; more are told to come again.
const QUEUE: usize = 1024;
/// Requests put into one plan: a block's worth.
const BATCH: usize = 64;
/// How long one plan may take. Every write of it has its own, shorter limit.
const PLAN_WITHIN: Duration = Duration::from_secs(30);

/// Why IPAM did not do it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The store did not answer, or felix is stopping or busy: the same may succeed later.
    #[error("{0}")]
    TryLater(String),
    /// No address, and trying again without a change elsewhere does not help.
    #[error("{0}")]
    NoAddress(String),
    /// The request, or what is stored, is at odds with itself.
    #[error("{0}")]
    Refused(String),
}

impl From<IpamError> for Failure {
    fn from(e: IpamError) -> Self {
        let said = e.to_string();
        match e {
            IpamError::Store(failure) if !failure.retryable => Failure::Refused(said),
            IpamError::Store(_) | IpamError::Contended { .. } => Failure::TryLater(said),
            IpamError::Full(_) | IpamError::NotInPool(_) | IpamError::Taken { .. } | IpamError::NotOurs { .. } => {
                Failure::NoAddress(said)
            }
            IpamError::NotIts { .. } => Failure::Refused(said),
        }
    }
}

impl From<PoolError> for Failure {
    fn from(e: PoolError) -> Self {
        Failure::NoAddress(e.to_string())
    }
}

/// What an address is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The family.
    pub family: IpFamily,
    /// Names or CIDRs of pools; empty: by selector.
    pub pools: Vec<String>,
    /// The labels of the workload's namespace, for pools that select by them.
    pub namespace_labels: BTreeMap<String, String>,
    /// Whose it will be.
    pub want: Want,
}

type Answer<T> = oneshot::Sender<Result<T, Failure>>;

enum Job {
    Assign(Vec<Pool>, Want, Answer<IpAddr>),
    AssignIp(IpAddr, Want, Answer<()>),
    Release(String, Answer<Vec<IpAddr>>),
    Addresses(String, Answer<Vec<IpAddr>>),
    RestoreClaim(Prefix, Answer<bool>),
}

/// A handle on this node's address management. Cheap to clone; the task ends with the last one.
#[derive(Debug, Clone)]
pub struct Ipam {
    node: NodeName,
    state: StateHandle,
    crowd: Crowd,
    jobs: mpsc::Sender<Waiting<Job>>,
}

impl Ipam {
    /// Starts the task. Must be called inside a tokio runtime.
    pub fn start(node: NodeName, store: Store, state: StateHandle) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let crowd = Crowd::default();
        let lane = Lane {
            node: node.clone(),
            store,
            state: state.clone(),
        };
        tokio::spawn(lane.run(queue, crowd.clone()));
        tokio::spawn(claims::keep(state.clone(), crowd.clone(), jobs.downgrade()));
        Ipam {
            node,
            state,
            crowd,
            jobs,
        }
    }

    /// The calls that are being served: those that ask for addresses wait for one another.
    pub(crate) fn crowd(&self) -> &Crowd {
        &self.crowd
    }

    /// One address.
    ///
    /// # Errors
    /// [`Failure`]. After [`Failure::TryLater`] the address may have been given: release the handle.
    pub async fn assign(&self, request: Request) -> Result<IpAddr, Failure> {
        let state = self.state.current();
        let pools = self.pools(&state, &request)?;
        self.ask(|answer| Job::Assign(pools, request.want, answer)).await
    }

    /// One address of these pools.
    ///
    /// # Errors
    /// As [`Ipam::assign`].
    pub async fn assign_from(&self, pools: Vec<Pool>, want: Want) -> Result<IpAddr, Failure> {
        self.ask(|answer| Job::Assign(pools, want, answer)).await
    }

    /// This very address.
    ///
    /// # Errors
    /// As [`Ipam::assign`].
    pub async fn assign_ip(&self, ip: IpAddr, want: Want) -> Result<(), Failure> {
        self.ask(|answer| Job::AssignIp(ip, want, answer)).await
    }

    /// Releases every address of a handle, and gives them. Nothing there is success.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn release(&self, handle: &str) -> Result<Vec<IpAddr>, Failure> {
        self.ask(|answer| Job::Release(handle.to_owned(), answer)).await
    }

    /// The addresses of a handle.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn addresses(&self, handle: &str) -> Result<Vec<IpAddr>, Failure> {
        self.ask(|answer| Job::Addresses(handle.to_owned(), answer)).await
    }

    /// Which pools an address of this family would come from.
    ///
    /// # Errors
    /// [`Failure::NoAddress`] when there is none.
    pub fn pools(&self, state: &State, request: &Request) -> Result<Vec<Pool>, Failure> {
        let node = state.node.as_ref().ok_or_else(|| {
            Failure::NoAddress(format!(
                "Node({}) does not exist in the datastore: create it first",
                self.node
            ))
        })?;
        let query = PoolQuery {
            node: &self.node,
            family: request.family,
            named: &request.pools,
            node_labels: &node.value.metadata.labels,
            namespace_labels: &request.namespace_labels,
            usage: AllowedUse::Workload,
        };
        Ok(choose(state.pools.values().map(|p| &*p.value), &query)?)
    }

    async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T, Failure> {
        let stopping = || Failure::TryLater("felix is stopping".to_owned());
        let (answer, done) = oneshot::channel();
        let job = self.crowd.waiting(job(answer));
        self.jobs.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => Failure::TryLater(format!("{QUEUE} requests wait for addresses already")),
            TrySendError::Closed(_) => stopping(),
        })?;
        done.await.unwrap_or_else(|_| Err(stopping()))
    }
}

/// Requests that one plan serves.
struct Batch {
    pools: Vec<Pool>,
    wants: Vec<Want>,
    answers: Vec<Answer<IpAddr>>,
}

impl Batch {
    fn push(&mut self, want: Want, answer: Answer<IpAddr>) {
        self.wants.push(want);
        self.answers.push(answer);
    }
}

struct Lane {
    node: NodeName,
    store: Store,
    state: StateHandle,
}

impl Lane {
    async fn run(self, mut queue: mpsc::Receiver<Waiting<Job>>, crowd: Crowd) {
        while let Some(jobs) = gather(&mut queue, &crowd, BATCH).await {
            let mut batches: Vec<Batch> = Vec::new();
            let mut releases: Vec<(String, Answer<Vec<IpAddr>>)> = Vec::new();
            let mut others = Vec::new();
            for job in jobs {
                match job {
                    Job::Assign(pools, want, answer) => {
                        let same = batches.iter_mut().find(|b| b.pools == pools);
                        match same {
                            Some(batch) => batch.push(want, answer),
                            None => batches.push(Batch {
                                pools,
                                wants: vec![want],
                                answers: vec![answer],
                            }),
                        }
                    }
                    Job::Release(handle, answer) => releases.push((handle, answer)),
                    other => others.push(other),
                }
            }
            // Releases go first: what they free may be what the others need.
            self.release(releases).await;
            for job in others {
                self.other(job).await;
            }
            for batch in batches {
                self.assign(batch).await;
            }
        }
    }

    async fn other(&self, job: Job) {
        match job {
            Job::AssignIp(ip, want, answer) => {
                let plan = assign_ip(self.setting(), self.enabled_pools(), ip, want);
                let _ = answer.send(self.finish(plan).await);
            }
            Job::Addresses(handle, answer) => {
                let _ = answer.send(self.finish(addresses_of_handle(handle)).await);
            }
            Job::RestoreClaim(block, answer) => {
                let plan = restore_affinity(self.setting(), block);
                let _ = answer.send(self.finish(plan).await);
            }
            // These are served together.
            Job::Assign(..) | Job::Release(..) => {}
        }
    }

    async fn release(&self, releases: Vec<(String, Answer<Vec<IpAddr>>)>) {
        if releases.is_empty() {
            return;
        }
        let (handles, answers): (Vec<String>, Vec<_>) = releases.into_iter().unzip();
        let results = match self.released(handles.clone()).await {
            Ok(released) => released.into_iter().map(Ok).collect(),
            // What is wrong with one document does not hold up the others.
            Err(Failure::Refused(_)) if handles.len() > 1 => {
                let mut results = Vec::with_capacity(handles.len());
                for handle in handles {
                    let released = self.released(vec![handle]).await;
                    results.push(released.map(|r| r.into_iter().flatten().collect()));
                }
                results
            }
            Err(failure) => vec![Err(failure); answers.len()],
        };
        for (answer, result) in answers.into_iter().zip(results) {
            let _ = answer.send(result);
        }
    }

    async fn released(&self, handles: Vec<String>) -> Result<Vec<Vec<IpAddr>>, Failure> {
        self.finish(release_handles(self.setting(), handles)).await
    }

    async fn assign(&self, batch: Batch) {
        let Batch { pools, wants, answers } = batch;
        let results = match self.assigned(&pools, wants.clone()).await {
            // As with releases. What the failed plan has given already is released with its handle.
            Err(Failure::Refused(_)) if wants.len() > 1 => {
                let mut results = Vec::with_capacity(wants.len());
                for want in wants {
                    let assigned = self.assigned(&pools, vec![want]).await;
                    results.extend(assigned.unwrap_or_else(|failure| vec![Err(failure)]));
                }
                results
            }
            Err(failure) => vec![Err(failure); answers.len()],
            Ok(results) => results,
        };
        for (answer, result) in answers.into_iter().zip(results) {
            // Whoever asked may have gone; what it got is released by its handle.
            let _ = answer.send(result);
        }
    }

    /// One result for each want.
    async fn assigned(&self, pools: &[Pool], wants: Vec<Want>) -> Result<Vec<Result<IpAddr, Failure>>, Failure> {
        let count = wants.len();
        let plan = auto_assign(self.setting(), pools.to_vec(), wants);
        let Assigned { addresses, shortage } = self.finish(plan).await?;
        let none = || Failure::NoAddress(shortage.as_ref().map_or_else(String::new, ToString::to_string));
        let mut addresses = addresses.into_iter();
        Ok((0..count).map(|_| addresses.next().ok_or_else(none)).collect())
    }

    async fn finish<T>(&self, plan: Plan<Result<T, IpamError>>) -> Result<T, Failure> {
        match tokio::time::timeout(PLAN_WITHIN, tortie_ipam_client::drive(&self.store, plan)).await {
            Ok(result) => result.map_err(Failure::from),
            Err(_) => Err(Failure::TryLater(format!(
                "IPAM gave up after {} s",
                PLAN_WITHIN.as_secs()
            ))),
        }
    }

    /// Every pool from which an address may be asked for by name.
    fn enabled_pools(&self) -> Vec<Pool> {
        let state = self.state.current();
        let pools = state.pools.values().map(|p| &*p.value).filter(|p| is_enabled(p));
        let pool = |p: &tortie_model::resource::IpPool| Pool {
            name: p.metadata.name.clone(),
            cidr: p.spec.cidr,
            block_size: p.spec.block_size(),
        };
        pools
            .filter(|p| p.spec.allows(AllowedUse::Workload))
            .map(pool)
            .collect()
    }

    fn setting(&self) -> Setting {
        let state = self.state.current();
        let networks = state
            .reservations
            .values()
            .flat_map(|r| r.value.spec.reserved_cidrs.iter());
        Setting {
            node: self.node.clone(),
            now: Timestamp::now(),
            config: state
                .ipam_config
                .as_ref()
                .map(|c| (*c.value).clone())
                .unwrap_or_default(),
            reservations: networks.map(|n| n.network()).collect(),
        }
    }
}
