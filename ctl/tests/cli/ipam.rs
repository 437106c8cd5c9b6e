//! ipam: show, check, release, split, configure.

use serde_json::{Value, json};

use crate::Typha;

const POOL: &str =
    "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: a}\nspec: {cidr: 10.1.0.0/24, blockSize: 29}\n";
const RESERVED: &str = "apiVersion: projectcalico.org/v3\nkind: IPReservation\nmetadata: {name: r}\nspec: {reservedCIDRs: [10.1.0.6/31]}\n";

/// n1's block: a pod of n1, a leak of n1, a pod of n2, one that cools down; and a block of no pool.
fn cluster() -> Typha {
    let typha = Typha::start();
    for document in [POOL, RESERVED] {
        assert_eq!(typha.apply(document).status, 0);
    }
    let of = |node: &str, pod: &str| json!({"handle_id": format!("net.{pod}"), "secondary": {"node": node, "namespace": "web", "pod": pod}});
    let block = json!({
        "cidr": "10.1.0.0/29", "affinity": "host:n1", "allocations": [0, 1, 2, 3, null, null, null, null],
        "unallocated": [4, 5, 6, 7], "sequenceNumber": 9,
        "attributes": [of("n1", "a"), of("n1", "lost"), of("n2", "b"), {"releasedAt": "2026-01-01T00:00:00Z"}],
    });
    typha.store("/calico/ipam/v2/assignment/ipv4/block/10.1.0.0-29", &block.to_string());
    let orphan = json!({"cidr": "10.9.0.0/30", "affinity": "host:n1", "allocations": [null, null, null, null],
        "unallocated": [0, 1, 2, 3], "attributes": []});
    typha.store("/calico/ipam/v2/assignment/ipv4/block/10.9.0.0-30", &orphan.to_string());
    for (id, count) in [("net.a", 1), ("net.lost", 1), ("net.empty", 1)] {
        let handle = json!({"block": {"10.1.0.0/29": count}});
        typha.store(&format!("/calico/ipam/v2/handle/{id}"), &handle.to_string());
    }
    for (node, pod, ip) in [
        ("n1", "a", "10.1.0.0"),
        ("n2", "b", "10.1.0.2"),
        ("n1", "x", "10.1.0.5"),
        ("n1", "y", "172.31.0.1"),
    ] {
        let name = format!("{node}-k8s-{pod}-eth0");
        let endpoint = json!({"apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
            "metadata": {"name": name, "namespace": "web"},
            "spec": {"orchestrator": "k8s", "node": node, "pod": pod, "endpoint": "eth0", "interfaceName": "cali1",
                "ipNetworks": [format!("{ip}/32")]}});
        let key = format!("/calico/resources/v3/projectcalico.org/workloadendpoints/web/{name}");
        typha.store(&key, &endpoint.to_string());
    }
    typha
}

