//! The tables: one per kind.

use super::Ty::{Any, Asn, Bool, Int, List, Object, OneOf, Text, TextMap};
use super::format::{
    community, duration, host_network, interface, interface_address_v4, interface_address_v6, interface_pattern, ip,
    ipv4, ipv6, mac, network, network_or_address, peer_address, selector, severity, strict_network, text,
};
use super::{Field, Ty, opt, req};
use crate::kind::Kind;
use crate::resource::{
    AllowedUse, AssignmentMode, BindMode, EncapMode, FilterAction, FilterPeerType, FilterSource, MatchOperator,
    NextHopMode, NodeAddressType, ProgramClusterRoutes, ReversePeering, SourceAddress, Switch,
};

pub(super) const MANY: usize = usize::MAX;
pub(super) const NAME: Ty = Text(text::<253>);
pub(super) const ANY_TEXT: Ty = Text(text::<65_536>);
const ENCAP: Ty = OneOf(EncapMode::TEXTS);
pub(super) const SWITCH: Ty = OneOf(Switch::TEXTS);
pub(super) const PROGRAM_ROUTES: Ty = OneOf(ProgramClusterRoutes::TEXTS);
/// Kernel metrics: 0 and the highest number mean something else.
pub(super) const PRIORITY: Ty = Int(1, 2_147_483_646);
pub(super) const PORT: Ty = Int(1, 65_535);
const PASSWORD: Ty = Object(&[opt("secretKeyRef", Object(&[req("name", NAME), req("key", NAME)]))]);
const CIDRS: Ty = List(&Object(&[req("cidr", Text(network))]), MANY);
const ASNS: Ty = List(&Asn, MANY);

const META: &[Field] = &[
    opt("name", NAME),
    opt("namespace", Text(text::<63>)),
    opt("uid", ANY_TEXT),
    opt("resourceVersion", ANY_TEXT),
    opt("creationTimestamp", ANY_TEXT),
    opt("deletionTimestamp", ANY_TEXT),
    opt("deletionGracePeriodSeconds", Any),
    opt("generation", Any),
    opt("generateName", ANY_TEXT),
    opt("labels", TextMap),
    opt("annotations", TextMap),
    opt("ownerReferences", Any),
    opt("finalizers", List(&ANY_TEXT, MANY)),
    opt("managedFields", Any),
    opt("selfLink", ANY_TEXT),
];

/// The fields of a whole resource around its specification.
macro_rules! resource {
    ($spec:expr) => {{
        const FIELDS: &[Field] = &[
            opt("apiVersion", NAME),
            opt("kind", NAME),
            opt("metadata", Object(META)),
            opt("spec", Object($spec)),
            opt("status", Any),
        ];
        FIELDS
    }};
}

pub(super) fn of(kind: Kind) -> Option<&'static [Field]> {
    Some(match kind {
        Kind::BgpConfiguration => resource!(BGP_CONFIGURATION),
        Kind::BgpFilter => resource!(BGP_FILTER),
        Kind::BgpPeer => resource!(BGP_PEER),
        Kind::ClusterInformation => resource!(CLUSTER_INFORMATION),
        Kind::FelixConfiguration => resource!(super::felix::FELIX_CONFIGURATION),
        Kind::IpamConfiguration => resource!(IPAM_CONFIGURATION),
        Kind::IpPool => {
            // The specification is required: a pool without addresses is none.
            const FIELDS: &[Field] = &[
                opt("apiVersion", NAME),
                opt("kind", NAME),
                opt("metadata", Object(META)),
                req("spec", Object(IP_POOL)),
                opt("status", Any),
            ];
            FIELDS
        }
        Kind::IpReservation => resource!(IP_RESERVATION),
        Kind::Node => resource!(NODE),
        Kind::WorkloadEndpoint => resource!(WORKLOAD_ENDPOINT),
        Kind::BlockAffinity
        | Kind::CalicoNodeStatus
        | Kind::GlobalNetworkPolicy
        | Kind::GlobalNetworkSet
        | Kind::HostEndpoint
        | Kind::KubeControllersConfiguration
        | Kind::LiveMigration
        | Kind::NetworkPolicy
        | Kind::NetworkSet
        | Kind::Profile
        | Kind::StagedGlobalNetworkPolicy
        | Kind::StagedKubernetesNetworkPolicy
        | Kind::StagedNetworkPolicy
        | Kind::Tier => return None,
    })
}

