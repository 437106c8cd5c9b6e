//! The speaker's values as the contract's, and the contract's as the speaker's.

use std::net::IpAddr;
use std::time::Duration;

use tonic::Status;
use tortie_bfd::{State, View};
use tortie_bgp::config::{Change, Diagnostic};
use tortie_bgp::filter::RouteDestination;
use tortie_bgp::speaker::{BgpStatus, ChannelStatus, FibNextHop, FibRoute, ProtocolStatus, RouteQuery, RouteView};
use tortie_net::{ExtCommunity, Prefix};
use tortie_proto::bird;
use tortie_proto::common::Hello;

use crate::bfd::Seen;
use crate::configure::Outcome;
use crate::engine::Clock;

pub(crate) fn configure_response(hello: Hello, outcome: Outcome) -> bird::ConfigureResponse {
    bird::ConfigureResponse {
        hello: Some(hello),
        accepted: outcome.diagnostics.is_empty(),
        diagnostics: outcome.diagnostics.into_iter().map(diagnostic).collect(),
        changes: outcome.changes.iter().map(change).collect(),
        applied_revision: outcome.applied_revision,
    }
}

fn diagnostic(diagnostic: Diagnostic) -> bird::Diagnostic {
    bird::Diagnostic {
        file: diagnostic.file,
        line: diagnostic.line,
        column: diagnostic.column,
        message: diagnostic.message,
        hint: diagnostic.hint.unwrap_or_default(),
    }
}

fn change(change: &Change) -> bird::Change {
    bird::Change {
        protocol: change.protocol.to_string(),
        action: change.action.as_str().to_owned(),
        reason: change.reason.to_owned(),
    }
}

pub(crate) fn batch(changes: &[(Prefix, Option<FibRoute>)]) -> bird::FibBatch {
    let mut batch = bird::FibBatch::default();
    for (prefix, route) in changes {
        match route {
            Some(route) => batch.set.push(bird::FibRoute {
                prefix: Some((*prefix).into()),
                next_hops: route.next_hops.iter().map(next_hop).collect(),
                r#type: route_type(route.destination).into(),
                protocol: route.protocol.to_string(),
                metric: route.krt.metric,
                local_pref: route.local_pref,
                stale: route.stale,
            }),
            None => batch.delete.push((*prefix).into()),
        }
    }
    batch
}

fn next_hop(hop: &FibNextHop) -> bird::NextHop {
    bird::NextHop {
        address: hop.address.map(tortie_proto::octets).unwrap_or_default(),
        interface: hop.interface.as_deref().unwrap_or_default().to_owned(),
        weight: hop.weight.into(),
        onlink: hop.onlink,
    }
}

fn route_type(destination: RouteDestination) -> bird::RouteType {
    match destination {
        RouteDestination::Unicast => bird::RouteType::Unicast,
        RouteDestination::Blackhole => bird::RouteType::Blackhole,
        RouteDestination::Unreachable => bird::RouteType::Unreachable,
        RouteDestination::Prohibit => bird::RouteType::Prohibit,
    }
}

/// A protocol, and of a protocol bfd the sessions that are its own.
pub(crate) fn protocol(protocol: ProtocolStatus, sessions: &[Seen], clock: Clock) -> bird::Protocol {
    let own = sessions.iter().filter(|seen| seen.protocol == protocol.name);
    bird::Protocol {
        bfd_sessions: own.map(|seen| bfd_session(&seen.view, clock)).collect(),
        name: protocol.name.to_string(),
        kind: protocol.kind.to_owned(),
        table: protocol.table.to_string(),
        state: protocol.state.as_str().to_owned(),
        since_unix_ms: clock.unix_ms(protocol.since),
        info: protocol.info,
        channels: protocol.channels.into_iter().map(channel).collect(),
        bgp: protocol.bgp.map(session),
        description: protocol.description.unwrap_or_default(),
    }
}

fn bfd_session(view: &View, clock: Clock) -> bird::BfdSession {
    let state = |state: State| state.as_str().to_owned();
    let micros = |time: Option<Duration>| u32::try_from(time.unwrap_or_default().as_micros()).unwrap_or(u32::MAX);
    bird::BfdSession {
        peer: view.key.peer.to_string(),
        local: view.key.local.to_string(),
        interface: view.key.interface.as_deref().unwrap_or_default().to_owned(),
        state: state(view.state),
        remote_state: view.remote_state.map(state).unwrap_or_default(),
        diagnostic: view.diagnostic.as_str().to_owned(),
        since_unix_ms: clock.unix_ms(view.since),
        interval_us: micros(view.interval),
        timeout_us: micros(view.timeout),
        failures: view.failures,
    }
}

fn channel(channel: ChannelStatus) -> bird::Channel {
    bird::Channel {
        family: channel.family.to_owned(),
        state: if channel.up { "UP" } else { "DOWN" }.to_owned(),
        imported: channel.imported,
        filtered: channel.filtered,
        exported: channel.exported,
        preferred: channel.preferred,
    }
}

