//! `show route`: page by page, as the client takes it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tortie_bgp::attr::Attributes;
use tortie_bgp::config::{Config, Names, ShowRoute};
use tortie_bgp::filter::{Krt, RouteDestination, RouteSource, Value};
use tortie_bgp::speaker::{FibNextHop, Listed, ListedNets, ListedTables, NoListing, Page, RouteView};

use super::reply::Reply;
use super::words::NoneMeant;
use super::{Client, Control, operate, time};
use crate::engine::Stopped;

/// Routes of a table, or of all.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) shown: u64,
    pub(super) paths: u64,
    pub(super) nets: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Tally) {
        self.shown += other.shown;
        self.paths += other.paths;
        self.nets += other.nets;
    }

    fn of(page: &Page) -> Self {
        let shown = u64::try_from(page.routes.len()).unwrap_or(u64::MAX);
        let (paths, nets) = (page.paths, page.nets);
        Tally { shown, paths, nets }
    }

    fn say(self) -> String {
        format!("{} of {} routes for {} networks in", self.shown, self.paths, self.nets)
    }
}

/// A listing on its way to a client.
pub(super) struct Printer {
    pub(super) show: ShowRoute,
    pub(super) reply: Reply,
    /// The table whose name was said last.
    table: Option<Arc<str>>,
}

impl Control {
    /// `show route ..`. What is sent before the last page goes to the client at once.
    pub(super) async fn show_route(&self, text: &str, client: &mut Client) -> io::Result<Result<Reply, Stopped>> {
        let config = self.configurator.config().await;
        let show = match config.names.show_route(text) {
            Ok(show) => show,
            Err(wrong) => return Ok(Ok(Reply::of(9001, &wrong))),
        };
        let format = config.time_formats.route.clone().unwrap_or(time::SHORT);
        let listing = show.listing.clone();
        let of_roas = listing.tables == ListedTables::Default && !show.roa_tables.is_empty();
        let tables = match self.engine.query(move |speaker| speaker.listed_tables(&listing)).await {
            Ok(Ok(_) | Err(NoListing::NoTables)) if of_roas => Vec::new(),
            Ok(Ok(tables)) => tables,
            Ok(Err(none)) => return Ok(Ok(no_listing(none, &show, &config.names))),
            Err(stopped) => return Ok(Err(stopped)),
        };
        let roa_tables = roa_tables(&show, &config);
        let mut printer = Printer {
            show,
            reply: Reply::default(),
            table: None,
        };
        let now = self.clock.unix_ms(self.clock.now());
        let since = |at: Duration| time::show(&format, self.clock.unix_ms(at), now);
        let mut total = Tally::default();
        for table in &tables {
            let mut tally = Tally::default();
            let mut from = Some(0);
            printer.open(table);
            while let Some(at) = from {
                let (listing, name) = (printer.show.listing.clone(), table.clone());
                let page = match self
                    .engine
                    .query(move |speaker| speaker.page(&listing, &name, at))
                    .await
                {
                    Ok(page) => page,
                    Err(stopped) => return Ok(Err(stopped)),
                };
                tally.add(Tally::of(&page));
                page.routes
                    .iter()
                    .for_each(|route| printer.route(route, table, &since(route.view.since)));
                client.send(&printer.reply.take()).await?;
                from = page.next;
            }
            printer.close(table, tally);
            total.add(tally);
        }
        for table in &roa_tables {
            let tally = match self.show_roas(table, &mut printer, &since, client).await? {
                Ok(tally) => tally,
                Err(stopped) => return Ok(Err(stopped)),
            };
            printer.close(table, tally);
            total.add(tally);
        }
        Ok(Ok(printer.finish(total, tables.len() + roa_tables.len())))
    }
}

impl Printer {
    /// BIRD says the names of tables that were asked for even when there is nothing in them.
    fn open(&mut self, table: &Arc<str>) {
        let listing = &self.show.listing;
        let asked = listing.tables != ListedTables::Default || self.show.stats;
        if asked && listing.nets == ListedNets::All && !self.show.count {
            self.name(table);
        }
    }

