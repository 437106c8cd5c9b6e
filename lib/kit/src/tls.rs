//! Mutual TLS between Tortie's programs: files in, connections with known peers out.
//!
//! Both sides show a certificate of one authority. Files are looked at whenever a connection begins, and used anew when
//! they have changed: certificates are rotated by replacing files, and no stream that runs is dropped by it. Files that
//! cannot be used leave what was in use before in use. There are no revocation lists: certificates are short-lived or
//! the authority is replaced.

mod expiry;
mod incoming;
mod name;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use clap::Args;
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsConnector, client};

pub use expiry::{watch_client, watch_server};
pub(crate) use incoming::serve;
pub use name::Name;

/// What both sides of a gRPC connection agree on.
const ALPN: &[u8] = b"h2";

/// Whose certificates to trust and which to show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct TlsArgs {
    /// The authority that signs the certificates of Tortie's programs, PEM
    #[arg(
        long,
        env = "TORTIE_TLS_CA",
        global = true,
        requires_all = ["tls_cert", "tls_key"],
        value_name = "FILE"
    )]
    pub tls_ca: Option<PathBuf>,
    /// This program's certificate, PEM
    #[arg(
        long,
        env = "TORTIE_TLS_CERT",
        global = true,
        requires_all = ["tls_ca", "tls_key"],
        value_name = "FILE"
    )]
    pub tls_cert: Option<PathBuf>,
    /// The key of that certificate, PEM
    #[arg(
        long,
        env = "TORTIE_TLS_KEY",
        global = true,
        requires_all = ["tls_ca", "tls_cert"],
        value_name = "FILE"
    )]
    pub tls_key: Option<PathBuf>,
}

/// The three files of [`TlsArgs`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TlsError {
    /// Which.
    path: PathBuf,
    /// What is wrong with it.
    reason: String,
}

impl TlsArgs {
    /// The files; `None` when none is named. The command line wants all of them or none.
    pub fn files(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            ca: self.tls_ca.clone()?,
            cert: self.tls_cert.clone()?,
            key: self.tls_key.clone()?,
        })
    }
}

/// Until when certificates are good, in seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// This program's own.
    pub own: i64,
    /// The authority's.
    pub authority: i64,
}

/// What tells a file from the one that was there before.
type Stamp = Option<(SystemTime, u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.ino(), meta.len()))
}

/// The files' content.
struct Material {
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    expiry: Expiry,
}

impl TlsFiles {
    fn stamps(&self) -> [Stamp; 3] {
        [&self.ca, &self.cert, &self.key].map(|path| stamp(path))
    }

    fn load(&self) -> Result<Material, TlsError> {
        let authorities = certificates(&self.ca)?;
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| file(&self.key, e))?;
        let mut roots = RootCertStore::empty();
        let mut authority = i64::MAX;
        for certificate in authorities {
            authority = authority.min(name::not_after(&certificate).map_err(|e| file(&self.ca, e))?);
            roots.add(certificate).map_err(|e| file(&self.ca, e))?;
        }
        let own = chain
            .first()
            .map(name::not_after)
            .transpose()
            .map_err(|e| file(&self.cert, e))?;
        let own = own.unwrap_or_default();
        Ok(Material {
            roots,
            chain,
            key,
            expiry: Expiry { own, authority },
        })
    }

    fn client(&self) -> Result<ClientConfig, TlsError> {
        let Material { roots, chain, key, .. } = self.load()?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| file(&self.cert, e))?;
        let builder = builder.with_root_certificates(roots);
        let mut config = builder
            .with_client_auth_cert(chain, key)
            .map_err(|e| file(&self.cert, e))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    fn server(&self) -> Result<(ServerConfig, Expiry), TlsError> {
        let Material {
            roots,
            chain,
            key,
            expiry,
        } = self.load()?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|e| file(&self.ca, e))?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| file(&self.cert, e))?;
        let builder = builder.with_client_cert_verifier(verifier);
        let mut config = builder.with_single_cert(chain, key).map_err(|e| file(&self.cert, e))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok((config, expiry))
    }

    /// Connects, with the files as they are now. The server's certificate must be for this host.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> std::io::Result<client::TlsStream<TcpStream>> {
        let config = self.client().map_err(std::io::Error::other)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(std::io::Error::other)?;
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

/// A server's side, with files that may change.
#[derive(Debug)]
pub struct ServerTls {
    files: TlsFiles,
    used: Mutex<Used>,
}

#[derive(Debug, Clone)]
struct Used {
    stamps: [Stamp; 3],
    config: Arc<ServerConfig>,
    expiry: Expiry,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] naming the file.
    pub fn new(files: TlsFiles) -> Result<Self, TlsError> {
        let stamps = files.stamps();
        let (config, expiry) = files.server()?;
        let used = Mutex::new(Used {
            stamps,
            config: Arc::new(config),
            expiry,
        });
        Ok(ServerTls { files, used })
    }

    /// Until when the certificates in use are good. Reads files that have changed.
    pub fn expiry(&self) -> Expiry {
        self.current().expiry
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.current().config
    }

    fn current(&self) -> Used {
        // What is in it is whole at every moment.
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.files.stamps();
        if stamps != used.stamps {
            used.stamps = stamps;
            match self.files.server() {
                Ok((config, expiry)) => {
                    tracing::info!(cert = %self.files.cert.display(), not_after = expiry.own, "certificates read anew");
                    (used.config, used.expiry) = (Arc::new(config), expiry);
                }
                Err(error) => tracing::error!(%error, "certificates cannot be used, those in use stay"),
            }
        }
        used.clone()
    }
}

/// Whose certificates are in a file, and until when each is good, in seconds since the epoch.
///
/// # Errors
/// [`TlsError`] naming the file.
pub fn describe(path: &Path) -> Result<Vec<(Name, i64)>, TlsError> {
    let described = certificates(path)?.into_iter().map(|c| {
        let (name, until) = (Name::of(&c), name::not_after(&c));
        Ok((name.map_err(|e| file(path, e))?, until.map_err(|e| file(path, e))?))
    });
    described.collect()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|e| file(path, e))?;
    let certificates: Vec<_> = read.collect::<Result<_, _>>().map_err(|e| file(path, e))?;
    if certificates.is_empty() {
        return Err(file(path, "holds no certificate"));
    }
    Ok(certificates)
}

fn file(path: &Path, reason: impl ToString) -> TlsError {
    TlsError {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests;
