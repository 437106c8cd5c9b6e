//! From one configuration to the next, touching only what differs.

use std::sync::Arc;

use super::Speaker;
use super::instance::{Instance, Kind};
use super::io::Output;
use super::session::{SessionChannel, peer_config};
use crate::config::{BgpConfig, Config, Protocol, ProtocolKind};
use crate::fsm::StopReason;
use crate::rib::{Decision, SourceId};

/// What a protocol's new configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    /// The session and everything learned stay; filters are applied anew, routes of our own made anew.
    Refeed,
    /// Down and up again.
    Restart,
}

impl Speaker {
    /// Makes a configuration the current one.
    pub(super) fn reconfigure(&mut self, config: Arc<Config>, out: &mut Vec<Output>) {
        let router_id = config.router_id.unwrap_or(self.router_id);
        let renumbered = std::mem::replace(&mut self.router_id, router_id) != router_id;
        self.config = config.clone();
        self.configured_at = self.now;
        self.tables.provide(&config);
        let decision = decision(&config);
        if std::mem::replace(&mut self.tables.shared.decision, decision) != decision {
            self.tables.touch_all();
        }
        self.remove_unconfigured(&config, out);
        for protocol in &config.protocols {
            match self.find(&protocol.name) {
                Some(source) => self.reconfigure_protocol(source, protocol, renumbered, out),
                None => {
                    self.add(protocol.clone(), out);
                }
            }
        }
        self.listen(out);
    }

    /// Protocols that are gone go, and dynamic peers whose range is gone or has changed.
    fn remove_unconfigured(&mut self, config: &Config, out: &mut Vec<Output>) {
        let stays = |instance: &Instance| {
            let is_dynamic = instance.session().is_some_and(|session| session.dynamic);
            is_dynamic || config.protocol(instance.name()).is_some()
        };
        let gone: Vec<SourceId> = self
            .instances
            .iter()
            .flatten()
            .filter(|i| !stays(i))
            .map(|i| i.source)
            .collect();
        let changed_range = |instance: &Instance| {
            let now = config.protocol(instance.name());
            matches!(instance.kind, Kind::Range(_)) && now != Some(&*instance.config)
        };
        if self.instances.iter().flatten().any(changed_range) {
            // A dynamic peer does not know its range: all come back by themselves.
            let dynamic = self
                .instances
                .iter()
                .flatten()
                .filter(|i| i.session().is_some_and(|s| s.dynamic));
            let dynamic: Vec<SourceId> = dynamic.map(|instance| instance.source).collect();
            dynamic
                .into_iter()
                .for_each(|source| self.delete(source, StopReason::ConfigurationChange, out));
        }
        gone.into_iter()
            .for_each(|source| self.delete(source, StopReason::Deconfigured, out));
    }

    fn reconfigure_protocol(&mut self, source: SourceId, new: &Protocol, renumbered: bool, out: &mut Vec<Output>) {
        let Some(instance) = self.instance(source) else { return };
        let old = instance.config.clone();
        let affected = renumbered && matches!(new.kind, ProtocolKind::Bgp(_)) && new.router_id.is_none();
        if *old == *new && !affected {
            return;
        }
        if affected || treatment(&old, new) == Treatment::Restart {
            self.delete(source, StopReason::ConfigurationChange, out);
            self.add(new.clone(), out);
            return;
        }
        let router_id = new.router_id.unwrap_or(self.router_id);
        let Some(instance) = self.instance_mut(source) else {
            return;
        };
        instance.config = Arc::new(new.clone());
        if let (Kind::Bgp(session), ProtocolKind::Bgp(bgp)) = (&mut instance.kind, &new.kind) {
            session.config = BgpConfig::clone(bgp);
            session.peer.set_config(peer_config(bgp, router_id));
            for (channel, config) in session.channels.iter_mut().zip(&bgp.channels) {
                let kept = (channel.membership, channel.owes_end_of_rib, channel.owes_end_of_refresh);
                *channel = SessionChannel::new(channel.key, config);
                (channel.membership, channel.owes_end_of_rib, channel.owes_end_of_refresh) = kept;
            }
        }
        match (old.disabled, new.disabled) {
            (true, false) => self.enable(source, out),
            (false, true) => self.disable(source, StopReason::AdministrativeShutdown(String::new()), out),
            (false, false) | (true, true) => self.refeed(usize::from(source.0), true, true),
        }
    }
}

