//! UPDATE: from octets to [`ParsedUpdate`] (what was there) to [`Update`] (what it means), by RFC 7606.

use std::net::Ipv6Addr;

use super::attributes::{self, AS_PATH, Decoded, EXTENDED_LENGTH, MP_REACH, MP_UNREACH, NEXT_HOP, ORIGIN, Spec};
use super::notification::{ErrorCode, Notification};
use super::wire::Reader;
use super::{AfiSafi, Fault, FaultReason, Reach, SessionContext, Update, Verdict, nlri};
use crate::attr::{NextHop, Partial, UnknownAttribute};

const MALFORMED_ATTRIBUTE_LIST: u8 = 1;
const UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE: u8 = 2;
const OPTIONAL_ATTRIBUTE_ERROR: u8 = 9;
const INVALID_NETWORK_FIELD: u8 = 10;

/// What of a wrong attribute is sent back. It fits into every message.
const MAX_QUOTED: usize = 1024;

/// More faults than this in one message are counted into none: the log need not repeat them.
const MAX_FAULTS: usize = 16;

/// An UPDATE cut into its fields, none of them judged.
struct ParsedUpdate<'a> {
    withdrawn: &'a [u8],
    attributes: Vec<RawAttribute<'a>>,
    /// The last attribute ran beyond the list.
    overrun: bool,
    nlri: &'a [u8],
}

pub(super) struct RawAttribute<'a> {
    pub(super) flags: u8,
    pub(super) code: u8,
    pub(super) value: &'a [u8],
}

/// Decodes the body of an UPDATE.
pub(super) fn decode(body: &[u8], context: &SessionContext) -> Result<Update, Notification> {
    let parsed = parse(body).ok_or_else(|| error(MALFORMED_ATTRIBUTE_LIST))?;
    Validation::new(context).run(&parsed)
}

fn error(subcode: u8) -> Notification {
    Notification::new(ErrorCode::Update, subcode)
}

fn parse(body: &[u8]) -> Option<ParsedUpdate<'_>> {
    let mut reader = Reader::new(body);
    let length = reader.u16()?;
    let withdrawn = reader.take(usize::from(length))?;
    let length = reader.u16()?;
    let mut list = Reader::new(reader.take(usize::from(length))?);
    let mut attributes = Vec::new();
    let mut overrun = false;
    while !list.is_empty() {
        match parse_attribute(&mut list) {
            Some(attribute) => attributes.push(attribute),
            None => {
                overrun = true;
                break;
            }
        }
    }
    Some(ParsedUpdate {
        withdrawn,
        attributes,
        overrun,
        nlri: reader.rest(),
    })
}

pub(super) fn parse_attribute<'a>(list: &mut Reader<'a>) -> Option<RawAttribute<'a>> {
    let (flags, code) = (list.u8()?, list.u8()?);
    let length = if flags & EXTENDED_LENGTH != 0 {
        list.u16()?
    } else {
        u16::from(list.u8()?)
    };
    Some(RawAttribute {
        flags,
        code,
        value: list.take(usize::from(length))?,
    })
}

/// The judgement of one UPDATE in progress.
struct Validation<'c> {
    context: &'c SessionContext,
    decoded: Decoded,
    update: Update,
    /// MP_REACH_NLRI's, or the message's own.
    announced: Vec<Reach>,
    unknown: Vec<UnknownAttribute>,
    seen: [u64; 4],
    /// Something was wrong enough for the routes to count as withdrawn.
    withdraw: bool,
    /// The message announces routes, whatever becomes of them.
    reachable: bool,
}

impl<'c> Validation<'c> {
    fn new(context: &'c SessionContext) -> Self {
        Validation {
            context,
            decoded: Decoded::default(),
            update: Update::default(),
            announced: Vec::new(),
            unknown: Vec::new(),
            seen: [0; 4],
            withdraw: false,
            reachable: false,
        }
    }

