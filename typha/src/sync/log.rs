//! The cluster state and its recent changes, as they are sent.
//!
//! A change is encoded, and compressed for those who want it so, once for each distinct set of prefixes among the clients
//! (a *group*: all felix, all confd), a snapshot likewise; clients share the octets. A snapshot serves as long as the log reaches back to it. Memory: the map,
//! the log (bounded by count and octets), and per group its encoded log and at most one snapshot.
//!
//! Pure: no clock, no IO.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tortie_proto::state::Document;
use tortie_proto::sync::server_message::Message as ServerMsg;
use tortie_proto::sync::{Batch, Change, SnapshotBegin};
use tortie_replica::{Breadcrumbs, Position, Resume};

use super::frame::Framed;
use crate::datastore::{Entry, Event, Listing, Revision};

/// Octets of documents in one message: small enough that a slow link shows progress, large enough to be efficient.
const FRAME: usize = 256 << 10;
/// How many messages a reader is given at once.
const STEP: usize = 64;

/// How much the log may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) changes: usize,
    pub(crate) octets: usize,
}

impl Default for Limits {
    /// Some minutes of a busy cluster; a client that was away longer takes a snapshot.
    fn default() -> Self {
        Limits {
            changes: 10_000,
            octets: 64 << 20,
        }
    }
}

/// For how many pushes a group is kept while nobody asks: clients that come and go should not cost an encoding each.
const UNASKED: u32 = 64;

/// Which keys a client wants, those that start with one of these, every key when empty; and whether compressed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Filter {
    prefixes: Arc<[String]>,
    zstd: bool,
}

impl Filter {
    /// The same set in another order, or with redundant members, is the same filter.
    pub(crate) fn new(mut prefixes: Vec<String>) -> Self {
        prefixes.sort();
        let mut minimal: Vec<String> = Vec::new();
        for prefix in prefixes {
            if !minimal
                .last()
                .is_some_and(|shorter| prefix.starts_with(shorter.as_str()))
            {
                minimal.push(prefix);
            }
        }
        Filter {
            prefixes: minimal.into(),
            zstd: false,
        }
    }

    /// The same, as messages compressed with zstd or as they are.
    pub(crate) fn with_zstd(self, zstd: bool) -> Self {
        Filter { zstd, ..self }
    }

    /// A message as clients with this filter are sent it.
    fn frame(&self, message: ServerMsg) -> Framed {
        if self.zstd {
            Framed::compressed(message)
        } else {
            Framed::plain(message)
        }
    }

    /// Is it the very one of this group? Clients share their group's ([`Log::shared`]).
    pub(crate) fn is(&self, group: &GroupId) -> bool {
        self.zstd == group.zstd && std::ptr::addr_eq(Arc::as_ptr(&self.prefixes), group.prefixes.as_ptr())
    }

    fn matches(&self, key: &str) -> bool {
        self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()))
    }
}

/// Names a group without keeping it.
#[derive(Debug, Clone)]
pub(crate) struct GroupId {
    prefixes: Weak<[String]>,
    zstd: bool,
}

/// What a reader needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Everything, as of a revision: the messages from `snapshot_begin` to the last batch.
    Snapshot(Arc<Snapshot>),
    /// The changes up to `revision`; the last of the messages says `said`. `more` when it may ask again at once.
    Changes {
        frames: Vec<Framed>,
        said: Option<Revision>,
        revision: Revision,
        more: bool,
    },
}

/// The encoded state at a revision.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) revision: Revision,
    pub(crate) frames: Vec<Framed>,
    /// Of the documents in it.
    octets: usize,
}

/// What was encoded since that was asked last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub(crate) snapshots: u64,
    pub(crate) batches: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    value: Bytes,
    revision: Revision,
}

/// Changes that travel together.
#[derive(Debug)]
struct Crumb {
    revision: Revision,
    events: Vec<Event>,
    octets: usize,
}