fn session(bgp: BgpStatus) -> bird::BgpSession {
    let seconds = |time: Option<Duration>| time.map_or(0, |time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
    bird::BgpSession {
        neighbor_address: bgp.neighbor_address.to_string(),
        neighbor_port: bgp.neighbor_port.into(),
        neighbor_as: bgp.neighbor_as.map_or(0, |asn| asn.0),
        local_as: bgp.local_as.0,
        neighbor_id: bgp.neighbor_id.map(|id| id.to_string()).unwrap_or_default(),
        state: bgp.state.to_owned(),
        hold_time_s: seconds(bgp.hold_time),
        keepalive_s: seconds(bgp.keepalive),
        local_capabilities: bgp.local_capabilities,
        neighbor_capabilities: bgp.neighbor_capabilities,
        last_error: bgp.last_error.unwrap_or_default(),
        last_connect_failure: bgp.last_connect_failure.unwrap_or_default(),
        source_address: bgp
            .source_address
            .map(|address| address.to_string())
            .unwrap_or_default(),
        updates_received: bgp.updates_received,
        updates_sent: bgp.updates_sent,
        passive: bgp.passive,
    }
}

/// # Errors
/// INVALID_ARGUMENT naming the field.
pub(crate) fn route_query(request: bird::ShowRoutesRequest) -> Result<RouteQuery, Status> {
    let prefix = request
        .prefix
        .map(|prefix| Prefix::try_from(&prefix))
        .transpose()
        .map_err(|error| Status::invalid_argument(format!("prefix: {error}")))?;
    let longest_match: Option<IpAddr> = request
        .longest_match
        .map(|octets| {
            let error = || format!("longest_match: an address has 4 or 16 octets, not {}", octets.len());
            tortie_proto::ip(&octets).ok_or_else(|| Status::invalid_argument(error()))
        })
        .transpose()?;
    let named = |name: String| (!name.is_empty()).then_some(name);
    Ok(RouteQuery {
        prefix,
        longest_match,
        best_only: request.best_only,
        protocol: named(request.protocol),
        exported_to: named(request.exported_to),
        filtered: request.filtered,
    })
}

pub(crate) fn route(route: RouteView, clock: Clock) -> bird::Route {
    let attributes = &route.attributes;
    bird::Route {
        prefix: Some(route.prefix.into()),
        protocol: route.protocol.to_string(),
        best: route.best,
        reason: route
            .reason
            .map(|reason| reason.as_str().to_owned())
            .unwrap_or_default(),
        preference: route.preference.into(),
        next_hops: route.next_hops.iter().map(next_hop).collect(),
        r#type: route_type(route.destination).into(),
        origin: attributes.origin.to_string(),
        as_path: attributes.as_path.to_string(),
        local_pref: attributes.local_pref,
        med: attributes.med,
        communities: communities(attributes),
        bgp_next_hop: attributes.next_hop.map(|hop| hop.to_string()).unwrap_or_default(),
        since_unix_ms: clock.unix_ms(route.since),
        stale: route.stale,
        originator_id: attributes.originator_id.map(|id| id.to_string()).unwrap_or_default(),
        cluster_list: attributes.cluster_list.iter().map(ToString::to_string).collect(),
        filtered: route.filtered.is_some(),
        path_id: route.path_id,
        filtered_reason: route
            .filtered
            .map(|filtered| filtered.as_str().to_owned())
            .unwrap_or_default(),
        only_to_customer: attributes.only_to_customer.map(|asn| asn.0),
    }
}

fn communities(attributes: &tortie_bgp::attr::Attributes) -> Vec<String> {
    let standard = attributes.communities.iter().map(ToString::to_string);
    let extended = attributes.ext_communities.iter().map(|&community| extended(community));
    let large = attributes.large_communities.iter().map(ToString::to_string);
    standard.chain(extended).chain(large).collect()
}

/// Route targets and origins by name (RFC 4360 section 4), others as BIRD's `generic`.
fn extended(ExtCommunity(value): ExtCommunity) -> String {
    let octets = value.to_be_bytes();
    let [kind, subtype, a, b, c, d, e, f] = octets;
    let name = match subtype {
        2 => "rt",
        3 => "ro",
        _ => "",
    };
    let short = u16::from_be_bytes([a, b]);
    let long = u32::from_be_bytes([a, b, c, d]);
    match (kind & 0xbf, name) {
        (0, "rt" | "ro") => format!("{name}:{short}:{}", u32::from_be_bytes([c, d, e, f])),
        (1, "rt" | "ro") => format!("{name}:{a}.{b}.{c}.{d}:{}", u16::from_be_bytes([e, f])),
        (2, "rt" | "ro") => format!("{name}:{long}:{}", u16::from_be_bytes([e, f])),
        _ => format!("generic:{:#x}:{:#x}", value >> 32, value & 0xffff_ffff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_communities_are_named() {
        let show = |value| extended(ExtCommunity(value));
        assert_eq!(show(0x0002_fde8_0000_0064), "rt:65000:100");
        assert_eq!(show(0x0103_c000_0201_0007), "ro:192.0.2.1:7");
        assert_eq!(show(0x0202_0001_1170_0009), "rt:70000:9");
        assert_eq!(show(0x4300_0000_0000_0001), "generic:0x43000000:0x1");
    }

    #[test]
    fn a_query_with_a_wrong_address_names_the_field() {
        let request = bird::ShowRoutesRequest {
            longest_match: Some(vec![1, 2, 3]),
            ..Default::default()
        };
        let error = route_query(request).unwrap_err();
        assert_eq!(error.message(), "longest_match: an address has 4 or 16 octets, not 3");
    }
}
