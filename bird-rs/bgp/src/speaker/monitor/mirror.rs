//! Routes for monitoring stations: what changed, and what there is.

use std::time::Duration;

use bytes::Bytes;

use super::super::instance::Instance;
use super::super::io::{ExportKind, Output};
use super::super::session::Session;
use super::super::tables::News;
use super::super::{ConnId, Speaker};
use crate::bmp::{Message, Policy};
use crate::packet::{self, AfiSafi, EncodeError, FamilySet, Nlri, SessionContext};
use crate::rib::{AttrId, Before, Path, SourceId};

/// Changes of one table that a flush tells: some milliseconds of work, some hundred kilobytes.
const BATCH: usize = 8 * 1024;

/// How far a station that connected has been told what there is.
#[derive(Debug, Clone)]
pub struct MonitorCursor {
    pre_policy: bool,
    post_policy: bool,
    /// The tables are visited in the order of their keys.
    table: usize,
    next: usize,
    /// The sessions that there were at the begin: these are complete at the end.
    sessions: Vec<(SourceId, ConnId)>,
}

/// A part of what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorPage {
    /// The routes of the page; behind those of the last one, an End-of-RIB of each session.
    pub messages: Vec<Message>,
    /// There may be more.
    pub more: bool,
}

/// A route to be told. Sorted, those that fit into one message stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    source: SourceId,
    policy: Policy,
    /// With the second at which it came; none for a withdrawal.
    route: Option<(AttrId, u32)>,
    nlri: Nlri,
}

impl Speaker {
    /// Is there something that a flush would tell stations?
    pub(in crate::speaker) fn has_news_for_stations(&self) -> bool {
        self.monitor.wants_routes()
            && (!self.monitor.ends.is_empty() || self.tables.keys().into_iter().any(|key| self.tables.has_news(key)))
    }

    /// Tells stations what changed, or a part of it.
    pub(in crate::speaker) fn feed_stations(&mut self, out: &mut Vec<Output>) {
        if !self.has_news_for_stations() {
            return;
        }
        let mut messages = Vec::new();
        for key in self.tables.keys() {
            let Some(news) = self.tables.news(key, BATCH) else {
                out.push(Output::MonitorLost);
                continue;
            };
            let mut items = Vec::new();
            for one in &news {
                self.tell_news(one, &mut items);
            }
            self.mirror(items, &mut messages);
        }
        let ends = std::mem::take(&mut self.monitor.ends);
        let (told, later) = ends
            .into_iter()
            .partition(|(source, family)| !self.owes(*source, *family));
        self.monitor.ends = later;
        let views = (self.monitor.pre_policy, self.monitor.post_policy);
        self.mirror_ends(&told, views, &mut messages);
        if !messages.is_empty() {
            out.push(Output::Monitor(messages));
        }
    }

    /// Is there news that has to go before the End-of-RIB?
    fn owes(&self, source: SourceId, family: AfiSafi) -> bool {
        let session = self.instance(source).and_then(Instance::session);
        let mut channels = session.into_iter().flat_map(|session| &session.channels);
        channels.any(|channel| channel.key.family == family && self.tables.has_news(channel.key))
    }

    fn tell_news(&self, news: &News, items: &mut Vec<Item>) {
        let mut tell = |policy: Policy, route: Option<(AttrId, u32)>| {
            items.push(Item {
                source: news.source,
                policy,
                route,
                nlri: news.nlri,
            });
        };
        let now = news.now.as_ref();
        if self.monitor.pre_policy && news.heard {
            tell(Policy::Pre, now.map(|path| (path.received(), path.since())));
        }
        let accepted = now.filter(|path| path.is_accepted());
        if self.monitor.post_policy && (accepted.is_some() || news.before == Before::Accepted) {
            tell(Policy::Post, accepted.map(|path| (path.attrs(), path.since())));
        }
    }

    /// UPDATEs for these items, in the name of their peers.
    fn mirror(&self, mut items: Vec<Item>, messages: &mut Vec<Message>) {
        items.sort_unstable();
        let alike = |a: &Item, b: &Item| (a.source, a.policy, a.route) == (b.source, b.policy, b.route);
        for run in items.chunk_by(alike) {
            let Some(first) = run.first() else { continue };
            let Some((session, peer)) = self.peer(first.source) else {
                continue;
            };
            let at = self.came_at(first);
            let nlri: Vec<Nlri> = run.iter().map(|item| item.nlri).collect();
            messages.extend(
                self.updates(session, first, &nlri)
                    .into_iter()
                    .map(|update| Message::Route {
                        peer,
                        at,
                        policy: first.policy,
                        update,
                    }),
            );
        }
    }

    /// Paths know the second in which they came: no route of this session came before it, and none of this second before
    /// now. What graceful restart has kept is of this session too.
    fn came_at(&self, item: &Item) -> Duration {
        let up = self.instance(item.source).map_or(self.now, |instance| instance.since);
        match item.route {
            Some((_, since)) if since < self.seconds() => Duration::from_secs(since.into()).max(up),
            Some(_) | None => self.now,
        }
    }

