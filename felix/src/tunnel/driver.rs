//! Carries plans out: looks at the kernel, makes the steps, and looks again until nothing is left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tortie_calc::Tunnel;
use tortie_netlink::request::{Connection, RequestError};
use tortie_netlink::touch::Touched;

use super::mtu;
use super::plan::{Plan, Seen, SeenVxlan, Step, Wanted, is_device, plan};
use crate::failures::{Failing, Failures};
use crate::links::Keeper;

/// What fails when the kernel cannot be looked at.
const DEVICES: &str = "tunnel devices";
/// Looks at the kernel in one pass at most: a device is made, then addressed, then looked at once more.
const LOOKS: usize = 4;
/// How long a device that no pool wants any more is kept: other nodes hear of it later and still send through it.
const LINGER: Duration = Duration::from_secs(40);

/// How the tunnels are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// The devices that exist.
    pub devices: BTreeSet<Tunnel>,
    /// What the kernel refuses.
    pub failing: Vec<Failing>,
    /// Devices that are not whole, and what they wait for.
    pub waiting: Vec<String>,
}

impl Status {
    /// For people, sorted.
    pub fn lines(&self) -> Vec<String> {
        let there = self.devices.iter().map(|t| format!("{}: there", t.device()));
        let failing = self.failing.iter().map(|f| f.to_string());
        there.chain(self.waiting.iter().cloned()).chain(failing).collect()
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Driver {
    connection: Option<Connection>,
    failures: Failures,
    /// Since when no pool wants a device that is there.
    unwanted: BTreeMap<Tunnel, Instant>,
    /// Interfaces whose changes matter.
    interest: BTreeSet<u32>,
    status: Status,
    waiting: BTreeSet<(Tunnel, String)>,
}

impl Keeper for Driver {
    type Wanted = Wanted;
    type Status = Arc<Status>;

    fn pass(&mut self, wanted: &Wanted) {
        if !wanted.known {
            return;
        }
        let mut last = Plan::default();
        for _ in 0..LOOKS {
            let seen = match self.look(wanted) {
                Ok(seen) => seen,
                Err(error) => {
                    // A connection that failed is of no use any more.
                    self.connection = None;
                    self.failed(DEVICES.to_owned(), &error);
                    break;
                }
            };
            self.failures.done(DEVICES);
            let now = Instant::now();
            let since = |t: Tunnel| self.unwanted.get(&t).copied();
            last = plan(wanted, &seen, |t| since(t).is_some_and(|s| now >= s + LINGER));
            let due = |s: &&Step| self.failures.is_due(&s.object(), now);
            let due: Vec<Step> = last.steps.iter().filter(due).cloned().collect();
            if due.is_empty() {
                break;
            }
            due.iter().for_each(|step| self.step(step));
        }
        // What is not asked for any more does not fail.
        let asked: BTreeSet<String> = last.steps.iter().map(Step::object).collect();
        self.failures
            .retain(|object| asked.contains(object) || object == DEVICES);
        self.sum_up(last);
    }

    fn status(&self) -> Arc<Status> {
        Arc::new(self.status.clone())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let retries = self.failures.next_deadline().into_iter();
        retries.chain(self.unwanted.values().map(|s| *s + LINGER)).min()
    }

    fn refresh(wanted: &Wanted) -> Option<Duration> {
        wanted.settings.refresh.interfaces
    }

    /// May it be of a tunnel device, of what it stands on, or of what its MTU follows?
    fn concerns(&self, touched: &Touched, wanted: &Wanted) -> bool {
        let named = |n: &String| mtu::is_card(n) || Tunnel::ALL.iter().any(|t| t.device() == n);
        touched.anything
            || touched.names.iter().any(named)
            || touched.addresses.iter().any(|a| wanted.own.contains(a))
            || touched.interfaces.iter().any(|i| self.interest.contains(i))
    }
}

impl Driver {
    fn sum_up(&mut self, last: Plan) {
        let waiting: BTreeSet<(Tunnel, String)> = last.waiting.into_iter().collect();
        for (tunnel, reason) in waiting.difference(&self.waiting) {
            tracing::warn!(device = tunnel.device(), reason, "a tunnel device is not whole");
        }
        let line = |(tunnel, reason): &(Tunnel, String)| format!("{}: {reason}", tunnel.device());
        self.status.waiting = waiting.iter().map(line).collect();
        self.waiting = waiting;
        self.status.failing = self.failures.list();
    }

    fn failed(&mut self, object: String, error: &RequestError) {
        if self.failures.failed(object.clone(), error, Instant::now()) {
            tracing::warn!(object, %error, "the kernel refuses a step of a tunnel device");
        }
    }

    fn connection(&mut self) -> Result<&mut Connection, RequestError> {
        let open = match self.connection.take() {
            Some(open) => open,
            None => Connection::open()?,
        };
        Ok(self.connection.insert(open))
    }

    fn look(&mut self, wanted: &Wanted) -> Result<Seen, RequestError> {
        let connection = self.connection()?;
        let mut seen = Seen {
            links: connection.links()?,
            vxlan: BTreeMap::new(),
        };
        for tunnel in [Tunnel::VxlanV4, Tunnel::VxlanV6] {
            let link = seen.links.iter().find(|l| l.name == tunnel.device());
            let Some(link) = link.filter(|l| is_device(tunnel, l)) else {
                continue;
            };
            let Some(made_of) = connection.vxlan(&link.name)? else {
                continue;
            };
            let neighbours = connection.permanent_neighbours(link.index, tunnel.is_v4())?;
            let vxlan = SeenVxlan {
                made_of,
                fdb: connection.fdb(link.index)?.into_iter().collect(),
                neighbours: neighbours.into_iter().collect(),
            };
            seen.vxlan.insert(tunnel, vxlan);
        }
        self.note(wanted, &seen);
        Ok(seen)
    }

    fn note(&mut self, wanted: &Wanted, seen: &Seen) {
        let device = |t: &Tunnel| seen.links.iter().find(|l| l.name == t.device());
        self.status.devices = Tunnel::ALL.into_iter().filter(|t| device(t).is_some()).collect();
        let of_ours = |l: &&tortie_netlink::link::Link| l.addresses.iter().any(|(a, _)| wanted.own.contains(a));
        let parents = seen.links.iter().filter(of_ours);
        let devices = Tunnel::ALL.iter().filter_map(device);
        self.interest = parents.chain(devices).map(|l| l.index).collect();
        let now = Instant::now();
        for tunnel in Tunnel::ALL {
            // tunl0 stays for good, so there is nothing to wait for.
            let there = self.status.devices.contains(&tunnel) && !wanted.tunnels.contains_key(&tunnel);
            if !there || !wanted.live {
                self.unwanted.remove(&tunnel);
            } else {
                self.unwanted.entry(tunnel).or_insert(now);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match self.perform(step) {
            Ok(()) => {
                tracing::info!(step = step.object(), "tunnel device changed");
                self.failures.done(&step.object());
            }
            Err(error) => self.failed(step.object(), &error),
        }
    }

    fn perform(&mut self, step: &Step) -> Result<(), RequestError> {
        let connection = self.connection()?;
        match step {
            Step::CreateVxlan(t, vxlan, mac, mtu) => connection.create_vxlan(t.device(), vxlan, *mac, *mtu),
            Step::CreateIpip => match connection.create_ipip(Tunnel::Ipip.device()) {
                // It came with the module, which was loaded for this.
                Err(e) if e.is_exists() => Ok(()),
                other => other,
            },
            Step::RemoveDevice(t) => connection.remove_link(t.device()).map(drop),
            Step::SetMtu(_, index, mtu) => connection.set_mtu(*index, *mtu),
            Step::SetMac(_, index, mac) => connection.set_mac(*index, *mac),
            Step::SetUp(_, index) => connection.set_up(*index),
            Step::AddAddress(_, index, ip) => connection.add_address(*index, *ip, if ip.is_ipv4() { 32 } else { 128 }),
            Step::RemoveAddress(_, index, ip, len) => connection.remove_address(*index, *ip, *len),
            Step::SetFdb(_, index, entry) => connection.set_fdb(*index, *entry),
            Step::RemoveFdb(_, index, entry) => connection.remove_fdb(*index, *entry),
            Step::SetNeighbour(_, index, n) => connection.set_neighbour(*index, n.address, n.mac),
            Step::RemoveNeighbour(_, index, n) => connection.remove_neighbour(*index, n.address),
        }
    }
}
