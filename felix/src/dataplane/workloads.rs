//! Which workload of this node has which address, from the two who tell: the endpoint service and the datastore.
//!
//! The endpoint service is believed first: what it told counts until it takes it back, and an interface it took down
//! stays down until both the kernel and the datastore have forgotten it. Two claims on one address: the service's, else the lowest key.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tortie_calc::Endpoint;
use tortie_model::Key;

use super::LocalEndpoint;

/// One claim on an address. Sorted by who is believed first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    from_datastore: bool,
    key: String,
    interface: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    told: BTreeMap<String, LocalEndpoint>,
    stored: BTreeMap<Key, Endpoint>,
    /// The keys of `stored`, by interface.
    stored_on: BTreeMap<String, BTreeSet<Key>>,
    taken_down: BTreeSet<String>,
    /// What each interface claims now.
    claimed: BTreeMap<String, Vec<(IpAddr, Claim)>>,
    claims: BTreeMap<IpAddr, BTreeSet<Claim>>,
}

impl Workloads {
    /// The endpoint service made this endpoint. Gives the addresses whose interface may have changed.
    pub(super) fn up(&mut self, endpoint: LocalEndpoint) -> Vec<IpAddr> {
        let interface = endpoint.interface.clone();
        self.taken_down.remove(&interface);
        self.told.insert(interface.clone(), endpoint);
        self.settle(&interface)
    }

    /// The endpoint service removed the endpoint on this interface. Gives the addresses likewise.
    pub(super) fn down(&mut self, interface: &str) -> Vec<IpAddr> {
        self.told.remove(interface);
        self.taken_down.insert(interface.to_owned());
        self.settle(interface)
    }

    /// The datastore says this of the endpoint with this key. Gives the addresses likewise.
    pub(super) fn stored(&mut self, key: &Key, endpoint: Option<&Endpoint>) -> Vec<IpAddr> {
        let before = self.stored.remove(key);
        let mut interfaces = BTreeSet::new();
        if let Some(before) = before {
            if let Some(keys) = self.stored_on.get_mut(&before.interface) {
                keys.remove(key);
                if keys.is_empty() {
                    self.stored_on.remove(&before.interface);
                }
            }
            interfaces.insert(before.interface);
        }
        if let Some(now) = endpoint {
            self.stored.insert(key.clone(), now.clone());
            self.stored_on
                .entry(now.interface.clone())
                .or_default()
                .insert(key.clone());
            interfaces.insert(now.interface.clone());
        }
        for forgotten in interfaces.iter().filter(|i| !self.stored_on.contains_key(*i)) {
            self.taken_down.remove(forgotten);
        }
        interfaces.iter().flat_map(|i| self.settle(i)).collect()
    }

    /// Forgets what was taken down and is neither in the kernel nor in the datastore any more: runtimes delete what is
    /// deleted already, and each of their pods has a name of its own.
    pub(super) fn forget_gone(&mut self, exists: impl Fn(&str) -> bool) {
        let stored_on = &self.stored_on;
        self.taken_down.retain(|i| exists(i) || stored_on.contains_key(i));
    }

    fn settle(&mut self, interface: &str) -> Vec<IpAddr> {
        let before = self.claimed.remove(interface).unwrap_or_default();
        let now = self.wanted_on(interface);
        for (ip, claim) in &before {
            if let Some(claims) = self.claims.get_mut(ip) {
                claims.remove(claim);
                if claims.is_empty() {
                    self.claims.remove(ip);
                }
            }
        }
        for (ip, claim) in &now {
            self.claims.entry(*ip).or_default().insert(claim.clone());
        }
        let touched = before.iter().chain(&now).map(|(ip, _)| *ip).collect();
        if !now.is_empty() {
            self.claimed.insert(interface.to_owned(), now);
        }
        touched
    }

