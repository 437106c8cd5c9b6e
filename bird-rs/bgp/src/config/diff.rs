//! What changes between two configurations, protocol by protocol.
//!
//! Pure: `Config x Config -> Vec<Change>`. The least that makes the new configuration true is asked for: a policy edit
//! refeeds, it never resets a session.

use super::bmp::diff_bmp;
use super::monitor::diff_mrt;
use super::rpki::{diff_roas, diff_rpki};
use super::{
    Authentication, BgpChannel, BgpConfig, Channel, Config, DeviceConfig, DirectConfig, FelixConfig, GracefulRestart,
    KernelConfig, Neighbor, Policy, Protocol, ProtocolKind, StaticConfig,
};

/// The reason of a change that dynamic peers need not know of.
pub const DYNAMIC_LIMIT: &str = "dynamic limit";

/// What a protocol needs so that it follows the new configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The protocol's name.
    pub protocol: std::sync::Arc<str>,
    /// What is to be done.
    pub action: Action,
    /// The statement that changed first, for logs: `"import"`, `"hold time"`.
    pub reason: &'static str,
}

/// What is to be done with a protocol, in ascending order of disturbance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// New values are taken over; nothing else happens.
    InPlace,
    /// Policies run again over all routes, in both directions; the session stays up.
    Refeed,
    /// The protocol goes down and comes up again.
    Restart,
    /// It is new.
    Add,
    /// It is gone.
    Remove,
}

impl Action {
    /// For logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::InPlace => "in place",
            Action::Refeed => "refeed",
            Action::Restart => "restart",
            Action::Add => "add",
            Action::Remove => "remove",
        }
    }
}

/// All protocols that differ: the removed ones first, then the rest in the new order. Protocols are matched by name; the
/// order within a configuration means nothing.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let removed = old.protocols.iter().filter(|p| new.protocol(&p.name).is_none());
    let mut changes: Vec<Change> = removed.map(|p| change(p, Action::Remove, "protocol")).collect();
    for protocol in &new.protocols {
        let verdict = match old.protocol(&protocol.name) {
            None => Some((Action::Add, "protocol")),
            Some(before) => compare(before, protocol, (old, new)),
        };
        changes.extend(verdict.map(|(action, reason)| change(protocol, action, reason)));
    }
    changes
}

fn change(protocol: &Protocol, action: Action, reason: &'static str) -> Change {
    Change {
        protocol: protocol.name.clone(),
        action,
        reason,
    }
}

