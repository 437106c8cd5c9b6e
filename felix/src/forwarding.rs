//! Forwarding between interfaces, switched on so that the host keeps what it learns from routers.
//!
//! A kernel that forwards IPv6 takes no router advertisements where `accept_ra` is 1: the host would lose its default
//! route. Where they are taken now they are taken afterwards, too (`accept_ra` 2); nothing else is changed. Workloads are
//! no routers: their interfaces are left out.

use tortie_netlink::request::RequestError;
use tortie_netlink::route::{Kernel, KernelError};
use tortie_netlink::sysctl::Sysctl;

use crate::dataplane::class::WORKLOAD_INTERFACE_PREFIX;

/// Why a node does not forward.
#[derive(Debug, thiserror::Error)]
pub enum ForwardingError {
    /// A sysctl could not be read or written.
    #[error(transparent)]
    Sysctl(#[from] RequestError),
    /// The interfaces could not be listed.
    #[error("list interfaces: {0}")]
    Interfaces(#[from] KernelError),
}

/// Makes the calling thread's network namespace forward; a node that does not routes nothing.
///
/// # Errors
/// [`ForwardingError`]. What is as it shall be is not written, so a read-only `/proc/sys` with the right values will do.
pub fn switch_on(kernel: &mut impl Kernel) -> Result<(), ForwardingError> {
    for interface in kernel.interfaces()? {
        if !interface.name.starts_with(WORKLOAD_INTERFACE_PREFIX) {
            keep_accepting(&interface.name)?;
        }
    }
    for name in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        let sysctl = Sysctl::global(name);
        // A kernel without IPv6 has no such parameter.
        if sysctl.exists() {
            sysctl.write("1")?;
        }
    }
    Ok(())
}

/// Router advertisements on this interface are taken afterwards if they are now.
fn keep_accepting(interface: &str) -> Result<(), RequestError> {
    let sysctl = |name| Sysctl::interface(["ipv6", "conf"], interface, name);
    let (accept, forwarding) = (sysctl("accept_ra")?, sysctl("forwarding")?);
    // Interfaces come and go, and not every one speaks IPv6.
    let is = |sysctl: &Sysctl, value| sysctl.read().is_ok_and(|v| v == value);
    if is(&accept, "1") && is(&forwarding, "0") {
        accept.write("2")?;
        tracing::info!(interface, "router advertisements are taken although the node forwards");
    }
    Ok(())
}
