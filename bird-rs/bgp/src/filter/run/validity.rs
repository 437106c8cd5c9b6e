//! `roa_check` (RFC 6811): of the route, or of a prefix and an AS that are given; without a route only the latter, and only where
//! tables of ROAs are at hand, which the constants of a file have not.

use tortie_net::{Asn, Prefix};

use super::super::ast::{Expr, ExprKind, Line, RoaCheck};
use super::super::attribute::Attribute;
use super::super::operation as op;
use super::super::route::Problem;
use super::super::value::{EnumType, Value};
use super::{Machine, Run, fail};
use crate::roa::Validity;

impl<'p> Machine<'p, '_, '_> {
    pub(super) fn roa_check(&mut self, check: &'p RoaCheck, line: Line) -> Run<Value> {
        let explicit = match &check.route {
            None => None,
            Some((prefix, asn)) => {
                let net = self.asked_prefix(prefix, line)?;
                Some((net, Asn(self.int(asn)?)))
            }
        };
        let route = self.route.as_deref();
        let no_route = || fail(line, Problem::NoRoute("roa_check"));
        let roas = route.map_or(self.roas, |route| route.roas);
        let (net, origin) = match (explicit, route) {
            (Some((Some(net), origin)), route) if route.is_some() || roas.is_some() => (net, origin),
            (Some((None, origin)), Some(route)) => (route.net, origin),
            (None, Some(route)) => route.origin().map_err(|p| fail(line, p))?,
            (_, _) => return Err(no_route()),
        };
        let validity = roas.map_or(Validity::Unknown, |roas| roas.validity(&check.table, net, origin));
        if !matches!(explicit, Some((Some(_), _))) {
            self.notes.note_roa(&check.table, origin, validity);
        }
        Ok(Value::Enum(EnumType::Roa, validity.code()))
    }

    /// The prefix that `roa_check` is asked about; none for the route's own.
    fn asked_prefix(&mut self, prefix: &'p Expr, line: Line) -> Run<Option<Prefix>> {
        if self.route.is_some() && matches!(prefix.kind, ExprKind::Attribute(Attribute::Net)) {
            return Ok(None);
        }
        match self.eval(prefix)? {
            Value::Prefix(net) => Ok(Some(net)),
            other => {
                let problem = op::mistyped("the prefix of roa_check", "prefix", &other);
                Err(fail(line, problem))
            }
        }
    }
}
