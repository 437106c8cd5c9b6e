//! What birdc prints, as lines to compare: without times, one line for a route with everything below it.

/// Of `show protocols`: name, state, and a session's state. An attempt to connect looks one way or the other by chance.
pub(crate) fn protocols(text: &str) -> Vec<String> {
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let sessions = rows.filter(|row| row.get(1) == Some(&"BGP"));
    let mut shown: Vec<String> = sessions
        .map(|row| {
            let state = match row.get(5).copied() {
                Some("Active" | "Connect") => "Trying",
                // Behind `down` comes why, in words.
                Some(state) if row[3] != "down" => state,
                _ => "",
            };
            format!("{} {} {state}", row[0], row[3]).trim_end().to_owned()
        })
        .collect();
    shown.sort();
    shown
}

/// Of `show route .. all`: table, prefix and route with its attributes. Of a prefix's routes the first one is the best;
/// the order of the others means nothing.
pub(crate) fn routes(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let (mut table, mut prefix) = (String::new(), String::new());
    for line in text.lines().skip(1) {
        if let Some(name) = line.strip_prefix("Table ") {
            table = name.trim_end_matches(':').to_owned();
        } else if let Some(detail) = line.strip_prefix('\t') {
            if let Some(route) = lines.last_mut() {
                // A list without members is there in BIRD; a set has no order.
                let detail = sorted(detail.trim());
                if !detail.ends_with("community:") {
                    route.push_str("; ");
                    route.push_str(&detail);
                }
            }
        } else if !line.trim().is_empty() {
            if !line.starts_with(' ') {
                prefix = line.split(' ').next().unwrap_or_default().to_owned();
            }
            let rest = line.strip_prefix(&*prefix).unwrap_or(line);
            let words: Vec<&str> = rest
                .split_whitespace()
                .filter(|word| !is_time(word))
                .map(preference)
                .collect();
            lines.push(format!("{table} {prefix} {}", words.join(" ")));
        }
    }
    lines.sort();
    lines
}

/// `(100)` of `(100/20)` and `(100-)`: which distances and marks are shown differs, what they decide does not.
fn preference(word: &str) -> &str {
    match word.find(['/', '-']) {
        Some(end) if word.starts_with('(') => &word[..end],
        _ if word.starts_with('(') => word.trim_end_matches(')'),
        _ => word,
    }
}

/// Communities have no order, nor have the members of a set in a path: BIRD shows them as they came.
fn sorted(detail: &str) -> String {
    if let Some((before, rest)) = detail.split_once('{') {
        let (set, after) = rest.split_once('}').unwrap_or((rest, ""));
        let mut members: Vec<&str> = set.split(' ').collect();
        members.sort_unstable();
        return format!("{before}{{{}}}{}", members.join(" "), sorted(after));
    }
    match detail.split_once("community: ") {
        Some((kind, members)) => {
            let mut members: Vec<&str> = members.trim_end_matches(')').split(") ").collect();
            members.sort_unstable();
            format!("{kind}community: {})", members.join(") "))
        }
        None => detail.to_owned(),
    }
}

/// `15:59:39.123`, maybe at the end of `[name 15:59:39.123]`.
fn is_time(word: &str) -> bool {
    let word = word.trim_end_matches(']');
    word.len() == 12 && word.matches(':').count() == 2 && word.contains('.')
}
