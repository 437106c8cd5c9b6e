//! Types and values of the policy language.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tortie_net::{ExtCommunity, LargeCommunity, Prefix};

use super::mask::PathMask;
use super::set::{PrefixSet, ValueSet};
use crate::attr::AsPath;

/// A type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// `bool`.
    Bool,
    /// `int`: 32 bits without sign; arithmetic wraps, as BIRD's.
    Int,
    /// `ip`.
    Ip,
    /// `prefix`.
    Prefix,
    /// `pair`: two 16-bit numbers, a standard community.
    Pair,
    /// `quad`: 32 bits written as a dotted quad.
    Quad,
    /// `ec`: an extended community.
    Ec,
    /// `lc`: a large community.
    Lc,
    /// `string`.
    String,
    /// `bgppath`.
    Path,
    /// `bgpmask`.
    Mask,
    /// `clist`.
    Clist,
    /// `eclist`.
    Eclist,
    /// `lclist`.
    Lclist,
    /// One of a list of names.
    Enum(EnumType),
    /// `int set`, `pair set` and so on: BIRD has one type for all of them, and so does a variable. Of a literal the
    /// kind of the members is known and checked.
    Set(Option<SetOf>),
    /// `prefix set`.
    PrefixSet,
    /// Not known when loading: a recursive call's result. Checked at run time.
    Any,
}

/// What a set that is no prefix set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetOf {
    /// Integers.
    Int,
    /// Pairs.
    Pair,
    /// Quads.
    Quad,
    /// Addresses.
    Ip,
    /// Extended communities.
    Ec,
    /// Large communities.
    Lc,
    /// Enumeration values.
    Enum(EnumType),
}

impl SetOf {
    /// The type of a member.
    pub(crate) fn member(self) -> Type {
        match self {
            SetOf::Int => Type::Int,
            SetOf::Pair => Type::Pair,
            SetOf::Quad => Type::Quad,
            SetOf::Ip => Type::Ip,
            SetOf::Ec => Type::Ec,
            SetOf::Lc => Type::Lc,
            SetOf::Enum(e) => Type::Enum(e),
        }
    }
}

/// The enumerations of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnumType {
    /// `RTS_`: where a route came from.
    Source,
    /// `RTD_`: what is done with packets.
    Destination,
    /// `ORIGIN_`: how BGP learned it.
    Origin,
    /// `NET_`: the type of a prefix.
    Net,
    /// `ROA_`: whether a route's origin may be one (RFC 6811).
    Roa,
    /// What an attribute is whose value the language does not show. It has one value and no name.
    Empty,
}

/// Every enumeration constant: its name, its type, BIRD's number for it. Those of what is not here (OSPF's routes, VPN
/// prefixes) are known, so that a policy may ask for them; nothing has them.
pub(crate) const ENUM_CONSTANTS: [(&str, EnumType, u8); 32] = [
    ("RTS_STATIC", EnumType::Source, 1),
    ("RTS_INHERIT", EnumType::Source, 2),
    ("RTS_DEVICE", EnumType::Source, 3),
    ("RTS_STATIC_DEVICE", EnumType::Source, 4),
    ("RTS_REDIRECT", EnumType::Source, 5),
    ("RTS_RIP", EnumType::Source, 6),
    ("RTS_OSPF", EnumType::Source, 7),
    ("RTS_OSPF_IA", EnumType::Source, 8),
    ("RTS_OSPF_EXT1", EnumType::Source, 9),
    ("RTS_OSPF_EXT2", EnumType::Source, 10),
    ("RTS_BGP", EnumType::Source, 11),
    ("RTS_PIPE", EnumType::Source, 12),
    ("RTS_BABEL", EnumType::Source, 13),
    ("RTD_UNICAST", EnumType::Destination, 1),
    ("RTD_BLACKHOLE", EnumType::Destination, 2),
    ("RTD_UNREACHABLE", EnumType::Destination, 3),
    ("RTD_PROHIBIT", EnumType::Destination, 4),
    ("ORIGIN_IGP", EnumType::Origin, 0),
    ("ORIGIN_EGP", EnumType::Origin, 1),
    ("ORIGIN_INCOMPLETE", EnumType::Origin, 2),
    ("ROA_UNKNOWN", EnumType::Roa, 0),
    ("ROA_VALID", EnumType::Roa, 1),
    ("ROA_INVALID", EnumType::Roa, 2),
    ("NET_IP4", EnumType::Net, 1),
    ("NET_IP6", EnumType::Net, 2),
    ("NET_VPN4", EnumType::Net, 3),
    ("NET_VPN6", EnumType::Net, 4),
    ("NET_ROA4", EnumType::Net, 5),
    ("NET_ROA6", EnumType::Net, 6),
    ("NET_FLOW4", EnumType::Net, 7),
    ("NET_FLOW6", EnumType::Net, 8),
    ("NET_IP6_SADR", EnumType::Net, 9),
];

