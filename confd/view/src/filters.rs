//! BGPFilters compiled to functions: checked matches and operations, in no speaker's language.
//!
//! A function decides (accepts or rejects) or falls through to what comes next. Its symbol is Calico's, with the name cut
//! to what a symbol of BIRD may have.

use std::collections::BTreeMap;

use tortie_model::resource::{
    BgpFilter, FilterAction, FilterOperation, FilterPeerType, FilterRule as Rule, FilterSource, MatchOperator,
};
use tortie_net::{Community, LargeCommunity, Prefix};

use super::cluster::{Cluster, Problems};
use super::mesh::Draft;
use super::problem::ProblemKind;
use super::short_hash;
use super::types::{
    CommunityValue, Direction, Family, FilterFunction, FilterRule, Lengths, Match, NetworkOperator, Operation, Origin,
};
use crate::state::Stored;

/// Local preference and route priority (Linux' metric) mirror each other: the lower the metric, the higher the
/// preference.
const MIRROR: u32 = 2_147_483_647;
/// BIRD cuts symbols at 64; Calico leaves this much of it to the name.
const NAME_ROOM: usize = 45;

type Slot = (String, Direction, Family);

/// The functions of the BGPFilters in use.
pub(super) struct Compiled {
    functions: BTreeMap<Slot, FilterFunction>,
    priorities: [bool; 2],
}

impl Compiled {
    pub(super) fn new(cluster: &Cluster<'_>, drafts: &[Draft], problems: &mut Problems) -> Self {
        let mut used: BTreeMap<&str, [bool; 2]> = BTreeMap::new();
        for draft in drafts {
            for name in &draft.filters {
                let families = used.entry(name).or_default();
                draft.families.iter().for_each(|f| families[index(*f)] = true);
                if !cluster.state.filters.contains_key(name) {
                    let kind = ProblemKind::UnknownFilter { filter: name.clone() };
                    problems.add(&draft.peer.origin, "spec.filters", kind);
                }
            }
        }
        let mut compiled = Compiled {
            functions: BTreeMap::new(),
            priorities: [false; 2],
        };
        for (name, families) in used {
            let Some(stored) = cluster.state.filters.get(name) else {
                continue;
            };
            for family in Family::ALL.into_iter().filter(|f| families[index(*f)]) {
                for direction in [Direction::Import, Direction::Export] {
                    compiled.add(name, stored, (direction, family), problems);
                }
            }
        }
        compiled
    }

    fn add(
        &mut self,
        name: &str,
        stored: &Stored<BgpFilter>,
        (direction, family): (Direction, Family),
        problems: &mut Problems,
    ) {
        let spec = &stored.object.spec;
        let (field, rules) = match (direction, family) {
            (Direction::Import, Family::Ipv4) => ("spec.importV4", &spec.import_v4),
            (Direction::Import, Family::Ipv6) => ("spec.importV6", &spec.import_v6),
            (Direction::Export, Family::Ipv4) => ("spec.exportV4", &spec.export_v4),
            (Direction::Export, Family::Ipv6) => ("spec.exportV6", &spec.export_v6),
        };
        if rules.is_empty() {
            return;
        }
        let origin = Origin {
            kind: "BGPFilter",
            name: name.to_owned(),
            revision: stored.revision,
        };
        let mut compile = Compile {
            family,
            origin: &origin,
            field,
            problems,
        };
        let function = FilterFunction {
            name: symbol(name, direction, family),
            family,
            direction,
            wants_internal: rules.iter().any(|r| r.peer_type.is_some()),
            rules: rules.iter().filter_map(|r| compile.rule(r)).collect(),
            origin: origin.clone(),
        };
        let about_priority = |r: &Rule| r.priority.is_some() || r.operations.iter().any(|o| o.set_priority.is_some());
        self.priorities[index(family)] |= rules.iter().any(about_priority);
        self.functions.insert((name.to_owned(), direction, family), function);
    }

    pub(super) fn function(&self, name: &str, direction: Direction, family: Family) -> Option<&FilterFunction> {
        self.functions.get(&(name.to_owned(), direction, family))
    }

    /// Does a filter of this family look at priorities or set them?
    pub(super) fn priorities(&self, family: Family) -> bool {
        self.priorities[index(family)]
    }

