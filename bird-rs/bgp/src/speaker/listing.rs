//! Listings of routes as `show route` has them, a page at a time.
//!
//! A page looks at a bounded number of prefixes, so that a listing of a whole table neither holds it nor keeps the
//! speaker from its work: between two pages routes come and go. A prefix that is there all the time is listed once;
//! one that came or went meanwhile may be listed or not.

use std::sync::Arc;

use tortie_net::Prefix;

use super::Speaker;
use super::export::{self, View};
use super::instance::{Instance, Kind};
use super::io::FibNextHop;
use super::kernel::fib_views;
use super::merge::FibView;
use super::show::RouteView;
use super::tables::{TableKey, TableRoute};
use crate::config::Policy;
use crate::filter::RouteContext;
use crate::packet::AfiSafi;

/// Prefixes looked at for one page.
const NETS: usize = 512;

/// What to list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// From which tables.
    pub tables: ListedTables,
    /// Which prefixes.
    pub nets: ListedNets,
    /// Only what this protocol told us.
    pub protocol: Option<Arc<str>>,
    /// Only routes that this policy accepts, shown as it leaves them.
    pub policy: Policy,
    /// Only what has to do with the export to a protocol.
    pub export: Option<(Arc<str>, ExportStage)>,
    /// Only the first route of a prefix, which is the best one unless all are filtered.
    pub primary: bool,
    /// Routes that an import policy rejected, instead of those that it accepted.
    pub filtered: bool,
}

impl Listing {
    /// May it be about several prefixes?
    pub fn nets_are_many(&self) -> bool {
        matches!(self.nets, ListedNets::All | ListedNets::Within(_))
    }
}

/// Tables to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedTables {
    /// `master4` and `master6`, or those of the protocol that is asked for.
    Default,
    /// Every one.
    All,
    /// These.
    Named(Vec<Arc<str>>),
}

/// Prefixes to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedNets {
    /// Every one.
    All,
    /// This one.
    Exactly(Prefix),
    /// The most specific one with a usable route that covers this one.
    Covering(Prefix),
    /// Those within this one.
    Within(Prefix),
}

/// How far a route gets on its way to a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportStage {
    /// The export policy is asked about it.
    Preexport,
    /// The policy accepts it. Shown as the policy leaves it.
    Export,
    /// The policy rejects it.
    Noexport,
}

/// A part of a listing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The routes, those of a prefix together.
    pub routes: Vec<Listed>,
    /// Prefixes that were found.
    pub nets: u64,
    /// Their routes, shown or not.
    pub paths: u64,
    /// Where to go on; none at the end.
    pub next: Option<usize>,
    /// The prefix that was looked at last.
    last_net: Option<Prefix>,
}

/// A route in a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The route.
    pub view: RouteView,
    /// Is it the first of its prefix that is shown?
    pub first: bool,
    /// Is it the first of its prefix in the table?
    pub primary: bool,
}

/// A listing cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoListing {
    /// No such protocol.
    #[error("there is no protocol '{0}'")]
    Protocol(Arc<str>),
    /// No such table.
    #[error("there is no table '{0}'")]
    Table(Arc<str>),
    /// A table that is named has no such prefixes.
    #[error("Incompatible type of prefix/ip for table {0}")]
    Family(Arc<str>),
    /// Nothing is exported to the protocol, or no table has such prefixes.
    #[error("No valid tables")]
    NoTables,
}

/// What the export to a protocol from one table depends on.
struct Exporter<'a> {
    stage: ExportStage,
    to: &'a Instance,
    view: View,
}

impl Exporter<'_> {
    /// Runs the export policy, if the route gets so far; is the route to be shown?
    fn shows(&self, route: &export::RouteRef<'_>, context: &mut RouteContext<'_>) -> bool {
        let (policy, may) = match &self.view {
            View::Bgp(view) => (&view.policy, view.may_propagate(route).is_ok()),
            View::Fib(view) => (&view.policy, true),
            View::Watch(policy) => (policy, true),
        };
        may && match self.stage {
            ExportStage::Preexport => true,
            ExportStage::Export => export::admits(policy, context),
            ExportStage::Noexport => !export::admits(policy, context),
        }
    }
}