/// Clients with the same filter.
#[derive(Debug)]
struct Group {
    filter: Filter,
    snapshot: Option<Arc<Snapshot>>,
    /// By revision of the crumb; `None`: nothing in it concerns this group.
    frames: BTreeMap<Revision, Option<Framed>>,
    /// Pushes since somebody asked.
    unasked: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Log {
    crumbs: Breadcrumbs<String, Held, Crumb>,
    octets: usize,
    limits: Limits,
    groups: Vec<Group>,
    /// The newest change that is known.
    newest: Option<Event>,
    encoded: Encoded,
    forgotten: u64,
}

impl Log {
    /// The state of a listing; `history` are the changes that led to it, after revision `oldest`.
    ///
    /// Applying changes that the listing contains already gives the listing again once the last one is applied, so the
    /// log can be filled backwards and clients of an earlier typha can resume.
    pub(crate) fn new(listing: Listing, oldest: Revision, history: Vec<Event>, limits: Limits) -> Self {
        let newest = listing.entries.iter().max_by_key(|e| e.revision).map(|e| Event {
            key: e.key.clone(),
            revision: e.revision,
            value: Some(e.value.clone()),
        });
        let held = |value, revision| Held { value, revision };
        let current = listing
            .entries
            .into_iter()
            .map(|e| (e.key, held(e.value, e.revision)))
            .collect();
        let crumbs = Breadcrumbs::new(current, oldest, limits.changes);
        let mut log = Log {
            crumbs,
            octets: 0,
            limits,
            groups: Vec::new(),
            newest,
            encoded: Encoded::default(),
            forgotten: 0,
        };
        log.push(history);
        log
    }

    /// How much it may hold.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// The revision of the state.
    pub(crate) fn revision(&self) -> Revision {
        self.crumbs.revision()
    }

    /// The newest change that is known: one that any datastore with the same past has too.
    pub(crate) fn newest(&self) -> Option<&Event> {
        self.newest.as_ref()
    }

    /// The documents whose keys start with `prefix`, sorted by key.
    pub(crate) fn entries(&self, prefix: &str) -> Vec<Entry> {
        let from = self.crumbs.current().range(prefix.to_owned()..);
        let under = from.take_while(|(key, _)| key.starts_with(prefix));
        let entry = |(key, held): (&String, &Held)| Entry {
            key: key.clone(),
            value: held.value.clone(),
            revision: held.revision,
            create_revision: 0,
        };
        under.map(entry).collect()
    }

    /// What was encoded since this was asked last.
    pub(crate) fn take_encoded(&mut self) -> Encoded {
        std::mem::take(&mut self.encoded)
    }

    /// Octets of the documents in the changes that are held.
    pub(crate) fn octets(&self) -> usize {
        self.octets
    }

    /// Batches of changes that were forgotten, because a limit was reached, since this was asked last.
    pub(crate) fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    /// How many keys the state has.
    pub(crate) fn len(&self) -> usize {
        self.crumbs.current().len()
    }

    /// Changes after the current revision, in order.
    pub(crate) fn push(&mut self, events: Vec<Event>) {
        if let Some(last) = events.last().filter(|last| last.revision > self.crumbs.revision()) {
            self.newest = Some(last.clone());
        }
        let mut crumb: Vec<Event> = Vec::new();
        let mut octets = 0;
        for event in events {
            let size = size(&event.key, event.value.as_ref());
            // What was done at once is seen at once, and a crumb ends where its revision does.
            let whole = crumb.last().is_some_and(|last| last.revision < event.revision);
            if whole && octets + size > FRAME {
                self.push_crumb(std::mem::take(&mut crumb), std::mem::take(&mut octets));
            }
            octets += size;
            crumb.push(event);
        }
        self.push_crumb(crumb, octets);
        self.forget();
    }

    /// Nothing that is seen here changed up to this revision.
    pub(crate) fn advance(&mut self, revision: Revision) {
        self.crumbs.advance(revision);
    }

    /// The state as it is kept in a file.
    pub(crate) fn documents(&self) -> Vec<Document> {
        let document = |(key, held): (&String, &Held)| Document {
            key: key.clone(),
            revision: held.revision,
            value: held.value.clone(),
        };
        self.crumbs.current().iter().map(document).collect()
    }

    fn push_crumb(&mut self, events: Vec<Event>, octets: usize) {
        let Some(revision) = events.last().map(|e| e.revision) else {
            return;
        };
        let held = |e: &Event| {
            let revision = e.revision;
            (e.key.clone(), e.value.clone().map(|value| Held { value, revision }))
        };
        let changes: Vec<_> = events.iter().map(held).collect();
        // Room for one is made here, so that no change is dropped by the log itself and its size stays known.
        if self.crumbs.log_len() >= self.limits.changes {
            self.forget_oldest();
        }
        if self.crumbs.push(
            revision,
            changes,
            Arc::new(Crumb {
                revision,
                events,
                octets,
            }),
        ) {
            self.octets += octets;
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, crumb)) = self.crumbs.forget_oldest() else {
            return false;
        };
        self.octets -= crumb.octets;
        self.forgotten += 1;
        true
    }

