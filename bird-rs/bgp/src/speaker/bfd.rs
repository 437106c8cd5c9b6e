//! Which BFD sessions the protocols want, and what becomes of a BGP session when BFD speaks.
//!
//! The sessions themselves are the shell's: it is told what is wanted ([`Output::Bfd`]) and reports each change
//! ([`super::Input::Bfd`]). A session is wanted while a BGP protocol with `bfd`, or a static route with it, is enabled
//! and a `protocol bfd` accepts it. The link that a peer is on is remembered: a link that goes away must end the session, not the watch over it.

use std::net::IpAddr;
use std::sync::Arc;

use super::Speaker;
use super::instance::Instance;
use super::io::{InterfaceAddress, Log, LogEvent, Output};
use super::origin::selected;
use crate::config::{
    BfdConfig, BfdNeighbor, BfdOptions, BfdTiming, BfdUsage, BgpConfig, ChannelFamily, ProtocolKind, StaticRoute,
};
use crate::fsm::{BfdVerdict, Event};
use crate::rib::SourceId;

/// What a BFD session is between.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BfdKey {
    /// The peer's address.
    pub peer: IpAddr,
    /// Ours.
    pub local: IpAddr,
    /// The link; none for a peer behind routers.
    pub interface: Option<Arc<str>>,
}

/// A BFD session that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BfdSpec {
    /// Between whom.
    pub key: BfdKey,
    /// The `protocol bfd` that accepts it.
    pub protocol: Arc<str>,
    /// How it behaves.
    pub timing: BfdTiming,
}

impl Speaker {
    /// Says which BFD sessions are wanted, when that has changed, and tells new BGP sessions what is known.
    pub(super) fn want_bfd(&mut self, out: &mut Vec<Output>) {
        if self.stopping {
            // The end of the process is no news about paths.
            return;
        }
        let mut wanted = self.asked_by_bgp();
        wanted.extend(self.asked_by_static());
        for (name, bfd) in self.bfd_protocols() {
            let neighbors = bfd.neighbors.iter().filter_map(|n| neighbor_key(n, &self.addresses));
            wanted.extend(neighbors.filter_map(|key| self.spec(key, BfdOptions::default(), &[(name.clone(), bfd)])));
        }
        // Stable: of several that ask for the same session the first, a BGP protocol, sets its timers.
        wanted.sort_by(|a, b| a.key.cmp(&b.key));
        wanted.dedup_by(|later, first| later.key == first.key);
        if wanted != self.bfd_wanted {
            let before = self.bfd_up.len();
            self.bfd_up.retain(|key| wanted.iter().any(|spec| spec.key == *key));
            if self.bfd_up.len() != before {
                self.originate_watched();
            }
            self.bfd_wanted.clone_from(&wanted);
            out.push(Output::Bfd(wanted));
        }
        for source in self.watched_by(|key, up, known| up.contains(key) && !known) {
            self.peer_event(source, Event::Bfd(BfdVerdict::Up), out);
        }
    }

    /// Says which protocols ask for a path to be watched that nothing watches.
    pub(super) fn warn_of_unwatched(&self, out: &mut Vec<Output>) {
        for protocol in self.config.protocols.iter().filter(|protocol| !protocol.disabled) {
            let watched = match &protocol.kind {
                ProtocolKind::Bgp(bgp) => self.config.watches(bgp),
                ProtocolKind::Static(routes) => self.config.watches_static(routes),
                _ => true,
            };
            if !watched {
                let (protocol, event) = (protocol.name.clone(), LogEvent::Unwatched);
                out.push(Output::Log(Log { protocol, event }));
            }
        }
    }

    /// The sessions of BGP protocols that some protocol bfd accepts.
    fn asked_by_bgp(&mut self) -> Vec<BfdSpec> {
        let addresses = self.addresses.clone();
        let mut asked = Vec::new();
        for instance in self.instances.iter_mut().flatten().filter(|i| i.enabled) {
            let Some(session) = instance.session_mut() else {
                continue;
            };
            if session.config.bfd.usage == BfdUsage::Off {
                session.bfd = None;
                continue;
            }
            if let Some(key) = bgp_key(&session.config, session.remote, &addresses) {
                session.bfd = Some(key);
            }
            asked.extend(session.bfd.clone().map(|key| (key, session.config.bfd.options)));
        }
        let protocols = self.bfd_protocols();
        let specs = asked
            .into_iter()
            .filter_map(|(key, options)| self.spec(key, options, &protocols));
        specs.collect()
    }

    /// The sessions of static routes that some protocol bfd accepts.
    fn asked_by_static(&self) -> Vec<BfdSpec> {
        let protocols = self.bfd_protocols();
        let enabled = self.instances.iter().flatten().filter(|i| i.enabled);
        let routes = enabled.filter_map(|instance| match &instance.config.kind {
            ProtocolKind::Static(config) => Some(&config.routes),
            _ => None,
        });
        let keys = routes
            .flatten()
            .flat_map(StaticRoute::watched)
            .filter_map(|watched| static_key(watched, &self.addresses));
        let specs = keys.filter_map(|key| self.spec(key, BfdOptions::default(), &protocols));
        specs.collect()
    }