impl Speaker {
    /// The tables that a listing is about, by name: to be asked for one after the other with [`Speaker::page`].
    ///
    /// # Errors
    /// When a name is unknown, or no table is left.
    pub fn listed_tables(&self, listing: &Listing) -> Result<Vec<Arc<str>>, NoListing> {
        let named = |name: &Arc<str>| {
            let source = self.find(name).and_then(|source| self.instance(source));
            source.ok_or_else(|| NoListing::Protocol(name.clone()))
        };
        let protocol = listing.protocol.as_ref().map(named).transpose()?;
        let export = listing.export.as_ref().map(|(name, _)| named(name)).transpose()?;
        let place = |key: &TableKey| {
            self.config
                .tables
                .iter()
                .position(|t| t.name == *self.tables.name(*key))
        };
        let mut all = self.tables.keys();
        all.sort_by_key(|key| place(key).unwrap_or(usize::MAX));
        let keys: Vec<TableKey> = match (&listing.tables, export, protocol) {
            (ListedTables::All, ..) => all,
            (ListedTables::Named(names), ..) => {
                let find = |name: &Arc<str>| {
                    let key = all.iter().find(|key| self.tables.name(**key) == name);
                    key.copied().ok_or_else(|| NoListing::Table(name.clone()))
                };
                names.iter().map(find).collect::<Result<_, _>>()?
            }
            (ListedTables::Default, Some(to), _) => {
                all.into_iter().filter(|key| self.view_of(to, *key).is_some()).collect()
            }
            (ListedTables::Default, None, Some(of)) => keys_of(of),
            (ListedTables::Default, None, None) => {
                let default = |key: &TableKey| matches!(&**self.tables.name(*key), "master4" | "master6");
                all.into_iter().filter(default).collect()
            }
        };
        let family = match listing.nets {
            ListedNets::All => None,
            ListedNets::Exactly(net) | ListedNets::Covering(net) | ListedNets::Within(net) => Some(AfiSafi::of(net)),
        };
        let fits = |key: &TableKey| family.is_none_or(|family| family == key.family);
        if let (ListedTables::Named(_), Some(key)) = (&listing.tables, keys.iter().find(|key| !fits(key))) {
            return Err(NoListing::Family(self.tables.name(*key).clone()));
        }
        let keys = keys.into_iter().filter(fits);
        let names: Vec<_> = keys.map(|key| self.tables.name(key).clone()).collect();
        if names.is_empty() {
            Err(NoListing::NoTables)
        } else {
            Ok(names)
        }
    }

    /// A page of a table's part of a listing, from a place on: zero, or [`Page::next`].
    pub fn page(&self, listing: &Listing, table: &str, from: usize) -> Page {
        let mut page = Page::default();
        let key = self
            .tables
            .keys()
            .into_iter()
            .find(|key| **self.tables.name(*key) == *table);
        let Some(key) = key else { return page };
        let exporter = match self.exporter(listing, key) {
            Ok(exporter) => exporter,
            Err(()) => return page,
        };
        let mut take = |route: TableRoute<'_>| self.list(listing, (key, exporter.as_ref()), &route, &mut page);
        let next = match listing.nets {
            ListedNets::Exactly(net) => {
                self.tables.visit_one(key, net, &mut take);
                None
            }
            ListedNets::Covering(net) => {
                if let Some(net) = self.tables.longest_match(key, net) {
                    self.tables.visit_one(key, net, &mut take);
                }
                None
            }
            ListedNets::All => self.tables.visit_from(key, (from, NETS), |_| true, &mut take),
            ListedNets::Within(within) => {
                self.tables
                    .visit_from(key, (from, NETS), |net| within.covers(net), &mut take)
            }
        };
        page.next = next;
        page
    }

