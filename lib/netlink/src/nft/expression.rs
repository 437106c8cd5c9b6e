//! The steps of a rule as the kernel's expressions, and these as attributes.

use std::net::IpAddr;

use super::{At, Family, Rule, Step};
use crate::route::{attribute, attributes, nested};

const NLA_F_NESTED: u16 = 0x8000;
pub(super) const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
/// The verdict, and a chain's policy.
pub(super) const ACCEPT: u32 = 1;

/// An attribute to write.
pub(super) struct Attribute(u16, Value);

enum Value {
    Octets(Vec<u8>),
    Nest(Vec<Attribute>),
}

impl Attribute {
    pub(super) fn number(kind: u16, value: u32) -> Self {
        Attribute(kind, Value::Octets(value.to_be_bytes().to_vec()))
    }

    pub(super) fn text(kind: u16, text: &str) -> Self {
        let mut octets = text.as_bytes().to_vec();
        octets.push(0);
        Attribute(kind, Value::Octets(octets))
    }

    pub(super) fn octets(kind: u16, octets: &[u8]) -> Self {
        Attribute(kind, Value::Octets(octets.to_vec()))
    }

    pub(super) fn nest(kind: u16, inside: impl Into<Vec<Attribute>>) -> Self {
        Attribute(kind, Value::Nest(inside.into()))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match &self.1 {
            Value::Octets(octets) => attribute(out, self.0, octets),
            Value::Nest(inside) => nested(out, self.0 | NLA_F_NESTED, |out| {
                inside.iter().for_each(|a| a.write(out))
            }),
        }
    }

    /// Is it among these attributes, with all it says? They may say more.
    pub(super) fn is_in(&self, there: &[u8]) -> bool {
        let mut same = attributes(there).filter(|(kind, _)| *kind == self.0);
        same.any(|(_, value)| match &self.1 {
            Value::Octets(octets) => octets == value,
            Value::Nest(inside) => inside.iter().all(|a| a.is_in(value)),
        })
    }
}

/// An expression of the kernel's.
pub(super) struct Expression(pub(super) &'static str, pub(super) Vec<Attribute>);

/// The register everything is loaded into, and one more.
const REGISTER: u32 = 1;
const REGISTER_TWO: u32 = 2;

fn compare(operation: u32, octets: &[u8]) -> Expression {
    let data = Attribute::nest(3, [Attribute::octets(DATA_VALUE, octets)]);
    let parts = [Attribute::number(1, REGISTER), Attribute::number(2, operation), data];
    Expression("cmp", parts.into())
}

fn lookup(set: &str, invert: u32) -> Expression {
    let parts = [
        Attribute::text(1, set),
        Attribute::number(2, REGISTER),
        Attribute::number(5, invert),
    ];
    Expression("lookup", parts.into())
}

fn payload(base: u32, offset: u8, len: u8) -> Expression {
    let parts = [REGISTER, base, u32::from(offset), u32::from(len)];
    let parts = (1..).zip(parts).map(|(kind, n)| Attribute::number(kind, n));
    Expression("payload", parts.collect())
}

fn meta(key: u32) -> Expression {
    Expression("meta", vec![Attribute::number(1, REGISTER), Attribute::number(2, key)])
}

fn immediate(register: u32, octets: &[u8]) -> Expression {
    let data = Attribute::nest(2, [Attribute::octets(DATA_VALUE, octets)]);
    Expression("immediate", vec![Attribute::number(1, register), data])
}

fn verdict(code: u32) -> Expression {
    let verdict = Attribute::nest(DATA_VERDICT, [Attribute::number(VERDICT_CODE, code)]);
    let parts = [Attribute::number(1, 0), Attribute::nest(2, [verdict])];
    Expression("immediate", parts.into())
}

/// What the kernel's flags of a translation are: addresses are told, ports are told, ports are chosen at random.
const MAP_IPS: u32 = 1;
const PORTS_TOLD: u32 = 2;
const FULLY_RANDOM: u32 = 16;

fn masquerade(ports: Option<(u16, u16)>) -> Vec<Expression> {
    let Some((first, last)) = ports else {
        return vec![Expression("masq", vec![Attribute::number(1, FULLY_RANDOM)])];
    };
    let parts = [
        Attribute::number(1, FULLY_RANDOM | PORTS_TOLD),
        Attribute::number(2, REGISTER),
        Attribute::number(3, REGISTER_TWO),
    ];
    vec![
        immediate(REGISTER, &first.to_be_bytes()),
        immediate(REGISTER_TWO, &last.to_be_bytes()),
        Expression("masq", parts.into()),
    ]
}

/// To an address, in the third register; ports are in the first two.
fn translate(kind: u32, address: IpAddr, ports: Option<(u16, u16)>) -> Vec<Expression> {
    const THIRD: u32 = 3;
    let (family, octets) = match address {
        IpAddr::V4(a) => (libc::AF_INET, a.octets().to_vec()),
        IpAddr::V6(a) => (libc::AF_INET6, a.octets().to_vec()),
    };
    let random = if kind == 0 { FULLY_RANDOM } else { 0 };
    let told = ports.map_or(0, |_| PORTS_TOLD);
    let mut steps = vec![immediate(THIRD, &octets)];
    let mut parts = vec![
        Attribute::number(1, kind),
        Attribute::number(2, family.unsigned_abs()),
        Attribute::number(3, THIRD),
        Attribute::number(4, THIRD),
    ];
    if let Some((first, last)) = ports {
        steps.push(immediate(REGISTER, &first.to_be_bytes()));
        steps.push(immediate(REGISTER_TWO, &last.to_be_bytes()));
        parts.extend([Attribute::number(5, REGISTER), Attribute::number(6, REGISTER_TWO)]);
    }
    parts.push(Attribute::number(7, MAP_IPS | told | random));
    steps.push(Expression("nat", parts));
    steps
}

fn look(family: Family, at: At) -> Expression {
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    let v4 = family == Family::V4;
    match at {
        At::Source => payload(NETWORK, if v4 { 12 } else { 8 }, if v4 { 4 } else { 16 }),
        At::Destination => payload(NETWORK, if v4 { 16 } else { 24 }, if v4 { 4 } else { 16 }),
        At::Transport { offset, len } => payload(TRANSPORT, offset, len),
        At::Protocol => meta(16),
        At::InInterface => meta(6),
        At::OutInterface => meta(7),
        At::SourceKind { on_out_interface } => {
            let flags = if on_out_interface { 1 | 16 } else { 1 };
            let parts = [
                Attribute::number(1, REGISTER),
                Attribute::number(2, 3),
                Attribute::number(3, flags),
            ];
            Expression("fib", parts.into())
        }
    }
}

pub(super) fn expressions(family: Family, rule: &Rule) -> Vec<Expression> {
    let steps = rule.iter().map(|step| match step {
        Step::Look(at) => vec![look(family, *at)],
        Step::Is(octets) => vec![compare(0, octets)],
        Step::IsNot(octets) => vec![compare(1, octets)],
        Step::In(set) => vec![lookup(set, 0)],
        Step::NotIn(set) => vec![lookup(set, 1)],
        Step::Drop => vec![verdict(0)],
        Step::Accept => vec![verdict(ACCEPT)],
        Step::Masquerade(ports) => masquerade(*ports),
        Step::Source(address, ports) => translate(0, *address, *ports),
        Step::Destination(address) => translate(1, *address, None),
    });
    steps.flatten().collect()
}
