//! Channels, as they are while options may still change.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::diagnostic::{Checked, Complaint};
use super::super::{AddPaths, Channel, ChannelFamily, Gateway, Limit, LimitAction, NextHopRewrite, Policy};
use super::Parser;
use super::expression::closest;

/// A channel; what is not set yet gets its default when the protocol is complete.
#[derive(Debug, Clone)]
pub(super) struct ChannelDraft {
    pub(super) family: ChannelFamily,
    /// Not copied from a template, or named again since: a second time is an error.
    pub(super) opened: bool,
    pub(super) table: Option<Arc<str>>,
    pub(super) import: Option<Policy>,
    pub(super) export: Option<Policy>,
    pub(super) preference: Option<u16>,
    pub(super) receive_limit: Option<Limit>,
    pub(super) import_limit: Option<Limit>,
    pub(super) export_limit: Option<Limit>,
    pub(super) import_keep_filtered: bool,
    pub(super) rpki_reload: bool,
    pub(super) merge_paths: Option<u8>,
    pub(super) bgp: BgpChannelDraft,
}

/// What only BGP's channels have.
#[derive(Debug, Clone, Default)]
pub(super) struct BgpChannelDraft {
    pub(super) next_hop_self: Option<NextHopRewrite>,
    pub(super) next_hop_keep: Option<NextHopRewrite>,
    pub(super) next_hop_address: Option<IpAddr>,
    pub(super) next_hop_prefer_global: bool,
    pub(super) gateway: Option<Gateway>,
    pub(super) igp_table4: Option<Arc<str>>,
    pub(super) igp_table6: Option<Arc<str>>,
    pub(super) mandatory: bool,
    pub(super) secondary: bool,
    pub(super) extended_next_hop: bool,
    pub(super) add_paths: Option<AddPaths>,
    pub(super) import_table: bool,
    pub(super) export_table: bool,
    pub(super) graceful_restart: Option<bool>,
    pub(super) long_lived_graceful_restart: Option<bool>,
    pub(super) long_lived_stale_time: Option<Duration>,
    pub(super) cost: u32,
}

/// Whose channel it is, as far as what it may say depends on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelOf {
    Bgp,
    Felix,
    Another,
}

/// BIRD's default for `merge paths`.
const DEFAULT_MERGE_LIMIT: u8 = 16;

/// What a channel may say.
const ITEMS: [&str; 9] = [
    "table",
    "import",
    "export",
    "receive limit",
    "import limit",
    "export limit",
    "preference",
    "import keep filtered",
    "rpki reload",
];

/// And what a BGP channel may.
const BGP_ITEMS: [&str; 18] = [
    "next hop address",
    "next hop self",
    "next hop keep",
    "next hop prefer global",
    "mandatory",
    "gateway direct",
    "gateway recursive",
    "secondary",
    "graceful restart",
    "long lived graceful restart",
    "long lived stale time",
    "extended next hop",
    "add paths",
    "import table",
    "export table",
    "cost",
    "igp table",
    "import keep filtered",
];

impl ChannelDraft {
    pub(super) fn new(family: ChannelFamily) -> Self {
        ChannelDraft {
            family,
            opened: false,
            table: None,
            import: None,
            export: None,
            preference: None,
            receive_limit: None,
            import_limit: None,
            export_limit: None,
            import_keep_filtered: false,
            rpki_reload: true,
            merge_paths: None,
            bgp: BgpChannelDraft::default(),
        }
    }

    /// The channel, with the protocol's defaults.
    pub(super) fn finish(&self, import: Policy, export: Policy, preference: u16) -> Channel {
        Channel {
            family: self.family,
            table: self.table.clone().unwrap_or_else(|| self.family.default_table().into()),
            import: self.import.clone().unwrap_or(import),
            export: self.export.clone().unwrap_or(export),
            preference: self.preference.unwrap_or(preference),
            receive_limit: self.receive_limit,
            import_limit: self.import_limit,
            export_limit: self.export_limit,
            import_keep_filtered: self.import_keep_filtered,
            rpki_reload: self.rpki_reload,
            merge_paths: self.merge_paths,
        }
    }
}

impl Parser {
    /// `ipv4 [{ ITEMS }];` or `ipv6 ..`, up to the `;`.
    pub(super) fn channel(&mut self, channels: &mut Vec<ChannelDraft>, of: ChannelOf) -> Checked<()> {
        let at = self.here();
        let family = if self.eat_word("ipv4") {
            ChannelFamily::Ipv4
        } else {
            ChannelFamily::Ipv6
        };
        if family == ChannelFamily::Ipv6 {
            self.keyword("ipv6")?;
        }
        if let Some(word) = self.word() {
            let message = format!("'{} {word}' channels are not supported", family.as_str());
            return Err(Complaint::new(at, message));
        }
        let index = match channels.iter().position(|c| c.family == family) {
            Some(index) => index,
            None => {
                channels.push(ChannelDraft::new(family));
                channels.len() - 1
            }
        };
        let Some(channel) = channels.get_mut(index) else {
            return Ok(());
        };
        if channel.opened {
            return Err(Complaint::new(
                at,
                format!("there is a channel '{}' already", family.as_str()),
            ));
        }
        channel.opened = true;
        if self.eat_sign("{") {
            while !self.eat_sign("}") {
                let start = self.at;
                let item = self.channel_item(channel, of).and_then(|()| self.end());
                if let Err(complaint) = item {
                    self.complain(complaint);
                    self.recover(start, false);
                    if self.at == start {
                        return Err(self.unexpected("a statement of a channel or '}'"));
                    }
                }
            }
        }
        self.end()
    }

