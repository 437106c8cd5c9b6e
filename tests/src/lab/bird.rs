//! Routers outside the cluster: stock BIRD 2, or bird-rs by itself where BIRD is not installed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::process::{fresh_log, run};
use super::{Daemon, Lab, Netns, binary};

/// A stock BIRD 2 in a namespace.
#[derive(Debug)]
pub struct StockBird {
    /// The process.
    pub daemon: Daemon,
    ns: Netns,
    socket: PathBuf,
}

impl StockBird {
    /// Is BIRD 2 installed? `TORTIE_WITHOUT_BIRD=1` plays a machine that lacks it.
    pub fn installed() -> bool {
        std::env::var_os("TORTIE_WITHOUT_BIRD").is_none()
            && Path::new("/usr/sbin/bird").is_file()
            && Path::new("/usr/sbin/birdc").is_file()
    }

    /// Starts it with this configuration.
    ///
    /// # Errors
    /// When it cannot be started or refuses the configuration.
    pub fn start(lab: &Lab, ns: &Netns, name: &str, config: &str) -> Result<StockBird> {
        let dir = lab.folder(name)?;
        let (file, socket, log) = (dir.join("bird.conf"), dir.join("bird.ctl"), dir.join("bird.log"));
        std::fs::write(&file, config)?;
        let path = file.display().to_string();
        run(&["/usr/sbin/bird", "-p", "-c", &path]).context("stock BIRD refuses its configuration")?;
        fresh_log(&log)?;
        let command = ["/usr/sbin/bird", "-f", "-c", &path, "-s", &socket.display().to_string()];
        let daemon = Daemon::start("bird", ns, command.map(str::to_owned).to_vec(), log)?;
        Ok(StockBird {
            daemon,
            ns: ns.clone(),
            socket,
        })
    }

    /// What `birdc ARGS` prints.
    ///
    /// # Errors
    /// When BIRD does not answer.
    pub fn birdc(&self, args: &[&str]) -> Result<String> {
        let socket = self.socket.display().to_string();
        let mut command = vec!["/usr/sbin/birdc", "-s", &socket];
        command.extend(args);
        self.ns.exec(&command)
    }
}

/// A bird-rs by itself in a namespace, as a router outside the cluster.
#[derive(Debug)]
pub(super) struct OurBird {
    /// The process.
    pub(super) daemon: Daemon,
    ns: Netns,
    socket: PathBuf,
}

impl OurBird {
    /// Starts it with this configuration.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(lab: &Lab, ns: &Netns, name: &str, config: &str) -> Result<OurBird> {
        let dir = lab.folder(name)?;
        let (file, socket, log) = (dir.join("bird.conf"), dir.join("bird.ctl"), dir.join("bird-rs.log"));
        std::fs::write(&file, config)?;
        fresh_log(&log)?;
        let command = vec![
            binary("bird-rs")?.display().to_string(),
            "-R".to_owned(),
            "-c".to_owned(),
            file.display().to_string(),
            "-s".to_owned(),
            socket.display().to_string(),
            "--grpc".to_owned(),
            format!("unix:{}", dir.join("bird.sock").display()),
        ];
        let daemon = Daemon::start("bird-rs", ns, command, log)?;
        Ok(OurBird {
            daemon,
            ns: ns.clone(),
            socket,
        })
    }

    /// What `birdc ARGS` prints.
    ///
    /// # Errors
    /// When there is no birdc, or bird-rs does not answer.
    pub(super) fn birdc(&self, args: &[&str]) -> Result<String> {
        let socket = self.socket.display().to_string();
        let mut command = vec!["/usr/sbin/birdc", "-s", &socket];
        command.extend(args);
        self.ns.exec(&command)
    }
}
