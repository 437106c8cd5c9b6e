//! An outbox against a model of what each member understood.

use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Set { prefix: u32, value: Option<u8>, from: u16 },
    Pull { member: usize, limit: usize },
    Again(usize),
    Move(usize),
    Rejoin(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u32..12, proptest::option::of(0u8..4), 0u16..4).prop_map(|(prefix, value, from)| Step::Set { prefix, value, from }),
        4 => (0usize..3, 1usize..8).prop_map(|(member, limit)| Step::Pull { member, limit }),
        1 => (0usize..3).prop_map(Step::Again),
        1 => (0usize..3).prop_map(Step::Move),
        1 => (0usize..3).prop_map(Step::Rejoin),
    ]
}

/// What a member was told, as it understood it.
#[derive(Default)]
struct Ear {
    id: Option<MemberId>,
    /// In which of the two views it is.
    view: usize,
    told: BTreeMap<u32, u8>,
    /// Everything may be told again.
    again: bool,
}

fn listen(
    ear: &mut Ear,
    outbox: &mut Outbox,
    limit: usize,
    max: Option<u32>,
    interner: &mut Interner<u8>,
) -> Result<(), TestCaseError> {
    let Some(id) = ear.id else { return Ok(()) };
    // Every other limit asks for a round first.
    let stretch = outbox
        .stretch(id, limit)
        .filter(|_| max.is_none() && limit.is_multiple_of(2));
    let round = stretch.map(|stretch| (stretch, outbox.round(stretch)));
    let source = outbox.source(id).unwrap();
    let items: Vec<_> = match round.filter(|(_, round)| round.suits(source)) {
        Some((stretch, round)) => {
            outbox.took(id, stretch, &round);
            let theirs = round.items.iter().filter(|item| item.owner != source);
            theirs
                .map(|item| (item.place, item.attrs.map(|attrs| interner.get(attrs))))
                .collect()
        }
        None => {
            let pulled = outbox.pull(id, limit, max, interner);
            pulled
                .iter()
                .map(|item| (item.place, item.attrs.map(|attrs| interner.get(attrs))))
                .collect()
        }
    };
    for (place, value) in items {
        if !ear.again {
            prop_assert_ne!(ear.told.get(&place.0).copied(), value, "told what it has");
        }
        match value {
            Some(value) => ear.told.insert(place.0, value),
            None => ear.told.remove(&place.0),
        };
    }
    if limit > 4 {
        outbox.trim(interner);
    }
    ear.again &= !outbox.fed(id);
    prop_assert_eq!(outbox.announced_to(id) as usize, ear.told.len());
    Ok(())
}

proptest! {
    /// Two views of one table: the second announces one more than the first for each prefix.
    #[test]
    fn members_are_told_exactly_what_they_see(
        steps in proptest::collection::vec(steps(), 0..120),
        max in proptest::option::of(0u32..6),
    ) {
        let mut interner = Interner::default();
        let mut views = [Outbox::default(), Outbox::default()];
        let mut ears: [Ear; 3] = Default::default();
        for (source, ear) in (0u16..).zip(&mut ears) {
            ear.id = views[0].join(SourceId(source));
        }
        let mut model: BTreeMap<u32, (u8, u16)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Set { prefix, value, from } => {
                    for (offset, view) in (0u8..).zip(&mut views) {
                        let attrs = value.map(|value| interner.intern(&(value + offset)));
                        view.set(Place(prefix), attrs, SourceId(from), &mut interner);
                    }
                    match value {
                        Some(value) => model.insert(prefix, (value, from)),
                        None => model.remove(&prefix),
                    };
                }
                Step::Pull { member, limit } => {
                    let ear = &mut ears[member];
                    listen(ear, &mut views[ear.view], limit, max, &mut interner)?;
                }
                Step::Again(member) => {
                    let ear = &mut ears[member];
                    views[ear.view].feed_again(ear.id.unwrap());
                    ear.again = true;
                }
                Step::Move(member) => {
                    let ear = &mut ears[member];
                    let [a, b] = &mut views;
                    let (from, to) = if ear.view == 0 { (a, b) } else { (b, a) };
                    ear.id = from.move_to(ear.id.unwrap(), to, &mut interner);
                    ear.view = 1 - ear.view;
                }
                Step::Rejoin(member) => {
                    let ear = &mut ears[member];
                    views[ear.view].leave(ear.id.unwrap(), &mut interner);
                    *ear = Ear { id: views[0].join(SourceId(member as u16)), ..Ear::default() };
                }
            }
        }
        for (source, ear) in (0u16..).zip(&mut ears) {
            let view = &mut views[ear.view];
            for _ in 0..100 {
                listen(ear, view, 3, max, &mut interner)?;
            }
            prop_assert!(!view.has_work(ear.id.unwrap()));
            let offset = ear.view as u8;
            let seen = model.iter().filter(|(_, (_, from))| *from != source);
            let seen: BTreeMap<u32, u8> = seen.map(|(prefix, (value, _))| (*prefix, *value + offset)).collect();
            match max {
                None => prop_assert_eq!(&ear.told, &seen),
                Some(max) => {
                    prop_assert!(ear.told.len() >= seen.len().min(max as usize));
                    prop_assert!(ear.told.iter().all(|(prefix, value)| seen.get(prefix) == Some(value)));
                }
            }
            view.leave(ear.id.unwrap(), &mut interner);
        }
        // Nothing is held by anybody but the announcements themselves.
        for view in &mut views {
            view.trim(&mut interner);
            prop_assert!((0..12).all(|p| view.uses(Place(p)) == model.contains_key(&p)));
            view.clear(&mut interner);
        }
        prop_assert!(interner.is_empty());
    }
}

#[test]
fn an_announcement_takes_eight_octets() {
    assert_eq!(std::mem::size_of::<Entry>(), 8);
}
