//! Names of WorkloadEndpoints and of their interfaces.
//!
//! A name is `<node>-<orchestrator>-<workload>-<endpoint>`, each `-` inside a part doubled, so that the single ones
//! separate. Names that begin alike need not belong together (`n1-` begins an endpoint of node `n1` and one of node
//! `n1-b`): compare parsed parts, never prefixes.

use std::fmt;
use std::str::FromStr;

use sha1::{Digest, Sha1};

use crate::resource::WorkloadEndpointSpec;

/// The parts of a WorkloadEndpoint's name. No part is empty or begins or ends with `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadName {
    node: String,
    orchestrator: String,
    workload: String,
    endpoint: String,
}

/// Not the name of a WorkloadEndpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadWorkloadName {
    /// A part is empty or has a hyphen at an end, so that it could not be told from the separator.
    #[error("{part} '{value}' cannot be part of a workload endpoint's name: it is empty, or begins or ends with '-'")]
    Part {
        /// Which field of the specification.
        part: &'static str,
        /// Its value.
        value: String,
    },
    /// Not four parts.
    #[error(
        "'{0}' is no workload endpoint's name: want <node>-<orchestrator>-<workload>-<endpoint>, inner '-' doubled"
    )]
    Syntax(String),
}

impl WorkloadName {
    /// The name of an endpoint of this orchestrator. `workload` is the pod's name for `k8s`, the container id for `cni`.
    ///
    /// # Errors
    /// [`BadWorkloadName::Part`] for a part that is empty or begins or ends with a hyphen.
    pub fn new(node: &str, orchestrator: &str, workload: &str, endpoint: &str) -> Result<Self, BadWorkloadName> {
        let part = |part: &'static str, value: &str| {
            if value.is_empty() || value.starts_with('-') || value.ends_with('-') {
                Err(BadWorkloadName::Part {
                    part,
                    value: value.to_owned(),
                })
            } else {
                Ok(value.to_owned())
            }
        };
        let workload_field = match orchestrator {
            "k8s" => "pod",
            "cni" => "containerID",
            _ => "workload",
        };
        Ok(WorkloadName {
            node: part("node", node)?,
            orchestrator: part("orchestrator", orchestrator)?,
            workload: part(workload_field, workload)?,
            endpoint: part("endpoint", endpoint)?,
        })
    }

    /// The name an endpoint with this specification must have.
    ///
    /// # Errors
    /// [`BadWorkloadName::Part`], naming the field.
    pub fn of(spec: &WorkloadEndpointSpec) -> Result<Self, BadWorkloadName> {
        let workload = match spec.orchestrator.as_str() {
            "k8s" => &spec.pod,
            "cni" => &spec.container_id,
            "libnetwork" => "libnetwork",
            _ => &spec.workload,
        };
        WorkloadName::new(&spec.node, &spec.orchestrator, workload, &spec.endpoint)
    }

    /// The node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The orchestrator.
    pub fn orchestrator(&self) -> &str {
        &self.orchestrator
    }

    /// Pod, container id or workload, by orchestrator.
    pub fn workload(&self) -> &str {
        &self.workload
    }

    /// The interface inside.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |s: &str| s.replace('-', "--");
        write!(
            f,
            "{}-{}-{}-{}",
            part(&self.node),
            part(&self.orchestrator),
            part(&self.workload),
            part(&self.endpoint)
        )
    }
}

impl FromStr for WorkloadName {
    type Err = BadWorkloadName;

    fn from_str(s: &str) -> Result<Self, BadWorkloadName> {
        let bad = || BadWorkloadName::Syntax(s.to_owned());
        let mut parts = vec![String::new()];
        let mut rest = s.chars().peekable();
        while let Some(c) = rest.next() {
            if c == '-' && rest.next_if_eq(&'-').is_none() {
                parts.push(String::new());
            } else {
                parts
                    .last_mut()
                    .expect("invariant: there is always a last part")
                    .push(c);
            }
        }
        let [node, orchestrator, workload, endpoint] = <[String; 4]>::try_from(parts).map_err(|_| bad())?;
        WorkloadName::new(&node, &orchestrator, &workload, &endpoint).map_err(|_| bad())
    }
}

/// Name of the host's side of a pod's veth pair: the prefix and 11 hexadecimal digits of the SHA-1 of
/// `<namespace>.<pod>`. With the usual prefix `cali` it has the 15 characters Linux allows.
pub fn interface_name(prefix: &str, namespace: &str, pod: &str) -> String {
    let digest = Sha1::digest(format!("{namespace}.{pod}"));
    let mut name = prefix.to_owned();
    name.extend(digest.iter().flat_map(|b| [b >> 4, b & 15]).take(11).map(|nibble| {
        char::from_digit(u32::from(nibble), 16).expect("invariant: four bits are one hexadecimal digit")
    }));
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn calicos_example() {
        let name = WorkloadName::new("rack-2", "k8s", "web-0", "eth0").unwrap();
        assert_eq!(name.to_string(), "rack--2-k8s-web--0-eth0");
        for bad in ["", "a-b-c", "a-b-c-d-e", "a---b-c-d", "-a-b-c-d"] {
            assert!(bad.parse::<WorkloadName>().is_err(), "{bad}");
        }
        let e = WorkloadName::new("n1", "k8s", "web-", "eth0").unwrap_err().to_string();
        assert!(e.starts_with("pod 'web-' cannot be part"), "{e}");
    }

    #[test]
    fn interface_names() {
        assert_eq!(interface_name("cali", "default", "web-0").len(), 15);
        assert_ne!(interface_name("cali", "a", "b.c"), interface_name("cali", "a", "b-c"));
        assert_eq!(interface_name("cali", "web", "web-0"), "calic3928f99cbc"); // printf web.web-0 | sha1sum
    }

    proptest! {
        #[test]
        fn names_round_trip(node in "[a-z](-?[a-z]){0,4}", workload in "[a-z](-{0,3}[a-z.]){0,4}", endpoint in "[a-z]{1,3}") {
            let name = WorkloadName::new(&node, "k8s", &workload, &endpoint).unwrap();
            prop_assert_eq!(name.to_string().parse::<WorkloadName>().unwrap(), name);
        }
    }
}
