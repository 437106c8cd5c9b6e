//! Which typha the calls of the store go to: the configured ones, and when one is gone the others that it named.
//!
//! A call that never reached a typha is made anew at the next one, and so is a read. What became of a write whose connection
//! broke nobody knows: the caller is told, and the next call goes to the next typha.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tonic::transport::Channel;
use tonic::{ConnectError, Status};
use tortie_kit::address::Target;
use tortie_proto::store::store_client::StoreClient;

use crate::route::Route;

/// The largest answer accepted: a list of every key of a large cluster.
const MAX_ANSWER: usize = 512 << 20;

/// A connection to a typha, made when it is used.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) typha: Target,
    pub(crate) client: StoreClient<Channel>,
    /// Tells it from those before it.
    turn: u64,
}

impl Link {
    fn new(typha: Target, turn: u64) -> Self {
        let client = StoreClient::new(typha.channel_lazy()).max_decoding_message_size(MAX_ANSWER);
        Link { typha, client, turn }
    }
}

#[derive(Debug)]
pub(crate) struct Links(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    route: Route,
    link: Link,
    /// Those that were named last, sorted.
    peers: Vec<String>,
}

impl Links {
    /// Must be called inside a tokio runtime.
    pub(crate) fn new(home: Target) -> Self {
        let route = Route::new(home);
        Links(Mutex::new(Inner {
            link: Link::new(route.target().clone(), 0),
            route,
            peers: Vec::new(),
        }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // It is whole at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn current(&self) -> Link {
        self.inner().link.clone()
    }

    /// How many typhas are known.
    pub(crate) fn count(&self) -> usize {
        self.inner().route.len()
    }

    /// This did not work: the next in turn, unless another call has moved on already.
    pub(crate) fn failed(&self, link: &Link) {
        let mut inner = self.inner();
        if inner.link.turn != link.turn {
            return;
        }
        inner.route.failed();
        let next = inner.route.target().clone();
        // Alone it connects anew by itself.
        if next != link.typha {
            tracing::info!(from = %link.typha, to = %next, "the store is asked of another typha");
            inner.link = Link::new(next, link.turn + 1);
        }
    }

    /// The typha that answered names others that serve the same.
    pub(crate) fn learn(&self, link: &Link, peers: &[String]) {
        let mut sorted = peers.to_vec();
        sorted.sort_unstable();
        let mut inner = self.inner();
        if inner.link.turn == link.turn && inner.peers != sorted {
            inner.route.learn(peers);
            inner.peers = sorted;
        }
    }
}

/// What a failed call says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It reached no typha.
    NotSent,
    /// The connection broke, or no answer came in time.
    Unknown,
    /// typha answered, with no.
    Answered,
}

impl Failure {
    pub(crate) fn of(status: &Status) -> Self {
        // What typha says has no cause on this side.
        let mut cause = std::error::Error::source(status);
        if cause.is_none() {
            return Failure::Answered;
        }
        while let Some(e) = cause {
            if e.is::<ConnectError>() {
                return Failure::NotSent;
            }
            cause = e.source();
        }
        Failure::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tortie_kit::address::ServiceAddr;

    fn target(addr: &str) -> Target {
        addr.parse::<ServiceAddr>().unwrap().into()
    }

    #[tokio::test]
    async fn whoever_fails_first_moves_all_on_and_nobody_twice() {
        let links = Links::new(target("unix:/nonexistent/a"));
        let first = links.current();
        links.failed(&first);
        assert_eq!(links.current().turn, 0, "there is no other");
        links.learn(&first, &["unix:/nonexistent/c".into(), "unix:/nonexistent/b".into()]);
        assert_eq!(links.count(), 3);
        links.failed(&first);
        links.failed(&first);
        let second = links.current();
        assert_eq!(
            second.typha.to_string(),
            "unix:/nonexistent/c",
            "once for two calls that failed"
        );
        links.learn(&first, &[]);
        links.learn(&second, &["unix:/nonexistent/b".into(), "unix:/nonexistent/c".into()]);
        assert_eq!(
            links.count(),
            3,
            "the same in another order, and what an old one says, change nothing"
        );
        links.failed(&second);
        assert_eq!(links.current().typha.to_string(), "unix:/nonexistent/b");
        links.failed(&links.current());
        assert_eq!(
            links.current().typha.to_string(),
            "unix:/nonexistent/a",
            "home is among them"
        );
    }

    #[tokio::test]
    async fn what_reached_nobody_is_known() {
        let mut link = Links::new(target("unix:/nonexistent/a")).current();
        let status = link
            .client
            .status(tortie_proto::store::StatusRequest::default())
            .await
            .unwrap_err();
        assert_eq!(Failure::of(&status), Failure::NotSent, "{status:?}");
        assert_eq!(Failure::of(&Status::unavailable("the datastore")), Failure::Answered);
    }
}
