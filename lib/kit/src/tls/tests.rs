use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use tonic::transport::server::Connected as _;

use super::*;
use crate::address::{Conn, Peer, ServiceAddr, Target};

/// An authority that gives out certificates.
struct Authority {
    params: rcgen::CertificateParams,
    key: rcgen::KeyPair,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { params, key, pem }
    }

    /// Writes ca, certificate and key for this name into a directory.
    fn issue(&self, dir: &Path, organization: &str, common: &str) -> TlsFiles {
        self.issue_until(dir, (organization, common), 2100)
    }

    /// The same, good until a year begins.
    fn issue_until(&self, dir: &Path, (organization, common): (&str, &str), year: i32) -> TlsFiles {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, organization);
        params.distinguished_name.push(rcgen::DnType::CommonName, common);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let path = |what: &str| dir.join(format!("{common}.{what}"));
        let args = TlsArgs {
            tls_ca: Some(path("ca")),
            tls_cert: Some(path("pem")),
            tls_key: Some(path("key")),
        };
        std::fs::write(path("ca"), &self.pem).unwrap();
        std::fs::write(path("pem"), certificate.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        args.files().unwrap()
    }
}

/// What a registry shows.
fn exposition(registry: &prometheus_client::registry::Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

#[test]
fn the_end_of_a_clients_certificate_is_shown_and_follows_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let issue = |year| authority.issue_until(dir.path(), ("tortie:nodes", "n1"), year);
    let files = issue(2090);
    let mut registry = prometheus_client::registry::Registry::default();
    let ends = expiry::register(registry.sub_registry_with_prefix("felix"));
    let mut client = expiry::Client::new(files.clone());
    let mut shown = || {
        expiry::show(&ends, client.expiry().unwrap());
        exposition(&registry)
    };
    let line = |year: i32| {
        let end = rcgen::date_time_ymd(year, 1, 1).unix_timestamp();
        format!("felix_certificate_not_after_seconds{{certificate=\"Own\"}} {end}\n")
    };
    let text = shown();
    assert!(
        text.contains(&line(2090)) && text.contains("{certificate=\"Authority\"}"),
        "{text}"
    );
    issue(2095);
    assert!(shown().contains(&line(2095)), "replaced files are read");
    std::fs::write(&files.cert, "no certificate").unwrap();
    assert!(shown().contains(&line(2095)), "what cannot be used changes nothing");
    let mut broken = expiry::Client::new(files);
    assert_eq!(broken.expiry(), None, "nothing is known");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().issue(dir.path(), "tortie:nodes", "n1");
    std::fs::write(&files.cert, "no certificate").unwrap();
    let refused = ServerTls::new(files.clone()).unwrap_err().to_string();
    assert!(refused.contains("n1.pem: holds no certificate"), "{refused}");
    std::fs::remove_file(&files.ca).unwrap();
    assert!(ServerTls::new(files).unwrap_err().to_string().contains("n1.ca"));
}

/// Connects; who the server says came.
async fn meet(target: &Target, incoming: &mut BoxStream<'static, std::io::Result<Conn>>) -> Option<Peer> {
    let (client, server) = tokio::join!(
        target.connect(Duration::from_secs(10)),
        tokio::time::timeout(Duration::from_secs(2), incoming.next())
    );
    drop(client);
    Some(server.ok()??.unwrap().connect_info())
}

#[tokio::test]
async fn peers_are_known_by_their_certificates_and_files_may_change() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = authority.issue(dir.path(), "tortie:typha", "typha");
    let tls = Arc::new(ServerTls::new(server.clone()).unwrap());
    let listener = "tcp:127.0.0.1:0"
        .parse::<ServiceAddr>()
        .unwrap()
        .listen()
        .await
        .unwrap();
    let port = listener.port().unwrap();
    let mut incoming = listener.connections(Some(Arc::clone(&tls)));
    let addr: ServiceAddr = format!("tcp:127.0.0.1:{port}").parse().unwrap();
    let target = |files: &TlsFiles| Target::new(addr.clone(), Some(files.clone()));

    let node = authority.issue(dir.path(), "tortie:nodes", "n1");
    let known = Name {
        organization: "tortie:nodes".to_owned(),
        common: "n1".to_owned(),
    };
    assert_eq!(meet(&target(&node), &mut incoming).await, Some(Peer::Certified(known)));
    assert_eq!(tls.expiry().own, 4_102_444_800);

    let stranger = Authority::new().issue(dir.path(), "tortie:nodes", "n2");
    assert_eq!(meet(&target(&stranger), &mut incoming).await, None, "another authority");
    assert_eq!(
        meet(&Target::new(addr.clone(), None), &mut incoming).await,
        None,
        "no TLS at all"
    );

    // A rotation that goes wrong changes nothing, one that goes right counts at once.
    std::fs::write(&server.cert, "half a file").unwrap();
    assert!(meet(&target(&node), &mut incoming).await.is_some());
    let next = Authority::new();
    next.issue(dir.path(), "tortie:typha", "typha");
    let refused = target(&node)
        .connect(Duration::from_secs(10))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("invalid peer certificate"), "{refused}");
    next.issue(dir.path(), "tortie:nodes", "n1");
    assert!(meet(&target(&node), &mut incoming).await.is_some());
}