pub(super) type Verdict = Option<(Action, &'static str)>;

/// Collects the worst of several differences, the first of equals.
pub(super) struct Worst(pub(super) Verdict);

impl Worst {
    pub(super) fn when(mut self, differs: bool, action: Action, reason: &'static str) -> Self {
        if differs && self.0.is_none_or(|(known, _)| known < action) {
            self.0 = Some((action, reason));
        }
        self
    }

    fn and(self, verdict: Verdict) -> Self {
        match verdict {
            Some((action, reason)) => self.when(true, action, reason),
            None => self,
        }
    }
}

fn compare(old: &Protocol, new: &Protocol, configs: (&Config, &Config)) -> Verdict {
    let effective = |p: &Protocol, config: &Config| p.router_id.or(config.router_id);
    let uses_router_id = matches!(new.kind, ProtocolKind::Bgp(_));
    let router_id = effective(old, configs.0) != effective(new, configs.1);
    let worst = Worst(None)
        .when(old.disabled != new.disabled, Action::Restart, "disabled")
        .when(uses_router_id && router_id, Action::Restart, "router id")
        .when(
            advertises(new) && configs.0.hostname != configs.1.hostname,
            Action::Restart,
            "hostname",
        )
        .when(old.description != new.description, Action::InPlace, "description")
        .when(old.debug != new.debug, Action::InPlace, "debug");
    let own = match (&old.kind, &new.kind) {
        (ProtocolKind::Device(a), ProtocolKind::Device(b)) => device(a, b),
        (ProtocolKind::Direct(a), ProtocolKind::Direct(b)) => direct(a, b),
        (ProtocolKind::Static(a), ProtocolKind::Static(b)) => fixed(a, b),
        (ProtocolKind::Kernel(a), ProtocolKind::Kernel(b)) => kernel(a, b),
        (ProtocolKind::Felix(a), ProtocolKind::Felix(b)) => felix(a, b),
        (ProtocolKind::Bfd(a), ProtocolKind::Bfd(b)) => (a != b).then_some((Action::InPlace, "bfd")),
        (ProtocolKind::Bgp(a), ProtocolKind::Bgp(b)) => bgp(a, b),
        (ProtocolKind::Mrt(a), ProtocolKind::Mrt(b)) => diff_mrt(a, b),
        (ProtocolKind::Bmp(a), ProtocolKind::Bmp(b)) => diff_bmp(a, b),
        (ProtocolKind::Roas(a), ProtocolKind::Roas(b)) => diff_roas(a, b),
        (ProtocolKind::Rpki(a), ProtocolKind::Rpki(b)) => diff_rpki(a, b),
        _ => Some((Action::Restart, "protocol")),
    };
    worst.and(own).0
}

fn advertises(protocol: &Protocol) -> bool {
    matches!(&protocol.kind, ProtocolKind::Bgp(bgp) if bgp.advertise_hostname)
}

fn device(old: &DeviceConfig, new: &DeviceConfig) -> Verdict {
    Worst(None)
        .when(old.scan_time != new.scan_time, Action::InPlace, "scan time")
        .0
}

fn direct(old: &DirectConfig, new: &DirectConfig) -> Verdict {
    Worst(None)
        .when(old.interfaces != new.interfaces, Action::Restart, "interface")
        .when(old.check_link != new.check_link, Action::Restart, "check link")
        .and(channels(&old.channels, &new.channels))
        .0
}

/// Routes that come and go are applied one by one: that is no disturbance of the others.
fn fixed(old: &StaticConfig, new: &StaticConfig) -> Verdict {
    Worst(None)
        .when(old.igp_table != new.igp_table, Action::Restart, "igp table")
        .when(old.check_link != new.check_link, Action::Restart, "check link")
        .and(channel(&old.channel, &new.channel))
        .when(old.routes != new.routes, Action::InPlace, "route")
        .0
}

fn kernel(old: &KernelConfig, new: &KernelConfig) -> Verdict {
    Worst(None)
        .when(old.kernel_table != new.kernel_table, Action::Restart, "kernel table")
        .when(old.metric != new.metric, Action::Restart, "metric")
        .when(old.learn != new.learn, Action::Restart, "learn")
        .when(old.merge_paths != new.merge_paths, Action::Restart, "merge paths")
        .and(channel(&old.channel, &new.channel))
        .when(old.persist != new.persist, Action::InPlace, "persist")
        .when(old.scan_time != new.scan_time, Action::InPlace, "scan time")
        .when(
            old.graceful_restart != new.graceful_restart,
            Action::InPlace,
            "graceful restart",
        )
        .0
}

fn felix(old: &FelixConfig, new: &FelixConfig) -> Verdict {
    channels(&old.channels, &new.channels)
}

fn channels(old: &[Channel], new: &[Channel]) -> Verdict {
    let of = |all: &[Channel], c: &Channel| all.iter().position(|o| o.family == c.family);
    if old.len() != new.len() || old.iter().any(|c| of(new, c).is_none()) {
        return Some((Action::Restart, "channel"));
    }
    let pairs = old
        .iter()
        .filter_map(|o| of(new, o).and_then(|i| new.get(i)).map(|n| (o, n)));
    pairs.fold(Worst(None), |worst, (o, n)| worst.and(channel(o, n))).0
}

fn policy(old: &Policy, new: &Policy) -> bool {
    match (old, new) {
        (Policy::Filter(a), Policy::Filter(b)) if std::sync::Arc::ptr_eq(a, b) => false,
        // A filter that is only called differently does the same.
        (Policy::Filter(a), Policy::Filter(b)) => a.body != b.body || a.uses != b.uses,
        (a, b) => a != b,
    }
}

fn channel(old: &Channel, new: &Channel) -> Verdict {
    Worst(None)
        .when(old.table != new.table, Action::Restart, "table")
        .when(policy(&old.import, &new.import), Action::Refeed, "import")
        .when(policy(&old.export, &new.export), Action::Refeed, "export")
        .when(old.preference != new.preference, Action::Refeed, "preference")
        .when(
            old.import_keep_filtered != new.import_keep_filtered,
            Action::Refeed,
            "import keep filtered",
        )
        .when(old.receive_limit != new.receive_limit, Action::Refeed, "receive limit")
        .when(old.import_limit != new.import_limit, Action::Refeed, "import limit")
        .when(old.export_limit != new.export_limit, Action::Refeed, "export limit")
        .when(old.merge_paths != new.merge_paths, Action::Refeed, "merge paths")
        // Without it a change of ROAs may have passed by.
        .when(old.rpki_reload != new.rpki_reload, Action::Refeed, "rpki reload")
        .0
}

/// What a session was opened with makes it restart; what only the decision or announcements depend on refeeds.
fn bgp(old: &BgpConfig, new: &BgpConfig) -> Verdict {
    let mut before = old.clone();
    // Taken over from the new one: these have rules of their own below. What differs then was part of the session.
    before.channels.clone_from(&new.channels);
    if let (Neighbor::Range { limit, .. }, Neighbor::Range { limit: wanted, .. }) =
        (&mut before.neighbor, &new.neighbor)
    {
        *limit = *wanted;
    }
    before.timers.connect_delay = new.timers.connect_delay;
    before.timers.delay_open = new.timers.delay_open;
    before.timers.connect_retry = new.timers.connect_retry;
    before.timers.error_wait_min = new.timers.error_wait_min;
    before.timers.error_wait_max = new.timers.error_wait_max;
    before.timers.error_forget = new.timers.error_forget;
    before.disable_after_error = new.disable_after_error;
    before.disable_after_cease = new.disable_after_cease;
    before.bfd = new.bfd;
    if rekeyed(old, new) {
        before.transport.authentication = new.transport.authentication.clone();
    }
    before.default_med = new.default_med;
    before.default_local_pref = new.default_local_pref;
    before.path_metric = new.path_metric;
    before.med_metric = new.med_metric;
    before.igp_metric = new.igp_metric;
    before.prefer_older = new.prefer_older;
    before.deterministic_med = new.deterministic_med;
    before.interpret_communities = new.interpret_communities;
    let decides = |c: &BgpConfig| {
        (
            c.path_metric,
            c.med_metric,
            c.igp_metric,
            c.prefer_older,
            c.deterministic_med,
        )
    };
    Worst(None)
        .when(before != *new, Action::Restart, session_reason(&before, new))
        .and(bgp_channels(&told(old), &told(new)))
        .when(decides(old) != decides(new), Action::Refeed, "metric")
        .when(old.default_med != new.default_med, Action::Refeed, "default bgp_med")
        .when(
            old.default_local_pref != new.default_local_pref,
            Action::Refeed,
            "default bgp_local_pref",
        )
        .when(
            old.interpret_communities != new.interpret_communities,
            Action::Refeed,
            "interpret communities",
        )
        .when(old.bfd != new.bfd, Action::InPlace, "bfd")
        .when(old.timers != new.timers, Action::InPlace, "timers")
        .when(rekeyed(old, new), Action::InPlace, "keys")
        .when(
            old.disable_after_error != new.disable_after_error,
            Action::InPlace,
            "disable after error",
        )
        .when(
            old.disable_after_cease != new.disable_after_cease,
            Action::InPlace,
            "disable after cease",
        )
        // The last of its kind: what is named first is all that this is.
        .when(old.neighbor != new.neighbor, Action::InPlace, DYNAMIC_LIMIT)
        .0
}

/// Have keys changed that a connection can change? A password may differ for less than the hold time: nothing arrives while it
/// does, and TCP sends again what did not.
fn rekeyed(old: &BgpConfig, new: &BgpConfig) -> bool {
    let named = |session: &BgpConfig| matches!(session.neighbor, Neighbor::Address(_));
    match (&old.transport.authentication, &new.transport.authentication) {
        (Authentication::Ao(before), Authentication::Ao(after)) => before != after && before.towards(after).is_some(),
        (Authentication::Md5(before), Authentication::Md5(after)) => before != after && named(old) && named(new),
        _ => false,
    }
}

/// Its channels with what they tell the peer of graceful restart: what they say without the session's being on tells nothing.
fn told(session: &BgpConfig) -> Vec<BgpChannel> {
    let on = session.graceful_restart == GracefulRestart::On;
    let channel = |channel: &BgpChannel| BgpChannel {
        graceful_restart: on.then_some(channel.graceful_restart != Some(false)),
        ..channel.clone()
    };
    session.channels.iter().map(channel).collect()
}

fn session_reason(old: &BgpConfig, new: &BgpConfig) -> &'static str {
    if old.local_as != new.local_as || old.local_address != new.local_address || old.local_port != new.local_port {
        "local"
    } else if old.neighbor != new.neighbor || old.peer_type != new.peer_type || old.neighbor_port != new.neighbor_port {
        "neighbor"
    } else if old.transport != new.transport {
        "transport"
    } else if old.timers != new.timers {
        "hold time"
    } else if old.graceful_restart != new.graceful_restart || old.graceful_restart_time != new.graceful_restart_time {
        "graceful restart"
    } else if old.rr_client != new.rr_client || old.rr_cluster_id != new.rr_cluster_id {
        "rr client"
    } else {
        "session options"
    }
}

