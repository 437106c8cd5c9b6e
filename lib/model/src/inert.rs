//! What Calico's documents may say and no program of Tortie acts on yet.
//!
//! It is stored all the same: manifests carry over, and the setting counts from the version on that knows it. But who
//! writes it is told. A line goes when the program that reads the field comes.

use serde_json::Value;

use crate::invalid::Invalid;
use crate::key::Key;
use crate::kind::Kind;

/// A field of a specification that is not acted on.
struct Inert {
    kind: Kind,
    field: &'static str,
    /// Values that ask for nothing, as they stand in JSON.
    idle: &'static [&'static str],
    reason: &'static str,
}

const fn inert(kind: Kind, field: &'static str, idle: &'static [&'static str], reason: &'static str) -> Inert {
    Inert {
        kind,
        field,
        idle,
        reason,
    }
}

const FIELDS: &[Inert] = &[
    inert(
        Kind::BgpConfiguration,
        "ignoredInterfaces",
        &["[]"],
        "bird-rs has its next hops from felix and looks at no interface; the template for stock BIRD leaves them out",
    ),
    inert(
        Kind::BgpConfiguration,
        "programClusterRoutes",
        &[],
        "felix writes every route, whichever program it is asked of",
    ),
];

/// Kinds nobody reads, and why.
const KINDS: &[(Kind, &str)] = &[(
    Kind::IpamConfiguration,
    "address management reads /calico/ipam/v2/config, as Calico's does in etcd",
)];

/// What felix reads of FelixConfiguration; it has no other setting of all that Calico has.
const FELIX: &[&str] = &[
    "nodeSelector",
    "allowIPIPPacketsFromWorkloads",
    "allowVXLANPacketsFromWorkloads",
    "deviceRouteProtocol",
    "externalNodesList",
    "floatingIPs",
    "interfaceRefreshInterval",
    "ipipMTU",
    "ipv4NormalRoutePriority",
    "ipv6NormalRoutePriority",
    "iptablesNATOutgoingInterfaceFilter",
    "ipv6Support",
    "natOutgoingAddress",
    "natOutgoingExclusions",
    "natPortRange",
    "nftablesRefreshInterval",
    "removeExternalRoutes",
    "reportingInterval",
    "reportingTTL",
    "routeRefreshInterval",
    "nexthopObjects",
    "vxlanMTU",
    "vxlanMTUV6",
    "vxlanPort",
    "vxlanVNI",
];

/// Values of others that ask for what felix does anyway: Calico's defaults, which admission writes, among them.
const FELIX_IDLE: &[(&str, &str)] = &[
    ("bpfConnectTimeLoadBalancing", "\"TCP\""),
    ("bpfEnabled", "false"),
    ("bpfHostNetworkedNATWithoutCTLB", "\"Enabled\""),
    ("interfacePrefix", "\"cali\""),
    ("ipForwarding", "\"Enabled\""),
    ("wireguardEnabled", "false"),
    ("wireguardEnabledV6", "false"),
];

fn felix(spec: &Value) -> Vec<Invalid> {
    let fields = spec.as_object().into_iter().flatten();
    let asked = fields.filter(|(name, value)| {
        let text = value.to_string();
        let idle = value.is_null() || matches!(text.as_str(), "\"\"" | "[]");
        !idle && !FELIX.contains(&name.as_str()) && !FELIX_IDLE.contains(&(name.as_str(), &text))
    });
    let told = asked.map(|(name, value)| Invalid::json(&format!("spec.{name}"), value, "felix has no such setting"));
    told.collect()
}

/// What of an admitted document has no effect yet, and what happens instead.
pub fn without_effect(key: &Key, document: &Value) -> Vec<Invalid> {
    let Some(kind) = key.kind() else {
        return Vec::new();
    };
    if let Some((_, reason)) = KINDS.iter().find(|(k, _)| *k == kind) {
        return vec![Invalid::new("kind", kind, reason)];
    }
    if kind == Kind::FelixConfiguration {
        return document.get("spec").map(felix).unwrap_or_default();
    }
    let asked = FIELDS.iter().filter(|f| f.kind == kind).filter_map(|f| {
        let value = document.get("spec")?.get(f.field)?;
        let text = value.to_string();
        let asks = !value.is_null() && text != "\"\"" && !f.idle.contains(&text.as_str());
        asks.then(|| Invalid::json(&format!("spec.{}", f.field), value, f.reason))
    });
    asked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{self, Ty};
    use serde_json::json;

    fn told(kind: Kind, spec: Value) -> Vec<String> {
        let key = Key::resource(kind, None, "default");
        let told = without_effect(&key, &json!({ "spec": spec }));
        told.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn who_asks_for_what_is_not_there_is_told_and_nobody_else() {
        let pool = told(
            Kind::IpPool,
            json!({"cidr": "10.0.0.0/16", "ipipMode": "Always", "vxlanMode": "Never", "natOutgoing": true}),
        );
        assert_eq!(pool, [""; 0], "everything of it counts");
        let bgp = told(Kind::BgpConfiguration, json!({"ignoredInterfaces": ["eth9"]}));
        assert_eq!(bgp.len(), 1, "{bgp:?}");
        assert!(bgp[0].starts_with("spec.ignoredInterfaces = "), "{bgp:?}");
        let plain = json!({"ipipMode": "Never", "vxlanMode": "", "natOutgoing": false, "nodeSelector": "all()"});
        assert_eq!(told(Kind::IpPool, plain), [""; 0]);
        assert_eq!(told(Kind::BgpConfiguration, json!({"ignoredInterfaces": []})), [""; 0]);
        assert_eq!(told(Kind::Node, json!({"ipipMode": "Always"})), [""; 0]);
        let felix = json!({
            "vxlanMTU": 1400, "natPortRange": "5000:6000", "floatingIPs": "Disabled", "logSeverityScreen": "",
            "bpfEnabled": true,
        });
        assert_eq!(
            told(Kind::FelixConfiguration, felix),
            ["spec.bpfEnabled = 'true' (felix has no such setting)"]
        );
        assert!(without_effect(&Key::IpamConfig, &json!({})).is_empty());
    }

    #[test]
    fn every_line_is_about_a_field_that_can_be_written() {
        for inert in FIELDS {
            let fields = schema::of(inert.kind).unwrap();
            let Some(Ty::Object(spec)) = fields.iter().find(|f| f.name == "spec").map(|f| f.ty) else {
                panic!("{}: no specification", inert.kind);
            };
            assert!(
                spec.iter().any(|f| f.name == inert.field),
                "{}: {}",
                inert.kind,
                inert.field
            );
        }
    }

    #[test]
    fn what_felix_reads_can_be_written() {
        let fields = schema::of(Kind::FelixConfiguration).unwrap();
        let Some(Ty::Object(spec)) = fields.iter().find(|f| f.name == "spec").map(|f| f.ty) else {
            panic!("no specification");
        };
        for name in FELIX.iter().chain(FELIX_IDLE.iter().map(|(name, _)| name)) {
            assert!(spec.iter().any(|f| f.name == *name), "{name}");
        }
    }
}
