//! Certificates for a cluster that uses TLS.

use std::path::PathBuf;

use anyhow::Result;

use super::process::run;
use super::{Lab, binary};

/// An authority of the laboratory's own, made with `tortiectl certs`.
#[derive(Debug)]
pub(super) struct Certs {
    dir: PathBuf,
}

impl Certs {
    /// Makes the authority.
    pub(super) fn new(lab: &Lab) -> Result<Certs> {
        let certs = Certs {
            dir: lab.folder("pki")?,
        };
        certs.tool(&["init"])?;
        Ok(certs)
    }

    /// Gives somebody a certificate, and the options with which a program shows it. `host`: what a typha is reached by.
    pub(super) fn issue(&self, capacity: &str, name: &str, host: Option<&str>) -> Result<Vec<String>> {
        let host = host.map(|h| ["--host", h]);
        let host = host.iter().flatten().copied();
        let args: Vec<&str> = ["issue", capacity, name].into_iter().chain(host).collect();
        self.tool(&args)?;
        let file = |file: &str| self.dir.join(file).display().to_string();
        let flags = [
            ("--tls-ca", file("ca.pem")),
            ("--tls-cert", file(&format!("{name}.pem"))),
            ("--tls-key", file(&format!("{name}.key"))),
        ];
        Ok(flags
            .into_iter()
            .flat_map(|(flag, file)| [flag.to_owned(), file])
            .collect())
    }

    fn tool(&self, args: &[&str]) -> Result<()> {
        let (program, dir) = (
            binary("tortiectl")?.display().to_string(),
            self.dir.display().to_string(),
        );
        let command = [&[program.as_str(), "certs"], args, &["--dir", &dir]].concat();
        run(&command).map(drop)
    }
}
