//! Tables of ROAs, and the protocols that fill them: `protocol static` with a channel of ROAs, and `protocol rpki`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::ChannelFamily;
use super::diff::{Action, Verdict, Worst};
use crate::filter::write_name;
use crate::roa::Roa;
use crate::rtr::{Interval, Timers};

/// The port of a cache without transport security (RFC 8210 section 9).
pub(super) const DEFAULT_CACHE_PORT: u16 = 323;

/// BIRD's default preference of ROAs that a cache told.
pub(super) const PREFERENCE_RPKI: u16 = 100;

/// `roa4 table NAME;`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoaTable {
    /// Its name, unique among tables.
    pub name: Arc<str>,
    /// Of which routes its ROAs are.
    pub family: ChannelFamily,
}

/// A channel of ROAs. All are imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoaChannel {
    /// Of which routes the ROAs are.
    pub family: ChannelFamily,
    /// The table of ROAs that it feeds.
    pub table: Arc<str>,
    /// `preference`: whose ROA is shown first. Defaults: static 200, rpki 100.
    pub preference: u16,
}

/// `protocol static` with a channel of ROAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoaConfig {
    /// The one channel.
    pub channel: RoaChannel,
    /// `route PREFIX max N as N;`, in order.
    pub roas: Vec<Roa>,
}

/// `protocol rpki`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpkiConfig {
    /// At most one for each family, at least one.
    pub channels: Vec<RoaChannel>,
    /// The cache.
    pub remote: CacheAddress,
    /// Its port.
    pub port: u16,
    /// `refresh`, `retry` and `expire`.
    pub timers: Timers,
    /// `ignore max length`: ROAs allow parts of their prefixes however long.
    pub ignore_max_length: bool,
}

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheAddress {
    /// At this address.
    Address(IpAddr),
    /// At the address of this name, which is looked up for each connection.
    Name(String),
}

impl fmt::Display for CacheAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheAddress::Address(address) => address.fmt(f),
            CacheAddress::Name(name) => f.write_str(name),
        }
    }
}

impl ChannelFamily {
    /// `"roa4"` or `"roa6"`: the keyword of the ROAs of this family.
    pub fn roa_str(self) -> &'static str {
        match self {
            ChannelFamily::Ipv4 => "roa4",
            ChannelFamily::Ipv6 => "roa6",
        }
    }
}

pub(super) fn diff_roas(old: &RoaConfig, new: &RoaConfig) -> Verdict {
    Worst(None)
        .when(old.channel != new.channel, Action::Restart, "channel")
        .when(old.roas != new.roas, Action::InPlace, "route")
        .0
}

pub(super) fn diff_rpki(old: &RpkiConfig, new: &RpkiConfig) -> Verdict {
    Worst(None)
        .when(old.channels != new.channels, Action::Restart, "channel")
        .when(
            (&old.remote, old.port) != (&new.remote, new.port),
            Action::Restart,
            "remote",
        )
        .when(
            old.ignore_max_length != new.ignore_max_length,
            Action::Restart,
            "ignore max length",
        )
        .when(old.timers != new.timers, Action::InPlace, "timers")
        .0
}

pub(super) fn write_roas(f: &mut fmt::Formatter<'_>, config: &RoaConfig) -> fmt::Result {
    write_channel(f, &config.channel)?;
    for roa in &config.roas {
        writeln!(f, "  route {} max {} as {};", roa.prefix(), roa.max_len(), roa.asn())?;
    }
    Ok(())
}

pub(super) fn write_rpki(f: &mut fmt::Formatter<'_>, config: &RpkiConfig) -> fmt::Result {
    config
        .channels
        .iter()
        .try_for_each(|channel| write_channel(f, channel))?;
    match &config.remote {
        CacheAddress::Address(address) => write!(f, "  remote {address}")?,
        CacheAddress::Name(name) => write!(f, "  remote \"{name}\"")?,
    }
    writeln!(f, " port {};", config.port)?;
    for (word, Interval { time, keep }) in [
        ("refresh", config.timers.refresh),
        ("retry", config.timers.retry),
        ("expire", config.timers.expire),
    ] {
        writeln!(f, "  {word}{} {};", if keep { " keep" } else { "" }, time.as_secs())?;
    }
    f.write_str(if config.ignore_max_length {
        "  ignore max length on;\n"
    } else {
        ""
    })
}

fn write_channel(f: &mut fmt::Formatter<'_>, channel: &RoaChannel) -> fmt::Result {
    write!(f, "  {} {{ table ", channel.family.roa_str())?;
    write_name(f, &channel.table)?;
    writeln!(f, "; preference {}; }};", channel.preference)
}
