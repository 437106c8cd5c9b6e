//! What a neighbour was told, as text to compare: a line for its session, for what the OPEN offers, and for each route
//! with all of its attributes. Path identifiers tell routes apart and are not shown: their values mean nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::octets::{NOTIFICATION, ROUTE_REFRESH, Session, UPDATE};
use crate::script::Family;

const END_OF_RIB: &str = "end of RIB";

#[derive(Debug, Default)]
pub(crate) struct Received {
    /// How the session is, or how it ended.
    pub(crate) state: String,
    open: Vec<String>,
    marks: BTreeSet<String>,
    routes: BTreeMap<(Family, String, u32), String>,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u16(&mut self) -> usize {
        usize::from(u16::from_be_bytes(self.take(2).try_into().unwrap()))
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn prefix(&mut self, family: Family, ids: bool) -> (Family, String, u32) {
        let id = if ids { self.u32() } else { 0 };
        let length = self.u8();
        let octets = self.take(usize::from(length).div_ceil(8));
        let mut whole = [0; 16];
        whole[..octets.len()].copy_from_slice(octets);
        let address: IpAddr = match family {
            Family::Ipv4 => Ipv4Addr::from(<[u8; 4]>::try_from(&whole[..4]).unwrap()).into(),
            Family::Ipv6 => Ipv6Addr::from(whole).into(),
        };
        (family, format!("{address}/{length}"), id)
    }
}

fn numbers(value: &[u8], each: usize) -> Vec<u32> {
    let octets = |part: &[u8]| part.iter().fold(0, |sum, octet| sum << 8 | u32::from(*octet));
    value.chunks(each).map(octets).collect()
}

fn joined<T: ToString>(items: impl IntoIterator<Item = T>, between: &str) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(between)
}

