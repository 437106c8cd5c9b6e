//! FelixConfiguration: what felix is told for the cluster, for selected nodes and for this one, put together.
//!
//! A field of `node.<name>` counts before that of a document with a selector that fits the node (of several, the one with
//! the last name), and that before `default`'s. A field that nothing says anything of has Calico's default.

use std::net::IpAddr;
use std::time::Duration;

use tortie_model::GoDuration;
use tortie_model::resource::is_free_protocol;
use tortie_model::resource::{FelixConfigurationSpec, NatOutgoingExclusions, Switch};
use tortie_net::Prefix;

use crate::bgp::RouteMetrics;
use crate::tunnel::Tunnel;

/// Calico's VXLAN network.
const VNI: u32 = 4096;
/// The port of VXLAN (RFC 7348).
const PORT: u16 = 4789;

/// How often what is in the kernel is compared with what is wanted, whatever the kernel's events say. Calico does it more
/// often, for its events tell it less.
const REFRESH: Duration = Duration::from_secs(300);
/// Calico's reporting interval.
const REPORT_EVERY: Duration = Duration::from_secs(30);
/// Calico's time that a report counts.
const REPORT_COUNTS: Duration = Duration::from_secs(90);
/// The protocol number of routes of unknown origin: `boot`.
const BOOT: u8 = 3;

/// What felix is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Translation of what leaves the pools.
    pub nat: Nat,
    /// Hosts that are no nodes and may send packets of tunnels.
    pub external_nodes: Vec<Prefix>,
    /// Workloads may send packets of IPIP themselves.
    pub workloads_send_ipip: bool,
    /// Workloads may send packets of VXLAN themselves.
    pub workloads_send_vxlan: bool,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// VXLAN network identifier.
    pub vxlan_vni: u32,
    /// What the tunnel devices carry, in octets, in the order of [`Tunnel::ALL`]; `None`: as their links.
    pub tunnel_mtu: [Option<u32>; 3],
    /// The protocol number of routes to workloads, and of all others when it is not 3.
    pub device_route_protocol: u8,
    /// Routes of others to workloads' interfaces are removed.
    pub remove_external_routes: bool,
    /// The node has IPv6.
    pub ipv6: bool,
    /// Floating addresses lead to workloads.
    pub floating_ips: bool,
    /// How often the kernel is looked at although it told nothing.
    pub refresh: Refresh,
    /// How often the node says how it is; never when zero.
    pub report_interval: Duration,
    /// How long such a word counts.
    pub report_ttl: Duration,
    /// Routes share the kernel's nexthop objects, where it has them.
    pub nexthop_objects: bool,
    /// The metrics of routes.
    pub metrics: RouteMetrics,
}

/// How often the kernel's objects are compared with what is wanted; `None`: only when something is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refresh {
    /// Routes.
    pub routes: Option<Duration>,
    /// Devices of tunnels.
    pub interfaces: Option<Duration>,
    /// Tables of nftables.
    pub tables: Option<Duration>,
}

impl Default for Refresh {
    fn default() -> Self {
        let all = Some(REFRESH);
        Refresh {
            routes: all,
            interfaces: all,
            tables: all,
        }
    }
}

/// How the source of packets that leave the pools is translated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nat {
    /// To this address, for packets of its family; else to that of the interface they leave by.
    pub address: Option<IpAddr>,
    /// To ports of this range, both ends included, where the protocol has ports.
    pub ports: Option<(u16, u16)>,
    /// Not on the way to a node.
    pub spares_nodes: bool,
    /// Only on the way out by an interface of this name; `+` at the end stands for any rest.
    pub interface: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            nat: Nat::default(),
            external_nodes: Vec::new(),
            workloads_send_ipip: false,
            workloads_send_vxlan: false,
            vxlan_port: PORT,
            vxlan_vni: VNI,
            tunnel_mtu: [None; 3],
            device_route_protocol: BOOT,
            remove_external_routes: false,
            ipv6: true,
            floating_ips: false,
            refresh: Refresh::default(),
            report_interval: REPORT_EVERY,
            report_ttl: REPORT_COUNTS,
            nexthop_objects: false,
            metrics: RouteMetrics::default(),
        }
    }
}