    /// Makes the routes anew that BFD may have a say in.
    fn originate_watched(&mut self) {
        for at in 0..self.instances.len() {
            let Some(Some(instance)) = self.instances.get(at) else {
                continue;
            };
            let watched = match &instance.config.kind {
                ProtocolKind::Static(config) => config.routes.iter().any(|route| route.watched().next().is_some()),
                _ => false,
            };
            if watched {
                self.originate(at);
            }
        }
    }

    fn bfd_protocols(&self) -> Vec<(Arc<str>, &BfdConfig)> {
        let enabled = self.instances.iter().flatten().filter(|i| i.enabled);
        let bfd = enabled.filter_map(|instance| match &instance.config.kind {
            ProtocolKind::Bfd(bfd) => Some((instance.name().clone(), bfd)),
            _ => None,
        });
        bfd.collect()
    }

    fn spec(&self, key: BfdKey, options: BfdOptions, protocols: &[(Arc<str>, &BfdConfig)]) -> Option<BfdSpec> {
        let (name, bfd) = protocols.iter().find(|(_, bfd)| accepts(bfd, &key))?;
        let near = |a: &&InterfaceAddress| Some(&a.interface) == key.interface.as_ref();
        let theirs = match &key.interface {
            None => bfd.multihop,
            Some(_) => {
                let here: Vec<_> = self.addresses.iter().filter(near).collect();
                let matches = |patterns| {
                    here.iter()
                        .any(|address| selected(std::slice::from_ref(patterns), address))
                };
                let statement = bfd.interfaces.iter().find(|(patterns, _)| matches(patterns));
                statement.map(|(_, options)| *options).unwrap_or_default()
            }
        };
        Some(BfdSpec {
            key,
            protocol: name.clone(),
            timing: options.or(theirs).timing(),
        })
    }

    /// BFD has something to say.
    pub(super) fn bfd_says(&mut self, key: &BfdKey, verdict: BfdVerdict, out: &mut Vec<Output>) {
        if !self.bfd_wanted.iter().any(|spec| spec.key == *key) {
            return;
        }
        if verdict == BfdVerdict::Up {
            self.bfd_up.insert(key.clone());
        } else {
            self.bfd_up.remove(key);
        }
        self.originate_watched();
        for source in self.watched_by(|watched, _, _| watched == key) {
            self.peer_event(source, Event::Bfd(verdict), out);
        }
    }

    /// BGP sessions by the BFD session they rely on, the ones that are up, and whether they know.
    fn watched_by(&self, wanted: impl Fn(&BfdKey, &std::collections::BTreeSet<BfdKey>, bool) -> bool) -> Vec<SourceId> {
        let watched = |instance: &&Instance| {
            let session = instance.session();
            session.is_some_and(|session| {
                let key = session.bfd.as_ref();
                key.is_some_and(|key| wanted(key, &self.bfd_up, session.peer.bfd_is_up()))
            })
        };
        let found = self.instances.iter().flatten().filter(watched);
        found.map(|instance| instance.source).collect()
    }
}

fn accepts(bfd: &BfdConfig, key: &BfdKey) -> bool {
    let family = if key.peer.is_ipv4() {
        ChannelFamily::Ipv4
    } else {
        ChannelFamily::Ipv6
    };
    bfd.accepts(family, key.interface.is_none())
}

/// The BFD session of a BGP session; `None` while the peer is on no link of ours.
fn bgp_key(config: &BgpConfig, peer: IpAddr, addresses: &[InterfaceAddress]) -> Option<BfdKey> {
    let interface = config.interface.as_deref();
    key(
        peer,
        config.local_address,
        interface,
        config.transport.multihop.is_some(),
        addresses,
    )
}

/// The BFD session of a static route's gateway; `None` while that is on no link of ours.
pub(super) fn static_key(
    (gateway, interface): (IpAddr, Option<&str>),
    addresses: &[InterfaceAddress],
) -> Option<BfdKey> {
    key(gateway, None, interface, false, addresses)
}

fn neighbor_key(neighbor: &BfdNeighbor, addresses: &[InterfaceAddress]) -> Option<BfdKey> {
    let interface = neighbor.interface.as_deref();
    key(
        neighbor.address,
        neighbor.local,
        interface,
        neighbor.multihop,
        addresses,
    )
}

fn key(
    peer: IpAddr,
    local: Option<IpAddr>,
    interface: Option<&str>,
    multihop: bool,
    addresses: &[InterfaceAddress],
) -> Option<BfdKey> {
    if multihop {
        let local = local?;
        return Some(BfdKey {
            peer,
            local,
            interface: None,
        });
    }
    let near = |a: &&InterfaceAddress| a.subnet.contains(peer) && interface.is_none_or(|name| name == &*a.interface);
    let link = addresses.iter().find(near)?;
    Some(BfdKey {
        peer,
        local: local.unwrap_or(link.address),
        interface: Some(link.interface.clone()),
    })
}
