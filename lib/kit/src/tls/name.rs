//! Whose a certificate is.

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Who a certificate was given to: the subject's organization says in which capacity, its common name who.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The subject's O; empty when there is none.
    pub organization: String,
    /// The subject's CN; empty when there is none.
    pub common: String,
}

impl Name {
    /// The subject of a certificate. More than one O or CN says nothing clear, and is no name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let parsed = parse(certificate)?;
        let subject = parsed.subject();
        Ok(Name {
            organization: single(subject.iter_organization())?,
            common: single(subject.iter_common_name())?,
        })
    }
}

fn single<'a>(
    mut parts: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Result<String, String> {
    let Some(first) = parts.next() else {
        return Ok(String::new());
    };
    if parts.next().is_some() {
        return Err("its subject has two names of a kind".to_owned());
    }
    Ok(first.as_str().map_err(|e| e.to_string())?.to_owned())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let (_, parsed) = X509Certificate::from_der(certificate.as_ref()).map_err(|e| e.to_string())?;
    Ok(parsed)
}

/// Until when it is good, in seconds since the epoch.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Result<i64, String> {
    Ok(parse(certificate)?.validity().not_after.timestamp())
}