/// The constant of this name.
pub(crate) fn enum_constant(name: &str) -> Option<Value> {
    ENUM_CONSTANTS
        .iter()
        .find(|(n, ..)| *n == name)
        .map(|&(_, ty, number)| Value::Enum(ty, number))
}

impl EnumType {
    /// BIRD's name of the type.
    fn as_str(self) -> &'static str {
        match self {
            EnumType::Source => "enum rts",
            EnumType::Destination => "enum rtd",
            EnumType::Origin => "enum bgp_origin",
            EnumType::Net => "enum nettype",
            EnumType::Roa => "enum roa",
            EnumType::Empty => "opaque value",
        }
    }

    /// BIRD 2.0.12's number of the type, which it prints.
    fn code(self) -> u8 {
        match self {
            EnumType::Source => 0x30,
            EnumType::Origin => 0x31,
            EnumType::Destination => 0x34,
            EnumType::Roa => 0x35,
            EnumType::Net => 0x36,
            EnumType::Empty => 0x3f,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Ip => "ip",
            Type::Prefix => "prefix",
            Type::Pair => "pair",
            Type::Quad => "quad",
            Type::Ec => "ec",
            Type::Lc => "lc",
            Type::String => "string",
            Type::Path => "bgppath",
            Type::Mask => "bgpmask",
            Type::Clist => "clist",
            Type::Eclist => "eclist",
            Type::Lclist => "lclist",
            Type::Enum(e) => e.as_str(),
            Type::Set(None) => "set",
            Type::Set(Some(of)) => return write!(f, "{} set", of.member()),
            Type::PrefixSet => "prefix set",
            Type::Any => "any",
        })
    }
}

impl Type {
    /// Can a value of type `other` stand where this type is wanted? A quad takes an address too, as in BIRD.
    pub(crate) fn takes(self, other: Type) -> bool {
        match (self, other) {
            (Type::Any, _) | (_, Type::Any) | (Type::Quad, Type::Ip) => true,
            (Type::Set(a), Type::Set(b)) => a.is_none() || b.is_none() || a == b,
            (a, b) => a == b,
        }
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An attribute that the route does not have, or a variable without a value.
    Void,
    /// `bool`.
    Bool(bool),
    /// `int`.
    Int(u32),
    /// `pair`.
    Pair(u32),
    /// `quad`.
    Quad(u32),
    /// `ip`.
    Ip(IpAddr),
    /// `prefix`.
    Prefix(Prefix),
    /// `ec`.
    Ec(ExtCommunity),
    /// `lc`.
    Lc(LargeCommunity),
    /// `string`.
    String(Arc<str>),
    /// An enumeration's member.
    Enum(EnumType, u8),
    /// `bgppath`.
    Path(AsPath),
    /// `bgpmask`.
    Mask(Arc<PathMask>),
    /// `clist`, in order.
    Clist(Vec<u32>),
    /// A `clist` whose members are quads: the cluster list.
    Clusters(Vec<u32>),
    /// `eclist`, in order.
    Eclist(Vec<ExtCommunity>),
    /// `lclist`, in order.
    Lclist(Vec<LargeCommunity>),
    /// A set of anything but prefixes.
    Set(Arc<ValueSet>),
    /// `prefix set`.
    PrefixSet(Arc<PrefixSet>),
}

impl Value {
    /// What an attribute reads as whose value the language does not show.
    pub(crate) const OPAQUE: Value = Value::Enum(EnumType::Empty, 0);

    /// The type; none for [`Value::Void`].
    pub(crate) fn ty(&self) -> Option<Type> {
        Some(match self {
            Value::Void => return None,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Pair(_) => Type::Pair,
            Value::Quad(_) => Type::Quad,
            Value::Ip(_) => Type::Ip,
            Value::Prefix(_) => Type::Prefix,
            Value::Ec(_) => Type::Ec,
            Value::Lc(_) => Type::Lc,
            Value::String(_) => Type::String,
            Value::Enum(e, _) => Type::Enum(*e),
            Value::Path(_) => Type::Path,
            Value::Mask(_) => Type::Mask,
            Value::Clist(_) | Value::Clusters(_) => Type::Clist,
            Value::Eclist(_) => Type::Eclist,
            Value::Lclist(_) => Type::Lclist,
            Value::Set(set) => Type::Set(set.of()),
            Value::PrefixSet(_) => Type::PrefixSet,
        })
    }

