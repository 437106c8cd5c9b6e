//! From one configuration to the next, touching only what differs.

use std::sync::Arc;

use super::Speaker;
use super::instance::{Kind, channels};
use super::io::Output;
use super::kernel::is_written;
use super::session::peer_config;
use super::soften;
use crate::config::{Action, BgpConfig, Channel, Config, Protocol, ProtocolKind, diff};
use crate::filter::RouteSource;
use crate::fsm::StopReason;
use crate::rib::{Decision, SourceId};

impl Speaker {
    /// Makes a configuration the current one. `soft`: filters are not applied to the routes that there are.
    pub(super) fn reconfigure(&mut self, config: Arc<Config>, soft: bool, out: &mut Vec<Output>) {
        let changes = diff(&self.config, &config);
        self.router_id = config.router_id.unwrap_or(self.router_id);
        let old = std::mem::replace(&mut self.config, config.clone());
        self.configured_at = self.now;
        // What a new protocol's link adds can only concern its own session.
        self.find_own();
        self.tables.provide(&config);
        self.tables.follow_igp(&config);
        let waited_for =
            |p: &Protocol| matches!(p.kind, ProtocolKind::Bgp(_) | ProtocolKind::Felix(_)) || is_written(p);
        let matters = |p: &Protocol| !p.disabled && waited_for(p);
        if config.protocols.iter().any(|p| matters(p)) {
            self.convergence
                .begin(self.now, config.graceful_restart_wait, !self.fresh);
        }
        let decision = decision(&config);
        if std::mem::replace(&mut self.tables.shared.decision, decision) != decision {
            self.tables.touch_all();
        }
        self.remove_dynamic(&changes, out);
        for change in changes {
            let source = self.find(&change.protocol);
            let new = config.protocol(&change.protocol);
            match (change.action, source, new) {
                (Action::Remove, Some(source), _) => self.delete(source, StopReason::Deconfigured, out),
                (Action::Restart, Some(source), Some(new)) => {
                    let taken_down = self.instance(source).and_then(|instance| instance.taken_down.clone());
                    self.delete(source, StopReason::ConfigurationChange, out);
                    self.replace(old.protocol(&change.protocol), new, taken_down, out);
                }
                (Action::InPlace | Action::Refeed, Some(source), Some(new)) => self.take_over(source, new, soft),
                (_, None, Some(new)) => {
                    self.add(Arc::clone(new), out);
                }
                (_, None, None) | (Action::Add | Action::Restart | Action::InPlace | Action::Refeed, Some(_), _) => {}
            }
        }
        for instance in self.instances.iter_mut().flatten() {
            instance.traced = instance.config.debug;
        }
        self.tables.close_heirs();
        self.warn_of_unwatched(out);
        // Listening follows with the next flush: outputs of the first configuration go nowhere.
    }

    /// Makes a protocol anew. One that an operator took down stays down, unless `disabled` itself was changed.
    fn replace(
        &mut self,
        old: Option<&Arc<Protocol>>,
        new: &Protocol,
        taken_down: Option<Arc<str>>,
        out: &mut Vec<Output>,
    ) {
        let stays = taken_down.filter(|_| old.is_some_and(|old| old.disabled == new.disabled));
        let mut protocol = new.clone();
        protocol.disabled |= stays.is_some();
        if let Some(source) = self.add(Arc::new(protocol), out)
            && let Some(instance) = self.instance_mut(source)
        {
            instance.taken_down = stays;
        }
    }

    /// Gives a protocol a configuration that its session can go on with, and applies its filters anew.
    fn take_over(&mut self, source: SourceId, new: &Protocol, soft: bool) {
        let config = self.config.clone();
        let us = self.identity(&config, new);
        let name = new.name.clone();
        let Some(instance) = self.instance_mut(source) else {
            return;
        };
        let is_roas = matches!(instance.kind, Kind::Roas(_));
        let routes_differ = is_roas || soften::routes_differ(&instance.config, new);
        instance.config = Arc::new(in_order_of(&instance.config, new));
        instance.limit_logged = false;
        match (&mut instance.kind, &instance.config.kind) {
            (Kind::Bgp(session), ProtocolKind::Bgp(bgp)) => {
                session.config = BgpConfig::clone(bgp);
                session.peer.set_config(peer_config(bgp, us));
                for (channel, config) in session.channels.iter_mut().zip(&bgp.channels) {
                    channel.config = config.clone();
                    channel.limit_logged = false;
                }
                let (up, traits) = (session.up.is_some(), session.traits());
                if up {
                    self.tables.set_source(source, &name, RouteSource::Bgp, traits);
                }
            }
            (Kind::Range(range), ProtocolKind::Bgp(bgp)) => range.config.clone_from(bgp),
            (
                Kind::Bgp(_)
                | Kind::Range(_)
                | Kind::Origin(_)
                | Kind::Felix(_)
                | Kind::Kernel(_)
                | Kind::Roas(_)
                | Kind::Quiet,
                _,
            ) => {}
        }
        if soft && !routes_differ {
            self.soften(source);
        } else {
            self.refeed(usize::from(source.0), true, true);
        }
    }
}

/// A configuration with its channels in the order in which the protocol has them: what they are written in means nothing.
fn in_order_of(old: &Protocol, new: &Protocol) -> Protocol {
    let order: Vec<_> = channels(old).iter().map(|channel| channel.family).collect();
    let at = |channel: &Channel| order.iter().position(|family| *family == channel.family);
    let mut new = new.clone();
    match &mut new.kind {
        ProtocolKind::Bgp(bgp) => bgp.channels.sort_by_key(|c| at(&c.channel)),
        ProtocolKind::Felix(felix) => felix.channels.sort_by_key(at),
        ProtocolKind::Direct(direct) => direct.channels.sort_by_key(at),
        ProtocolKind::Static(_)
        | ProtocolKind::Device(_)
        | ProtocolKind::Kernel(_)
        | ProtocolKind::Bfd(_)
        | ProtocolKind::Mrt(_)
        | ProtocolKind::Roas(_)
        | ProtocolKind::Rpki(_)
        | ProtocolKind::Bmp(_) => {}
    }
    new
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
            | ProtocolKind::Felix(_)
            | ProtocolKind::Bfd(_)
            | ProtocolKind::Mrt(_)
            | ProtocolKind::Roas(_)
            | ProtocolKind::Rpki(_)
            | ProtocolKind::Bmp(_) => None,
        })
    };
    Decision {
        as_path_length: bgp().all(|bgp| bgp.path_metric),
        always_compare_med: bgp().any(|bgp| bgp.med_metric),
        igp_metric: bgp().all(|bgp| bgp.igp_metric),
        prefer_older: bgp().any(|bgp| bgp.prefer_older),
    }
}
