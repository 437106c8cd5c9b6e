//! The fib client: bird-rs's best routes, as deltas for the dataplane.
//!
//! It reconnects for ever. What was received stays in force while bird-rs is away: the dataplane holds it, and is told when
//! a new stream begins and when it comes to its in-sync mark. Only then does it remove what the stream did not name.
//!
//! A complete table without a single route is what a bird-rs without a configuration has: one that was just started and
//! that confd has not reached. It is believed only when it has lasted [`EMPTY_PATIENCE`]; what bird-rs withdraws or
//! announces meanwhile counts at once.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tortie_kit::address::ServiceAddr;
use tortie_kit::backoff::Backoff;
use tortie_net::Prefix;
use tortie_netlink::route::Kind;
use tortie_proto::bird::bird_client::BirdClient;
use tortie_proto::bird::{FibMessage, FibRequest, FibRoute, NextHop, RouteType, fib_message};
use tortie_proto::common::Hello;
use tortie_replica::Delta;

use crate::dataplane::fib::FibPath;
use crate::dataplane::manager::Input;
use crate::dataplane::view::FibHop;

/// The first delay before bird-rs is tried again.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest: bird-rs coming back should be seen soon.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How long routes are kept that an empty table does not name: as long as a peer keeps those of a router that restarts.
pub const EMPTY_PATIENCE: Duration = Duration::from_secs(120);

/// Next hops of one route at most: a message of the kernel's holds no more than some thousands.
const HOPS_MAX: usize = 256;

/// How the client stands with bird-rs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FibStatus {
    /// No stream, and why. Routes that were received stay.
    Away(String),
    /// A stream whose in-sync mark is still to come.
    Receiving,
    /// bird-rs says that its table is complete, and it is empty: not believed yet.
    Empty,
    /// In sync.
    InSync,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("{} ({})", .0.message(), .0.code())]
    Rpc(#[from] Status),
    #[error("bird-rs ended the stream")]
    Ended,
    #[error(transparent)]
    Incompatible(#[from] tortie_proto::Incompatible),
    #[error("the dataplane is gone")]
    DataplaneGone,
}

/// A route of the stream that makes no sense: it is left out, the others are not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum BadRoute {
    #[error("no prefix, or none that is canonical")]
    Prefix,
    #[error("a next hop of {0} octets")]
    NextHop(usize),
    #[error("next hop {hop} in a route to {prefix}")]
    Family { prefix: Prefix, hop: IpAddr },
    #[error("{0} next hops: want at most {HOPS_MAX}")]
    NextHops(usize),
    #[error("a weight of {0}: want 1 to 256")]
    Weight(u32),
    #[error("unknown type {0}")]
    Type(i32),
}

/// The client, run as one task.
#[derive(Debug)]
pub struct FibClient {
    /// Where bird-rs is.
    pub bird: ServiceAddr,
    /// What felix says of itself.
    pub hello: Hello,
    /// The dataplane.
    pub inputs: mpsc::Sender<Input>,
    /// How it stands.
    pub status: watch::Sender<FibStatus>,
    /// [`EMPTY_PATIENCE`], but in tests.
    pub empty_patience: Duration,
}

/// What is received, and how far.
#[derive(Debug, Default)]
struct Receiving {
    /// Paths are shared by many routes of one stream.
    paths: HashSet<Arc<FibPath>>,
    /// This stream has named a route.
    named: bool,
    /// When this stream's table is believed, which was empty when it was complete.
    believe_at: Option<Instant>,
}

impl Receiving {
    fn begin(&mut self) {
        self.paths.clear();
        (self.named, self.believe_at) = (false, None);
    }
}

impl FibClient {
    /// Runs until the token is cancelled or the dataplane is gone.
    pub async fn run(self, token: CancellationToken) {
        let mut receiving = Receiving::default();
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        let serve = async {
            loop {
                let error = match self.stream(&mut receiving, &mut backoff).await {
                    Err(StreamError::DataplaneGone) => return,
                    Err(error) => error.to_string(),
                    Ok(()) => StreamError::Ended.to_string(),
                };
                let before = self.status.send_replace(FibStatus::Away(error.clone()));
                if !matches!(before, FibStatus::Away(e) if e == error) {
                    tracing::warn!(bird = %self.bird, error, "no routes from bird-rs, keeping what was received");
                }
                tokio::time::sleep(backoff.next()).await;
            }
        };
        token.run_until_cancelled(serve).await;
    }

