//! The cluster's documents, by way of typha's store.

use anyhow::Result;
use tortie_model::resource::WorkloadEndpoint;
use tortie_model::{Key, Kind, Object, Owner, decode, key};
use tortie_net::Prefix;
use tortie_typha_client::{Entry, Store};

use super::Named;
use crate::explain::facts::{Claim, ClusterFacts, EndpointFact};

/// Reads what may matter. Addresses come before their users, so that one that is just being given is not taken for lost.
pub(super) async fn read(store: &Store, named: &Named) -> Result<ClusterFacts> {
    let mut facts = ClusterFacts::default();
    for prefix in [
        key::BLOCKS.to_owned(),
        key::HOSTS.to_owned(),
        Key::collection(Kind::IpPool),
        Key::collection(Kind::IpReservation),
        Key::collection(Kind::BgpConfiguration),
        Key::collection(Kind::BgpFilter),
        Key::collection(Kind::BgpPeer),
        Key::collection(Kind::Node),
        Key::collection(Kind::WorkloadEndpoint),
    ] {
        for entry in store.list(&prefix).await?.entries {
            take(&mut facts, &entry, named);
        }
    }
    if let Named::Net(net) = named {
        facts.blocks.retain(|b| b.cidr.overlaps(*net));
        facts.affinities.retain(|a| a.block.overlaps(*net));
    }
    Ok(facts)
}

/// A document that cannot be read is as good as none: its readers leave it out, too.
fn take(facts: &mut ClusterFacts, entry: &Entry, named: &Named) {
    let Ok(key) = entry.key.parse::<Key>() else { return };
    let Ok(object) = decode(&key, &entry.value) else { return };
    match (key, object) {
        (_, Object::IpPool(pool)) => facts.pools.push(*pool),
        (_, Object::IpReservation(reservation)) => facts.reservations.push(*reservation),
        (_, Object::Block(block)) => facts.blocks.push(*block),
        (
            Key::Affinity {
                owner: Owner::Host(node),
                cidr,
            },
            Object::Affinity(affinity),
        ) => facts.affinities.push(Claim {
            node: node.to_string(),
            block: cidr,
            state: affinity.state,
        }),
        (Key::Resource { name, .. }, Object::Node(node)) => {
            facts.nodes.insert(name, *node);
        }
        (Key::Resource { name, .. }, Object::BgpPeer(peer)) => {
            facts.peers.insert(name, *peer);
        }
        (Key::Resource { name, .. }, Object::BgpFilter(filter)) => {
            facts.filters.insert(name, *filter);
        }
        (Key::Resource { name, .. }, Object::BgpConfiguration(configuration)) => {
            facts.configurations.insert(name, *configuration);
        }
        (_, Object::WorkloadEndpoint(endpoint)) => facts.endpoints.extend(endpoint_fact(&endpoint, named)),
        _ => {}
    }
}

fn endpoint_fact(endpoint: &WorkloadEndpoint, named: &Named) -> Option<EndpointFact> {
    let spec = &endpoint.spec;
    let namespace = endpoint.metadata.namespace.as_deref().unwrap_or("default");
    let pod = [&spec.pod, &spec.workload, &endpoint.metadata.name];
    let pod = pod.into_iter().find(|n| !n.is_empty())?;
    let name = format!("{namespace}/{pod}");
    let concerned = match named {
        Named::Pod(pod) => *pod == name,
        Named::Net(net) => spec.ip_networks.iter().any(|p: &Prefix| net.overlaps(*p)),
    };
    concerned.then(|| EndpointFact {
        name,
        node: spec.node.clone(),
        interface: spec.interface_name.clone(),
        addresses: spec.ip_networks.clone(),
    })
}
