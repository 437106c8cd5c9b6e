//! Tables and channels of ROAs, `protocol rpki`, ROAs in `protocol static`, and `roa_check`.

use std::sync::Arc;
use std::time::Duration;

use tortie_net::Asn;

use super::super::diagnostic::{Checked, Complaint, Position};
use super::super::lexer::Lexeme;
use super::super::rpki::{DEFAULT_CACHE_PORT, PREFERENCE_RPKI};
use super::super::{CacheAddress, ChannelFamily, Config, Policy, RoaChannel, RoaConfig, RoaTable, RpkiConfig};
use super::{Parser, Symbol};
use crate::filter::{Expr, Line, RoaUse, check};
use crate::roa::Roa;
use crate::rtr::{Interval, Timers};

/// What may be said in the block of `protocol rpki`.
pub(super) const RPKI_OPTIONS: [&str; 9] = [
    "roa4",
    "roa6",
    "remote",
    "port",
    "refresh",
    "retry",
    "expire",
    "transport tcp",
    "ignore max length",
];

/// A channel of ROAs; what is not set yet gets its default when the protocol is complete.
#[derive(Debug, Clone)]
pub(super) struct RoaChannelDraft {
    family: ChannelFamily,
    /// Not copied from a template, or named again since: a second time is an error.
    pub(super) opened: bool,
    table: Option<Arc<str>>,
    preference: Option<u16>,
}

/// `protocol rpki` while its options may still change.
#[derive(Debug, Clone, Default)]
pub(super) struct RpkiDraft {
    remote: Option<CacheAddress>,
    port: Option<u16>,
    timers: Timers,
    ignore_max_length: bool,
}

impl Parser {
    /// `roa4 table NAME;`.
    pub(super) fn roa_table(&mut self) -> Checked<()> {
        let family = self.roa_family();
        self.keyword("table")?;
        let (name, at) = self.name("a table's name")?;
        self.define(&name, at, Symbol::RoaTable(family))?;
        self.config.roa_tables.push(RoaTable { name, family });
        self.end()
    }

    fn roa_family(&mut self) -> ChannelFamily {
        if self.eat_word("roa4") {
            ChannelFamily::Ipv4
        } else {
            self.advance();
            ChannelFamily::Ipv6
        }
    }

    /// The name of a table of ROAs.
    fn roa_table_name(&mut self, what: &str) -> Checked<(Arc<str>, ChannelFamily)> {
        let at = self.here();
        let name = match self.peek() {
            Lexeme::Word(name) | Lexeme::Quoted(name) => Arc::clone(name),
            _ => return Err(self.unexpected(&format!("{what}: a table of ROAs"))),
        };
        let found = match self.symbols.get(&name) {
            Some(Symbol::RoaTable(family)) => Ok((Arc::clone(&name), *family)),
            Some(symbol) => {
                let message = format!("{what}: a table of ROAs expected, but '{name}' is {}", symbol.as_str());
                Err(Complaint::new(at, message))
            }
            None => {
                let complaint = Complaint::new(at, format!("{what}: unknown table '{name}'"));
                Err(complaint.with_hint("declare it before: 'roa4 table NAME;' or 'roa6 table NAME;'"))
            }
        };
        self.advance();
        found
    }

