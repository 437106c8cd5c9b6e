//! Address families, and what a session's two OPENs agreed on.

use std::fmt;

use serde::Serialize;
use tortie_net::Prefix;

/// An address family this speaker carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum AfiSafi {
    /// IPv4 unicast, (1, 1).
    Ipv4Unicast,
    /// IPv6 unicast, (2, 1).
    Ipv6Unicast,
}

impl AfiSafi {
    /// Every family, in the order of [`FamilySet`].
    pub const ALL: [AfiSafi; 2] = [AfiSafi::Ipv4Unicast, AfiSafi::Ipv6Unicast];

    /// The numbers on the wire: address family, subsequent address family.
    pub fn codes(self) -> (u16, u8) {
        match self {
            AfiSafi::Ipv4Unicast => (1, 1),
            AfiSafi::Ipv6Unicast => (2, 1),
        }
    }

    /// From the numbers on the wire, if we know the family.
    pub fn from_codes(afi: u16, safi: u8) -> Option<Self> {
        AfiSafi::ALL.into_iter().find(|family| family.codes() == (afi, safi))
    }

    /// The family of a prefix.
    pub fn of(prefix: Prefix) -> Self {
        if prefix.is_v4() {
            AfiSafi::Ipv4Unicast
        } else {
            AfiSafi::Ipv6Unicast
        }
    }

    /// BIRD's name of the channel: `ipv4` or `ipv6`.
    pub fn name(self) -> &'static str {
        match self {
            AfiSafi::Ipv4Unicast => "ipv4",
            AfiSafi::Ipv6Unicast => "ipv6",
        }
    }

    /// Bits of an address.
    pub fn bits(self) -> u8 {
        match self {
            AfiSafi::Ipv4Unicast => 32,
            AfiSafi::Ipv6Unicast => 128,
        }
    }

    fn bit(self) -> u8 {
        match self {
            AfiSafi::Ipv4Unicast => 1,
            AfiSafi::Ipv6Unicast => 2,
        }
    }
}

impl fmt::Display for AfiSafi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of families.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FamilySet(u8);

impl FamilySet {
    /// The empty set.
    pub const EMPTY: FamilySet = FamilySet(0);

    /// Is this family in it?
    pub fn contains(self, family: AfiSafi) -> bool {
        self.0 & family.bit() != 0
    }

    /// Is nothing in it?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Puts a family in.
    pub fn insert(&mut self, family: AfiSafi) {
        self.0 |= family.bit();
    }

    /// Takes a family out.
    pub fn remove(&mut self, family: AfiSafi) {
        self.0 &= !family.bit();
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(self, other: FamilySet) -> FamilySet {
        FamilySet(self.0 & other.0)
    }

    /// What is here and not there.
    #[must_use]
    pub fn difference(self, other: FamilySet) -> FamilySet {
        FamilySet(self.0 & !other.0)
    }

    /// Its families, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = AfiSafi> {
        AfiSafi::ALL.into_iter().filter(move |&family| self.contains(family))
    }
}

impl FromIterator<AfiSafi> for FamilySet {
    fn from_iter<I: IntoIterator<Item = AfiSafi>>(families: I) -> Self {
        let mut set = FamilySet::EMPTY;
        families.into_iter().for_each(|family| set.insert(family));
        set
    }
}

impl fmt::Debug for FamilySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(AfiSafi::name)).finish()
    }
}

/// What decides how bytes are read and written on an established session: the outcome of both OPENs.
///
/// The default is a session on which nothing was agreed: two-octet AS numbers, IPv4 only, 4,096 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionContext {
    /// Is the peer in another AS? Attributes that only have a meaning inside an AS are then discarded on receipt.
    pub ebgp: bool,
    /// LOCAL_PREF is taken from the peer although it is in another AS.
    pub local_pref: bool,
    /// Both sides write AS numbers in four octets (RFC 6793).
    pub four_octet_as: bool,
    /// Families both sides named (RFC 4760).
    pub families: FamilySet,
    /// NLRI we receive carry a path identifier (RFC 7911).
    pub add_path_rx: FamilySet,
    /// NLRI we send carry a path identifier.
    pub add_path_tx: FamilySet,
    /// IPv4 NLRI may have an IPv6 next hop (RFC 8950).
    pub ext_next_hop: bool,
    /// Messages we receive may have up to 65,535 octets: we offered it (RFC 8654).
    pub extended_rx: bool,
    /// Messages we send may have up to 65,535 octets: the peer offered it.
    pub extended_tx: bool,
}

impl Default for SessionContext {
    fn default() -> Self {
        SessionContext {
            ebgp: true,
            local_pref: false,
            four_octet_as: false,
            families: FamilySet::from_iter([AfiSafi::Ipv4Unicast]),
            add_path_rx: FamilySet::EMPTY,
            add_path_tx: FamilySet::EMPTY,
            ext_next_hop: false,
            extended_rx: false,
            extended_tx: false,
        }
    }
}

impl SessionContext {
    /// The largest message we may send, in octets.
    pub fn max_send(&self) -> usize {
        if self.extended_tx { 65_535 } else { 4_096 }
    }

    /// The largest message the peer may send, in octets.
    pub fn max_receive(&self) -> usize {
        if self.extended_rx { 65_535 } else { 4_096 }
    }
}