impl Settings {
    /// What this tunnel's device shall carry; `None`: as its links.
    pub fn mtu(&self, tunnel: Tunnel) -> Option<u32> {
        self.tunnel_mtu[tunnel as usize]
    }

    /// Of documents, the one that counts first at the end; and what BGPConfigurations say of metrics.
    pub(crate) fn of(layers: &[&FelixConfigurationSpec], priorities: [Option<u32>; 2]) -> Self {
        fn last<'a, T>(
            layers: &[&'a FelixConfigurationSpec],
            field: impl Fn(&'a FelixConfigurationSpec) -> Option<T>,
        ) -> Option<T> {
            layers.iter().rev().find_map(|spec| field(spec))
        }
        let listed =
            |s: &FelixConfigurationSpec| (!s.external_nodes_list.is_empty()).then(|| s.external_nodes_list.clone());
        let external = last(layers, listed).unwrap_or_default();
        let default = Settings::default();
        let every = |said: Option<GoDuration>| said.map_or(Some(REFRESH), |d| (!d.0.is_zero()).then_some(d.0));
        Settings {
            nat: Nat {
                address: last(layers, |s| s.nat_outgoing_address),
                ports: last(layers, |s| s.nat_port_range).map(|r| (r.first(), r.last())),
                spares_nodes: last(layers, |s| s.nat_outgoing_exclusions)
                    == Some(NatOutgoingExclusions::IpPoolsAndHostIps),
                interface: last(layers, |s| s.nat_outgoing_interface_filter.clone()),
            },
            external_nodes: external.iter().map(|a| a.network()).collect(),
            workloads_send_ipip: last(layers, |s| s.allow_ipip_packets_from_workloads).unwrap_or(false),
            workloads_send_vxlan: last(layers, |s| s.allow_vxlan_packets_from_workloads).unwrap_or(false),
            vxlan_port: last(layers, |s| s.vxlan_port).unwrap_or(PORT),
            vxlan_vni: last(layers, |s| s.vxlan_vni).unwrap_or(VNI),
            tunnel_mtu: [
                last(layers, |s| s.ipip_mtu).filter(|mtu| *mtu > 0),
                last(layers, |s| s.vxlan_mtu).filter(|mtu| *mtu > 0),
                last(layers, |s| s.vxlan_mtu_v6).filter(|mtu| *mtu > 0),
            ],
            device_route_protocol: last(layers, |s| s.device_route_protocol.filter(|p| is_free_protocol(*p)))
                .unwrap_or(BOOT),
            remove_external_routes: last(layers, |s| s.remove_external_routes).unwrap_or(false),
            ipv6: last(layers, |s| s.ipv6_support).unwrap_or(true),
            floating_ips: last(layers, |s| s.floating_ips) == Some(Switch::Enabled),
            refresh: Refresh {
                routes: every(last(layers, |s| s.route_refresh_interval)),
                interfaces: every(last(layers, |s| s.interface_refresh_interval)),
                tables: every(last(layers, |s| s.nftables_refresh_interval)),
            },
            report_interval: last(layers, |s| s.reporting_interval).map_or(default.report_interval, |d| d.0),
            report_ttl: last(layers, |s| s.reporting_ttl).map_or(default.report_ttl, |d| d.0),
            nexthop_objects: last(layers, |s| s.nexthop_objects) == Some(Switch::Enabled),
            metrics: RouteMetrics::of(
                [
                    last(layers, |s| s.ipv4_normal_route_priority),
                    last(layers, |s| s.ipv6_normal_route_priority),
                ],
                priorities,
            ),
        }
    }
}
