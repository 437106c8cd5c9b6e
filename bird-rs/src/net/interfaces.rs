//! The host's addresses, followed.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tortie_bgp::speaker::{Input, InterfaceAddress};
use tortie_netlink::monitor::{Event, Monitor};
use tortie_netlink::request::{Connection, RequestError};

use crate::engine::{Engine, Request};

/// Events come in bursts: one look at the end of each is enough.
const SETTLE: Duration = Duration::from_millis(50);

/// After the monitor failed.
const RETRY: Duration = Duration::from_secs(5);

/// Routes are of no interest here: no route is in this table.
const NO_TABLE: u32 = 0;

/// Every address of an interface that is up.
///
/// # Errors
/// The kernel's.
pub(crate) fn addresses() -> Result<Vec<InterfaceAddress>, RequestError> {
    let links = Connection::open()?.links()?;
    let up = links.into_iter().filter(|link| link.up);
    Ok(up
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
        .collect())
}

/// Tells the engine of every change, until cancelled.
pub(crate) async fn follow(engine: Engine, token: CancellationToken) {
    while !token.is_cancelled() {
        match Monitor::start(NO_TABLE, 0) {
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
        let events = match events {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(%error, "lost track of the host's addresses");
                return;
            }
        };
        if events
            .iter()
            .all(|event| matches!(event, Event::Route(_) | Event::RouteGone(_)))
        {
            continue;
        }
        tokio::time::sleep(SETTLE).await;
        report(engine).await;
    }
}

async fn report(engine: &Engine) {
    match tokio::task::spawn_blocking(addresses).await {
        Ok(Ok(addresses)) => engine.request(Request::Input(Input::Interfaces(addresses))).await,
        Ok(Err(error)) => tracing::warn!(%error, "cannot read the host's addresses"),
        Err(error) => tracing::warn!(%error, "cannot read the host's addresses"),
    }
}
