//! Every kind of document: what is stored, and what is refused with the field, its value and the rule.

mod bgp;
mod documents;
mod nodes;
mod pools;
mod settings;

use std::collections::BTreeSet;

use serde_json::json;

use super::super::*;

/// A datastore with one filter and one pool.
struct Little;

impl View for Little {
    fn visit(&self, prefix: &str, f: &mut dyn FnMut(&str, &[u8])) {
        if POOLS.starts_with(prefix) {
            f(
                &format!("{POOLS}there"),
                br#"{"metadata": {"name": "there"}, "spec": {"cidr": "172.16.0.0/16"}}"#,
            );
        }
    }

    fn exists(&self, key: &str) -> bool {
        key.ends_with("/bgpfilters/there")
    }
}

const R: &str = "/calico/resources/v3/projectcalico.org/";
const POOLS: &str = "/calico/resources/v3/projectcalico.org/ippools/";

fn stored(key: &str, document: Value) {
    let said = admit(&key.parse().unwrap(), document.clone(), None, &Little);
    assert!(said.is_ok(), "{key} {document}: {}", said.unwrap_err());
}

/// What is wrong, in these words: field, value, and a part of the rule. One row for each broken rule.
type Row = (Value, &'static str, &'static str, &'static str);

fn refused(key: &str, rows: impl IntoIterator<Item = Row>) {
    for (document, field, value, rule) in rows {
        let parsed: Key = key.parse().unwrap();
        let refused = admit(&parsed, document.clone(), None, &Little).expect_err(&document.to_string());
        let named = |i: &&Invalid| i.field == field && i.value == value && i.reason.contains(rule);
        assert!(
            refused.invalid.iter().any(|i| named(&i)),
            "{document}: {:?} does not say {field} = '{value}' ({rule})",
            refused.invalid
        );
        let said = refused.to_string();
        assert!(
            said.starts_with(&format!("{}: error with ", parsed.object_name())),
            "{said}"
        );
        assert!(said.contains(&format!("{field} = '{value}' (")), "{said}");
        assert!(
            refused
                .invalid
                .iter()
                .all(|i| !i.reason.is_empty() && !i.field.is_empty()),
            "{said}"
        );
    }
}

fn spec(spec: Value) -> Value {
    json!({ "spec": spec })
}

#[test]
fn every_kind_is_in_a_table_here_or_refused_as_a_whole() {
    let here = [
        Kind::BgpConfiguration,
        Kind::BgpFilter,
        Kind::BgpPeer,
        Kind::ClusterInformation,
        Kind::FelixConfiguration,
        Kind::IpamConfiguration,
        Kind::IpPool,
        Kind::IpReservation,
        Kind::Node,
        Kind::WorkloadEndpoint,
    ];
    let supported: BTreeSet<Kind> = Kind::ALL.iter().copied().filter(|k| k.supported()).collect();
    assert_eq!(supported, BTreeSet::from(here), "a kind without a table");
    for kind in Kind::ALL.iter().filter(|k| !k.supported()) {
        let namespace = if kind.namespaced() { "web/" } else { "" };
        let key = format!("{R}{}/{namespace}a", kind.plural());
        let refused = admit(&key.parse().unwrap(), json!({}), None, &Little).unwrap_err();
        let [only] = refused.invalid.as_slice() else {
            panic!("{refused}")
        };
        assert_eq!((only.field.as_str(), only.value.as_str()), ("kind", kind.name()));
        assert_eq!(only.reason, "Tortie does not act on this kind yet");
    }
}