    pub(super) fn name(&mut self, table: &Arc<str>) {
        if self.table.as_ref() == Some(table) {
            return;
        }
        if self.table.replace(table.clone()).is_some() {
            self.reply.line(1007, "");
        }
        self.reply.line(1007, &format!("Table {table}:"));
    }

    fn route(&mut self, route: &Listed, table: &Arc<str>, since: &str) {
        if self.show.count {
            return;
        }
        self.name(table);
        let view = &route.view;
        let net = if route.first {
            view.prefix.to_string()
        } else {
            String::new()
        };
        self.reply.line(1007, &head(view, &net, since, route.primary));
        for hop in hops(view) {
            self.reply.line(1007, &hop);
        }
        if self.show.all {
            self.reply.line(1008, &format!("\tType: {} univ", kind(view.source)));
            for attribute in attributes(view).into_iter().chain(kernel(view.krt)) {
                self.reply.line(1012, &attribute);
            }
        }
    }

    fn close(&mut self, table: &Arc<str>, tally: Tally) {
        if (self.show.count || self.show.stats) && self.show.listing.nets_are_many() {
            self.reply.line(1007, &format!("{} table {table}", tally.say()));
        }
    }

    fn finish(mut self, total: Tally, tables: usize) -> Reply {
        if !self.show.listing.nets_are_many() && total.paths == 0 {
            self.reply.end(8001, "Network not found");
        } else if (self.show.count || self.show.stats) && tables > 1 {
            if !self.show.count {
                self.reply.line(1007, "");
            }
            self.reply.end(14, &format!("Total: {} {tables} tables", total.say()));
        } else {
            self.reply.end(0, "");
        }
        self.reply
    }
}

/// The tables of ROAs that a listing is about.
fn roa_tables(show: &ShowRoute, config: &Config) -> Vec<Arc<str>> {
    match show.listing.tables {
        _ if !show.has_roas() => Vec::new(),
        ListedTables::All => config.roa_tables.iter().map(|table| table.name.clone()).collect(),
        ListedTables::Default | ListedTables::Named(_) => show.roa_tables.clone(),
    }
}

/// Why there is nothing to list.
fn no_listing(none: NoListing, show: &ShowRoute, names: &Names) -> Reply {
    let NoListing::Protocol(name) = none else {
        return Reply::of(9001, &none.to_string());
    };
    let expecting = if show.listing.protocol.as_ref() == Some(&name) {
        "CF_SYM_KNOWN"
    } else {
        "CF_SYM_KNOWN or TABLE"
    };
    operate::none_meant(&NoneMeant::Unknown(name.to_string()), names, expecting)
}

/// The first line of a route.
fn head(view: &RouteView, net: &str, since: &str, primary: bool) -> String {
    let destination = match view.destination {
        RouteDestination::Unicast => "unicast",
        RouteDestination::Blackhole => "blackhole",
        RouteDestination::Unreachable => "unreachable",
        RouteDestination::Prohibit => "prohibited",
    };
    let told_by_gateway = matches!(&*view.next_hops, [only] if only.address == view.from);
    let from = view.from.filter(|_| !told_by_gateway);
    let from = from.map(|from| format!(" from {from}")).unwrap_or_default();
    let mark = if primary { " *" } else { "" };
    let (protocol, info) = (&view.protocol, info(view));
    format!("{net:<20} {destination} [{protocol} {since}{from}]{mark}{info}")
}

/// Preference, and for BGP the distance of the next hop, the origin AS and the origin.
fn info(view: &RouteView) -> String {
    let preference = view.preference;
    if view.source != RouteSource::Bgp {
        return format!(" ({preference})");
    }
    let stale = if view.stale { "s" } else { "" };
    // Of a gateway on our own link BIRD says nothing.
    let metric = view.igp_metric.filter(|metric| *metric > 0);
    let metric = metric.map(|metric| format!("/{metric}")).unwrap_or_default();
    let path = &view.attributes.as_path;
    let origin_as = path.origin_as().map(|asn| format!("AS{asn}")).unwrap_or_default();
    let origin = ["i", "e", "?"][usize::from(view.attributes.origin.code()).min(2)];
    format!(" ({preference}{stale}{metric}) [{origin_as}{origin}]")
}

