//! STATUS: can an ADD succeed, and if not, do the workloads that are there suffer too?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tortie_ipam::{IpFamily, Want};
use tortie_model::{Key, Kind};
use tortie_proto::felix::Result as Made;
use tortie_typha_client::StoreError;

use super::failure::Failure;
use super::work::Work;
use crate::dataplane::manager::Summary;
use crate::ipam;
use crate::state::State;

/// How long typha, and the dataplane, may take to say how they are.
const READY_WITHIN: Duration = Duration::from_secs(2);

impl Work {
    /// Can an Add succeed? One whose addresses are given needs no pool.
    pub(super) async fn ready(self: Arc<Self>, given: bool) -> Result<Made, Failure> {
        let Err(failure) = self.can_add(given).await else {
            return Ok(Made::default());
        };
        let summary = tokio::time::timeout(READY_WITHIN, self.parts.dataplane.summary()).await;
        match summary.ok().and_then(Result::ok).and_then(|s| limits(&s)) {
            None => Err(failure),
            Some(limits) => {
                let details = match failure.details.as_str() {
                    "" => limits,
                    first => format!("{first}; {limits}"),
                };
                Err(Failure::limited(failure.message).details(details))
            }
        }
    }

    async fn can_add(&self, given: bool) -> Result<(), Failure> {
        let state = self
            .state_for_add()
            .map_err(|e| Failure::not_available(e.message).details(e.details))?;
        if !given {
            self.has_pools(&state)?;
        }
        let store = self.parts.store.with_timeout(READY_WITHIN);
        let cluster = Key::resource(Kind::ClusterInformation, None, "default");
        match store.get(&cluster.to_string()).await {
            Ok(_) | Err(StoreError::NotFound(_)) => Ok(()),
            Err(e) => Err(Failure::not_available("typha does not answer".to_owned()).details(e.to_string())),
        }
    }

    fn has_pools(&self, state: &State) -> Result<(), Failure> {
        let want = Want {
            handle: String::new(),
            attributes: BTreeMap::new(),
        };
        let request = ipam::Request {
            family: IpFamily::V4,
            pools: Vec::new(),
            namespace_labels: BTreeMap::new(),
            want,
        };
        let four = self.parts.ipam.pools(state, &request);
        let six = self.parts.ipam.pools(
            state,
            &ipam::Request {
                family: IpFamily::V6,
                ..request
            },
        );
        // A pool for some namespaces serves some ADDs.
        let selective = state.pools.values().any(|p| p.value.spec.namespace_selector.is_some());
        if let (Err(e), Err(_), false) = (four, six, selective) {
            return Err(Failure::not_available(e.to_string()));
        }
        Ok(())
    }
}

/// Why workloads that are there may not reach everything, if so: the specification's code 51 says it of a plugin that is
/// not available.
fn limits(summary: &Summary) -> Option<String> {
    match summary.failing_total {
        0 if summary.fib_synced => None,
        0 => Some("bird-rs has not said yet what routes there are".to_owned()),
        failing => Some(format!("{failing} routes are not in the kernel")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_limits_workloads() {
        let summary = |fib_synced, failing_total| Summary {
            fib_synced,
            failing_total,
            ..Summary::default()
        };
        assert_eq!(limits(&summary(true, 0)), None);
        assert!(limits(&summary(false, 0)).unwrap().contains("bird-rs"));
        assert_eq!(limits(&summary(true, 3)).unwrap(), "3 routes are not in the kernel");
    }
}
