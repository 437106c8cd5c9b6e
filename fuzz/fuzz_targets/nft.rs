//! What the kernel says of a table of nftables: any octets are read, and compared with a table.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_netlink::nft::{At, Chain, ChainKind, Family, Hook, Seen, Set, Step, Table, TableId};

fuzz_target!(|messages: Vec<(u8, Vec<u8>)>| {
    let family = Family::V4;
    let id = TableId { family, name: "t" };
    let mut seen = Seen::default();
    for (kind, body) in &messages {
        // Every message of nf_tables; what follows the family and the version is the table's name.
        let mut octets = vec![2, 0, 0, 0, 6, 0, 1, 0, b't', 0, 0, 0];
        octets.extend(body);
        seen.take(id, 10 << 8 | u16::from(kind % 32), &octets);
    }
    let table = Table {
        sets: vec![Set {
            name: "s",
            members: [].into(),
        }],
        chains: vec![Chain {
            name: "c",
            kind: ChainKind::Nat,
            hook: Hook::Postrouting,
            priority: 0,
            rules: vec![vec![Step::Look(At::Source), Step::In("s"), Step::Masquerade(None)]],
        }],
    };
    let _ = table.difference(family, &seen);
});
