//! CNI results in the version that was asked for, and what is read from a previous plugin's.

use serde_json::{Map, Value, json};
use tortie_proto::felix::Result as Endpoint;

use crate::environment::Target;
use crate::netconf::NetConf;
use crate::version::SpecVersion;

/// The result of an ADD: what felix made, after what earlier plugins of the chain made.
///
/// 0.3 and 0.4 say the family of each address; 1.1 has the MTU of each interface.
pub(crate) fn added(conf: &NetConf, target: &Target, made: &Endpoint) -> Value {
    let previous = conf.prev_result.as_ref();
    let earlier = |field: &str| -> Vec<Value> {
        previous
            .and_then(|p| p.get(field))
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let mut interfaces = earlier("interfaces");
    let container = interfaces.len() + 1;
    interfaces.push(interface(conf.version, &made.host_interface, &made.host_mac, made.mtu));
    let mut inside = interface(conf.version, &target.ifname, &made.container_mac, made.mtu);
    inside["sandbox"] = json!(target.netns);
    interfaces.push(inside);

    let mut ips = earlier("ips");
    for address in &made.ips {
        let mut ip = json!({"interface": container, "address": address});
        if conf.version < SpecVersion::V1_0_0 {
            ip["version"] = json!(if address.contains(':') { "6" } else { "4" });
        }
        ips.push(ip);
    }
    let mut routes = earlier("routes");
    for route in &made.routes {
        let mut shown = json!({"dst": route.destination});
        if !route.gateway.is_empty() {
            shown["gw"] = json!(route.gateway);
        }
        routes.push(shown);
    }
    let dns = previous
        .and_then(|p| p.get("dns"))
        .or(conf.dns.as_ref())
        .cloned()
        .unwrap_or_else(|| json!({}));
    json!({
        "cniVersion": conf.version.as_str(),
        "interfaces": interfaces,
        "ips": ips,
        "routes": routes,
        "dns": dns,
    })
}

fn interface(version: SpecVersion, name: &str, mac: &str, mtu: u32) -> Value {
    let mut interface = json!({"name": name, "mac": mac});
    if version >= SpecVersion::V1_1_0 && mtu != 0 {
        interface["mtu"] = json!(mtu);
    }
    interface
}

/// The addresses a previous result says the container's interface has.
pub(crate) fn expected_ips(previous: &Map<String, Value>, ifname: &str) -> Vec<String> {
    let list = |field: &str| {
        previous
            .get(field)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
    };
    let interfaces = list("interfaces");
    let is_ours = |index: u64| {
        let interface = usize::try_from(index).ok().and_then(|i| interfaces.get(i));
        interface.is_some_and(|i| {
            i.get("name").and_then(Value::as_str) == Some(ifname)
                && i.get("sandbox").and_then(Value::as_str).is_some_and(|s| !s.is_empty())
        })
    };
    list("ips")
        .iter()
        .filter(|ip| ip.get("interface").and_then(Value::as_u64).is_some_and(is_ours))
        .filter_map(|ip| ip.get("address").and_then(Value::as_str).map(str::to_owned))
        .collect()
}

/// The answer to VERSION.
pub(crate) fn versions() -> Value {
    json!({"cniVersion": SpecVersion::CURRENT.as_str(), "supportedVersions": SpecVersion::texts()})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netconf::{decode, parse};

    fn conf(extra: Value) -> NetConf {
        let mut conf = json!({"name": "net", "cniVersion": "1.1.0"});
        conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let (object, version) = decode(conf.to_string().as_bytes()).unwrap();
        parse(&object, version).unwrap()
    }

    fn target() -> Target {
        Target {
            container_id: "c1".into(),
            ifname: "eth0".into(),
            netns: "/run/netns/a".into(),
            pod: None,
            ip: None,
        }
    }

    fn made() -> Endpoint {
        Endpoint {
            host_interface: "cali1".into(),
            host_mac: "ee:ee:ee:ee:ee:ee".into(),
            container_mac: "02:00:00:00:00:01".into(),
            mtu: 1500,
            ips: vec!["10.0.0.5/32".into(), "fd00::5/128".into()],
            routes: vec![tortie_proto::felix::result::Route {
                destination: "0.0.0.0/0".into(),
                gateway: "169.254.1.1".into(),
            }],
            ..Endpoint::default()
        }
    }

    #[test]
    fn each_version_has_its_form() {
        let new = added(&conf(json!({})), &target(), &made());
        assert_eq!(new["interfaces"][1]["mtu"], 1500);
        assert_eq!(new["interfaces"][1]["sandbox"], "/run/netns/a");
        assert!(new["interfaces"][0].get("sandbox").is_none());
        assert_eq!(new["ips"][0], json!({"interface": 1, "address": "10.0.0.5/32"}));
        assert_eq!(new["routes"][0], json!({"dst": "0.0.0.0/0", "gw": "169.254.1.1"}));
        let old = added(&conf(json!({"cniVersion": "0.3.1"})), &target(), &made());
        assert_eq!(old["cniVersion"], "0.3.1");
        assert_eq!(
            (&old["ips"][0]["version"], &old["ips"][1]["version"]),
            (&json!("4"), &json!("6"))
        );
        assert!(old["interfaces"][1].get("mtu").is_none());
    }

    #[test]
    fn a_previous_result_is_kept_and_indexes_follow() {
        let previous = json!({"prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "x0"}],
            "ips": [{"interface": 0, "address": "192.0.2.1/24"}], "dns": {"nameservers": ["192.0.2.53"]}}});
        let result = added(&conf(previous), &target(), &made());
        assert_eq!(result["interfaces"].as_array().unwrap().len(), 3);
        assert_eq!(result["ips"][1]["interface"], 2);
        assert_eq!(result["dns"]["nameservers"][0], "192.0.2.53");
    }

    #[test]
    fn check_reads_what_add_wrote() {
        let result = added(&conf(json!({})), &target(), &made());
        assert_eq!(
            expected_ips(result.as_object().unwrap(), "eth0"),
            ["10.0.0.5/32", "fd00::5/128"]
        );
        assert!(expected_ips(result.as_object().unwrap(), "eth1").is_empty());
        let odd = json!({"ips": [{"interface": 99, "address": "x"}, {"interface": -1}, 5], "interfaces": [5]});
        assert!(expected_ips(odd.as_object().unwrap(), "eth0").is_empty());
    }
}
