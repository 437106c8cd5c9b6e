//! What felix reports of its node and of the endpoints there: the keys under [`REPORTS`] and their documents.
//!
//! Two keys say how felix is. `status` is removed by the datastore when felix does not renew it, so that who looks sees
//! which nodes are alive; `last_reported_status` stays. Nothing in Tortie acts on them; they are for people and other programs.

use std::fmt;

use serde::{Deserialize, Serialize};
use tortie_net::NodeName;

use crate::meta::Extra;
use crate::scalar::text_enum;

/// Under which felix's reports lie, by region and node.
pub const REPORTS: &str = "/calico/felix/v2/";

/// The key of a report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportKey {
    /// The region of the cluster, which only OpenStack has; `None`: `no-region`.
    pub region: Option<String>,
    /// Whose report.
    pub node: NodeName,
    /// Of what.
    pub of: ReportOf,
}

/// What a report is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportOf {
    /// Of felix itself; expires: see [`ReportKey::expires`].
    Status,
    /// The same, and stays.
    LastStatus,
    /// Of a workload's endpoint.
    Endpoint {
        /// `k8s`, say.
        orchestrator: String,
        /// `<namespace>/<pod>` for Kubernetes.
        workload: String,
        /// `eth0`, say.
        endpoint: String,
    },
}

impl ReportKey {
    /// A report of felix on this node, outside of any region.
    pub fn new(node: NodeName, of: ReportOf) -> Self {
        ReportKey { region: None, node, of }
    }

    /// Does its document go away unless it is written again? Then every write of it says after which time.
    pub fn expires(&self) -> bool {
        self.of == ReportOf::Status
    }

    pub(crate) fn parse(rest: &str) -> Result<Self, &'static str> {
        const WANT: &str = "want <region>/host/<node>/status, .../last_reported_status or \
                            .../workload/<orchestrator>/<workload>/endpoint/<endpoint>";
        let parts: Vec<&str> = rest.split('/').collect();
        let [region, "host", node, of @ ..] = parts.as_slice() else {
            return Err(WANT);
        };
        let region = match (*region, region.strip_prefix("region-")) {
            ("no-region", _) => None,
            (_, Some(name)) if !name.is_empty() => Some(name.to_owned()),
            _ => return Err("want the region as no-region or region-<name>"),
        };
        let node = node.parse().map_err(|_| "bad node name")?;
        let of = match of {
            ["status"] => ReportOf::Status,
            ["last_reported_status"] => ReportOf::LastStatus,
            ["workload", orchestrator, workload, "endpoint", endpoint] => ReportOf::Endpoint {
                orchestrator: unescape(orchestrator)?,
                workload: unescape(workload)?,
                endpoint: unescape(endpoint)?,
            },
            _ => return Err(WANT),
        };
        Ok(ReportKey { region, node, of })
    }

    pub(crate) fn object_name(&self) -> String {
        let node = &self.node;
        match &self.of {
            ReportOf::Status => format!("StatusReport({node})"),
            ReportOf::LastStatus => format!("LastStatusReport({node})"),
            ReportOf::Endpoint {
                orchestrator,
                workload,
                endpoint,
            } => format!("EndpointReport({node}/{orchestrator}/{workload}/{endpoint})"),
        }
    }
}

impl fmt::Display for ReportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.region {
            None => write!(f, "{REPORTS}no-region/host/{}/", self.node)?,
            Some(region) => write!(f, "{REPORTS}region-{region}/host/{}/", self.node)?,
        }
        match &self.of {
            ReportOf::Status => f.write_str("status"),
            ReportOf::LastStatus => f.write_str("last_reported_status"),
            ReportOf::Endpoint {
                orchestrator,
                workload,
                endpoint,
            } => {
                let [o, w, e] = [orchestrator, workload, endpoint].map(|part| escape(part));
                write!(f, "workload/{o}/{w}/endpoint/{e}")
            }
        }
    }
}

/// As Calico does it with names that may hold the separator.
fn escape(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2f")
}

