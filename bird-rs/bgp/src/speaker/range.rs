//! Dynamic peers: a protocol for a range of addresses makes one for each address that connects, so many at a time.
//!
//! Whoever controls the range's addresses could otherwise make us keep a session for each of them. A peer beyond the
//! limit is refused before it costs more than the connection; those that are there are left alone.

use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::Speaker;
use super::instance::{Instance, Kind};
use super::io::{Log, LogEvent, Output};
use super::session::neighbour;
use super::show::RangeStatus;
use crate::config::{BgpConfig, Change, DYNAMIC_LIMIT, Neighbor, PeerType, Protocol, ProtocolKind};
use crate::fsm::StopReason;
use crate::rib::SourceId;

/// A range of BGP peers.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) config: BgpConfig,
    /// Connections refused because there were as many peers as there may be.
    pub(super) refused: u64,
    /// The second in which the log last heard of that.
    refusal_logged: Option<u32>,
    /// Why nobody can be accepted, if so.
    pub(super) unguarded: Option<String>,
}

impl Range {
    pub(super) fn new(config: &BgpConfig) -> Self {
        Range {
            config: config.clone(),
            refused: 0,
            refusal_logged: None,
            unguarded: None,
        }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        matches!(&self.config.neighbor, Neighbor::Range { prefix, .. } if prefix.contains(address))
    }

    /// What it shows of itself.
    pub(super) fn status(&self) -> Option<RangeStatus> {
        Some(RangeStatus {
            prefix: neighbour(&self.config).err()?,
            neighbor_as: match self.config.peer_type {
                PeerType::As(asn) => Some(asn),
                PeerType::Internal => Some(self.config.local_as),
                PeerType::External => None,
            },
            local_as: self.config.local_as,
            last_error: self.unguarded.clone(),
        })
    }

    /// How many peers there may be.
    fn limit(&self) -> u32 {
        match self.config.neighbor {
            Neighbor::Range { limit, .. } => limit,
            Neighbor::Address(_) => 0,
        }
    }
}

impl Instance {
    pub(super) fn range(&self) -> Option<&Range> {
        match &self.kind {
            Kind::Range(range) => Some(range),
            Kind::Bgp(_) | Kind::Origin(_) | Kind::Felix(_) | Kind::Kernel(_) | Kind::Roas(_) | Kind::Quiet => None,
        }
    }

    /// Was it made for a peer out of this range?
    fn is_of(&self, range: &str) -> bool {
        let of = self.session().and_then(|session| session.range.as_deref());
        of == Some(range)
    }
}

impl Speaker {
    /// The peers that a range has now.
    fn peers_of<'a>(&'a self, range: &'a str) -> impl Iterator<Item = SourceId> + 'a {
        let made = self.instances.iter().flatten().filter(move |i| i.is_of(range));
        made.map(|instance| instance.source)
    }

    /// A range in a few words, for BIRD's last column.
    pub(super) fn range_info(&self, name: &str, range: &Range) -> String {
        if let Some(reason) = &range.unguarded {
            return reason.clone();
        }
        let (peers, limit) = (self.peers_of(name).count(), range.limit());
        match range.refused {
            0 => format!("{peers} of {limit} peers"),
            refused => format!("{peers} of {limit} peers, {refused} connections refused"),
        }
    }

    /// Makes a protocol for a peer out of a configured range.
    pub(super) fn dynamic_peer(&mut self, from: IpAddr, out: &mut Vec<Output>) -> Option<SourceId> {
        if self.stopping {
            return None;
        }
        let mut enabled = self.instances.iter().flatten().filter(|i| i.enabled);
        let instance = enabled.find(|i| i.range().is_some_and(|range| range.contains(from)))?;
        let (of, template, range) = (instance.source, instance.config.clone(), instance.range()?);
        let Neighbor::Range {
            name, digits, limit, ..
        } = &range.config.neighbor
        else {
            return None;
        };
        if self.peers_of(&template.name).count() >= *limit as usize {
            self.refuse_dynamic(of, from, out);
            return None;
        }
        let (prefix, width, mut bgp) = (name.clone(), usize::from(*digits), range.config.clone());
        bgp.neighbor = Neighbor::Address(from);
        bgp.transport.passive = true;
        let name: Arc<str> = loop {
            self.next_dynamic += 1;
            let name = format!("{prefix}{:0width$}", self.next_dynamic);
            if self.find(&name).is_none() {
                break name.into();
            }
        };
        let protocol = Protocol {
            name,
            disabled: true,
            kind: ProtocolKind::Bgp(Box::new(bgp)),
            ..Protocol::clone(&template)
        };
        let source = self.add(Arc::new(protocol), out)?;
        if let Some(session) = self.instance_mut(source).and_then(Instance::session_mut) {
            session.range = Some(template.name.clone());
        }
        self.enable(source, out);
        Some(source)
    }

    /// Counts a refused peer; the log hears of it once in a second at most.
    fn refuse_dynamic(&mut self, of: SourceId, from: IpAddr, out: &mut Vec<Output>) {
        let now = self.seconds();
        let Some(instance) = self.instance_mut(of) else { return };
        let name = instance.name().clone();
        let Kind::Range(range) = &mut instance.kind else { return };
        range.refused += 1;
        if range.refusal_logged.replace(now) != Some(now) {
            out.push(Output::Log(Log {
                protocol: name,
                event: LogEvent::RangeFull {
                    limit: range.limit(),
                    refused: range.refused,
                    address: from,
                },
            }));
        }
    }

    /// Dynamic peers whose session is over and whose routes are not kept go.
    pub(super) fn retire_dynamic(&mut self, out: &mut Vec<Output>) {
        let idle = self.instances.iter().flatten().filter(|instance| {
            let session = instance.session().filter(|session| session.is_dynamic());
            session.is_some_and(|session| {
                let has_routes = session.channels.iter().any(|c| {
                    let counts = self.tables.counts(c.key, instance.source);
                    counts.accepted + counts.filtered > 0
                });
                !has_routes
            })
        });
        let mut over: Vec<SourceId> = idle.map(|instance| instance.source).collect();
        if !over.is_empty() {
            // Looked through once, and not for each of them.
            let connected: FxHashSet<SourceId> = self.connections.values().map(|c| c.source).collect();
            over.retain(|source| !connected.contains(source));
        }
        for source in over {
            self.delete(source, StopReason::Deconfigured, out);
        }
    }

    /// Dynamic peers whose range is gone or has changed go; they come back by themselves. Another limit is only for those
    /// that come.
    pub(super) fn remove_dynamic(&mut self, changes: &[Change], out: &mut Vec<Output>) {
        let changed = changes.iter().filter(|change| change.reason != DYNAMIC_LIMIT);
        let gone: Vec<SourceId> = changed.flat_map(|change| self.peers_of(&change.protocol)).collect();
        gone.into_iter()
            .for_each(|source| self.delete(source, StopReason::ConfigurationChange, out));
    }
}
