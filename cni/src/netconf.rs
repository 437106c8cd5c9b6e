//! The network configuration on standard input: Calico's fields, ours, and the specification's.
//!
//! A field that means nothing here is named in a warning, never an error: a newer configuration, or one written for
//! Calico, still works. A field with a wrong type or value is an error that names it.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::annotations::Wishes;
use crate::environment::is_id;
use crate::error::{CniError, Code, shown};
use crate::version::SpecVersion;

/// Where felix is when the configuration does not say.
pub(crate) const DEFAULT_FELIX: &str = "unix:/run/tortie/felix.sock";

/// Fields of the specification and of Calico that are understood or deliberately without effect (felix holds what they
/// configure in Calico: the datastore, the node's name, the logs).
const KNOWN: &[&str] = &[
    "args",
    "capabilities",
    "cni.dev/valid-attachments",
    "cni.dev/attachments",
    "cniVersion",
    "container_settings",
    "dataplane_options",
    "datastore_type",
    "device_type",
    "disableCheck",
    "disableGC",
    "dns",
    "endpoint_status_dir",
    "etcd_authority",
    "etcd_ca_cert_file",
    "etcd_cert_file",
    "etcd_discovery_srv",
    "etcd_endpoints",
    "etcd_key_file",
    "etcd_scheme",
    "feature_control",
    "felix",
    "hostname",
    "include_default_routes",
    "ipMasq",
    "ipam",
    "ipam_lock_file",
    "kubernetes",
    "log_file_max_age",
    "log_file_max_count",
    "log_file_max_size",
    "log_file_path",
    "log_level",
    "mtu",
    "name",
    "nodename",
    "nodename_file",
    "nodename_file_optional",
    "num_queues",
    "policy",
    "policy_setup_timeout_seconds",
    "prevResult",
    "readiness_gates",
    "require_mtu_file",
    "runtimeConfig",
    "type",
];

const KNOWN_IPAM: &[&str] = &["type", "assign_ipv4", "assign_ipv6", "ipv4_pools", "ipv6_pools"];

/// Interfaces below this carry no IPv4 host (RFC 791); above, the field does not hold it.
const MTU_RANGE: std::ops::RangeInclusive<u64> = 68..=65535;

/// At most so many pools or addresses in one request.
const LIST_MAX: usize = 64;

/// The configuration, as far as this plugin follows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NetConf {
    pub(crate) version: SpecVersion,
    pub(crate) name: String,
    pub(crate) felix: String,
    /// 0: felix decides.
    pub(crate) mtu: u32,
    pub(crate) assign_ipv4: bool,
    pub(crate) assign_ipv6: bool,
    pub(crate) ipv4_pools: Vec<String>,
    pub(crate) ipv6_pools: Vec<String>,
    pub(crate) requested_ips: Vec<IpAddr>,
    pub(crate) allow_ip_forwarding: bool,
    pub(crate) prev_result: Option<Map<String, Value>>,
    /// Container id and interface name of every attachment a GC is to keep; `None` when the field is absent.
    pub(crate) valid_attachments: Option<Vec<(String, String)>>,
    pub(crate) dns: Option<Value>,
    pub(crate) ipam: Ipam,
    /// Addresses that others shall reach the workload by.
    pub(crate) floating_ips: Vec<IpAddr>,
    /// For standard error, one line each.
    pub(crate) warnings: Vec<String>,
}

/// Who manages addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ipam {
    /// felix.
    Own,
    /// A plugin of this name.
    Delegate(String),
}

fn invalid(field: &str, problem: impl AsRef<str>) -> CniError {
    CniError::new(
        Code::InvalidConfiguration,
        format!("network configuration: field '{field}' {}", problem.as_ref()),
    )
}

fn wanted(field: &str, want: &str, value: &Value) -> CniError {
    invalid(field, format!("= {}: want {want}", shown(&value.to_string())))
}

/// The JSON object on standard input and its version, which later errors are printed in.
pub(crate) fn decode(stdin: &[u8]) -> Result<(Map<String, Value>, SpecVersion), CniError> {
    let value: Value = serde_json::from_slice(stdin).map_err(|e| {
        CniError::new(Code::Decoding, "standard input is no JSON network configuration").details(e.to_string())
    })?;
    let Value::Object(object) = value else {
        let what = "standard input is no JSON network configuration";
        return Err(CniError::new(Code::Decoding, what).details("want an object at the top"));
    };
    let version = match object.get("cniVersion") {
        None | Some(Value::Null) => SpecVersion::parse("")?,
        Some(Value::String(text)) => SpecVersion::parse(text)?,
        Some(other) => return Err(wanted("cniVersion", "a text", other)),
    };
    Ok((object, version))
}