fn unescape(part: &str) -> Result<String, &'static str> {
    let plain = part.replace("%2f", "/").replace("%25", "%");
    if !plain.is_empty() && escape(&plain) == part {
        Ok(plain)
    } else {
        Err("an empty part, or a '%' that is not written %25 and no %2f")
    }
}

/// How felix is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// RFC 3339: when felix said so.
    pub time: String,
    /// For how long it runs, in seconds.
    pub uptime: f64,
    /// Is it the first report since it runs?
    pub first_update: bool,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// How an endpoint is.
    EndpointState, "endpoint status" {
        /// It is programmed, and its interface is up.
        Up = "up",
        /// Its interface is down or not there.
        Down = "down",
        /// It could not be programmed.
        Error = "error",
    }
}

/// How a workload's endpoint is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointReport {
    /// How.
    pub status: EndpointState,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Object, decode};
    use proptest::prelude::*;

    #[test]
    fn calicos_keys() {
        let endpoint = "/calico/felix/v2/region-eu-1/host/n1/workload/k8s/web%2fweb-0/endpoint/eth0%25";
        for (text, name) in [
            ("/calico/felix/v2/no-region/host/n1/status", "StatusReport(n1)"),
            (
                "/calico/felix/v2/no-region/host/n1/last_reported_status",
                "LastStatusReport(n1)",
            ),
            (endpoint, "EndpointReport(n1/k8s/web/web-0/eth0%)"),
        ] {
            let key: Key = text.parse().unwrap();
            assert_eq!((key.to_string().as_str(), key.object_name().as_str()), (text, name));
        }
        let key = ReportKey::new("n1".parse().unwrap(), ReportOf::Status);
        assert_eq!(key.to_string(), "/calico/felix/v2/no-region/host/n1/status");
        assert!(key.expires());
        for wrong in [
            "",
            "no-region/host/n1",
            "no-region/host/n1/uptime",
            "no-region/host/N1/status",
            "region-/host/n1/status",
            "eu/host/n1/status",
            "no-region/node/n1/status",
            "no-region/host/n1/status/x",
            "no-region/host/n1/workload/k8s/a%/endpoint/eth0",
            "no-region/host/n1/workload/k8s//endpoint/eth0",
            "no-region/host/n1/workload/k8s/a%2F/endpoint/eth0",
        ] {
            assert!(format!("{REPORTS}{wrong}").parse::<Key>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn calicos_documents() {
        let status: Key = "/calico/felix/v2/no-region/host/n1/status".parse().unwrap();
        let json = br#"{"time":"2026-05-01T10:00:00Z","uptime":12.3,"first_update":false,"later":1}"#;
        let Object::StatusReport(report) = decode(&status, json).unwrap() else {
            panic!("another object")
        };
        assert_eq!(
            (report.uptime, report.first_update, report.extra.len()),
            (12.3, false, 1)
        );
        assert_eq!(serde_json::to_vec(&report).unwrap(), json);
        let endpoint: Key = "/calico/felix/v2/no-region/host/n1/workload/k8s/a/endpoint/b"
            .parse()
            .unwrap();
        let report = decode(&endpoint, br#"{"status":"up"}"#).unwrap();
        assert!(matches!(report, Object::EndpointReport(r) if r.status == EndpointState::Up));
        let wrong = decode(&endpoint, br#"{"status":"gone"}"#).unwrap_err();
        assert!(
            wrong.to_string().contains("gone") && wrong.to_string().contains("down"),
            "{wrong}"
        );
    }

    proptest! {
        #[test]
        fn any_name_has_a_key(parts in ["[ -~]{1,9}", "[ -~]{1,9}", "[ -~]{1,9}"]) {
            let [orchestrator, workload, endpoint] = parts;
            let of = ReportOf::Endpoint { orchestrator, workload, endpoint };
            let key = Key::from(ReportKey::new("n1".parse().unwrap(), of));
            prop_assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
        }

        #[test]
        fn what_parses_formats_back(text in "/calico/felix/v2/(no-region|region-a|x)/host/n1/(status|workload/[a%25f/]{1,5}/endpoint/[%a-]{1,3})") {
            if let Ok(key) = text.parse::<Key>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
