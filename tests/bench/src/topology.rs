//! The namespaces of a run and the wire between them.

use anyhow::Result;
use tortie_tests::lab::{Lab, Netns, run};

use crate::workload::DAEMON;

/// Two namespaces and a wire, the tester's first: the peers' whole /18 is local on the tester's side.
///
/// # Errors
/// When the kernel or `ip` refuses.
pub(crate) fn wire_up(lab: &Lab) -> Result<(Netns, Netns)> {
    let (ours, theirs) = (lab.namespace("tester")?, lab.namespace("daemon")?);
    run(&[
        "ip",
        "link",
        "add",
        "eth0",
        "netns",
        ours.name(),
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        theirs.name(),
    ])?;
    theirs.ip(&["addr", "add", &format!("{DAEMON}/16"), "dev", "eth0"])?;
    theirs.ip(&["addr", "add", "fd99::ffff:1/64", "dev", "eth0", "nodad"])?;
    ours.ip(&["addr", "add", "10.99.255.253/16", "dev", "eth0"])?;
    ours.ip(&["addr", "add", "fd99::ffff:2/64", "dev", "eth0", "nodad"])?;
    for ns in [&ours, &theirs] {
        ns.ip(&["link", "set", "eth0", "up"])?;
    }
    // Thousands of neighbours on the wire are more than the kernel's table of them holds: the daemon knows one.
    theirs.ip(&["route", "add", "10.99.0.0/18", "via", "10.99.255.253"])?;
    // Any of the peers' addresses may be bound without being configured one by one.
    ours.ip(&["route", "add", "local", "10.99.0.0/18", "dev", "lo"])?;
    Ok((ours, theirs))
}
