//! Sessions with workloads of the node: BGPPeers with `localWorkloadSelector`.
//!
//! The workload dials, the node waits; it speaks from whichever of the node's addresses the workload has chosen. As in Calico
//! only the AS numbers and the filters of the BGPPeer count. Selectors see a WorkloadEndpoint's own labels.

use tortie_model::Selector;
use tortie_net::Asn;

use super::cluster::{Cluster, Problems};
use super::explicit::{Ask, Sessions, reflect};
use super::mesh::Draft;
use super::problem::ProblemKind;
use super::types::{Family, PeerKind};

/// One for each address of each workload that is selected.
pub(super) fn peers(
    cluster: &Cluster<'_>,
    ask: &Ask<'_>,
    selector: &Selector,
    sessions: &mut Sessions,
    problems: &mut Problems,
) {
    let Some(asn) = ask.spec.as_number.filter(|a| a.0 != 0) else {
        problems.add(&ask.origin, "spec.asNumber", ProblemKind::PeerWithoutAs);
        return;
    };
    ignored(ask, problems);
    let endpoints = cluster.state.endpoints.values().map(|s| &s.object);
    for endpoint in endpoints.filter(|e| selector.matches(&e.metadata.labels)) {
        for address in endpoint.spec.ip_networks.iter().map(|n| n.addr()) {
            if cluster.own.address(Family::of(address)).is_none() {
                let kind = ProblemKind::FamilyDisabled { address };
                problems.add(&ask.origin, "spec.localWorkloadSelector", kind);
                continue;
            }
            let mut draft = draft(cluster, ask, asn, address);
            reflect(cluster, &mut draft);
            sessions.offer(draft, problems);
        }
    }
}

/// Fields that a session with a node or a router would take.
fn ignored(ask: &Ask<'_>, problems: &mut Problems) {
    let spec = ask.spec;
    let given = [
        ("spec.password", spec.password.is_some()),
        ("spec.sourceAddress", spec.source_address.is_some()),
        ("spec.maxRestartTime", spec.max_restart_time.is_some()),
        ("spec.keepaliveTime", spec.keepalive_time.is_some()),
        ("spec.ttlSecurity", spec.ttl_security.is_some()),
        ("spec.reachableBy", spec.reachable_by.is_some()),
        (
            "spec.numAllowedLocalASNumbers",
            spec.num_allowed_local_as_numbers.is_some(),
        ),
        ("spec.nextHopMode", spec.next_hop_mode.is_some()),
    ];
    for (field, _) in given.into_iter().filter(|(_, given)| *given) {
        let reason = "sessions with workloads take AS numbers and filters only";
        problems.add(&ask.origin, field, ProblemKind::NoEffect { reason });
    }
}

fn draft(cluster: &Cluster<'_>, ask: &Ask<'_>, asn: Asn, address: std::net::IpAddr) -> Draft {
    let local_asn = ask.spec.local_as_number.filter(|a| *a != cluster.own.asn);
    let mut draft = Draft::new(PeerKind::LocalWorkload, (address, None), asn, &ask.origin);
    draft.peer.local_asn = local_asn;
    draft.peer.internal = asn == local_asn.unwrap_or(cluster.own.asn);
    draft.peer.passive = true;
    draft.filters.clone_from(&ask.spec.filters);
    draft
}
