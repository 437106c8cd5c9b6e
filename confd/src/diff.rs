//! The difference of two texts by lines, as `diff -u` shows it, for a person to read.

/// Longest middle parts that are compared line by line; longer ones are shown as replaced whole.
const MAX_CELLS: usize = 16_000_000;
/// Equal lines shown around a difference.
const CONTEXT: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Same,
    Old,
    New,
}

/// The lines of `new` that `old` has not, and the other way round, with some lines around them. Empty when they are equal.
pub fn unified(old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let room = a.len().min(b.len()) - head;
    let tail = a
        .iter()
        .rev()
        .zip(b.iter().rev())
        .take(room)
        .take_while(|(x, y)| x == y)
        .count();
    let (mid_a, mid_b) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);

    let mut marks: Vec<(Mark, &str)> = a[..head].iter().map(|l| (Mark::Same, *l)).collect();
    marks.extend(middle(mid_a, mid_b));
    marks.extend(a[a.len() - tail..].iter().map(|l| (Mark::Same, *l)));
    print(&marks)
}

/// A longest common subsequence of the parts that differ.
fn middle<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<(Mark, &'a str)> {
    if a.len().saturating_mul(b.len()) > MAX_CELLS {
        let old = a.iter().map(|l| (Mark::Old, *l));
        return old.chain(b.iter().map(|l| (Mark::New, *l))).collect();
    }
    let width = b.len() + 1;
    let mut common = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i * width + j] = if a[i] == b[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut marks) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            marks.push((Mark::Same, a[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            marks.push((Mark::Old, a[i]));
            i += 1;
        } else {
            marks.push((Mark::New, b[j]));
            j += 1;
        }
    }
    marks
}

fn print(marks: &[(Mark, &str)]) -> String {
    let near = |at: usize| {
        let range = at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(marks.len());
        marks[range].iter().any(|(m, _)| *m != Mark::Same)
    };
    let (mut out, mut skipping) = (String::new(), false);
    for (at, (mark, line)) in marks.iter().enumerate() {
        if !near(at) {
            if !skipping {
                out.push_str("...\n");
            }
            skipping = true;
            continue;
        }
        skipping = false;
        out.push(match mark {
            Mark::Same => ' ',
            Mark::Old => '-',
            Mark::New => '+',
        });
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_changed_and_little_more() {
        let old: String = (0..20).map(|i| format!("l{i}\n")).collect();
        let new = old.replace("l10\n", "ten\nten and a half\n").replace("l19\n", "");
        let want = "...\n l7\n l8\n l9\n-l10\n+ten\n+ten and a half\n l11\n l12\n l13\n...\n l16\n l17\n l18\n-l19\n";
        assert_eq!(unified(&old, &new), want);
        assert_eq!(unified(&old, &old), "");
        assert_eq!(unified("", "a\n"), "+a\n");
        assert_eq!(unified("a\n", ""), "-a\n");
    }
}
