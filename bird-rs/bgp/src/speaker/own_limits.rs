//! Limits of channels that are not BGP's: on what a protocol of our own puts into a table, and on what is taken out for felix
//! or the kernel.
//!
//! `restart` is as `disable`: the same routes would reach the same limit at once.

use super::Speaker;
use super::import::ImportView;
use super::instance::Kind;
use super::tables::{Membership, TableKey};
use crate::config::{Limit, LimitAction};
use crate::fsm::StopReason;
use crate::rib::SourceId;

impl Speaker {
    /// Routes were put into a table: are there more than there may be?
    pub(super) fn limit_import(&mut self, source: SourceId, key: TableKey, view: &ImportView) {
        let limits = self.own_limits(source, key);
        let counts = self.tables.counts(key, source);
        let Some(limit) = limits.0.filter(|limit| counts.accepted > limit.routes) else {
            return;
        };
        if limit.action == LimitAction::Block {
            self.tables.reimport(key, source, view, Some(limit.routes), &|_| true);
        }
        self.limit_reached(source, "import", limit);
    }

    /// How many routes whoever takes them out of a table may be given.
    pub(super) fn export_max(&self, source: SourceId, key: TableKey) -> Option<u32> {
        let limit = self.own_limits(source, key).1;
        limit
            .filter(|limit| limit.action != LimitAction::Warn)
            .map(|limit| limit.routes)
    }

    /// Routes were taken out of a table: were there more than there may be? `false`: the protocol went down.
    pub(super) fn limit_export(&mut self, source: SourceId, key: TableKey, member: Membership) -> bool {
        let limit = self.own_limits(source, key).1;
        let Some(limit) = limit else { return true };
        if self.tables.announced_to(key, member) > limit.routes || self.tables.is_blocked(key, member) {
            self.limit_reached(source, "export", limit);
        }
        self.instance(source).is_some_and(|instance| instance.enabled)
    }

    /// The limits on imports and exports of the channel with a table.
    fn own_limits(&self, source: SourceId, key: TableKey) -> (Option<Limit>, Option<Limit>) {
        let Some(instance) = self.instance(source) else {
            return (None, None);
        };
        let keys: Vec<TableKey> = match &instance.kind {
            Kind::Origin(keys) => keys.clone(),
            Kind::Felix(channels) => channels.iter().map(|(key, _)| *key).collect(),
            Kind::Kernel(table) => vec![table.key()],
            Kind::Bgp(_) | Kind::Range(_) | Kind::Roas(_) | Kind::Quiet => Vec::new(),
        };
        let at = keys.iter().position(|known| *known == key);
        let channel = at.and_then(|at| instance.channels().get(at).copied());
        channel.map_or((None, None), |channel| (channel.import_limit, channel.export_limit))
    }

    fn limit_reached(&mut self, source: SourceId, kind: &'static str, limit: Limit) {
        let Some(instance) = self.instance_mut(source) else {
            return;
        };
        let name = instance.name().clone();
        if !std::mem::replace(&mut instance.limit_logged, true) {
            self.tables.shared.log.limit(&name, kind, limit);
        }
        if matches!(limit.action, LimitAction::Disable | LimitAction::Restart) {
            let mut out = std::mem::take(&mut self.early);
            self.disable(source, StopReason::PrefixLimit { restart: false }, &mut out);
            self.early = out;
        }
    }
}