    pub(super) fn into_functions(self) -> Vec<FilterFunction> {
        let mut all: Vec<FilterFunction> = self.functions.into_values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

fn index(family: Family) -> usize {
    match family {
        Family::Ipv4 => 0,
        Family::Ipv6 => 1,
    }
}

fn symbol(name: &str, direction: Direction, family: Family) -> String {
    let name = if name.len() <= NAME_ROOM {
        name.to_owned()
    } else {
        let kept: String = name.chars().take(NAME_ROOM - 9).collect();
        format!("{kept}_{}", short_hash(name))
    };
    let direction = match direction {
        Direction::Import => "import",
        Direction::Export => "export",
    };
    format!("bgp_{name}_{direction}FilterV{}", family.digit())
}

/// A community as it is written, if it is one.
pub(super) fn community(text: &str) -> Option<CommunityValue> {
    if let Ok(c) = text.parse::<Community>() {
        return Some(CommunityValue {
            large: false,
            parts: vec![c.0 >> 16, c.0 & 0xFFFF],
        });
    }
    let c: LargeCommunity = text.parse().ok()?;
    Some(CommunityValue {
        large: true,
        parts: vec![c.0, c.1, c.2],
    })
}

struct Compile<'a> {
    family: Family,
    origin: &'a Origin,
    field: &'static str,
    problems: &'a mut Problems,
}

impl Compile<'_> {
    fn bad<T>(&mut self, value: impl ToString, reason: &str) -> Option<T> {
        let kind = ProblemKind::BadValue {
            value: value.to_string(),
            reason: reason.to_owned(),
        };
        self.problems.add(self.origin, self.field, kind);
        None
    }

    /// None, and a problem, when a part is not valid: a rule without one of its matches would match too much.
    fn rule(&mut self, rule: &Rule) -> Option<FilterRule> {
        let mut matches = Vec::new();
        if let Some(cidr) = rule.cidr {
            matches.push(self.network(rule, cidr)?);
        }
        if rule.source == Some(FilterSource::RemotePeers) {
            matches.push(Match::FromPeer);
        }
        if let Some(interface) = rule.interface.as_deref().filter(|i| *i != "*") {
            matches.push(self.interface(interface)?);
        }
        if let Some(kind) = rule.peer_type {
            let internal = kind == FilterPeerType::Ibgp;
            matches.push(Match::Session { internal });
        }
        for value in rule.communities.iter().flat_map(|c| &c.values) {
            let Some(community) = community(value) else {
                return self.bad(value, "want aa:nn or aa:nn:mm");
            };
            matches.push(Match::Community { community });
        }
        if !rule.as_path_prefix.is_empty() {
            let asns = rule.as_path_prefix.clone();
            matches.push(Match::AsPathPrefix { asns });
        }
        if let Some(priority) = rule.priority {
            let local_pref = self.mirrored(priority)?;
            matches.push(Match::Priority { priority, local_pref });
        }
        let operations: Option<Vec<Vec<Operation>>> = rule.operations.iter().map(|o| self.operation(o)).collect();
        let accept = rule.action == FilterAction::Accept;
        Some(FilterRule {
            matches,
            operations: operations?.concat(),
            accept,
        })
    }

    fn network(&mut self, rule: &Rule, prefix: Prefix) -> Option<Match> {
        if !self.family.has(prefix) {
            return self.bad(prefix, "the network is of the other family");
        }
        let Some(operator) = rule.match_operator else {
            return self.bad(prefix, "cidr needs a matchOperator");
        };
        let lengths = rule.prefix_length.map(|l| Lengths {
            min: l.min.unwrap_or(prefix.len()).max(prefix.len()),
            max: l.max.unwrap_or(prefix.max_len()),
        });
        if let Some(Lengths { min, max }) = lengths
            && (min > max || max > prefix.max_len())
        {
            return self.bad(format!("{prefix}{{{min},{max}}}"), "the range of lengths is empty");
        }
        let operator = match operator {
            MatchOperator::Equal => NetworkOperator::Equal,
            MatchOperator::NotEqual => NetworkOperator::NotEqual,
            MatchOperator::In => NetworkOperator::In,
            MatchOperator::NotIn => NetworkOperator::NotIn,
        };
        Some(Match::Network {
            operator,
            prefix,
            lengths,
        })
    }

    fn interface(&mut self, pattern: &str) -> Option<Match> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "_.*-".contains(c);
        if pattern.is_empty() || pattern.len() > 15 || !pattern.chars().all(legal) {
            return self.bad(pattern, "want at most 15 of letters, digits, '_', '.', '-' and '*'");
        }
        let pattern = pattern.to_owned();
        Some(Match::Interface { pattern })
    }

    fn mirrored(&mut self, priority: u32) -> Option<u32> {
        if (1..MIRROR).contains(&priority) {
            return Some(MIRROR - priority);
        }
        self.bad(priority, "want a priority of 1 to 2147483646")
    }

    fn operation(&mut self, operation: &FilterOperation) -> Option<Vec<Operation>> {
        let mut all = Vec::new();
        if let Some(add) = &operation.add_community {
            let Some(community) = community(&add.value) else {
                return self.bad(&add.value, "want aa:nn or aa:nn:mm");
            };
            all.push(Operation::AddCommunity { community });
        }
        if let Some(prepend) = operation.prepend_as_path.as_ref().filter(|p| !p.prefix.is_empty()) {
            let asns = prepend.prefix.clone();
            all.push(Operation::PrependAsPath { asns });
        }
        if let Some(set) = &operation.set_priority {
            let (priority, local_pref) = (set.value, self.mirrored(set.value)?);
            all.push(Operation::SetPriority { priority, local_pref });
        }
        Some(all)
    }
}
