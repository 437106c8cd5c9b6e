//! The two OPENs: what we offer, whether the peer's is acceptable, and what both agree on.

use std::net::SocketAddr;
use std::time::Duration;

use super::config::{GracefulRestartMode, PeerConfig};
use super::event::{ConnId, Negotiated, PeerGracefulRestart};
use super::long_lived;
use crate::packet::{
    AddPathMode, AfiSafi, Capability, ErrorCode, FamilySet, GracefulRestart, GracefulRestartFamily, Notification, Open,
    SessionContext,
};

const BAD_PEER_AS: u8 = 2;
const BAD_IDENTIFIER: u8 = 3;
const UNACCEPTABLE_HOLD_TIME: u8 = 6;
const CAPABILITY_MISSING: u8 = 7;
const ROLE_MISMATCH: u8 = 11;

/// Address family number of IPv6, as a next hop's.
const AFI_IPV6: u16 = 2;

/// The OPEN we send. `restarting`: the process has started and its tables are not complete yet.
pub(super) fn our_open(config: &PeerConfig, restarting: bool, capabilities: bool) -> Open {
    Open {
        asn: config.local_as,
        hold_time: u16::try_from(config.hold_time.as_secs()).unwrap_or(u16::MAX),
        router_id: config.router_id,
        capabilities: if capabilities {
            our_capabilities(config, restarting)
        } else {
            Vec::new()
        },
    }
}

fn our_capabilities(config: &PeerConfig, restarting: bool) -> Vec<Capability> {
    let mut out = Vec::new();
    for family in config.families.iter() {
        let (afi, safi) = family.codes();
        out.push(Capability::Multiprotocol { afi, safi });
    }
    if config.route_refresh {
        out.push(Capability::RouteRefresh);
    }
    if config.ext_next_hop && config.families.contains(AfiSafi::Ipv4Unicast) {
        let (afi, safi) = AfiSafi::Ipv4Unicast.codes();
        out.push(Capability::ExtendedNextHop(vec![(afi, u16::from(safi), AFI_IPV6)]));
    }
    if config.extended_messages {
        out.push(Capability::ExtendedMessage);
    }
    out.extend(config.role.map(Capability::Role));
    out.extend(our_graceful_restart(config, restarting).map(Capability::GracefulRestart));
    if config.four_octet_as {
        out.push(Capability::FourOctetAs(config.local_as));
    }
    let add_path: Vec<_> = config
        .families
        .iter()
        .filter_map(|family| {
            let (afi, safi) = family.codes();
            let mode = match (config.add_path_rx.contains(family), config.add_path_tx.contains(family)) {
                (true, true) => AddPathMode::Both,
                (true, false) => AddPathMode::Receive,
                (false, true) => AddPathMode::Send,
                (false, false) => return None,
            };
            Some((afi, safi, mode))
        })
        .collect();
    if !add_path.is_empty() {
        out.push(Capability::AddPath(add_path));
    }
    if config.enhanced_route_refresh && config.route_refresh {
        out.push(Capability::EnhancedRouteRefresh);
    }
    out.extend(long_lived::offered(config).map(Capability::LongLivedGracefulRestart));
    out.extend(config.hostname.clone().map(|name| Capability::Hostname {
        name: name.into(),
        domain: Box::default(),
    }));
    out
}

/// F is always set: what forwards packets is another process, which keeps its routes while this one restarts.
fn our_graceful_restart(config: &PeerConfig, restarting: bool) -> Option<GracefulRestart> {
    let families = match config.graceful_restart {
        GracefulRestartMode::Off => return None,
        GracefulRestartMode::Aware => FamilySet::EMPTY,
        GracefulRestartMode::On => config.families.intersection(config.graceful_families),
    };
    let family = |family: AfiSafi| {
        let (afi, safi) = family.codes();
        GracefulRestartFamily {
            afi,
            safi,
            forwarding: true,
        }
    };
    Some(GracefulRestart {
        restarting: restarting && !families.is_empty(),
        notification: true,
        restart_time: u16::try_from(config.restart_time.as_secs()).unwrap_or(u16::MAX),
        families: families.iter().map(family).collect(),
    })
}

/// The connection that the OPEN came on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) conn: ConnId,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// Judges the peer's OPEN against ours.
///
/// # Errors
/// The NOTIFICATION that refuses it.
pub(super) fn negotiate(
    config: &PeerConfig,
    ours: &Open,
    theirs: Open,
    ends: Ends,
) -> Result<Negotiated, Notification> {
    let refuse = |subcode| Notification::new(ErrorCode::Open, subcode);
    if !config.peer_as.allows(theirs.asn, config.local_as) {
        return Err(refuse(BAD_PEER_AS));
    }
    let ebgp = theirs.asn != config.local_as;
    if !ebgp && theirs.router_id == config.router_id {
        return Err(refuse(BAD_IDENTIFIER));
    }
    check_role(config, &theirs)?;
    let hold_time = config.hold_time.min(Duration::from_secs(u64::from(theirs.hold_time)));
    if hold_time < config.min_hold_time {
        return Err(refuse(UNACCEPTABLE_HOLD_TIME));
    }
    let context = SessionContext {
        local_pref: config.local_pref,
        ..context(&ours.capabilities, &theirs.capabilities, ebgp)
    };
    if context.families.is_empty() || !config.mandatory_families.difference(context.families).is_empty() {
        return Err(refuse(CAPABILITY_MISSING));
    }
    let graceful_restart = graceful_restart(&ours.capabilities, &theirs.capabilities, context.families);
    let long_lived = long_lived::agreed(&ours.capabilities, &theirs.capabilities, context.families);
    let both = |wanted: &Capability| ours.capabilities.contains(wanted) && theirs.capabilities.contains(wanted);
    Ok(Negotiated {
        conn: ends.conn,
        local: ends.local,
        remote: ends.remote,
        peer_as: theirs.asn,
        peer_id: theirs.router_id,
        context,
        hold_time,
        keepalive_time: keepalive_time(config, hold_time),
        route_refresh: both(&Capability::RouteRefresh),
        enhanced_route_refresh: both(&Capability::EnhancedRouteRefresh),
        graceful_restart,
        long_lived: long_lived.filter(|_| graceful_restart.is_some()),
        local_capabilities: ours.capabilities.clone(),
        peer_capabilities: theirs.capabilities,
    })
}

