//! `protocol bfd`, and `bfd` of `protocol bgp`.

use std::time::Duration;

use super::super::diagnostic::{Checked, Complaint};
use super::super::{BfdConfig, BfdNeighbor, BfdOptions, BfdUsage, BgpBfd, ChannelFamily, ProtocolKind};
use super::Parser;

/// What may be said in the block of `protocol bfd`.
pub(super) const OPTIONS: [&str; 4] = ["accept", "interface", "multihop", "neighbor"];

const SESSION_OPTIONS: &str =
    "'interval', 'min rx interval', 'min tx interval', 'idle tx interval', 'multiplier', 'passive'";

impl Parser {
    /// One option of `protocol bfd` up to its `;`; false when the words are none.
    pub(super) fn bfd_option(&mut self, bfd: &mut BfdConfig) -> Checked<bool> {
        if self.eat_word("accept") {
            self.bfd_accept(bfd)?;
        } else if self.eat_word("interface") {
            let mut patterns = vec![self.interface_pattern()?];
            while self.eat_sign(",") {
                patterns.push(self.interface_pattern()?);
            }
            let options = self.bfd_block()?;
            bfd.interfaces.push((patterns, options));
        } else if self.eat_word("multihop") {
            bfd.multihop = self.bfd_block()?.or(bfd.multihop);
        } else if self.eat_word("neighbor") {
            let neighbor = self.bfd_neighbor()?;
            bfd.neighbors.push(neighbor);
        } else {
            return Ok(false);
        }
        self.end().map(|()| true)
    }

    /// `[ipv4|ipv6] [direct|multihop]`; what is not said is accepted.
    fn bfd_accept(&mut self, bfd: &mut BfdConfig) -> Checked<()> {
        let at = self.here();
        (bfd.family, bfd.accept_multihop) = (None, None);
        while !self.is_sign(";") {
            let family = [("ipv4", ChannelFamily::Ipv4), ("ipv6", ChannelFamily::Ipv6)];
            let again = if let Some((_, family)) = family.into_iter().find(|(word, _)| self.is_word(word)) {
                bfd.family.replace(family).is_some()
            } else if self.is_word("direct") || self.is_word("multihop") {
                bfd.accept_multihop.replace(self.is_word("multihop")).is_some()
            } else {
                return Err(self.unexpected("accept: 'ipv4', 'ipv6', 'direct', 'multihop' or ';'"));
            };
            if again {
                return Err(Complaint::new(at, "accept: at most one family and one distance"));
            }
            self.advance();
        }
        Ok(())
    }

    /// `ADDRESS[%IFACE] [dev "NAME"] [local ADDRESS] [multihop [SWITCH]]`.
    fn bfd_neighbor(&mut self) -> Checked<BfdNeighbor> {
        let at = self.here();
        let address = self.address("neighbor")?;
        let mut neighbor = BfdNeighbor {
            address,
            interface: self.address_scope()?,
            local: None,
            multihop: false,
        };
        while !self.is_sign(";") {
            if self.eat_word("dev") {
                neighbor.interface = Some(self.text("dev")?.as_ref().to_owned());
            } else if self.eat_word("local") {
                neighbor.local = Some(self.address("local")?);
            } else if self.eat_word("multihop") {
                neighbor.multihop = self.switch("multihop")?;
            } else {
                return Err(self.unexpected("'dev', 'local', 'multihop' or ';'"));
            }
        }
        let problem = if neighbor.local.is_some_and(|local| local.is_ipv4() != address.is_ipv4()) {
            "the local address is of another family"
        } else if neighbor.multihop && neighbor.local.is_none() {
            "a 'multihop' neighbor needs a 'local' address"
        } else if neighbor.multihop && neighbor.interface.is_some() {
            "a 'multihop' neighbor has no interface"
        } else {
            return Ok(neighbor);
        };
        Err(Complaint::new(at, format!("neighbor {address}: {problem}")))
    }

