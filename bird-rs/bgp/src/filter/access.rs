//! A route's attributes as values of the language: reading, assigning, removing.
//!
//! Assigning an equal value changes nothing, so that borrowed path attributes stay borrowed.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use tortie_net::{Asn, Community, ExtCommunity, LargeCommunity, Prefix, RouterId};

use super::ast::{EditOp, Member};
use super::attribute::Attribute;
use super::operation::{self as op, Operand, mistyped};
use super::route::{Problem, RouteContext, RouteDestination, RouteSource};
use super::value::{EnumType, Value};
use crate::attr::{AsPath, Attributes, NextHop, Origin, Partial, Set};

impl RouteSource {
    fn code(self) -> u8 {
        match self {
            RouteSource::Static => 1,
            RouteSource::Inherit => 2,
            RouteSource::Device => 3,
            RouteSource::Bgp => 11,
        }
    }
}

impl RouteDestination {
    fn code(self) -> u8 {
        match self {
            RouteDestination::Unicast => 1,
            RouteDestination::Blackhole => 2,
            RouteDestination::Unreachable => 3,
            RouteDestination::Prohibit => 4,
        }
    }
}

fn or_void<T>(value: Option<T>, make: impl FnOnce(T) -> Value) -> Value {
    value.map_or(Value::Void, make)
}

/// BIRD shows an address that is not there as the unspecified one.
fn address(addr: Option<IpAddr>) -> Value {
    Value::Ip(addr.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))
}

/// `to` takes a new value, but is not touched when it has it already.
fn change<T: PartialEq>(
    attributes: &mut Cow<'_, Attributes>,
    field: impl Fn(&Attributes) -> &T,
    place: impl Fn(&mut Attributes) -> &mut T,
    value: T,
) {
    if *field(attributes) != value {
        *place(attributes.to_mut()) = value;
    }
}

macro_rules! assign {
    ($route:expr, $field:ident, $value:expr) => {
        change(&mut $route.attributes, |a| &a.$field, |a| &mut a.$field, $value)
    };
}

/// Changes a set of communities in place, copying the attributes only when it changes.
fn edit_set<'v, T: Ord + Copy>(
    attributes: &mut Cow<'_, Attributes>,
    field: fn(&Attributes) -> &Set<T>,
    place: fn(&mut Attributes) -> &mut Set<T>,
    edit: EditOp,
    operand: &Operand<'v, T>,
) {
    match edit {
        EditOp::Add => {
            for item in operand.members() {
                if !field(attributes).contains(*item) {
                    place(attributes.to_mut()).insert(*item);
                }
            }
        }
        EditOp::Delete => {
            if field(attributes).iter().any(|item| operand.holds(*item)) {
                place(attributes.to_mut()).retain(|item| !operand.holds(*item));
            }
        }
        EditOp::Filter => {
            if !field(attributes).iter().all(|item| operand.holds(*item)) {
                place(attributes.to_mut()).retain(|item| operand.holds(*item));
            }
        }
        EditOp::Prepend => {}
    }
}

