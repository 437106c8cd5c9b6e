//! Tables in pages, for who follows or shows them from outside of this crate.
//!
//! Nothing here looks at a whole table at once: a page is about a bounded number of prefixes and paths, and between two
//! of them the speaker does its work. A prefix that is there all the time is in one page; one that came or went meanwhile
//! may be in one or in none, and one that went and came back in two.

use tortie_net::Prefix;

use super::Speaker;
use super::instance::{Instance, Kind};
use super::io::FibRoute;
use super::show::{RouteQuery, RouteView};
use super::tables::{Announced, Membership, TableKey};
use crate::packet::AfiSafi;
use crate::rib::{Filtered, SourceId};

/// Numbers of prefixes looked at for one page.
pub(super) const SLOTS: usize = 512;

/// Where a page begins. The default is the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The place of the table, among those that the pages are about.
    table: usize,
    from: usize,
}

impl Cursor {
    /// Behind a page that ended at `next` of its table, out of so many tables.
    fn after(self, next: Option<usize>, tables: usize) -> Option<Self> {
        let Cursor { table, .. } = self;
        match next {
            Some(from) => Some(Cursor { table, from }),
            None if table + 1 < tables => Some(Cursor {
                table: table + 1,
                from: 0,
            }),
            None => None,
        }
    }
}

/// Some of the routes that a query is about, those of a prefix together and the best one first.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutesPage {
    /// The routes.
    pub routes: Vec<RouteView>,
    /// Where to go on; none at the end.
    pub next: Option<Cursor>,
}

/// Some of what felix is told.
#[derive(Debug, Clone, PartialEq)]
pub struct FibPage {
    /// The routes.
    pub routes: Vec<(Prefix, FibRoute)>,
    /// Where to go on; none at the end.
    pub next: Option<Cursor>,
}

/// Of which prefixes of a table.
enum Nets {
    All,
    One(Prefix),
    None,
}

/// A table and what of it a protocol is told, when that is what is asked for.
type Source = (TableKey, Option<(Membership, SourceId)>);

impl Speaker {
    /// A page of the routes that a query is about.
    pub fn routes_page(&self, query: &RouteQuery, at: Cursor) -> RoutesPage {
        let sources = self.sources(query);
        let mut routes = Vec::new();
        let Some((key, member)) = sources.get(at.table).copied() else {
            return RoutesPage { routes, next: None };
        };
        let next = match (self.nets(key, query), member) {
            (Nets::None, _) => None,
            (Nets::One(net), None) => {
                self.visit_wanted(key, query, Some(net), at.from, &mut routes);
                None
            }
            (Nets::All, None) => self.visit_wanted(key, query, None, at.from, &mut routes),
            (Nets::One(net), Some(member)) => {
                let each = |told| routes.extend(self.told(key, member.1, told));
                self.tables.announced_one(key, member, net, each);
                None
            }
            (Nets::All, Some(member)) => {
                let each = |told| routes.extend(self.told(key, member.1, told));
                self.tables.announced_from(key, member, (at.from, SLOTS), each)
            }
        };
        RoutesPage {
            routes,
            next: at.after(next, sources.len()),
        }
    }

    /// A page of what felix is told. What changes in a page that was given out already is told by
    /// [`Output::Fib`](super::io::Output::Fib) later than the page was asked for.
    pub fn fib_page(&self, at: Cursor) -> FibPage {
        let instances = self.instances.iter().flatten();
        let members: Vec<Source> = instances
            .filter(|instance| matches!(instance.kind, Kind::Felix(_)))
            .flat_map(memberships)
            .collect();
        let mut routes = Vec::new();
        let Some((key, Some(member))) = members.get(at.table).copied() else {
            return FibPage { routes, next: None };
        };
        let each = |told: Announced| routes.push((told.net, self.tables.shared.fib.get(told.attrs)));
        let next = self.tables.announced_from(key, member, (at.from, SLOTS), each);
        FibPage {
            routes,
            next: at.after(next, members.len()),
        }
    }

