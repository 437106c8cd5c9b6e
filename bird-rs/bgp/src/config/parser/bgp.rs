//! `protocol bgp`.

use std::net::IpAddr;

use tortie_net::{Asn, RouterId};

use super::super::diagnostic::{Checked, Complaint, Position};
use super::super::lexer::Lexeme;
use super::super::option::{BGP_OPTIONS, BgpOption, CEASE_ALL, CEASE_FLAGS, ROLES, Slot};
use super::super::{
    AddPaths, BgpConfig, CeaseReasons, DEFAULT_DYNAMIC_LIMIT, Gateway, GracefulRestart, LocalAsAllowed, NextHopRewrite,
};
use super::Parser;
use super::authentication::AuthenticationDraft;
use super::channel::ChannelDraft;

/// BIRD's TTL of multihop sessions.
pub(super) const DEFAULT_MULTIHOP: u8 = 64;

/// A BGP protocol while its options may still change.
#[derive(Debug, Clone)]
pub(super) struct BgpDraft {
    /// What has its default from the start.
    pub(super) config: BgpConfig,
    pub(super) local_as: Option<Asn>,
    pub(super) neighbor: Option<Peer>,
    pub(super) neighbor_as: Option<Asn>,
    /// `internal` (true) or `external`.
    pub(super) internal: Option<bool>,
    pub(super) dynamic_name: String,
    pub(super) dynamic_digits: u8,
    pub(super) dynamic_limit: u32,
    pub(super) multihop: Option<Option<u8>>,
    pub(super) check_link: Option<bool>,
    pub(super) long_lived: Option<GracefulRestart>,
    pub(super) authentication: AuthenticationDraft,
    /// Where `bfd` is said.
    pub(super) bfd_at: Option<Position>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Peer {
    Address(IpAddr),
    Range(tortie_net::Prefix),
}

impl Default for BgpDraft {
    fn default() -> Self {
        BgpDraft {
            config: super::session::defaults(),
            local_as: None,
            neighbor: None,
            neighbor_as: None,
            internal: None,
            dynamic_name: "dynbgp".to_owned(),
            dynamic_digits: 0,
            dynamic_limit: DEFAULT_DYNAMIC_LIMIT,
            multihop: None,
            check_link: None,
            long_lived: None,
            authentication: AuthenticationDraft::default(),
            bfd_at: None,
        }
    }
}

/// A protocol has a number of 16 bits.
const MAX_DYNAMIC_LIMIT: u32 = 60_000;

/// The options that are no row of [`BGP_OPTIONS`].
const SPECIAL_OPTIONS: [&str; 26] = [
    "start delay time",
    "bfd",
    "delay open time",
    "local",
    "local role",
    "neighbor",
    "neighbor range",
    "interface",
    "rr cluster id",
    "direct",
    "multihop",
    "dynamic name",
    "dynamic name digits",
    "dynamic limit",
    "source address",
    "error wait time",
    "keepalive time",
    "send hold time",
    "disable after cease",
    "password",
    "authentication",
    "keys",
    "allow local as",
    "graceful restart",
    "long lived graceful restart",
    "check link",
];

/// All options, for hints.
pub(super) fn options() -> Vec<&'static str> {
    let rows = BGP_OPTIONS.iter().map(|row| row.phrase);
    rows.chain(SPECIAL_OPTIONS).chain(["ipv4", "ipv6"]).collect()
}

impl Parser {
    /// One option of `protocol bgp` up to its `;`; false when the words are none.
    pub(super) fn bgp_option(&mut self, draft: &mut BgpDraft) -> Checked<bool> {
        // Options that begin alike: the longest phrase is meant.
        let matching = BGP_OPTIONS.iter().filter(|row| self.phrase_len(row.phrase).is_some());
        if let Some(row) = matching.max_by_key(|row| row.phrase.len()) {
            self.bgp_row(row, draft)?;
        } else if !(self.bgp_peer_option(draft)? || self.bgp_other_option(draft)?) {
            return Ok(false);
        }
        self.end().map(|()| true)
    }

