//! `route` of `protocol static`.

use super::super::diagnostic::{Checked, Complaint};
use super::super::{StaticDestination, StaticHop, StaticRoute};
use super::Parser;

/// Linux' limit of a next hop's weight.
const MAX_WEIGHT: u32 = 256;

impl Parser {
    /// `route PREFIX DESTINATION [{ STATEMENTS }]`, up to the `;`.
    pub(super) fn static_route(&mut self) -> Checked<StaticRoute> {
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
        if self.eat_word("blackhole") {
            return Ok(StaticDestination::Blackhole);
        }
        if self.eat_word("unreachable") {
            return Ok(StaticDestination::Unreachable);
        }
        if self.eat_word("prohibit") {
            return Ok(StaticDestination::Prohibit);
        }
        if self.eat_word("recursive") {
            return self.address("recursive").map(StaticDestination::Recursive);
        }
        for (old, new) in [("drop", "blackhole"), ("reject", "unreachable")] {
            if self.is_word(old) {
                let complaint = Complaint::new(self.here(), format!("'{old}' is BIRD 1's word"));
                return Err(complaint.with_hint(format!("write '{new}'")));
            }
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
            }
        };
        loop {
            if self.eat_word("weight") {
                let weight = self.number_in("weight", 1..=MAX_WEIGHT)?;
                hop.weight = u16::try_from(weight).unwrap_or(1);
            } else if self.eat_word("onlink") {
                // Within `via` the switch may be left out before anything that can follow.
                hop.onlink = if self.is_word("via") || self.is_word("weight") || self.is_sign("{") {
                    true
                } else {
                    self.switch("onlink")?
                };
            } else if self.is_word("bfd") || self.is_word("mpls") {
                return Err(self.unknown_option("a static route", ["weight", "onlink"].into_iter()));
            } else {
                return Ok(hop);
            }
        }
    }
}
