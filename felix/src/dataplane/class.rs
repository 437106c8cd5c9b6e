//! Route classes: where a route comes from, which origin is stronger, and how a route in the kernel is recognised as ours.

use std::fmt;

use serde::Serialize;
use tortie_calc::Tunnel;
use tortie_netlink::route::{IfIndex, Kind, Protocol, Route, TABLE_MAIN};

use super::marks::Marks;

/// What the names of the host's side of workload interfaces begin with.
pub const WORKLOAD_INTERFACE_PREFIX: &str = "cali";

/// Where a wanted route comes from, the strongest first: when several origins want one prefix, the first wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteClass {
    /// A workload on this node: `<ip>/32 dev cali… scope link`.
    LocalWorkload,
    /// A prefix of a VXLAN pool at a node of the same subnet: `<block> via <node> dev eth0 proto 80 onlink`.
    SameSubnet,
    /// A prefix of a VXLAN pool at another node: `<block> via <its end> dev vxlan.calico onlink`.
    VxlanTunnel,
    /// A block this node owns: `blackhole <block>`, under the workloads in it.
    OwnBlock,
    /// Learned from a peer: bird-rs's fib stream.
    Bgp,
}

impl RouteClass {
    /// Every class, the strongest first.
    pub const ALL: [RouteClass; 5] = [
        RouteClass::LocalWorkload,
        RouteClass::SameSubnet,
        RouteClass::VxlanTunnel,
        RouteClass::OwnBlock,
        RouteClass::Bgp,
    ];

    /// Its name in output and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            RouteClass::LocalWorkload => "local-workload",
            RouteClass::SameSubnet => "same-subnet",
            RouteClass::VxlanTunnel => "vxlan-tunnel",
            RouteClass::OwnBlock => "own-block",
            RouteClass::Bgp => "bgp",
        }
    }

    /// Its class, if the route is one that felix writes: the ownership test. With Calico's marks it needs no memory of a
    /// former life; with others, what [`super::marks::Remembered`] is for.
    /// Exact, because everything it accepts and nobody wants is removed.
    pub fn of(route: &Route, marks: &Marks, name: impl Fn(IfIndex) -> Option<String>) -> Option<RouteClass> {
        if route.table != TABLE_MAIN || route.tos != 0 {
            return None;
        }
        let by_device = || {
            let mut classes = route.interfaces().map(|i| by_name(&name(i)?));
            let first = classes.next()??;
            classes.all(|c| c == Some(first)).then_some(first)
        };
        match (route.protocol, route.kind) {
            (Protocol::BIRD, _) if marks.is_learned(route.metric) => Some(RouteClass::Bgp),
            (Protocol::CALICO, Kind::Unicast) => Some(RouteClass::SameSubnet),
            // Of any kind: blackholes are all that is written, but the number is Calico's, so the rest is leavings.
            (Protocol::CALICO, _) => Some(RouteClass::OwnBlock),
            (p, Kind::Unicast) if marks.is_own(p) => Some(by_device().unwrap_or(RouteClass::SameSubnet)),
            (p, _) if marks.is_own(p) => Some(RouteClass::OwnBlock),
            (Protocol::BOOT, Kind::Unicast) => by_device(),
            // What the kernel writes by itself comes back.
            (Protocol::KERNEL, _) => None,
            (_, Kind::Unicast) if marks.external() => by_device().filter(|c| *c == RouteClass::LocalWorkload),
            _ => None,
        }
    }
}

/// The class of the routes without a number of ours (proto boot) on an interface of this name.
pub(super) fn by_name(name: &str) -> Option<RouteClass> {
    if name.starts_with(WORKLOAD_INTERFACE_PREFIX) {
        return Some(RouteClass::LocalWorkload);
    }
    let vxlan = [Tunnel::VxlanV4, Tunnel::VxlanV6].map(Tunnel::device);
    vxlan.contains(&name).then_some(RouteClass::VxlanTunnel)
}

