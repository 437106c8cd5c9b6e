use proptest::prelude::*;

use super::super::{At, ChainKind, Hook, Step};
use super::*;
use crate::route::Frames;

const ID: TableId = TableId {
    family: Family::V4,
    name: "tortie-nat",
};

fn table() -> Table {
    let members = ["10.244.0.0/16", "10.245.0.0/16", "10.250.0.0/24"].map(|p| p.parse().unwrap());
    Table {
        sets: vec![Set {
            name: "pools",
            members: members.into(),
        }],
        chains: vec![Chain {
            name: "postrouting",
            kind: ChainKind::Nat,
            hook: Hook::Postrouting,
            priority: 110,
            rules: vec![
                vec![Step::Look(At::Source), Step::In("pools"), Step::Masquerade(None)],
                vec![
                    Step::Look(At::Protocol),
                    Step::Is(vec![6]),
                    Step::Masquerade(Some((1024, 2048))),
                ],
            ],
        }],
    }
}

fn seen(table: &Table) -> Seen {
    let (octets, last) = Batch::replace(ID, table).encode(7);
    assert_eq!(last, 7 + Frames(&octets).count() as u32 - 2);
    let mut seen = Seen::default();
    Frames(&octets).for_each(|f| seen.take(ID, f.kind, f.body));
    seen
}

/// Every single change of a table is told from it.
#[test]
fn a_table_is_itself_and_no_other() {
    let shall = table();
    assert_eq!(shall.difference(Family::V4, &seen(&shall)), None);
    type Change = (&'static str, fn(&mut Table));
    let changes: [Change; 9] = [
        ("set pools is another", |t| {
            t.sets[0].members.insert("10.99.0.0/16".parse().unwrap());
        }),
        ("set pools is another", |t| t.sets[0].members.clear()),
        ("set pools is another", |t| {
            t.sets.clear();
        }),
        ("chain postrouting is another", |t| t.chains[0].priority = 100),
        ("chain postrouting is another", |t| t.chains[0].hook = Hook::Input),
        ("chain postrouting is another", |t| {
            t.chains[0].rules.pop();
        }),
        ("chain postrouting is another", |t| t.chains[0].rules.swap(0, 1)),
        ("chain postrouting is another", |t| {
            t.chains[0].rules[0][1] = Step::NotIn("pools")
        }),
        ("chain postrouting is another", |t| {
            t.chains[0].rules[1][2] = Step::Masquerade(Some((1024, 2049)));
        }),
    ];
    for (want, change) in changes {
        let mut other = table();
        change(&mut other);
        assert_eq!(shall.difference(Family::V4, &seen(&other)).as_deref(), Some(want));
    }
    let mut more = table();
    more.chains.push(Chain {
        name: "intruder",
        ..more.chains[0].clone()
    });
    assert_eq!(
        shall.difference(Family::V4, &seen(&more)).as_deref(),
        Some("intruder is too many")
    );
    let mut asleep = seen(&shall);
    asleep.dormant = true;
    assert!(shall.difference(Family::V4, &asleep).is_some());
}

#[test]
fn other_tables_are_passed_over() {
    let (octets, _) = Batch::replace(ID, &table()).encode(1);
    for name in ["tortie-na", "nat", "tortie-nat2"] {
        let mut seen = Seen::default();
        let id = TableId { name, ..ID };
        Frames(&octets).for_each(|f| seen.take(id, f.kind, f.body));
        assert_eq!(seen, Seen::default(), "{name}");
    }
    let mut seen = Seen::default();
    let v6 = TableId {
        family: Family::V6,
        ..ID
    };
    Frames(&octets).for_each(|f| seen.take(v6, f.kind, f.body));
    assert_eq!(seen, Seen::default());
    let ours = |beginning| Frames(&octets).filter(|f| concerns(beginning, f.kind, f.body)).count();
    assert_eq!((ours("tortie"), ours("cali")), (Frames(&octets).count() - 2, 0));
}

proptest! {
    /// Any octets are read without a panic, and nothing but the table is the table.
    #[test]
    fn any_octets_are_read(cut in 0usize..4096, flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)) {
        let shall = table();
        let (mut octets, _) = Batch::replace(ID, &shall).encode(1);
        let before = octets.clone();
        for (at, value) in flips {
            let at = at.index(octets.len());
            octets[at] = value;
        }
        octets.truncate(cut);
        let mut seen = Seen::default();
        Frames(&octets).for_each(|f| seen.take(ID, f.kind, f.body));
        let _ = shall.difference(Family::V4, &seen);
        if before.starts_with(&octets) && octets.len() + 20 < before.len() {
            prop_assert!(shall.difference(Family::V4, &seen).is_some());
        }
    }
}
