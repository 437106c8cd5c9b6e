//! Protocols that have ROAs, and what becomes of routes when ROAs change.
//!
//! The sessions with caches are the shell's, which runs [`crate::rtr::Session`]: it is told which are wanted
//! ([`Output::Caches`]) and reports what they say ([`super::Input::Cache`]), whole sets at a time. A session has a number, so
//! that what an old one still had to say is not taken for the new one's.
//!
//! Filters run again for exactly the routes within the prefixes of ROAs that came or went, of the channels whose filters
//! ask the table in question; for all routes of a channel whose filter asks of another prefix than the route's own. No session
//! notices.

use std::sync::Arc;

use tortie_net::Prefix;

use super::Speaker;
use super::instance::{Instance, Kind};
use super::io::Output;
use super::tables::TableKey;
use crate::config::{Channel, LimitAction, Policy, ProtocolKind, RoaChannel, RpkiConfig};
use crate::rib::SourceId;
use crate::roa::{Cover, Roa, RoaSet, RoaSource, RoaTables};
use crate::rtr::{CacheStatus, State};

/// A session with a cache that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSpec {
    /// Its number: never used again.
    pub id: u32,
    /// The `protocol rpki`.
    pub protocol: Arc<str>,
    /// Where the cache is, and how to speak with it.
    pub config: RpkiConfig,
}

/// What a session with a cache has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheNews {
    /// It is in another state.
    Status(Box<CacheStatus>),
    /// These are its ROAs now.
    Roas(Arc<RoaSet>),
}

/// A protocol that has ROAs, while it runs.
#[derive(Debug, Default)]
pub(super) struct Roas {
    /// The session with the cache, and how it is; none for ROAs of the configuration.
    cache: Option<(u32, Option<CacheStatus>)>,
}

/// A ROA of a table, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRoa {
    /// The ROA.
    pub roa: Roa,
    /// Who has it, the most preferred first.
    pub sources: Vec<ListedSource>,
}

/// Who has a ROA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSource {
    /// The protocol.
    pub protocol: Arc<str>,
    /// Does it come from a cache?
    pub of_cache: bool,
    /// The preference.
    pub preference: u16,
    /// When the protocol's ROAs last changed.
    pub since: std::time::Duration,
}

/// Which routes a change of ROAs concerns.
enum Concerned<'a> {
    /// Those within one of these.
    Within(Vec<&'a Cover>),
    All,
}

impl Concerned<'_> {
    fn has(&self, net: Prefix) -> bool {
        match self {
            Concerned::All => true,
            Concerned::Within(covers) => covers.iter().any(|cover| cover.covers(net)),
        }
    }
}

/// The routes that a policy may now decide otherwise about; `None` when there are none.
fn concerned<'a>(policy: &Policy, changes: &'a [(Arc<str>, Cover)]) -> Option<Concerned<'a>> {
    let Policy::Filter(filter) = policy else { return None };
    let functions = filter.uses.iter().map(|function| &function.body);
    let asked = std::iter::once(&*filter.body)
        .chain(functions)
        .flat_map(|body| &body.roas);
    let mut within: Vec<&Cover> = Vec::new();
    for using in asked {
        let changed = changes.iter().filter(|(table, _)| *table == using.table);
        for (_, cover) in changed {
            if !using.of_net {
                return Some(Concerned::All);
            }
            if !within.iter().any(|known| std::ptr::eq(*known, cover)) {
                within.push(cover);
            }
        }
    }
    (!within.is_empty()).then_some(Concerned::Within(within))
}

impl Roas {
    /// How the session with the cache is.
    pub(super) fn status(&self) -> Option<&CacheStatus> {
        self.cache.as_ref().and_then(|(_, status)| status.as_ref())
    }

    /// Are its ROAs there, or as good as that?
    pub(super) fn is_up(&self) -> bool {
        self.cache.is_none() || self.status().is_some_and(|status| status.state == State::Idle)
    }

