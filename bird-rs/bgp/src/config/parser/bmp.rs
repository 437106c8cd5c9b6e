//! `protocol bmp`, in the grammar of BIRD 2 built with BMP.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::bmp::BmpConfig;
use super::super::diagnostic::{Checked, Complaint, Position};
use super::Parser;

/// Room for the changes of a few seconds of a full table. BIRD's default is 1024, which is more memory than most nodes
/// have to spare; a station that falls behind so far is better served by beginning anew.
const DEFAULT_TX_BUFFER_LIMIT: u32 = 64;
const MAX_TX_BUFFER_LIMIT: u32 = 4096;
/// What the length field of an information TLV can say.
const MAX_TEXT: usize = 65_535;

/// `protocol bmp` while its options may still change.
#[derive(Debug, Clone, Default)]
pub(super) struct BmpDraft {
    station: Option<SocketAddr>,
    pre_policy: bool,
    post_policy: bool,
    tx_buffer_limit: Option<u32>,
    statistics_period: Duration,
    system_name: Option<String>,
    system_description: Option<String>,
}

pub(super) const OPTIONS: [&str; 7] = [
    "station address ip",
    "monitoring rib in pre_policy",
    "monitoring rib in post_policy",
    "tx buffer limit",
    "statistics period",
    "system name",
    "system description",
];

impl Parser {
    pub(super) fn bmp_option(&mut self, draft: &mut BmpDraft) -> Checked<bool> {
        if self.eat_phrase("station address ip") {
            let address = self.address("station address")?;
            if !self.eat_word("port") {
                return Err(self.unexpected("station address: 'port'"));
            }
            let port = self.number_in("port", 1..=u32::from(u16::MAX))?;
            let port = u16::try_from(port).unwrap_or(u16::MAX);
            draft.station = Some(SocketAddr::new(address, port));
        } else if self.eat_phrase("monitoring rib in pre_policy") {
            draft.pre_policy = self.switch("monitoring rib in pre_policy")?;
        } else if self.eat_phrase("monitoring rib in post_policy") {
            draft.post_policy = self.switch("monitoring rib in post_policy")?;
        } else if self.eat_phrase("tx buffer limit") {
            draft.tx_buffer_limit = Some(self.number_in("tx buffer limit", 1..=MAX_TX_BUFFER_LIMIT)?);
        } else if self.eat_phrase("statistics period") {
            draft.statistics_period = self.seconds("statistics period", 0..=u32::MAX)?;
        } else if self.eat_phrase("system name") {
            draft.system_name = Some(self.system_text("system name")?);
        } else if self.eat_phrase("system description") {
            draft.system_description = Some(self.system_text("system description")?);
        } else {
            return Ok(false);
        }
        self.end().map(|()| true)
    }

    fn system_text(&mut self, what: &str) -> Checked<String> {
        let at = self.here();
        let text = self.text(what)?;
        if text.len() > MAX_TEXT {
            return Err(Complaint::new(at, format!("{what}: more than {MAX_TEXT} octets")));
        }
        Ok(text.as_ref().to_owned())
    }
}

impl BmpDraft {
    pub(super) fn finish(self, at: Position) -> Checked<BmpConfig> {
        let station = self.station.ok_or_else(|| {
            let complaint = Complaint::new(at, "protocol bmp has no 'station address'");
            complaint.with_hint("write 'station address ip ADDRESS port N;'")
        })?;
        Ok(BmpConfig {
            station,
            pre_policy: self.pre_policy,
            post_policy: self.post_policy,
            tx_buffer_limit: self.tx_buffer_limit.unwrap_or(DEFAULT_TX_BUFFER_LIMIT),
            statistics_period: self.statistics_period,
            system_name: self.system_name,
            system_description: self.system_description,
        })
    }
}
