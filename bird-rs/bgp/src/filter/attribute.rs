//! The attributes of a route that the language names: one row each.

use super::value::{EnumType, Type};

/// An attribute of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// `net`.
    Net,
    /// `proto`.
    Proto,
    /// `source`.
    Source,
    /// `from`.
    From,
    /// `gw`.
    Gw,
    /// `ifname`.
    Ifname,
    /// `dest`.
    Dest,
    /// `preference`.
    Preference,
    /// `igp_metric`.
    IgpMetric,
    /// `krt_metric`.
    KrtMetric,
    /// `krt_source`.
    KrtSource,
    /// `krt_prefsrc`.
    KrtPrefsrc,
    /// `bgp_origin`.
    Origin,
    /// `bgp_path`.
    Path,
    /// `bgp_next_hop`.
    NextHop,
    /// `bgp_med`.
    Med,
    /// `bgp_local_pref`.
    LocalPref,
    /// `bgp_community`.
    Community,
    /// `bgp_ext_community`.
    ExtCommunity,
    /// `bgp_large_community`.
    LargeCommunity,
    /// `bgp_originator_id`.
    OriginatorId,
    /// `bgp_cluster_list`.
    ClusterList,
    /// `bgp_atomic_aggr`.
    AtomicAggregate,
    /// `bgp_aggregator`.
    Aggregator,
    /// `bgp_otc` (RFC 9234).
    OnlyToCustomer,
}

/// What a filter may do with an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Look.
    Read,
    /// Look, and remove.
    Unset,
    /// Assign, but not remove.
    Assign,
    /// Assign and remove.
    AssignUnset,
}

/// The rows: name, attribute, type, access.
pub(crate) const ATTRIBUTES: [(&str, Attribute, Type, Access); 25] = [
    ("net", Attribute::Net, Type::Prefix, Access::Read),
    ("proto", Attribute::Proto, Type::String, Access::Read),
    ("source", Attribute::Source, Type::Enum(EnumType::Source), Access::Read),
    ("from", Attribute::From, Type::Ip, Access::Assign),
    ("gw", Attribute::Gw, Type::Ip, Access::Assign),
    ("ifname", Attribute::Ifname, Type::String, Access::Assign),
    (
        "dest",
        Attribute::Dest,
        Type::Enum(EnumType::Destination),
        Access::Assign,
    ),
    ("preference", Attribute::Preference, Type::Int, Access::Assign),
    ("igp_metric", Attribute::IgpMetric, Type::Int, Access::AssignUnset),
    ("krt_metric", Attribute::KrtMetric, Type::Int, Access::AssignUnset),
    ("krt_source", Attribute::KrtSource, Type::Int, Access::AssignUnset),
    ("krt_prefsrc", Attribute::KrtPrefsrc, Type::Ip, Access::AssignUnset),
    (
        "bgp_origin",
        Attribute::Origin,
        Type::Enum(EnumType::Origin),
        Access::AssignUnset,
    ),
    ("bgp_path", Attribute::Path, Type::Path, Access::AssignUnset),
    ("bgp_next_hop", Attribute::NextHop, Type::Ip, Access::AssignUnset),
    ("bgp_med", Attribute::Med, Type::Int, Access::AssignUnset),
    ("bgp_local_pref", Attribute::LocalPref, Type::Int, Access::AssignUnset),
    (
        "bgp_atomic_aggr",
        Attribute::AtomicAggregate,
        Type::Enum(EnumType::Empty),
        Access::Unset,
    ),
    (
        "bgp_aggregator",
        Attribute::Aggregator,
        Type::Enum(EnumType::Empty),
        Access::Unset,
    ),
    ("bgp_community", Attribute::Community, Type::Clist, Access::AssignUnset),
    (
        "bgp_ext_community",
        Attribute::ExtCommunity,
        Type::Eclist,
        Access::AssignUnset,
    ),
    (
        "bgp_large_community",
        Attribute::LargeCommunity,
        Type::Lclist,
        Access::AssignUnset,
    ),
    (
        "bgp_originator_id",
        Attribute::OriginatorId,
        Type::Quad,
        Access::AssignUnset,
    ),
    (
        "bgp_cluster_list",
        Attribute::ClusterList,
        Type::Clist,
        Access::AssignUnset,
    ),
    ("bgp_otc", Attribute::OnlyToCustomer, Type::Int, Access::AssignUnset),
];

impl Attribute {
    /// The attribute of this name.
    pub(crate) fn named(name: &str) -> Option<Attribute> {
        ATTRIBUTES.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    fn row(self) -> (&'static str, Type, Access) {
        let row = ATTRIBUTES.iter().find(|row| row.1 == self);
        row.map_or(("", Type::Any, Access::Read), |row| (row.0, row.2, row.3))
    }

    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Its type.
    pub(crate) fn ty(self) -> Type {
        self.row().1
    }

    /// May a filter assign it?
    pub(crate) fn is_assignable(self) -> bool {
        matches!(self.access(), Access::Assign | Access::AssignUnset)
    }

    /// May a filter remove it?
    pub(crate) fn is_removable(self) -> bool {
        matches!(self.access(), Access::Unset | Access::AssignUnset)
    }

    /// What a filter may do with it.
    fn access(self) -> Access {
        self.row().2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_has_its_own_row() {
        for (name, attribute, ty, access) in ATTRIBUTES {
            assert_eq!(Attribute::named(name), Some(attribute));
            assert_eq!(
                (attribute.as_str(), attribute.ty(), attribute.access()),
                (name, ty, access)
            );
        }
    }
}