impl fmt::Display for RouteClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use tortie_calc::Settings;
    use tortie_netlink::route::NextHop;

    #[test]
    fn the_ownership_test() {
        let names = |i: IfIndex| match i.0 {
            9 => "cali12345",
            8 => "vxlan.calico",
            7 => "vxlan-v6.calico",
            _ => "eth0",
        };
        let name = |i: IfIndex| Some(names(i).to_owned());
        let class = |kind, protocol, metric, interface: u32, table| {
            let mut r = Route::new("10.0.0.0/26".parse().unwrap(), kind, protocol);
            (r.metric, r.table) = (metric, table);
            if kind == Kind::Unicast {
                r.next_hops = Arc::new([NextHop::device(IfIndex(interface))]);
            }
            RouteClass::of(&r, &Marks::default(), name)
        };
        let (main, blackhole, unicast) = (TABLE_MAIN, Kind::Blackhole, Kind::Unicast);
        assert_eq!(
            class(blackhole, Protocol::CALICO, 0, 0, main),
            Some(RouteClass::OwnBlock)
        );
        assert_eq!(
            class(blackhole, Protocol::CALICO, 0, 0, 100),
            None,
            "another table is not ours"
        );
        assert_eq!(class(unicast, Protocol::BIRD, 1024, 2, main), Some(RouteClass::Bgp));
        assert_eq!(class(unicast, Protocol::BIRD, 32, 2, main), None, "stock BIRD's own");
        assert_eq!(
            class(unicast, Protocol::BIRD, 32, 2, main),
            None,
            "a BIRD of the host's"
        );
        assert_eq!(
            class(unicast, Protocol::BOOT, 1024, 9, main),
            Some(RouteClass::LocalWorkload)
        );
        assert_eq!(
            class(unicast, Protocol::BOOT, 1024, 2, main),
            None,
            "an administrator's"
        );
        assert_eq!(
            class(blackhole, Protocol::BOOT, 0, 0, main),
            None,
            "on no interface at all"
        );
        assert_eq!(class(unicast, Protocol::KERNEL, 256, 9, main), None);
        assert_eq!(
            class(unicast, Protocol::CALICO, 0, 2, main),
            Some(RouteClass::SameSubnet)
        );
        for device in [7, 8] {
            let class = class(unicast, Protocol::BOOT, 0, device, main);
            assert_eq!(class, Some(RouteClass::VxlanTunnel));
        }
        assert_eq!(class(unicast, Protocol::KERNEL, 256, 7, main), None, "of an address");
        assert!(RouteClass::ALL.is_sorted());
    }

    #[test]
    fn the_numbers_that_are_ours_follow_the_settings() {
        let name = |i: IfIndex| Some(if i.0 == 9 { "cali12345" } else { "eth0" }.to_owned());
        let class = |marks: &Marks, kind, protocol, interface: u32| {
            let mut r = Route::new("10.0.0.0/26".parse().unwrap(), kind, Protocol(protocol));
            r.next_hops = Arc::new([NextHop::device(IfIndex(interface))]);
            RouteClass::of(&r, marks, name)
        };
        let mut marks = Marks::default();
        let all = |marks: &Marks| RouteClass::ALL.map(|c| marks.of(c).0);
        assert_eq!(all(&marks), [3, 80, 3, 80, 12]);
        let (unicast, blackhole) = (Kind::Unicast, Kind::Blackhole);
        assert_eq!(class(&marks, unicast, 99, 2), None);
        assert_eq!(class(&marks, unicast, 99, 9), None, "foreign routes stay by default");
        let mut settings = Settings {
            device_route_protocol: 99,
            ..Settings::default()
        };
        assert!(marks.change(&settings) && !marks.change(&settings));
        assert_eq!(all(&marks), [99, 99, 99, 99, 12]);
        assert_eq!(class(&marks, unicast, 99, 2), Some(RouteClass::SameSubnet));
        assert_eq!(class(&marks, blackhole, 99, 2), Some(RouteClass::OwnBlock));
        assert_eq!(class(&marks, unicast, 80, 2), Some(RouteClass::SameSubnet), "of before");
        assert_eq!(class(&marks, unicast, 3, 9), Some(RouteClass::LocalWorkload));
        assert_eq!(class(&marks, unicast, 4, 9), None, "another's stays");
        settings = Settings {
            remove_external_routes: true,
            ..Settings::default()
        };
        assert!(marks.change(&settings));
        assert_eq!(class(&marks, unicast, 99, 2), Some(RouteClass::SameSubnet), "of before");
        assert_eq!(class(&marks, unicast, 4, 9), Some(RouteClass::LocalWorkload));
        assert_eq!(class(&marks, unicast, 2, 9), None, "the kernel's own");
    }
}
