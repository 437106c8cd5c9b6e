//! Versions of the CNI specification.

use crate::error::{CniError, Code, shown};

/// A version this plugin speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SpecVersion {
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl SpecVersion {
    /// Oldest first.
    pub(crate) const ALL: [SpecVersion; 5] = [
        SpecVersion::V0_3_0,
        SpecVersion::V0_3_1,
        SpecVersion::V0_4_0,
        SpecVersion::V1_0_0,
        SpecVersion::V1_1_0,
    ];
    /// The one to speak when nobody asked for another.
    pub(crate) const CURRENT: SpecVersion = SpecVersion::V1_1_0;

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            SpecVersion::V0_3_0 => "0.3.0",
            SpecVersion::V0_3_1 => "0.3.1",
            SpecVersion::V0_4_0 => "0.4.0",
            SpecVersion::V1_0_0 => "1.0.0",
            SpecVersion::V1_1_0 => "1.1.0",
        }
    }

    /// Every version as text, oldest first.
    pub(crate) fn texts() -> Vec<&'static str> {
        SpecVersion::ALL.iter().map(|v| v.as_str()).collect()
    }

    /// The version a configuration names.
    pub(crate) fn parse(text: &str) -> Result<Self, CniError> {
        let found = SpecVersion::ALL.into_iter().find(|v| v.as_str() == text);
        found.ok_or_else(|| {
            CniError::new(Code::IncompatibleVersion, "incompatible CNI versions").details(format!(
                "field 'cniVersion' of the network configuration is {}, this plugin supports {}",
                shown(text),
                SpecVersion::texts().join(", ")
            ))
        })
    }
}
