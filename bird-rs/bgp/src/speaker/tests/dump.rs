//! Dumps of tables, as values.

use std::time::Duration;

use super::sessions::{node, pair};
use crate::mrt::RibEntry;

#[test]
fn every_entry_has_a_next_hop() {
    let text =
        node(1, 64512, &[(2, 64512, "")]) + "protocol static gone_via { ipv4; route 10.7.0.0/24 via 10.0.0.7; }\n";
    let mut net = pair(&text, &node(2, 64512, &[(1, 64512, "")]));
    net.seconds(20);
    let speaker = &net.node(0).speaker;
    let mut shown = Vec::new();
    for table in ["master4", "master6"] {
        let (index, mut cursor) = speaker.dump(table, false).unwrap();
        let page = speaker.dump_page(&mut cursor, 100, Duration::ZERO);
        assert!(!page.more);
        let hop = |entry: &RibEntry| {
            let hop = entry.attributes.next_hop.unwrap();
            format!("{} of {}", hop.addr(), index.peers[usize::from(entry.peer)].address)
        };
        let of = |rib: &crate::mrt::Rib| format!("{} via {}", rib.prefix, hop(&rib.entries[0]));
        shown.extend(page.ribs.iter().map(of));
    }
    shown.sort();
    let wanted = [
        "10.1.0.0/24 via 0.0.0.0 of 0.0.0.0",
        "10.2.0.0/24 via 10.0.0.2 of 10.0.0.2",
        "10.7.0.0/24 via 10.0.0.7 of 0.0.0.0",
        "fd00:1::/64 via :: of 0.0.0.0",
        "fd00:2::/64 via fd00::2 of 10.0.0.2",
    ];
    assert_eq!(shown, wanted);
}