const IP_POOL: &[Field] = &[
    req("cidr", Text(network)),
    opt("blockSize", Int(20, 128)),
    opt("ipipMode", ENCAP),
    opt("vxlanMode", ENCAP),
    opt("natOutgoing", Bool),
    opt("disabled", Bool),
    opt("disableBGPExport", Bool),
    opt("nodeSelector", Text(selector)),
    opt("namespaceSelector", Text(selector)),
    opt("allowedUses", List(&OneOf(AllowedUse::TEXTS), 3)),
    opt("assignmentMode", OneOf(AssignmentMode::TEXTS)),
];

const BGP_CONFIGURATION: &[Field] = &[
    opt("logSeverityScreen", Text(severity)),
    opt("nodeToNodeMeshEnabled", Bool),
    opt("asNumber", Asn),
    opt("listenPort", PORT),
    opt("bindMode", OneOf(BindMode::TEXTS)),
    opt("serviceLoadBalancerIPs", CIDRS),
    opt("serviceExternalIPs", CIDRS),
    opt("serviceClusterIPs", CIDRS),
    opt("serviceLoadBalancerAggregation", SWITCH),
    opt(
        "communities",
        List(&Object(&[req("name", NAME), req("value", Text(community))]), 500),
    ),
    opt(
        "prefixAdvertisements",
        List(
            &Object(&[req("cidr", Text(network)), opt("communities", List(&NAME, 50))]),
            500,
        ),
    ),
    opt("nodeMeshPassword", PASSWORD),
    opt("nodeMeshMaxRestartTime", Text(duration)),
    opt("ignoredInterfaces", List(&Text(interface_pattern), MANY)),
    opt("localWorkloadPeeringIPV4", Text(ipv4)),
    opt("localWorkloadPeeringIPV6", Text(ipv6)),
    opt("programClusterRoutes", PROGRAM_ROUTES),
    opt("ipv4NormalRoutePriority", PRIORITY),
    opt("ipv6NormalRoutePriority", PRIORITY),
];

const BGP_PEER: &[Field] = &[
    opt("node", NAME),
    opt("nodeSelector", Text(selector)),
    opt("peerIP", Text(peer_address)),
    opt("asNumber", Asn),
    opt("localASNumber", Asn),
    opt("peerSelector", Text(selector)),
    opt("localWorkloadSelector", Text(selector)),
    opt("keepOriginalNextHop", Bool),
    opt("nextHopMode", OneOf(NextHopMode::TEXTS)),
    opt("password", PASSWORD),
    opt("sourceAddress", OneOf(SourceAddress::TEXTS)),
    opt("maxRestartTime", Text(duration)),
    opt("keepaliveTime", Text(duration)),
    opt("numAllowedLocalASNumbers", Int(0, i32::MAX as i64)),
    opt("ttlSecurity", Int(0, 255)),
    opt("reachableBy", Text(ip)),
    opt("filters", List(&NAME, MANY)),
    opt("reversePeering", OneOf(ReversePeering::TEXTS)),
];

const BGP_FILTER: &[Field] = &[
    opt("exportV4", List(&FILTER_RULE_V4, MANY)),
    opt("importV4", List(&FILTER_RULE_V4, MANY)),
    opt("exportV6", List(&FILTER_RULE_V6, MANY)),
    opt("importV6", List(&FILTER_RULE_V6, MANY)),
];

macro_rules! filter_rule {
    ($longest:literal) => {
        Object(&[
            req("action", OneOf(FilterAction::TEXTS)),
            opt("cidr", Text(strict_network)),
            opt("matchOperator", OneOf(MatchOperator::TEXTS)),
            opt(
                "prefixLength",
                Object(&[opt("min", Int(0, $longest)), opt("max", Int(0, $longest))]),
            ),
            opt("source", OneOf(FilterSource::TEXTS)),
            opt("interface", Text(interface_pattern)),
            opt("peerType", OneOf(FilterPeerType::TEXTS)),
            opt("communities", Object(&[req("values", List(&Text(community), 1))])),
            opt("asPathPrefix", ASNS),
            opt("priority", PRIORITY),
            opt("operations", List(&FILTER_OPERATION, 10)),
        ])
    };
}

const FILTER_RULE_V4: Ty = filter_rule!(32);
const FILTER_RULE_V6: Ty = filter_rule!(128);