    /// The family of all of them is the same.
    fn updates(&self, session: &Session, item: &Item, nlri: &[Nlri]) -> Vec<Bytes> {
        let family = AfiSafi::of(item.nlri.prefix);
        let context = context(session);
        let withdraw = || packet::withdraw(&context, family, nlri.iter().copied());
        let Some((attrs, _)) = item.route else {
            return withdraw();
        };
        let mut attributes = self.tables.shared.learned.get(attrs).attributes;
        // On such a session the peer's was not listened to; what is there is ours.
        let own = !session.is_internal() && !session.config.allow_local_pref;
        if own && item.policy == Policy::Pre {
            attributes.local_pref = None;
        }
        let told = match packet::announce(&context, family, &attributes, nlri.iter().copied()) {
            // With four octets for each AS it may be longer than what the peer sent.
            Err(EncodeError::TooLong { .. }) => {
                let context = SessionContext {
                    extended_tx: true,
                    ..context
                };
                packet::announce(&context, family, &attributes, nlri.iter().copied())
            }
            told => told,
        };
        // A filter may have set a next hop that the family cannot have: then there is nothing to show.
        told.unwrap_or_else(|_| withdraw())
    }

    fn mirror_ends(
        &self,
        ends: &[(SourceId, AfiSafi)],
        (pre_policy, post_policy): (bool, bool),
        messages: &mut Vec<Message>,
    ) {
        for (source, family) in ends {
            let Some((_, peer)) = self.peer(*source) else {
                continue;
            };
            for (policy, wanted) in [(Policy::Pre, pre_policy), (Policy::Post, post_policy)] {
                if wanted {
                    messages.push(Message::Route {
                        peer,
                        at: self.now,
                        policy,
                        update: packet::end_of_rib(*family),
                    });
                }
            }
        }
    }

    /// Begins to tell a protocol's station what there is. None when the protocol is none, or is disabled.
    pub fn monitor(&self, protocol: &str) -> Option<MonitorCursor> {
        let spec = self.exporting.iter().find(|spec| *spec.protocol == *protocol)?;
        let ExportKind::Bmp(bmp) = &spec.kind else { return None };
        let sessions = self.monitored();
        Some(MonitorCursor {
            pre_policy: bmp.pre_policy,
            post_policy: bmp.post_policy,
            table: 0,
            next: 0,
            sessions: sessions
                .filter_map(|(instance, session)| Some((instance.source, session.up.as_ref()?.conn)))
                .collect(),
        })
    }

    /// The next page, of no more than `slots` prefixes.
    pub fn monitor_page(&self, cursor: &mut MonitorCursor, slots: usize) -> MonitorPage {
        let mut messages = Vec::new();
        let wants_routes = cursor.pre_policy || cursor.post_policy;
        if let Some(key) = self.tables.keys().get(cursor.table).filter(|_| wants_routes) {
            let mut items = Vec::new();
            let next = self
                .tables
                .visit_page(*key, cursor.next, slots.max(1), |prefix, paths| {
                    for path in paths {
                        tell_path(path, prefix, cursor, &mut items);
                    }
                });
            if next.is_none() {
                cursor.table += 1;
            }
            cursor.next = next.unwrap_or_default();
            self.mirror(items, &mut messages);
            return MonitorPage { messages, more: true };
        }
        for (source, conn) in &cursor.sessions {
            let session = self.instance(*source).and_then(Instance::session);
            let up = session
                .and_then(|session| session.up.as_ref())
                .filter(|up| up.conn == *conn);
            let families = up.map_or(FamilySet::EMPTY, |up| up.context.families);
            let ends: Vec<_> = families.iter().map(|family| (*source, family)).collect();
            self.mirror_ends(&ends, (cursor.pre_policy, cursor.post_policy), &mut messages);
        }
        MonitorPage { messages, more: false }
    }
}

/// A path in the tables that its station monitors. Those of protocols without a session are left out later.
fn tell_path(path: &Path, prefix: tortie_net::Prefix, cursor: &MonitorCursor, items: &mut Vec<Item>) {
    let mut tell = |policy: Policy, attrs: AttrId| {
        items.push(Item {
            source: path.source(),
            policy,
            route: Some((attrs, path.since())),
            nlri: Nlri {
                path_id: path.path_id(),
                prefix,
            },
        });
    };
    if cursor.pre_policy {
        tell(Policy::Pre, path.received());
    }
    if cursor.post_policy && path.is_accepted() {
        tell(Policy::Post, path.attrs());
    }
}

/// How UPDATEs are mirrored: as the two OPENs say, but with four octets for every AS, and every next hop may be told.
fn context(session: &Session) -> SessionContext {
    let agreed = session.up.as_ref().map(|up| up.context).unwrap_or_default();
    SessionContext {
        four_octet_as: true,
        add_path_tx: agreed.add_path_rx,
        ext_next_hop: true,
        extended_tx: false,
        ..agreed
    }
}
