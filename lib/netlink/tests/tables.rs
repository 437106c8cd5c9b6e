//! nftables on the real kernel, in an anonymous network namespace that ends with its thread. Needs root, and `nft` as a
//! second opinion.

#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::time::Duration;

use tortie_netlink::nft::{
    At, Chain, ChainKind, Changes, Family, Hook, Nft, Set, Step, Table, TableId, Tables, interface_name,
};

fn nft(args: &str) -> String {
    let out = Command::new("nft").args(args.split(' ')).output().expect("nft runs");
    assert!(
        out.status.success(),
        "nft {args}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a namespace: needs root");
        test();
    });
    thread.join().unwrap();
}

fn id(family: Family) -> TableId {
    TableId {
        family,
        name: "tortie-test",
    }
}

/// Everything that can be said, in both families.
fn table(family: Family) -> Table {
    let v4 = family == Family::V4;
    let members = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1/32", "fd00::/16", "fd02::1/128"];
    let outside = if v4 { "192.0.2.9" } else { "2001:db8::9" }.parse().unwrap();
    let chain = |name, kind, hook, rules| Chain {
        name,
        kind,
        hook,
        priority: -7,
        rules,
    };
    let from = || vec![Step::Look(At::Source), Step::In("some")];
    let with = |steps: &[Step]| from().into_iter().chain(steps.iter().cloned()).collect::<Vec<_>>();
    let local = At::SourceKind { on_out_interface: true };
    let port = At::Transport { offset: 2, len: 2 };
    Table {
        sets: vec![
            Set {
                name: "some",
                members: members.map(|m| m.parse().unwrap()).into(),
            },
            Set {
                name: "none",
                members: [].into(),
            },
        ],
        chains: vec![
            chain(
                "after",
                ChainKind::Nat,
                Hook::Postrouting,
                vec![
                    with(&[Step::Look(At::Destination), Step::NotIn("none"), Step::Masquerade(None)]),
                    with(&[
                        Step::Look(At::Protocol),
                        Step::Is(vec![6]),
                        Step::Masquerade(Some((1024, 2048))),
                    ]),
                    with(&[
                        Step::Look(At::OutInterface),
                        Step::Is(interface_name("eth+")),
                        Step::Source(outside, None),
                    ]),
                    with(&[
                        Step::Look(At::OutInterface),
                        Step::IsNot(interface_name("tunl0")),
                        Step::Source(outside, Some((5000, 6000))),
                    ]),
                    with(&[
                        Step::Look(local),
                        Step::IsNot(2u32.to_ne_bytes().into()),
                        Step::Look(At::SourceKind {
                            on_out_interface: false,
                        }),
                        Step::Is(2u32.to_ne_bytes().into()),
                        Step::Accept,
                    ]),
                ],
            ),
            chain(
                "before",
                ChainKind::Nat,
                Hook::Prerouting,
                vec![vec![
                    Step::Look(At::Destination),
                    Step::In("some"),
                    Step::Destination(outside),
                ]],
            ),
            chain(
                "input",
                ChainKind::Filter,
                Hook::Input,
                vec![with(&[
                    Step::Look(port),
                    Step::Is(4789u16.to_be_bytes().into()),
                    Step::Look(At::Transport { offset: 12, len: 3 }),
                    Step::Is(vec![0, 0x10, 0]),
                    Step::Look(At::InInterface),
                    Step::Is(b"cali".to_vec()),
                    Step::Drop,
                ])],
            ),
        ],
    }
}

