//! The addresses at which workloads find the node's BGP speaker (`localWorkloadPeeringIPV4/6`): on the host's side of the
//! veth pairs of workloads that a BGPPeer selects, and nowhere else.
//!
//! Kept as `links.rs` says. Nothing is remembered: on a workload's interface every address of its own (`/32`, `/128`) is one of
//! these, so those that nobody wants are removed once the datastore was in sync. The host speaks from none of them by itself: probes of pods come from the node's address as before.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tortie_calc::{Desired, LocalPeering};
use tortie_netlink::link::Link;
use tortie_netlink::request::{Connection, RequestError};
use tortie_netlink::touch::Touched;

use crate::dataplane::class::WORKLOAD_INTERFACE_PREFIX;
use crate::failures::{Failing, Failures};
use crate::links::Keeper;

/// What fails when the kernel cannot be looked at.
const LINKS: &str = "addresses of workloads' interfaces";

/// What is wanted of the kernel.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// The documents are known; before that nothing is.
    pub known: bool,
    /// typha itself has spoken: what nobody wants may be removed.
    pub live: bool,
    /// Which addresses, and where.
    pub peering: LocalPeering,
    /// How often the kernel is looked at although it told nothing.
    pub refresh: Option<Duration>,
}

impl Wanted {
    /// What is wanted by these documents. `live`: the datastore was in sync.
    pub fn of(desired: &Desired, live: bool) -> Self {
        Wanted {
            known: true,
            live,
            peering: desired.peering.clone(),
            refresh: desired.settings.refresh.interfaces,
        }
    }
}

/// One address, to be put on an interface or taken from it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    index: u32,
    interface: String,
    address: IpAddr,
    add: bool,
}

impl Step {
    fn object(&self) -> String {
        let what = if self.add { "" } else { " (removal)" };
        format!("{} address {}{what}", self.interface, self.address)
    }
}

/// The steps from what the kernel has to what is wanted.
fn plan(wanted: &Wanted, links: &[Link]) -> Vec<Step> {
    let mut steps = Vec::new();
    for link in links.iter().filter(|l| l.name.starts_with(WORKLOAD_INTERFACE_PREFIX)) {
        let selected = wanted.peering.interfaces.contains(&link.name);
        let shall: BTreeSet<IpAddr> = wanted.peering.addresses.iter().filter(|_| selected).copied().collect();
        // What the kernel gives itself is of a subnet.
        let alone = link.addresses.iter().filter(|(_, on_link)| on_link.is_host());
        let has: BTreeSet<IpAddr> = alone.map(|(address, _)| *address).collect();
        let step = |address: &IpAddr, add| Step {
            index: link.index,
            interface: link.name.clone(),
            address: *address,
            add,
        };
        steps.extend(shall.difference(&has).map(|a| step(a, true)));
        let gone = has.difference(&shall).filter(|_| wanted.live);
        steps.extend(gone.map(|a| step(a, false)));
    }
    steps
}

/// Who makes the steps.
#[derive(Default)]
pub(crate) struct Driver {
    connection: Option<Connection>,
    failures: Failures,
}

impl Keeper for Driver {
    type Wanted = Wanted;
    type Status = Vec<Failing>;

    fn pass(&mut self, wanted: &Wanted) {
        if wanted.known {
            self.make(wanted);
        }
    }

    fn status(&self) -> Vec<Failing> {
        self.failures.list()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.failures.next_deadline()
    }

    fn refresh(wanted: &Wanted) -> Option<Duration> {
        wanted.refresh
    }

    /// Where nobody asks for addresses, nothing concerns.
    fn concerns(&self, touched: &Touched, wanted: &Wanted) -> bool {
        let peering = &wanted.peering;
        let named = touched.names.iter().any(|n| peering.interfaces.contains(n));
        let ours = touched.addresses.iter().any(|a| peering.addresses.contains(a));
        !peering.interfaces.is_empty() && (touched.anything || named || ours)
    }
}

impl Driver {
    fn make(&mut self, wanted: &Wanted) {
        let steps = match self.connection().and_then(Connection::links) {
            Ok(links) => plan(wanted, &links),
            Err(error) => {
                // A connection that failed is of no use any more.
                self.connection = None;
                return self.failed(LINKS.to_owned(), &error);
            }
        };
        self.failures.done(LINKS);
        let now = Instant::now();
        for step in &steps {
            let object = step.object();
            if !self.failures.is_due(&object, now) {
                continue;
            }
            match self.perform(step) {
                Ok(()) => {
                    tracing::info!(step = object, "address of a workload's interface changed");
                    self.failures.done(&object);
                }
                Err(error) => self.failed(object, &error),
            }
        }
        let asked: BTreeSet<String> = steps.iter().map(Step::object).collect();
        self.failures.retain(|object| asked.contains(object));
    }

    fn perform(&mut self, step: &Step) -> Result<(), RequestError> {
        let len = if step.address.is_ipv4() { 32 } else { 128 };
        let connection = self.connection()?;
        match step.add {
            true => connection.add_silent_address(step.index, step.address),
            false => connection.remove_address(step.index, step.address, len),
        }
    }

    fn connection(&mut self) -> Result<&mut Connection, RequestError> {
        let open = match self.connection.take() {
            Some(open) => open,
            None => Connection::open()?,
        };
        Ok(self.connection.insert(open))
    }

    fn failed(&mut self, object: String, error: &RequestError) {
        if self.failures.failed(object.clone(), error, Instant::now()) {
            tracing::warn!(object, %error, "the kernel refuses an address of a workload's interface");
        }
    }
}

#[cfg(test)]
mod tests {
    use tortie_netlink::fake::link;

    use super::*;

    #[test]
    fn selected_workloads_alone_find_the_node_and_nothing_else_is_touched() {
        let peering = LocalPeering {
            addresses: vec!["169.254.0.179".parse().unwrap(), "fd12::1".parse().unwrap()],
            interfaces: ["cali1".to_owned(), "cali9".to_owned()].into(),
        };
        let mut wanted = Wanted {
            known: true,
            live: true,
            peering,
            refresh: None,
        };
        let links = [
            link(1, "eth0", &["172.30.0.11/24", "192.0.2.1/32"]),
            link(2, "cali1", &["fe80::1/64", "fd12::1/128", "169.254.0.1/32"]),
            link(3, "cali2", &["169.254.0.179/32"]),
        ];
        let objects = |wanted: &Wanted| plan(wanted, &links).iter().map(Step::object).collect::<Vec<_>>();
        assert_eq!(
            objects(&wanted),
            [
                "cali1 address 169.254.0.179",
                "cali1 address 169.254.0.1 (removal)",
                "cali2 address 169.254.0.179 (removal)"
            ]
        );
        wanted.live = false;
        assert_eq!(
            objects(&wanted),
            ["cali1 address 169.254.0.179"],
            "nothing goes before typha has spoken"
        );
    }
}
