//! Calls that come together commit together.
//!
//! What a datastore does slowly is to commit, however much. So what concurrent calls want written is collected, and written
//! at once. A group is closed when nobody is left who might join it, that is when every call of this node waits in some
//! group; and, as calls may take long elsewhere, when for a while nobody has joined, or when it has been open for long. A
//! call that is alone never waits.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

/// How long a group waits for the next to join. A processor that is busy starting workloads brings one every few
/// milliseconds.
const QUIET: Duration = Duration::from_millis(50);
/// How long a group is open: what a call may have to wait for others at each of its groups.
const OPEN: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    calls: usize,
    waiting: usize,
}

impl Counts {
    fn of(&mut self, place: Place) -> &mut usize {
        match place {
            Place::Call => &mut self.calls,
            Place::Group => &mut self.waiting,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Call,
    Group,
}

/// The calls that are being served, and how many of them wait in a group. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Crowd {
    counts: watch::Sender<Counts>,
}

impl Crowd {
    /// A call begins; it has ended when this is dropped.
    pub(crate) fn enter(&self) -> Present {
        self.takes(Place::Call)
    }

    /// What a call wants done in a group; it waits until the group is closed.
    pub(crate) fn waiting<J>(&self, job: J) -> Waiting<J> {
        Waiting {
            job,
            _present: self.takes(Place::Group),
        }
    }

    fn takes(&self, place: Place) -> Present {
        self.counts.send_modify(|c| *c.of(place) += 1);
        Present {
            crowd: self.clone(),
            place,
        }
    }

    /// Waits until every call waits in some group.
    fn nobody_on_the_way(&self) -> impl Future<Output = ()> + use<> {
        let mut counts = self.counts.subscribe();
        async move {
            // It cannot be closed: whoever asks has a sender.
            let _ = counts.wait_for(|c| c.waiting >= c.calls).await;
        }
    }
}

/// That a call is there, or waits.
#[derive(Debug)]
pub(crate) struct Present {
    crowd: Crowd,
    place: Place,
}

impl Drop for Present {
    fn drop(&mut self) {
        let place = self.place;
        self.crowd.counts.send_modify(|c| {
            let count = c.of(place);
            *count = count.saturating_sub(1);
        });
    }
}

/// A call's part in a group.
#[derive(Debug)]
pub(crate) struct Waiting<J> {
    job: J,
    _present: Present,
}

/// The next group of at most `max`, or `None` when nobody can send any more.
pub(crate) async fn gather<J>(queue: &mut mpsc::Receiver<Waiting<J>>, crowd: &Crowd, max: usize) -> Option<Vec<J>> {
    let mut group = vec![queue.recv().await?];
    let open = tokio::time::sleep(OPEN);
    tokio::pin!(open);
    while group.len() < max {
        tokio::select! {
            biased;
            next = queue.recv() => match next {
                Some(next) => group.push(next),
                None => break,
            },
            () = crowd.nobody_on_the_way() => break,
            () = tokio::time::sleep(QUIET) => break,
            () = &mut open => break,
        }
    }
    // From here on they are on their way again: to whatever they do next.
    Some(group.into_iter().map(|w| w.job).collect())
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    /// What a group is that need not wait for anything; `None`: it waits.
    async fn at_once(queue: &mut mpsc::Receiver<Waiting<u32>>, crowd: &Crowd, max: usize) -> Option<Vec<u32>> {
        let gathered = gather(queue, crowd, max);
        tokio::pin!(gathered);
        match futures::poll!(gathered) {
            Poll::Ready(group) => group,
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn a_group_closes_when_nobody_is_on_the_way_or_nobody_comes() {
        let (jobs, mut queue) = mpsc::channel(16);
        let crowd = Crowd::default();
        let join = |n: u32| jobs.try_send(crowd.waiting(n)).unwrap();
        let call = crowd.enter();
        join(1);
        assert_eq!(at_once(&mut queue, &crowd, 8).await, Some(vec![1]), "it is alone");

        let other = crowd.enter();
        join(2);
        join(3);
        assert_eq!(at_once(&mut queue, &crowd, 8).await, Some(vec![2, 3]), "all are here");
        join(4);
        assert_eq!(
            gather(&mut queue, &crowd, 8).await,
            Some(vec![4]),
            "the other does not come"
        );
        join(5);
        {
            let gathered = gather(&mut queue, &crowd, 8);
            tokio::pin!(gathered);
            assert!(futures::poll!(gathered.as_mut()).is_pending(), "the other may come");
            drop(other);
            assert_eq!(futures::poll!(gathered), Poll::Ready(Some(vec![5])), "it has ended");
        }
        drop(call);
        for n in 0..3 {
            join(n);
        }
        assert_eq!(
            at_once(&mut queue, &crowd, 2).await,
            Some(vec![0, 1]),
            "as many as asked for"
        );
        assert_eq!(at_once(&mut queue, &crowd, 2).await, Some(vec![2]));
        drop(jobs);
        assert_eq!(gather(&mut queue, &crowd, 2).await, None);
    }

    #[tokio::test]
    async fn a_group_is_not_kept_open_by_a_stream_of_calls() {
        const CALLS: u32 = 60;
        let (jobs, mut queue) = mpsc::channel(64);
        let crowd = Crowd::default();
        let _never_joins = crowd.enter();
        let sender = tokio::spawn({
            let crowd = crowd.clone();
            async move {
                for n in 0..CALLS {
                    jobs.try_send(crowd.waiting(n)).unwrap();
                    tokio::time::sleep(QUIET / 5).await;
                }
            }
        });
        let group = gather(&mut queue, &crowd, 64).await.unwrap();
        assert!((1..60).contains(&group.len()), "{group:?}");
        sender.abort();
    }
}
