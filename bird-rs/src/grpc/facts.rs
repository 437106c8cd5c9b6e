//! The `BirdFacts` service: interfaces, symbols, memory, the values of expressions, static routes and ROAs.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tortie_bgp::config::NoValue;
use tortie_bgp::roa::Roa;
use tortie_bgp::speaker::Speaker;
use tortie_netlink::link::Link;
use tortie_netlink::request::Connection;
use tortie_proto::bird::bird_facts_server::{BirdFacts, BirdFactsServer};
use tortie_proto::bird::{
    EvaluateRequest, EvaluateResponse, Interface, InterfaceAddress, ListInterfacesRequest, ListInterfacesResponse,
    ListRoasRequest, ListStaticRoutesRequest, ListSymbolsRequest, ListSymbolsResponse, MemoryRequest, MemoryResponse,
    StaticRoute, Symbol, TableRoa,
};
use tortie_proto::common::Hello;

use super::{LISTINGS, PATIENCE, QUEUE, Streamed, check, statics};
use crate::configure::Configurator;
use crate::control::status::resident_kb;
use crate::engine::{Clock, Engine, Stopped};

/// The longest expression, as on the control socket.
const EXPRESSION: usize = 4096;
/// ROAs asked for at a time.
const PAGE: usize = 512;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    engine: Engine,
    clock: Clock,
    configurator: Arc<Configurator>,
    hello: Hello,
    /// Room for listings.
    listings: Arc<Semaphore>,
}

impl Facts {
    pub(crate) fn new(engine: Engine, clock: Clock, configurator: Arc<Configurator>) -> Self {
        let hello = Hello::new("bird-rs", "", &tortie_kit::instance());
        Facts {
            engine,
            clock,
            configurator,
            hello,
            listings: Arc::new(Semaphore::new(LISTINGS)),
        }
    }

    pub(crate) fn into_server(self) -> BirdFactsServer<Self> {
        BirdFactsServer::new(self)
    }
}

#[tonic::async_trait]
impl BirdFacts for Facts {
    async fn list_interfaces(
        &self,
        request: Request<ListInterfacesRequest>,
    ) -> Result<Response<ListInterfacesResponse>, Status> {
        check(request.into_inner().hello.as_ref())?;
        let listed = tokio::task::spawn_blocking(|| Connection::open()?.links()).await;
        let unreadable = |error: String| Status::unavailable(format!("the host's interfaces cannot be read: {error}"));
        let links = listed
            .map_err(|error| unreadable(error.to_string()))?
            .map_err(|error| unreadable(error.to_string()))?;
        Ok(Response::new(ListInterfacesResponse {
            hello: Some(self.hello.clone()),
            interfaces: links.iter().map(interface).collect(),
        }))
    }

    async fn list_symbols(
        &self,
        request: Request<ListSymbolsRequest>,
    ) -> Result<Response<ListSymbolsResponse>, Status> {
        check(request.into_inner().hello.as_ref())?;
        let names = self.configurator.config().await.names.list();
        let symbols = names.into_iter().map(|(name, kind)| Symbol {
            name: name.to_string(),
            kind: kind.to_owned(),
        });
        Ok(Response::new(ListSymbolsResponse {
            hello: Some(self.hello.clone()),
            symbols: symbols.collect(),
        }))
    }

    async fn memory(&self, request: Request<MemoryRequest>) -> Result<Response<MemoryResponse>, Status> {
        check(request.into_inner().hello.as_ref())?;
        let status = self.engine.query(Speaker::status).await?;
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Ok(Response::new(MemoryResponse {
            hello: Some(self.hello.clone()),
            prefixes: count(status.prefixes),
            paths: count(status.paths),
            attribute_sets: count(status.attribute_sets),
            resident_bytes: resident_kb() * 1024,
        }))
    }

