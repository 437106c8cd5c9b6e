//! Static protocols as they are configured, for display.

use std::sync::Arc;

use super::Speaker;
use super::origin;
use crate::config::{ProtocolKind, StaticDestination, StaticRoute};
use crate::roa::Roa;

/// The routes of a static protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticView {
    /// Its name.
    pub protocol: Arc<str>,
    /// As they are written, each with whether its next hops, in order, can be used now.
    pub routes: Vec<(StaticRoute, Vec<bool>)>,
    /// In place of routes, when its channel is one of ROAs.
    pub roas: Vec<Roa>,
}

impl Speaker {
    /// What static protocols there are, in the order of the configuration, and their routes.
    pub fn statics(&self) -> Vec<StaticView> {
        let views = self.in_order().into_iter().filter_map(|instance| {
            let config = match &instance.config.kind {
                ProtocolKind::Static(config) => config,
                ProtocolKind::Roas(config) => {
                    return Some(StaticView {
                        protocol: instance.name().clone(),
                        routes: Vec::new(),
                        roas: config.roas.clone(),
                    });
                }
                _ => return None,
            };
            let usable = |route: &StaticRoute| match &route.destination {
                StaticDestination::Via(hops) => hops
                    .iter()
                    .map(|hop| origin::via(hop, config.check_link, &self.host()).is_some())
                    .collect(),
                StaticDestination::Blackhole
                | StaticDestination::Unreachable
                | StaticDestination::Prohibit
                | StaticDestination::Recursive(_) => Vec::new(),
            };
            Some(StaticView {
                protocol: instance.name().clone(),
                routes: config
                    .routes
                    .iter()
                    .map(|route| (route.clone(), usable(route)))
                    .collect(),
                roas: Vec::new(),
            })
        });
        views.collect()
    }
}
