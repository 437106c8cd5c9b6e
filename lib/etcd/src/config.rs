//! Where etcd is and who we are to it. The environment's names are Calico's.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// How to reach etcd.
#[derive(Debug, Clone, Default, Args)]
pub struct EtcdArgs {
    /// The members of an etcd cluster, which for typha keeps the state instead of a file: https://host:2379, separated by commas
    #[arg(
        long = "etcd-endpoints",
        env = "ETCD_ENDPOINTS",
        value_name = "URL",
        value_delimiter = ','
    )]
    pub endpoints: Vec<Endpoint>,
    /// The authority that signed the certificates of etcd's members, PEM
    #[arg(long = "etcd-ca", env = "ETCD_CA_CERT_FILE", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The certificate to show to etcd, PEM
    #[arg(long = "etcd-cert", env = "ETCD_CERT_FILE", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// The key of that certificate, PEM
    #[arg(long = "etcd-key", env = "ETCD_KEY_FILE", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The user name in etcd
    #[arg(long = "etcd-username", env = "ETCD_USERNAME", value_name = "NAME")]
    pub username: Option<String>,
    /// A file that holds that user's password; or give the password in the environment's ETCD_PASSWORD
    #[arg(long = "etcd-password-file", env = "ETCD_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Only from the environment: a command line can be read by everybody on the machine.
    #[arg(long = "etcd-password", env = "ETCD_PASSWORD", hide = true, hide_env_values = true)]
    pub password: Option<Secret>,
}

/// Text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Secret(text.to_owned())
    }
}

/// `http://host:port` or `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As it is written.
    pub url: String,
    /// Is it `https`?
    pub tls: bool,
}

impl std::str::FromStr for Endpoint {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let url = s.trim().trim_end_matches('/');
        let bad = || format!("'{s}' is no etcd endpoint: want http://host:port or https://host:port");
        let (tls, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(bad()),
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
        if host.is_empty() || port.parse::<u16>().is_err() || tonic::transport::Uri::try_from(url).is_err() {
            return Err(bad());
        }
        let url = url.to_owned();
        Ok(Endpoint { url, tls })
    }
}

/// What cannot be used together, or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdConfigError {
    /// TLS without an authority.
    #[error("--etcd-ca is needed: {0} is reached by TLS, and nothing says whose certificate it should have")]
    NoAuthority(String),
    /// One of certificate and key.
    #[error("--etcd-cert and --etcd-key need each other")]
    HalfIdentity,
    /// A user without a password.
    #[error("--etcd-username {0} needs --etcd-password-file or the environment's ETCD_PASSWORD")]
    NoPassword(String),
    /// A file or an endpoint that cannot be used.
    #[error("{option} {path}: {reason}")]
    Unreadable {
        /// Which option names it.
        option: &'static str,
        /// It.
        path: String,
        /// Why.
        reason: String,
    },
}

impl EtcdArgs {
    /// Is etcd meant at all?
    pub fn is_used(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// Everything that does not fit together, without looking at files.
    pub fn errors(&self) -> Vec<EtcdConfigError> {
        let mut errors = Vec::new();
        if let Some(secure) = self.endpoints.iter().find(|e| e.tls)
            && self.ca.is_none()
        {
            errors.push(EtcdConfigError::NoAuthority(secure.url.clone()));
        }
        if self.cert.is_some() != self.key.is_some() {
            errors.push(EtcdConfigError::HalfIdentity);
        }
        if let Some(name) = &self.username
            && self.password.is_none()
            && self.password_file.is_none()
        {
            errors.push(EtcdConfigError::NoPassword(name.clone()));
        }
        errors
    }

    /// TLS with the named files, read now.
    ///
    /// # Errors
    /// [`EtcdConfigError`] naming the option and the file.
    pub fn tls(&self) -> Result<Option<ClientTlsConfig>, EtcdConfigError> {
        let Some(ca) = &self.ca else { return Ok(None) };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("--etcd-ca", ca)?));
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(Identity::from_pem(read("--etcd-cert", cert)?, read("--etcd-key", key)?));
        }
        Ok(Some(tls))
    }

    /// Name and password, if there are any.
    ///
    /// # Errors
    /// [`EtcdConfigError`] naming the file that cannot be read.
    pub fn login(&self) -> Result<Option<(String, Secret)>, EtcdConfigError> {
        let Some(name) = &self.username else { return Ok(None) };
        let password = match (&self.password_file, &self.password) {
            (Some(file), _) => {
                let text = String::from_utf8_lossy(&read("--etcd-password-file", file)?).into_owned();
                Secret(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            (None, Some(password)) => password.clone(),
            (None, None) => return Err(EtcdConfigError::NoPassword(name.clone())),
        };
        Ok(Some((name.clone(), password)))
    }
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, EtcdConfigError> {
    std::fs::read(path).map_err(|e| EtcdConfigError::Unreadable {
        option,
        path: path.display().to_string(),
        reason: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_and_what_they_need() {
        for good in [
            "http://127.0.0.1:2379",
            "https://[::1]:2379",
            "https://etcd-0.local:2379/",
        ] {
            let endpoint: Endpoint = good.parse().unwrap();
            assert_eq!(endpoint.url, good.trim_end_matches('/'));
            assert_eq!(endpoint.tls, good.starts_with("https"));
        }
        for bad in [
            "",
            "127.0.0.1:2379",
            "unix:/x",
            "http://host",
            "http://:1",
            "http://h:x",
            "https://a b:1",
        ] {
            assert!(
                bad.parse::<Endpoint>().unwrap_err().contains("no etcd endpoint"),
                "{bad}"
            );
        }
        let args = EtcdArgs {
            endpoints: vec!["https://a:1".parse().unwrap()],
            cert: Some("/c".into()),
            username: Some("typha".into()),
            ..EtcdArgs::default()
        };
        let said: Vec<_> = args.errors().iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].starts_with("--etcd-ca is needed: https://a:1"), "{said:?}");
        assert_eq!(format!("{:?}", Secret("x".into())), "Secret(..)");
    }

    #[test]
    fn a_password_comes_from_a_file_without_its_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "s3cret\n").unwrap();
        let mut args = EtcdArgs {
            username: Some("typha".into()),
            password_file: Some(file),
            ..EtcdArgs::default()
        };
        assert_eq!(args.login().unwrap().unwrap().1, Secret("s3cret".into()));
        args.password_file = Some(dir.path().join("none"));
        let refused = args.login().unwrap_err().to_string();
        assert!(
            refused.starts_with("--etcd-password-file ") && refused.contains("No such file"),
            "{refused}"
        );
    }
}