/// Reads the fields of a decoded configuration.
pub(crate) fn parse(object: &Map<String, Value>, version: SpecVersion) -> Result<NetConf, CniError> {
    let name = text(object, "name", "name")?.unwrap_or_default();
    if !is_id(&name) {
        let rule = "want a letter or digit, then letters, digits, '_', '.' and '-', 128 at most";
        return Err(invalid("name", format!("= {}: {rule}", shown(&name))));
    }
    let empty = Map::new();
    let ipam = section(object, "ipam")?.unwrap_or(&empty);
    let manager = manager(ipam)?;
    check_device_type(object)?;
    let container = section(object, "container_settings")?.unwrap_or(&empty);
    let features = section(object, "feature_control")?.unwrap_or(&empty);
    let floating = flag(features, "floating_ips", "feature_control.floating_ips")?.unwrap_or(false);
    let wishes = Wishes::of(object, floating)?;
    let pools = |of_pod: Vec<String>, field: &str| match of_pod.is_empty() {
        true => texts(ipam, field, &format!("ipam.{field}")),
        false => Ok(of_pod),
    };
    let (four, six) = wishes.families.unzip();
    let mut requested_ips = requested(object)?;
    if requested_ips.is_empty() {
        requested_ips = wishes.addresses;
    }
    let mut warnings = warnings(object, ipam, &manager);
    warnings.extend(wishes.warnings);
    let assign = |field: &str| flag(ipam, field, &format!("ipam.{field}"));
    Ok(NetConf {
        version,
        name,
        felix: text(object, "felix", "felix")?.unwrap_or_else(|| DEFAULT_FELIX.to_owned()),
        mtu: mtu(object)?,
        assign_ipv4: four.or(assign("assign_ipv4")?).unwrap_or(true),
        assign_ipv6: six.or(assign("assign_ipv6")?).unwrap_or(false),
        ipv4_pools: pools(wishes.ipv4_pools, "ipv4_pools")?,
        ipv6_pools: pools(wishes.ipv6_pools, "ipv6_pools")?,
        requested_ips,
        allow_ip_forwarding: flag(
            container,
            "allow_ip_forwarding",
            "container_settings.allow_ip_forwarding",
        )?
        .unwrap_or(false),
        prev_result: section(object, "prevResult")?.cloned(),
        valid_attachments: valid_attachments(object)?,
        ipam: manager,
        floating_ips: wishes.floating,
        dns: object.get("dns").filter(|d| d.is_object()).cloned(),
        warnings,
    })
}

fn warnings(object: &Map<String, Value>, ipam: &Map<String, Value>, manager: &Ipam) -> Vec<String> {
    let unknown = object.keys().filter(|k| !KNOWN.contains(&k.as_str())).map(|k| shown(k));
    let ipam = ipam
        .keys()
        // Another plugin's section is its own; of that, routes would concern this one.
        .filter(|k| match manager {
            Ipam::Own => !KNOWN_IPAM.contains(&k.as_str()),
            Ipam::Delegate(_) => *k == "routes" && !only_default(&ipam["routes"]),
        })
        .map(|k| shown(&format!("ipam.{k}")));
    unknown
        .chain(ipam)
        .take(LIST_MAX)
        .map(|k| format!("network configuration: field {k} is not known to this plugin and has no effect"))
        .collect()
}

/// Every endpoint has default routes and no others.
fn only_default(routes: &Value) -> bool {
    let default = |r: &Value| matches!(r["dst"].as_str(), Some("0.0.0.0/0" | "::/0"));
    routes.as_array().is_some_and(|routes| routes.iter().all(default))
}

