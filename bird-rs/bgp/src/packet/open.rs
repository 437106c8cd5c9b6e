//! OPEN and its capabilities (RFC 4271 section 4.2, 5492, 9072, and those of each capability).

use tortie_net::{Asn, RouterId};

use super::notification::{ErrorCode, Notification};
use super::wire::Reader;
use super::{AddPathMode, Capability, GracefulRestart, GracefulRestartFamily, LongLivedFamily, Open, Role};

const UNSUPPORTED_VERSION: u8 = 1;
const BAD_PEER_AS: u8 = 2;
const BAD_IDENTIFIER: u8 = 3;
const UNSUPPORTED_PARAMETER: u8 = 4;
const UNACCEPTABLE_HOLD_TIME: u8 = 6;

const PARAMETER_CAPABILITIES: u8 = 2;
/// In place of a parameter type: the lengths have two octets (RFC 9072).
const EXTENDED_LENGTH: u8 = 255;

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_NEXT_HOP: u8 = 5;
const EXTENDED_MESSAGE: u8 = 6;
const ROLE: u8 = Capability::ROLE;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;
const ADD_PATH: u8 = 69;
const ENHANCED_ROUTE_REFRESH: u8 = 70;
const LONG_LIVED_GRACEFUL_RESTART: u8 = 71;
const HOSTNAME: u8 = 73;

const GR_RESTARTING: u16 = 0x8000;
const GR_NOTIFICATION: u16 = 0x4000;
const GR_TIME: u16 = 0x0fff;
const GR_FORWARDING: u8 = 0x80;
/// Seconds, in 24 bits (RFC 9494 section 3).
const MAX_STALE_TIME: u32 = 0xff_ffff;

fn error(subcode: u8) -> Notification {
    Notification::new(ErrorCode::Open, subcode)
}

/// Decodes the body of an OPEN.
pub(super) fn decode(body: &[u8]) -> Result<Open, Notification> {
    let mut reader = Reader::new(body);
    let fields = (reader.u8(), reader.u16(), reader.u16(), reader.u32());
    let (Some(version), Some(asn), Some(hold_time), Some(router_id)) = fields else {
        return Err(error(0));
    };
    if version != 4 {
        return Err(error(UNSUPPORTED_VERSION).with_data(vec![0, 4]));
    }
    let capabilities = decode_parameters(&mut reader)?;
    let four_octet = capabilities.iter().find_map(|capability| match capability {
        Capability::FourOctetAs(asn) => Some(*asn),
        _ => None,
    });
    let asn = four_octet.unwrap_or(Asn(u32::from(asn)));
    if asn.0 == 0 {
        return Err(error(BAD_PEER_AS));
    }
    if matches!(hold_time, 1 | 2) {
        return Err(error(UNACCEPTABLE_HOLD_TIME));
    }
    if router_id == 0 {
        return Err(error(BAD_IDENTIFIER));
    }
    Ok(Open {
        asn,
        hold_time,
        router_id: RouterId(router_id),
        capabilities,
    })
}

fn decode_parameters(reader: &mut Reader<'_>) -> Result<Vec<Capability>, Notification> {
    let length = reader.u8().ok_or_else(|| error(0))?;
    let extended = length != 0 && reader.peek() == Some(EXTENDED_LENGTH);
    let length = if extended {
        reader.u8();
        usize::from(reader.u16().ok_or_else(|| error(0))?)
    } else {
        usize::from(length)
    };
    if length != reader.len() {
        return Err(error(0));
    }
    let mut capabilities = Vec::new();
    while !reader.is_empty() {
        let kind = reader.u8();
        let length = if extended {
            reader.u16().map(usize::from)
        } else {
            reader.u8().map(usize::from)
        };
        let value = length.and_then(|length| reader.take(length));
        let (Some(kind), Some(value)) = (kind, value) else {
            return Err(error(0));
        };
        if kind != PARAMETER_CAPABILITIES {
            return Err(error(UNSUPPORTED_PARAMETER));
        }
        decode_capabilities(value, &mut capabilities)?;
    }
    Ok(capabilities)
}

