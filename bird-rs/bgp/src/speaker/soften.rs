//! `configure soft`: new export policies see what changes from now on, and leave alone what was told.

use super::Speaker;
use super::export::View;
use super::instance::Kind;
use super::merge::FibView;
use super::tables::{Membership, TableKey};
use crate::config::{Protocol, ProtocolKind};
use crate::rib::SourceId;

/// Are the routes of a static protocol others now?
pub(super) fn routes_differ(old: &Protocol, new: &Protocol) -> bool {
    match (&old.kind, &new.kind) {
        (ProtocolKind::Static(old), ProtocolKind::Static(new)) => old.routes != new.routes,
        _ => false,
    }
}

impl Speaker {
    /// Gives a protocol's channels the views that its configuration now means.
    pub(super) fn soften(&mut self, source: SourceId) {
        let views = self.soft_views(source);
        let moved: Vec<_> = views
            .into_iter()
            .map(|(key, member, view)| (key, self.tables.change_view_softly(key, member, view)))
            .collect();
        let Some(instance) = self.instance_mut(source) else {
            return;
        };
        let place = |key: TableKey| moved.iter().find(|(of, _)| *of == key).map(|(_, member)| *member);
        match &mut instance.kind {
            Kind::Bgp(session) => {
                for channel in &mut session.channels {
                    channel.membership = place(channel.key).unwrap_or(channel.membership);
                }
            }
            Kind::Felix(channels) => {
                for (key, member) in channels {
                    *member = place(*key).unwrap_or(*member);
                }
            }
            Kind::Kernel(table) => {
                for (key, member) in &mut table.channel {
                    *member = place(*key).unwrap_or(*member);
                }
            }
            Kind::Range(_) | Kind::Origin(_) | Kind::Roas(_) | Kind::Quiet => {}
        }
    }

    fn soft_views(&self, source: SourceId) -> Vec<(TableKey, Membership, View)> {
        let Some(instance) = self.instance(source) else {
            return Vec::new();
        };
        let fib = |members: &[(TableKey, Option<Membership>)]| -> Vec<_> {
            let views = instance
                .channels()
                .into_iter()
                .map(|channel| View::Fib(FibView::of(channel)));
            let members = members.iter().zip(views);
            members
                .filter_map(|((key, member), view)| Some((*key, (*member)?, view)))
                .collect()
        };
        match &instance.kind {
            Kind::Bgp(session) => {
                let Some(up) = &session.up else { return Vec::new() };
                let view = |channel: &super::session::SessionChannel| {
                    let view = session.export_view(&channel.config, up, &self.addresses);
                    Some((channel.key, channel.membership?, view))
                };
                session.channels.iter().filter_map(view).collect()
            }
            Kind::Felix(channels) => fib(channels),
            Kind::Kernel(table) => fib(&table.channel),
            Kind::Range(_) | Kind::Origin(_) | Kind::Roas(_) | Kind::Quiet => Vec::new(),
        }
    }
}