fn hops(view: &RouteView) -> Vec<String> {
    if view.destination != RouteDestination::Unicast {
        return Vec::new();
    }
    let several = view.next_hops.len() > 1;
    let weight = |hop: &FibNextHop| {
        if several {
            format!(" weight {}", hop.weight)
        } else {
            String::new()
        }
    };
    let line = |hop: &FibNextHop| {
        let (interface, weight) = (hop.interface.as_deref(), weight(hop));
        let onlink = if hop.onlink { " onlink" } else { "" };
        match (hop.address, interface) {
            (Some(address), Some(interface)) => format!("\tvia {address} on {interface}{onlink}{weight}"),
            (Some(address), None) => format!("\tvia {address}{weight}"),
            (None, interface) => format!("\tdev {}{weight}", interface.unwrap_or_default()),
        }
    };
    view.next_hops.iter().map(line).collect()
}

fn kind(source: RouteSource) -> &'static str {
    match source {
        RouteSource::Static => "static",
        RouteSource::Inherit => "inherit",
        RouteSource::Device => "device",
        RouteSource::Bgp => "BGP",
    }
}

/// What the kernel says of a route, a line each.
fn kernel(
    Krt {
        metric,
        source,
        prefsrc,
    }: Krt,
) -> impl Iterator<Item = String> {
    let source = source.map(|source| format!("\tKernel.source: {source}"));
    let metric = metric.map(|metric| format!("\tKernel.metric: {metric}"));
    let prefsrc = prefsrc.map(|address| format!("\tKernel.prefsrc: {address}"));
    source.into_iter().chain(metric).chain(prefsrc)
}

/// The attributes a line each, in the order of their codes.
fn attributes(view: &RouteView) -> Vec<String> {
    let Attributes {
        origin,
        atomic_aggregate,
        as_path,
        next_hop,
        med,
        local_pref,
        aggregator,
        communities,
        ext_communities,
        large_communities,
        originator_id,
        cluster_list,
        only_to_customer,
        partial: _,
        unknown,
    } = &view.attributes;
    let mut lines = Vec::new();
    let mut say = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| cut(format!("\tBGP.{name}: {value}"))));
    };
    // A route of our own has these only once a filter has set them.
    let of_bgp = view.source == RouteSource::Bgp;
    say("origin", (of_bgp || origin.code() != 0).then(|| origin.to_string()));
    say("as_path", (of_bgp || !as_path.is_empty()).then(|| as_path.to_string()));
    say("next_hop", next_hop.map(|hop| hop.to_string()));
    say("med", med.map(|med| med.to_string()));
    say("local_pref", local_pref.map(|local_pref| local_pref.to_string()));
    say("atomic_aggr", atomic_aggregate.then(String::new));
    say("aggregator", aggregator.map(|aggregator| aggregator.to_string()));
    say("community", list(communities, |c| Value::Pair(c.0)));
    say("originator_id", originator_id.map(|id| id.to_string()));
    let clusters: Vec<String> = cluster_list.iter().map(ToString::to_string).collect();
    say("cluster_list", (!clusters.is_empty()).then(|| clusters.join(" ")));
    say("ext_community", list(ext_communities, |c| Value::Ec(*c)));
    say("large_community", list(large_communities, |c| Value::Lc(*c)));
    say("otc", only_to_customer.map(|asn| asn.to_string()));
    for attribute in unknown {
        let octets: Vec<String> = attribute.value.iter().map(|octet| format!("{octet:02x}")).collect();
        say(&format!("{:02x} [t]", attribute.code), Some(octets.join(" ")));
    }
    lines
}

/// Where BIRD's lines about an attribute end. birdc has room for twice that.
const LINE: usize = 492;

/// A line that is too long, as BIRD shows it.
fn cut(mut line: String) -> String {
    if line.len() > LINE {
        // Attributes are written in ASCII.
        line.truncate(LINE - 3);
        line.push_str("...");
    }
    line
}

