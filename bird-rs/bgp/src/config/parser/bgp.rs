//! `protocol bgp`.

use std::net::IpAddr;
use std::time::Duration;

use tortie_net::{Asn, RouterId};

use super::super::diagnostic::{Checked, Complaint, Position};
use super::super::lexer::Lexeme;
use super::super::option::{BGP_OPTIONS, BgpOption, CEASE_ALL, CEASE_FLAGS, ROLES, Slot};
use super::super::{
    AddPaths, BgpChannel, BgpConfig, CeaseReasons, Config, Gateway, GracefulRestart, LocalAsAllowed, Neighbor,
    NextHopRewrite, PeerType, Policy, Timers, Transport,
};
use super::Parser;
use super::channel::ChannelDraft;

/// BIRD's TTL of multihop sessions.
const DEFAULT_MULTIHOP: u8 = 64;
const BGP_PORT: u16 = 179;
const PREFERENCE_BGP: u16 = 100;
/// The kernel's limit (TCP_MD5SIG_MAXKEYLEN).
const MAX_PASSWORD: usize = 80;

/// A BGP protocol while its options may still change.
#[derive(Debug, Clone)]
pub(super) struct BgpDraft {
    /// What has its default from the start.
    config: BgpConfig,
    local_as: Option<Asn>,
    neighbor: Option<Peer>,
    neighbor_as: Option<Asn>,
    /// `internal` (true) or `external`.
    internal: Option<bool>,
    dynamic_name: String,
    dynamic_digits: u8,
    multihop: Option<Option<u8>>,
    check_link: Option<bool>,
    long_lived: Option<GracefulRestart>,
}

#[derive(Debug, Clone, Copy)]
enum Peer {
    Address(IpAddr),
    Range(tortie_net::Prefix),
}

impl Default for BgpDraft {
    fn default() -> Self {
        BgpDraft {
            config: defaults(),
            local_as: None,
            neighbor: None,
            neighbor_as: None,
            internal: None,
            dynamic_name: "dynbgp".to_owned(),
            dynamic_digits: 0,
            multihop: None,
            check_link: None,
            long_lived: None,
        }
    }
}

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
            password: None,
            ttl_security: false,
            passive: false,
            strict_bind: false,
            free_bind: false,
            check_link: false,
        },
        timers: Timers {
            hold: seconds(240),
            startup_hold: seconds(240),
            min_hold: Duration::ZERO,
            keepalive: None,
            min_keepalive: Duration::ZERO,
            connect_delay: seconds(5),
            connect_retry: seconds(120),
            error_wait_min: seconds(60),
            error_wait_max: seconds(300),
            error_forget: seconds(300),
        },
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
        bfd: false,
        channels: Vec::new(),
    }
}

/// The options that are no row of [`BGP_OPTIONS`].
const SPECIAL_OPTIONS: [&str; 19] = [
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
    "source address",
    "error wait time",
    "keepalive time",
    "disable after cease",
    "password",
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
        let config = &mut draft.config;
        if self.eat_phrase("rr cluster id") {
            let id: RouterId = self.router_id("rr cluster id")?;
            config.rr_cluster_id = Some(id);
        } else if self.eat_phrase("error wait time") {
            config.timers.error_wait_min = self.seconds("error wait time", 0..=65_535)?;
            self.sign(",")?;
            config.timers.error_wait_max = self.seconds("error wait time", 0..=65_535)?;
        } else if self.eat_phrase("keepalive time") {
            config.timers.keepalive = Some(self.seconds("keepalive time", 1..=65_535)?);
        } else if self.eat_phrase("disable after cease") {
            config.disable_after_cease = CeaseReasons(self.cease_reasons()?);
        } else if self.eat_word("password") {
            config.transport.password = Some(self.password()?);
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
        } else if self.is_word("start") {
            let complaint = Complaint::new(self.here(), "'start delay time' is an old name");
            return Err(complaint.with_hint("write 'connect delay time'"));
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

    fn password(&mut self) -> Checked<String> {
        let at = self.here();
        let password = self.text("password")?;
        if password.is_empty() || password.len() > MAX_PASSWORD {
            return Err(Complaint::new(
                at,
                format!(
                    "password: 1 to {MAX_PASSWORD} octets expected, found {}",
                    password.len()
                ),
            ));
        }
        Ok(password.as_ref().to_owned())
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
            },
        };
        config.transport.multihop = multihop;
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
    } else if multihop && config.bfd && config.local_address.is_none() {
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
    } else if timers.error_wait_min > timers.error_wait_max {
        "the first error wait time exceeds the second"
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
    let multihop = config.transport.multihop.is_some();
    let bgp = &draft.bgp;
    let gateway = bgp
        .gateway
        .unwrap_or(if multihop { Gateway::Recursive } else { Gateway::Direct });
    let channel = draft.finish(Policy::All, Policy::None, PREFERENCE_BGP);
    let sorted = all.tables.iter().any(|t| t.name == channel.table && t.sorted);
    if multihop && gateway == Gateway::Direct {
        return Err(format!(
            "channel '{family}': a 'multihop' session cannot have 'gateway direct'"
        ));
    }
    if bgp.secondary && !sorted {
        return Err(format!(
            "channel '{family}': 'secondary' needs a sorted table, and '{}' is not",
            channel.table
        ));
    }
    if gateway == Gateway::Recursive && sorted {
        return Err(format!(
            "channel '{family}': 'gateway recursive' cannot use the sorted table '{}'",
            channel.table
        ));
    }
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