    fn wanted_on(&self, interface: &str) -> Vec<(IpAddr, Claim)> {
        let claim = |key: String, from_datastore| Claim {
            from_datastore,
            key,
            interface: interface.to_owned(),
        };
        if let Some(told) = self.told.get(interface) {
            return told
                .ips
                .iter()
                .map(|ip| (*ip, claim(told.key.clone(), false)))
                .collect();
        }
        if self.taken_down.contains(interface) {
            return Vec::new();
        }
        let first = self.stored_on.get(interface).and_then(BTreeSet::first);
        let endpoint = first.and_then(|key| Some((key, self.stored.get(key)?)));
        let claims = endpoint.map(|(key, e)| e.ips.iter().map(|ip| (*ip, claim(key.to_string(), true))).collect());
        claims.unwrap_or_default()
    }

    /// The interface of the workload that has this address.
    pub(super) fn interface_of(&self, ip: IpAddr) -> Option<&str> {
        self.claims.get(&ip)?.first().map(|c| c.interface.as_str())
    }

    /// The addresses an interface claims.
    pub(super) fn ips_on(&self, interface: &str) -> impl Iterator<Item = IpAddr> + '_ {
        self.claimed.get(interface).into_iter().flatten().map(|(ip, _)| *ip)
    }

    /// Every address that an interface claims.
    pub(super) fn ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.claims.keys().copied()
    }

    /// Did the endpoint service take this interface down?
    pub(super) fn is_taken_down(&self, interface: &str) -> bool {
        self.taken_down.contains(interface)
    }

    /// How many interfaces have an address.
    pub(super) fn len(&self) -> usize {
        self.claimed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    fn told(interface: &str, ips: &[&str]) -> LocalEndpoint {
        LocalEndpoint {
            interface: interface.into(),
            ips: ips.iter().map(|s| ip(s)).collect(),
            key: "k".into(),
        }
    }

    fn key(name: &str) -> Key {
        Key::resource(tortie_model::Kind::WorkloadEndpoint, Some("d"), name)
    }

    fn stored(interface: &str, ips: &[&str]) -> Endpoint {
        Endpoint {
            interface: interface.into(),
            ips: ips.iter().map(|s| ip(s)).collect(),
        }
    }

    #[test]
    fn what_was_taken_down_stays_down_until_the_datastore_forgot_it() {
        let mut w = Workloads::default();
        w.stored(&key("a"), Some(&stored("cali1", &["10.0.0.1"])));
        assert_eq!(w.interface_of(ip("10.0.0.1")), Some("cali1"));
        assert_eq!(w.down("cali1"), [ip("10.0.0.1")]);
        assert_eq!(w.interface_of(ip("10.0.0.1")), None);
        w.stored(&key("a"), Some(&stored("cali1", &["10.0.0.1", "10.0.0.2"])));
        assert_eq!(w.interface_of(ip("10.0.0.2")), None, "a late word about the old one");
        w.stored(&key("a"), None);
        w.stored(&key("a"), Some(&stored("cali1", &["10.0.0.3"])));
        assert_eq!(
            w.interface_of(ip("10.0.0.3")),
            Some("cali1"),
            "a new one, by another hand"
        );
    }

    #[test]
    fn the_endpoint_service_is_believed_first() {
        let mut w = Workloads::default();
        w.stored(&key("a"), Some(&stored("cali1", &["10.0.0.1"])));
        w.up(told("cali2", &["10.0.0.1"]));
        assert_eq!(w.interface_of(ip("10.0.0.1")), Some("cali2"));
        w.up(told("cali1", &["10.0.0.9"]));
        assert_eq!(
            w.ips_on("cali1").collect::<Vec<_>>(),
            [ip("10.0.0.9")],
            "replaces the datastore's word"
        );
        w.stored(&key("a"), None);
        assert_eq!(w.interface_of(ip("10.0.0.9")), Some("cali1"), "stays until taken down");
        w.down("cali2");
        assert_eq!(w.interface_of(ip("10.0.0.1")), None);
        assert_eq!(w.len(), 1);
    }
}