#[test]
fn pools_blocks_and_addresses_are_shown() {
    let typha = cluster();
    typha.run(&["ipam", "show", "--show-blocks"]).is("\
+----------------+-------------+-----------+------------+--------------+-----------+
|    GROUPING    |    CIDR     | IPS TOTAL | IPS IN USE | IPS RESERVED | IPS FREE  |
+----------------+-------------+-----------+------------+--------------+-----------+
| IP Pool        | 10.1.0.0/24 | 256       | 4 (2%)     | 2 (1%)       | 250 (98%) |
| Block          | 10.1.0.0/29 | 8         | 4 (50%)    | 2 (25%)      | 2 (25%)   |
| Orphaned block | 10.9.0.0/30 | 4         | 0 (0%)     | 0 (0%)       | 4 (100%)  |
+----------------+-------------+-----------+------------+--------------+-----------+");
    assert!(!typha.run(&["ipam", "show"]).out.contains("| Block "));
    typha.run(&["ipam", "show", "--show-borrowed"]).is("\
+----------+----------------+-------------+-------------+------+--------------+
|    IP    | BORROWING-NODE |    BLOCK    | BLOCK OWNER | TYPE | ALLOCATED-TO |
+----------+----------------+-------------+-------------+------+--------------+
| 10.1.0.2 | n2             | 10.1.0.0/29 | n1          | pod  | web/b        |
+----------+----------------+-------------+-------------+------+--------------+");
    typha.run(&["ipam", "show", "--ip", "10.1.0.0"]).is("\
IP 10.1.0.0 is in use
Handle ID: net.a
Attributes:
  namespace: web
  node: n1
  pod: a
Used by: WorkloadEndpoint(web/n1-k8s-a-eth0)");
    for (ip, said) in [
        (
            "10.1.0.3",
            "IP 10.1.0.3 is not assigned: it was released at 2026-01-01T00:00:00Z and cools down",
        ),
        ("10.1.0.4", "IP 10.1.0.4 is not assigned"),
        ("192.0.2.1", "IP 192.0.2.1 is not assigned and is in no IP pool"),
    ] {
        typha.run(&["ipam", "show", &format!("--ip={ip}")]).is(said);
    }
    typha
        .run(&["ipam", "show", "--ip", "nonsense"])
        .failed(64, &["nonsense"]);
    typha
        .run(&["ipam", "show", "--ip", "10.1.0.1", "--show-blocks"])
        .failed(64, &["cannot be used with"]);
}

#[test]
fn what_is_shown_is_shown_to_programs_too() {
    let typha = cluster();
    let shown = |args: &[&str]| -> Value {
        let all: Vec<&str> = ["ipam", "show", "-o", "json"].iter().chain(args).copied().collect();
        let said = typha.run(&all);
        assert_eq!(said.status, 0, "{}", said.err);
        serde_json::from_str(&said.out).unwrap()
    };
    let block =
        |cidr: &str, n: [u64; 4]| json!({"cidr": cidr, "total": n[0], "in_use": n[1], "reserved": n[2], "free": n[3]});
    let mut pool = block("10.1.0.0/24", [256, 4, 2, 250]);
    pool["name"] = "a".into();
    let orphaned = [block("10.9.0.0/30", [4, 0, 0, 4])];
    assert_eq!(shown(&[]), json!({"pools": [pool], "orphaned_blocks": orphaned}));
    pool["blocks"] = json!([block("10.1.0.0/29", [8, 4, 2, 2])]);
    assert_eq!(
        shown(&["--show-blocks"]),
        json!({"pools": [pool], "orphaned_blocks": orphaned})
    );
    assert_eq!(
        shown(&["--show-borrowed"]),
        json!({"borrowed": [{"ip": "10.1.0.2", "node": "n2", "block": "10.1.0.0/29", "block_owner": "n1",
            "type": "pod", "allocated_to": "web/b"}]})
    );
    assert_eq!(
        shown(&["--show-configuration"]),
        json!({"strict_affinity": false, "auto_allocate_blocks": true, "max_blocks_per_host": 0, "ip_cooldown_seconds": 0})
    );
    for (ip, want) in [
        (
            "10.1.0.0",
            json!({"ip": "10.1.0.0", "state": "in_use", "block": "10.1.0.0/29", "handle": "net.a",
                "attributes": {"node": "n1", "namespace": "web", "pod": "a"},
                "used_by": ["WorkloadEndpoint(web/n1-k8s-a-eth0)"]}),
        ),
        (
            "10.1.0.3",
            json!({"ip": "10.1.0.3", "state": "cooling", "block": "10.1.0.0/29", "released_at": "2026-01-01T00:00:00Z"}),
        ),
        ("10.1.0.4", json!({"ip": "10.1.0.4", "state": "free", "in_pool": true})),
        (
            "192.0.2.1",
            json!({"ip": "192.0.2.1", "state": "free", "in_pool": false}),
        ),
    ] {
        assert_eq!(shown(&["--ip", ip]), want);
    }
}

#[test]
fn a_check_finds_what_does_not_agree_and_a_release_puts_it_right() {
    let typha = cluster();
    let said = typha.run(&["ipam", "check", "--show-problem-ips"]);
    for line in [
        "Found 2 IPAM blocks.",
        "IPAM blocks record 4 allocations.",
        "Found 1 active IP pools.",
        "Found 4 workload IPs.",
        "  10.1.0.1 leaked; handle=net.lost node=n1 web/lost",
        "Found 1 IPs that are allocated in IPAM but not actually in use.",
        "  172.31.0.1 used by WorkloadEndpoint(web/n1-k8s-y-eth0)",
        "Found 1 in-use IPs that are not in active IP pools.",
        "  10.1.0.5 used by WorkloadEndpoint(web/n1-k8s-x-eth0)",
        "Found 1 in-use IPs that are in active IP pools but have no corresponding IPAM allocation.",
        "  net.empty has no IPs",
        "Found 1 handles with no matching IPs (and 2 handles with matches).",
        "Found 1 handles mentioned in blocks with no matching handle resource.",
        "Check complete; found 5 problems.",
    ] {
        assert!(said.out.lines().any(|l| l == line), "no '{line}' in {}", said.out);
    }
    let all = typha.run(&["ipam", "check", "--show-all-ips"]).out;
    assert!(
        all.contains("10.1.0.3 allocated; handle=<none> node=<unknown> ; cooling down"),
        "{all}"
    );

    let used = ["WorkloadEndpoint(web/n1-k8s-a-eth0)", "--force"];
    typha.run(&["ipam", "release", "--ip", "10.1.0.0"]).failed(1, &used);
    typha.run(&["ipam", "release", "--handle", "net.a"]).failed(1, &used);
    typha
        .run(&["ipam", "release", "--ip", "10.1.0.4"])
        .failed(1, &["10.1.0.4 is not assigned"]);
    typha
        .run(&["ipam", "release", "--ip", "10.1.0.3"])
        .failed(1, &["10.1.0.3 is not assigned"]);
    typha
        .run(&["ipam", "release", "--handle", "nobody"])
        .failed(1, &["no handle nobody"]);
    typha
        .run(&["ipam", "release"])
        .failed(64, &["--ip IP or --handle ID or --from-report FILE"]);
    typha
        .run(&["ipam", "release", "--ip", "10.1.0.1"])
        .is("Successfully released IP address 10.1.0.1");
    typha
        .run(&["ipam", "release", "--handle", "net.empty"])
        .is("Successfully released handle net.empty");
    typha
        .run(&["ipam", "release", "--handle", "net.a", "--force"])
        .is("Successfully released IP address 10.1.0.0\nSuccessfully released handle net.a");
    let after = typha.run(&["ipam", "check"]).out;
    for line in [
        "Found 0 IPs that are allocated in IPAM but not actually in use.",
        "Found 0 handles with no matching IPs (and 0 handles with matches).",
    ] {
        assert!(after.contains(line), "{after}");
    }
}

#[test]
fn how_addresses_are_given_is_changed_in_its_parts() {
    let typha = cluster();
    typha
        .run(&[
            "ipam",
            "configure",
            "--strictaffinity=true",
            "--max-blocks-per-host",
            "4",
        ])
        .is("Successfully set StrictAffinity to: true\nSuccessfully set MaxBlocksPerHost to: 4");
    typha
        .run(&["ipam", "configure", "--ip-cooldown-seconds", "30"])
        .is("Successfully set IPCooldownSeconds to: 30");
    typha.run(&["ipam", "show", "--show-configuration"]).is("\
+--------------------+-------+
|      PROPERTY      | VALUE |
+--------------------+-------+
| StrictAffinity     | true  |
| AutoAllocateBlocks | true  |
| MaxBlocksPerHost   | 4     |
| IPCooldownSeconds  | 30    |
+--------------------+-------+");
    typha
        .run(&["ipam", "configure", "--strict-affinity", "maybe"])
        .failed(64, &["maybe"]);
    typha.run(&["ipam", "configure"]).failed(64, &["nothing to configure"]);
}

#[test]
fn what_reports_found_lost_is_released_while_the_datastore_is_locked() {
    let typha = cluster();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let check = |name: &str| assert_eq!(typha.run(&["ipam", "check", "-o", &file(name)]).status, 0);
    check("unlocked");
    typha
        .run(&["ipam", "release", "--from-report", &file("unlocked")])
        .failed(1, &["unlocked", "not locked"]);
    typha.run(&["datastore", "lock"]).is("Datastore locked.");
    typha.run(&["datastore", "lock"]).is("Datastore locked.");
    check("one");
    let report: Value = serde_json::from_slice(&std::fs::read(file("one")).unwrap()).unwrap();
    assert_eq!(report["datastoreLocked"], true);
    assert_eq!(report["clusterGUID"].as_str().unwrap().len(), 32);
    assert_eq!(report["allocations"].as_object().unwrap().len(), 4);
    let lost = &report["allocations"]["10.1.0.1"][0];
    assert_eq!(
        (&lost["handle"], &lost["inUse"], &lost["node"]),
        (&json!("net.lost"), &json!(false), &json!("n1"))
    );
    assert_eq!(report["allocations"]["10.1.0.3"][0]["coolingDown"], true);
    let borrowed = &report["allocations"]["10.1.0.2"][0];
    assert_eq!(
        (&borrowed["borrowed"], &borrowed["inUse"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(borrowed["owners"], json!(["WorkloadEndpoint(web/n2-k8s-b-eth0)"]));
    assert_eq!(report["leakedHandles"][0]["id"], "net.empty");

    // Another report that does not know of the loss, or knows of an older one, is no word for it.
    for (field, other) in [
        ("inUse", json!(true)),
        ("sequenceNumber", json!(3)),
        ("handle", json!("net.else")),
    ] {
        let mut second = report.clone();
        second["allocations"]["10.1.0.1"][0][field] = other;
        second["leakedHandles"] = json!([]);
        std::fs::write(file("two"), second.to_string()).unwrap();
        let two = ["--from-report", &file("one"), "--from-report", &file("two")];
        typha
            .run(&[["ipam", "release"].as_slice(), &two].concat())
            .is("Released 0 IPs and 0 handles");
    }
    std::fs::write(file("none"), "[]").unwrap();
    typha
        .run(&["ipam", "release", "--from-report", &file("none")])
        .failed(1, &["none is no report"]);
    typha
        .run(&["ipam", "release", "--from-report", &file("one")])
        .is("Successfully released IP address 10.1.0.1\nReleased 1 IPs and 1 handles");
    typha
        .run(&["ipam", "release", "--from-report", &file("one")])
        .is("Released 0 IPs and 0 handles");
    typha.run(&["datastore", "unlock"]).is("Datastore unlocked.");
    typha.run(&["datastore", "lock"]).is("Datastore locked.");
    typha
        .run(&["ipam", "release", "--from-report", &file("one")])
        .failed(1, &["unlocked since"]);
}

#[test]
fn a_pool_is_split_and_what_is_in_it_stays() {
    let typha = cluster();
    typha
        .run(&["ipam", "split", "4", "--name", "a"])
        .failed(1, &["not locked"]);
    // What could never be done is said before anything is asked for.
    for count in ["0", "1", "3", "512"] {
        typha
            .run(&["ipam", "split", count, "--name", "a"])
            .failed(1, &["power of two"]);
    }
    let status = || typha.run(&["datastore", "status"]).out;
    assert!(!status().contains("locked"), "{}", status());
    typha.run(&["datastore", "lock"]).is("Datastore locked.");
    assert!(
        status().contains("\nlocked:    no pod gets an address until"),
        "{}",
        status()
    );
    typha
        .run(&["ipam", "split", "64", "--name", "a"])
        .failed(1, &["/29", "smaller than a block"]);
    typha
        .run(&["ipam", "split", "4", "--name", "b"])
        .failed(1, &["no IPPool b"]);
    typha.run(&["ipam", "split", "4"]).failed(64, &["--cidr"]);
    typha.run(&["ipam", "split", "4", "--cidr", "10.1.0.0/24"]).is("\
Successfully created IPPool split-a-0 with 10.1.0.0/26
Successfully created IPPool split-a-1 with 10.1.0.64/26
Successfully created IPPool split-a-2 with 10.1.0.128/26
Successfully created IPPool split-a-3 with 10.1.0.192/26
Successfully split IPPool a into 4");
    typha.run(&["ipam", "show"]).is("\
+----------------+---------------+-----------+------------+--------------+-----------+
|    GROUPING    |     CIDR      | IPS TOTAL | IPS IN USE | IPS RESERVED | IPS FREE  |
+----------------+---------------+-----------+------------+--------------+-----------+
| IP Pool        | 10.1.0.0/26   | 64        | 4 (6%)     | 2 (3%)       | 58 (91%)  |
| IP Pool        | 10.1.0.64/26  | 64        | 0 (0%)     | 0 (0%)       | 64 (100%) |
| IP Pool        | 10.1.0.128/26 | 64        | 0 (0%)     | 0 (0%)       | 64 (100%) |
| IP Pool        | 10.1.0.192/26 | 64        | 0 (0%)     | 0 (0%)       | 64 (100%) |
| Orphaned block | 10.9.0.0/30   | 4         | 0 (0%)     | 0 (0%)       | 4 (100%)  |
+----------------+---------------+-----------+------------+--------------+-----------+");
    let pool: Value = serde_json::from_str(&typha.run(&["get", "ippool", "split-a-2", "-o", "json"]).out).unwrap();
    assert_eq!(pool["metadata"]["uid"].as_str().unwrap().len(), 36);
    assert_eq!(pool["spec"]["blockSize"], 29);
    // They are as if a person had made them: one can be changed.
    let mut changed = pool;
    changed["spec"]["natOutgoing"] = json!(true);
    assert_eq!(typha.apply(&changed.to_string()).status, 0);
}
