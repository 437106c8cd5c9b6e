//! Certificates of a tcp listener: until when they are good is shown, and they are replaced under running streams.

use std::path::{Path, PathBuf};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tortie_kit::address::{ServiceAddr, Target};
use tortie_kit::tls::{TlsArgs, TlsFiles};
use tortie_proto::common::Hello;
use tortie_replica::Delta;
use tortie_typha_client::{SyncEvent, SyncOptions, SyncStatus, sync};

use crate::etcd_server::free_port;
use crate::process::{DEADLINE, HANDLES, Typha, handle};

/// An authority, and a directory where certificates are put.
pub(crate) struct Authority {
    dir: PathBuf,
    params: rcgen::CertificateParams,
    key: rcgen::KeyPair,
}

impl Authority {
    pub(crate) fn new(dir: &Path) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        std::fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority {
            dir: dir.to_owned(),
            params,
            key,
        }
    }

    /// A certificate that is good until a year begins, replacing what has its name.
    pub(crate) fn issue(&self, organization: &str, name: &str, year: i32) {
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.distinguished_name = rcgen::DistinguishedName::new();
        let subject = &mut params.distinguished_name;
        subject.push(rcgen::DnType::OrganizationName, organization);
        subject.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        // Replaced as a whole, as those who rotate do.
        for (ending, content) in [("key", key.serialize_pem()), ("pem", certificate.pem())] {
            let path = self.dir.join(format!("{name}.{ending}"));
            tortie_kit::file::write_atomic(&path, content.as_bytes(), 0o600).unwrap();
        }
    }

    /// The files of that name.
    pub(crate) fn files(&self, name: &str) -> Option<TlsFiles> {
        let file = |name: &str| Some(self.dir.join(name));
        let files = TlsArgs {
            tls_ca: file("ca.pem"),
            tls_cert: file(&format!("{name}.pem")),
            tls_key: file(&format!("{name}.key")),
        };
        files.files()
    }

    pub(crate) fn options(&self, name: &str) -> [String; 6] {
        let file = |name: &str| self.dir.join(name).display().to_string();
        [
            "--tls-ca".to_owned(),
            file("ca.pem"),
            "--tls-cert".to_owned(),
            file(&format!("{name}.pem")),
            "--tls-key".to_owned(),
            file(&format!("{name}.key")),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_under_a_running_stream_and_their_end_is_shown() {
    let mut typha = Typha::new();
    let authority = Authority::new(&typha.dir);
    authority.issue("tortie:typha", "typha", 2090);
    authority.issue("tortie:nodes", "n1", 2090);
    let (tcp, http) = (free_port(), free_port());
    let mut command = Typha::command(&typha.dir);
    command.args(["--listen", &format!("tcp:127.0.0.1:{tcp}")]);
    command.args(["--http", &format!("127.0.0.1:{http}")]);
    command.args(authority.options("typha"));
    typha.run(command).await;
    let store = typha.store();
    let files = authority.files("n1");
    let addr: ServiceAddr = format!("tcp:127.0.0.1:{tcp}").parse().unwrap();
    let token = CancellationToken::new();
    let start = || {
        let options = SyncOptions {
            typha: Target::new(addr.clone(), files.clone()),
            hello: Hello::new("felix", "n1", "1"),
            prefixes: vec![HANDLES.to_owned()],
            snapshot: None,
        };
        sync(options, token.clone())
    };
    let mut events = start();
    while !matches!(events.recv().await.unwrap(), SyncEvent::Delta(Delta::InSync)) {}
    let end = |year: i32| rcgen::date_time_ymd(year, 1, 1).unix_timestamp().unsigned_abs();
    let metric = || Typha::metric(http, "typha_certificate_not_after_seconds{certificate=\"Own\"}");
    assert_eq!(metric().await, end(2090));

    authority.issue("tortie:typha", "typha", 2095);
    authority.issue("tortie:nodes", "n1", 2095);
    let deadline = Instant::now() + DEADLINE;
    while metric().await != end(2095) {
        assert!(Instant::now() < deadline, "the new certificate is not read");
        sleep(std::time::Duration::from_millis(100)).await;
    }
    store.create(&format!("{HANDLES}a"), handle(1)).await.unwrap();
    let next = events.recv().await.unwrap();
    assert!(
        matches!(next, SyncEvent::Delta(Delta::Set(..))),
        "the stream goes on: {next:?}"
    );
    let mut other = start();
    while !matches!(
        other.recv().await.unwrap(),
        SyncEvent::Status(SyncStatus::InSync { .. })
    ) {}
    assert_eq!(Typha::metric(http, "typha_connections_active").await, 2);
}
