//! What channels show of themselves.

use std::sync::Arc;

use super::Speaker;
use super::export::View;
use super::instance::{Instance, Kind};
use super::roas::roa_channels;
use super::session::{Session, SessionChannel};
use super::show::{ChannelSettings, ChannelStatus, LimitStatus};
use super::tables::{Membership, TableKey};
use crate::config::{BgpChannel, Channel, ChannelFamily, Gateway, LimitAction, Policy, RoaChannel};
use crate::packet::AfiSafi;
use crate::rib::Traffic;

/// Where a channel of a protocol is now.
struct Place {
    key: TableKey,
    member: Option<Membership>,
    up: bool,
}

impl Speaker {
    /// The channels of a protocol.
    pub(super) fn channels(&self, instance: &Instance) -> Vec<ChannelStatus> {
        let configs = instance.channels();
        let places: Vec<Place> = match &instance.kind {
            Kind::Bgp(session) => session.channels.iter().map(Place::of_session).collect(),
            Kind::Felix(channels) => channels.iter().map(|(key, member)| Place::of(*key, *member)).collect(),
            Kind::Kernel(table) => table
                .channel
                .iter()
                .map(|(key, member)| Place::of(*key, *member))
                .collect(),
            Kind::Origin(keys) => {
                let place = |key: &TableKey| Place {
                    up: instance.enabled,
                    ..Place::of(*key, None)
                };
                keys.iter().map(place).collect()
            }
            Kind::Roas(_) => return self.channels_of_roas(instance),
            Kind::Range(_) | Kind::Quiet => Vec::new(),
        };
        let status = |(place, config): (&Place, &&Channel)| {
            let mut status = self.channel(instance, place, config);
            if let Some(session) = instance.session() {
                self.channel_of_session(session, place, &mut status);
            }
            status
        };
        places.iter().zip(&configs).map(status).collect()
    }

    fn channels_of_roas(&self, instance: &Instance) -> Vec<ChannelStatus> {
        let status = |channel: &RoaChannel| {
            let (all, preferred) = self.tables.shared.roas.counts(&channel.table, instance.source);
            ChannelStatus {
                family: channel.family.roa_str(),
                table: channel.table.clone(),
                up: instance.enabled,
                imported: all as u64,
                filtered: 0,
                preferred: preferred as u64,
                exported: 0,
                settings: ChannelSettings {
                    preference: channel.preference,
                    import: policy(&Policy::All),
                    export: policy(&Policy::None),
                    ..ChannelSettings::default()
                },
                imports: Traffic::default(),
                exports: Traffic::default(),
                kept: None,
                next_hop: None,
            }
        };
        roa_channels(&instance.config.kind).iter().map(status).collect()
    }

    fn channel(&self, instance: &Instance, place: &Place, config: &Channel) -> ChannelStatus {
        let &Place { key, member, up } = place;
        let counts = self.tables.counts(key, instance.source);
        let exported = member.map_or(0, |member| self.tables.announced_to(key, member));
        let blocked = member.is_some_and(|member| self.tables.is_blocked(key, member));
        let all = counts.accepted + counts.filtered;
        let limits = [
            ("Receive", config.receive_limit, all, false),
            ("Import", config.import_limit, counts.accepted, false),
            ("Export", config.export_limit, exported, blocked),
        ];
        let limits = limits.into_iter().filter_map(|(kind, limit, routes, blocked)| {
            let limit = limit?;
            let full = limit.action == LimitAction::Block && routes >= limit.routes;
            let hit = routes > limit.routes || blocked || (full && kind != "Export");
            Some(LimitStatus { kind, limit, hit })
        });
        ChannelStatus {
            family: key.family.into_channel().as_str(),
            table: self.tables.name(key).clone(),
            up,
            imported: u64::from(counts.accepted),
            filtered: u64::from(counts.filtered),
            preferred: u64::from(counts.best),
            exported: u64::from(exported),
            settings: ChannelSettings {
                preference: config.preference,
                import: policy(&config.import),
                export: policy(&config.export),
                keep_filtered: config.import_keep_filtered,
                limits: limits.collect(),
                igp_tables: Vec::new(),
            },
            imports: self.tables.imports(key, instance.source),
            exports: member
                .map(|member| self.tables.exports(key, member))
                .unwrap_or_default(),
            kept: None,
            next_hop: None,
        }
    }

    fn channel_of_session(&self, session: &Session, place: &Place, status: &mut ChannelStatus) {
        let key = place.key;
        status.kept = session.peer.kept().find(|kept| kept.family == key.family);
        if let Some(channel) = session.channels.iter().find(|channel| channel.key == key) {
            status.exports += channel.told;
            status.settings.igp_tables = igp_tables(&channel.config);
            if let (Some(up), Some(_)) = (&session.up, place.member)
                && let View::Bgp(view) = session.export_view(&channel.config, up, &self.addresses)
            {
                status.next_hop = view.own;
            }
        }
    }
}

impl Place {
    fn of(key: TableKey, member: Option<Membership>) -> Self {
        let up = member.is_some();
        Place { key, member, up }
    }

    fn of_session(channel: &SessionChannel) -> Self {
        Self::of(channel.key, channel.membership)
    }
}

/// A policy as BIRD names it.
fn policy(policy: &Policy) -> Arc<str> {
    match policy {
        Policy::All => "ACCEPT".into(),
        Policy::None => "REJECT".into(),
        Policy::Filter(filter) => filter.name.clone().unwrap_or_else(|| "(unnamed)".into()),
    }
}

/// The tables in which BIRD would look for next hops.
fn igp_tables(channel: &BgpChannel) -> Vec<(&'static str, Arc<str>)> {
    if channel.gateway != Gateway::Recursive {
        return Vec::new();
    }
    let own = channel.channel.family;
    let of = |family: ChannelFamily, named: &Option<Arc<str>>| {
        let table = match named {
            Some(table) => table.clone(),
            None if family == own => channel.channel.table.clone(),
            None => family.default_table().into(),
        };
        (family.as_str(), table)
    };
    let v4 = (own == ChannelFamily::Ipv4).then(|| of(ChannelFamily::Ipv4, &channel.igp_table4));
    let needs_v6 = own == ChannelFamily::Ipv6 || channel.extended_next_hop;
    let v6 = needs_v6.then(|| of(ChannelFamily::Ipv6, &channel.igp_table6));
    v4.into_iter().chain(v6).collect()
}

impl AfiSafi {
    fn into_channel(self) -> ChannelFamily {
        match self {
            AfiSafi::Ipv4Unicast => ChannelFamily::Ipv4,
            AfiSafi::Ipv6Unicast => ChannelFamily::Ipv6,
        }
    }
}
