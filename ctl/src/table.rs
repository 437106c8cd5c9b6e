//! Tables of text: calicoctl's two forms, aligned columns and a drawn frame.

/// Between columns.
const PAD: usize = 3;
/// Narrowest column, padding included.
const NARROWEST: usize = 5;

fn width(text: &str) -> usize {
    text.chars().count()
}

fn widths(header: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    let column = |i: usize| {
        rows.iter()
            .filter_map(move |r| r.get(i))
            .map(|cell| width(cell))
            .max()
            .unwrap_or(0)
    };
    header
        .iter()
        .enumerate()
        .map(|(i, title)| column(i).max(width(title)))
        .collect()
}

/// Columns aligned by spaces; no spaces at the ends of lines.
pub(crate) fn aligned(header: &[&str], rows: &[Vec<String>]) -> String {
    let widths = widths(header, rows);
    let line = |cells: Vec<&str>| {
        let padded: String = cells
            .iter()
            .zip(&widths)
            .map(|(cell, w)| format!("{cell:<0$}", (w + PAD).max(NARROWEST)))
            .collect();
        padded.trim_end().to_owned()
    };
    let mut lines = vec![line(header.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

/// Columns in a frame, titles centred.
pub(crate) fn framed(header: &[&str], rows: &[Vec<String>]) -> String {
    let widths = widths(header, rows);
    let dashes: Vec<String> = widths.iter().map(|w| "-".repeat(w + 2)).collect();
    let rule = format!("+{}+", dashes.join("+"));
    let titles: Vec<String> = header
        .iter()
        .zip(&widths)
        .map(|(title, w)| format!(" {title:^w$} "))
        .collect();
    let mut lines = vec![rule.clone(), format!("|{}|", titles.join("|")), rule.clone()];
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, w)| format!(" {cell:<w$} "))
            .collect();
        lines.push(format!("|{}|", cells.join("|")));
    }
    lines.push(rule);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|r| r.iter().map(|c| c.to_string()).collect()).collect()
    }

    #[test]
    fn as_calicoctl_prints_them() {
        let got = aligned(
            &["NAME", "ASN", "IPV4"],
            &rows(&[&["n1", "(64512)", "172.16.3.11/24"], &["n2", "64600", ""]]),
        );
        assert_eq!(
            got,
            "NAME   ASN       IPV4\nn1     (64512)   172.16.3.11/24\nn2     64600"
        );
        let got = framed(&["PEER TYPE", "STATE"], &rows(&[&["node-to-node mesh", "up"]]));
        let want = "\
+-------------------+-------+
|     PEER TYPE     | STATE |
+-------------------+-------+
| node-to-node mesh | up    |
+-------------------+-------+";
        assert_eq!(got, want);
    }
}
