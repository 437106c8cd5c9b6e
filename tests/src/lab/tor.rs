//! The top-of-rack router: in another AS, on the nodes' segment.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;

use super::bird::{OurBird, StockBird};
use super::{Daemon, Lab, Netns};

/// Its AS number.
const AS: u32 = 65001;
/// A network behind it, so that the nodes have something to learn.
const BEHIND: &str = "198.51.100.0/24";

/// The router and what runs it.
#[derive(Debug)]
pub struct Tor {
    /// Its network namespace.
    pub ns: Netns,
    /// Its address on the segment.
    pub address: IpAddr,
    file: PathBuf,
    software: Software,
}

#[derive(Debug)]
enum Software {
    Stock(StockBird),
    /// bird-rs by itself: it writes the kernel, since nobody else does.
    Ours(OurBird),
}

impl Tor {
    /// Starts it in `ns` with `address`, expecting the nodes at `neighbors` in `node_as`. Stock BIRD when installed.
    pub(super) fn start(lab: &Lab, ns: Netns, address: IpAddr, nodes: &[IpAddr], node_as: u32) -> Result<Tor> {
        // The same file for both.
        let config = config(address, nodes, node_as);
        let software = if StockBird::installed() {
            Software::Stock(StockBird::start(lab, &ns, "tor", &config)?)
        } else {
            Software::Ours(OurBird::start(lab, &ns, "tor", &config)?)
        };
        let file = lab.dir().join("tor/bird.conf");
        Ok(Tor {
            ns,
            address,
            file,
            software,
        })
    }

    /// What runs it, for people.
    pub fn software(&self) -> &'static str {
        match self.software {
            Software::Stock(_) => "stock BIRD 2",
            Software::Ours(_) => "bird-rs, standalone",
        }
    }

    /// Its AS number.
    pub fn asn(&self) -> u32 {
        AS
    }

    /// The network it announces.
    pub fn behind(&self) -> &'static str {
        BEHIND
    }

    /// The daemons that run it.
    pub fn daemons(&self) -> Vec<&Daemon> {
        match &self.software {
            Software::Stock(bird) => vec![&bird.daemon],
            Software::Ours(bird) => vec![&bird.daemon],
        }
    }

    /// Its configuration, as it is in its file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn configuration(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.file)?)
    }

    /// Gives it another one, which it takes over while it runs.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn configure(&self, text: &str) -> Result<()> {
        std::fs::write(&self.file, text)?;
        self.birdc(&["configure"]).map(drop)
    }

    /// What `birdc ARGS` prints there.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn birdc(&self, args: &[&str]) -> Result<String> {
        match &self.software {
            Software::Stock(bird) => bird.birdc(args),
            Software::Ours(bird) => bird.birdc(args),
        }
    }
}

fn config(address: IpAddr, nodes: &[IpAddr], node_as: u32) -> String {
    let mut text = format!(
        "# The top-of-rack router of the laboratory.\n\
         router id {address};\n\
         log stderr all;\n\
         protocol device {{ scan time 10; }}\n\
         protocol direct {{ ipv4; }}\n\
         protocol kernel {{ persist; ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n\
         protocol static behind {{ ipv4; route {BEHIND} blackhole; }}\n"
    );
    for (i, node) in nodes.iter().enumerate() {
        text.push_str(&format!(
            "protocol bgp node{} {{\n    local {address} as {AS};\n    neighbor {node} as {node_as};\n    \
             connect delay time 1; connect retry time 2; error wait time 1, 5;\n    graceful restart on;\n    \
             ipv4 {{ import all; export where source = RTS_STATIC; }};\n}}\n",
            i + 1
        ));
    }
    text
}
