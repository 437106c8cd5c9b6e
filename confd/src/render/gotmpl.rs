//! Go's text/template, as users of confd and Calico write it.
//!
//! Shipped templates are part of the binary; a file of the same name in the override directory takes their place. All
//! are parsed at load time, so that a broken template is found before anything is rendered.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use gtmpl_ng::{Context, ExecError, Func, Limits, ParseError, Template, Value};

use super::functions::{FUNCTIONS, take_object};
use super::{Engine, RenderError, source_map};

/// The template of bird-rs's configuration.
pub const BIRD_RS: &str = "bird-rs.conf.tmpl";

/// The template of stock BIRD's: a router or reflector that runs BIRD 2, and programs its kernel itself.
pub const BIRD: &str = "bird.conf.tmpl";

/// The template of FRR's: zebra, staticd and bgpd.
pub const FRR: &str = "frr.conf.tmpl";

/// The template of GoBGP's, in YAML.
pub const GOBGP: &str = "gobgpd.yaml.tmpl";

const SHIPPED: &[(&str, &str)] = &[
    (
        BIRD_RS,
        concat!(
            include_str!("../../templates/bird.body.tmpl"),
            include_str!("../../templates/felix.part.tmpl")
        ),
    ),
    (
        BIRD,
        concat!(
            include_str!("../../templates/bird.body.tmpl"),
            include_str!("../../templates/kernel.part.tmpl")
        ),
    ),
    (FRR, include_str!("../../templates/frr.conf.tmpl")),
    (GOBGP, include_str!("../../templates/gobgpd.yaml.tmpl")),
];

/// The text of a template that confd has within itself.
pub fn shipped(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

/// A mesh of 5,000 nodes is one loop of 5,000 rounds with inner loops and some megabytes of text. The limits are far above it and
/// still end a template that runs away.
const MAX_ROUNDS: usize = 10_000_000;
const MAX_OUTPUT: usize = 256 << 20;

/// Templates could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file of the override directory.
    #[error("read template {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// A template is not in the language.
    #[error(transparent)]
    Parse(RenderError),
}

/// Templates in Go's language.
pub struct GoTemplates {
    templates: BTreeMap<String, Template>,
    /// Templates that write each session by itself, with that part as what is executed.
    sections: BTreeMap<String, Template>,
}

/// What a template calls the part that writes one session.
const SECTION: &str = "peer_section";
/// How it defines it.
const DEFINES_SECTION: &str = "define \"peer_section\"";

impl GoTemplates {
    /// The shipped templates, each replaced by the file of its name in `overrides` if there is one.
    ///
    /// # Errors
    /// [`LoadError`] when a file cannot be read or a template does not parse.
    pub fn load(overrides: Option<&Path>) -> Result<Self, LoadError> {
        if let Some(dir) = overrides {
            // A missing file means the shipped template; a missing directory means a misspelt one.
            std::fs::read_dir(dir).map_err(|reason| LoadError::Read {
                path: dir.to_owned(),
                reason,
            })?;
        }
        let (mut templates, mut sections) = (BTreeMap::new(), BTreeMap::new());
        for (name, shipped) in SHIPPED {
            let text = match overrides.map(|dir| dir.join(name)) {
                Some(path) => match std::fs::read_to_string(&path) {
                    Ok(text) => text,
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => (*shipped).to_owned(),
                    Err(reason) => return Err(LoadError::Read { path, reason }),
                },
                None => (*shipped).to_owned(),
            };
            let template = parse(name, &text, &[]).map_err(LoadError::Parse)?;
            if text.contains(DEFINES_SECTION) {
                let mut section = parse(name, &text, &[]).map_err(LoadError::Parse)?;
                section.name = SECTION.to_owned();
                sections.insert((*name).to_owned(), section);
            }
            templates.insert((*name).to_owned(), template);
        }
        Ok(GoTemplates { templates, sections })
    }

    /// One template given as text.
    ///
    /// # Errors
    /// [`RenderError`] when it does not parse.
    pub fn single(name: &str, text: &str) -> Result<Self, RenderError> {
        GoTemplates::with_functions(name, text, &[])
    }

    /// One template given as text, that may call these functions too.
    ///
    /// # Errors
    /// [`RenderError`] when it does not parse.
    pub fn with_functions(name: &str, text: &str, more: &[(&str, Func)]) -> Result<Self, RenderError> {
        Ok(GoTemplates {
            templates: BTreeMap::from([(name.to_owned(), parse(name, text, more)?)]),
            sections: BTreeMap::new(),
        })
    }

    /// Does this template write each session by itself?
    pub(super) fn has_sections(&self, template: &str) -> bool {
        self.sections.contains_key(template)
    }

    /// The text of one session.
    ///
    /// # Errors
    /// [`RenderError`] names the template, the position in it and the object.
    pub(super) fn section(&self, template: &str, peer: &serde_json::Value) -> Result<String, RenderError> {
        execute(template, self.sections.get(template), peer)
    }
}

fn execute(name: &str, parsed: Option<&Template>, data: &serde_json::Value) -> Result<String, RenderError> {
    let Some(parsed) = parsed else {
        return Err(RenderError {
            template: name.to_owned(),
            position: None,
            object: None,
            message: "there is no such template".to_owned(),
        });
    };
    take_object();
    let text = parsed
        .render(&Context::from(value(data)))
        .map_err(|e| exec_error(name, &e))?;
    take_object();
    complete(name, text)
}

