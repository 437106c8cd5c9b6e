//! `protocol bmp`: what peers tell us, shown to a monitoring station (RFC 7854).

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::diff::{Action, Verdict, Worst};

/// `protocol bmp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BmpConfig {
    /// `station address ip ADDRESS port N`: where to connect to.
    pub station: SocketAddr,
    /// `monitoring rib in pre_policy`: routes as the peers told them.
    pub pre_policy: bool,
    /// `monitoring rib in post_policy`: routes that the import policy accepted, as it changed them.
    pub post_policy: bool,
    /// `tx buffer limit`: MiB that may wait for the station, 1 to 4096.
    pub tx_buffer_limit: u32,
    /// `statistics period`: between two reports; zero for none.
    pub statistics_period: Duration,
    /// `system name`: what the station is told that we are called; none for the host's name.
    pub system_name: Option<String>,
    /// `system description`: what we are; none for the program's name and version.
    pub system_description: Option<String>,
}

impl BmpConfig {
    /// `tx buffer limit` in octets.
    pub fn limit_octets(&self) -> usize {
        usize::try_from(u64::from(self.tx_buffer_limit) << 20).unwrap_or(usize::MAX)
    }
}

pub(super) fn write_bmp(f: &mut fmt::Formatter<'_>, bmp: &BmpConfig) -> fmt::Result {
    writeln!(
        f,
        "  station address ip {} port {};",
        bmp.station.ip(),
        bmp.station.port()
    )?;
    for (view, on) in [("pre_policy", bmp.pre_policy), ("post_policy", bmp.post_policy)] {
        writeln!(f, "  monitoring rib in {view} {};", if on { "on" } else { "off" })?;
    }
    writeln!(f, "  tx buffer limit {};", bmp.tx_buffer_limit)?;
    writeln!(f, "  statistics period {};", bmp.statistics_period.as_secs())?;
    for (what, text) in [("name", &bmp.system_name), ("description", &bmp.system_description)] {
        if let Some(text) = text {
            writeln!(f, "  system {what} \"{text}\";")?;
        }
    }
    Ok(())
}

/// The station has to begin anew whatever it is: all of this was said at the begin of the session, or shapes its queue.
pub(super) fn diff_bmp(old: &BmpConfig, new: &BmpConfig) -> Verdict {
    Worst(None)
        .when(old.station != new.station, Action::Restart, "station address")
        .when(
            (old.pre_policy, old.post_policy) != (new.pre_policy, new.post_policy),
            Action::Restart,
            "monitoring rib",
        )
        .when(
            old.tx_buffer_limit != new.tx_buffer_limit,
            Action::Restart,
            "tx buffer limit",
        )
        .when(
            old.statistics_period != new.statistics_period,
            Action::Restart,
            "statistics period",
        )
        .when(old.system_name != new.system_name, Action::Restart, "system name")
        .when(
            old.system_description != new.system_description,
            Action::Restart,
            "system description",
        )
        .0
}
