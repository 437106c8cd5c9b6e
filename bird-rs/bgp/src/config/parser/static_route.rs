//! `protocol static`: its options, and `route` above all.

use std::sync::Arc;

use super::super::diagnostic::{Checked, Complaint, Position};
use super::super::{Config, Policy, ProtocolKind, StaticConfig, StaticDestination, StaticHop, StaticRoute};
use super::Parser;
use super::channel::ChannelDraft;
use super::protocol::single;
use super::rpki::{RoaChannelDraft, finish_roas};
use crate::roa::Roa;

const PREFERENCE_STATIC: u16 = 200;

/// Linux' limit of a next hop's weight.
const MAX_WEIGHT: u32 = 256;

/// `protocol static` while its options may still change.
#[derive(Debug, Clone, Default)]
pub(super) struct StaticDraft {
    check_link: bool,
    igp_table: Option<Arc<str>>,
    /// Each with its place: whether it fits the channel is known at the end.
    routes: Vec<(StaticRoute, Position)>,
    roas: Vec<(Roa, Position)>,
}

impl Parser {
    pub(super) fn static_option(&mut self, draft: &mut StaticDraft) -> Checked<bool> {
        if self.is_word("route") {
            let at = self.here();
            if let Some(roa) = self.static_roa()? {
                draft.roas.push((roa, at));
                return Ok(true);
            }
            let route = self.static_route()?;
            draft.routes.push((route, at));
            return Ok(true);
        }
        if self.eat_phrase("check link") {
            draft.check_link = self.switch("check link")?;
        } else if self.eat_phrase("igp table") {
            draft.igp_table = Some(self.table_name()?.0);
        } else {
            return Ok(false);
        }
        self.end().map(|()| true)
    }

    /// `route PREFIX DESTINATION [{ STATEMENTS }]`, up to the `;`.
    fn static_route(&mut self) -> Checked<StaticRoute> {
        self.keyword("route")?;
        let prefix = self.prefix("route")?;
        let destination = self.static_destination()?;
        let attributes = if self.is_sign("{") {
            Some(self.route_statements()?)
        } else {
            None
        };
        self.end()?;
        Ok(StaticRoute {
            prefix,
            destination,
            attributes,
        })
    }

    fn static_destination(&mut self) -> Checked<StaticDestination> {
        // The second of each pair is BIRD 1's word, which BIRD 2 knows too.
        if self.eat_word("blackhole") || self.eat_word("drop") {
            return Ok(StaticDestination::Blackhole);
        }
        if self.eat_word("unreachable") || self.eat_word("reject") {
            return Ok(StaticDestination::Unreachable);
        }
        if self.eat_word("prohibit") {
            return Ok(StaticDestination::Prohibit);
        }
        if self.eat_word("recursive") {
            return self.address("recursive").map(StaticDestination::Recursive);
        }
        let mut hops = Vec::new();
        while self.eat_word("via") {
            hops.push(self.hop()?);
        }
        if hops.is_empty() {
            return Err(self.unexpected("'via', 'blackhole', 'unreachable', 'prohibit' or 'recursive'"));
        }
        Ok(StaticDestination::Via(hops))
    }

    /// What follows `via`.
    fn hop(&mut self) -> Checked<StaticHop> {
        let mut hop = if self.address_next().is_some() {
            let gateway = self.address("via")?;
            StaticHop {
                gateway: Some(gateway),
                interface: self.address_scope()?,
                weight: 1,
                onlink: false,
                bfd: false,
            }
        } else {
            let interface = self
                .text("via")
                .map_err(|_| self.unexpected("an address or an interface in double quotes"))?;
            StaticHop {
                gateway: None,
                interface: Some(interface.as_ref().to_owned()),
                weight: 1,
                onlink: false,
                bfd: false,
            }
        };
        loop {
            if self.eat_word("weight") {
                let weight = self.number_in("weight", 1..=MAX_WEIGHT)?;
                hop.weight = u16::try_from(weight).unwrap_or(1);
            } else if self.eat_word("onlink") {
                hop.onlink = self.hop_switch("onlink")?;
            } else if self.is_word("bfd") {
                let at = self.here();
                self.advance();
                hop.bfd = self.hop_switch("bfd")?;
                if hop.bfd && hop.gateway.is_none() {
                    return Err(Complaint::new(at, "'bfd' needs a gateway to have a session with"));
                }
            } else if self.is_word("mpls") {
                return Err(self.unknown_option("a static route", ["weight", "onlink", "bfd"].into_iter()));
            } else {
                return Ok(hop);
            }
        }
    }
}

impl Parser {
    /// A switch within `via`: it may be left out before anything that can follow.
    fn hop_switch(&mut self, what: &str) -> Checked<bool> {
        let next = ["via", "weight", "onlink", "bfd"];
        if next.iter().any(|word| self.is_word(word)) || self.is_sign("{") {
            return Ok(true);
        }
        self.switch(what)
    }
}

impl StaticDraft {
    /// With one channel, of routes or of ROAs.
    pub(super) fn finish(
        self,
        channels: &[ChannelDraft],
        roa_channels: &[RoaChannelDraft],
        (at, config): (Position, &Config),
    ) -> Checked<ProtocolKind> {
        if let ([], [channel]) = (channels, roa_channels) {
            if let Some((route, place)) = self.routes.first() {
                let message = format!("route {} does not fit a channel of ROAs", route.prefix);
                let complaint = Complaint::new(*place, message);
                return Err(complaint.with_hint("write 'route PREFIX max LENGTH as AS;'"));
            }
            return finish_roas(channel, PREFERENCE_STATIC, self.roas, (at, config)).map(ProtocolKind::Roas);
        }
        if !roa_channels.is_empty() {
            let complaint = Complaint::new(at, "protocol static has more than one channel");
            return Err(complaint.with_hint("write one protocol for each family"));
        }
        if let (Some((roa, place)), [channel]) = (self.roas.first(), channels) {
            let message = format!("route {roa} does not fit the channel '{}'", channel.family.as_str());
            return Err(Complaint::new(*place, message));
        }
        self.finish_routes(channels, at).map(ProtocolKind::Static)
    }

    fn finish_routes(self, channels: &[ChannelDraft], at: Position) -> Checked<StaticConfig> {
        let channel = single(channels, "static", at)?.finish(Policy::All, Policy::None, PREFERENCE_STATIC);
        for (route, place) in &self.routes {
            if !channel.family.has(route.prefix) {
                let message = format!(
                    "route {} does not fit the channel '{}'",
                    route.prefix,
                    channel.family.as_str()
                );
                return Err(Complaint::new(*place, message));
            }
        }
        Ok(StaticConfig {
            channel,
            check_link: self.check_link,
            igp_table: self.igp_table,
            routes: self.routes.into_iter().map(|(route, _)| route).collect(),
        })
    }
}