fn decode_capabilities(value: &[u8], out: &mut Vec<Capability>) -> Result<(), Notification> {
    let mut reader = Reader::new(value);
    while !reader.is_empty() {
        let code = reader.u8();
        let length = reader.u8().map(usize::from);
        let value = length.and_then(|length| reader.take(length));
        let (Some(code), Some(value)) = (code, value) else {
            return Err(error(0));
        };
        let capability = decode_capability(code, value);
        out.push(capability.unwrap_or_else(|| Capability::Unknown {
            code,
            value: value.to_vec(),
        }));
    }
    Ok(())
}

/// A capability of an unexpected shape is one we do not know (RFC 5492 section 3: what is not understood is ignored).
fn decode_capability(code: u8, value: &[u8]) -> Option<Capability> {
    let mut reader = Reader::new(value);
    let capability = match code {
        MULTIPROTOCOL => {
            let (afi, _reserved, safi) = (reader.u16()?, reader.u8()?, reader.u8()?);
            Capability::Multiprotocol { afi, safi }
        }
        ROUTE_REFRESH => Capability::RouteRefresh,
        EXTENDED_MESSAGE => Capability::ExtendedMessage,
        ENHANCED_ROUTE_REFRESH => Capability::EnhancedRouteRefresh,
        FOUR_OCTET_AS => Capability::FourOctetAs(Asn(reader.u32()?)),
        ROLE => Capability::Role(Role::from_code(reader.u8()?)?),
        EXTENDED_NEXT_HOP => {
            let mut triples = Vec::new();
            while !reader.is_empty() {
                triples.push((reader.u16()?, reader.u16()?, reader.u16()?));
            }
            Capability::ExtendedNextHop(triples)
        }
        ADD_PATH => {
            let mut families = Vec::new();
            while !reader.is_empty() {
                let (afi, safi, mode) = (reader.u16()?, reader.u8()?, reader.u8()?);
                let mode = match mode {
                    1 => AddPathMode::Receive,
                    2 => AddPathMode::Send,
                    3 => AddPathMode::Both,
                    _ => continue,
                };
                families.push((afi, safi, mode));
            }
            Capability::AddPath(families)
        }
        GRACEFUL_RESTART => {
            let bits = reader.u16()?;
            let mut families = Vec::new();
            while !reader.is_empty() {
                let (afi, safi, flags) = (reader.u16()?, reader.u8()?, reader.u8()?);
                families.push(GracefulRestartFamily {
                    afi,
                    safi,
                    forwarding: flags & GR_FORWARDING != 0,
                });
            }
            Capability::GracefulRestart(GracefulRestart {
                restarting: bits & GR_RESTARTING != 0,
                notification: bits & GR_NOTIFICATION != 0,
                restart_time: bits & GR_TIME,
                families,
            })
        }
        LONG_LIVED_GRACEFUL_RESTART => {
            let mut families = Vec::new();
            while !reader.is_empty() {
                let (afi, safi, flags) = (reader.u16()?, reader.u8()?, reader.u8()?);
                let time = [reader.u8()?, reader.u8()?, reader.u8()?];
                families.push(LongLivedFamily {
                    afi,
                    safi,
                    forwarding: flags & GR_FORWARDING != 0,
                    stale_time: time.iter().fold(0, |time, octet| (time << 8) | u32::from(*octet)),
                });
            }
            Capability::LongLivedGracefulRestart(families)
        }
        HOSTNAME => Capability::Hostname {
            name: decode_name(&mut reader)?.into(),
            domain: decode_name(&mut reader)?.into(),
        },
        _ => return None,
    };
    reader.is_empty().then_some(capability)
}

/// A length of one octet, and a text that can be shown to an operator as it is.
fn decode_name(reader: &mut Reader<'_>) -> Option<String> {
    let length = usize::from(reader.u8()?);
    let name = std::str::from_utf8(reader.take(length)?).ok()?;
    (!name.contains(char::is_control)).then(|| name.to_owned())
}

fn encode_name(name: &str, out: &mut Vec<u8>) {
    let octets = name.as_bytes();
    // Longer ones are no capability: two lengths and both names share 255 octets.
    let length = u8::try_from(octets.len()).unwrap_or(0);
    out.push(length);
    out.extend(octets.iter().take(usize::from(length)));
}