fn hexadecimal(value: &[u8]) -> String {
    value.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn addresses(value: &[u8]) -> String {
    let parts = value.chunks(if value.len().is_multiple_of(16) { 16 } else { 4 });
    let address = |part: &[u8]| match (<[u8; 4]>::try_from(part), <[u8; 16]>::try_from(part)) {
        (Ok(v4), _) => Ipv4Addr::from(v4).to_string(),
        (_, Ok(v6)) => Ipv6Addr::from(v6).to_string(),
        _ => hexadecimal(part),
    };
    joined(parts.map(address), ",")
}

fn path(value: &[u8], four_octets: bool) -> String {
    let mut reader = Reader(value);
    let mut segments = Vec::new();
    while !reader.0.is_empty() {
        let kind = reader.u8();
        let count = usize::from(reader.u8());
        let each = if four_octets { 4 } else { 2 };
        let members = numbers(reader.take(count * each), each);
        segments.push(match kind {
            1 => {
                // A set has no order.
                let mut members = members;
                members.sort_unstable();
                format!("{{{}}}", joined(members, ","))
            }
            2 => joined(members, " "),
            _ => format!("{kind}:({})", joined(members, ",")),
        });
    }
    format!("[{}]", segments.join(" "))
}

/// An attribute: its name, the flags that it should have, and its value.
fn attribute(code: u8, value: &[u8], session: &Session) -> (String, u8, String) {
    let wide = if session.four_octets { 4 } else { 2 };
    let tuples = |each: usize, of: usize| {
        let tuples = value.chunks(each * of);
        joined(tuples.map(|tuple| joined(numbers(tuple, each), ":")), ",")
    };
    let (name, flags, shown) = match code {
        1 => ("origin", 0x40, value[0].to_string()),
        2 => ("path", 0x40, path(value, session.four_octets)),
        3 => ("nexthop", 0x40, addresses(value)),
        4 => ("med", 0x80, tuples(4, 1)),
        5 => ("pref", 0x40, tuples(4, 1)),
        6 => ("atomic", 0x40, hexadecimal(value)),
        7 => (
            "aggregator",
            0xc0,
            format!(
                "{}:{}",
                joined(numbers(&value[..wide], wide), ""),
                addresses(&value[wide..])
            ),
        ),
        8 => ("community", 0xc0, tuples(2, 2)),
        9 => ("originator", 0x80, addresses(value)),
        10 => ("clusters", 0x80, joined(value.chunks(4).map(addresses), ",")),
        16 => ("ext", 0xc0, joined(value.chunks(8).map(hexadecimal), ",")),
        17 => ("as4-path", 0xc0, path(value, true)),
        18 => (
            "as4-aggregator",
            0xc0,
            format!("{}:{}", tuples(4, 1), addresses(&value[4..])),
        ),
        32 => ("large", 0xc0, tuples(4, 3)),
        35 => ("otc", 0xc0, tuples(4, 1)),
        _ => return (format!("attr-{code}"), 0xff, hexadecimal(value)),
    };
    (name.to_owned(), flags, shown)
}

impl Received {
    pub(crate) fn new(state: &str, open: Vec<String>) -> Self {
        Received {
            state: state.to_owned(),
            open,
            ..Received::default()
        }
    }

    /// Takes in a message.
    pub(crate) fn apply(&mut self, kind: u8, body: &[u8], session: &Session) {
        match kind {
            UPDATE => self.update(body, session),
            NOTIFICATION => self.state = notification(body),
            // Subtype 0 is a request, 1 and 2 mark the begin and the end of an answer (RFC 7313).
            ROUTE_REFRESH => drop(
                self.marks
                    .insert(format!("refresh subtype {} of AFI {}", body[2], body[1])),
            ),
            _ => {}
        }
    }

    fn update(&mut self, body: &[u8], session: &Session) {
        let mut reader = Reader(body);
        let length = reader.u16();
        let mut withdrawn = Reader(reader.take(length));
        let length = reader.u16();
        let mut attributes = Reader(reader.take(length));
        if body.len() == 4 {
            self.marks.insert(format!("{END_OF_RIB} {:?}", Family::Ipv4));
        }
        let ids = |family: Family| session.receives_ids.contains(&family);
        let (v4, v6) = (Family::Ipv4, Family::Ipv6);
        while !withdrawn.0.is_empty() {
            self.routes.remove(&withdrawn.prefix(v4, ids(v4)));
        }
        let mut announced = Vec::new();
        let mut shown = BTreeMap::new();
        while !attributes.0.is_empty() {
            let (flags, code) = (attributes.u8(), attributes.u8());
            let length = if flags & 0x10 == 0 {
                usize::from(attributes.u8())
            } else {
                attributes.u16()
            };
            let value = attributes.take(length);
            let mut routes = Reader(value);
            match code {
                14 | 15 => {
                    let family = if routes.take(3)[1] == 1 { v4 } else { v6 };
                    if code == 15 && routes.0.is_empty() {
                        self.marks.insert(format!("{END_OF_RIB} {family:?}"));
                    }
                    if code == 14 {
                        let length = usize::from(routes.u8());
                        shown.insert(3, format!("nexthop={}", addresses(routes.take(length))));
                        routes.u8();
                    }
                    while !routes.0.is_empty() {
                        let route = routes.prefix(family, ids(family));
                        if code == 14 {
                            announced.push(route)
                        } else {
                            drop(self.routes.remove(&route))
                        }
                    }
                }
                _ => {
                    let (name, wanted, value) = attribute(code, value, session);
                    let odd = if flags & !0x10 == wanted {
                        String::new()
                    } else {
                        format!("[{:02x}]", flags & !0x10)
                    };
                    shown.insert(code, format!("{name}{odd}={value}"));
                }
            }
        }
        while !reader.0.is_empty() {
            announced.push(reader.prefix(v4, ids(v4)));
        }
        let shown = joined(shown.into_values(), " ");
        self.routes
            .extend(announced.into_iter().map(|route| (route, shown.clone())));
    }

    /// What there is to compare. An End-of-RIB is for who knows graceful restart; others wait for nothing.
    pub(crate) fn lines(&self, hears_of_ends: bool) -> Vec<String> {
        let mut lines = vec![format!("session {}", self.state)];
        lines.extend(self.open.clone());
        lines.extend(
            self.marks
                .iter()
                .filter(|mark| hears_of_ends || !mark.starts_with(END_OF_RIB))
                .cloned(),
        );
        // What a session that is over said of routes depends on how fast it ended.
        if self.state == "up" {
            lines.extend(
                self.routes
                    .iter()
                    .map(|((_, prefix, _), attributes)| format!("{prefix} {attributes}")),
            );
        }
        lines
    }
}

/// Code, subcode, and the message of an administrator.
pub(crate) fn notification(body: &[u8]) -> String {
    let reason = match body {
        [6, 2 | 4, length, text @ ..] if *length > 0 => format!(" {:?}", String::from_utf8_lossy(text)),
        _ => String::new(),
    };
    format!("ended by NOTIFICATION {}/{}{reason}", body[0], body[1])
}

/// Capabilities of an OPEN's body.
pub(crate) fn capabilities(body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut parameters = Reader(&body[10..]);
    let mut found = Vec::new();
    while !parameters.0.is_empty() {
        parameters.u8();
        let length = usize::from(parameters.u8());
        let mut reader = Reader(parameters.take(length));
        while !reader.0.is_empty() {
            let code = reader.u8();
            let length = usize::from(reader.u8());
            found.push((code, reader.take(length).to_vec()));
        }
    }
    found
}

/// The lines of an OPEN. Of graceful restart the times and families: what the flags say is about the process.
pub(crate) fn open(body: &[u8]) -> Vec<String> {
    let asn = numbers(&body[1..3], 2)[0];
    let hold = numbers(&body[3..5], 2)[0];
    let mut lines = vec![format!("OPEN as {asn} hold {hold} id {}", addresses(&body[5..9]))];
    let mut capabilities = capabilities(body);
    capabilities.sort();
    for (code, mut value) in capabilities {
        if code == 64 {
            value[0] &= 0x0f;
            value[2..].chunks_mut(4).for_each(|family| family[3] = 0);
        }
        lines.push(format!("capability {code} {}", hexadecimal(&value)));
    }
    lines
}
