//! Text from a template and data.
//!
//! An [`Engine`] is a pure function of template and data. What it cannot do it reports with the template's line and with
//! the stored object whose data was being rendered. [`source_map`] goes the other way: from a line of the output to the
//! object behind it.

mod again;
mod data;
mod dialect;
mod functions;
mod gotmpl;
pub mod source_map;

pub use again::Sections;
pub use data::{for_any_template, for_templates};
pub(crate) use gotmpl::value;
pub use gotmpl::{BIRD, BIRD_RS, FRR, GOBGP, GoTemplates, LoadError, shipped};

use std::fmt;

/// Renders named templates.
pub trait Engine: Send {
    /// The text of `template` for `data`.
    ///
    /// # Errors
    /// [`RenderError`] names the template, the position in it and the object.
    fn render(&self, template: &str, data: &serde_json::Value) -> Result<String, RenderError>;
}

/// A template that does not go with its data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct RenderError {
    /// The template's name.
    pub template: String,
    /// Line and column in it, from 1, if the engine knows.
    pub position: Option<(usize, usize)>,
    /// The object whose data was being rendered, as `object` printed it.
    pub object: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "template {}", self.template)?;
        if let Some((line, column)) = self.position {
            write!(f, ", line {line}, column {column}")?;
        }
        if let Some(object) = &self.object {
            write!(f, ", {object}")?;
        }
        write!(f, ": {}", self.message)
    }
}