    pub(super) fn info(&self) -> String {
        let Some((_, status)) = &self.cache else {
            return String::new();
        };
        let state = status.as_ref().map_or(State::Connecting, |status| status.state);
        match status.as_ref().and_then(|status| status.problem.as_deref()) {
            Some(problem) => format!("{:<14}{problem}", state.as_str()),
            None => state.as_str().to_owned(),
        }
    }
}

/// The channels of ROAs of a protocol.
pub(super) fn roa_channels(kind: &ProtocolKind) -> &[RoaChannel] {
    match kind {
        ProtocolKind::Roas(config) => std::slice::from_ref(&config.channel),
        ProtocolKind::Rpki(config) => &config.channels,
        ProtocolKind::Device(_)
        | ProtocolKind::Direct(_)
        | ProtocolKind::Static(_)
        | ProtocolKind::Kernel(_)
        | ProtocolKind::Felix(_)
        | ProtocolKind::Bfd(_)
        | ProtocolKind::Bgp(_)
        | ProtocolKind::Mrt(_)
        | ProtocolKind::Bmp(_) => &[],
    }
}

impl Speaker {
    /// Starts a protocol that has ROAs, or takes over a new list of them.
    pub(super) fn provide_roas(&mut self, source: SourceId) {
        let fresh = self.next_cache;
        let Some(instance) = self.instance_mut(source).filter(|instance| instance.enabled) else {
            return;
        };
        let config = instance.config.clone();
        let Kind::Roas(roas) = &mut instance.kind else { return };
        match &config.kind {
            ProtocolKind::Roas(roas) => {
                let set: RoaSet = roas.roas.iter().copied().collect();
                self.set_roas(source, &Arc::new(set));
            }
            _ if roas.cache.is_none() => {
                roas.cache = Some((fresh, None));
                self.next_cache += 1;
            }
            _ => {}
        }
    }

    /// Takes a protocol's ROAs away.
    pub(super) fn withdraw_roas(&mut self, source: SourceId) {
        if let Some(Kind::Roas(roas)) = self.instance_mut(source).map(|instance| &mut instance.kind) {
            roas.cache = None;
        }
        self.tables.shared.roas.remove(source);
    }

    fn set_roas(&mut self, source: SourceId, set: &Arc<RoaSet>) {
        let since = self.seconds();
        let Some(config) = self.instance(source).map(|instance| instance.config.clone()) else {
            return;
        };
        for channel in roa_channels(&config.kind) {
            let of = RoaSource {
                source,
                preference: channel.preference,
                since,
            };
            self.tables.shared.roas.set(&channel.table, of, set);
        }
    }

    /// A session with a cache has something to say.
    pub(super) fn cache_says(&mut self, id: u32, news: CacheNews) {
        let now = self.now;
        let of = |instance: &&mut Instance| matches!(&instance.kind, Kind::Roas(roas) if roas.cache.as_ref().is_some_and(|c| c.0 == id));
        let Some(instance) = self.instances.iter_mut().flatten().find(of) else {
            return;
        };
        let source = instance.source;
        match (news, &mut instance.kind) {
            (CacheNews::Roas(set), _) => self.set_roas(source, &set),
            (CacheNews::Status(status), Kind::Roas(roas)) => {
                let before = roas.is_up();
                roas.cache = Some((id, Some(*status)));
                if roas.is_up() != before {
                    instance.since = now;
                }
            }
            (CacheNews::Status(_), _) => {}
        }
    }

    /// Says which sessions with caches are wanted, when that has changed.
    pub(super) fn want_caches(&mut self, out: &mut Vec<Output>) {
        let enabled = self.instances.iter().flatten().filter(|i| i.enabled && !self.stopping);
        let wanted: Vec<CacheSpec> = enabled
            .filter_map(|instance| match (&instance.kind, &instance.config.kind) {
                (Kind::Roas(roas), ProtocolKind::Rpki(config)) => Some(CacheSpec {
                    id: roas.cache.as_ref()?.0,
                    protocol: instance.name().clone(),
                    config: config.clone(),
                }),
                _ => None,
            })
            .collect();
        if wanted != self.caches {
            self.caches.clone_from(&wanted);
            out.push(Output::Caches(wanted));
        }
    }