    fn channel_item(&mut self, channel: &mut ChannelDraft, of: ChannelOf) -> Checked<()> {
        if of == ChannelOf::Felix && self.eat_phrase("merge paths") {
            channel.merge_paths = self.merge_paths()?;
            return Ok(());
        }
        if of == ChannelOf::Bgp && self.bgp_channel_item(channel)? {
            return Ok(());
        }
        self.only_bgps_receive_limit(of)?;
        if self.eat_word("table") {
            let at = self.here();
            let (name, family) = self.table_name()?;
            if family != channel.family {
                let message = format!(
                    "table '{name}' is {}, the channel {}",
                    family.as_str(),
                    channel.family.as_str()
                );
                return Err(Complaint::new(at, message));
            }
            channel.table = Some(name);
        } else if self.eat_phrase("import keep filtered") {
            channel.import_keep_filtered = self.switch("import keep filtered")?;
        } else if self.eat_phrase("rpki reload") {
            channel.rpki_reload = self.switch("rpki reload")?;
        } else if self.eat_phrase("import limit") {
            channel.import_limit = self.limit("import limit")?;
        } else if self.eat_phrase("export limit") {
            channel.export_limit = self.limit("export limit")?;
        } else if self.eat_phrase("receive limit") {
            channel.receive_limit = self.limit("receive limit")?;
        } else if self.eat_word("import") {
            channel.import = Some(self.policy()?);
        } else if self.eat_word("export") {
            if self.is_word("in") {
                return Err(Complaint::new(self.here(), "'export in' is not supported"));
            }
            channel.export = Some(self.policy()?);
        } else if self.eat_word("preference") {
            channel.preference = Some(self.short("preference", 0)?);
        } else {
            let more: &[&str] = match of {
                ChannelOf::Bgp => &BGP_ITEMS,
                ChannelOf::Felix => &["merge paths"],
                ChannelOf::Another => &[],
            };
            let known = ITEMS.iter().chain(more).copied();
            return Err(self.unknown_option("a channel", known));
        }
        Ok(())
    }

    /// What a protocol of our own receives is what it imports.
    fn only_bgps_receive_limit(&self, of: ChannelOf) -> Checked<()> {
        if of == ChannelOf::Bgp || self.phrase_len("receive limit").is_none() {
            return Ok(());
        }
        let complaint = Complaint::new(self.here(), "'receive limit' is for channels of protocol bgp");
        Err(complaint.with_hint("write 'import limit'"))
    }

    /// `[SWITCH] [limit N]`.
    pub(super) fn merge_paths(&mut self) -> Checked<Option<u8>> {
        let on = self.is_word("limit") || self.switch("merge paths")?;
        let limit = if self.eat_word("limit") {
            u8::try_from(self.number_in("merge paths limit", 1..=255)?).unwrap_or(u8::MAX)
        } else {
            DEFAULT_MERGE_LIMIT
        };
        Ok(on.then_some(limit))
    }

    /// `N [action ACTION]` or `off`.
    fn limit(&mut self, what: &str) -> Checked<Option<Limit>> {
        if self.eat_word("off") {
            return Ok(None);
        }
        let routes = self.number(what)?;
        let actions = [
            LimitAction::Warn,
            LimitAction::Block,
            LimitAction::Restart,
            LimitAction::Disable,
        ];
        let mut action = LimitAction::Disable;
        if self.eat_word("action") {
            let named = actions.iter().find(|a| self.is_word(a.as_str()));
            action = *named.ok_or_else(|| self.unexpected("'warn', 'block', 'restart' or 'disable'"))?;
            self.advance();
        }
        Ok(Some(Limit { routes, action }))
    }

    /// The complaint about an option that the subset does not have, naming it whole.
    pub(super) fn unknown_option<'n>(&self, place: &str, known: impl Iterator<Item = &'n str>) -> Box<Complaint> {
        let mut words: Vec<String> = Vec::new();
        while words.len() < 5 {
            match self.peek_at(words.len()) {
                super::Lexeme::Word(word) => words.push(word.as_ref().to_owned()),
                _ => break,
            }
        }
        if words.is_empty() {
            return self.unexpected(&format!("a statement of {place}"));
        }
        let known: Vec<&str> = known.collect();
        let phrase = words.join(" ");
        let complaint = Complaint::new(self.here(), format!("unknown statement '{phrase}' in {place}"));
        // The last words may be a value: look at every beginning of the phrase.
        let similar = (1..=words.len()).rev().find_map(|len| {
            let head = words.get(..len).unwrap_or_default().join(" ");
            closest(&head, known.iter().copied())
        });
        match similar {
            Some(similar) => complaint.with_hint(format!("did you mean '{similar}'?")),
            None => complaint.with_hint("the statement is not part of the language that bird-rs knows"),
        }
    }
}
