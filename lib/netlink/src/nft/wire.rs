//! nf_tables messages as octets (linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h).
//!
//! Decoding takes any octets: what is cut short or makes no sense is skipped, never a panic, and then is no match for
//! what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use tortie_net::Prefix;

use super::expression::{ACCEPT, Attribute, DATA_VALUE, Expression, expressions};
use super::{Chain, Family, Set, Table, TableId, ranges};
use crate::route::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, attributes, message};

const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

const NEW_TABLE: u16 = kind(0);
const GET_TABLE: u16 = kind(1);
const DEL_TABLE: u16 = kind(2);
const NEW_CHAIN: u16 = kind(3);
const GET_CHAIN: u16 = kind(4);
const NEW_RULE: u16 = kind(6);
const GET_RULE: u16 = kind(7);
const NEW_SET: u16 = kind(9);
const GET_SET: u16 = kind(10);
const NEW_ELEMENTS: u16 = kind(12);
const GET_ELEMENTS: u16 = kind(13);

/// The first attribute of every message is its table's name.
const TABLE: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LEN: u16 = 5;
const SET_ID: u16 = 10;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_FLAGS: u16 = 3;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;

const DORMANT: u32 = 1;
const SET_INTERVAL: u32 = 4;
const INTERVAL_END: u32 = 1;
/// Elements in one message at most: an attribute has no more than 64 KiB.
const ELEMENTS_AT_ONCE: usize = 512;

// === Requests ===

/// A transaction: messages in order, the last of them acknowledged.
pub(super) struct Batch {
    octets: Vec<u8>,
    messages: Vec<(u16, u16, u8, Vec<u8>)>,
}