fn parse(name: &str, text: &str, more: &[(&str, Func)]) -> Result<Template, RenderError> {
    let limits = Limits::default()
        .with_iterations(MAX_ROUNDS)
        .with_total_iterations(MAX_ROUNDS)
        .with_output_bytes(MAX_OUTPUT);
    let mut template = Template::with_limits(limits);
    template.name = name.to_owned();
    template.add_funcs(FUNCTIONS);
    template.add_funcs(more);
    template.parse(text).map_err(|e| parse_error(name, &e))?;
    Ok(template)
}

fn parse_error(name: &str, error: &ParseError) -> RenderError {
    let (position, message) = match error {
        ParseError::WithContext(at, message) => (Some((at.line, at.col)), message.clone()),
        other => (None, other.to_string()),
    };
    RenderError {
        template: name.to_owned(),
        position,
        object: None,
        message,
    }
}

fn exec_error(name: &str, error: &ExecError) -> RenderError {
    let (position, message) = match error.as_structured() {
        Some(e) => (Some((e.context.line, e.context.col)), e.message.clone()),
        None => (None, error.to_string()),
    };
    RenderError {
        template: name.to_owned(),
        position,
        object: take_object(),
        message,
    }
}

impl Engine for GoTemplates {
    fn render(&self, template: &str, data: &serde_json::Value) -> Result<String, RenderError> {
        execute(template, self.templates.get(template), data)
    }
}

/// Go prints `<no value>` for data that is not there and goes on. In a configuration that is never meant.
fn complete(template: &str, text: String) -> Result<String, RenderError> {
    let missing = ["<no value>", "<nil>"];
    let hole = text
        .lines()
        .enumerate()
        .find(|(_, l)| missing.iter().any(|m| l.contains(m)));
    match hole {
        None => Ok(text),
        Some((index, line)) => Err(RenderError {
            template: template.to_owned(),
            position: None,
            object: source_map::object_at(&text, index + 1).map(str::to_owned),
            message: format!(
                "uses data that is not there: line {} of the output would be '{}'",
                index + 1,
                line.trim()
            ),
        }),
    }
}

/// JSON as the engine's values.
pub(crate) fn value(json: &serde_json::Value) -> Value {
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
        serde_json::Value::Object(fields) => Value::Map(
            fields
                .iter()
                .map(|(k, v)| (k.clone(), value(v)))
                .collect::<HashMap<_, _>>(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(text: &str, data: &serde_json::Value) -> Result<String, RenderError> {
        GoTemplates::single("t.tmpl", text)?.render("t.tmpl", data)
    }

    #[test]
    fn the_shipped_templates_parse() {
        assert!(GoTemplates::load(None).is_ok());
    }

    #[test]
    fn functions() {
        let data = json!({"l": ["a", "b"], "o": {"kind": "K", "name": "n", "revision": 3}, "s": "x.y"});
        let text = r#"{{ join .l "," }} {{ object .o }} {{ replace .s "." "_" }} {{ toUpper .s }} {{ range split .s "." }}[{{ . }}]{{ end }} {{ hasPrefix .s "x" }} {{ contains .s "z" }} {{ toLower "Q" }}"#;
        assert_eq!(
            render(text, &data).unwrap(),
            "a,b K n, revision 3 x_y X.Y [x][y] true false q"
        );
    }

    #[test]
    fn a_template_that_does_not_parse_is_named_with_its_line() {
        let e = render("a\nb {{ if }}\n{{ end }}", &json!({})).unwrap_err();
        assert_eq!(e.position.map(|p| p.0), Some(2), "{e}");
        assert!(e.to_string().starts_with("template t.tmpl, line 2"), "{e}");
    }

    #[test]
    fn an_error_names_line_and_object() {
        let data = json!({"peers": [
            {"origin": {"kind": "BGPPeer", "name": "good", "revision": 1}, "l": ["x"]},
            {"origin": {"kind": "BGPPeer", "name": "bad", "revision": 2}, "l": 7},
        ]});
        let text = "{{ range .peers }}\n# {{ object .origin }}\n{{ join .l \",\" }}\n{{ end }}";
        let e = render(text, &data).unwrap_err();
        assert_eq!(e.object.as_deref(), Some("BGPPeer bad, revision 2"));
        assert_eq!(e.position.map(|p| p.0), Some(3));
        assert!(e.message.contains("join wants a list"), "{e}");
    }

    #[test]
    fn absent_data_is_an_error_not_text() {
        let data = json!({"o": {"kind": "K", "name": "n", "revision": 3}});
        let e = render("# {{ object .o }}\nneighbor {{ .address }};\n", &data).unwrap_err();
        assert_eq!(e.object.as_deref(), Some("K n, revision 3"));
        assert!(e.message.contains("line 2 of the output"), "{e}");
    }

    #[test]
    fn a_file_of_the_same_name_takes_the_place_of_a_shipped_template() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(BIRD_RS), "router id {{ .router_id }};\n").unwrap();
        let engine = GoTemplates::load(Some(dir.path())).unwrap();
        assert_eq!(
            engine.render(BIRD_RS, &json!({"router_id": "1.2.3.4"})).unwrap(),
            "router id 1.2.3.4;\n"
        );
        std::fs::write(dir.path().join(BIRD_RS), "{{ nothing }}").unwrap();
        let e = GoTemplates::load(Some(dir.path())).err().unwrap();
        assert!(e.to_string().contains("template bird-rs.conf.tmpl, line 1"), "{e}");
    }
}