    /// `roa4 [{ ITEMS }];` up to the `;`.
    pub(super) fn roa_channel(&mut self, channels: &mut Vec<RoaChannelDraft>) -> Checked<()> {
        let at = self.here();
        let family = self.roa_family();
        let index = channels.iter().position(|c| c.family == family).unwrap_or_else(|| {
            channels.push(RoaChannelDraft {
                family,
                opened: false,
                table: None,
                preference: None,
            });
            channels.len() - 1
        });
        let Some(channel) = channels.get_mut(index) else {
            return Ok(());
        };
        if std::mem::replace(&mut channel.opened, true) {
            let message = format!("there is a channel '{}' already", family.roa_str());
            return Err(Complaint::new(at, message));
        }
        if self.eat_sign("{") {
            while !self.eat_sign("}") {
                let start = self.at;
                let item = self.roa_channel_item(channel).and_then(|()| self.end());
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

    fn roa_channel_item(&mut self, channel: &mut RoaChannelDraft) -> Checked<()> {
        let at = self.here();
        if self.eat_word("table") {
            let place = self.here();
            let (name, family) = self.roa_table_name("table")?;
            if family != channel.family {
                let (has, wanted) = (family.roa_str(), channel.family.roa_str());
                return Err(Complaint::new(
                    place,
                    format!("table '{name}' is {has}, the channel {wanted}"),
                ));
            }
            channel.table = Some(name);
        } else if self.eat_word("preference") {
            channel.preference = Some(self.short("preference", 0)?);
        } else if (self.is_word("import") || self.is_word("export")) && self.peek_at(2) == &Lexeme::Sign(";") {
            let wanted = if self.eat_word("import") {
                Policy::All
            } else {
                Policy::None
            };
            if wanted == Policy::None {
                self.advance();
            }
            if self.policy()? != wanted {
                return Err(Complaint::new(at, "ROAs are all imported and never exported"));
            }
        } else if self.is_word("import") || self.is_word("export") {
            return Err(Complaint::new(at, "filters over ROAs are not supported"));
        } else {
            return Err(self.unknown_option("a channel of ROAs", ["table", "preference"].into_iter()));
        }
        Ok(())
    }

    /// `route PREFIX max N as N`, if that is what comes next, up to the `;`.
    pub(super) fn static_roa(&mut self) -> Checked<Option<Roa>> {
        // An address, a slash and a length; as in BIRD, neither the prefix nor the numbers can be names.
        if !self.is_word_at(4, "max") {
            return Ok(None);
        }
        self.advance();
        let prefix = self.prefix("route")?;
        self.keyword("max")?;
        let at = self.here();
        let max_len = self.plain_number("max", prefix.max_len().into())?;
        let max_len = u8::try_from(max_len).unwrap_or(u8::MAX);
        self.keyword("as")?;
        let asn = Asn(self.plain_number("as", u32::MAX)?);
        let roa = Roa::new(prefix, max_len, asn).map_err(|bad| Complaint::new(at, bad.to_string()))?;
        self.end()?;
        Ok(Some(roa))
    }

    fn plain_number(&mut self, what: &str, high: u32) -> Checked<u32> {
        if !matches!(self.peek(), Lexeme::Number(_)) {
            return Err(self.unexpected(&format!("{what}: a number")));
        }
        self.number_in(what, 0..=high)
    }

    /// One option of `protocol rpki` up to its `;`; false when the words are none.
    pub(super) fn rpki_option(&mut self, rpki: &mut RpkiDraft) -> Checked<bool> {
        if self.eat_word("remote") {
            rpki.remote = Some(match self.address_next() {
                Some(_) => CacheAddress::Address(self.address("remote")?),
                None if self.text_next() => CacheAddress::named(&self.text("remote")?),
                None => return Err(self.unexpected("remote: an address, or a name in double quotes")),
            });
            if self.eat_word("port") {
                rpki.port = Some(self.short("port", 1)?);
            }
        } else if self.eat_word("port") {
            rpki.port = Some(self.short("port", 1)?);
        } else if self.is_word("refresh") {
            rpki.timers.refresh = self.cache_interval(1, 86_400)?;
        } else if self.is_word("retry") {
            rpki.timers.retry = self.cache_interval(1, 7_200)?;
        } else if self.is_word("expire") {
            rpki.timers.expire = self.cache_interval(600, 172_800)?;
        } else if self.is_word("transport") && self.is_word_at(1, "ssh") {
            let complaint = Complaint::new(self.here(), "'transport ssh' is not supported");
            return Err(complaint.with_hint("write 'transport tcp;' and reach the cache over a link that is trusted"));
        } else if self.eat_word("transport") {
            self.keyword("tcp")?;
        } else if self.eat_phrase("ignore max length") {
            rpki.ignore_max_length = self.switch("ignore max length")?;
        } else {
            return Ok(false);
        }
        self.end().map(|()| true)
    }

    /// `refresh [keep] SECONDS`.
    fn cache_interval(&mut self, low: u32, high: u32) -> Checked<Interval> {
        let word = self.word().unwrap_or_default();
        self.advance();
        let keep = self.eat_word("keep");
        let time: Duration = self.seconds(&word, low..=high)?;
        Ok(Interval { time, keep })
    }

    /// `roa_check(TABLE [, PREFIX, AS])`, behind the word.
    pub(super) fn roa_check(&mut self, at: Position) -> Checked<Expr> {
        self.sign("(")?;
        let (table, _) = self.roa_table_name("roa_check")?;
        let route = if self.eat_sign(",") {
            let prefix = self.expression()?;
            self.sign(",")?;
            Some((prefix, self.expression()?))
        } else {
            None
        };
        self.sign(")")?;
        let (expr, of_net) =
            check::roa_check(table.clone(), route, Line(at.line)).map_err(|m| Complaint::new(at, m))?;
        if let Some(scope) = self.scope.as_mut() {
            scope.roas.push(RoaUse { table, of_net });
        }
        Ok(expr)
    }
}

impl CacheAddress {
    /// A name, which may be an address in quotes.
    fn named(name: &str) -> Self {
        name.parse()
            .map_or_else(|_| CacheAddress::Name(name.to_owned()), CacheAddress::Address)
    }
}

fn finish_channel(draft: &RoaChannelDraft, preference: u16, (at, config): (Position, &Config)) -> Checked<RoaChannel> {
    let family = draft.family;
    // As in BIRD, the first table of a kind is its default.
    let first = || {
        config
            .roa_tables
            .iter()
            .find(|t| t.family == family)
            .map(|t| t.name.clone())
    };
    let table = draft.table.clone().or_else(first).ok_or_else(|| {
        let complaint = Complaint::new(at, format!("channel '{}' has no table", family.roa_str()));
        complaint.with_hint(format!("declare one: '{} table NAME;'", family.roa_str()))
    })?;
    Ok(RoaChannel {
        family,
        table,
        preference: draft.preference.unwrap_or(preference),
    })
}

/// `protocol static` with this one channel of ROAs.
pub(super) fn finish_roas(
    channel: &RoaChannelDraft,
    preference: u16,
    roas: Vec<(Roa, Position)>,
    (at, config): (Position, &Config),
) -> Checked<RoaConfig> {
    let channel = finish_channel(channel, preference, (at, config))?;
    for (roa, place) in &roas {
        if !channel.family.has(roa.prefix()) {
            let message = format!("route {roa} does not fit the channel '{}'", channel.family.roa_str());
            return Err(Complaint::new(*place, message));
        }
    }
    Ok(RoaConfig {
        channel,
        roas: roas.into_iter().map(|(roa, _)| roa).collect(),
    })
}

impl RpkiDraft {
    pub(super) fn finish(self, channels: &[RoaChannelDraft], (at, config): (Position, &Config)) -> Checked<RpkiConfig> {
        let remote = self.remote.ok_or_else(|| {
            let complaint = Complaint::new(at, "protocol rpki has no cache");
            complaint.with_hint("write 'remote ADDRESS;' or 'remote \"NAME\";' in it")
        })?;
        if channels.is_empty() {
            let complaint = Complaint::new(at, "protocol rpki has no channel");
            return Err(complaint.with_hint("write 'roa4 { table NAME; };' or 'roa6 { table NAME; };' in it"));
        }
        let channels = channels
            .iter()
            .map(|c| finish_channel(c, PREFERENCE_RPKI, (at, config)));
        Ok(RpkiConfig {
            channels: channels.collect::<Checked<_>>()?,
            remote,
            port: self.port.unwrap_or(DEFAULT_CACHE_PORT),
            timers: self.timers,
            ignore_max_length: self.ignore_max_length,
        })
    }
}
