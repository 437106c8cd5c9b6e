//! What templates for FRR and GoBGP need beside the view: its filters in terms of these programs.
//!
//! BIRD's language says everything that a view can ask, and its template writes conditions itself. FRR has route maps with
//! lists of prefixes, communities and paths, GoBGP has policies with sets; both are worked out here, as pure functions of
//! the view. What a program has no words for is an [`Inexpressible`] with the object that asks for it: the template
//! fails with it, since a file that left it out would do something else.

pub(super) mod frr;
pub(super) mod gobgp;

use serde::Serialize;

use crate::view::{BgpView, FilterRule, Lengths, Match, NetworkOperator, Origin, Policy};
use tortie_net::Prefix;

/// Something that a program cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Inexpressible {
    /// Who asks for it.
    origin: Origin,
    /// What, and why not.
    message: String,
}

impl Inexpressible {
    fn new(origin: &Origin, message: impl Into<String>) -> Self {
        Inexpressible {
            origin: origin.clone(),
            message: message.into(),
        }
    }
}

/// A comparison of networks with what never or always holds taken out: a range of prefixes, or all but it.
struct Range {
    prefix: Prefix,
    lengths: Lengths,
    /// All but these.
    not: bool,
}

/// When a rule holds, as far as networks decide.
enum Networks {
    Always,
    Never,
    These(Range),
}

fn networks(operator: NetworkOperator, prefix: Prefix, lengths: Option<Lengths>) -> Networks {
    let own = Lengths {
        min: prefix.len(),
        max: prefix.len(),
    };
    let inside = lengths.unwrap_or(Lengths {
        min: prefix.len(),
        max: prefix.max_len(),
    });
    // Equal asks for the prefix itself, which is none of the lengths when they begin beyond it.
    let (exact, not) = match operator {
        NetworkOperator::Equal => (true, false),
        NetworkOperator::NotEqual => (true, true),
        NetworkOperator::In => (false, false),
        NetworkOperator::NotIn => (false, true),
    };
    match (exact && inside.min > prefix.len(), not) {
        (true, false) => Networks::Never,
        (true, true) => Networks::Always,
        (false, not) => Networks::These(Range {
            prefix,
            lengths: if exact { own } else { inside },
            not,
        }),
    }
}

/// The rules of a policy's BGPFilters, in order, with the filter of each; those for the other kind of session are left out.
fn rules<'a>(view: &'a BgpView, policy: &'a Policy) -> impl Iterator<Item = (&'a Origin, &'a FilterRule)> {
    let functions = policy
        .calls
        .iter()
        .filter_map(|call| view.filters.iter().find(|f| f.name == call.function));
    let all = functions.flat_map(|f| f.rules.iter().map(move |r| (&f.origin, r)));
    all.filter(|(_, rule)| {
        let other = |m: &Match| matches!(m, Match::Session { internal } if *internal != policy.internal);
        !rule.matches.iter().any(other)
    })
}
