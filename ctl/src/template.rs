//! Go's text/template over what `-o json` prints, as kubectl's users write it.

use std::collections::HashMap;

use anyhow::{Result, anyhow};
use gtmpl_ng::{Context, Limits, Template, Value};

/// A template that runs away ends here.
const MAX_ROUNDS: usize = 1_000_000;
const MAX_OUTPUT: usize = 64 << 20;

/// Renders.
pub(crate) fn render(text: &str, data: &serde_json::Value) -> Result<String> {
    let limits = Limits::default()
        .with_iterations(MAX_ROUNDS)
        .with_total_iterations(MAX_ROUNDS)
        .with_output_bytes(MAX_OUTPUT);
    let mut template = Template::with_limits(limits);
    let failed = |what: &str| anyhow!("go-template: {what}");
    template.parse(text).map_err(|e| failed(&e.to_string()))?;
    let rendered = template.render(&Context::from(value(data)));
    rendered.map_err(|e| failed(&e.to_string()))
}

fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::NoValue,
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::String(s) => Value::String(s.clone()),
        serde_json::Value::Number(n) => match (n.as_u64(), n.as_i64()) {
            (Some(u), _) => Value::from(u),
            (None, Some(i)) => Value::from(i),
            (None, None) => Value::from(n.as_f64().unwrap_or_default()),
        },
        serde_json::Value::Array(items) => Value::Array(items.iter().map(value).collect()),
        serde_json::Value::Object(fields) => {
            let fields = fields.iter().map(|(k, v)| (k.clone(), value(v)));
            Value::Map(fields.collect::<HashMap<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_and_what_is_wrong() {
        let data = json!({"items": [{"metadata": {"name": "a"}, "spec": {"n": 1}}, {"metadata": {"name": "b"}}]});
        let text = "{{range .items}}{{.metadata.name}}={{with .spec}}{{.n}}{{end}};{{end}}";
        assert_eq!(render(text, &data).unwrap(), "a=1;b=;");
        assert!(
            render("{{range", &data)
                .unwrap_err()
                .to_string()
                .starts_with("go-template: ")
        );
    }
}
