//! What a node says of itself beside the fields that Calico's status report has: under [`NodeReport::FIELD`] of the reports that
//! lie under `/calico/felix/v2/`. Programs that do not know the field keep it and do without.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a node is, as its felix saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeReport {
    /// Does everything work that felix needs to be of use?
    pub ready: bool,
    /// What is not ready, and why.
    pub waits: Vec<String>,
    /// The version of each program that was heard.
    pub versions: BTreeMap<String, String>,
    /// The datastore revision that the node is at.
    pub revision: u64,
    /// Routes by class.
    pub routes: BTreeMap<String, RouteCount>,
    /// What is not as it shall be; of routes only the first are named.
    pub failing: Vec<FailingReport>,
    /// How many fail in all.
    pub failing_total: u64,
    /// What bird-rs says; `None`: it does not answer.
    pub bgp: Option<BgpReport>,
}

impl NodeReport {
    /// Under which a status report has this.
    pub const FIELD: &'static str = "tortie";

    /// Is this another state than that one? What passes or repeats by itself does not count: revisions, attempts.
    pub fn differs(&self, other: &NodeReport) -> bool {
        let essence = |report: &NodeReport| {
            let mut report = report.clone();
            report.revision = 0;
            for failing in &mut report.failing {
                (failing.attempts, failing.next_try) = (0, None);
            }
            report
        };
        essence(self) != essence(other)
    }
}

/// How many routes of a class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteCount {
    /// Are wanted, be they let in or not.
    pub wanted: u64,
    /// Are in the kernel as wanted.
    pub programmed: u64,
}

/// An object that is not as it shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FailingReport {
    /// Which.
    pub object: String,
    /// What the kernel says.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// RFC 3339: when it failed first, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// RFC 3339: when it is tried again, if by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try: Option<String>,
}

/// What a node's BGP daemon says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpReport {
    /// Its router id.
    pub router_id: String,
    /// RFC 3339.
    pub running_since: String,
    /// Its sessions.
    pub peers: Vec<PeerReport>,
}

/// A BGP session.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerReport {
    /// The peer's address.
    pub address: String,
    /// The protocol's name, by which Calico's kinds of peers are told.
    pub name: String,
    /// BIRD's protocol state: up, start or down.
    pub state: String,
    /// RFC 3339: since when it is in this state.
    pub since: String,
    /// The session's state (RFC 4271 section 8.2.2), and the last error.
    pub info: String,
    /// The peer's AS number.
    pub neighbor_as: u32,
    /// Ours.
    pub local_as: u32,
}

impl PeerReport {
    /// Is the session established?
    pub fn is_established(&self) -> bool {
        self.info == "Established" || self.info.starts_with("Established ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_by_itself_is_no_difference() {
        let failing = FailingReport {
            object: "route 10.0.0.0/26".into(),
            error: "EBUSY".into(),
            attempts: 1,
            ..FailingReport::default()
        };
        let report = NodeReport {
            ready: true,
            failing: vec![failing],
            failing_total: 1,
            ..NodeReport::default()
        };
        let mut later = report.clone();
        (later.revision, later.failing[0].attempts) = (7, 2);
        later.failing[0].next_try = Some("2026-05-01T10:00:00Z".into());
        assert!(later != report && !later.differs(&report));
        later.failing[0].error = "ENOBUFS".into();
        assert!(later.differs(&report));
        later = report.clone();
        later.ready = false;
        assert!(later.differs(&report));
    }

    #[test]
    fn a_report_of_another_version_is_read_as_far_as_it_is_known() {
        let text =
            r#"{"ready":true,"bgp":{"peers":[{"address":"172.30.0.12","info":"Established"}],"more":1},"later":2}"#;
        let report: NodeReport = serde_json::from_str(text).unwrap();
        assert!(report.ready && report.bgp.unwrap().peers[0].is_established());
    }
}
