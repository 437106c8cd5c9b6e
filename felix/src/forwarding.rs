//! Forwarding between interfaces, switched on so that the host keeps what it learns from routers.
//!
//! A kernel that forwards IPv6 takes no router advertisements where `accept_ra` is 1: the host would lose its default
//! route. Where they are taken now they are taken afterwards, too (`accept_ra` 2); nothing else is changed. Workloads are
//! no routers: their interfaces are left out.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tortie_netlink::request::RequestError;
use tortie_netlink::route::{Kernel, KernelError, Netlink};
use tortie_netlink::sysctl::Sysctl;

use crate::dataplane::class::WORKLOAD_INTERFACE_PREFIX;
use crate::state::StateHandle;

/// How long a sysctl that could not be written is left alone.
const AGAIN: Duration = Duration::from_secs(10);

/// Why a node does not forward.
#[derive(Debug, thiserror::Error)]
pub enum ForwardingError {
    /// A sysctl could not be read or written.
    #[error(transparent)]
    Sysctl(#[from] RequestError),
    /// The kernel could not be asked for its interfaces.
    #[error("list interfaces: {0}")]
    Interfaces(#[from] KernelError),
}

/// Makes the calling thread's network namespace forward IPv4; a node that does not routes nothing.
///
/// # Errors
/// [`ForwardingError`]. What is as it shall be is not written, so a read-only `/proc/sys` with the right values will do.
pub fn switch_on() -> Result<(), ForwardingError> {
    write("net/ipv4/ip_forward")
}

/// The same for IPv6. Nothing is switched off again: whether others need it, nobody knows.
///
/// # Errors
/// [`ForwardingError`].
pub fn switch_on_v6(kernel: &mut impl Kernel) -> Result<(), ForwardingError> {
    for interface in kernel.interfaces()? {
        if !interface.name.starts_with(WORKLOAD_INTERFACE_PREFIX) {
            keep_accepting(&interface.name)?;
        }
    }
    write("net/ipv6/conf/all/forwarding")
}

/// Switches IPv6 on as soon as the settings are known, unless they say `ipv6Support: false`. A node that has restarted
/// forwards all the time: what was switched on stays.
pub(crate) async fn follow(state: StateHandle, token: CancellationToken) {
    let follow = async {
        state.wait_for(|s| s.is_known() && s.settings.ipv6).await;
        let mut told = false;
        while let Err(error) = six() {
            if !std::mem::replace(&mut told, true) {
                tracing::error!(%error, "this node does not forward IPv6");
            }
            tokio::time::sleep(AGAIN).await;
        }
        // Tasks live as long as felix.
        std::future::pending::<()>().await
    };
    token.run_until_cancelled(follow).await;
}

fn six() -> Result<(), ForwardingError> {
    switch_on_v6(&mut Netlink::open()?)
}

fn write(name: &'static str) -> Result<(), ForwardingError> {
    let sysctl = Sysctl::global(name);
    // A kernel without IPv6 has no such parameter.
    if sysctl.exists() {
        sysctl.write("1")?;
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
