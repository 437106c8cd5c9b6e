//! The best routes, to any number of subscribers: a snapshot, then changes, with an in-sync mark.
//!
//! Each subscriber has a bounded queue. One that falls behind is cut off and subscribes again, which gives it a new
//! snapshot: the engine never waits for it, and memory is bounded by queues, not by time.
//!
//! A snapshot is put into the queue page by page, when the subscriber asks for the next one, and changes go the same way:
//! what a subscriber hears last of a prefix is how it is. The mark waits for the end of the snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tortie_bgp::speaker::FibRoute;
use tortie_net::Prefix;
use tortie_proto::bird::{FibInSync, FibMessage, fib_message::Message};
use tortie_replica::Delta;

use crate::grpc::convert;

/// Messages that wait for one subscriber, [`PER_MESSAGE`] changes in each at most.
const QUEUE: usize = 1024;
/// Changes in one message. Well below gRPC's limit of 4 MiB.
const PER_MESSAGE: usize = 1000;

/// Which subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubscriberId(u64);

/// What a subscriber gets.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// To ask for the snapshot with.
    pub(crate) id: SubscriberId,
    /// Pages of the snapshot as they were asked for, and what changes. Ends when the subscriber fell behind, or the
    /// program does.
    pub(crate) messages: mpsc::Receiver<Arc<FibMessage>>,
}

#[derive(Debug)]
struct Subscriber {
    id: SubscriberId,
    queue: mpsc::Sender<Arc<FibMessage>>,
    /// It has the whole snapshot.
    complete: bool,
}

impl Subscriber {
    /// `false`: it left, or fell behind.
    fn send(&self, message: Arc<FibMessage>) -> bool {
        match self.queue.try_send(message) {
            Ok(()) => true,
            Err(error) => {
                if matches!(error, mpsc::error::TrySendError::Full(_)) {
                    tracing::warn!("a fib subscriber fell behind and must begin anew");
                }
                false
            }
        }
    }
}

/// All subscribers.
#[derive(Debug, Default)]
pub(crate) struct Fanout {
    subscribers: Vec<Subscriber>,
    next: u64,
}

impl Fanout {
    /// One more, who hears of changes from now on.
    pub(crate) fn subscribe(&mut self) -> Subscription {
        let (queue, messages) = mpsc::channel(QUEUE);
        let id = SubscriberId(self.next);
        self.next += 1;
        let complete = false;
        self.subscribers.push(Subscriber { id, queue, complete });
        Subscription { id, messages }
    }

    /// Sends a subscriber a page of the snapshot. `end` is for the last one: whether the snapshot is all there is.
    pub(crate) fn page(&mut self, to: SubscriberId, routes: Vec<(Prefix, FibRoute)>, end: Option<bool>) {
        let Some(at) = self.subscribers.iter().position(|subscriber| subscriber.id == to) else {
            return;
        };
        let mut messages = batches(routes.into_iter().map(|(prefix, route)| (prefix, Some(route))));
        if end == Some(true) {
            messages.push(in_sync());
        }
        let subscriber = &mut self.subscribers[at];
        subscriber.complete |= end.is_some();
        if !messages.into_iter().all(|message| subscriber.send(Arc::new(message))) {
            self.subscribers.swap_remove(at);
        }
    }

    /// Ends all subscriptions: somebody may have missed a change.
    pub(crate) fn cut(&mut self) {
        self.subscribers.clear();
    }

    /// Sends changes to all; forgets those who left or fell behind.
    pub(crate) fn publish(&mut self, deltas: Vec<Delta<Prefix, FibRoute>>) {
        self.subscribers.retain(|subscriber| !subscriber.queue.is_closed());
        if self.subscribers.is_empty() {
            return;
        }
        for message in messages(deltas) {
            let is_mark = matches!(message.message, Some(Message::InSync(_)));
            let message = Arc::new(message);
            let wanted = |subscriber: &Subscriber| subscriber.complete || !is_mark;
            self.subscribers
                .retain(|subscriber| !wanted(subscriber) || subscriber.send(message.clone()));
        }
    }
}

fn in_sync() -> FibMessage {
    FibMessage {
        message: Some(Message::InSync(FibInSync {})),
    }
}

