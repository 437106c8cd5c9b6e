//! CNI errors: the specification's codes, and how one is printed.

use serde_json::{Value, json};

use crate::version::SpecVersion;

/// An error code. Those below 100 are the CNI specification's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// 1: the configuration's `cniVersion` is not one of ours.
    IncompatibleVersion,
    /// 2: a field of the configuration asks for what this plugin cannot do.
    UnsupportedField,
    /// 4: an environment variable is missing or wrong.
    InvalidEnvironment,
    /// 5: standard input cannot be read, standard output not written.
    Io,
    /// 6: standard input is no JSON.
    Decoding,
    /// 7: a field of the configuration is wrong.
    InvalidConfiguration,
    /// 11: a later try may succeed.
    TryAgainLater,
    /// 50: the plugin cannot serve an ADD.
    NotAvailable,
    /// 100: anything that is no other's.
    Internal,
    /// Whatever felix or another plugin answered with.
    Other(u32),
}

impl Code {
    pub(crate) fn number(self) -> u32 {
        match self {
            Code::IncompatibleVersion => 1,
            Code::UnsupportedField => 2,
            Code::InvalidEnvironment => 4,
            Code::Io => 5,
            Code::Decoding => 6,
            Code::InvalidConfiguration => 7,
            Code::TryAgainLater => 11,
            Code::NotAvailable => 50,
            Code::Internal => 100,
            Code::Other(code) => code,
        }
    }
}

/// What a failed invocation prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CniError {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) details: String,
}

impl CniError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        CniError {
            code,
            message: message.into(),
            details: String::new(),
        }
    }

    pub(crate) fn details(self, details: impl Into<String>) -> Self {
        CniError {
            details: details.into(),
            ..self
        }
    }

    /// The same error, which also tells what else failed.
    pub(crate) fn with(self, other: &CniError) -> Self {
        let told = |details: &str| match details {
            "" => String::new(),
            some => format!(" ({some})"),
        };
        CniError {
            code: self.code,
            message: format!("{}; {}", self.message, other.message),
            details: format!("{}{}", self.details, told(&other.details)).trim().to_owned(),
        }
    }

    /// The JSON object of the specification, section "Error".
    pub(crate) fn to_json(&self, version: SpecVersion) -> Value {
        let mut error = json!({
            "cniVersion": version.as_str(),
            "code": self.code.number(),
            "msg": self.message,
        });
        if !self.details.is_empty() {
            error["details"] = Value::String(self.details.clone());
        }
        error
    }
}

/// Text from outside, fit for a message: escaped, and cut after 64 characters.
pub(crate) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(64).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("'{}{more}'", cut.escape_debug())
}
