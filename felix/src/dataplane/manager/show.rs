//! What the manager shows of itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use tortie_net::Prefix;
use tortie_netlink::reconcile::Way;
use tortie_netlink::route::{IfIndex, Route, RouteKey};

use super::{Entry, Manager};
use crate::dataplane::class::RouteClass;
use crate::dataplane::why::Why;
use crate::failures::{Failing, wall};

/// What became of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RowState {
    /// In the kernel as wanted.
    Programmed,
    /// Wanted, about to be written.
    Pending,
    /// Wanted, and the kernel says no, or somebody else's route is in its place.
    Failing,
    /// Cannot be, for now.
    Withheld,
    /// May not be.
    Refused,
}

impl RowState {
    /// Its name in output.
    pub fn as_str(self) -> &'static str {
        match self {
            RowState::Programmed => "programmed",
            RowState::Pending => "pending",
            RowState::Failing => "failing",
            RowState::Withheld => "withheld",
            RowState::Refused => "refused",
        }
    }
}

/// A prefix somebody wants routed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Which.
    pub prefix: Prefix,
    /// The class that won it; the strongest that wants it when none can have it.
    pub class: RouteClass,
    /// The route as `ip route` prints it; empty when there is none.
    pub route: String,
    /// What became of it.
    pub state: RowState,
    /// Why it is not simply there; also a warning about one that is (shadowed).
    pub reason: String,
    /// Other classes that want the prefix, with why they may not or cannot, if so.
    pub losers: Vec<String>,
}

/// How many routes of a class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// Are wanted, be they let in or not.
    pub wanted: u64,
    /// Are in the kernel as wanted.
    pub programmed: u64,
}

/// How many nexthop objects of ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ObjectCount {
    /// Are in the kernel.
    pub there: u64,
    /// Are refused: their routes have next hops of their own meanwhile.
    pub failing: u64,
}

/// The state in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The kernel was seen.
    pub loaded: bool,
    /// Everything wanted is there, and nothing else of ours.
    pub settled: bool,
    /// The datastore is known, be it from the last good snapshot.
    pub datastore_known: bool,
    /// The datastore was in sync once.
    pub datastore_synced: bool,
    /// bird-rs was in sync once.
    pub fib_synced: bool,
    /// By class.
    pub classes: BTreeMap<RouteClass, ClassCount>,
    /// Peers' routes that are not let in, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Routes that wait, by class.
    pub withheld: BTreeMap<RouteClass, u64>,
    /// Routes that fail, at most [`Summary::FAILING_SHOWN`] of them.
    pub failing: Vec<Failing>,
    /// Nexthop objects that fail, at most as many.
    pub failing_objects: Vec<Failing>,
    /// Routes that are about to be written.
    pub pending: u64,
    /// How many routes fail in all.
    pub failing_total: u64,
    /// Somebody else's routes that the kernel prefers to ours.
    pub shadowed: Vec<String>,
    /// Workload interfaces with an address.
    pub endpoints: u64,
    /// Nexthop objects.
    pub objects: ObjectCount,
}

impl Summary {
    /// How many failing routes are named.
    pub const FAILING_SHOWN: usize = 20;
}

impl Manager {
    pub(super) fn text(&self, route: &Route) -> String {
        route
            .display(|i: IfIndex| self.view.name(i).map(str::to_owned))
            .to_string()
    }

