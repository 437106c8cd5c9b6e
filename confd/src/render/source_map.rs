//! From a line of rendered text to the stored object behind it.
//!
//! The rule that templates keep: a comment `# KIND NAME, revision N` names the object behind the lines that follow it, up
//! to the next such comment or a blank line.

/// The object behind line `line` (from 1) of `text`, as its comment names it.
pub fn object_at(text: &str, line: usize) -> Option<&str> {
    let upto: Vec<&str> = text.lines().take(line).collect();
    if upto.len() < line {
        return None;
    }
    upto.iter()
        .rev()
        .take_while(|l| !l.trim().is_empty())
        .find_map(|l| object_of(l))
}

/// The object that a comment names, if the line is such a comment.
fn object_of(line: &str) -> Option<&str> {
    let text = line.trim().strip_prefix("# ")?;
    let (object, revision) = text.rsplit_once(", revision ")?;
    let digits = !revision.is_empty() && revision.bytes().all(|b| b.is_ascii_digit());
    (digits && object.contains(' ')).then_some(text)
}

/// The text without comments: what a speaker sees of it. Two texts that differ in comments only configure the same.
pub fn without_comments(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|l| !l.trim_start().starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Written by confd.

# BGPPeer tor, revision 12
protocol bgp Global {
  # IPPool a, revision 3
  x;
}

filter f {
}
";

    #[test]
    fn a_line_belongs_to_the_nearest_comment_of_its_paragraph() {
        let want = [
            (1, None),
            (3, Some("BGPPeer tor, revision 12")),
            (4, Some("BGPPeer tor, revision 12")),
            (6, Some("IPPool a, revision 3")),
            (8, None),
            (9, None),
            (10, None),
            (99, None),
        ];
        for (line, object) in want {
            assert_eq!(object_at(TEXT, line), object, "line {line}");
        }
    }

    #[test]
    fn comments_do_not_count() {
        let other = TEXT.replace("revision 12", "revision 13");
        assert!(without_comments(TEXT).eq(without_comments(&other)));
        let changed = TEXT.replace("x;", "y;");
        assert!(!without_comments(TEXT).eq(without_comments(&changed)));
    }
}