/// Changes as messages. Of several changes of one prefix the last one counts; nothing moves across the in-sync mark.
fn messages(deltas: Vec<Delta<Prefix, FibRoute>>) -> Vec<FibMessage> {
    let mut out = Vec::new();
    let mut pending: BTreeMap<Prefix, Option<FibRoute>> = BTreeMap::new();
    for delta in deltas {
        match delta {
            Delta::Set(prefix, route) => drop(pending.insert(prefix, Some(route))),
            Delta::Delete(prefix) => drop(pending.insert(prefix, None)),
            Delta::InSync => {
                out.extend(batches(std::mem::take(&mut pending)));
                out.push(in_sync());
            }
        }
    }
    out.extend(batches(pending));
    out
}

/// Batches of a bounded number of changes.
fn batches(changes: impl IntoIterator<Item = (Prefix, Option<FibRoute>)>) -> Vec<FibMessage> {
    let changes: Vec<_> = changes.into_iter().collect();
    changes
        .chunks(PER_MESSAGE)
        .map(|chunk| FibMessage {
            message: Some(Message::Batch(convert::batch(chunk))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tortie_bgp::filter::RouteDestination;

    use super::*;

    fn prefix(n: u32) -> Prefix {
        Prefix::host(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into())
    }

    fn route() -> FibRoute {
        FibRoute {
            next_hops: Vec::new(),
            destination: RouteDestination::Blackhole,
            protocol: "p".into(),
            krt: tortie_bgp::filter::Krt::default(),
            local_pref: None,
            stale: false,
        }
    }

    fn summary(messages: &[FibMessage]) -> Vec<(usize, usize)> {
        messages
            .iter()
            .map(|message| match &message.message {
                Some(Message::Batch(batch)) => (batch.set.len(), batch.delete.len()),
                _ => (usize::MAX, usize::MAX),
            })
            .collect()
    }

    #[test]
    fn the_last_change_of_a_prefix_counts_and_the_mark_stays_in_its_place() {
        let deltas = vec![
            Delta::Set(prefix(1), route()),
            Delta::Delete(prefix(1)),
            Delta::Set(prefix(2), route()),
            Delta::InSync,
            Delta::Delete(prefix(2)),
            Delta::Set(prefix(2), route()),
        ];
        assert_eq!(summary(&messages(deltas)), [(1, 1), (usize::MAX, usize::MAX), (1, 0)]);
        let many = (0..2_500).map(|n| Delta::Set(prefix(n), route())).collect();
        assert_eq!(summary(&messages(many)), [(1000, 0), (1000, 0), (500, 0)]);
    }

    #[test]
    fn one_that_falls_behind_is_cut_off_and_the_others_are_not() {
        let mut fanout = Fanout::default();
        let mut slow = fanout.subscribe();
        let mut fast = fanout.subscribe();
        for n in 0..QUEUE + 10 {
            fanout.publish(vec![Delta::Set(prefix(u32::try_from(n).unwrap()), route())]);
            assert!(fast.messages.try_recv().is_ok());
        }
        let mut got = 0;
        while slow.messages.try_recv().is_ok() {
            got += 1;
        }
        assert_eq!(got, QUEUE);
        assert_eq!(slow.messages.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        drop(fast);
        fanout.publish(vec![Delta::Delete(prefix(1))]);
        assert!(fanout.subscribers.is_empty());
    }

    #[test]
    fn changes_and_pages_keep_their_order_and_the_mark_waits_for_the_last_page() {
        let mut fanout = Fanout::default();
        let mut one = fanout.subscribe();
        fanout.page(one.id, vec![(prefix(1), route())], None);
        fanout.publish(vec![Delta::Delete(prefix(1)), Delta::InSync]);
        fanout.page(one.id, vec![(prefix(2), route())], Some(true));
        fanout.publish(vec![Delta::InSync]);
        let mut got = Vec::new();
        while let Ok(message) = one.messages.try_recv() {
            got.push(Arc::unwrap_or_clone(message));
        }
        let mark = (usize::MAX, usize::MAX);
        assert_eq!(summary(&got), [(1, 0), (0, 1), (1, 0), mark, mark]);
        fanout.cut();
        fanout.page(one.id, Vec::new(), Some(true));
        assert_eq!(one.messages.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    }
}
