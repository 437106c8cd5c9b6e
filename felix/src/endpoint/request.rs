//! What a caller asks, checked before anything is done: the plugin checks too, but felix trusts no caller's strings as
//! keys, paths or interface names.

use std::net::IpAddr;
use std::path::PathBuf;

use tortie_model::resource::WorkloadEndpoint;
use tortie_model::{Key, Kind, WorkloadName, interface_name};
use tortie_net::NodeName;
use tortie_netlink::link::check_name;
use tortie_proto::felix;

use super::failure::Failure;
use super::record::NETWORK;

/// Bounds in octets.
const ID_MAX: usize = 128;
const PATH_MAX: usize = 4096;
/// Addresses one attachment may ask for.
const ADDRESSES_MAX: usize = 64;

/// An attachment of this node, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) network: String,
    pub(super) container_id: String,
    pub(super) ifname: String,
    pub(super) netns: Option<PathBuf>,
    pub(super) orchestrator: Orchestrator,
    pub(super) namespace: String,
    /// Empty unless Kubernetes named one.
    pub(super) pod: String,
    /// The WorkloadEndpoint's name.
    pub(super) name: String,
    /// The host's side of the veth pair.
    pub(super) interface: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Orchestrator {
    Kubernetes,
    Cni,
}

impl Orchestrator {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Orchestrator::Kubernetes => "k8s",
            Orchestrator::Cni => "cni",
        }
    }
}

/// A letter or digit, then letters, digits, `_`, `.`, `-`.
fn check_id(field: &str, id: &str) -> Result<(), Failure> {
    let good = id.len() <= ID_MAX
        && id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if good {
        return Ok(());
    }
    let shown: String = id.chars().take(64).collect();
    let rule = "want a letter or digit, then letters, digits, '_', '.' and '-', 128 at most";
    Err(Failure::invalid(format!(
        "attachment: {field} '{}': {rule}",
        shown.escape_debug()
    )))
}

impl Attachment {
    /// Checks an attachment of `node`.
    pub(super) fn new(node: &NodeName, given: Option<felix::Attachment>) -> Result<Self, Failure> {
        let given = given.ok_or_else(|| Failure::invalid("the request names no attachment".to_owned()))?;
        check_id("network", &given.network)?;
        check_id("container_id", &given.container_id)?;
        check_name(&given.ifname).map_err(|e| Failure::invalid(format!("attachment: {e}")))?;
        // The kernel takes the first for a pattern, and the others are not for interfaces.
        if given.ifname.contains('%') || ["lo", "all", "default"].contains(&given.ifname.as_str()) {
            let shown = given.ifname.escape_debug();
            return Err(Failure::invalid(format!(
                "attachment: interface name '{shown}' cannot be used"
            )));
        }
        let orchestrator = match given.orchestrator.as_str() {
            "k8s" => Orchestrator::Kubernetes,
            "cni" => Orchestrator::Cni,
            _ => {
                return Err(Failure::invalid(
                    "attachment: orchestrator: want 'k8s' or 'cni'".to_owned(),
                ));
            }
        };
        check_id("namespace", &given.namespace)?;
        let workload = match orchestrator {
            Orchestrator::Kubernetes => {
                check_pod(&given.pod)?;
                &given.pod
            }
            Orchestrator::Cni => &given.container_id,
        };
        let netns = match given.netns.as_str() {
            "" => None,
            path if path.starts_with('/') && path.len() <= PATH_MAX => Some(PathBuf::from(path)),
            _ => return Err(Failure::invalid("attachment: netns: want an absolute path".to_owned())),
        };
        let name = WorkloadName::new(node.as_str(), orchestrator.as_str(), workload, &given.ifname)
            .map_err(|e| Failure::invalid(format!("attachment: {e}")))?
            .to_string();
        let interface = host_interface(orchestrator, &given);
        Ok(Attachment {
            network: given.network,
            container_id: given.container_id,
            ifname: given.ifname,
            netns,
            orchestrator,
            namespace: given.namespace,
            pod: given.pod,
            name,
            interface,
        })
    }

    /// The attachment that a record of this node is of; `None` for one that no attachment of ours has.
    pub(super) fn of_record(node: &NodeName, record: &WorkloadEndpoint) -> Option<Self> {
        let spec = &record.spec;
        let given = felix::Attachment {
            network: record.metadata.annotations.get(NETWORK)?.clone(),
            container_id: spec.container_id.clone(),
            ifname: spec.endpoint.clone(),
            netns: String::new(),
            orchestrator: spec.orchestrator.clone(),
            namespace: record.metadata.namespace.clone().unwrap_or_default(),
            pod: spec.pod.clone(),
        };
        Attachment::new(node, Some(given))
            .ok()
            .filter(|a| a.name == record.metadata.name)
    }

    /// The WorkloadEndpoint's key.
    pub(super) fn key(&self) -> Key {
        Key::resource(Kind::WorkloadEndpoint, Some(&self.namespace), &self.name)
    }