    fn sources(&self, query: &RouteQuery) -> Vec<Source> {
        match &query.exported_to {
            Some(name) => {
                let instance = self.find(name).and_then(|source| self.instance(source));
                instance.map(memberships).unwrap_or_default()
            }
            None => self.tables.keys().into_iter().map(|key| (key, None)).collect(),
        }
    }

    /// Which prefixes of a table a query is about.
    fn nets(&self, key: TableKey, query: &RouteQuery) -> Nets {
        let of_family = |net: &Prefix| AfiSafi::of(*net) == key.family;
        let exact = query.prefix.map(|exact| Some(exact).filter(of_family));
        let longest = query.longest_match.map(|target| {
            let target = Some(Prefix::host(target)).filter(of_family)?;
            self.tables.longest_match(key, target)
        });
        match (exact, longest) {
            (None, None) => Nets::All,
            (Some(Some(net)), None) | (None, Some(Some(net))) => Nets::One(net),
            (Some(Some(exact)), Some(Some(longest))) if exact == longest => Nets::One(exact),
            (Some(_), _) | (None, Some(None)) => Nets::None,
        }
    }

    /// Adds the wanted paths of one prefix, or of the next ones.
    fn visit_wanted(
        &self,
        key: TableKey,
        query: &RouteQuery,
        net: Option<Prefix>,
        from: usize,
        routes: &mut Vec<RouteView>,
    ) -> Option<usize> {
        let only = query.protocol.as_ref().map(|name| self.find(name));
        let each = |route: super::tables::TableRoute<'_>| {
            let from_wanted = only.is_none_or(|only| only == Some(route.path.source()));
            // What the policy accepted is shown, reachable or not.
            let refused = route.path.filtered().filter(|why| *why != Filtered::NextHop);
            let passes = refused.is_none() || query.filtered;
            if from_wanted && passes && (route.best || !query.best_only) {
                routes.extend(self.view(key, &route));
            }
        };
        match net {
            Some(net) => {
                self.tables.visit_one(key, net, each);
                None
            }
            None => self.tables.visit_from(key, (from, SLOTS), |_| true, each),
        }
    }

    /// A route as a protocol is told it.
    fn told(&self, key: TableKey, to: SourceId, told: Announced) -> Option<RouteView> {
        let mut found = None;
        self.tables.visit_one(key, told.net, |route| {
            // Without a lane it is the best one, or with `secondary` one that came behind it.
            let is_it = told
                .lane
                .map_or(route.best || told.secondary, |lane| lane.is_of(route.path));
            if is_it && route.path.source() == told.from {
                found = self.view(key, &route);
            }
        });
        let mut view = found?;
        match &self.instance(to)?.kind {
            Kind::Felix(_) | Kind::Kernel(_) => view
                .next_hops
                .clone_from(&self.tables.shared.fib.get(told.attrs).next_hops),
            Kind::Bgp(_) => {
                view.attributes = self.tables.shared.wire.get(told.attrs);
                view.path_id = told.lane.map_or(0, |lane| lane.announced_id());
            }
            Kind::Range(_) | Kind::Origin(_) | Kind::Roas(_) | Kind::Quiet => {}
        }
        Some(view)
    }
}

/// The tables that a protocol is told of.
fn memberships(instance: &Instance) -> Vec<Source> {
    let source = instance.source;
    let member = |(key, at): (TableKey, Option<Membership>)| Some((key, Some((at?, source))));
    match &instance.kind {
        Kind::Bgp(session) => {
            let channels = session.channels.iter().map(|c| (c.key, c.membership));
            channels.filter_map(member).collect()
        }
        Kind::Felix(channels) => channels.iter().copied().filter_map(member).collect(),
        Kind::Kernel(table) => table.channel.iter().copied().filter_map(member).collect(),
        Kind::Range(_) | Kind::Origin(_) | Kind::Roas(_) | Kind::Quiet => Vec::new(),
    }
}