const FILTER_OPERATION: Ty = Object(&[
    opt("addCommunity", Object(&[req("value", Text(community))])),
    opt("prependASPath", Object(&[req("prefix", List(&Asn, 10))])),
    opt("setPriority", Object(&[req("value", PRIORITY)])),
]);

const NODE: &[Field] = &[
    opt(
        "bgp",
        Object(&[
            opt("asNumber", Asn),
            opt("ipv4Address", Text(interface_address_v4)),
            opt("ipv6Address", Text(interface_address_v6)),
            opt("ipv4IPIPTunnelAddr", Text(ipv4)),
            opt("routeReflectorClusterID", Text(ipv4)),
        ]),
    ),
    opt("ipv4VXLANTunnelAddr", Text(ipv4)),
    opt("ipv6VXLANTunnelAddr", Text(ipv6)),
    opt("vxlanTunnelMACAddr", Text(mac)),
    opt("vxlanTunnelMACAddrV6", Text(mac)),
    opt(
        "wireguard",
        Object(&[
            opt("interfaceIPv4Address", Text(ipv4)),
            opt("interfaceIPv6Address", Text(ipv6)),
        ]),
    ),
    opt(
        "orchRefs",
        List(&Object(&[opt("nodeName", NAME), req("orchestrator", NAME)]), MANY),
    ),
    opt(
        "addresses",
        List(
            &Object(&[
                req("address", Text(network_or_address)),
                opt("type", OneOf(NodeAddressType::TEXTS)),
            ]),
            MANY,
        ),
    ),
    opt(
        "interfaces",
        List(
            &Object(&[
                opt("name", Text(interface)),
                opt("addresses", List(&Text(network_or_address), MANY)),
            ]),
            MANY,
        ),
    ),
];

const QOS: &[Field] = &[
    opt("ingressBandwidth", Any),
    opt("egressBandwidth", Any),
    opt("ingressBurst", Any),
    opt("egressBurst", Any),
    opt("ingressPeakrate", Any),
    opt("egressPeakrate", Any),
    opt("ingressMinburst", Any),
    opt("egressMinburst", Any),
    opt("ingressPacketRate", Any),
    opt("egressPacketRate", Any),
    opt("ingressPacketBurst", Any),
    opt("egressPacketBurst", Any),
    opt("ingressMaxConnections", Any),
    opt("egressMaxConnections", Any),
    opt("dscp", Any),
];

const WORKLOAD_ENDPOINT: &[Field] = &[
    req("orchestrator", NAME),
    opt("workload", NAME),
    req("node", NAME),
    opt("containerID", NAME),
    opt("pod", NAME),
    req("endpoint", NAME),
    opt("serviceAccountName", NAME),
    opt("ipNetworks", List(&Text(host_network), MANY)),
    opt(
        "ipNATs",
        List(
            &Object(&[req("internalIP", Text(ip)), req("externalIP", Text(ip))]),
            MANY,
        ),
    ),
    opt("ipv4Gateway", Text(ipv4)),
    opt("ipv6Gateway", Text(ipv6)),
    opt("profiles", List(&NAME, MANY)),
    req("interfaceName", Text(interface)),
    opt("mac", Text(mac)),
    opt(
        "ports",
        List(
            &Object(&[
                opt("name", NAME),
                opt("protocol", Any),
                opt("port", PORT),
                opt("hostPort", Int(0, 65_535)),
                opt("hostIP", Text(ip)),
            ]),
            MANY,
        ),
    ),
    opt("allowSpoofedSourcePrefixes", List(&Text(strict_network), MANY)),
    opt("qosControls", Object(QOS)),
];

const CLUSTER_INFORMATION: &[Field] = &[
    opt("clusterGUID", NAME),
    opt("clusterType", ANY_TEXT),
    opt("calicoVersion", NAME),
    opt("datastoreReady", Bool),
    opt("variant", NAME),
];

const IP_RESERVATION: &[Field] = &[opt("reservedCIDRs", List(&Text(network_or_address), MANY))];

const IPAM_CONFIGURATION: &[Field] = &[
    opt("strictAffinity", Bool),
    opt("autoAllocateBlocks", Bool),
    opt("maxBlocksPerHost", Int(0, 1_000_000)),
    opt("kubeVirtVMAddressPersistence", SWITCH),
    opt("ipCooldownSeconds", Int(0, 1_200)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_kind_has_a_table() {
        for &kind in Kind::ALL {
            assert_eq!(of(kind).is_some(), kind.supported(), "{kind}");
        }
    }
}