    /// Keeps within the limits, and drops what no client can use any more.
    fn forget(&mut self) {
        while self.octets > self.limits.octets && self.forget_oldest() {}
        // Only clients hold filters besides the groups.
        self.groups.retain_mut(|group| {
            group.unasked = group.unasked.saturating_add(1);
            group.unasked < UNASKED || Arc::strong_count(&group.filter.prefixes) > 1
        });
        let crumbs = &self.crumbs;
        for group in &mut self.groups {
            group
                .frames
                .retain(|revision, _| crumbs.reaches(Position(revision.saturating_sub(1))));
            group.snapshot.take_if(|s| !crumbs.reaches(Position(s.revision)));
        }
    }

    /// The same filter as its group holds it: clients that use that one keep the group, and are recognised at once.
    pub(crate) fn shared(&self, filter: &Filter) -> Filter {
        let group = self.groups.iter().find(|g| g.filter == *filter);
        group.map_or(filter, |g| &g.filter).clone()
    }

    /// What readers at `position` need, of each group that has clients: they do not have to ask.
    pub(crate) fn steps(&mut self, position: Revision) -> Vec<(GroupId, Step)> {
        let used = self.groups.iter().filter(|g| Arc::strong_count(&g.filter.prefixes) > 1);
        let filters: Vec<Filter> = used.map(|g| g.filter.clone()).collect();
        let mut step = |filter: Filter| {
            let group = GroupId {
                prefixes: Arc::downgrade(&filter.prefixes),
                zstd: filter.zstd,
            };
            (group, self.next(&filter, Some(position)))
        };
        filters.into_iter().map(&mut step).collect()
    }

    /// What a reader that has applied everything up to `position` (`None`: nothing) needs to become current.
    pub(crate) fn next(&mut self, filter: &Filter, position: Option<Revision>) -> Step {
        let group = match self.groups.iter().position(|g| g.filter == *filter) {
            Some(known) => known,
            None => {
                self.groups.push(Group {
                    filter: filter.clone(),
                    snapshot: None,
                    frames: BTreeMap::new(),
                    unasked: 0,
                });
                self.groups.len() - 1
            }
        };
        let group = &mut self.groups[group];
        group.unasked = 0;
        let resume = position.map_or(Resume::Snapshot, |p| self.crumbs.resume(Position(p)));
        let Resume::Changes(crumbs) = resume else {
            return Step::Snapshot(group.snapshot(&self.crumbs, &mut self.encoded));
        };
        let more = crumbs.len() > STEP;
        let (mut frames, mut said) = (Vec::new(), None);
        let mut revision = position.unwrap_or_default();
        for crumb in crumbs.into_iter().take(STEP) {
            revision = crumb.revision;
            if let Some(frame) = group.frame(&crumb, &mut self.encoded) {
                frames.push(frame);
                said = Some(revision);
            }
        }
        if !more {
            // The log may have advanced past its last change.
            revision = self.crumbs.revision();
        }
        Step::Changes {
            frames,
            said,
            revision,
            more,
        }
    }
}

impl Group {
    fn frame(&mut self, crumb: &Crumb, count: &mut Encoded) -> Option<Framed> {
        if let Some(encoded) = self.frames.get(&crumb.revision) {
            return encoded.clone();
        }
        let wanted = crumb.events.iter().filter(|e| self.filter.matches(&e.key));
        let changes: Vec<Change> = wanted.map(|e| change(&e.key, e.revision, e.value.as_ref())).collect();
        let encoded = (!changes.is_empty()).then(|| {
            count.batches += 1;
            self.filter.frame(ServerMsg::Batch(Batch {
                revision: crumb.revision,
                changes,
            }))
        });
        self.frames.insert(crumb.revision, encoded.clone());
        encoded
    }

