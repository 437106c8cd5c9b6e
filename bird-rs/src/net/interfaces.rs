//! The host's interfaces and their addresses, followed.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tortie_bgp::speaker::{Input, InterfaceAddress, InterfaceLink};
use tortie_netlink::link::Link;
use tortie_netlink::monitor::Monitor;
use tortie_netlink::request::{Connection, RequestError};

use crate::engine::{Engine, Request};

/// Events come in bursts: one look at the end of each is enough.
const SETTLE: Duration = Duration::from_millis(50);

/// After the monitor failed.
const RETRY: Duration = Duration::from_secs(5);

/// The interfaces that are up, and all their addresses: what the speaker is told, in this order.
///
/// # Errors
/// The kernel's.
pub(crate) fn read() -> Result<(Vec<InterfaceLink>, Vec<InterfaceAddress>), RequestError> {
    let links: Vec<Link> = Connection::open()?
        .links()?
        .into_iter()
        .filter(|link| link.up)
        .collect();
    let carriers = links.iter().map(|link| InterfaceLink {
        interface: link.name.as_str().into(),
        carrier: link.carrier,
    });
    Ok((carriers.collect(), addresses(links)))
}

fn addresses(links: Vec<Link>) -> Vec<InterfaceAddress> {
    links
        .into_iter()
        .flat_map(|link| {
            let name: std::sync::Arc<str> = link.name.into();
            link.addresses
                .into_iter()
                .map(move |(address, subnet)| InterfaceAddress {
                    interface: name.clone(),
                    address,
                    subnet,
                })
        })
        .collect()
}

/// Tells the engine of every change, until cancelled.
pub(crate) async fn follow(engine: Engine, token: CancellationToken) {
    while !token.is_cancelled() {
        match Monitor::of_links() {
            Ok(mut monitor) => {
                // What changed before the monitor was there.
                report(&engine).await;
                tokio::select! {
                    () = token.cancelled() => return,
                    () = events(&mut monitor, &engine) => {}
                }
            }
            Err(error) => tracing::warn!(%error, "cannot follow the host's addresses"),
        }
        tokio::select! {
            () = token.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn events(monitor: &mut Monitor, engine: &Engine) {
    while let Some(events) = monitor.next().await {
        if let Err(error) = events {
            tracing::warn!(%error, "lost track of the host's addresses");
            return;
        }
        tokio::time::sleep(SETTLE).await;
        report(engine).await;
    }
}

async fn report(engine: &Engine) {
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok((links, addresses))) => {
            engine.request(Request::Input(Input::Links(links))).await;
            engine.request(Request::Input(Input::Interfaces(addresses))).await;
        }
        Ok(Err(error)) => tracing::warn!(%error, "cannot read the host's addresses"),
        Err(error) => tracing::warn!(%error, "cannot read the host's addresses"),
    }
}