    async fn evaluate(&self, request: Request<EvaluateRequest>) -> Result<Response<EvaluateResponse>, Status> {
        let request = request.into_inner();
        check(request.hello.as_ref())?;
        if request.expression.len() > EXPRESSION {
            return Err(Status::invalid_argument(format!(
                "expression: at most {EXPRESSION} octets"
            )));
        }
        let roas = self.engine.query(Speaker::roa_tables).await?;
        let names = self.configurator.config().await.names.clone();
        let value = names.eval(&request.expression, &roas).map_err(|none| match none {
            NoValue::Unreadable(wrong) => Status::invalid_argument(format!("expression: {wrong}")),
            NoValue::Failed(reason) => Status::failed_precondition(format!("expression: {reason}")),
        })?;
        Ok(Response::new(EvaluateResponse {
            hello: Some(self.hello.clone()),
            value,
        }))
    }

    type ListStaticRoutesStream = Streamed<StaticRoute>;

    async fn list_static_routes(
        &self,
        request: Request<ListStaticRoutesRequest>,
    ) -> Result<Response<Self::ListStaticRoutesStream>, Status> {
        let request = request.into_inner();
        check(request.hello.as_ref())?;
        let mut views = self.engine.query(Speaker::statics).await?;
        let wanted = request.protocol;
        if !wanted.is_empty() {
            views.retain(|view| *view.protocol == *wanted);
            if views.is_empty() {
                return Err(Status::not_found(format!("there is no static protocol '{wanted}'")));
            }
        }
        let routes = views.into_iter().flat_map(statics::routes).map(Ok);
        Ok(Response::new(Box::pin(tokio_stream::iter(routes))))
    }

    type ListRoasStream = Streamed<TableRoa>;

    async fn list_roas(&self, request: Request<ListRoasRequest>) -> Result<Response<Self::ListRoasStream>, Status> {
        let request = request.into_inner();
        check(request.hello.as_ref())?;
        let config = self.configurator.config().await;
        let known = config.roa_tables.iter().map(|table| table.name.clone());
        let wanted = request.table;
        let tables: Vec<Arc<str>> = known.filter(|name| wanted.is_empty() || **name == *wanted).collect();
        if tables.is_empty() && !wanted.is_empty() {
            return Err(Status::not_found(format!("there is no table of ROAs '{wanted}'")));
        }
        let listing = self.listings.clone().acquire_owned().await.map_err(|_| Stopped)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let this = self.clone();
        tokio::spawn(async move {
            let _told_or_gone = this.tell_roas(tables, &sender).await;
            drop(listing);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// A listing has ended before its end: its client is gone, or the engine is.
struct Ended;

impl Facts {
    /// The next page is asked for when the client has taken the last.
    async fn tell_roas(
        &self,
        tables: Vec<Arc<str>>,
        client: &mpsc::Sender<Result<TableRoa, Status>>,
    ) -> Result<(), Ended> {
        for table in tables {
            let mut last: Option<Roa> = None;
            loop {
                let name = table.clone();
                let looked = self
                    .engine
                    .query(move |speaker| speaker.roa_page(&name, last, PAGE))
                    .await;
                let page = match looked {
                    Ok(page) => page,
                    Err(stopped) => {
                        // The last word to a client that may have gone.
                        let _ = client.send(Err(stopped.into())).await;
                        return Err(Ended);
                    }
                };
                last = page.last().map(|listed| listed.roa);
                let is_last = page.len() < PAGE;
                for listed in &page {
                    let roa = statics::roa(&table, listed, self.clock);
                    client.send_timeout(Ok(roa), PATIENCE).await.map_err(|_| Ended)?;
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn interface(link: &Link) -> Interface {
    let address = |(address, subnet): &(std::net::IpAddr, tortie_net::Prefix)| InterfaceAddress {
        address: address.to_string(),
        subnet: Some((*subnet).into()),
        secondary: link.secondary.contains(address),
    };
    Interface {
        name: link.name.clone(),
        index: link.index,
        master: link.master.unwrap_or(0),
        mtu: link.mtu,
        up: link.up,
        carrier: link.carrier,
        loopback: link.loopback,
        point_to_point: link.point_to_point,
        broadcast: link.broadcast,
        multicast: link.multicast,
        addresses: link.addresses.iter().map(address).collect(),
    }
}
