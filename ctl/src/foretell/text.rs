//! What is foretold, for a person: `+` comes, `-` goes, `!` is interrupted, `~` changes quietly, `?` cannot be done as asked.

use serde_json::Value;
use tortie_bgp_view::announce::Attributes;
use tortie_bgp_view::change::{Effect, NodeChange, PrefixChange, SessionChange};

use super::{FieldChange, Foretold, ObjectChange, PoolChange, WorkloadChange};

/// So many sessions are named, the rest is counted.
const NAMED: usize = 4;

/// The text; without a line's end.
pub(super) fn text(foretold: &Foretold) -> String {
    let mut lines: Vec<String> = Vec::new();
    foretold.objects.iter().for_each(|o| object(o, &mut lines));
    foretold.nodes.iter().for_each(|n| node(n, &mut lines));
    foretold.pools.iter().for_each(|p| lines.push(pool(p)));
    foretold.workloads.iter().for_each(|w| lines.push(workload(w)));
    lines.push(summary(foretold));
    lines.join("\n")
}

fn object(object: &ObjectChange, lines: &mut Vec<String>) {
    let sign = match object.what {
        "created" => '+',
        "deleted" => '-',
        _ => '~',
    };
    lines.push(format!("{sign} {} {}", object.object, object.what));
    lines.extend(object.fields.iter().map(field));
}

fn field(change: &FieldChange) -> String {
    let shown = |value: &Value| match value {
        Value::Null => "(none)".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    format!(
        "    {}: {} -> {}",
        change.field,
        shown(&change.before),
        shown(&change.after)
    )
}

fn node(change: &NodeChange, lines: &mut Vec<String>) {
    let life = match change.new {
        Some(true) => " (new)",
        Some(false) => " (gone)",
        None => "",
    };
    lines.push(format!("node {}{life}", change.node));
    change.sessions.iter().for_each(|s| session(s, lines));
    lines.extend(
        change
            .withdrawn
            .iter()
            .map(|p| prefix('-', "no longer announced to", p)),
    );
    lines.extend(change.announced.iter().map(|p| prefix('+', "announced to", p)));
    for problem in &change.problems {
        let object = format!("{} {}", problem.object.kind, problem.object.name);
        let field = if problem.field.is_empty() {
            String::new()
        } else {
            format!(" {}", problem.field)
        };
        lines.push(format!("  ? {object}{field}: {}", problem.kind));
    }
}

fn session(change: &SessionChange, lines: &mut Vec<String>) {
    let (sign, what) = match change.effect {
        Effect::Added => ('+', "is new"),
        Effect::Removed => ('-', "ends"),
        Effect::Reset => ('!', "is RESET"),
        Effect::Refeed => ('~', "stays up, filters run again"),
        Effect::InPlace => ('~', "stays up"),
    };
    let peer = change
        .remote_node
        .as_ref()
        .map(|n| format!(" node {n}"))
        .unwrap_or_default();
    let SessionChange {
        name,
        address,
        asn,
        origin,
        ..
    } = change;
    lines.push(format!(
        "  {sign} session {name} with {address} AS {asn}{peer} {what} ({} {})",
        origin.kind, origin.name
    ));
    for field in &change.fields {
        let shown = |text: &str| {
            if text.is_empty() {
                "(none)".to_owned()
            } else {
                text.to_owned()
            }
        };
        let forces = match field.effect {
            Effect::Reset => " [reset]",
            Effect::Refeed => " [filters run again]",
            Effect::InPlace | Effect::Added | Effect::Removed => "",
        };
        let (before, after) = (shown(&field.before), shown(&field.after));
        lines.push(format!("      {}: {before} -> {after}{forces}", field.field));
    }
}

fn prefix(sign: char, what: &str, change: &PrefixChange) -> String {
    let mut names = change.sessions.iter().take(NAMED).cloned().collect::<Vec<_>>();
    if change.sessions.len() > NAMED {
        names.push(format!("{} more", change.sessions.len() - NAMED));
    }
    let Attributes {
        communities,
        prepended,
        priority,
    } = &change.attributes;
    let mut with = Vec::new();
    if !communities.is_empty() {
        let all: Vec<&str> = communities.iter().map(String::as_str).collect();
        with.push(format!("communities {}", all.join(" ")));
    }
    if !prepended.is_empty() {
        let all: Vec<String> = prepended.iter().map(ToString::to_string).collect();
        with.push(format!("path {}", all.join(" ")));
    }
    with.extend(priority.map(|p| format!("priority {p}")));
    let with = if with.is_empty() {
        String::new()
    } else {
        format!(" ({})", with.join(", "))
    };
    format!("  {sign} {} {what} {}{with}", change.prefix, names.join(", "))
}

fn pool(change: &PoolChange) -> String {
    let PoolChange {
        pool,
        cidr,
        blocks,
        nodes,
        ..
    } = change;
    match (&change.encapsulation_before, &change.encapsulation_after) {
        (Some(was), Some(is)) => format!(
            "pool {pool} {cidr}: encapsulation {was} -> {is}: routes to {blocks} blocks of {nodes} nodes change everywhere"
        ),
        (None, Some(is)) => format!("pool {pool} {cidr}: new, encapsulation {is}"),
        (Some(_), None) | (None, None) => {
            format!("pool {pool} {cidr}: goes; {blocks} blocks of {nodes} nodes are in no pool any more")
        }
    }
}

fn workload(change: &WorkloadChange) -> String {
    let WorkloadChange {
        workload,
        node,
        address,
        ..
    } = change;
    if change.outside {
        format!("workload {workload} on {node}: {address} is in no pool any more")
    } else {
        format!("workload {workload} on {node}: {address} is in a pool again")
    }
}

fn summary(foretold: &Foretold) -> String {
    let sessions = || foretold.nodes.iter().flat_map(|n| &n.sessions);
    let count = |effect| sessions().filter(|s| s.effect == effect).count();
    let of = |list: fn(&NodeChange) -> &Vec<PrefixChange>| foretold.nodes.iter().map(|n| list(n).len()).sum::<usize>();
    let left = foretold.workloads.iter().filter(|w| w.outside).count();
    format!(
        "objects: {}; nodes: {}; sessions: {} new, {} end, {} reset, {} undisturbed; prefixes: {} announced, {} withdrawn; \
         addresses outside pools: {left}",
        foretold.objects.len(),
        foretold.nodes.len(),
        count(Effect::Added),
        count(Effect::Removed),
        count(Effect::Reset),
        count(Effect::Refeed) + count(Effect::InPlace),
        of(|n| &n.announced),
        of(|n| &n.withdrawn),
    )
}