    /// Adds a route to a page, if it is to be shown.
    fn list(&self, listing: &Listing, at: (TableKey, Option<&Exporter<'_>>), route: &TableRoute<'_>, page: &mut Page) {
        if route.path.filtered().is_some() != listing.filtered {
            return;
        }
        let again = page.last_net == Some(route.net);
        if !again {
            page.last_net = Some(route.net);
            page.nets += 1;
        } else if listing.primary {
            return;
        }
        page.paths += 1;
        let Some(mut view) = self.shown(listing, at, route) else {
            return;
        };
        view.next_hops.iter_mut().for_each(|hop| self.find_link(hop));
        let first = page.routes.last().is_none_or(|last| last.view.prefix != route.net);
        page.routes.push(Listed {
            first,
            primary: route.first,
            view,
        });
    }

    /// A route as the listing's policies leave it; `None` when one of them does not let it through.
    fn shown(
        &self,
        listing: &Listing,
        (key, exporter): (TableKey, Option<&Exporter<'_>>),
        route: &TableRoute<'_>,
    ) -> Option<RouteView> {
        let source = route.path.source();
        let (protocol, kind) = self.source(source)?;
        let route_ref = export::RouteRef {
            net: route.net,
            learned: route.learned,
            traits: self.tables.shared.traits.get(usize::from(source.0))?.as_ref()?,
            protocol: &protocol,
            source: kind,
            stale: route.path.stale().is_left_over(),
            hops: Some(&self.tables.shared.hops),
            roas: &self.tables.shared.roas,
        };
        let mut context = export::context(&route_ref);
        let (from, krt, gw, ifname) = (context.from, context.krt, context.gw, context.ifname.clone());
        if let Some(exporter) = exporter {
            let considered = route.best || (exporter.view.adds_paths() && route.path.filtered().is_none());
            if !considered || source == exporter.to.source || !exporter.shows(&route_ref, &mut context) {
                return None;
            }
        }
        if listing.protocol.as_ref().is_some_and(|wanted| *wanted != protocol) {
            return None;
        }
        // What a filter prints while routes are only looked at is nobody's news.
        export::admits(&listing.policy, &mut context).then_some(())?;
        let mut view = self.view(key, route)?;
        if context.gw != gw || context.ifname != ifname {
            view.next_hops = export::hop(context.gw, context.ifname.as_deref().map(Arc::from));
        }
        if context.from != from {
            view.from = context.from;
        }
        if context.krt != krt {
            view.krt = context.krt;
        }
        view.preference = context.preference;
        view.destination = context.dest;
        view.attributes = context.attributes.into_owned();
        Some(view)
    }

    /// `Err`: nothing is exported from this table to the protocol that is asked for.
    fn exporter(&self, listing: &Listing, key: TableKey) -> Result<Option<Exporter<'_>>, ()> {
        let Some((name, stage)) = &listing.export else {
            return Ok(None);
        };
        let to = self.find(name).and_then(|source| self.instance(source)).ok_or(())?;
        let view = self.view_of(to, key).ok_or(())?;
        let stage = *stage;
        Ok(Some(Exporter { stage, to, view }))
    }

    /// How a protocol is told what is in a table, if it is.
    pub(super) fn view_of(&self, to: &Instance, key: TableKey) -> Option<View> {
        match &to.kind {
            Kind::Bgp(session) => {
                let up = session.up.as_ref()?;
                let channel = session
                    .channels
                    .iter()
                    .find(|c| c.key == key && c.membership.is_some())?;
                Some(session.export_view(&channel.config, up, &self.addresses))
            }
            Kind::Felix(channels) => {
                let at = channels
                    .iter()
                    .position(|(of, member)| *of == key && member.is_some())?;
                to.channels().get(at).map(|channel| View::Fib(FibView::of(channel)))
            }
            Kind::Kernel(table) => {
                let [(of, member)] = table.channel;
                let view = fib_views(&to.config).pop().filter(|_| of == key && member.is_some());
                view.map(View::Fib)
            }
            Kind::Range(_) | Kind::Origin(_) | Kind::Roas(_) | Kind::Quiet => None,
        }
    }

    /// Names the interface that a gateway is on, when a subnet of it says so.
    fn find_link(&self, hop: &mut FibNextHop) {
        if let (Some(address), None) = (hop.address, &hop.interface) {
            let near = self.addresses.iter().filter(|a| a.subnet.contains(address));
            hop.interface = near.max_by_key(|a| a.subnet.len()).map(|a| a.interface.clone());
        }
    }
}

/// The tables of a protocol.
fn keys_of(instance: &Instance) -> Vec<TableKey> {
    match &instance.kind {
        Kind::Bgp(session) => session.channels.iter().map(|c| c.key).collect(),
        Kind::Felix(channels) => channels.iter().map(|(key, _)| *key).collect(),
        Kind::Kernel(table) => table.channel.iter().map(|(key, _)| *key).collect(),
        Kind::Origin(keys) => keys.clone(),
        Kind::Range(_) | Kind::Roas(_) | Kind::Quiet => Vec::new(),
    }
}