/// RFC 9234 section 4.2: two roles must match, several different ones are an error, none is allowed unless required.
fn check_role(config: &PeerConfig, theirs: &Open) -> Result<(), Notification> {
    let Some(role) = config.role else { return Ok(()) };
    // A role that is none of the five matches none (section 4.2). One of another length is not understood (RFC 5492).
    let mut roles = theirs.capabilities.iter().filter_map(|capability| match capability {
        Capability::Role(role) => Some(Some(*role)),
        Capability::Unknown {
            code: Capability::ROLE,
            value,
        } if value.len() == 1 => Some(None),
        _ => None,
    });
    let matches = match roles.next() {
        None => !config.require_role,
        Some(first) => first == Some(role.counterpart()) && roles.all(|other| other == first),
    };
    if matches {
        Ok(())
    } else {
        Err(Notification::new(ErrorCode::Open, ROLE_MISMATCH))
    }
}

/// Zero with a zero hold time.
fn keepalive_time(config: &PeerConfig, hold_time: Duration) -> Duration {
    if hold_time.is_zero() {
        return Duration::ZERO;
    }
    let wanted = match config.keepalive_time {
        Some(keepalive) if config.hold_time > hold_time => {
            keepalive.mul_f64(hold_time.as_secs_f64() / config.hold_time.as_secs_f64())
        }
        Some(keepalive) => keepalive,
        None => hold_time / 3,
    };
    wanted
        .max(config.min_keepalive_time)
        .max(Duration::from_secs(1))
        .min(hold_time)
}

fn context(ours: &[Capability], theirs: &[Capability], ebgp: bool) -> SessionContext {
    let families = families(ours).intersection(families(theirs));
    let has = |capabilities: &[Capability], test: fn(&Capability) -> bool| capabilities.iter().any(test);
    let four_octets = |capability: &Capability| matches!(capability, Capability::FourOctetAs(_));
    let extended = |capability: &Capability| matches!(capability, Capability::ExtendedMessage);
    let ext_next_hop = |capability: &Capability| match capability {
        Capability::ExtendedNextHop(triples) => triples.contains(&(1, 1, AFI_IPV6)),
        _ => false,
    };
    SessionContext {
        ebgp,
        four_octet_as: has(ours, four_octets) && has(theirs, four_octets),
        families,
        add_path_rx: add_path(ours, AddPathMode::receives)
            .intersection(add_path(theirs, AddPathMode::sends))
            .intersection(families),
        add_path_tx: add_path(ours, AddPathMode::sends)
            .intersection(add_path(theirs, AddPathMode::receives))
            .intersection(families),
        ext_next_hop: has(ours, ext_next_hop) && has(theirs, ext_next_hop),
        extended_rx: has(ours, extended),
        extended_tx: has(ours, extended) && has(theirs, extended),
        ..SessionContext::default()
    }
}

/// A peer that names no family means IPv4 (RFC 4760 section 8).
fn families(capabilities: &[Capability]) -> FamilySet {
    let mut named = capabilities
        .iter()
        .filter_map(|capability| match capability {
            Capability::Multiprotocol { afi, safi } => Some(AfiSafi::from_codes(*afi, *safi)),
            _ => None,
        })
        .peekable();
    match named.peek() {
        None => FamilySet::from_iter([AfiSafi::Ipv4Unicast]),
        Some(_) => named.flatten().collect(),
    }
}

fn add_path(capabilities: &[Capability], test: fn(AddPathMode) -> bool) -> FamilySet {
    capabilities
        .iter()
        .filter_map(|capability| match capability {
            Capability::AddPath(families) => Some(families),
            _ => None,
        })
        .flatten()
        .filter(|(_, _, mode)| test(*mode))
        .filter_map(|&(afi, safi, _)| AfiSafi::from_codes(afi, safi))
        .collect()
}

/// The last one counts should a peer send several (RFC 4724 section 3).
fn last_graceful_restart(capabilities: &[Capability]) -> Option<&GracefulRestart> {
    capabilities.iter().rev().find_map(|capability| match capability {
        Capability::GracefulRestart(gr) => Some(gr),
        _ => None,
    })
}

fn graceful_restart(ours: &[Capability], theirs: &[Capability], families: FamilySet) -> Option<PeerGracefulRestart> {
    let (ours, theirs) = (last_graceful_restart(ours)?, last_graceful_restart(theirs)?);
    Some(PeerGracefulRestart {
        restarting: theirs.restarting,
        notification: ours.notification && theirs.notification,
        restart_time: Duration::from_secs(u64::from(theirs.restart_time)),
        families: theirs.known_families().intersection(families),
        forwarding: theirs.forwarding_families().intersection(families),
    })
}
