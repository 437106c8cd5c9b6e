//! An explanation as text and as JSON.

use serde_json::{Value, json};

use super::walk::{Explanation, Finding};
use crate::table;

/// A row for each step, who was not asked, and the sentence.
pub(super) fn text(explanation: &Explanation) -> String {
    let row = |f: &Finding| {
        let node = f.node.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            f.stage.as_str().to_owned(),
            node,
            f.mark.as_str().to_owned(),
            f.text.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = explanation.findings.iter().map(row).collect();
    let mut text = table::aligned(&["STAGE", "NODE", "STATE", "FINDING"], &rows);
    if !explanation.not_asked.is_empty() {
        let names: Vec<&str> = explanation.not_asked.iter().map(String::as_str).collect();
        text.push_str(&format!("\n\nNot asked: {}", names.join(", ")));
    }
    text.push_str(&format!("\n\n{}", explanation.sentence()));
    text
}

/// The same for programs.
pub(super) fn json(explanation: &Explanation) -> Value {
    let finding = |f: &Finding| {
        json!({
            "stage": f.stage.as_str(),
            "node": f.node,
            "state": f.mark.as_str().to_ascii_lowercase(),
            "text": f.text,
        })
    };
    json!({
        "subject": explanation.subject.to_string(),
        "from": explanation.from,
        "findings": explanation.findings.iter().map(finding).collect::<Vec<_>>(),
        "not_asked": explanation.not_asked,
        "verdict": explanation.verdict().as_str(),
        "cause": explanation.cause.as_ref().map(|c| c.code()),
        "sentence": explanation.sentence(),
    })
}
