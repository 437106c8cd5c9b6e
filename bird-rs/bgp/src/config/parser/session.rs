//! `protocol bgp` as a whole: BIRD's defaults, and what options ask of each other.

use std::net::IpAddr;
use std::time::Duration;

use tortie_net::Asn;

use super::super::diagnostic::{Checked, Complaint, Position};
use super::super::{
    AddPaths, Authentication, BfdUsage, BgpBfd, BgpChannel, BgpConfig, CeaseReasons, Config, Gateway, GracefulRestart,
    LocalAsAllowed, Neighbor, NextHopRewrite, PeerType, Policy, Timers, Transport,
};
use super::bgp::{BgpDraft, DEFAULT_MULTIHOP, Peer};
use super::channel::ChannelDraft;

const BGP_PORT: u16 = 179;
const PREFERENCE_BGP: u16 = 100;

/// BIRD 2.0.12's defaults. What depends on other options is set by `finish`.
pub(in super::super) fn defaults() -> BgpConfig {
    let seconds = Duration::from_secs;
    BgpConfig {
        local_as: Asn(0),
        local_address: None,
        local_port: BGP_PORT,
        neighbor: Neighbor::Address(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)),
        neighbor_port: BGP_PORT,
        peer_type: PeerType::External,
        interface: None,
        transport: Transport {
            multihop: None,
            authentication: Authentication::None,
            ttl_security: false,
            passive: false,
            strict_bind: false,
            free_bind: false,
            check_link: false,
        },
        timers: default_timers(),
        rr_client: false,
        rr_cluster_id: None,
        rs_client: false,
        path_metric: true,
        med_metric: false,
        igp_metric: true,
        prefer_older: false,
        deterministic_med: false,
        default_med: 0,
        default_local_pref: 100,
        capabilities: true,
        enable_route_refresh: true,
        enable_as4: true,
        enable_extended_messages: false,
        advertise_hostname: false,
        interpret_communities: true,
        allow_local_as: LocalAsAllowed::Times(0),
        allow_local_pref: false,
        allow_as_sets: true,
        enforce_first_as: false,
        local_role: None,
        require_roles: false,
        graceful_restart: GracefulRestart::Aware,
        graceful_restart_time: seconds(120),
        long_lived_graceful_restart: GracefulRestart::Aware,
        long_lived_stale_time: seconds(3600),
        disable_after_error: false,
        disable_after_cease: CeaseReasons::default(),
        bfd: BgpBfd::default(),
        channels: Vec::new(),
    }
}

fn default_timers() -> Timers {
    let seconds = Duration::from_secs;
    Timers {
        hold: seconds(240),
        startup_hold: seconds(240),
        min_hold: Duration::ZERO,
        keepalive: None,
        min_keepalive: Duration::ZERO,
        delay_open: Duration::ZERO,
        send_hold: None,
        connect_delay: seconds(5),
        connect_retry: seconds(120),
        error_wait_min: seconds(60),
        error_wait_max: seconds(300),
        error_forget: seconds(300),
    }
}

impl BgpDraft {
    /// The complete session, its options checked against each other.
    pub(super) fn finish(mut self, channels: &[ChannelDraft], at: Position, all: &Config) -> Checked<BgpConfig> {
        let fail = |message: String| Complaint::new(at, message);
        let local_as = self
            .local_as
            .ok_or_else(|| fail("no local AS: 'local as N' expected".into()))?;
        let neighbor = self
            .neighbor
            .ok_or_else(|| fail("no neighbor: 'neighbor ADDRESS as N' expected".into()))?;
        let peer_type = self.peer_type(local_as).map_err(fail)?;
        let internal = peer_type.is_internal(local_as);
        let multihop = self
            .multihop
            .unwrap_or(if internal { Some(DEFAULT_MULTIHOP) } else { None });
        let config = &mut self.config;
        config.local_as = local_as;
        config.peer_type = peer_type;
        config.neighbor = match neighbor {
            Peer::Address(addr) => Neighbor::Address(addr),
            Peer::Range(prefix) => Neighbor::Range {
                prefix,
                name: self.dynamic_name,
                digits: self.dynamic_digits,
                limit: self.dynamic_limit,
            },
        };
        config.transport.multihop = multihop;
        config.transport.authentication = self.authentication.finish(at)?;
        config.transport.check_link = self.check_link.unwrap_or(multihop.is_none());
        config.long_lived_graceful_restart = self.long_lived.unwrap_or(match config.graceful_restart {
            GracefulRestart::Off => GracefulRestart::Off,
            GracefulRestart::On | GracefulRestart::Aware => GracefulRestart::Aware,
        });
        check_session(config, internal).map_err(fail)?;
        if channels.is_empty() {
            let complaint = fail("protocol bgp has no channel".into());
            return Err(complaint.with_hint("write 'ipv4 { .. };' or 'ipv6 { .. };' in it"));
        }
        config.channels.reserve_exact(channels.len());
        for channel in channels {
            let made = bgp_channel(channel, config, internal, all).map_err(fail)?;
            config.channels.push(made);
        }
        Ok(self.config)
    }

    fn peer_type(&self, local: Asn) -> Result<PeerType, String> {
        match (self.neighbor_as, self.internal) {
            (None, None) => Err("no AS of the neighbor: 'neighbor .. as N', 'internal' or 'external' expected".into()),
            (None, Some(true)) => Ok(PeerType::Internal),
            (None, Some(false)) => Ok(PeerType::External),
            (Some(asn), Some(true)) if asn != local => {
                Err(format!("an internal neighbor cannot have another AS: {asn}"))
            }
            (Some(asn), Some(false)) if asn == local => {
                Err(format!("an external neighbor cannot have our own AS: {asn}"))
            }
            (Some(asn), _) => Ok(PeerType::As(asn)),
        }
    }
}

fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(a) if a.is_unicast_link_local())
}

/// Options that do not go together. BIRD has the same rules.
fn check_session(config: &BgpConfig, internal: bool) -> Result<(), String> {
    let timers = &config.timers;
    let multihop = config.transport.multihop.is_some();
    let neighbor_link_local = matches!(config.neighbor, Neighbor::Address(a) if is_link_local(a));
    let link_local = neighbor_link_local || config.local_address.is_some_and(is_link_local);
    let four_octets = matches!(config.peer_type, PeerType::As(Asn(asn)) if asn > 0xFFFF);
    let keepalive = timers.keepalive.unwrap_or(timers.hold / 3);
    let problem = if link_local && config.interface.is_none() {
        "a link-local address needs an interface: 'neighbor ADDRESS%NAME' or 'interface NAME'"
    } else if !(config.capabilities && config.enable_as4) && four_octets {
        "the neighbor's AS needs four octets, which 'capabilities' or 'enable as4' has switched off"
    } else if config.rr_client && !internal {
        "only an internal neighbor can be 'rr client'"
    } else if config.rs_client && internal {
        "only an external neighbor can be 'rs client'"
    } else if config.local_role.is_some() && internal {
        "'local role' is for external neighbors"
    } else if config.require_roles && config.local_role.is_none() {
        "'require roles' needs a 'local role'"
    } else if config.enforce_first_as && internal {
        "'enforce first as' is for external neighbors"
    } else if multihop && neighbor_link_local {
        "a link-local neighbor cannot be 'multihop'"
    } else if multihop && config.interface.is_some() {
        "a 'multihop' session cannot be bound to an interface"
    } else if multihop && config.transport.check_link {
        "a 'multihop' session cannot have 'check link'"
    } else if multihop && config.bfd.usage != BfdUsage::Off && config.local_address.is_none() {
        "a 'multihop' session with 'bfd' needs a local address"
    } else if config.transport.strict_bind && config.local_address.is_none() {
        "'strict bind' needs a local address"
    } else if config.graceful_restart == GracefulRestart::Off
        && config.long_lived_graceful_restart == GracefulRestart::On
    {
        "'long lived graceful restart' needs 'graceful restart'"
    } else if timers.keepalive.is_some_and(|k| k > timers.hold) {
        "the keepalive time exceeds the hold time"
    } else if timers.min_hold > timers.hold {
        "the min hold time exceeds the hold time"
    } else if timers.min_keepalive > keepalive {
        "the min keepalive time exceeds the keepalive time"
    } else if timers.send_hold.is_some_and(|s| !s.is_zero() && s <= timers.hold) {
        "the send hold time does not exceed the hold time"
    } else {
        return Ok(());
    };
    Err(problem.to_owned())
}

fn bgp_channel(draft: &ChannelDraft, config: &BgpConfig, internal: bool, all: &Config) -> Result<BgpChannel, String> {
    let family = draft.family.as_str();
    // RFC 8212: nothing passes to or from another AS by default.
    if !internal {
        for (policy, direction) in [(&draft.import, "import"), (&draft.export, "export")] {
            if policy.is_none() {
                return Err(format!(
                    "channel '{family}': an external neighbor needs an explicit {direction} policy"
                ));
            }
        }
    }
    let bgp = &draft.bgp;
    let channel = draft.finish(Policy::All, Policy::None, PREFERENCE_BGP);
    let gateway = gateway(draft, config, all, &channel.table)?;
    // A reflector and a route server leave next hops alone.
    let keep = match (config.rr_client, config.rs_client) {
        (true, _) => NextHopRewrite::Ibgp,
        (_, true) => NextHopRewrite::On,
        _ => NextHopRewrite::Off,
    };
    Ok(BgpChannel {
        channel,
        next_hop_self: bgp.next_hop_self.unwrap_or(NextHopRewrite::Off),
        next_hop_keep: bgp.next_hop_keep.unwrap_or(keep),
        next_hop_address: bgp.next_hop_address,
        next_hop_prefer_global: bgp.next_hop_prefer_global,
        gateway,
        igp_table4: bgp.igp_table4.clone(),
        igp_table6: bgp.igp_table6.clone(),
        mandatory: bgp.mandatory,
        secondary: bgp.secondary,
        extended_next_hop: bgp.extended_next_hop,
        add_paths: bgp.add_paths.unwrap_or(AddPaths::Off),
        import_table: bgp.import_table,
        export_table: bgp.export_table,
        graceful_restart: bgp.graceful_restart,
        long_lived_graceful_restart: bgp.long_lived_graceful_restart,
        long_lived_stale_time: bgp.long_lived_stale_time,
        cost: bgp.cost,
    })
}

/// How next hops become gateways, which the transport and the kind of table constrain.
fn gateway(draft: &ChannelDraft, config: &BgpConfig, all: &Config, table: &str) -> Result<Gateway, String> {
    let family = draft.family.as_str();
    let multihop = config.transport.multihop.is_some();
    let default = if multihop { Gateway::Recursive } else { Gateway::Direct };
    let gateway = draft.bgp.gateway.unwrap_or(default);
    let sorted = all.tables.iter().any(|t| *t.name == *table && t.sorted);
    if multihop && gateway == Gateway::Direct {
        return Err(format!(
            "channel '{family}': a 'multihop' session cannot have 'gateway direct'"
        ));
    }
    if draft.bgp.secondary && !sorted {
        return Err(format!(
            "channel '{family}': 'secondary' needs a sorted table, and '{table}' is not"
        ));
    }
    if gateway == Gateway::Recursive && sorted {
        return Err(format!(
            "channel '{family}': 'gateway recursive' cannot use the sorted table '{table}'"
        ));
    }
    Ok(gateway)
}