impl RouteContext<'_> {
    /// The value of an attribute; [`Value::Void`] when the route has none.
    pub(crate) fn get(&self, attribute: Attribute) -> Value {
        let a = &*self.attributes;
        match attribute {
            Attribute::Net => Value::Prefix(self.net),
            Attribute::Proto => Value::String(self.proto.into()),
            Attribute::Source => Value::Enum(EnumType::Source, self.source.code()),
            Attribute::From => address(self.from),
            Attribute::Gw => address(self.gw),
            Attribute::Ifname => Value::String(self.ifname.as_deref().unwrap_or_default().into()),
            Attribute::Dest => Value::Enum(EnumType::Destination, self.dest.code()),
            Attribute::Preference => Value::Int(self.preference.into()),
            Attribute::IgpMetric => or_void(self.igp_metric, Value::Int),
            Attribute::KrtMetric => or_void(self.krt.metric, Value::Int),
            Attribute::KrtSource => or_void(self.krt.source, Value::Int),
            Attribute::KrtPrefsrc => or_void(self.krt.prefsrc, Value::Ip),
            // A route that never met BGP has no origin; there is one once BGP or a filter gave it another than the default.
            Attribute::Origin if self.source != RouteSource::Bgp && a.origin == Origin::default() => Value::Void,
            Attribute::Origin => Value::Enum(EnumType::Origin, a.origin.code()),
            Attribute::Path => Value::Path(a.as_path.clone()),
            Attribute::NextHop => or_void(a.next_hop, |hop| Value::Ip(hop.addr())),
            Attribute::Med => or_void(a.med, Value::Int),
            Attribute::LocalPref => or_void(a.local_pref, Value::Int),
            // As in BIRD these have no value that a filter could see: they are there or not.
            Attribute::AtomicAggregate => or_void(a.atomic_aggregate.then_some(()), |()| Value::OPAQUE),
            Attribute::Aggregator => or_void(a.aggregator, |_| Value::OPAQUE),
            Attribute::Community => Value::Clist(a.communities.iter().map(|c| c.0).collect()),
            Attribute::ExtCommunity => Value::Eclist(a.ext_communities.to_vec()),
            Attribute::LargeCommunity => Value::Lclist(a.large_communities.to_vec()),
            Attribute::OriginatorId => or_void(a.originator_id, |id| Value::Quad(id.0)),
            Attribute::ClusterList => Value::Clusters(a.cluster_list.iter().map(|id| id.0).collect()),
            Attribute::OnlyToCustomer => or_void(a.only_to_customer, |asn| Value::Int(asn.0)),
        }
    }

    /// Assigns an attribute. The parser has refused those that are read only.
    pub(crate) fn set(&mut self, attribute: Attribute, value: Value) -> Result<(), Problem> {
        match (attribute, value) {
            (Attribute::From, Value::Ip(ip)) => self.from = Some(ip),
            (Attribute::Gw, Value::Ip(ip)) => {
                self.gw = Some(ip);
                self.dest = RouteDestination::Unicast;
            }
            (Attribute::Ifname, Value::String(name)) => {
                self.ifname = Some(Cow::Owned(name.as_ref().to_owned()));
                self.gw = None;
                self.dest = RouteDestination::Unicast;
            }
            (Attribute::Dest, Value::Enum(EnumType::Destination, code)) => {
                self.dest = match code {
                    2 => RouteDestination::Blackhole,
                    3 => RouteDestination::Unreachable,
                    4 => RouteDestination::Prohibit,
                    _ => {
                        return Err(Problem::Range {
                            what: "dest",
                            value: "RTD_UNICAST".to_owned(),
                        });
                    }
                };
                (self.gw, self.ifname) = (None, None);
            }
            (Attribute::Preference, Value::Int(i)) => {
                self.preference = u16::try_from(i).map_err(|_| Problem::Range {
                    what: "preference",
                    value: i.to_string(),
                })?;
            }
            (Attribute::IgpMetric, Value::Int(i)) => self.igp_metric = Some(i),
            (Attribute::KrtMetric, Value::Int(i)) => self.krt.metric = Some(i),
            (Attribute::KrtSource, Value::Int(i)) => self.krt.source = Some(i),
            (Attribute::KrtPrefsrc, Value::Ip(ip)) => self.krt.prefsrc = Some(ip),
            (attribute, value) => {
                let before = self.optional();
                self.set_path_attribute(attribute, value)?;
                self.mark_attached(before);
            }
        }
        Ok(())
    }

    fn set_path_attribute(&mut self, attribute: Attribute, value: Value) -> Result<(), Problem> {
        match (attribute, value) {
            (Attribute::Origin, Value::Enum(EnumType::Origin, code)) => {
                assign!(self, origin, Origin::from_code(code).unwrap_or_default());
            }
            (Attribute::Path, Value::Path(path)) => assign!(self, as_path, path),
            (Attribute::NextHop, Value::Ip(ip)) => {
                self.assigned.next_hop = true;
                assign!(self, next_hop, Some(NextHop::from(ip)));
            }
            (Attribute::Med, Value::Int(i)) => {
                self.assigned.med = true;
                assign!(self, med, Some(i));
            }
            (Attribute::LocalPref, Value::Int(i)) => assign!(self, local_pref, Some(i)),
            (Attribute::Community, Value::Clist(list) | Value::Clusters(list)) => {
                assign!(self, communities, list.into_iter().map(Community).collect());
            }
            (Attribute::ExtCommunity, Value::Eclist(list)) => {
                assign!(self, ext_communities, list.into_iter().collect())
            }
            (Attribute::LargeCommunity, Value::Lclist(list)) => {
                assign!(self, large_communities, list.into_iter().collect());
            }
            (Attribute::OriginatorId, Value::Quad(id)) => assign!(self, originator_id, Some(RouterId(id))),
            (Attribute::OriginatorId, Value::Ip(IpAddr::V4(id))) => {
                assign!(self, originator_id, Some(RouterId::from(id)))
            }
            (Attribute::ClusterList, Value::Clist(list) | Value::Clusters(list)) => {
                assign!(self, cluster_list, list.into_iter().map(RouterId).collect());
            }
            (Attribute::OnlyToCustomer, Value::Int(asn)) => assign!(self, only_to_customer, Some(Asn(asn))),
            (attribute, value) => return Err(mistyped(attribute.as_str(), "its own type", &value)),
        }
        Ok(())
    }

    /// `ATTRIBUTE = edit(ATTRIBUTE, what)`, in place.
    pub(crate) fn edit(&mut self, attribute: Attribute, edit: EditOp, what: &Value) -> Result<(), Problem> {
        let before = self.optional();
        self.edit_in_place(attribute, edit, what)?;
        self.mark_attached(before);
        Ok(())
    }

    /// The optional transitive attributes that a filter can attach, and whether the route has them.
    fn optional(&self) -> [(Partial, bool); 4] {
        let a = &*self.attributes;
        [
            (Partial::COMMUNITIES, !a.communities.is_empty()),
            (Partial::EXT_COMMUNITIES, !a.ext_communities.is_empty()),
            (Partial::LARGE_COMMUNITIES, !a.large_communities.is_empty()),
            (Partial::ONLY_TO_CUSTOMER, a.only_to_customer.is_some()),
        ]
    }

    /// What is attached to a route that another router made is partial (RFC 4271 section 5).
    fn mark_attached(&mut self, before: [(Partial, bool); 4]) {
        if self.source != RouteSource::Bgp {
            return;
        }
        for ((attribute, had), (_, has)) in before.into_iter().zip(self.optional()) {
            match (had, has) {
                (false, true) => self.attributes.to_mut().partial.insert(attribute),
                (true, false) => self.attributes.to_mut().partial.remove(attribute),
                (true, true) | (false, false) => {}
            }
        }
    }

    fn edit_in_place(&mut self, attribute: Attribute, edit: EditOp, what: &Value) -> Result<(), Problem> {
        let attributes = &mut self.attributes;
        match attribute {
            Attribute::Community if edit != EditOp::Prepend => {
                let operand = match op::clist_operand(what) {
                    Some(Operand::One(one)) => Operand::One(Community(one)),
                    Some(Operand::Set(set, _)) => Operand::Set(set, |set, c: Community| op::in_set(set, c.0)),
                    Some(Operand::Many(_)) | None => return self.edit_copy(attribute, edit, what),
                };
                edit_set(attributes, |a| &a.communities, |a| &mut a.communities, edit, &operand);
                Ok(())
            }
            Attribute::ExtCommunity if edit != EditOp::Prepend => match op::eclist_operand(what) {
                Some(operand) => {
                    edit_set(
                        attributes,
                        |a| &a.ext_communities,
                        |a| &mut a.ext_communities,
                        edit,
                        &operand,
                    );
                    Ok(())
                }
                None => self.edit_copy(attribute, edit, what),
            },
            Attribute::LargeCommunity if edit != EditOp::Prepend => match op::lclist_operand(what) {
                Some(operand) => {
                    edit_set(
                        attributes,
                        |a| &a.large_communities,
                        |a| &mut a.large_communities,
                        edit,
                        &operand,
                    );
                    Ok(())
                }
                None => self.edit_copy(attribute, edit, what),
            },
            _ => self.edit_copy(attribute, edit, what),
        }
    }

    fn edit_copy(&mut self, attribute: Attribute, edit: EditOp, what: &Value) -> Result<(), Problem> {
        let value = op::edit(edit, self.get(attribute), what)?;
        self.set(attribute, value)
    }

    /// The route's prefix and the AS that it comes from, for `roa_check`: 0 when the path ends in a set, or is empty.
    pub(crate) fn origin(&self) -> Result<(Prefix, Asn), Problem> {
        let path = &self.attributes.as_path;
        if self.source != RouteSource::Bgp && path.is_empty() {
            return Err(Problem::Undefined(Attribute::Path.as_str()));
        }
        Ok((self.net, path.origin_as().unwrap_or(Asn(0))))
    }

    /// Removes an attribute.
    pub(crate) fn unset(&mut self, attribute: Attribute) {
        match attribute {
            Attribute::IgpMetric => self.igp_metric = None,
            Attribute::KrtMetric => self.krt.metric = None,
            Attribute::KrtSource => self.krt.source = None,
            Attribute::KrtPrefsrc => self.krt.prefsrc = None,
            Attribute::Origin => assign!(self, origin, Origin::default()),
            Attribute::Path => assign!(self, as_path, AsPath::empty()),
            Attribute::NextHop => assign!(self, next_hop, None),
            Attribute::Med => assign!(self, med, None),
            Attribute::LocalPref => assign!(self, local_pref, None),
            Attribute::AtomicAggregate => assign!(self, atomic_aggregate, false),
            Attribute::Aggregator => assign!(self, aggregator, None),
            Attribute::Community => assign!(self, communities, Set::default()),
            Attribute::ExtCommunity => assign!(self, ext_communities, Set::<ExtCommunity>::default()),
            Attribute::LargeCommunity => assign!(self, large_communities, Set::<LargeCommunity>::default()),
            Attribute::OriginatorId => assign!(self, originator_id, None),
            Attribute::ClusterList => assign!(self, cluster_list, Box::default()),
            Attribute::OnlyToCustomer => assign!(self, only_to_customer, None),
            Attribute::Net
            | Attribute::Proto
            | Attribute::Source
            | Attribute::From
            | Attribute::Gw
            | Attribute::Ifname
            | Attribute::Dest
            | Attribute::Preference => {}
        }
    }

    /// `ATTRIBUTE.MEMBER` where the attribute is a path or prefix, or a list whose length is asked for; none for others.
    pub(crate) fn attribute_member(&self, attribute: Attribute, member: Member) -> Option<Value> {
        let a = &*self.attributes;
        let asn = |asn: Option<Asn>| Value::Int(asn.map_or(0, |asn| asn.0));
        Some(match (attribute, member) {
            (Attribute::Net, _) => return op::member(member, &Value::Prefix(self.net)).ok(),
            (Attribute::Path, Member::Len) => op::count(a.as_path.len()),
            (Attribute::Path, Member::First) => asn(a.as_path.first()),
            (Attribute::Path, Member::Last) => asn(a.as_path.origin_as()),
            (Attribute::Path, Member::LastNonaggregated) => asn(a.as_path.last_nonaggregated()),
            (Attribute::Community, Member::Len) => op::count(a.communities.len()),
            (Attribute::ExtCommunity, Member::Len) => op::count(a.ext_communities.len()),
            (Attribute::LargeCommunity, Member::Len) => op::count(a.large_communities.len()),
            _ => return None,
        })
    }

    /// `ATTRIBUTE ~ CONSTANT` where the attribute is a list or path; none for other matches.
    pub(crate) fn attribute_matches(&self, attribute: Attribute, what: &Value) -> Option<bool> {
        let a = &*self.attributes;
        Some(match (attribute, what) {
            (Attribute::Net, Value::PrefixSet(set)) => set.contains(self.net),
            (Attribute::Path, Value::Mask(mask)) => mask.matches(&a.as_path),
            (Attribute::Path, Value::Set(set)) => op::path_meets(&a.as_path, set),
            (Attribute::Community, Value::Set(set)) => a.communities.iter().any(|c| op::in_set(set, c.0)),
            (Attribute::ExtCommunity, Value::Set(set)) => a.ext_communities.iter().any(|c| set.has_ec(*c)),
            (Attribute::LargeCommunity, Value::Set(set)) => a.large_communities.iter().any(|c| set.has_lc(*c)),
            _ => return None,
        })
    }

    /// `CONSTANT ~ ATTRIBUTE` where the attribute is a list or path; none for other matches.
    pub(crate) fn attribute_has(&self, attribute: Attribute, what: &Value) -> Option<bool> {
        let a = &*self.attributes;
        Some(match (attribute, what) {
            (Attribute::Path, Value::Int(asn)) => a.as_path.contains(Asn(*asn)),
            (Attribute::Community, Value::Pair(c) | Value::Quad(c)) => a.communities.contains(Community(*c)),
            (Attribute::Community, Value::Ip(IpAddr::V4(addr))) => a.communities.contains(Community(u32::from(*addr))),
            (Attribute::ExtCommunity, Value::Ec(ec)) => a.ext_communities.contains(*ec),
            (Attribute::LargeCommunity, Value::Lc(lc)) => a.large_communities.contains(*lc),
            _ => return None,
        })
    }
}