/// Knobs of the decision process: each a protocol's in the language, the tables' here, so that paths stay comparable.
fn decision(config: &Config) -> Decision {
    let bgp = || {
        config.protocols.iter().filter_map(|protocol| match &protocol.kind {
            ProtocolKind::Bgp(bgp) => Some(bgp),
            ProtocolKind::Device(_)
            | ProtocolKind::Direct(_)
            | ProtocolKind::Static(_)
            | ProtocolKind::Kernel(_)
            | ProtocolKind::Felix(_) => None,
        })
    };
    Decision {
        as_path_length: bgp().all(|bgp| bgp.path_metric),
        always_compare_med: bgp().any(|bgp| bgp.med_metric),
        igp_metric: bgp().all(|bgp| bgp.igp_metric),
        prefer_older: bgp().any(|bgp| bgp.prefer_older),
    }
}

/// What changing a protocol asks for. A session is torn only for what the two OPENs or the TCP connection depend on.
fn treatment(old: &Protocol, new: &Protocol) -> Treatment {
    let channels = |protocol: &Protocol| -> Vec<_> {
        super::instance::channels(protocol)
            .iter()
            .map(|c| (c.family, c.table.clone()))
            .collect()
    };
    let same_channels = channels(old) == channels(new) && old.router_id == new.router_id;
    let alike = match (&old.kind, &new.kind) {
        (ProtocolKind::Bgp(old), ProtocolKind::Bgp(new)) => same_session(old, new),
        (ProtocolKind::Static(_), ProtocolKind::Static(_))
        | (ProtocolKind::Direct(_), ProtocolKind::Direct(_))
        | (ProtocolKind::Device(_), ProtocolKind::Device(_))
        | (ProtocolKind::Kernel(_), ProtocolKind::Kernel(_))
        | (ProtocolKind::Felix(_), ProtocolKind::Felix(_)) => true,
        _ => false,
    };
    if alike && same_channels {
        Treatment::Refeed
    } else {
        Treatment::Restart
    }
}

/// Do they differ only in what can change while the session stands: policies, limits, next hop rules, how attributes
/// are looked at, timers of the next connection?
fn same_session(old: &BgpConfig, new: &BgpConfig) -> bool {
    let mut like_new = old.clone();
    like_new.path_metric = new.path_metric;
    like_new.med_metric = new.med_metric;
    like_new.igp_metric = new.igp_metric;
    like_new.prefer_older = new.prefer_older;
    like_new.deterministic_med = new.deterministic_med;
    like_new.default_med = new.default_med;
    like_new.interpret_communities = new.interpret_communities;
    like_new.allow_local_as = new.allow_local_as;
    like_new.allow_as_sets = new.allow_as_sets;
    like_new.enforce_first_as = new.enforce_first_as;
    like_new.rr_client = new.rr_client;
    like_new.rs_client = new.rs_client;
    like_new.rr_cluster_id = new.rr_cluster_id;
    like_new.disable_after_error = new.disable_after_error;
    like_new.disable_after_cease = new.disable_after_cease;
    like_new.bfd = new.bfd;
    like_new.timers.connect_delay = new.timers.connect_delay;
    like_new.timers.connect_retry = new.timers.connect_retry;
    like_new.timers.error_wait_min = new.timers.error_wait_min;
    like_new.timers.error_wait_max = new.timers.error_wait_max;
    like_new.timers.error_forget = new.timers.error_forget;
    if like_new.channels.len() != new.channels.len() {
        return false;
    }
    for (channel, new) in like_new.channels.iter_mut().zip(&new.channels) {
        channel.channel = new.channel.clone();
        channel.next_hop_self = new.next_hop_self;
        channel.next_hop_keep = new.next_hop_keep;
        channel.next_hop_address = new.next_hop_address;
        channel.next_hop_prefer_global = new.next_hop_prefer_global;
        channel.gateway = new.gateway;
        channel.secondary = new.secondary;
        channel.import_table = new.import_table;
        channel.export_table = new.export_table;
        channel.cost = new.cost;
    }
    like_new == *new
}
