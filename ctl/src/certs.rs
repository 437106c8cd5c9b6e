//! certs: a small authority for those who have none.
//!
//! A certificate's organization says in which capacity its owner comes, its common name who it is: typha reads both.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use jiff::{Timestamp, ToSpan as _, Zoned, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

use crate::cli::{Capacity, CertsCommand, CertsInitArgs, CertsIssueArgs, CertsShowArgs, TextFormat, Usage};
use crate::output::say;

/// Clocks differ: a certificate is good from a little before it was made.
const BEFORE: i64 = 1;

/// `tortiectl certs ...`.
pub(crate) fn run(command: &CertsCommand) -> Result<()> {
    match command {
        CertsCommand::Init(args) => init(args),
        CertsCommand::Issue(args) => issue(args),
        CertsCommand::Show(args) => show(args),
    }
}

impl Capacity {
    fn organization(self) -> &'static str {
        match self {
            Capacity::Typha => "tortie:typha",
            Capacity::Node => "tortie:nodes",
            Capacity::Admin => "tortie:admins",
            Capacity::Operator => "tortie:operators",
            Capacity::Reader => "tortie:readers",
        }
    }
}

fn params(organization: &str, common: &str, days: u32) -> Result<CertificateParams> {
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, common);
    let (year, month, day) = date(&now.checked_sub(BEFORE.days())?)?;
    params.not_before = rcgen::date_time_ymd(year, month, day);
    let (year, month, day) = date(&now.checked_add(i64::from(days).days())?)?;
    params.not_after = rcgen::date_time_ymd(year, month, day);
    Ok(params)
}

fn date(day: &Zoned) -> Result<(i32, u8, u8)> {
    Ok((
        i32::from(day.year()),
        u8::try_from(day.month())?,
        u8::try_from(day.day())?,
    ))
}

fn init(args: &CertsInitArgs) -> Result<()> {
    fs::create_dir_all(&args.dir).with_context(|| format!("make {}", args.dir.display()))?;
    let key = KeyPair::generate()?;
    let mut params = params("tortie:authority", "Tortie", args.days)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    store(&args.dir, "ca", &certificate.pem(), &key)
}

fn issue(args: &CertsIssueArgs) -> Result<()> {
    if args.name.is_empty() || args.name == "ca" || args.name.contains('/') {
        return Err(Usage::error(format!(
            "'{}' cannot be the name of a certificate's files",
            args.name
        )));
    }
    let serves = args.capacity == Capacity::Typha;
    match (serves, args.hosts.is_empty()) {
        (true, true) => {
            return Err(Usage::error(
                "typha needs --host: the name or address that clients find it under",
            ));
        }
        (false, false) => return Err(Usage::error("--host is for typha: nobody connects to the others")),
        _ => {}
    }
    let authority = read(&args.dir, "ca.pem")?;
    let key = KeyPair::from_pem(&read(&args.dir, "ca.key")?).context("ca.key")?;
    let issuer = Issuer::from_ca_cert_pem(&authority, key).context("ca.pem")?;
    let mut params = params(args.capacity.organization(), &args.name, args.days)?;
    params.subject_alt_names = CertificateParams::new(args.hosts.clone())?.subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if serves {
        // typhas also ask each other.
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    store(&args.dir, &args.name, &certificate.pem(), &key)
}

fn show(args: &CertsShowArgs) -> Result<()> {
    let mut all = Vec::new();
    for path in &args.files {
        let file = path.display().to_string();
        for (name, until) in tortie_kit::tls::describe(path)? {
            let until = Timestamp::from_second(until)?.to_string();
            match args.output {
                TextFormat::Text => say(&format!("{file}: {} {}, until {until}", name.organization, name.common))?,
                TextFormat::Json => all.push(json!({
                    "file": file, "organization": name.organization, "common_name": name.common, "until": until,
                })),
            }
        }
    }
    match args.output {
        TextFormat::Text => Ok(()),
        TextFormat::Json => say(&format!("{:#}", Value::Array(all))),
    }
}

fn read(dir: &Path, name: &str) -> Result<String> {
    let path = dir.join(name);
    fs::read_to_string(&path).with_context(|| format!("read {} (tortiectl certs init makes it)", path.display()))
}

/// Writes a certificate and its key. The authority's own are never overwritten; others are renewed so.
fn store(dir: &Path, name: &str, certificate: &str, key: &KeyPair) -> Result<()> {
    let (pem, secret) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    if name == "ca" {
        for path in [&pem, &secret] {
            match fs::symlink_metadata(path) {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(anyhow!(e).context(path.display().to_string())),
                Ok(_) => bail!(
                    "{} exists: what it signed would be worth nothing; move it away first",
                    path.display()
                ),
            }
        }
    }
    tortie_kit::file::write_atomic(&secret, key.serialize_pem().as_bytes(), 0o600)?;
    tortie_kit::file::write_atomic(&pem, certificate.as_bytes(), 0o644)?;
    say(&format!("{} {}", pem.display(), secret.display()))
}
