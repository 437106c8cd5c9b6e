//! Lanes against a model: who has which number, and when may it be another's.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::rib::{AttrId, Interner, Stale};

type Name = (u32, u16, u32);

fn path(source: u16, path_id: u32, attrs: AttrId) -> Path {
    Path {
        source: SourceId(source),
        stale: Stale::Fresh,
        filtered: None,
        path_id,
        attrs,
        received: attrs,
        since: 0,
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// The paths of a prefix are these from now on.
    Assign(u32, BTreeSet<(u16, u32)>),
    /// Somebody still has to hear of this place, or not any more.
    Hold(u32, bool),
    Reclaim,
}

fn steps() -> impl Strategy<Value = Step> {
    let paths = proptest::collection::btree_set((0u16..3, 0u32..3), 0..6);
    prop_oneof![
        6 => (0u32..40, paths).prop_map(|(prefix, paths)| Step::Assign(prefix, paths)),
        2 => (0u32..200, any::<bool>()).prop_map(|(place, hold)| Step::Hold(place, hold)),
        2 => Just(Step::Reclaim),
    ]
}

proptest! {
    #[test]
    fn a_path_keeps_its_number_and_nobody_else_gets_it(steps in proptest::collection::vec(steps(), 0..200)) {
        let mut interner = Interner::default();
        let attrs = interner.intern(&0_u8);
        let mut lanes = Lanes::default();
        let mut there: BTreeMap<Name, Place> = BTreeMap::new();
        let mut held = BTreeSet::new();
        for step in steps {
            match step {
                Step::Assign(prefix, names) => {
                    let paths: Vec<_> = names.iter().map(|(source, id)| path(*source, *id, attrs)).collect();
                    lanes.assign(PrefixId(prefix), &paths);
                    there.retain(|(p, source, id), _| *p != prefix || names.contains(&(*source, *id)));
                    for (source, id) in names {
                        let mut own = lanes.of(PrefixId(prefix)).filter(|lane| (lane.source.0, lane.path_id) == (source, id));
                        let lane = own.next().unwrap();
                        prop_assert!(own.next().is_none(), "two lanes of one path");
                        prop_assert_eq!(*there.entry((prefix, source, id)).or_insert(lane.place), lane.place);
                    }
                }
                Step::Hold(place, true) => { held.insert(Place(place)); }
                Step::Hold(place, false) => { held.remove(&Place(place)); }
                Step::Reclaim => {
                    let before = lanes.clone();
                    lanes.reclaim_now(|place| held.contains(&place));
                    for (at, entry) in (0u32..).zip(before.entries) {
                        let in_use = !before.free.contains(&at);
                        let kept = lanes.of(entry.prefix).any(|lane| lane.place == Place(at));
                        prop_assert_eq!(kept, !lanes.free.contains(&at));
                        let wanted = held.contains(&Place(at)) || there.values().any(|place| *place == Place(at));
                        prop_assert_eq!(kept, in_use && wanted);
                    }
                }
            }
            let places: BTreeSet<_> = there.values().collect();
            prop_assert_eq!(places.len(), there.len(), "one number for two paths");
            for (&(prefix, source, path_id), &place) in &there {
                let prefix = PrefixId(prefix);
                let lane = Lane { place, prefix, source: SourceId(source), path_id };
                prop_assert_eq!(lanes.lane(place), lane);
                prop_assert!(lane.announced_id() > 0 && lanes.uses(prefix));
            }
        }
        // When all is gone and nobody holds anything, nothing is left.
        (0..40).for_each(|prefix| lanes.assign(PrefixId(prefix), &[]));
        lanes.reclaim_now(|_| false);
        prop_assert!((0..40).all(|prefix| !lanes.uses(PrefixId(prefix))));
        prop_assert_eq!(lanes.free.len(), lanes.entries.len());
    }
}

#[test]
fn a_path_that_comes_back_before_anybody_forgot_it_has_its_number_again() {
    let attrs = Interner::default().intern(&0_u8);
    let mut lanes = Lanes::default();
    let prefix = PrefixId(7);
    let both = [path(1, 0, attrs), path(2, 5, attrs)];
    lanes.assign(prefix, &both);
    let before: BTreeSet<_> = lanes.of(prefix).map(|lane| lane.announced_id()).collect();
    assert_eq!(before, BTreeSet::from([1, 2]));
    lanes.assign(prefix, &both[..1]);
    lanes.assign(prefix, &both);
    assert_eq!(
        lanes
            .of(prefix)
            .map(|lane| lane.announced_id())
            .collect::<BTreeSet<_>>(),
        before
    );
}

#[test]
fn a_lane_takes_sixteen_octets() {
    assert_eq!(std::mem::size_of::<Entry>(), 16);
}
