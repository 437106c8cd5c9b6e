//! The `BirdFacts` service: interfaces, symbols, memory and the values of expressions.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use tortie_bgp::config::NoValue;
use tortie_bgp::speaker::Speaker;
use tortie_netlink::link::Link;
use tortie_netlink::request::Connection;
use tortie_proto::bird::bird_facts_server::{BirdFacts, BirdFactsServer};
use tortie_proto::bird::{
    EvaluateRequest, EvaluateResponse, Interface, InterfaceAddress, ListInterfacesRequest, ListInterfacesResponse,
    ListSymbolsRequest, ListSymbolsResponse, MemoryRequest, MemoryResponse, Symbol,
};
use tortie_proto::common::Hello;

use super::check;
use crate::configure::Configurator;
use crate::control::status::resident_kb;
use crate::engine::Engine;

/// The longest expression, as on the control socket.
const EXPRESSION: usize = 4096;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    engine: Engine,
    configurator: Arc<Configurator>,
    hello: Hello,
}

impl Facts {
    pub(crate) fn new(engine: Engine, configurator: Arc<Configurator>) -> Self {
        let hello = Hello::new("bird-rs", "", &tortie_kit::instance());
        Facts {
            engine,
            configurator,
            hello,
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
        let names = self.configurator.config().await.names.clone();
        let value = names.eval(&request.expression).map_err(|none| match none {
            NoValue::Unreadable(wrong) => Status::invalid_argument(format!("expression: {wrong}")),
            NoValue::Failed(reason) => Status::failed_precondition(format!("expression: {reason}")),
        })?;
        Ok(Response::new(EvaluateResponse {
            hello: Some(self.hello.clone()),
            value,
        }))
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