    /// `bfd` of `protocol bgp`, behind the keyword: `[SWITCH|graceful|strict|{ OPTIONS }]`.
    pub(super) fn bgp_bfd(&mut self) -> Checked<BgpBfd> {
        let mut bfd = BgpBfd {
            usage: BfdUsage::On,
            ..BgpBfd::default()
        };
        if self.is_sign("{") {
            self.sign("{")?;
            while !self.eat_sign("}") {
                self.bgp_bfd_item(&mut bfd)?;
                self.end()?;
            }
        } else if !self.bgp_bfd_word(&mut bfd) {
            let on = self.switch("bfd")?;
            bfd.usage = if on { BfdUsage::On } else { BfdUsage::Off };
        }
        Ok(bfd)
    }

    /// `strict` without a protocol bfd that accepts the session: BGP would wait for ever.
    pub(super) fn check_strict_bfd(&mut self) {
        for (at, name) in std::mem::take(&mut self.bfd_users) {
            let protocol = self.config.protocol(&name);
            let Some(ProtocolKind::Bgp(bgp)) = protocol.map(|protocol| &protocol.kind) else {
                continue;
            };
            if bgp.bfd.strict && !self.config.watches(bgp) {
                let message = format!("{name}: 'bfd strict', and no protocol bfd accepts the session");
                let hint = "it would never come up: write 'protocol bfd { }', or leave 'strict' out";
                self.complain(Complaint::new(at, message).with_hint(hint));
            }
        }
    }

    fn bgp_bfd_word(&mut self, bfd: &mut BgpBfd) -> bool {
        if self.eat_word("graceful") {
            bfd.usage = BfdUsage::Graceful;
        } else if self.eat_word("strict") {
            bfd.strict = true;
        } else {
            return false;
        }
        true
    }

    fn bgp_bfd_item(&mut self, bfd: &mut BgpBfd) -> Checked<()> {
        if self.is_sign(";") || self.bgp_bfd_word(bfd) || self.bfd_item(&mut bfd.options)? {
            return Ok(());
        }
        Err(self.unexpected(&format!("bfd: 'graceful', 'strict', {SESSION_OPTIONS} or '}}'")))
    }

    /// `[{ OPTIONS }]` of sessions.
    fn bfd_block(&mut self) -> Checked<BfdOptions> {
        let mut options = BfdOptions::default();
        if self.eat_sign("{") {
            while !self.eat_sign("}") {
                if !self.is_sign(";") && !self.bfd_item(&mut options)? {
                    return Err(self.unexpected(&format!("{SESSION_OPTIONS} or '}}'")));
                }
                self.end()?;
            }
        }
        Ok(options)
    }

    fn bfd_item(&mut self, options: &mut BfdOptions) -> Checked<bool> {
        if self.eat_word("interval") {
            let time = self.bfd_interval("interval")?;
            (options.min_rx, options.min_tx) = (Some(time), Some(time));
        } else if self.eat_phrase("min rx interval") {
            options.min_rx = Some(self.bfd_interval("min rx interval")?);
        } else if self.eat_phrase("min tx interval") {
            options.min_tx = Some(self.bfd_interval("min tx interval")?);
        } else if self.eat_phrase("idle tx interval") {
            options.idle_tx = Some(self.bfd_interval("idle tx interval")?);
        } else if self.eat_word("multiplier") {
            let number = self.number_in("multiplier", 1..=255)?;
            options.multiplier = Some(u8::try_from(number).unwrap_or(u8::MAX));
        } else if self.eat_word("passive") {
            options.passive = Some(self.switch("passive")?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// A time that a packet can say: whole microseconds of 32 bits, and not zero.
    fn bfd_interval(&mut self, what: &str) -> Checked<Duration> {
        let at = self.here();
        let time = self.interval(what)?;
        if time.is_zero() || u32::try_from(time.as_micros()).is_err() {
            return Err(Complaint::new(at, format!("{what}: 1 us to {} us expected", u32::MAX)));
        }
        Ok(time)
    }
}