    fn snapshot(&mut self, crumbs: &Breadcrumbs<String, Held, Crumb>, count: &mut Encoded) -> Arc<Snapshot> {
        // One that is a little old is followed by the changes since; encoding for each of many clients costs more.
        if let Some(snapshot) = &self.snapshot
            && let Resume::Changes(since) = crumbs.resume(Position(snapshot.revision))
            && (since.len() <= STEP || since.iter().map(|c| c.octets).sum::<usize>() <= snapshot.octets / 4)
        {
            return Arc::clone(snapshot);
        }
        count.snapshots += 1;
        let mut all = 0;
        let revision = crumbs.revision();
        let mut frames = vec![Framed::plain(ServerMsg::SnapshotBegin(SnapshotBegin { revision }))];
        let mut changes = Vec::new();
        let mut octets = 0;
        for (key, held) in crumbs.current().iter().filter(|(key, _)| self.filter.matches(key)) {
            let size = size(key, Some(&held.value));
            if !changes.is_empty() && octets + size > FRAME {
                let changes = std::mem::take(&mut changes);
                frames.push(self.filter.frame(ServerMsg::Batch(Batch { revision, changes })));
                octets = 0;
            }
            octets += size;
            all += size;
            changes.push(change(key, held.revision, Some(&held.value)));
        }
        if !changes.is_empty() {
            frames.push(self.filter.frame(ServerMsg::Batch(Batch { revision, changes })));
        }
        let snapshot = Arc::new(Snapshot {
            revision,
            frames,
            octets: all,
        });
        self.snapshot = Some(Arc::clone(&snapshot));
        snapshot
    }
}

fn size(key: &str, value: Option<&Bytes>) -> usize {
    key.len() + value.map_or(0, Bytes::len) + 32
}

