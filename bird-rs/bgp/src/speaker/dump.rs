//! Tables in pages, for dumps (MRT): whoever dumps a million routes holds a page of them, and the engine answers peers
//! between two pages.
//!
//! A page is true of the moment it was asked for. A dump that took many moments may therefore show a route twice or not
//! at all that came, went or moved meanwhile; one that stayed as it was is shown once.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tortie_net::{Prefix, RouterId};

use super::Speaker;
use super::instance::Instance;
use super::io::{ExportKind, ExportSpec, Output};
use crate::attr::{Attributes, NextHop};
use crate::config::ProtocolKind;
use crate::mrt::{Peer, PeerIndex, Rib, RibEntry};
use crate::rib::Path;

/// How far a dump of one table is.
#[derive(Debug, Clone)]
pub struct DumpCursor {
    table: Arc<str>,
    /// By router identifier and address: who is what in the index.
    peers: HashMap<(RouterId, IpAddr), u16>,
    always_add_path: bool,
    next: usize,
    sequence: u32,
}

/// A part of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpPage {
    /// Its records, in the order of the table.
    pub ribs: Vec<Rib>,
    /// There may be more.
    pub more: bool,
}

impl Speaker {
    /// The names of the tables, in the order they were made.
    pub fn table_names(&self) -> Vec<Arc<str>> {
        let keys = self.tables.keys().into_iter();
        keys.map(|key| self.tables.name(key).clone()).collect()
    }

    /// Begins a dump of a table: the index of peers that its first record is, and a cursor for [`Speaker::dump_page`].
    /// None when there is no such table.
    pub fn dump(&self, table: &str, always_add_path: bool) -> Option<(PeerIndex, DumpCursor)> {
        let table = self.table_names().into_iter().find(|name| **name == *table)?;
        let mut index = PeerIndex {
            collector: self.router_id,
            view: table.to_string(),
            peers: vec![Peer::LOCAL],
        };
        let mut peers = HashMap::new();
        for instance in self.instances.iter().flatten() {
            let Some(peer) = self.dumped_peer(instance) else {
                continue;
            };
            // 65,535 protocols at most, and the first entry is ours.
            let Ok(at) = u16::try_from(index.peers.len()) else {
                break;
            };
            if index.peers.len() < usize::from(u16::MAX) {
                peers.insert((peer.router_id, peer.address), at);
                index.peers.push(peer);
            }
        }
        let cursor = DumpCursor {
            table,
            peers,
            always_add_path,
            next: 0,
            sequence: 0,
        };
        Some((index, cursor))
    }

    /// A peer that has a session, or routes of the last one.
    fn dumped_peer(&self, instance: &Instance) -> Option<Peer> {
        let session = instance.session()?;
        let traits = self
            .tables
            .shared
            .traits
            .get(usize::from(instance.source.0))?
            .as_ref()?;
        Some(Peer {
            router_id: traits.router_id,
            address: session.remote,
            asn: session.last_as?,
        })
    }

    /// The next page, of no more than `slots` prefixes. `boot` is the time since 1970 at which the process started.
    pub fn dump_page(&self, cursor: &mut DumpCursor, slots: usize, boot: Duration) -> DumpPage {
        let mut ribs = Vec::new();
        let keys = self.tables.keys().into_iter();
        let Some(key) = keys.into_iter().find(|key| *self.tables.name(*key) == cursor.table) else {
            return DumpPage { ribs, more: false };
        };
        let next = self.tables.visit_page(key, cursor.next, slots.max(1), |prefix, paths| {
            let entries: Vec<RibEntry> = paths
                .iter()
                .filter_map(|path| self.entry(prefix, path, cursor, boot))
                .take(usize::from(u16::MAX))
                .collect();
            if entries.is_empty() {
                return;
            }
            ribs.push(Rib {
                sequence: cursor.sequence,
                prefix,
                add_path: cursor.always_add_path || entries.iter().any(|entry| entry.path_id != 0),
                entries,
            });
            cursor.sequence = cursor.sequence.wrapping_add(1);
        });
        cursor.next = next.unwrap_or(cursor.next);
        DumpPage {
            ribs,
            more: next.is_some(),
        }
    }

    /// A path that may be used. One of a peer that came after the index was written cannot be shown.
    fn entry(&self, prefix: Prefix, path: &Path, cursor: &DumpCursor, boot: Duration) -> Option<RibEntry> {
        if path.filtered().is_some() {
            return None;
        }
        let traits = self.tables.shared.traits.get(usize::from(path.source().0))?.as_ref()?;
        let peer = match traits.address {
            Some(address) => *cursor.peers.get(&(traits.router_id, address))?,
            None => 0,
        };
        let learned = self.tables.shared.learned.get(path.attrs());
        let since = boot + Duration::from_secs(u64::from(path.since()));
        // A route of our own leads where its gateway is.
        let gateway = || learned.gateways.first().and_then(|hop| hop.address).map(Into::into);
        Some(RibEntry {
            peer,
            originated: u32::try_from(since.as_secs()).unwrap_or(u32::MAX),
            path_id: path.path_id(),
            attributes: Attributes {
                next_hop: learned.attributes.next_hop.or_else(gateway).or(Some(nowhere(prefix))),
                ..learned.attributes.clone()
            },
        })
    }

    /// Says which protocols show others what this router has, when that has changed.
    pub(super) fn exports(&mut self, out: &mut Vec<Output>) {
        let enabled = self.instances.iter().flatten().filter(|i| i.enabled && !self.stopping);
        let wanted: Vec<ExportSpec> = enabled
            .filter_map(|instance| {
                let kind = match &instance.config.kind {
                    ProtocolKind::Mrt(mrt) => ExportKind::Mrt(mrt.clone()),
                    ProtocolKind::Bmp(bmp) => ExportKind::Bmp(bmp.clone()),
                    _ => return None,
                };
                let protocol = instance.name().clone();
                Some(ExportSpec { protocol, kind })
            })
            .collect();
        if wanted != self.exporting {
            self.forget_stations(&wanted);
            self.exporting.clone_from(&wanted);
            out.push(Output::Exports(wanted));
        }
    }
}

/// The next hop of a route of our own that has none. The attribute is mandatory, and there are readers that refuse a whole
/// dump without it; unspecified is what other routers write.
fn nowhere(prefix: Prefix) -> NextHop {
    NextHop::from(match prefix.addr() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    })
}
