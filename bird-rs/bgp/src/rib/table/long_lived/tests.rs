//! Every route of a source ages to itself with the community, however many share their attributes with however many.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use tortie_net::Prefix4;

use super::*;
use crate::attr::Attributes;
use crate::filter::{Krt, RouteDestination};
use crate::rib::NewPath;

/// One of a few values, marked or forbidden already, perhaps.
fn value(med: u8, community: Option<Community>) -> Learned {
    Learned {
        attributes: Attributes {
            med: Some(med.into()),
            communities: community.into_iter().collect(),
            ..Attributes::default()
        },
        preference: 100,
        destination: RouteDestination::Unicast,
        igp_metric: None,
        krt: Krt::default(),
        gateways: Box::default(),
        hop: None,
    }
}

fn values() -> impl Strategy<Value = Learned> {
    let community = prop_oneof![
        6 => Just(None),
        2 => Just(Some(Community::LLGR_STALE)),
        1 => Just(Some(Community::NO_LLGR)),
    ];
    (0..4_u8, community).prop_map(|(med, community)| value(med, community))
}

fn aged(mut learned: Learned) -> Learned {
    learned.attributes.communities.insert(Community::LLGR_STALE);
    learned
}

fn is_forbidden(learned: &Learned) -> bool {
    learned.attributes.communities.contains(Community::NO_LLGR)
}

proptest! {
    /// What a peer sent and what an import policy made of it, of two sources.
    #[test]
    fn each_ages_to_itself(routes in prop::collection::vec((0..2_u16, values(), values()), 0..60)) {
        let (mut table, mut interner) = (Table::<Prefix4>::default(), Interner::default());
        let prefix = |n: usize| Prefix4::new(Ipv4Addr::new(10, 0, n as u8, 0), 24).unwrap();
        for (n, (source, received, imported)) in routes.iter().enumerate() {
            let new = NewPath {
                source: SourceId(*source),
                path_id: 0,
                received: interner.intern(received),
                imported: Ok(interner.intern(imported)),
                since: 0,
            };
            table.insert(prefix(n), new, &mut interner);
        }
        table.mark(SourceId(0), Stale::Restart);
        let (kept, removed) = table.long_live(SourceId(0), &mut interner);
        let (mut stay, mut go) = (0, 0);
        for (n, (source, received, imported)) in routes.into_iter().enumerate() {
            let paths = table.id(prefix(n)).map(|id| table.paths(id)).unwrap_or_default();
            if source == 0 && (is_forbidden(&received) || is_forbidden(&imported)) {
                prop_assert!(paths.is_empty());
                go += 1;
                continue;
            }
            let wanted = if source == 0 { (aged(received), aged(imported)) } else { (received, imported) };
            stay += usize::from(source == 0);
            prop_assert_eq!((interner.get(paths[0].received()), interner.get(paths[0].attrs())), wanted);
            prop_assert_eq!(paths[0].stale() == Stale::LongLived, source == 0);
        }
        prop_assert_eq!((kept, removed), (stay, go));
        for source in [0, 1] {
            table.remove_where(SourceId(source), &mut interner, |_| true);
        }
        prop_assert!(interner.is_empty(), "no reference is left");
    }
}