fn change(key: &str, revision: Revision, value: Option<&Bytes>) -> Change {
    Change {
        key: key.to_owned(),
        revision,
        value: value.map(|v| v.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(key: &str, revision: Revision, size: usize) -> Event {
        Event {
            key: key.into(),
            revision,
            value: Some(vec![b'x'; size].into()),
        }
    }

    fn log(limits: Limits) -> Log {
        Log::new(
            Listing {
                entries: vec![],
                revision: 0,
            },
            0,
            vec![],
            limits,
        )
    }

    fn frames(step: Step) -> Vec<Framed> {
        match step {
            Step::Changes { frames, .. } => frames,
            Step::Snapshot(s) => s.frames.clone(),
        }
    }

    #[test]
    fn clients_with_the_same_filter_share_the_octets() {
        let mut log = log(Limits::default());
        let (a, b) = (
            Filter::new(vec!["/x/".into(), "/x/y".into()]),
            Filter::new(vec!["/x/".into()]),
        );
        assert_eq!(a, b);
        log.push(vec![event("/x/1", 1, 10), event("/z/1", 2, 10)]);
        for position in [Some(0), None] {
            let (first, second) = (frames(log.next(&a, position)), frames(log.next(&b, position)));
            let [first, second] = [first, second].map(|frames| frames.last().unwrap().clone().octets());
            assert_eq!(first.as_ptr(), second.as_ptr());
            assert!(!String::from_utf8_lossy(&first).contains("/z/1"), "filtered");
        }
        let none = Filter::new(vec!["/none/".into()]);
        assert_eq!(
            log.next(&none, Some(0)),
            Step::Changes {
                frames: vec![],
                said: None,
                revision: 2,
                more: false
            }
        );
    }

    #[test]
    fn memory_is_bounded_by_count_and_octets_and_groups_end_with_their_clients() {
        let mut log = log(Limits {
            changes: 10,
            octets: 10_000,
        });
        let filter = Filter::new(vec![]);
        for revision in 1..=100 {
            log.push(vec![event("/a", revision, if revision < 50 { 1 } else { 5_000 })]);
            let _ = log.next(&filter, Some(revision - 1));
            let _ = log.next(&filter, None);
            assert!(log.crumbs.log_len() <= 10);
            assert!(log.octets <= 10_000);
            assert!(log.groups[0].frames.len() <= 10);
        }
        let held = u64::try_from(log.crumbs.log_len()).unwrap();
        assert_eq!((log.take_forgotten(), log.take_forgotten()), (100 - held, 0));
        assert!(matches!(log.next(&filter, Some(90)), Step::Snapshot(_)), "forgotten");
        drop(filter);
        for revision in 101..=100 + u64::from(UNASKED) {
            assert_eq!(log.groups.len(), 1, "kept for those who come back");
            log.push(vec![event("/a", revision, 1)]);
        }
        assert!(log.groups.is_empty());
    }

    #[test]
    fn a_revision_without_changes_moves_readers_without_messages() {
        let mut log = log(Limits::default());
        log.push(vec![event("/a", 3, 1)]);
        log.advance(9);
        let filter = Filter::new(vec![]);
        for (position, sent) in [(0, 1), (3, 0), (7, 0), (9, 0)] {
            let Step::Changes {
                frames, revision, more, ..
            } = log.next(&filter, Some(position))
            else {
                panic!("{position} is known");
            };
            assert_eq!((frames.len(), revision, more), (sent, 9, false), "{position}");
        }
        log.push(vec![event("/a", 10, 1)]);
        assert_eq!((log.revision(), log.newest().unwrap().revision), (10, 10));
        assert_eq!(frames(log.next(&filter, Some(9))).len(), 1);
    }

    #[test]
    fn a_hundred_clients_cost_one_encoding() {
        let mut log = log(Limits::default());
        log.push((1..=2000).map(|r| event(&format!("/{r}"), r, 200)).collect());
        let clients: Vec<Filter> = (0..100).map(|n| Filter::new(vec![]).with_zstd(n % 2 == 0)).collect();
        for client in &clients {
            assert!(matches!(log.next(client, None), Step::Snapshot(_)));
        }
        let once_for_each_form = Encoded {
            snapshots: 2,
            batches: 0,
        };
        assert_eq!(log.take_encoded(), once_for_each_form);
        for revision in 2001..=2100 {
            log.push(vec![event("/1", revision, 200)]);
            // The first comes and goes: the others are none the worse.
            drop(log.next(&Filter::new(vec![]), Some(revision - 1)));
            for client in &clients {
                assert_eq!(frames(log.next(client, Some(revision - 1))).len(), 1);
            }
        }
        assert_eq!(log.take_encoded().batches, 200);
        let newcomer = Filter::new(vec![]);
        assert!(matches!(log.next(&newcomer, None), Step::Snapshot(_)));
        assert_eq!(log.take_encoded().snapshots, 0, "little has changed since");
    }

    #[test]
    fn who_is_current_need_not_ask_and_groups_without_clients_cost_nothing() {
        let mut log = log(Limits::default());
        let filter = |key: &str| Filter::new(vec![key.to_owned()]);
        let _ = (log.next(&filter("/a"), Some(0)), log.next(&filter("/b"), Some(0)));
        let (mine, other) = (log.shared(&filter("/a")), log.shared(&filter("/a")));
        log.push(vec![event("/a", 1, 10), event("/b", 2, 10)]);
        let steps = log.steps(0);
        let [(group, step)] = &steps[..] else {
            panic!("{steps:?}");
        };
        assert!(mine.is(group) && other.is(group), "all who want the same share it");
        assert!(!filter("/a").is(group) && !mine.clone().with_zstd(true).is(group));
        assert_eq!(*step, log.next(&mine, Some(0)), "it is what they would be told");
        assert_eq!(log.take_encoded().batches, 1);
        drop((mine, other));
        for revision in 3..=3 + u64::from(UNASKED) {
            log.push(vec![event("/a", revision, 1)]);
            assert!(log.steps(revision - 1).is_empty());
        }
        assert!(log.groups.is_empty(), "names keep no group");
    }

    #[test]
    fn changes_of_one_revision_are_not_torn_apart() {
        let mut log = log(Limits::default());
        log.push(vec![
            event("/a", 1, FRAME),
            event("/b", 1, FRAME),
            event("/c", 2, FRAME),
        ]);
        assert_eq!((log.crumbs.log_len(), log.len(), log.revision()), (2, 3, 2));
        let filter = Filter::new(vec![]);
        assert_eq!(frames(log.next(&filter, Some(0))).len(), 2);
        let held: Vec<_> = log.entries("/b").into_iter().map(|e| (e.key, e.revision)).collect();
        assert_eq!(held, [("/b".to_owned(), 1)]);
    }

    #[test]
    fn large_states_and_groups_of_changes_are_cut() {
        let mut log = log(Limits::default());
        let events = (1..=20).map(|r| event(&format!("/{r}"), r, 100 << 10)).collect();
        log.push(events);
        let filter = Filter::new(vec![]);
        for step in [log.next(&filter, None), log.next(&filter, Some(0))] {
            let frames = frames(step);
            assert!(
                frames.len() >= 10 && frames.iter().all(|f| f.len() <= FRAME + 1024),
                "{}",
                frames.len()
            );
        }
    }
}
