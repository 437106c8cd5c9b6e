//! Route leaks, found and prevented by roles (RFC 9234 section 5).
//!
//! The role is the one that we are configured to have towards an external peer, whatever the peer said: the rules hold
//! also for a peer that knows no roles. The OTC attribute names the AS from which on a route may only go down to
//! customers. A pure function of the role, the AS numbers and the attributes; nothing here can be switched off by policy.

use tortie_net::Asn;

use crate::attr::Attributes;
use crate::packet::Role;

/// A received route gets OTC when it came down or sideways without (section 5, ingress rule 3).
pub(super) fn mark_received(role: Role, peer_as: Asn, attributes: &mut Attributes) {
    if matches!(role, Role::Customer | Role::Peer | Role::RouteServerClient) {
        attributes.only_to_customer.get_or_insert(peer_as);
    }
}

/// Has a received route gone up or sideways before although it must not (ingress rules 1 and 2)?
pub(super) fn is_leak(role: Role, peer_as: Asn, attributes: &Attributes) -> bool {
    match role {
        Role::Provider | Role::RouteServer => attributes.only_to_customer.is_some(),
        Role::Peer => attributes.only_to_customer.is_some_and(|asn| asn != peer_as),
        Role::Customer | Role::RouteServerClient => false,
    }
}

/// Would telling the peer leak the route (egress rule 2)?
pub(super) fn would_leak(role: Role, attributes: &Attributes) -> bool {
    let upwards = matches!(role, Role::Customer | Role::Peer | Role::RouteServerClient);
    upwards && attributes.only_to_customer.is_some()
}

/// What goes down or sideways carries OTC (egress rule 1).
pub(super) fn mark_announced(role: Role, local_as: Asn, attributes: &mut Attributes) {
    if matches!(role, Role::Provider | Role::Peer | Role::RouteServer) {
        attributes.only_to_customer.get_or_insert(local_as);
    }
}