    async fn stream(&self, receiving: &mut Receiving, backoff: &mut Backoff) -> Result<(), StreamError> {
        let request = FibRequest {
            hello: Some(self.hello.clone()),
        };
        let mut stream = BirdClient::new(self.bird.channel_lazy())
            .fib(request)
            .await?
            .into_inner();
        let first = stream.next().await.ok_or(StreamError::Ended)??;
        let hello = match &first.message {
            Some(fib_message::Message::Hello(hello)) => Some(hello),
            Some(fib_message::Message::Batch(_) | fib_message::Message::InSync(_)) | None => None,
        };
        Hello::check(hello)?;
        tracing::info!(bird = %self.bird, "receiving routes from bird-rs");
        self.status.send_replace(FibStatus::Receiving);
        backoff.reset();
        receiving.begin();
        self.give(Input::FibBegins).await?;
        loop {
            let believe_at = receiving.believe_at;
            let deltas = tokio::select! {
                message = stream.next() => match message {
                    Some(message) => self.deltas(message?, receiving),
                    None => break,
                },
                () = tokio::time::sleep_until(believe_at.unwrap_or_else(Instant::now)), if believe_at.is_some() => {
                    self.in_sync(receiving)
                }
            };
            if !deltas.is_empty() {
                self.give(Input::Fib(deltas)).await?;
            }
        }
        Ok(())
    }

    async fn give(&self, input: Input) -> Result<(), StreamError> {
        let given = self.inputs.send(input).await;
        given.map_err(|_| StreamError::DataplaneGone)
    }

    fn in_sync(&self, receiving: &mut Receiving) -> Vec<Delta<Prefix, Arc<FibPath>>> {
        receiving.believe_at = None;
        tracing::info!("in sync with bird-rs");
        self.status.send_replace(FibStatus::InSync);
        vec![Delta::InSync]
    }

    fn deltas(&self, message: FibMessage, receiving: &mut Receiving) -> Vec<Delta<Prefix, Arc<FibPath>>> {
        let batch = match message.message {
            Some(fib_message::Message::Batch(batch)) => batch,
            Some(fib_message::Message::InSync(_)) if !receiving.named => {
                tracing::warn!(
                    seconds = self.empty_patience.as_secs(),
                    "bird-rs has no route at all: is it configured? Keeping what was there for a while"
                );
                self.status.send_replace(FibStatus::Empty);
                receiving.believe_at = Some(Instant::now() + self.empty_patience);
                return Vec::new();
            }
            Some(fib_message::Message::InSync(_)) => return self.in_sync(receiving),
            Some(fib_message::Message::Hello(_)) | None => return Vec::new(),
        };
        let Receiving { paths, named, .. } = receiving;
        *named |= !batch.set.is_empty();
        let mut deltas = Vec::with_capacity(batch.set.len() + batch.delete.len());
        for prefix in &batch.delete {
            match Prefix::try_from(prefix) {
                Ok(prefix) => deltas.push(Delta::Delete(prefix)),
                Err(error) => tracing::warn!(%error, "bird-rs withdraws something that is no prefix"),
            }
        }
        for mut route in batch.set {
            match read(&mut route) {
                Ok((prefix, path)) => {
                    let known = paths.get(&path).cloned();
                    let path = known.unwrap_or_else(|| {
                        let new = Arc::new(path);
                        paths.insert(Arc::clone(&new));
                        new
                    });
                    deltas.push(Delta::Set(prefix, path));
                }
                Err(error) => {
                    tracing::warn!(%error, protocol = route.protocol, "bird-rs gives a route that makes no sense");
                }
            }
        }
        deltas
    }
}