/// Who manages addresses: felix, or a plugin that needs no interface to do it.
fn manager(ipam: &Map<String, Value>) -> Result<Ipam, CniError> {
    match text(ipam, "type", "ipam.type")?.as_deref() {
        None | Some("" | "calico-ipam" | "tortie-ipam") => Ok(Ipam::Own),
        Some(name @ ("host-local" | "static")) => Ok(Ipam::Delegate(name.to_owned())),
        Some(other) => Err(CniError::new(
            Code::UnsupportedField,
            format!(
                "network configuration: field 'ipam.type' = {}: want 'calico-ipam', 'host-local' or 'static'",
                shown(other)
            ),
        )),
    }
}

fn check_device_type(object: &Map<String, Value>) -> Result<(), CniError> {
    match text(object, "device_type", "device_type")?.as_deref() {
        None | Some("" | "veth") => Ok(()),
        Some(other) => Err(CniError::new(
            Code::UnsupportedField,
            format!(
                "network configuration: field 'device_type' = {}: want 'veth'",
                shown(other)
            ),
        )),
    }
}

fn mtu(object: &Map<String, Value>) -> Result<u32, CniError> {
    match object.get("mtu") {
        None | Some(Value::Null) => Ok(0),
        Some(v) => match v.as_u64() {
            Some(0) => Ok(0),
            Some(mtu) if MTU_RANGE.contains(&mtu) => Ok(u32::try_from(mtu).unwrap_or(0)),
            _ => Err(wanted("mtu", "0 (felix decides) or 68 to 65535", v)),
        },
    }
}

/// Addresses asked for: the `ips` capability, else the `args.cni.ips` convention.
fn requested(object: &Map<String, Value>) -> Result<Vec<IpAddr>, CniError> {
    let runtime = section(object, "runtimeConfig")?;
    let conventional = match section(object, "args")? {
        Some(args) => section(args, "cni")?,
        None => None,
    };
    for (parent, field) in [(runtime, "runtimeConfig.ips"), (conventional, "args.cni.ips")] {
        let Some(parent) = parent else { continue };
        let listed = texts(parent, "ips", field)?;
        if !listed.is_empty() {
            let address = |t: &String| {
                let plain = t.split_once('/').map_or(t.as_str(), |(address, _)| address);
                plain
                    .parse()
                    .map_err(|_| invalid(field, format!("has {}: no address", shown(t))))
            };
            return listed.iter().map(address).collect();
        }
    }
    Ok(Vec::new())
}

fn valid_attachments(object: &Map<String, Value>) -> Result<Option<Vec<(String, String)>>, CniError> {
    const FIELD: &str = "cni.dev/valid-attachments";
    let Some(value) = object.get(FIELD).or_else(|| object.get("cni.dev/attachments")) else {
        return Ok(None);
    };
    let list = value.as_array().ok_or_else(|| wanted(FIELD, "a list", value))?;
    let pair = |entry: &Value| {
        let get = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
        match (get("containerID"), get("ifname")) {
            (Some(id), Some(ifname)) if is_id(&id) => Ok((id, ifname)),
            _ => Err(wanted(FIELD, "entries with 'containerID' and 'ifname'", entry)),
        }
    };
    list.iter().map(pair).collect::<Result<_, _>>().map(Some)
}

fn section<'a>(object: &'a Map<String, Value>, field: &str) -> Result<Option<&'a Map<String, Value>>, CniError> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(section)) => Ok(Some(section)),
        Some(other) => Err(wanted(field, "an object", other)),
    }
}

fn text(object: &Map<String, Value>, field: &str, path: &str) -> Result<Option<String>, CniError> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(wanted(path, "a text", other)),
    }
}

fn texts(object: &Map<String, Value>, field: &str, path: &str) -> Result<Vec<String>, CniError> {
    let list = match object.get(field) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= LIST_MAX => list,
        Some(other) => return Err(wanted(path, &format!("a list of at most {LIST_MAX} texts"), other)),
    };
    let text = |v: &Value| {
        v.as_str()
            .map(str::to_owned)
            .ok_or_else(|| wanted(path, "a list of texts", v))
    };
    list.iter().map(text).collect()
}