    /// What a variable of this type holds before anything is assigned, and an attribute that is not there reads as.
    pub(crate) fn initial(ty: Type) -> Value {
        match ty {
            Type::Path => Value::Path(AsPath::empty()),
            Type::Clist => Value::Clist(Vec::new()),
            Type::Eclist => Value::Eclist(Vec::new()),
            Type::Lclist => Value::Lclist(Vec::new()),
            _ => Value::Void,
        }
    }
}

/// Writes members with a separator.
pub(crate) fn joined<T>(
    f: &mut fmt::Formatter<'_>,
    items: impl IntoIterator<Item = T>,
    separator: &str,
    mut one: impl FnMut(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            f.write_str(separator)?;
        }
        one(f, item)?;
    }
    Ok(())
}

pub(crate) fn write_pair(f: &mut fmt::Formatter<'_>, pair: u32) -> fmt::Result {
    write!(f, "({},{})", pair >> 16, pair & 0xFFFF)
}

/// An extended community as BIRD writes it: `(rt, 1, 2)`, `(unknown 0x4002, 1, 2)`, `(generic, 0x43000000, 0x1)`.
pub(crate) fn write_ec(f: &mut fmt::Formatter<'_>, ec: ExtCommunity) -> fmt::Result {
    let (high, low) = ((ec.0 >> 32) as u32, ec.0 as u32);
    let (ty, subtype) = (high >> 24, (high >> 16) & 0xFF);
    if !matches!(ty, 0x00..=0x02 | 0x40..=0x42) {
        return write!(f, "(generic, {high:#x}, {low:#x})");
    }
    match (ty, subtype) {
        (0x00..=0x02, 2) => f.write_str("(rt, ")?,
        (0x00..=0x02, 3) => f.write_str("(ro, ")?,
        _ => write!(f, "(unknown {:#x}, ", high >> 16)?,
    }
    match ty & 0x03 {
        0 => write!(f, "{}, {low})", high & 0xFFFF),
        1 => write!(
            f,
            "{}, {})",
            Ipv4Addr::from((high & 0xFFFF) << 16 | low >> 16),
            low & 0xFFFF
        ),
        _ => write!(f, "{}, {})", (high & 0xFFFF) << 16 | low >> 16, low & 0xFFFF),
    }
}

pub(crate) fn write_lc(f: &mut fmt::Formatter<'_>, lc: LargeCommunity) -> fmt::Result {
    write!(f, "({}, {}, {})", lc.0, lc.1, lc.2)
}

impl fmt::Display for Value {
    /// As BIRD's `print` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Void => f.write_str("(void)"),
            Value::Bool(b) => f.write_str(if *b { "TRUE" } else { "FALSE" }),
            Value::Int(i) => i.fmt(f),
            Value::Pair(p) => write_pair(f, *p),
            Value::Quad(q) => Ipv4Addr::from(*q).fmt(f),
            Value::Ip(ip) => ip.fmt(f),
            Value::Prefix(p) => p.fmt(f),
            Value::Ec(ec) => write_ec(f, *ec),
            Value::Lc(lc) => write_lc(f, *lc),
            Value::String(s) => f.write_str(s),
            Value::Enum(e, number) => write!(f, "(enum {:x}){number}", e.code()),
            Value::Path(path) => write!(f, "(path {path})"),
            Value::Mask(mask) => mask.fmt(f),
            Value::Clist(list) => {
                f.write_str("(clist ")?;
                joined(f, list, " ", |f, p| write_pair(f, *p))?;
                f.write_str(")")
            }
            Value::Clusters(list) => {
                f.write_str("(clist ")?;
                joined(f, list, " ", |f, q| Ipv4Addr::from(*q).fmt(f))?;
                f.write_str(")")
            }
            Value::Eclist(list) => {
                f.write_str("(eclist ")?;
                joined(f, list, " ", |f, ec| write_ec(f, *ec))?;
                f.write_str(")")
            }
            Value::Lclist(list) => {
                f.write_str("(lclist ")?;
                joined(f, list, " ", |f, lc| write_lc(f, *lc))?;
                f.write_str(")")
            }
            Value::Set(set) => set.print(f),
            Value::PrefixSet(set) => set.fmt(f),
        }
    }
}