fn bgp_channels(old: &[BgpChannel], new: &[BgpChannel]) -> Verdict {
    let of = |all: &[BgpChannel], c: &BgpChannel| all.iter().position(|o| o.channel.family == c.channel.family);
    if old.len() != new.len() || old.iter().any(|c| of(new, c).is_none()) {
        return Some((Action::Restart, "channel"));
    }
    let pairs = old
        .iter()
        .filter_map(|o| of(new, o).and_then(|i| new.get(i)).map(|n| (o, n)));
    pairs.fold(Worst(None), |worst, (o, n)| worst.and(bgp_channel(o, n))).0
}

fn bgp_channel(old: &BgpChannel, new: &BgpChannel) -> Verdict {
    let next_hop = |c: &BgpChannel| {
        (
            c.next_hop_self,
            c.next_hop_keep,
            c.next_hop_address,
            c.next_hop_prefer_global,
            c.cost,
        )
    };
    let negotiated = |c: &BgpChannel| {
        (
            c.extended_next_hop,
            c.add_paths,
            c.graceful_restart,
            c.long_lived_graceful_restart,
            c.long_lived_stale_time,
        )
    };
    Worst(None)
        .when(negotiated(old) != negotiated(new), Action::Restart, "capabilities")
        .when(old.mandatory != new.mandatory, Action::Restart, "mandatory")
        .when(old.import_table != new.import_table, Action::Restart, "import table")
        .when(old.export_table != new.export_table, Action::Restart, "export table")
        .and(channel(&old.channel, &new.channel))
        .when(old.gateway != new.gateway, Action::Refeed, "gateway")
        .when(old.igp_table4 != new.igp_table4, Action::Refeed, "igp table")
        .when(old.igp_table6 != new.igp_table6, Action::Refeed, "igp table")
        .when(old.secondary != new.secondary, Action::Refeed, "secondary")
        .when(next_hop(old) != next_hop(new), Action::Refeed, "next hop")
        .0
}
