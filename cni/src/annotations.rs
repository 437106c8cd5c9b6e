//! What a pod asks for in its annotations, when the runtime passes them on.
//!
//! containerd does so as `runtimeConfig` of the capability `io.kubernetes.cri.pod-annotations`; others may put them into
//! `args.cni.annotations`. The names and forms are Calico's: JSON lists in text.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::error::{CniError, Code, shown};

/// The capability by which runtimes pass annotations on.
pub(crate) const CAPABILITY: &str = "io.kubernetes.cri.pod-annotations";
const PREFIX: &str = "cni.projectcalico.org/";
/// At most so many pools or addresses.
const LIST_MAX: usize = 64;

/// What Calico's annotations may ask for and this plugin does not do.
const WITHOUT_EFFECT: [&str; 3] = ["ipAddrsNoIpam", "hwAddr", "allowedSourcePrefixes"];

/// What a pod asks for. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ipv4_pools: Vec<String>,
    pub(crate) ipv6_pools: Vec<String>,
    /// IPv4 and IPv6 wanted, when the pod says which.
    pub(crate) families: Option<(bool, bool)>,
    /// Addresses by which others shall reach it.
    pub(crate) floating: Vec<IpAddr>,
    pub(crate) warnings: Vec<String>,
}

impl Wishes {
    /// Those of a network configuration. `floating`: are floating addresses allowed, as Calico has them only when
    /// `feature_control` says so?
    ///
    /// # Errors
    /// An annotation that says what cannot be read: it is a person's word, and guessing would give another address.
    pub(crate) fn of(object: &Map<String, Value>, floating: bool) -> Result<Self, CniError> {
        let mut wishes = Wishes::default();
        let at = |path: &[&str]| path.iter().try_fold(object, |o, p| o.get(*p)?.as_object());
        let Some(annotations) = at(&["runtimeConfig", CAPABILITY]).or_else(|| at(&["args", "cni", "annotations"]))
        else {
            return Ok(wishes);
        };
        for (name, value) in annotations {
            let Some(asked) = name.strip_prefix(PREFIX) else {
                continue;
            };
            match asked {
                "ipAddrs" => wishes.addresses = addresses(name, value)?,
                "ipv4pools" => wishes.ipv4_pools = list(name, value)?,
                "ipv6pools" => wishes.ipv6_pools = list(name, value)?,
                "ipFamilies" => wishes.families = Some(families(name, value)?),
                "floatingIPs" if floating => wishes.floating = addresses(name, value)?,
                "floatingIPs" => wishes.warnings.push(format!(
                    "annotation {name} has no effect: field feature_control.floating_ips is not true"
                )),
                _ if WITHOUT_EFFECT.contains(&asked) => {
                    wishes.warnings.push(format!(
                        "annotation {name} is not known to this plugin and has no effect"
                    ));
                }
                // What Calico itself writes (containerID, podIP, ..) asks for nothing.
                _ => {}
            }
        }
        Ok(wishes)
    }
}

fn wrong(name: &str, want: &str, value: &Value) -> CniError {
    let shown = shown(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    CniError::new(
        Code::InvalidConfiguration,
        format!("annotation {name} = {shown}: want {want}"),
    )
}

/// A JSON list of texts, as a text.
fn list(name: &str, value: &Value) -> Result<Vec<String>, CniError> {
    let parsed = value
        .as_str()
        .and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
    parsed
        .filter(|l| l.len() <= LIST_MAX)
        .ok_or_else(|| wrong(name, &format!("a JSON list of at most {LIST_MAX} texts"), value))
}

fn addresses(name: &str, value: &Value) -> Result<Vec<IpAddr>, CniError> {
    let parsed = list(name, value)?.iter().map(|t| t.parse()).collect::<Result<_, _>>();
    parsed.map_err(|_| wrong(name, "addresses", value))
}

fn families(name: &str, value: &Value) -> Result<(bool, bool), CniError> {
    let named = list(name, value)?;
    let has = |family: &str| named.iter().any(|n| n == family);
    let known = named.iter().all(|n| n == "IPv4" || n == "IPv6");
    if known && !named.is_empty() {
        Ok((has("IPv4"), has("IPv6")))
    } else {
        Err(wrong(name, "IPv4, IPv6 or both", value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wishes(conf: Value) -> Result<Wishes, String> {
        Wishes::of(conf.as_object().unwrap(), conf["floating"] == true).map_err(|e| e.message)
    }

    #[test]
    fn annotations_are_taken_from_where_runtimes_put_them() {
        let annotations = json!({
            "cni.projectcalico.org/ipAddrs": "[\"10.0.0.5\", \"fd00::5\"]",
            "cni.projectcalico.org/ipv4pools": "[\"a\", \"10.1.0.0/16\"]",
            "cni.projectcalico.org/ipv6pools": "[]",
            "cni.projectcalico.org/ipFamilies": "[\"IPv6\"]",
            "cni.projectcalico.org/hwAddr": "1c:0c:0a:c0:ff:ee",
            "cni.projectcalico.org/podIP": "10.0.0.9/32",
            "example.com/ipAddrs": "[",
        });
        let asked = wishes(json!({"runtimeConfig": {CAPABILITY: annotations.clone()}})).unwrap();
        assert_eq!(asked.addresses.len(), 2);
        assert_eq!(asked.ipv4_pools, ["a", "10.1.0.0/16"]);
        assert_eq!(asked.families, Some((false, true)));
        assert_eq!(asked.warnings.len(), 1);
        assert!(asked.warnings[0].contains("hwAddr"));
        assert_eq!(
            wishes(json!({"args": {"cni": {"annotations": annotations}}})).unwrap(),
            asked
        );
        assert_eq!(wishes(json!({})).unwrap(), Wishes::default());
    }

    #[test]
    fn floating_addresses_are_kept_where_they_are_allowed_and_nobody_is_misled() {
        let annotations = json!({"cni.projectcalico.org/floatingIPs": "[\"192.0.2.7\"]"});
        let with = |allowed: bool| {
            wishes(json!({"floating": allowed, "runtimeConfig": {CAPABILITY: annotations.clone()}})).unwrap()
        };
        assert_eq!(with(true).floating, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert!(with(true).warnings.is_empty(), "{:?}", with(true));
        assert!(with(false).floating.is_empty());
        assert!(
            with(false).warnings[0].contains("feature_control.floating_ips"),
            "{:?}",
            with(false)
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        for (name, value, said) in [
            (
                "ipAddrs",
                json!("10.0.0.5"),
                "annotation cni.projectcalico.org/ipAddrs = '10.0.0.5': want a JSON list",
            ),
            ("ipAddrs", json!("[\"x\"]"), "want addresses"),
            ("ipv4pools", json!(["a"]), "want a JSON list"),
            ("ipFamilies", json!("[\"IPv5\"]"), "IPv4, IPv6 or both"),
            ("ipFamilies", json!("[]"), "IPv4, IPv6 or both"),
        ] {
            let e = wishes(json!({"runtimeConfig": {CAPABILITY: {format!("{PREFIX}{name}"): value}}})).unwrap_err();
            assert!(e.contains(said), "{e}");
        }
    }
}