/// Takes the protocol's name out of a route that makes sense.
fn read(route: &mut FibRoute) -> Result<(Prefix, FibPath), BadRoute> {
    let prefix = route
        .prefix
        .as_ref()
        .and_then(|p| Prefix::try_from(p).ok())
        .ok_or(BadRoute::Prefix)?;
    let kind = match RouteType::try_from(route.r#type) {
        Ok(RouteType::Unicast) => Kind::Unicast,
        Ok(RouteType::Blackhole) => Kind::Blackhole,
        Ok(RouteType::Unreachable) => Kind::Unreachable,
        Ok(RouteType::Prohibit) => Kind::Prohibit,
        Err(_) => return Err(BadRoute::Type(route.r#type)),
    };
    if route.next_hops.len() > HOPS_MAX {
        return Err(BadRoute::NextHops(route.next_hops.len()));
    }
    let mut hops = route
        .next_hops
        .iter()
        .map(|h| hop(prefix, h))
        .collect::<Result<Vec<_>, _>>()?;
    hops.sort();
    Ok((
        prefix,
        FibPath {
            kind,
            hops,
            protocol: std::mem::take(&mut route.protocol),
            stale: route.stale,
        },
    ))
}

fn hop(prefix: Prefix, hop: &NextHop) -> Result<FibHop, BadRoute> {
    let address = if hop.address.is_empty() {
        None
    } else {
        Some(tortie_proto::ip(&hop.address).ok_or(BadRoute::NextHop(hop.address.len()))?)
    };
    if let Some(hop) = address.filter(|a| a.is_ipv4() && !prefix.is_v4()) {
        // IPv4 by an IPv6 router exists (RFC 8950); the other way round does not.
        return Err(BadRoute::Family { prefix, hop });
    }
    let weight = u16::try_from(hop.weight.max(1))
        .ok()
        .filter(|w| *w <= 256)
        .ok_or(BadRoute::Weight(hop.weight))?;
    let interface = (!hop.interface.is_empty()).then(|| hop.interface.clone());
    Ok(FibHop {
        address,
        interface,
        weight,
        onlink: hop.onlink,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_proto::bird::{FibBatch, FibInSync};

    fn route(prefix: &str, hop: &[u8], weight: u32) -> FibRoute {
        let prefix: Prefix = prefix.parse().unwrap();
        let next_hops = vec![NextHop {
            address: hop.to_vec(),
            interface: String::new(),
            weight,
            onlink: false,
        }];
        FibRoute {
            prefix: Some(prefix.into()),
            next_hops,
            ..FibRoute::default()
        }
    }

    fn client() -> (FibClient, watch::Receiver<FibStatus>) {
        let (status, seen) = watch::channel(FibStatus::Receiving);
        let client = FibClient {
            bird: "unix:/nowhere".parse().unwrap(),
            hello: Hello::new("felix", "n1", "test"),
            inputs: mpsc::channel(1).0,
            status,
            empty_patience: EMPTY_PATIENCE,
        };
        (client, seen)
    }

    fn says(message: fib_message::Message) -> FibMessage {
        FibMessage { message: Some(message) }
    }

    fn batch(routes: &[&str]) -> FibMessage {
        let set = routes.iter().map(|r| route(r, &[172, 30, 0, 12], 1)).collect();
        says(fib_message::Message::Batch(FibBatch { set, delete: vec![] }))
    }

    #[tokio::test]
    async fn an_empty_table_is_not_believed_at_once() {
        let in_sync = || says(fib_message::Message::InSync(FibInSync {}));
        let (client, status) = client();
        let mut receiving = Receiving::default();
        receiving.begin();
        client.deltas(batch(&["10.244.1.0/26", "10.244.2.0/26"]), &mut receiving);
        assert_eq!(client.deltas(in_sync(), &mut receiving), [Delta::InSync]);
        // It comes back without a configuration.
        receiving.begin();
        assert_eq!(client.deltas(in_sync(), &mut receiving), []);
        assert_eq!(*status.borrow(), FibStatus::Empty);
        let believe_at = receiving.believe_at.unwrap();
        assert!(believe_at > Instant::now() + EMPTY_PATIENCE / 2);
        // The configuration arrives; what it brings is used.
        let deltas = client.deltas(batch(&["10.244.2.0/26", "10.244.3.0/26"]), &mut receiving);
        assert_eq!(deltas.len(), 2);
        assert_eq!(client.in_sync(&mut receiving), [Delta::InSync]);
        assert_eq!(*status.borrow(), FibStatus::InSync);
    }

    #[test]
    fn routes_are_read_or_refused_by_name() {
        let (prefix, path) = read(&mut route("10.244.1.0/26", &[172, 30, 0, 12], 0)).unwrap();
        assert_eq!(prefix.to_string(), "10.244.1.0/26");
        assert_eq!(path.hops[0].address, Some("172.30.0.12".parse().unwrap()));
        assert_eq!(path.hops[0].weight, 1);
        assert_eq!(read(&mut route("10.0.0.0/8", &[1, 2, 3], 1)), Err(BadRoute::NextHop(3)));
        assert_eq!(
            read(&mut route("10.0.0.0/8", &[1, 2, 3, 4], 257)),
            Err(BadRoute::Weight(257))
        );
        let family = read(&mut route("fd00::/64", &[1, 2, 3, 4], 1)).unwrap_err();
        assert_eq!(family.to_string(), "next hop 1.2.3.4 in a route to fd00::/64");
        assert_eq!(read(&mut FibRoute::default()), Err(BadRoute::Prefix));
        assert_eq!(
            read(&mut FibRoute {
                r#type: 9,
                ..route("10.0.0.0/8", &[1, 2, 3, 4], 1)
            }),
            Err(BadRoute::Type(9))
        );
        assert!(read(&mut route("10.0.0.0/8", &[0xfe; 16], 1)).is_ok(), "RFC 8950");
        let mut wide = route("10.0.0.0/8", &[1, 2, 3, 4], 1);
        wide.next_hops = vec![wide.next_hops[0].clone(); 257];
        assert_eq!(read(&mut wide), Err(BadRoute::NextHops(257)));
    }
}
