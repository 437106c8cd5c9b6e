//! A cluster node: a namespace with felix, bird-rs and confd.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::process::{fresh_log, run};
use super::{Daemon, Lab, Netns, SETTLE, binary, wait_for};

/// A node and its three daemons.
#[derive(Debug)]
pub struct Node {
    name: String,
    ns: Netns,
    dir: PathBuf,
    /// Programs the kernel.
    pub felix: Daemon,
    /// Speaks BGP.
    pub bird: Daemon,
    /// Renders bird-rs's configuration.
    pub confd: Daemon,
}

impl Node {
    /// Starts the daemons of node `name` in `ns`; they find typha at an address, and come with a certificate if there is
    /// one.
    pub(super) fn start(lab: &Lab, name: &str, ns: Netns, typha: (&str, &[String])) -> Result<Node> {
        let dir = lab.folder(name)?;
        let start = |daemon: &str, command: Vec<String>| {
            let log = dir.join(format!("{daemon}.log"));
            fresh_log(&log)?;
            Daemon::start(daemon, &ns, command, log)
        };
        let (typha, certificate) = typha;
        let with_certificate = |command: Vec<String>| [command, certificate.to_vec()].concat();
        let felix = start("felix", with_certificate(felix_command(&dir, name, typha)?))?;
        let confd = start("confd", with_certificate(confd_command(&dir, name, typha)?))?;
        // bird-rs needs a configuration to start with, as BIRD does: the first one that confd renders.
        wait_for(&format!("confd on {name} to render"), SETTLE, || {
            ensure!(
                dir.join("bird.conf").exists(),
                "no bird.conf yet; see {}",
                dir.join("confd.log").display()
            );
            Ok(())
        })?;
        let bird = start("bird-rs", bird_command(&dir)?)?;
        Ok(Node {
            name: name.to_owned(),
            ns,
            dir,
            felix,
            bird,
            confd,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network namespace.
    pub fn ns(&self) -> &Netns {
        &self.ns
    }

    /// The folder of its sockets, state and logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder where its confd finds passwords.
    pub fn secrets(&self) -> PathBuf {
        self.dir.join("secrets")
    }

    /// Where its felix answers.
    pub fn felix_addr(&self) -> String {
        felix_addr(&self.dir)
    }

    /// Where its bird-rs answers.
    pub fn bird_addr(&self) -> String {
        bird_addr(&self.dir)
    }

    /// The three daemons, by name.
    pub fn daemons(&mut self) -> [&mut Daemon; 3] {
        [&mut self.felix, &mut self.bird, &mut self.confd]
    }

    /// One of the daemons: `felix`, `bird-rs` or `confd`.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn daemon(&mut self, name: &str) -> Result<&mut Daemon> {
        self.daemons()
            .into_iter()
            .find(|d| d.name() == name)
            .with_context(|| format!("no daemon {name}"))
    }

    /// `tortiectl node status` for this node, as a person sees it.
    ///
    /// # Errors
    /// When the command fails.
    pub fn status(&self) -> Result<String> {
        run(&[
            &binary("tortiectl")?.display().to_string(),
            "node",
            "status",
            "--bird",
            &self.bird_addr(),
        ])
    }

    /// How many of its BGP sessions are established, and how many there are.
    ///
    /// # Errors
    /// When bird-rs does not answer.
    pub fn sessions(&self) -> Result<(usize, usize)> {
        let ctl = binary("tortiectl")?.display().to_string();
        let text = run(&[&ctl, "node", "status", "--bird", &self.bird_addr(), "-o", "json"])?;
        let status: Value = serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?;
        let peers = status["peers"].as_array().context("no peers in the status")?;
        Ok((peers.iter().filter(|p| p["info"] == "Established").count(), peers.len()))
    }
}

fn felix_addr(dir: &Path) -> String {
    format!("unix:{}", dir.join("felix.sock").display())
}

fn bird_addr(dir: &Path) -> String {
    format!("unix:{}", dir.join("bird.sock").display())
}

fn path(dir: &Path, file: &str) -> String {
    dir.join(file).display().to_string()
}

/// The command line of a bird-rs whose files are in `dir`.
fn bird_command(dir: &Path) -> Result<Vec<String>> {
    let program = binary("bird-rs")?.display().to_string();
    let (conf, grpc) = (path(dir, "bird.conf"), bird_addr(dir));
    Ok([&program, "-R", "-c", &conf, "--grpc", &grpc]
        .map(str::to_owned)
        .to_vec())
}

/// The command line of a felix whose files are in `dir`.
fn felix_command(dir: &Path, node: &str, typha: &str) -> Result<Vec<String>> {
    agent_command("felix", dir, node, typha, &["--socket", &felix_addr(dir)])
}

fn confd_command(dir: &Path, node: &str, typha: &str) -> Result<Vec<String>> {
    let (output, secrets) = (path(dir, "bird.conf"), path(dir, "secrets"));
    let own = ["--output", &output, "--secrets-dir", &secrets];
    agent_command("confd", dir, node, typha, &own)
}

/// What felix and confd have in common, and what each has of its own.
fn agent_command(program: &str, dir: &Path, node: &str, typha: &str, own: &[&str]) -> Result<Vec<String>> {
    let state = dir.join(format!("{program}-state"));
    std::fs::create_dir_all(&state)?;
    let (program, bird) = (binary(program)?.display().to_string(), bird_addr(dir));
    let state = state.display().to_string();
    let common = ["--node", node, "--typha", typha, "--bird", &bird, "--state-dir", &state];
    Ok([program.as_str()]
        .into_iter()
        .chain(common)
        .chain(own.iter().copied())
        .map(str::to_owned)
        .collect())
}
