//! From the routes of a node's bird-rs into its kernel: felix, tunnels, somebody else's routes; and what the owner of an
//! address must have in place.

use tortie_model::resource::EncapMode;
use tortie_net::Prefix;

use super::address::Destination;
use super::cause::Cause;
use super::facts::{EndpointFact, FelixFacts, Lookup, Row};
use super::walk::{Mark, Stage, Walk, felix_stale, shown};

/// The devices of felix.
const IPIP: &str = "tunl0";
const VXLAN: [&str; 2] = ["vxlan.calico", "vxlan-v6.calico"];

impl Walk<'_> {
    /// What keeps the owner from delivering, or from having its block announced.
    pub(super) fn owner(&mut self, to: &Destination) -> Option<Cause> {
        let owner = to.owner.as_deref()?;
        self.daemons(owner);
        let cause = to.endpoint.as_ref().and_then(|e| self.attached(owner, e, to));
        if cause.is_some() || !to.by_bgp() {
            return cause;
        }
        match self.bird(owner) {
            None => {
                match self.node(owner).and_then(|n| n.bird.failure()) {
                    Some(why) => self.wrong(Stage::Rib, Some(owner), format!("bird-rs does not answer: {why}")),
                    None => self.unasked(Stage::Rib, (owner, "bird-rs")),
                }
                None
            }
            Some(bird) if bird.paths.iter().any(|p| p.prefix == to.prefix && p.refused.is_none()) => {
                let text = format!("bird-rs has {}", shown(to.prefix));
                self.good(Stage::Rib, Some(owner), text);
                None
            }
            Some(_) => Some(self.lags(owner, format!("the route to {}, which the node has", shown(to.prefix)))),
        }
    }

    /// Is the endpoint's interface there, with the address's route?
    fn attached(&mut self, owner: &str, endpoint: &EndpointFact, to: &Destination) -> Option<Cause> {
        let missing = || Cause::InterfaceMissing {
            node: owner.to_owned(),
            interface: endpoint.interface.clone(),
            endpoint: endpoint.name.clone(),
        };
        let links = self.kernel(owner).map(|k| &k.links);
        if links.is_some_and(|l| l.get(&endpoint.interface) != Some(&true)) {
            let text = format!("there is no interface {} that is up", endpoint.interface);
            self.wrong(Stage::Kernel, Some(owner), text);
            return Some(missing());
        }
        let Some(felix) = self.felix(owner) else {
            self.felix_silent(owner);
            return self.taken(owner, (&endpoint.interface, to));
        };
        match felix.rows.iter().find(|r| r.prefix == to.net) {
            Some(row) if row.state == "programmed" => {
                self.good(Stage::Fib, Some(owner), row.route.clone());
                self.taken(owner, (&endpoint.interface, to))
            }
            Some(row) if row.reason.starts_with("interface ") => {
                self.wrong(Stage::Fib, Some(owner), format!("{}: {}", row.state, row.reason));
                Some(missing())
            }
            Some(row) => Some(self.unprogrammed(owner, felix, (row, to))),
            None if !felix.datastore_in_sync => Some(felix_stale(owner, felix)),
            None => Some(Cause::FelixLag {
                node: owner.to_owned(),
                prefix: to.net,
                why: format!("it does not know of the endpoint {}", endpoint.name),
            }),
        }
    }

    /// Does the kernel of the owner give packets to another interface?
    fn taken(&mut self, owner: &str, (interface, to): (&str, &Destination)) -> Option<Cause> {
        match self.kernel(owner)?.lookup.as_ref()? {
            Lookup::Route { device, text, .. } if device == interface => {
                self.good(Stage::Kernel, Some(owner), text.clone());
                None
            }
            Lookup::Route { ours, text, .. } => {
                let prefix = to.net;
                let text = text.clone();
                self.wrong(Stage::Kernel, Some(owner), text.clone());
                Some(if *ours {
                    self.lost_by_kernel(owner, (prefix, text))
                } else {
                    foreign(owner, to, text)
                })
            }
            Lookup::Dropped(what) => {
                self.wrong(Stage::Kernel, Some(owner), what.clone());
                Some(self.lost_by_kernel(owner, (to.net, what.clone())))
            }
        }
    }

    /// The kernel has not what felix should have put there.
    fn lost_by_kernel(&self, node: &str, (prefix, what): (Prefix, String)) -> Cause {
        let daemons = self.node(node);
        if let Some(why) = daemons.and_then(|n| n.felix.failure()) {
            return Cause::FelixDown {
                node: node.to_owned(),
                why: format!("{why}; the kernel has no route of its to {}: {what}", shown(prefix)),
            };
        }
        if let Some(why) = daemons.and_then(|n| n.bird.failure()) {
            return Cause::BirdDown {
                node: node.to_owned(),
                why: why.to_owned(),
            };
        }
        Cause::KernelRefuses {
            node: node.to_owned(),
            prefix,
            why: what,
        }
    }

    /// What keeps the route out of a node's kernel, or from being used there.
    pub(super) fn forwards(&mut self, node: &str, to: &Destination) -> Option<Cause> {
        let prefix = self.travelling(node, to);
        let refused = self.felix(node).and_then(|f| {
            let own = f.rows.iter().find(|r| r.prefix == to.net && r.state == "refused");
            own.map(|r| r.reason.clone())
        });
        if let Some(why) = refused {
            self.wrong(Stage::Fib, Some(node), format!("refused: {why}"));
            let (node, prefix) = (node.to_owned(), to.net);
            return Some(Cause::OwnRefused { node, prefix, why });
        }
        if let Some(cause) = self.tunnel(node, to) {
            return Some(cause);
        }
        let has_path = self
            .bird(node)
            .is_some_and(|b| b.paths.iter().any(|p| p.prefix == prefix && p.best));
        if to.owner.is_none() && !has_path {
            return self.elsewhere(node);
        }
        if to.by_bgp() && !has_path && self.bird(node).is_some() {
            // What did not come cannot be forwarded.
            return None;
        }
        match self.felix(node) {
            None => self.felix_silent(node),
            Some(felix) => match felix.rows.iter().find(|r| r.prefix == prefix) {
                Some(row) if row.state == "programmed" && row.reason.is_empty() => {
                    self.good(Stage::Fib, Some(node), format!("programmed: {}", row.route));
                }
                Some(row) => return Some(self.unprogrammed(node, felix, (row, to))),
                None => return Some(self.not_wanted(node, felix, prefix)),
            },
        }
        self.looked_up(node, (prefix, to))
    }

    fn felix_silent(&mut self, node: &str) {
        match self.node(node).and_then(|n| n.felix.failure()) {
            Some(why) => self.wrong(Stage::Fib, Some(node), format!("felix does not answer: {why}")),
            None => self.unasked(Stage::Fib, (node, "felix")),
        }
    }

    /// felix has no word of the prefix.
    fn not_wanted(&mut self, node: &str, felix: &FelixFacts, prefix: Prefix) -> Cause {
        self.wrong(
            Stage::Fib,
            Some(node),
            format!("felix has no route to {}", shown(prefix)),
        );
        if let Some(why) = self.node(node).and_then(|n| n.bird.failure()) {
            let (node, why) = (node.to_owned(), why.to_owned());
            return Cause::BirdDown { node, why };
        }
        if !felix.datastore_in_sync {
            return felix_stale(node, felix);
        }
        if !felix.fib_in_sync {
            return Cause::FibStale { node: node.to_owned() };
        }
        Cause::FelixLag {
            node: node.to_owned(),
            prefix,
            why: "it has not heard of one".to_owned(),
        }
    }

    /// felix wants it and it is not there, or not alone.
    fn unprogrammed(&mut self, node: &str, felix: &FelixFacts, (row, to): (&Row, &Destination)) -> Cause {
        let (prefix, why) = (row.prefix, row.reason.clone());
        self.wrong(Stage::Fib, Some(node), format!("{}: {why}", row.state));
        // What a felix says that does not know the present state may be due to that.
        if !felix.datastore_in_sync && row.state != "failing" {
            return felix_stale(node, felix);
        }
        let other = why.strip_prefix("somebody else's route is in its place: ");
        if let Some(route) = other.or_else(|| why.strip_prefix("shadowed by ")) {
            return foreign(node, to, route.to_owned());
        }
        let node = node.to_owned();
        match row.state.as_str() {
            "refused" => Cause::OwnRefused { node, prefix, why },
            "failing" => Cause::KernelRefuses { node, prefix, why },
            "withheld" if why.contains("next hop") => Cause::NextHop { node, prefix, why },
            "withheld" => Cause::Withheld { node, prefix, why },
            state => Cause::FelixLag {
                node,
                prefix,
                why: format!("it is {state}"),
            },
        }
    }

    /// What the kernel itself would do.
    fn looked_up(&mut self, node: &str, (prefix, to): (Prefix, &Destination)) -> Option<Cause> {
        let Some(kernel) = self.kernel(node) else {
            match self.node(node).and_then(|n| n.kernel.failure()) {
                Some(why) => self.wrong(Stage::Kernel, Some(node), format!("could not be asked: {why}")),
                None => self.unasked(Stage::Kernel, (node, "the kernel")),
            }
            return None;
        };
        match kernel.lookup.as_ref()? {
            Lookup::Route { ours: false, text, .. } => {
                self.wrong(Stage::Kernel, Some(node), text.clone());
                let route = text.clone();
                let shadowed = self
                    .felix(node)
                    .is_some_and(|f| f.rows.iter().any(|r| r.prefix == prefix));
                // Without a route of ours the next best takes the packets, the default route for one.
                Some(if shadowed {
                    foreign(node, to, route)
                } else {
                    self.lost_by_kernel(node, (prefix, route))
                })
            }
            Lookup::Route { text, .. } => {
                self.good(Stage::Kernel, Some(node), text.clone());
                None
            }
            Lookup::Dropped(what) => {
                self.wrong(Stage::Kernel, Some(node), what.clone());
                Some(self.lost_by_kernel(node, (prefix, what.clone())))
            }
        }
    }

    /// Not the cluster's, and no peer has it: what the kernel does with it is somebody else's matter.
    fn elsewhere(&mut self, node: &str) -> Option<Cause> {
        if let Some(Lookup::Route { text, .. }) = self.kernel(node).and_then(|k| k.lookup.as_ref()) {
            let text = format!("by a route that is not Tortie's: {text}");
            self.find(Stage::Kernel, Some(node), (Mark::Note, text));
        }
        None
    }

    // === Tunnels ===

    /// The device that the pool's encapsulation takes from this node to the owner, if it takes one.
    fn device(&self, node: &str, to: &Destination) -> Option<&'static str> {
        let spec = &to.pool.as_ref()?.spec;
        let subnet = |name: &str| {
            let bgp = self.cluster()?.nodes.get(name)?.spec.bgp.as_ref()?;
            let address = if spec.cidr.is_v4() {
                bgp.ipv4_address
            } else {
                bgp.ipv6_address
            };
            Some(address?.network())
        };
        let owner = to.owner.as_deref()?;
        let crosses = || subnet(node) != subnet(owner);
        let takes = |mode: EncapMode| match mode {
            EncapMode::Never => false,
            EncapMode::Always => true,
            EncapMode::CrossSubnet => crosses(),
        };
        if takes(spec.vxlan_mode()) {
            Some(VXLAN[usize::from(!spec.cidr.is_v4())])
        } else {
            (takes(spec.ipip_mode()) && spec.cidr.is_v4()).then_some(IPIP)
        }
    }

    fn tunnel(&mut self, node: &str, to: &Destination) -> Option<Cause> {
        let pool = to.pool.as_ref()?.metadata.name.clone();
        to.owner.as_ref()?;
        let wanted = self.device(node, to);
        let links = self.kernel(node).map(|k| &k.links);
        let said = self.felix(node).and_then(|f| {
            let mut rows = f.rows.iter().filter(|r| r.prefix == to.prefix && r.state == "withheld");
            rows.find(|r| r.reason.starts_with("interface "))
        });
        if let Some(device) = wanted
            && (links.is_some_and(|l| l.get(device) != Some(&true)) || said.is_some_and(|r| r.reason.contains(device)))
        {
            self.wrong(Stage::Kernel, Some(node), format!("there is no {device} that is up"));
            let node = node.to_owned();
            let device = device.to_owned();
            return Some(Cause::TunnelMissing { node, device, pool });
        }
        let Some(Lookup::Route {
            prefix,
            ours: true,
            device,
            text,
        }) = self.kernel(node)?.lookup.as_ref()
        else {
            return None;
        };
        let is_tunnel = device == IPIP || VXLAN.contains(&device.as_str());
        let right = wanted.map_or(!is_tunnel, |w| w == device);
        if *prefix != to.prefix || right {
            return None;
        }
        self.wrong(Stage::Kernel, Some(node), text.clone());
        Some(Cause::Encapsulation {
            node: node.to_owned(),
            pool,
            wants: wanted.unwrap_or("no tunnel").to_owned(),
            has: text.clone(),
        })
    }
}

fn foreign(node: &str, to: &Destination, route: String) -> Cause {
    Cause::ForeignRoute {
        node: node.to_owned(),
        subject: shown(to.net),
        route,
    }
}