/// Encodes the body of an OPEN. Capabilities whose value exceeds 255 octets do not fit into any OPEN and are left out.
pub(super) fn encode(open: &Open) -> Vec<u8> {
    let mut capabilities = Vec::new();
    for capability in &open.capabilities {
        let (code, value) = encode_capability(capability);
        if let Ok(length) = u8::try_from(value.len()) {
            capabilities.extend([code, length]);
            capabilities.extend(value);
        }
    }
    let mut body = vec![4];
    body.extend(open.asn.to_two_octets().to_be_bytes());
    body.extend(open.hold_time.to_be_bytes());
    body.extend(open.router_id.0.to_be_bytes());
    match u8::try_from(capabilities.len()) {
        Ok(0) => body.push(0),
        Ok(length @ ..=253) => body.extend([length + 2, PARAMETER_CAPABILITIES, length]),
        Ok(_) | Err(_) => {
            let length = u16::try_from(capabilities.len()).unwrap_or(u16::MAX);
            body.extend([EXTENDED_LENGTH, EXTENDED_LENGTH]);
            body.extend(length.saturating_add(3).to_be_bytes());
            body.push(PARAMETER_CAPABILITIES);
            body.extend(length.to_be_bytes());
        }
    }
    body.extend(capabilities);
    body
}

fn encode_capability(capability: &Capability) -> (u8, Vec<u8>) {
    match capability {
        Capability::Multiprotocol { afi, safi } => {
            let [high, low] = afi.to_be_bytes();
            (MULTIPROTOCOL, vec![high, low, 0, *safi])
        }
        Capability::RouteRefresh => (ROUTE_REFRESH, Vec::new()),
        Capability::ExtendedNextHop(triples) => {
            let octets = triples
                .iter()
                .flat_map(|&(afi, safi, next)| [afi, safi, next])
                .flat_map(u16::to_be_bytes);
            (EXTENDED_NEXT_HOP, octets.collect())
        }
        Capability::ExtendedMessage => (EXTENDED_MESSAGE, Vec::new()),
        Capability::Role(role) => (ROLE, vec![role.code()]),
        Capability::GracefulRestart(gr) => {
            let mut bits = gr.restart_time.min(GR_TIME);
            bits |= if gr.restarting { GR_RESTARTING } else { 0 };
            bits |= if gr.notification { GR_NOTIFICATION } else { 0 };
            let mut value = bits.to_be_bytes().to_vec();
            for family in &gr.families {
                value.extend(family.afi.to_be_bytes());
                value.extend([family.safi, if family.forwarding { GR_FORWARDING } else { 0 }]);
            }
            (GRACEFUL_RESTART, value)
        }
        Capability::FourOctetAs(asn) => (FOUR_OCTET_AS, asn.0.to_be_bytes().to_vec()),
        Capability::AddPath(families) => {
            let mut value = Vec::new();
            for (afi, safi, mode) in families {
                value.extend(afi.to_be_bytes());
                let mode = match mode {
                    AddPathMode::Receive => 1,
                    AddPathMode::Send => 2,
                    AddPathMode::Both => 3,
                };
                value.extend([*safi, mode]);
            }
            (ADD_PATH, value)
        }
        Capability::EnhancedRouteRefresh => (ENHANCED_ROUTE_REFRESH, Vec::new()),
        Capability::LongLivedGracefulRestart(families) => {
            let mut value = Vec::new();
            for family in families {
                value.extend(family.afi.to_be_bytes());
                let [_, time @ ..] = family.stale_time.min(MAX_STALE_TIME).to_be_bytes();
                value.extend([family.safi, if family.forwarding { GR_FORWARDING } else { 0 }]);
                value.extend(time);
            }
            (LONG_LIVED_GRACEFUL_RESTART, value)
        }
        Capability::Hostname { name, domain } => {
            let mut value = Vec::new();
            encode_name(name, &mut value);
            encode_name(domain, &mut value);
            (HOSTNAME, value)
        }
        Capability::Unknown { code, value } => (*code, value.clone()),
    }
}