    fn bgp_row(&mut self, row: &BgpOption, draft: &mut BgpDraft) -> Checked<()> {
        self.eat_phrase(row.phrase);
        let at = self.here();
        match row.slot {
            Slot::Switch(place) => *place(&mut draft.config) = self.switch(row.phrase)?,
            Slot::Number(place) => *place(&mut draft.config) = self.number(row.phrase)?,
            Slot::Seconds(place, low, high) => *place(&mut draft.config) = self.seconds(row.phrase, low..=high)?,
        }
        // RFC 4271 section 4.2: the hold time is zero or at least three seconds.
        let hold = draft.config.timers.hold.as_secs();
        if row.phrase == "hold time" && (1..3).contains(&hold) {
            return Err(Complaint::new(
                at,
                format!("hold time: {hold} is out of range, 0 or 3 to 65535 expected"),
            ));
        }
        Ok(())
    }

    /// Options about who talks to whom.
    fn bgp_peer_option(&mut self, draft: &mut BgpDraft) -> Checked<bool> {
        if self.eat_phrase("local role") {
            let role = ROLES.iter().find(|(name, _)| self.is_word(name));
            let (_, role) =
                role.ok_or_else(|| self.unexpected("a role: peer, provider, customer, rs_server or rs_client"))?;
            draft.config.local_role = Some(*role);
            self.advance();
        } else if self.eat_word("local") {
            self.bgp_local(draft)?;
        } else if self.eat_phrase("source address") {
            draft.config.local_address = Some(self.address("source address")?);
        } else if self.is_word("neighbor") {
            self.bgp_neighbor(draft)?;
        } else if self.eat_word("interface") {
            draft.config.interface = Some(self.text("interface")?.as_ref().to_owned());
        } else if self.eat_phrase("dynamic name digits") {
            draft.dynamic_digits = u8::try_from(self.number_in("dynamic name digits", 0..=10)?).unwrap_or(0);
        } else if self.eat_phrase("dynamic limit") {
            draft.dynamic_limit = self.number_in("dynamic limit", 1..=MAX_DYNAMIC_LIMIT)?;
        } else if self.eat_phrase("dynamic name") {
            let at = self.here();
            let name = self.text("dynamic name")?;
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
            if name.is_empty() || !name.chars().all(plain) {
                return Err(Complaint::new(
                    at,
                    "dynamic name: letters, digits, '_', '-', '.' and ':' expected",
                ));
            }
            draft.dynamic_name = name.as_ref().to_owned();
        } else if self.eat_word("direct") {
            draft.multihop = Some(None);
        } else if self.eat_word("multihop") {
            let ttl = if self.is_sign(";") {
                DEFAULT_MULTIHOP.into()
            } else {
                self.number_in("multihop", 1..=255)?
            };
            draft.multihop = Some(Some(u8::try_from(ttl).unwrap_or(u8::MAX)));
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn bgp_port(&mut self) -> Checked<u16> {
        self.short("port", 1)
    }

    fn bgp_as(&mut self) -> Checked<Asn> {
        self.number_in("as", 1..=u32::MAX).map(Asn)
    }

    /// `local [ADDRESS[%IFACE]] [port N] [as N]`, behind the keyword.
    fn bgp_local(&mut self, draft: &mut BgpDraft) -> Checked<()> {
        if self.address_next().is_some() {
            draft.config.local_address = Some(self.address("local")?);
            if let Some(interface) = self.address_scope()? {
                draft.config.interface = Some(interface);
            }
        }
        loop {
            if self.eat_word("port") {
                draft.config.local_port = self.bgp_port()?;
            } else if self.eat_word("as") {
                draft.local_as = Some(self.bgp_as()?);
            } else if self.is_sign(";") {
                return Ok(());
            } else {
                return Err(self.unexpected("an address, 'port', 'as' or ';'"));
            }
        }
    }

    /// `neighbor [ADDRESS[%IFACE]|range PREFIX] [port N] [as N] [internal|external]`.
    fn bgp_neighbor(&mut self, draft: &mut BgpDraft) -> Checked<()> {
        let at = self.here();
        self.advance();
        let peer = if self.eat_word("range") {
            Some(Peer::Range(self.prefix("neighbor range")?))
        } else if self.address_next().is_some() {
            let addr = self.address("neighbor")?;
            if let Some(interface) = self.address_scope()? {
                draft.config.interface = Some(interface);
            }
            Some(Peer::Address(addr))
        } else {
            None
        };
        if peer.is_some() {
            if draft.neighbor.is_some() {
                return Err(Complaint::new(at, "there is a neighbor already: a protocol has one"));
            }
            draft.neighbor = peer;
        }
        loop {
            if self.eat_word("port") {
                draft.config.neighbor_port = self.bgp_port()?;
            } else if self.eat_word("as") {
                draft.neighbor_as = Some(self.bgp_as()?);
            } else if self.eat_word("internal") {
                draft.internal = Some(true);
            } else if self.eat_word("external") {
                draft.internal = Some(false);
            } else if self.is_sign(";") {
                return Ok(());
            } else {
                return Err(self.unexpected("an address, 'range', 'port', 'as', 'internal', 'external' or ';'"));
            }
        }
    }

    fn bgp_other_option(&mut self, draft: &mut BgpDraft) -> Checked<bool> {
        let (config, at) = (&mut draft.config, self.here());
        if self.bgp_authentication(&mut draft.authentication)? {
            return Ok(true);
        } else if self.eat_word("bfd") {
            config.bfd = self.bgp_bfd()?;
            draft.bfd_at = Some(at);
        } else if self.eat_phrase("rr cluster id") {
            let id: RouterId = self.router_id("rr cluster id")?;
            config.rr_cluster_id = Some(id);
        } else if self.eat_phrase("error wait time") {
            config.timers.error_wait_min = self.seconds("error wait time", 0..=65_535)?;
            self.sign(",")?;
            config.timers.error_wait_max = self.seconds("error wait time", 0..=65_535)?;
        } else if self.eat_phrase("keepalive time") {
            config.timers.keepalive = Some(self.seconds("keepalive time", 1..=65_535)?);
        } else if self.eat_phrase("delay open time") {
            config.timers.delay_open = self.seconds("delay open time", 0..=65_535)?;
        } else if self.eat_phrase("send hold time") {
            config.timers.send_hold = Some(self.seconds("send hold time", 0..=65_535)?);
        } else if self.eat_phrase("disable after cease") {
            config.disable_after_cease = CeaseReasons(self.cease_reasons()?);
        } else if self.eat_phrase("allow local as") {
            config.allow_local_as = match self.is_sign(";") {
                true => LocalAsAllowed::Unlimited,
                false => LocalAsAllowed::Times(self.number("allow local as")?),
            };
        } else if self.eat_phrase("long lived graceful restart") {
            draft.long_lived = Some(self.graceful("long lived graceful restart")?);
        } else if self.eat_phrase("graceful restart") {
            config.graceful_restart = self.graceful("graceful restart")?;
        } else if self.eat_phrase("check link") {
            draft.check_link = Some(self.switch("check link")?);
        } else if self.is_word("confederation") {
            let complaint = Complaint::new(self.here(), "confederations (RFC 5065) are not supported");
            return Err(complaint.with_hint("use route reflectors: 'rr client'"));
        } else if self.eat_phrase("start delay time") {
            // Its old name.
            config.timers.connect_delay = self.seconds("start delay time", 0..=65_535)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn graceful(&mut self, what: &str) -> Checked<GracefulRestart> {
        if self.eat_word("aware") {
            return Ok(GracefulRestart::Aware);
        }
        self.switch(what)
            .map(|on| if on { GracefulRestart::On } else { GracefulRestart::Off })
    }

    /// A switch, or `{ FLAGS }`.
    fn cease_reasons(&mut self) -> Checked<u16> {
        if !self.eat_sign("{") {
            return self
                .switch("disable after cease")
                .map(|on| if on { CEASE_ALL } else { 0 });
        }
        let mut flags = 0;
        loop {
            let flag = CEASE_FLAGS.iter().find(|(phrase, _)| self.phrase_len(phrase).is_some());
            let (phrase, bit) = flag.ok_or_else(|| self.unexpected("a reason to cease"))?;
            self.eat_phrase(phrase);
            flags |= 1 << bit;
            if !self.eat_sign(",") {
                break;
            }
        }
        self.sign("}")?;
        Ok(flags)
    }

    // === Channels ===

    /// One item of a BGP channel, without its `;`; false when it may be one of any channel.
    pub(super) fn bgp_channel_item(&mut self, channel: &mut ChannelDraft) -> Checked<bool> {
        let bgp = &mut channel.bgp;
        if self.eat_phrase("next hop address") {
            bgp.next_hop_address = Some(self.address("next hop address")?);
        } else if self.eat_phrase("next hop self") {
            bgp.next_hop_self = Some(self.rewrite("next hop self")?);
        } else if self.eat_phrase("next hop keep") {
            bgp.next_hop_keep = Some(self.rewrite("next hop keep")?);
        } else if self.eat_phrase("next hop prefer global") {
            bgp.next_hop_prefer_global = true;
        } else if self.eat_word("mandatory") {
            bgp.mandatory = self.switch("mandatory")?;
        } else if self.eat_phrase("gateway direct") {
            bgp.gateway = Some(Gateway::Direct);
        } else if self.eat_phrase("gateway recursive") {
            bgp.gateway = Some(Gateway::Recursive);
        } else if self.eat_word("secondary") {
            bgp.secondary = self.switch("secondary")?;
        } else if self.eat_phrase("graceful restart") {
            bgp.graceful_restart = Some(self.switch("graceful restart")?);
        } else if self.eat_phrase("long lived graceful restart") {
            bgp.long_lived_graceful_restart = Some(self.switch("long lived graceful restart")?);
        } else if self.eat_phrase("long lived stale time") {
            bgp.long_lived_stale_time = Some(self.seconds("long lived stale time", 0..=0xFF_FFFF)?);
        } else if self.eat_phrase("extended next hop") {
            bgp.extended_next_hop = self.switch("extended next hop")?;
        } else if self.eat_phrase("add paths") {
            bgp.add_paths = Some(self.add_paths()?);
        } else if self.eat_phrase("import table") {
            bgp.import_table = self.switch("import table")?;
        } else if self.eat_phrase("export table") {
            bgp.export_table = self.switch("export table")?;
        } else if self.eat_word("cost") {
            bgp.cost = self.number_in("cost", 1..=u32::MAX)?;
        } else if self.eat_phrase("igp table") {
            let (name, family) = self.table_name()?;
            match family {
                super::ChannelFamily::Ipv4 => bgp.igp_table4 = Some(name),
                super::ChannelFamily::Ipv6 => bgp.igp_table6 = Some(name),
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn rewrite(&mut self, what: &str) -> Checked<NextHopRewrite> {
        if self.eat_word("ibgp") {
            return Ok(NextHopRewrite::Ibgp);
        }
        if self.eat_word("ebgp") {
            return Ok(NextHopRewrite::Ebgp);
        }
        self.switch(what)
            .map(|on| if on { NextHopRewrite::On } else { NextHopRewrite::Off })
    }

    fn add_paths(&mut self) -> Checked<AddPaths> {
        if self.eat_word("rx") {
            return Ok(AddPaths::Rx);
        }
        if self.eat_word("tx") {
            return Ok(AddPaths::Tx);
        }
        if matches!(self.peek(), Lexeme::Sign(";")) {
            return Ok(AddPaths::Both);
        }
        self.switch("add paths")
            .map(|on| if on { AddPaths::Both } else { AddPaths::Off })
    }
}