    fn run(mut self, parsed: &ParsedUpdate<'_>) -> Result<Update, Notification> {
        for attribute in &parsed.attributes {
            let repeated = !self.see(attribute.code);
            match attribute.code {
                MP_REACH | MP_UNREACH if repeated => return Err(error(MALFORMED_ATTRIBUTE_LIST)),
                MP_REACH => self.mp_reach(attribute)?,
                MP_UNREACH => self.mp_unreach(attribute, parsed)?,
                code if repeated => self.fault(code, FaultReason::Duplicate, Verdict::DiscardAttribute),
                _ => self.attribute(attribute)?,
            }
        }
        if parsed.overrun {
            self.fault(0, FaultReason::Overrun, Verdict::TreatAsWithdraw);
        }
        attributes::merge_as4(&mut self.decoded);
        self.classic(parsed)?;
        self.mandatory();
        // An error that costs routes, and no routes: they are hidden by the error (RFC 7606 section 5.2).
        let only_withdraws = !parsed.overrun && parsed.attributes.iter().all(|other| other.code == MP_UNREACH);
        if self.withdraw && !self.reachable && !only_withdraws {
            return Err(error(MALFORMED_ATTRIBUTE_LIST));
        }
        Ok(self.finish())
    }

    /// Marks a code as seen; `false` when it was already.
    fn see(&mut self, code: u8) -> bool {
        let bit = 1 << (code % 64);
        match self.seen.get_mut(usize::from(code / 64)) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    fn has(&self, code: u8) -> bool {
        self.seen
            .get(usize::from(code / 64))
            .is_some_and(|word| word & (1 << (code % 64)) != 0)
    }

    fn fault(&mut self, code: u8, reason: FaultReason, verdict: Verdict) {
        self.withdraw |= verdict == Verdict::TreatAsWithdraw;
        if self.update.faults.len() < MAX_FAULTS {
            self.update.faults.push(Fault { code, reason, verdict });
        }
    }

    fn wrong_flags(&mut self, attribute: &RawAttribute<'_>, wanted: u8) -> bool {
        let wrong = attribute.flags & (attributes::OPTIONAL | attributes::TRANSITIVE) != wanted;
        if wrong {
            self.fault(attribute.code, FaultReason::Flags, Verdict::TreatAsWithdraw);
        }
        wrong
    }

    fn attribute(&mut self, attribute: &RawAttribute<'_>) -> Result<(), Notification> {
        let code = attribute.code;
        let Some(spec) = Spec::of(code) else {
            return self.unknown(attribute);
        };
        let allowed = code == attributes::LOCAL_PREF && self.context.local_pref;
        if spec.internal && self.context.ebgp && !allowed {
            self.fault(code, FaultReason::WrongSession, Verdict::DiscardAttribute);
            return Ok(());
        }
        if self.wrong_flags(attribute, spec.flags) {
            return Ok(());
        }
        match (spec.decode)(attribute.value, self.context, &mut self.decoded) {
            Err(reason) => self.fault(code, reason, spec.malformed),
            // We are in no confederation, so no neighbour is in ours (RFC 5065 section 5).
            Ok(()) if code == AS_PATH && self.decoded.attributes.as_path.is_confederate() => {
                self.fault(code, FaultReason::Value, spec.malformed);
            }
            Ok(()) if attribute.flags & attributes::PARTIAL != 0 => {
                let partial = Partial::of(code);
                partial
                    .into_iter()
                    .for_each(|one| self.decoded.attributes.partial.insert(one));
            }
            Ok(()) => {}
        }
        Ok(())
    }

    /// What we do not know is passed on if it is transitive, dropped if not. It cannot be well-known: that still ends the
    /// session (RFC 4271 section 6.3, which RFC 7606 leaves as it is).
    fn unknown(&mut self, attribute: &RawAttribute<'_>) -> Result<(), Notification> {
        let RawAttribute { flags, code, value } = *attribute;
        if flags & attributes::OPTIONAL == 0 {
            return Err(error(UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE).with_data(quoted(attribute)));
        }
        if flags & attributes::TRANSITIVE != 0 {
            let partial = flags & attributes::PARTIAL != 0;
            self.unknown.push(UnknownAttribute {
                code,
                partial,
                value: value.into(),
            });
        }
        Ok(())
    }

    fn mp_reach(&mut self, attribute: &RawAttribute<'_>) -> Result<(), Notification> {
        let mut reader = Reader::new(attribute.value);
        let fields = (reader.u16(), reader.u8(), reader.u8());
        let (Some(afi), Some(safi), Some(length)) = fields else {
            return Err(error(OPTIONAL_ATTRIBUTE_ERROR));
        };
        let Some(family) = self.negotiated(afi, safi) else {
            self.reachable = true;
            self.fault(MP_REACH, FaultReason::WrongSession, Verdict::DiscardAttribute);
            return Ok(());
        };
        let (next_hop, reserved) = (reader.take(usize::from(length)), reader.u8());
        let (Some(next_hop), Some(_)) = (next_hop, reserved) else {
            return Err(error(OPTIONAL_ATTRIBUTE_ERROR));
        };
        // A next hop of impossible length makes it impossible to be sure where the NLRI begin (RFC 7606 section 7.11).
        let next_hop = self
            .mp_next_hop(next_hop, family)
            .ok_or_else(|| error(OPTIONAL_ATTRIBUTE_ERROR))?;
        let add_path = self.context.add_path_rx.contains(family);
        let nlri = nlri::decode(reader.rest(), family, add_path).ok_or_else(|| error(OPTIONAL_ATTRIBUTE_ERROR))?;
        self.wrong_flags(attribute, attributes::OPTIONAL);
        if !is_router(next_hop) {
            self.fault(MP_REACH, FaultReason::Value, Verdict::TreatAsWithdraw);
        }
        if !nlri.is_empty() {
            self.reachable = true;
            self.announced.push(Reach { family, next_hop, nlri });
        }
        Ok(())
    }

    fn negotiated(&self, afi: u16, safi: u8) -> Option<AfiSafi> {
        AfiSafi::from_codes(afi, safi).filter(|&family| self.context.families.contains(family))
    }

    /// By its length: 4, 16, or 32 octets. `None` when the family cannot have a next hop of this length.
    fn mp_next_hop(&self, bytes: &[u8], family: AfiSafi) -> Option<NextHop> {
        let mut reader = Reader::new(bytes);
        let v6_allowed = family == AfiSafi::Ipv6Unicast || self.context.ext_next_hop;
        match bytes.len() {
            4 if family == AfiSafi::Ipv4Unicast => Some(NextHop::V4(reader.u32()?.into())),
            16 if v6_allowed => Some(NextHop::V6 {
                global: Ipv6Addr::from_bits(reader.u128()?),
                link_local: None,
            }),
            32 if v6_allowed => {
                let first = Ipv6Addr::from_bits(reader.u128()?);
                let second = Some(Ipv6Addr::from_bits(reader.u128()?)).filter(Ipv6Addr::is_unicast_link_local);
                // BIRD sends the unspecified address in place of a global one it does not have.
                let global = if first.is_unspecified() {
                    second.unwrap_or(first)
                } else {
                    first
                };
                Some(NextHop::V6 {
                    global,
                    link_local: second,
                })
            }
            _ => None,
        }
    }

    fn mp_unreach(&mut self, attribute: &RawAttribute<'_>, parsed: &ParsedUpdate<'_>) -> Result<(), Notification> {
        let mut reader = Reader::new(attribute.value);
        let (Some(afi), Some(safi)) = (reader.u16(), reader.u8()) else {
            return Err(error(OPTIONAL_ATTRIBUTE_ERROR));
        };
        let Some(family) = self.negotiated(afi, safi) else {
            self.fault(MP_UNREACH, FaultReason::WrongSession, Verdict::DiscardAttribute);
            return Ok(());
        };
        let add_path = self.context.add_path_rx.contains(family);
        let nlri = nlri::decode(reader.rest(), family, add_path).ok_or_else(|| error(OPTIONAL_ATTRIBUTE_ERROR))?;
        self.wrong_flags(attribute, attributes::OPTIONAL);
        let alone = parsed.attributes.len() == 1 && parsed.withdrawn.is_empty() && parsed.nlri.is_empty();
        if nlri.is_empty() && alone && !parsed.overrun {
            self.update.end_of_rib = Some(family);
        }
        self.update.withdrawn.extend(nlri);
        Ok(())
    }

    /// The message's own two fields of IPv4 prefixes.
    fn classic(&mut self, parsed: &ParsedUpdate<'_>) -> Result<(), Notification> {
        let family = AfiSafi::Ipv4Unicast;
        let add_path = self.context.add_path_rx.contains(family);
        let read = |bytes| nlri::decode(bytes, family, add_path).ok_or_else(|| error(INVALID_NETWORK_FIELD));
        let (withdrawn, announced) = (read(parsed.withdrawn)?, read(parsed.nlri)?);
        self.reachable |= !announced.is_empty();
        if parsed.attributes.is_empty() && !parsed.overrun && withdrawn.is_empty() && announced.is_empty() {
            self.update.end_of_rib = Some(family);
        }
        if !self.context.families.contains(family) {
            if !withdrawn.is_empty() || !announced.is_empty() {
                self.fault(NEXT_HOP, FaultReason::WrongSession, Verdict::DiscardAttribute);
            }
            self.update.end_of_rib = self.update.end_of_rib.filter(|&other| other != family);
            return Ok(());
        }
        self.update.withdrawn.extend(withdrawn);
        if announced.is_empty() {
            return Ok(());
        }
        match self.decoded.attributes.next_hop {
            Some(next_hop) => {
                // Senders must not, but receivers must expect it (RFC 7606 section 5.1): MP_REACH_NLRI may have IPv4 too.
                self.announced.push(Reach {
                    family,
                    next_hop,
                    nlri: announced,
                });
            }
            None => {
                if !self.has(NEXT_HOP) {
                    self.fault(NEXT_HOP, FaultReason::Missing, Verdict::TreatAsWithdraw);
                }
                self.update.withdrawn.extend(announced);
            }
        }
        Ok(())
    }

    fn mandatory(&mut self) {
        if self.announced.is_empty() {
            return;
        }
        for code in [ORIGIN, AS_PATH] {
            if !self.has(code) {
                self.fault(code, FaultReason::Missing, Verdict::TreatAsWithdraw);
            }
        }
    }

    fn finish(self) -> Update {
        let mut update = self.update;
        if self.withdraw {
            let announced = self.announced.into_iter().flat_map(|reach| reach.nlri);
            update.withdrawn.extend(announced);
            return update;
        }
        if self.announced.is_empty() {
            return update;
        }
        let mut unknown = self.unknown;
        unknown.sort_unstable();
        update.attributes = self.decoded.attributes;
        update.attributes.next_hop = None;
        update.attributes.unknown = unknown.into();
        update.reach = self.announced;
        update
    }
}

/// An attribute as it was received, or its begin.
fn quoted(attribute: &RawAttribute<'_>) -> Vec<u8> {
    let length = u16::try_from(attribute.value.len()).unwrap_or(u16::MAX).to_be_bytes();
    let length = if attribute.flags & EXTENDED_LENGTH != 0 {
        &length[..]
    } else {
        &length[1..]
    };
    let head = [attribute.flags, attribute.code]
        .into_iter()
        .chain(length.iter().copied());
    head.chain(attribute.value.iter().copied()).take(MAX_QUOTED).collect()
}

/// Can a router have this address? An IPv4-mapped one is an IPv4 address in a program's memory and must not be on the
/// wire (RFC 4291 section 2.5.5.2; it names a next hop only with labels, RFC 4798): no packet can be sent to it.
fn is_router(next_hop: NextHop) -> bool {
    match next_hop {
        NextHop::V4(addr) => attributes::is_router_v4(addr),
        NextHop::V6 { global, .. } => {
            let no_host = global.is_unspecified() || global.is_loopback() || global.is_multicast();
            !no_host && global.to_ipv4_mapped().is_none()
        }
    }
}
