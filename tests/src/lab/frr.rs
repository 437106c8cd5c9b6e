//! FRR in a namespace: zebra, which writes the kernel's routes, and bgpd.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::process::{fresh_log, run};
use super::{Daemon, Lab, Netns, SETTLE, wait_for};

/// A router that runs FRR.
#[derive(Debug)]
pub struct Frr {
    /// The BGP speaker.
    pub bgpd: Daemon,
    /// Whoever writes the kernel. It keeps bgpd's routes while bgpd restarts, if bgpd asked it to.
    pub zebra: Daemon,
    dir: PathBuf,
}

impl Frr {
    /// Starts both with this configuration.
    ///
    /// # Errors
    /// When FRR is not installed or cannot be started.
    pub fn start(lab: &Lab, ns: &Netns, name: &str, config: &str) -> Result<Frr> {
        let dir = lab.folder(name)?;
        std::fs::write(dir.join("frr.conf"), config)?;
        // They give up root before they read the file and open their sockets.
        run(&["chown", "-R", "frr:frr", &dir.display().to_string()]).context("FRR: run `make deps`")?;
        let daemon = |program: &str, more: &[&str]| {
            let path = |file: &str| dir.join(file).display().to_string();
            let log = dir.join(format!("{program}.log"));
            fresh_log(&log)?;
            let mut command = vec![format!("/usr/lib/frr/{program}")];
            let own = [
                ["-f", &path("frr.conf")],
                ["-i", &path(&format!("{program}.pid"))],
                ["--vty_socket", &path("")],
                ["-z", &path("zserv")],
                ["--log", "stdout"],
            ];
            command.extend(own.as_flattened().iter().chain(more).map(|a| (*a).to_owned()));
            Daemon::start(program, ns, command, log)
        };
        let zebra = daemon("zebra", &[])?;
        wait_for("zebra to listen", SETTLE, || {
            ensure!(dir.join("zserv").exists(), "no socket yet");
            Ok(())
        })?;
        let bgpd = daemon("bgpd", &[])?;
        Ok(Frr { bgpd, zebra, dir })
    }

    /// What bgpd says to these commands, one after another.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn vtysh(&self, commands: &[&str]) -> Result<String> {
        let dir = self.dir.display().to_string();
        let mut command = vec!["/usr/bin/vtysh", "--vty_socket", &dir, "-d", "bgpd"];
        command.extend(commands.iter().flat_map(|c| ["-c", c]));
        run(&command)
    }

    /// How many of its IPv4 peers are established, and how many of these it made out of a range.
    ///
    /// # Errors
    /// When bgpd does not answer.
    pub fn established(&self) -> Result<(usize, usize)> {
        let text = self.vtysh(&["show bgp ipv4 unicast summary json"])?;
        let summary: Value = serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?;
        let peers = summary["peers"].as_object().context("no peers")?;
        let up: Vec<&Value> = peers.values().filter(|p| p["state"] == "Established").collect();
        let dynamic = up.iter().filter(|p| p["dynamicPeer"] == true).count();
        Ok((up.len(), dynamic))
    }
}