    /// Every prefix somebody wants, sorted.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.entries
            .iter()
            .filter_map(|(prefix, entry)| self.row(*prefix, entry))
    }

    fn row(&self, prefix: Prefix, entry: &Entry) -> Option<Row> {
        let losers = |winner: RouteClass| {
            let out = entry
                .out()
                .iter()
                .filter(|(c, _)| *c != winner)
                .map(|(c, why)| format!("{c} ({why})"));
            let weaker = |c: &RouteClass| *c > winner && !entry.out().iter().any(|(o, _)| o == c);
            let beaten = RouteClass::ALL
                .into_iter()
                .filter(weaker)
                .filter(|c| self.candidate(*c, prefix, Some(entry)).is_some());
            out.chain(beaten.map(|c| c.to_string())).collect()
        };
        if let Some((class, key)) = entry.wanted(prefix) {
            let route = self.routes.desired(&key)?;
            let (state, reason) = self.fate(&key);
            let route = self.text(&route);
            return Some(Row {
                prefix,
                class,
                route,
                state,
                reason,
                losers: losers(class),
            });
        }
        let (class, why) = entry.out().first()?;
        let state = match why {
            Why::Refused(_) => RowState::Refused,
            Why::Withheld(_) => RowState::Withheld,
        };
        let (class, reason) = (*class, why.to_string());
        Some(Row {
            prefix,
            class,
            route: String::new(),
            state,
            reason,
            losers: losers(class),
        })
    }

    /// What became of a wanted route, and why.
    fn fate(&self, key: &RouteKey) -> (RowState, String) {
        if self.routes.is_there(key) {
            let shadow = self.view.shadow_of(key);
            let reason = shadow
                .map(|s| format!("shadowed by {}", self.text(s)))
                .unwrap_or_default();
            return (RowState::Programmed, reason);
        }
        if let Some(foreign) = self.view.foreign_at(key) {
            return (
                RowState::Failing,
                format!("somebody else's route is in its place: {}", self.text(foreign)),
            );
        }
        match self.routes.failure(key) {
            Some(f) => (RowState::Failing, f.error.clone()),
            None => (RowState::Pending, String::new()),
        }
    }

    /// Are the routes of this interface's workload all in the kernel?
    ///
    /// # Errors
    /// What keeps the first of them out.
    pub fn endpoint_is_up(&self, interface: &str) -> Result<(), String> {
        self.workloads
            .ips_on(interface)
            // Without IPv6 no route is waited for.
            .filter(|ip| self.settings.ipv6 || ip.is_ipv4())
            .try_for_each(|ip| self.workload_is_up(ip, interface))
    }

    fn workload_is_up(&self, ip: IpAddr, interface: &str) -> Result<(), String> {
        let prefix = Prefix::host(ip);
        let holder = self.workloads.interface_of(ip);
        if holder != Some(interface) {
            return Err(format!(
                "{ip} is the address of the workload on {}",
                holder.unwrap_or("no interface")
            ));
        }
        let row = self.entries.get(&prefix).and_then(|entry| self.row(prefix, entry));
        match row {
            Some(row) if row.state == RowState::Programmed && row.class == RouteClass::LocalWorkload => Ok(()),
            Some(row) if row.reason.is_empty() => Err(format!("{prefix} is {}", row.state.as_str())),
            Some(row) => Err(format!("{prefix} is {}: {}", row.state.as_str(), row.reason)),
            None => Err(format!("{prefix} was not looked at yet")),
        }
    }

    /// Is no route of ours left in the kernel that leads to this interface?
    ///
    /// # Errors
    /// Which one is.
    pub fn endpoint_is_down(&self, interface: &str) -> Result<(), String> {
        let on_it = |way: &Way| way.interfaces().any(|i| self.view.name(i) == Some(interface));
        let left = self.routes.all_actual().find(|(_, way)| on_it(way));
        let text = |(key, way): (&RouteKey, &Way)| self.text(&way.to(key.prefix));
        left.map_or(Ok(()), |left| Err(format!("{} is still there", text(left))))
    }

    /// The state in numbers. Looks at every prefix: for scrapes and status, not for the fast path.
    pub fn summary(&self) -> Summary {
        let mut s = Summary {
            loaded: self.is_loaded(),
            settled: self.is_loaded() && !self.dump_wanted && self.routes.is_settled(),
            datastore_known: self.synced.datastore_known,
            datastore_synced: self.synced.datastore,
            fib_synced: self.synced.fib,
            classes: RouteClass::ALL
                .into_iter()
                .map(|c| (c, ClassCount::default()))
                .collect(),
            endpoints: self.workloads.len() as u64,
            ..Summary::default()
        };
        self.count_objects(&mut s);
        for (prefix, entry) in self.entries.iter() {
            for (class, why) in entry.out() {
                s.classes.entry(*class).or_default().wanted += 1;
                match why {
                    Why::Refused(r) => *s.refused.entry(r.label()).or_default() += 1,
                    Why::Withheld(_) => *s.withheld.entry(*class).or_default() += 1,
                }
            }
            if let Some((class, key)) = entry.wanted(*prefix) {
                self.count_wanted(&mut s, class, &key);
            }
        }
        s
    }

    fn count_objects(&self, s: &mut Summary) {
        let count = self.routes.object_count();
        s.objects = ObjectCount {
            there: count.there,
            failing: count.failing,
        };
        let failing = self.routes.object_failures().take(Summary::FAILING_SHOWN);
        s.failing_objects.extend(failing.map(|(id, f)| Failing {
            object: format!("nexthop object {id}"),
            error: f.error.clone(),
            attempts: f.attempts,
            since: Some(wall(self.epoch, f.since)),
            next_try: Some(wall(self.epoch, f.not_before)),
        }));
    }

    fn count_wanted(&self, s: &mut Summary, class: RouteClass, key: &RouteKey) {
        let count = s.classes.entry(class).or_default();
        count.wanted += 1;
        let (state, reason) = self.fate(key);
        match state {
            RowState::Programmed => {
                count.programmed += 1;
                if !reason.is_empty() && s.shadowed.len() < Summary::FAILING_SHOWN {
                    s.shadowed.push(format!("{}: {reason}", key.prefix));
                }
            }
            RowState::Failing => {
                s.failing_total += 1;
                if let (true, Some(route)) = (s.failing.len() < Summary::FAILING_SHOWN, self.routes.desired(key)) {
                    let failure = self.routes.failure(key);
                    s.failing.push(Failing {
                        object: format!("route {}", self.text(&route)),
                        error: reason,
                        attempts: failure.map_or(0, |f| f.attempts),
                        since: failure.map(|f| wall(self.epoch, f.since)),
                        next_try: failure.map(|f| wall(self.epoch, f.not_before)),
                    });
                }
            }
            RowState::Pending => s.pending += 1,
            RowState::Withheld | RowState::Refused => {}
        }
    }
}
