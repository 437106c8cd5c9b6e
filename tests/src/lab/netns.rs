//! A network namespace, and an L2 segment that joins several.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use serde_json::Value;

use super::process::run;

/// A named network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netns {
    name: String,
}

impl Netns {
    pub(super) fn new(name: String) -> Self {
        Netns { name }
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path, as a container runtime passes it to a CNI plugin.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Runs `ip -n <this> ARGS` and gives what it printed.
    ///
    /// # Errors
    /// When `ip` fails: its message.
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["ip", "-n", &self.name];
        all.extend(args);
        run(&all)
    }

    /// Runs a command inside.
    ///
    /// # Errors
    /// When it fails: its message.
    pub fn exec(&self, command: &[&str]) -> Result<String> {
        let mut all = vec!["ip", "netns", "exec", &self.name];
        all.extend(command);
        run(&all)
    }

    /// The routes of the main table as `ip` prints them, one a line, sorted as the kernel gives them, without the numbers of
    /// their nexthop objects.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn routes(&self) -> Result<Vec<String>> {
        let text = self.ip(&["route", "show", "table", "main"])?;
        Ok(text.lines().map(without_object).collect())
    }

    /// The routes of the main table as JSON objects, with numeric protocols where `ip` knows no name.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn routes_json(&self) -> Result<Vec<Value>> {
        let text = self.ip(&["-j", "route", "show", "table", "main"])?;
        serde_json::from_str(&text).context("parse the routes")
    }

    /// The names of its interfaces, without `lo`.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn links(&self) -> Result<Vec<String>> {
        let text = self.ip(&["-j", "link", "show"])?;
        let links: Vec<Value> = serde_json::from_str(&text).context("parse the links")?;
        let names = links.iter().filter_map(|l| l["ifname"].as_str());
        Ok(names.filter(|n| *n != "lo").map(str::to_owned).collect())
    }

    /// Runs a closure on a thread that is inside this namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or what the closure returns.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = self.path();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let file = std::fs::File::open(&path).with_context(|| format!("open {path}"))?;
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("enter {path}"))?;
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

/// An L2 segment: a bridge whose ports are the interfaces of the hosts attached.
#[derive(Debug)]
pub struct Segment {
    ns: Netns,
    ports: AtomicU32,
}

impl Segment {
    pub(super) fn new(ns: Netns) -> Self {
        Segment {
            ns,
            ports: AtomicU32::new(0),
        }
    }

    /// The namespace of the bridge, for captures.
    pub fn switch(&self) -> &Netns {
        &self.ns
    }

    /// Gives `host` an interface on this segment with these addresses (`address/length`).
    ///
    /// # Errors
    /// When the kernel or `ip` refuses.
    pub fn attach(&self, host: &Netns, interface: &str, addresses: &[&str]) -> Result<()> {
        let port = format!("port{}", self.ports.fetch_add(1, Ordering::Relaxed));
        let (outside, inside) = (self.ns.name(), host.name());
        run(&[
            "ip", "link", "add", &port, "netns", outside, "type", "veth", "peer", "name", interface, "netns", inside,
        ])?;
        self.ns.ip(&["link", "set", &port, "master", "br0", "up"])?;
        for address in addresses {
            let v6 = address
                .split('/')
                .next()
                .is_some_and(|a| matches!(a.parse(), Ok(IpAddr::V6(_))));
            let mut add = vec!["addr", "add", address, "dev", interface];
            if v6 {
                add.push("nodad");
            }
            host.ip(&add)?;
        }
        host.ip(&["link", "set", interface, "up"]).map(drop)
    }
}

/// A route as `ip` prints it, without the number of its nexthop object.
#[must_use]
pub fn without_object(route: &str) -> String {
    let Some((before, after)) = route.split_once(" nhid ") else {
        return route.trim_end().to_owned();
    };
    let (_number, rest) = after.split_once(' ').unwrap_or((after, ""));
    format!("{before} {rest}").trim_end().to_owned()
}