    /// The handle of its addresses. Calico's form; a second interface of the same container has a handle of its own.
    pub(super) fn handle(&self) -> String {
        handle(&self.network, &self.container_id, &self.ifname)
    }
}

pub(super) fn handle(network: &str, container_id: &str, ifname: &str) -> String {
    match ifname {
        "eth0" => format!("{network}.{container_id}"),
        other => format!("{network}.{container_id}.{other}"),
    }
}

/// A pod's name fits a key: an RFC 1123 subdomain.
fn check_pod(pod: &str) -> Result<(), Failure> {
    let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |l: &str| {
        let b = l.as_bytes();
        b.iter().all(|c| alnum(c) || *c == b'-') && b.first().is_some_and(alnum) && b.last().is_some_and(alnum)
    };
    if pod.len() <= 253 && pod.split('.').all(label) {
        return Ok(());
    }
    let shown: String = pod.chars().take(64).collect();
    Err(Failure::invalid(format!(
        "attachment: pod '{}' is no pod name",
        shown.escape_debug()
    )))
}

/// Calico's names: of a pod by its namespace and name, of a plain container by the first 11 digits of its id. An id that
/// is not a runtime's 64 hexadecimal digits goes through the digest, so that ids which begin alike do not meet.
fn host_interface(orchestrator: Orchestrator, given: &felix::Attachment) -> String {
    let second = |name: &str| match given.ifname.as_str() {
        "eth0" => name.to_owned(),
        other => format!("{name}.{other}"),
    };
    let id = &given.container_id;
    match orchestrator {
        Orchestrator::Kubernetes => interface_name("cali", &given.namespace, &second(&given.pod)),
        Orchestrator::Cni if id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) && given.ifname == "eth0" => {
            format!("cali{}", &id[..11])
        }
        Orchestrator::Cni => interface_name("cali", "cni", &second(id)),
    }
}

/// The addresses asked for.
pub(super) fn addresses(given: &[String]) -> Result<Vec<IpAddr>, Failure> {
    if given.len() > ADDRESSES_MAX {
        return Err(Failure::invalid(format!(
            "more than {ADDRESSES_MAX} addresses are requested"
        )));
    }
    let address = |text: &String| {
        let shown = || text.chars().take(64).collect::<String>();
        text.parse()
            .map_err(|_| Failure::invalid(format!("requested address '{}' is none", shown().escape_debug())))
    };
    given.iter().map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> felix::Attachment {
        felix::Attachment {
            network: "net".into(),
            container_id: "c1".into(),
            ifname: "eth0".into(),
            netns: "/run/netns/x".into(),
            orchestrator: "k8s".into(),
            namespace: "web".into(),
            pod: "web-0".into(),
        }
    }

    #[test]
    fn names_are_calicos() {
        let node: NodeName = "rack-2".parse().unwrap();
        let a = Attachment::new(&node, Some(given())).unwrap();
        assert_eq!(a.name, "rack--2-k8s-web--0-eth0");
        assert_eq!(a.interface, interface_name("cali", "web", "web-0"));
        assert_eq!(a.handle(), "net.c1");
        let long = felix::Attachment {
            orchestrator: "cni".into(),
            container_id: "a1".repeat(32),
            ..given()
        };
        let b = Attachment::new(&node, Some(long.clone())).unwrap();
        assert_eq!(b.interface, "calia1a1a1a1a1a");
        let second = Attachment::new(
            &node,
            Some(felix::Attachment {
                ifname: "net1".into(),
                ..long
            }),
        )
        .unwrap();
        assert_ne!(second.interface, b.interface);
        assert_ne!(second.handle(), b.handle());
        let alike = |id: &str| {
            let given = felix::Attachment {
                orchestrator: "cni".into(),
                container_id: id.into(),
                ..given()
            };
            Attachment::new(&node, Some(given)).unwrap().interface
        };
        assert_ne!(alike("demo-container-a"), alike("demo-container-b"));
        assert_eq!(alike("demo-container-a").len(), 15);
    }

    #[test]
    fn hostile_strings_are_refused() {
        let node: NodeName = "n1".parse().unwrap();
        type Change = fn(&mut felix::Attachment);
        let changes: [(&str, Change); 10] = [
            ("network", |a| a.network = "../x".into()),
            ("container_id", |a| a.container_id = "a/b".into()),
            ("interface name", |a| a.ifname = "../../x".into()),
            ("interface name", |a| a.ifname = "eth%d".into()),
            ("interface name", |a| a.ifname = "lo".into()),
            ("orchestrator", |a| a.orchestrator = "x".into()),
            ("namespace", |a| a.namespace = "a/b".into()),
            ("pod", |a| a.pod = "A".into()),
            ("pod", |a| a.pod = "x".repeat(300)),
            ("netns", |a| a.netns = "relative".into()),
        ];
        for (field, change) in changes {
            let mut given = given();
            change(&mut given);
            let e = Attachment::new(&node, Some(given)).unwrap_err();
            assert!(
                e.message.contains(field) && e.message.len() < 300,
                "{field}: {}",
                e.message
            );
        }
        assert!(Attachment::new(&node, None).is_err());
    }
}