/// Calico's configuration writes these as texts.
fn flag(object: &Map<String, Value>, field: &str, path: &str) -> Result<Option<bool>, CniError> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(Value::String(s)) if s == "true" => Ok(Some(true)),
        Some(Value::String(s)) if s == "false" => Ok(Some(false)),
        Some(other) => Err(wanted(path, "true or false", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<NetConf, CniError> {
        let (object, version) = decode(value.to_string().as_bytes())?;
        parse(&object, version)
    }

    #[test]
    fn calicos_configuration_is_accepted() {
        let conf = read(json!({
            "name": "k8s-pod-network", "cniVersion": "1.0.0", "type": "tortie", "log_level": "info",
            "log_file_path": "/var/log/calico/cni/cni.log", "datastore_type": "kubernetes", "nodename": "n1",
            "mtu": 1440, "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true",
            "ipv4_pools": ["10.0.0.0/16", "default"]}, "policy": {"type": "k8s"},
            "container_settings": {"allow_ip_forwarding": true}, "kubernetes": {"kubeconfig": "/x"},
            "runtimeConfig": {"ips": ["10.0.0.5/24"]}
        }))
        .unwrap();
        assert_eq!(
            (conf.mtu, conf.assign_ipv6, conf.allow_ip_forwarding),
            (1440, true, true)
        );
        assert_eq!(conf.ipv4_pools, ["10.0.0.0/16", "default"]);
        assert_eq!(conf.requested_ips, ["10.0.0.5".parse::<IpAddr>().unwrap()]);
        assert_eq!(conf.felix, DEFAULT_FELIX);
        assert!(conf.warnings.is_empty(), "{:?}", conf.warnings);
    }

    #[test]
    fn unknown_fields_are_warned_of() {
        let conf = read(json!({"name": "n", "cniVersion": "0.4.0", "blue": 1, "ipam": {"subnet": "x"}})).unwrap();
        assert_eq!(conf.warnings.len(), 2);
        assert!(conf.warnings[0].contains("'blue'") && conf.warnings[1].contains("'ipam.subnet'"));
    }

    #[test]
    fn wrong_values_are_named() {
        let base = |field: &str, value: Value| {
            let mut conf = json!({"name": "n", "cniVersion": "1.1.0"});
            conf[field] = value;
            read(conf).unwrap_err()
        };
        let cases = [
            (
                "cniVersion",
                json!("9.0.0"),
                Code::IncompatibleVersion,
                "incompatible CNI versions",
            ),
            (
                "cniVersion",
                json!(null),
                Code::IncompatibleVersion,
                "incompatible CNI versions",
            ),
            ("cniVersion", json!(1), Code::InvalidConfiguration, "'cniVersion' = '1'"),
            ("name", json!(""), Code::InvalidConfiguration, "'name' = ''"),
            ("name", json!("a/b"), Code::InvalidConfiguration, "'name' = 'a/b'"),
            ("mtu", json!("x"), Code::InvalidConfiguration, "'mtu'"),
            ("mtu", json!(67), Code::InvalidConfiguration, "'mtu' = '67'"),
            ("mtu", json!(-1), Code::InvalidConfiguration, "68 to 65535"),
            (
                "ipam",
                json!([]),
                Code::InvalidConfiguration,
                "'ipam' = '[]': want an object",
            ),
            (
                "ipam",
                json!({"type": "dhcp"}),
                Code::UnsupportedField,
                "'ipam.type' = 'dhcp'",
            ),
            (
                "ipam",
                json!({"assign_ipv4": "yes"}),
                Code::InvalidConfiguration,
                "'ipam.assign_ipv4'",
            ),
            (
                "ipam",
                json!({"ipv4_pools": [1]}),
                Code::InvalidConfiguration,
                "'ipam.ipv4_pools'",
            ),
            (
                "runtimeConfig",
                json!({"ips": ["x"]}),
                Code::InvalidConfiguration,
                "has 'x': no address",
            ),
            (
                "device_type",
                json!("netkit"),
                Code::UnsupportedField,
                "'device_type' = 'netkit'",
            ),
            ("prevResult", json!("x"), Code::InvalidConfiguration, "'prevResult'"),
            (
                "cni.dev/valid-attachments",
                json!([{}]),
                Code::InvalidConfiguration,
                "'containerID'",
            ),
        ];
        for (field, value, code, want) in cases {
            let e = base(field, value);
            assert_eq!(e.code, code, "{e}");
            assert!(e.message.contains(want), "{e}: wanted {want}");
        }
    }

    #[test]
    fn what_is_no_json_is_said() {
        for bad in ["", "hello", "[1]", "{\"a\":", &"[".repeat(100_000)] {
            assert_eq!(decode(bad.as_bytes()).unwrap_err().code, Code::Decoding);
        }
    }
}