fn family_code(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

impl Batch {
    fn new() -> Self {
        Batch {
            octets: Vec::new(),
            messages: Vec::new(),
        }
    }

    fn push(&mut self, id: TableId, kind: u16, flags: u16, parts: &[Attribute]) {
        let mut body = Vec::new();
        Attribute::text(TABLE, id.name).write(&mut body);
        parts.iter().for_each(|a| a.write(&mut body));
        self.messages.push((kind, flags, family_code(id.family), body));
    }

    /// Makes the table hold this: an old one is taken away with all in it, and there has to be one for that.
    pub(super) fn replace(id: TableId, table: &Table) -> Self {
        let mut batch = Batch::remove(id);
        let flags = Attribute::number(TABLE_FLAGS, 0);
        batch.push(id, NEW_TABLE, NLM_F_CREATE, &[flags]);
        for (number, set) in (1..).zip(&table.sets) {
            batch.set(id, number, set);
        }
        for chain in &table.chains {
            batch.chain(id, chain);
        }
        batch
    }

    /// Takes the table away, which need not be there.
    pub(super) fn remove(id: TableId) -> Self {
        let mut batch = Batch::new();
        let flags = || Attribute::number(TABLE_FLAGS, 0);
        batch.push(id, NEW_TABLE, NLM_F_CREATE, &[flags()]);
        batch.push(id, DEL_TABLE, 0, &[]);
        batch
    }

    fn set(&mut self, id: TableId, number: u32, set: &Set) {
        let (kind, len) = set_key(id.family);
        let parts = [
            Attribute::text(SET_NAME, set.name),
            Attribute::number(SET_FLAGS, SET_INTERVAL),
            Attribute::number(SET_KEY_TYPE, kind),
            Attribute::number(SET_KEY_LEN, len),
            Attribute::number(SET_ID, number),
        ];
        self.push(id, NEW_SET, NLM_F_CREATE, &parts);
        let elements: Vec<_> = ranges::elements(id.family, &set.members).into_iter().collect();
        for some in elements.chunks(ELEMENTS_AT_ONCE) {
            let list = some.iter().map(|(address, end)| {
                let mut parts = vec![Attribute::nest(ELEMENT_KEY, [Attribute::octets(DATA_VALUE, address)])];
                parts.extend(end.then(|| Attribute::number(ELEMENT_FLAGS, INTERVAL_END)));
                Attribute::nest(LIST_ELEMENT, parts)
            });
            let list = Attribute::nest(ELEMENTS, list.collect::<Vec<_>>());
            let name = Attribute::text(ELEMENTS_SET, set.name);
            self.push(id, NEW_ELEMENTS, NLM_F_CREATE, &[name, list]);
        }
    }

    fn chain(&mut self, id: TableId, chain: &Chain) {
        let mut parts = chain_attributes(chain);
        parts.push(Attribute::text(CHAIN_NAME, chain.name));
        self.push(id, NEW_CHAIN, NLM_F_CREATE, &parts);
        for rule in &chain.rules {
            let list = expressions(id.family, rule).into_iter().map(|Expression(name, data)| {
                let name = Attribute::text(EXPRESSION_NAME, name);
                Attribute::nest(LIST_ELEMENT, [name, Attribute::nest(EXPRESSION_DATA, data)])
            });
            let list = Attribute::nest(RULE_EXPRESSIONS, list.collect::<Vec<_>>());
            let name = Attribute::text(RULE_CHAIN, chain.name);
            self.push(id, NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, &[name, list]);
        }
    }

    /// The octets, with sequence numbers from `first` on, and the number of the message that is acknowledged.
    pub(super) fn encode(mut self, first: u32) -> (Vec<u8>, u32) {
        let subsystem = SUBSYSTEM.to_be_bytes();
        let mark = |out: &mut Vec<u8>, kind, sequence| {
            message(out, kind, NLM_F_REQUEST, sequence, |out| {
                out.extend([0, 0, subsystem[0], subsystem[1]]);
            });
        };
        mark(&mut self.octets, BATCH_BEGIN, first);
        let mut sequence = first;
        let count = self.messages.len();
        for (i, (kind, flags, family, body)) in self.messages.iter().enumerate() {
            sequence = sequence.wrapping_add(1);
            let ack = if i + 1 == count { NLM_F_ACK } else { 0 };
            message(&mut self.octets, *kind, NLM_F_REQUEST | flags | ack, sequence, |out| {
                out.extend([*family, 0, 0, 0]);
                out.extend(body);
            });
        }
        mark(&mut self.octets, BATCH_END, sequence.wrapping_add(1));
        (self.octets, sequence)
    }
}

fn set_key(family: Family) -> (u32, u32) {
    // What nft calls ipv4_addr and ipv6_addr.
    match family {
        Family::V4 => (7, 4),
        Family::V6 => (8, 16),
    }
}

fn chain_attributes(chain: &Chain) -> Vec<Attribute> {
    let hook = [
        Attribute::number(HOOK_NUMBER, chain.hook as u32),
        Attribute::octets(HOOK_PRIORITY, &chain.priority.to_be_bytes()),
    ];
    vec![
        Attribute::nest(CHAIN_HOOK, hook),
        Attribute::text(CHAIN_TYPE, chain.kind.name()),
        Attribute::number(CHAIN_POLICY, ACCEPT),
    ]
}

/// What to list of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing<'a> {
    Tables,
    Chains,
    Rules,
    Sets,
    Elements(&'a str),
}

pub(super) fn list(id: TableId, what: Listing<'_>, sequence: u32) -> Vec<u8> {
    let kind = match what {
        Listing::Tables => GET_TABLE,
        Listing::Chains => GET_CHAIN,
        Listing::Rules => GET_RULE,
        Listing::Sets => GET_SET,
        Listing::Elements(_) => GET_ELEMENTS,
    };
    let mut out = Vec::new();
    message(&mut out, kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, |out| {
        out.extend([family_code(id.family), 0, 0, 0]);
        // A table that is gone is an error where it is named; the list of chains is the family's whole one.
        if !matches!(what, Listing::Tables | Listing::Chains) {
            Attribute::text(TABLE, id.name).write(out);
        }
        if let Listing::Elements(set) = what {
            Attribute::text(ELEMENTS_SET, set).write(out);
        }
    });
    out
}

// === What is there ===

/// What the kernel's table holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub(super) there: bool,
    pub(super) dormant: bool,
    pub(super) chains: BTreeMap<String, SeenChain>,
    pub(super) sets: BTreeMap<String, SeenSet>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SeenChain {
    attributes: Vec<u8>,
    /// The expressions of each rule, by name and attributes.
    rules: Vec<Vec<(String, Vec<u8>)>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SeenSet {
    attributes: Vec<u8>,
    elements: BTreeSet<(Vec<u8>, bool)>,
}

impl SeenSet {
    pub(super) fn holds(&self, family: Family, members: &BTreeSet<Prefix>) -> bool {
        let flags = Attribute::number(SET_FLAGS, SET_INTERVAL);
        let len = Attribute::number(SET_KEY_LEN, set_key(family).1);
        let kind = flags.is_in(&self.attributes) && len.is_in(&self.attributes);
        kind && self.elements == ranges::elements(family, members)
    }
}

impl SeenChain {
    pub(super) fn is(&self, family: Family, chain: &Chain) -> bool {
        let made_so = chain_attributes(chain).iter().all(|a| a.is_in(&self.attributes));
        made_so && self.rules.len() == chain.rules.len() && {
            let mut both = self.rules.iter().zip(&chain.rules);
            both.all(|(there, rule)| same_rule(there, &expressions(family, rule)))
        }
    }
}

fn same_rule(there: &[(String, Vec<u8>)], wanted: &[Expression]) -> bool {
    let same = |((name, data), wanted): (&(String, Vec<u8>), &Expression)| {
        name == wanted.0 && wanted.1.iter().all(|a| a.is_in(data))
    };
    there.len() == wanted.len() && there.iter().zip(wanted).all(same)
}

impl Seen {
    /// Takes a message of a listing (or of a transaction) about the table `id`: its kind, and what follows the header.
    /// Others are passed over. Sets come before their elements, chains before their rules.
    pub fn take(&mut self, id: TableId, kind: u16, body: &[u8]) {
        let Some(rest) = about(id, kind, body) else { return };
        match kind {
            NEW_TABLE => {
                self.there = true;
                self.dormant = number(rest, TABLE_FLAGS).is_some_and(|f| f & DORMANT != 0);
            }
            NEW_CHAIN => {
                if let Some(name) = text(rest, CHAIN_NAME) {
                    self.chains.entry(name).or_default().attributes = rest.to_vec();
                }
            }
            NEW_SET => {
                if let Some(name) = text(rest, SET_NAME) {
                    self.sets.entry(name).or_default().attributes = rest.to_vec();
                }
            }
            NEW_RULE => {
                let chain = text(rest, RULE_CHAIN).and_then(|name| self.chains.get_mut(&name));
                if let Some(chain) = chain {
                    let list = find(rest, RULE_EXPRESSIONS).unwrap_or_default();
                    let expression = |(_, e)| {
                        (
                            text(e, EXPRESSION_NAME).unwrap_or_default(),
                            own(find(e, EXPRESSION_DATA)),
                        )
                    };
                    chain.rules.push(attributes(list).map(expression).collect());
                }
            }
            NEW_ELEMENTS => {
                let set = text(rest, ELEMENTS_SET).and_then(|name| self.sets.get_mut(&name));
                if let Some(set) = set {
                    let list = find(rest, ELEMENTS).unwrap_or_default();
                    set.elements.extend(attributes(list).map(|(_, e)| element(e)));
                }
            }
            _ => {}
        }
    }

    /// The names of its sets.
    pub(super) fn set_names(&self) -> Vec<String> {
        self.sets.keys().cloned().collect()
    }
}

/// An address, and whether a range ends there.
fn element(e: &[u8]) -> (Vec<u8>, bool) {
    let key = find(e, ELEMENT_KEY).and_then(|k| find(k, DATA_VALUE));
    let end = number(e, ELEMENT_FLAGS).is_some_and(|f| f & INTERVAL_END != 0);
    (own(key), end)
}

fn own(octets: Option<&[u8]>) -> Vec<u8> {
    octets.unwrap_or_default().to_vec()
}

/// The attributes of a message about this table.
fn about(id: TableId, kind: u16, body: &[u8]) -> Option<&[u8]> {
    let rest = body.get(4..)?;
    let ours = kind >> 8 == SUBSYSTEM && body.first() == Some(&family_code(id.family));
    (ours && text(rest, TABLE).as_deref() == Some(id.name)).then_some(rest)
}

/// Is this a message of nf_tables about a table whose name begins like this?
pub(super) fn concerns(beginning: &str, kind: u16, body: &[u8]) -> bool {
    let name = body.get(4..).and_then(|rest| text(rest, TABLE));
    kind >> 8 == SUBSYSTEM && name.is_some_and(|n| n.starts_with(beginning))
}

fn find(b: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(b).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

fn number(b: &[u8], kind: u16) -> Option<u32> {
    find(b, kind)?.first_chunk().map(|c| u32::from_be_bytes(*c))
}

fn text(b: &[u8], kind: u16) -> Option<String> {
    let octets = find(b, kind)?;
    Some(String::from_utf8_lossy(octets).trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests;