    /// Runs the filters anew that ask tables whose ROAs have changed.
    pub(super) fn revalidate(&mut self) {
        let changes = self.tables.shared.roas.take_changes();
        if changes.is_empty() {
            return;
        }
        for at in 0..self.instances.len() {
            let Some(Some(instance)) = self.instances.get(at) else {
                continue;
            };
            let channels: Vec<Channel> = instance.channels().into_iter().cloned().collect();
            for (index, channel) in channels.iter().enumerate().filter(|(_, channel)| channel.rpki_reload) {
                if let Some(concerned) = concerned(&channel.import, &changes) {
                    self.reimport_concerned(at, index, &concerned);
                }
                if let Some(concerned) = concerned(&channel.export, &changes) {
                    self.announce_concerned(at, index, &concerned);
                }
            }
        }
    }

    fn reimport_concerned(&mut self, at: usize, index: usize, concerned: &Concerned<'_>) {
        let own = self.own.clone();
        let Some(Some(instance)) = self.instances.get(at) else {
            return;
        };
        match &instance.kind {
            Kind::Bgp(session) => {
                let Some(channel) = session.channels.get(index) else {
                    return;
                };
                let (key, source) = (channel.key, instance.source);
                let view = session.import_view(instance.name(), &channel.config, &own);
                let limit = channel.config.channel.import_limit;
                let max = limit
                    .filter(|limit| limit.action == LimitAction::Block)
                    .map(|l| l.routes);
                // Which routes are within a limit depends on all of them.
                let nets = |net| max.is_some() || concerned.has(net);
                self.tables.reimport(key, source, &view, max, &nets);
            }
            Kind::Origin(_) => self.originate(at),
            Kind::Kernel(_) => self.refeed_kernel(instance.source, true, false),
            Kind::Range(_) | Kind::Felix(_) | Kind::Roas(_) | Kind::Quiet => {}
        }
    }

    fn announce_concerned(&mut self, at: usize, index: usize, concerned: &Concerned<'_>) {
        let Some(Some(instance)) = self.instances.get(at) else {
            return;
        };
        let key: Option<TableKey> = match &instance.kind {
            Kind::Bgp(session) => session
                .channels
                .get(index)
                .filter(|channel| channel.membership.is_some())
                .map(|channel| channel.key),
            Kind::Felix(channels) => channels.get(index).map(|(key, _)| *key),
            Kind::Kernel(table) => table.channel.get(index).map(|(key, _)| *key),
            Kind::Origin(_) | Kind::Range(_) | Kind::Roas(_) | Kind::Quiet => None,
        };
        if let Some(key) = key {
            self.tables.touch_nets(key, |net| concerned.has(net));
        }
    }

    /// All tables of ROAs, of which `roa_check` can be asked elsewhere. Little is copied.
    pub fn roa_tables(&self) -> RoaTables {
        self.tables.shared.roas.as_they_are()
    }

    /// The next ROAs of a table, at most so many, those behind `last` if it is given. Fewer than asked for are the last.
    pub fn roa_page(&self, table: &str, last: Option<Roa>, count: usize) -> Vec<ListedRoa> {
        let listed = |of: RoaSource| {
            let instance = self.instance(of.source)?;
            Some(ListedSource {
                protocol: instance.name().clone(),
                of_cache: matches!(instance.config.kind, ProtocolKind::Rpki(_)),
                preference: of.preference,
                since: std::time::Duration::from_secs(of.since.into()),
            })
        };
        let page = self.tables.shared.roas.page(table, last, count).into_iter();
        page.map(|entry| ListedRoa {
            roa: entry.roa,
            sources: entry.sources.into_iter().filter_map(listed).collect(),
        })
        .collect()
    }
}
