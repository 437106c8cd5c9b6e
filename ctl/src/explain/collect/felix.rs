//! A felix: is it in step, and the routes that it wants to what is asked about.

use anyhow::{Context, Result, anyhow};
use tonic::Request;
use tonic::transport::Channel;
use tortie_kit::address::ServiceAddr;
use tortie_net::Prefix;
use tortie_proto::common::Hello;
use tortie_proto::felix::felix_client::FelixClient;
use tortie_proto::felix::{ShowRoutesRequest, StatusRequest, StatusResponse};

use super::{PATIENCE, Wanted};
use crate::explain::facts::{FelixFacts, Row};
use crate::store::hello;

async fn status(addr: &ServiceAddr) -> Result<(FelixClient<Channel>, StatusResponse)> {
    let mut client = FelixClient::new(addr.connect(PATIENCE).await?);
    let mut request = Request::new(StatusRequest { hello: Some(hello()) });
    request.set_timeout(PATIENCE);
    let status = client.status(request).await.map_err(|s| said(&s))?.into_inner();
    Hello::check(status.hello.as_ref())?;
    Ok((client, status))
}

fn said(status: &tonic::Status) -> anyhow::Error {
    anyhow!("{}", tortie_kit::status::reason(status))
}

/// Its node's name.
pub(super) async fn name(addr: &ServiceAddr) -> Result<String> {
    Ok(status(addr).await?.1.node)
}

/// Asks it.
pub(super) async fn ask(addr: &ServiceAddr, wanted: &Wanted) -> Result<FelixFacts> {
    let (mut client, status) = status(addr).await?;
    let mut request = Request::new(ShowRoutesRequest { hello: Some(hello()) });
    request.set_timeout(PATIENCE);
    let mut stream = client.show_routes(request).await.map_err(|s| said(&s))?.into_inner();
    let mut rows = Vec::new();
    while let Some(route) = stream.message().await.map_err(|s| said(&s))? {
        let prefix = route.prefix.as_ref().context("a route without a prefix")?;
        let prefix = Prefix::try_from(prefix).context("a route's prefix")?;
        if prefix.contains(wanted.address) {
            rows.push(Row {
                prefix,
                class: route.class,
                route: route.route,
                state: route.state,
                reason: route.reason,
                losers: route.losers,
            });
        }
    }
    Ok(FelixFacts {
        datastore_in_sync: status.datastore_in_sync,
        fib_in_sync: status.fib_in_sync,
        revision: status.datastore_revision,
        rows,
    })
}
