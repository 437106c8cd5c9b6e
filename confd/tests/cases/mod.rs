//! The golden cases of tests/golden/confd: clusters as YAML.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use confd::state::{ClusterState, Secret};
use confd::view::{Family, ReadyEndpoint, SecretRef, Service};
use serde::Deserialize;
use serde_json::Value;
use tortie_model::{Key, Kind, Owner};
use tortie_net::{NodeName, Prefix};

/// One case's input. Resource number i (from 1) has revision i; affinities follow.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Input {
    /// What the case is about.
    #[expect(dead_code, reason = "for readers of the file")]
    about: String,
    node: NodeName,
    #[serde(default)]
    use_pod_cidr: bool,
    #[serde(default = "auto")]
    router_id: String,
    /// State by network; `confirmed`, `pending`, ..
    #[serde(default)]
    affinities: BTreeMap<Prefix, String>,
    /// `name/key` -> password.
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    #[serde(default)]
    services: BTreeMap<String, Announced>,
    #[serde(default)]
    resources: Vec<Value>,
}

/// A service, by `namespace/name`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[derive(Default)]
struct Announced {
    cluster: Vec<IpAddr>,
    external: Vec<IpAddr>,
    balancer: Vec<IpAddr>,
    local: bool,
    /// Nodes with ready endpoints, by family.
    ready_v4: Vec<NodeName>,
    ready_v6: Vec<NodeName>,
}

impl Announced {
    fn service(self, revision: u64) -> Service {
        let of = |family, nodes: Vec<NodeName>| nodes.into_iter().map(move |n| ReadyEndpoint { family, node: Some(n) });
        Service {
            revision,
            cluster_ips: self.cluster,
            external_ips: self.external,
            load_balancer_ips: self.balancer,
            local_only: self.local,
            ready: of(Family::Ipv4, self.ready_v4)
                .chain(of(Family::Ipv6, self.ready_v6))
                .collect(),
        }
    }
}

fn auto() -> String {
    "auto".to_owned()
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/confd")
}

/// Their directories, by name.
pub(crate) fn cases() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(golden())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    all.sort();
    all
}

/// The state, and how the BGP identifier is chosen.
pub(crate) fn load(case: &Path) -> (ClusterState, String) {
    let path = case.join("input.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let input: Input = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut state = ClusterState::new(input.node.clone());
    state.use_pod_cidr = input.use_pod_cidr;
    let mut revision = 0;
    for resource in input.resources {
        revision += 1;
        let kind = Kind::from_name(resource["kind"].as_str().unwrap()).unwrap();
        let meta = &resource["metadata"];
        let key = Key::resource(kind, meta["namespace"].as_str(), meta["name"].as_str().unwrap());
        assert!(
            state.set(&key.to_string(), resource.to_string().as_bytes(), revision),
            "{key} changes nothing"
        );
    }
    for (cidr, affinity) in input.affinities {
        revision += 1;
        let key = Key::Affinity {
            owner: Owner::Host(input.node.clone()),
            cidr,
        };
        let json = format!(r#"{{"state":"{affinity}","deleted":false}}"#);
        assert!(state.set(&key.to_string(), json.as_bytes(), revision));
    }
    for (name, service) in input.services {
        revision += 1;
        state.services.insert(name, service.service(revision));
    }
    for (id, password) in input.secrets {
        let (name, key) = id.split_once('/').unwrap();
        state.secrets.insert(
            SecretRef {
                name: name.into(),
                key: key.into(),
            },
            Secret(password),
        );
    }
    (state, input.router_id)
}
