//! Defaults that are written into the stored object, as Calico's client writes them. Called on objects whose fields have
//! the right types.

use serde_json::{Map, Value, json};
use tortie_net::Prefix;

use super::meta;
use crate::kind::Kind;
use crate::resource::IpPoolSpec;

/// Writes the defaults of this kind.
pub(super) fn apply(kind: Kind, object: &mut Value) {
    let Value::Object(fields) = object else { return };
    let spec = fields.entry("spec").or_insert(Value::Null);
    if spec.is_null() {
        *spec = Value::Object(Map::new());
    }
    let Value::Object(spec) = spec else { return };
    if kind == Kind::IpPool {
        pool(spec);
    } else if kind == Kind::FelixConfiguration {
        set(spec, "floatingIPs", "Disabled");
        set(spec, "bpfConnectTimeLoadBalancing", "TCP");
        set(spec, "bpfHostNetworkedNATWithoutCTLB", "Enabled");
    } else if kind == Kind::WorkloadEndpoint {
        meta::workload_labels(object);
    }
}

/// Sets a field unless it says something.
fn set(spec: &mut Map<String, Value>, field: &str, default: impl Into<Value>) {
    let empty = spec
        .get(field)
        .is_none_or(|v| v.is_null() || v.as_str() == Some("") || *v == json!([]));
    if empty {
        spec.insert(field.to_owned(), default.into());
    }
}

fn pool(spec: &mut Map<String, Value>) {
    let cidr = spec
        .get("cidr")
        .and_then(Value::as_str)
        .and_then(|s| Prefix::parse_with_address(s).ok());
    let Some((_, cidr)) = cidr else { return };
    spec.insert("cidr".to_owned(), Value::from(cidr.to_string()));
    set(spec, "blockSize", IpPoolSpec::new(cidr).block_size());
    set(spec, "ipipMode", "Never");
    set(spec, "vxlanMode", "Never");
    set(spec, "nodeSelector", "all()");
    set(spec, "allowedUses", json!(["Workload", "Tunnel"]));
    set(spec, "assignmentMode", "Automatic");
}
