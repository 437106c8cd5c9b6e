//! The report of ipam check as a file, in the form of calicoctl's, and releasing what reports found lost.
//!
//! What is lost at one moment may be an address that is just being given. So a report counts only while the datastore is
//! locked and nobody has unlocked it since, and several reports only for what all of them say. An address is released while
//! it is given to whom, and as of when, the report says, and not otherwise.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tortie_ipam::{Setting, delete_empty_handle, release_address};
use tortie_ipam_client::drive;
use tortie_kit::file::write_atomic;
use tortie_typha_client::Store;

use super::view::{Allocation, Cluster};
use crate::output::say;

/// Readable by its owner alone: it names workloads of every namespace.
const FILE_MODE: u32 = 0o600;

/// What is written to the file.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    version: String,
    #[serde(default, rename = "clusterGUID")]
    cluster_guid: String,
    #[serde(default)]
    datastore_locked: bool,
    #[serde(default)]
    cluster_information_revision: String,
    #[serde(default)]
    cluster_type: String,
    allocations: BTreeMap<IpAddr, Vec<Allocated>>,
    #[serde(default)]
    leaked_handles: Vec<LeakedHandle>,
}

/// An address that is given to somebody; twice under one address when two blocks give it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Allocated {
    ip: IpAddr,
    #[serde(default)]
    handle: Option<String>,
    #[serde(default)]
    sequence_number: Option<u64>,
    #[serde(default)]
    pod: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    node: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    creation_timestamp: String,
    in_use: bool,
    #[serde(default)]
    borrowed: bool,
    #[serde(default)]
    cooling_down: bool,
    #[serde(default)]
    owners: Vec<String>,
}

/// A handle under which there is no address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LeakedHandle {
    id: String,
    #[serde(default)]
    revision: String,
}

impl Allocated {
    fn of(cluster: &Cluster, a: &Allocation<'_>) -> Self {
        let said = |name: &str| a.said(name).unwrap_or_default().to_owned();
        let users = cluster.users.get(&a.ip);
        Allocated {
            ip: a.ip,
            handle: a.attribute.handle_id.clone(),
            sequence_number: a.sequence_number(),
            pod: said("pod"),
            namespace: said("namespace"),
            node: said("node"),
            kind: said("type"),
            creation_timestamp: said("timestamp"),
            in_use: users.is_some(),
            borrowed: a.is_borrowed(),
            cooling_down: a.is_cooling(),
            owners: users.into_iter().flatten().cloned().collect(),
        }
    }

    fn is_lost(&self) -> bool {
        !self.in_use && !self.cooling_down
    }

    fn is_same_as(&self, other: &Allocated) -> bool {
        (self.ip, &self.handle, self.sequence_number) == (other.ip, &other.handle, other.sequence_number)
    }
}

impl Report {
    fn of(cluster: &Cluster) -> Self {
        let mut report = Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Report::default()
        };
        if let Some((information, revision)) = &cluster.information {
            let spec = &information.spec;
            report.cluster_guid = spec.cluster_guid.clone().unwrap_or_default();
            report.cluster_type = spec.cluster_type.clone().unwrap_or_default();
            report.datastore_locked = spec.datastore_ready == Some(false);
            report.cluster_information_revision = revision.to_string();
        }
        for allocation in cluster.allocated() {
            let entry = report.allocations.entry(allocation.ip).or_default();
            entry.push(Allocated::of(cluster, &allocation));
        }
        let named = |id: &&String| {
            let its = |a: Allocation<'_>| a.attribute.handle_id.as_ref() == Some(id);
            cluster.allocated().any(its)
        };
        let empty = cluster.handles.keys().filter(|id| !named(id));
        report.leaked_handles = empty
            .map(|id| LeakedHandle {
                id: id.clone(),
                revision: cluster
                    .handle_revisions
                    .get(id)
                    .map_or_else(String::new, u64::to_string),
            })
            .collect();
        report
    }

    fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no report of ipam check", file.display()))
    }

    fn has_lost(&self, address: &Allocated) -> bool {
        let same = self.allocations.get(&address.ip).into_iter().flatten();
        same.filter(|a| a.is_lost()).any(|a| a.is_same_as(address))
    }

    /// May this be acted upon, with the cluster as `now` is?
    fn holds(&self, now: &Report, force: bool) -> Result<()> {
        if self.version != now.version {
            bail!("it is of release {}, this is {}", self.version, now.version);
        }
        if self.cluster_guid != now.cluster_guid {
            bail!("it is of another cluster ({})", self.cluster_guid);
        }
        if force {
            return Ok(());
        }
        if !self.datastore_locked || !now.datastore_locked {
            bail!("the datastore was not locked then, or is not now: lock it, and check again (or use --force)");
        }
        if self.cluster_information_revision != now.cluster_information_revision {
            bail!("the datastore was unlocked since: check again (or use --force)");
        }
        Ok(())
    }
}

/// Writes the report.
pub(super) fn write(cluster: &Cluster, file: &Path) -> Result<()> {
    let json = serde_json::to_vec_pretty(&Report::of(cluster)).context("cannot write the report")?;
    write_atomic(file, &json, FILE_MODE).context("cannot write the report")
}

/// Releases what all the reports found lost.
pub(super) async fn release(
    store: &Store,
    (cluster, setting): (&Cluster, Setting),
    files: &[PathBuf],
    force: bool,
) -> Result<()> {
    let now = Report::of(cluster);
    let mut reports = Vec::with_capacity(files.len());
    for file in files {
        let report = Report::read(file)?;
        report.holds(&now, force).with_context(|| file.display().to_string())?;
        reports.push(report);
    }
    let mut released = 0;
    for allocation in cluster.allocated() {
        let address = Allocated::of(cluster, &allocation);
        if !address.is_lost() || !reports.iter().all(|r| r.has_lost(&address)) {
            continue;
        }
        let plan = release_address(setting.clone(), allocation.block.cidr, address.ip, address.handle);
        if drive(store, plan).await? {
            say(&format!("Successfully released IP address {}", address.ip))?;
            released += 1;
        }
    }
    let empty = |id: &String| reports.iter().all(|r| r.leaked_handles.iter().any(|h| h.id == *id));
    let handles = now.leaked_handles.into_iter().map(|h| h.id).filter(empty);
    let mut deleted = 0;
    for id in handles {
        if drive(store, delete_empty_handle(id)).await? {
            deleted += 1;
        }
    }
    say(&format!("Released {released} IPs and {deleted} handles"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_only_for_its_own_cluster_while_it_is_locked() {
        let now = Report {
            version: "1".into(),
            cluster_guid: "g".into(),
            datastore_locked: true,
            cluster_information_revision: "7".into(),
            ..Report::default()
        };
        now.holds(&now, false).unwrap();
        let mut wrong = [(); 4].map(|()| now.clone());
        wrong[0].version = "2".into();
        wrong[1].cluster_guid = "h".into();
        wrong[2].datastore_locked = false;
        wrong[3].cluster_information_revision = "6".into();
        let want = [
            (false, "of release 2"),
            (false, "another cluster (h)"),
            (true, "not locked"),
            (true, "unlocked since"),
        ];
        for (report, (forced, said)) in wrong.into_iter().zip(want) {
            let e = report.holds(&now, false).unwrap_err().to_string();
            assert!(e.contains(said), "{e}");
            assert_eq!(report.holds(&now, true).is_ok(), forced, "{said}");
        }
    }
}