#[test]
fn a_table_is_written_read_back_and_removed() {
    in_namespace(|| {
        nft("add table ip foreign");
        nft("add chain ip foreign c");
        let mut kernel = Nft::open().unwrap();
        for family in Family::ALL {
            let (id, table) = (id(family), table(family));
            assert_eq!(kernel.read(id).unwrap(), None);
            kernel.remove(id).unwrap();
            // What is written is read back as itself, and again after it was written over.
            for _ in 0..2 {
                kernel.replace(id, &table).unwrap();
                let seen = kernel.read(id).unwrap().unwrap();
                assert_eq!(table.difference(family, &seen), None, "{}", nft("list ruleset"));
            }
        }
        let listed = nft("list table ip tortie-test");
        for line in [
            "elements = { 10.0.0.0/8, 192.0.2.1 }",
            "type nat hook postrouting priority filter - 7; policy accept;",
            "ip saddr @some ip daddr != @none masquerade fully-random",
            "ip saddr @some meta l4proto tcp masquerade to :1024-2048 fully-random",
            "oifname \"eth*\" snat to 192.0.2.9 fully-random",
            "oifname != \"tunl0\" snat to 192.0.2.9:5000-6000 fully-random",
            "fib saddr . oif type != local fib saddr type local accept",
            "ip daddr @some dnat to 192.0.2.9",
        ] {
            assert!(listed.contains(line), "{line:?} is not in {listed}");
        }
        let listed = nft("list table ip6 tortie-test");
        assert!(listed.contains("elements = { fd00::/16,"), "{listed}");
        for family in Family::ALL {
            kernel.remove(id(family)).unwrap();
            assert_eq!(kernel.read(id(family)).unwrap(), None);
        }
        assert!(nft("list ruleset").contains("chain c"), "somebody else's is as it was");
    });
}

#[test]
fn whatever_somebody_changes_is_seen() {
    in_namespace(|| {
        let family = Family::V4;
        let (id, table) = (id(family), table(family));
        let mut kernel = Nft::open().unwrap();
        for change in [
            "add element ip tortie-test none { 10.9.0.0/16 }",
            "delete element ip tortie-test some { 192.0.2.1 }",
            "flush chain ip tortie-test input",
            "insert rule ip tortie-test after accept",
            "add rule ip tortie-test after counter",
            "add chain ip tortie-test more",
            "add set ip tortie-test more { type ipv4_addr; }",
            "add table ip tortie-test { flags dormant; }",
            "delete table ip tortie-test",
            "flush ruleset",
        ] {
            kernel.replace(id, &table).unwrap();
            nft(change);
            let seen = kernel.read(id).unwrap();
            let same = seen.is_some_and(|s| table.difference(family, &s).is_none());
            assert!(!same, "{change}");
        }
    });
}

/// A refusal leaves the table as it was, whole.
#[test]
fn all_or_nothing() {
    in_namespace(|| {
        let family = Family::V6;
        let (id, table) = (id(family), table(family));
        let mut kernel = Nft::open().unwrap();
        kernel.replace(id, &table).unwrap();
        let mut wrong = table.clone();
        wrong.chains[2]
            .rules
            .push(vec![Step::Look(At::Source), Step::In("no-such-set")]);
        let error = kernel.replace(id, &wrong).unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(libc::ENOENT), "{error}");
        assert!(
            error.to_string().starts_with("write table ip6 tortie-test: "),
            "{error}"
        );
        let seen = kernel.read(id).unwrap().unwrap();
        assert_eq!(table.difference(family, &seen), None);
    });
}

#[test]
fn many_addresses_go_at_once() {
    in_namespace(|| {
        let id = id(Family::V6);
        let addresses = (0..20_000u128).map(|n| std::net::Ipv6Addr::from(0xfd << 120 | n << 8));
        let members = addresses.map(|a| tortie_net::Prefix::host(a.into())).collect();
        let table = Table {
            sets: vec![Set { name: "many", members }],
            chains: vec![],
        };
        let mut kernel = Nft::open().unwrap();
        kernel.replace(id, &table).unwrap();
        let seen = kernel.read(id).unwrap().unwrap();
        assert_eq!(table.difference(Family::V6, &seen), None);
    });
}

#[test]
fn changes_of_our_tables_are_told_and_of_no_others() {
    in_namespace(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut changes = Changes::open("tortie-").unwrap();
            nft("add table ip foreign");
            nft("add chain ip foreign c");
            nft("add table ip6 tortie-test");
            let told = tokio::time::timeout(Duration::from_secs(20), changes.next()).await;
            told.expect("told in time").unwrap();
            nft("add chain ip foreign d");
            let more = tokio::time::timeout(Duration::from_millis(200), changes.next()).await;
            assert!(more.is_err(), "a foreign table is none of ours");
        });
    });
}