/// Communities as the filter language writes them.
fn list<T>(items: &[T], value: impl Fn(&T) -> Value) -> Option<String> {
    let items: Vec<String> = items.iter().map(|item| value(item).to_string()).collect();
    (!items.is_empty()).then(|| items.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_net::{Asn, Community};

    fn view() -> RouteView {
        RouteView {
            prefix: "10.2.0.0/24".parse().unwrap(),
            table: "master4".into(),
            protocol: "up".into(),
            source: RouteSource::Bgp,
            from: Some("192.168.9.2".parse().unwrap()),
            best: true,
            reason: None,
            filtered: None,
            preference: 100,
            igp_metric: None,
            krt: Krt::default(),
            destination: RouteDestination::Unicast,
            next_hops: vec![FibNextHop {
                address: Some("192.168.9.2".parse().unwrap()),
                interface: Some("eth0".into()),
                weight: 1,
                onlink: false,
            }],
            attributes: Attributes {
                local_pref: Some(100),
                communities: [Community::new(65002, 2), Community::new(65535, 65281)]
                    .into_iter()
                    .collect(),
                only_to_customer: Some(Asn(65002)),
                ..Attributes::default()
            },
            since: std::time::Duration::ZERO,
            stale: false,
            path_id: 0,
        }
    }

    fn printer(all: bool, count: bool) -> Printer {
        let mut show = tortie_bgp::config::Names::default().show_route("").unwrap();
        (show.all, show.count) = (all, count);
        Printer {
            show,
            reply: Reply::default(),
            table: None,
        }
    }

    #[test]
    fn a_route_is_laid_out_as_birds() {
        let mut printer = printer(true, false);
        let (first, primary) = (true, true);
        printer.route(
            &Listed {
                view: view(),
                first,
                primary,
            },
            &"master4".into(),
            "14:25:59.610",
        );
        let own = RouteView {
            source: RouteSource::Static,
            from: None,
            destination: RouteDestination::Prohibit,
            attributes: Attributes::default(),
            preference: 200,
            ..view()
        };
        let (first, primary) = (false, false);
        printer.route(
            &Listed {
                view: own,
                first,
                primary,
            },
            &"master4".into(),
            "14:25:56.657",
        );
        let several = RouteView {
            from: Some("192.168.9.9".parse().unwrap()),
            stale: true,
            igp_metric: Some(7),
            next_hops: vec![
                view().next_hops[0].clone(),
                FibNextHop {
                    address: None,
                    interface: None,
                    weight: 3,
                    onlink: true,
                },
            ],
            ..view()
        };
        printer.show.all = false;
        printer.route(
            &Listed {
                view: several,
                first: true,
                primary,
            },
            &"other".into(),
            "x",
        );
        let mut reply = printer.finish(Tally::default(), 2);
        assert_eq!(
            reply.take(),
            "1007-Table master4:
 10.2.0.0/24          unicast [up 14:25:59.610] * (100) [i]
 \tvia 192.168.9.2 on eth0
1008-\tType: BGP univ
1012-\tBGP.origin: IGP
 \tBGP.as_path: 
 \tBGP.next_hop: 192.168.9.2
 \tBGP.local_pref: 100
 \tBGP.community: (65002,2) (65535,65281)
 \tBGP.otc: 65002
1007-                     prohibited [up 14:25:56.657] (200)
1008-\tType: static univ
1007-
 Table other:
 10.2.0.0/24          unicast [up x from 192.168.9.9] (100s/7) [i]
 \tvia 192.168.9.2 on eth0 weight 1
 \tdev  weight 3
0000 
"
            .replace(" \tBGP.next_hop: 192.168.9.2\n", "")
        );
    }

    #[test]
    fn routes_are_counted() {
        let mut printer = printer(false, true);
        let tally = Tally {
            shown: 8,
            paths: 11,
            nets: 10,
        };
        printer.close(&"master4".into(), tally);
        let mut reply = printer.finish(tally, 2);
        assert_eq!(
            reply.take(),
            "1007-8 of 11 routes for 10 networks in table master4\n0014 Total: 8 of 11 routes for 10 networks in 2 tables\n"
        );
        let mut single = self::printer(false, false);
        single.show.listing.nets = ListedNets::Exactly("10.0.0.0/8".parse().unwrap());
        assert_eq!(single.finish(Tally::default(), 1).take(), "8001 Network not found\n");
    }
}
