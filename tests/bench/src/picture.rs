//! The picture: a bar chart, one group of bars for each workload and phase, on a logarithmic scale.

use std::fmt::Write as _;

use crate::daemon::Program;
use crate::record::{Row, groups};
use crate::report::time;

/// The width of the longest bar.
const WIDTH: f64 = 420.0;

/// The whole SVG.
pub(crate) fn svg(rows: &[Row]) -> String {
    let (mut body, mut y) = (String::new(), 24.0);
    for group in groups(rows) {
        y += 14.0;
        let title = escape(&format!("{}: {}", group.workload, group.phase));
        let _ = writeln!(body, "<text x='10' y='{y:.0}' class='g'>{title}</text>");
        y += 6.0;
        for row in group.rows {
            bar(&mut body, row, y);
            y += 16.0;
        }
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='760' height='{:.0}' font-family='sans-serif' font-size='11'>\n\
         <style>.g{{font-weight:bold}} .d{{text-anchor:end}}</style>\n<rect width='100%' height='100%' fill='white'/>\n\
         <text x='10' y='16' font-size='13'>Time of each phase (logarithmic), and peak memory</text>\n{body}</svg>\n",
        y + 12.0
    )
}

fn bar(body: &mut String, row: &Row, y: f64) {
    let (width, label) = match &row.result {
        Ok(m) => {
            // 1 ms is nothing, 100 s is the whole width.
            let decades = (m.wall.as_secs_f64().max(0.001) / 0.001).log10() / 5.0;
            let memory = if m.peak_kb > 0 {
                format!(", {:.0} MB", m.peak_mb())
            } else {
                String::new()
            };
            (decades.clamp(0.005, 1.0) * WIDTH, format!("{}{memory}", time(m.wall)))
        }
        Err(_) => (0.0, "no figure".to_owned()),
    };
    let colour = if Program::is_ours(&row.daemon) {
        "#c2410c"
    } else {
        "#94a3b8"
    };
    let text = y + 11.0;
    let _ = writeln!(body, "<text x='90' y='{text:.0}' class='d'>{}</text>", row.daemon);
    let _ = writeln!(
        body,
        "<rect x='96' y='{y:.0}' width='{width:.1}' height='13' fill='{colour}'/>"
    );
    let _ = writeln!(body, "<text x='{:.0}' y='{text:.0}'>{label}</text>", 102.0 + width);
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::row;

    #[test]
    fn bars_have_their_figures_and_titles_are_no_markup() {
        let mut rows = vec![
            row("a -> b", "announce", "bird-rs", 250),
            row("a -> b", "announce", "bird", 1),
        ];
        rows[1].result = Err("stalled".to_owned());
        let picture = svg(&rows);
        assert!(
            picture.contains("0.250 s, 2 MB") && picture.contains("no figure"),
            "{picture}"
        );
        assert!(picture.contains("title of a -&gt; b: announce"), "{picture}");
        assert_eq!(picture.matches("class='g'").count(), 1);
    }
}
