//! Malformed, huge and hostile input: it is refused in bounded, printable words, before felix is asked.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde_json::{Value, json};

use super::{Node, Ran, run, run_with};

/// An error of this code whose text has `want` in it, is short, and can be shown on a terminal.
#[track_caller]
fn refused(node: &Node, ran: &Ran, code: u64, want: &str) {
    let (got, said) = ran.error();
    assert_eq!(got, code, "{said}");
    assert!(said.contains(want), "wanted {want}: {said}");
    assert!(ran.stdout.len() < 2000 && ran.stderr.len() < 2000, "bounded");
    let text = ran.stdout.trim_end();
    assert!(!text.contains(char::is_control), "{text:?}");
    assert_eq!(node.asked(), "", "nothing of it reached felix");
}

#[test]
fn environment_variables() {
    let node = Node::new();
    let conf = node.conf("1.1.0", json!({})).to_string();
    // One variable of a program holds no more than 128 KiB: the kernel refuses the invocation itself.
    let huge = "x".repeat(100_000);
    let deep = format!("/{}", "a/".repeat(4096));
    let pairs = "A=b;".repeat(10_000);
    let long_pod = format!("K8S_POD_NAMESPACE=web;K8S_POD_NAME={}", "x".repeat(300));
    let cases: &[(&str, &str, &str)] = &[
        ("CNI_COMMAND", "ADD\n", "'ADD\\n'"),
        ("CNI_COMMAND", &huge, "CNI_COMMAND"),
        ("CNI_CONTAINERID", "../../etc/passwd", "'../../etc/passwd'"),
        ("CNI_CONTAINERID", "..", "'..'"),
        ("CNI_CONTAINERID", "a\nb", "'a\\nb'"),
        ("CNI_CONTAINERID", "c1\u{1b}[31m", "\\u{1b}"),
        ("CNI_CONTAINERID", "контейнер", "CNI_CONTAINERID"),
        ("CNI_CONTAINERID", "a b", "'a b'"),
        ("CNI_CONTAINERID", "$(reboot)", "'$(reboot)'"),
        ("CNI_CONTAINERID", &huge, "128 at most"),
        ("CNI_IFNAME", "0123456789abcdef", "1 to 15 octets"),
        // 8 characters, 16 octets.
        ("CNI_IFNAME", "éééééééé", "1 to 15 octets"),
        ("CNI_IFNAME", "../eth0", "'../eth0'"),
        ("CNI_IFNAME", "a/b", "'a/b'"),
        ("CNI_IFNAME", "eth0:1", "'eth0:1'"),
        // The kernel would take it for a pattern and choose a name.
        ("CNI_IFNAME", "eth%d", "'eth%d'"),
        ("CNI_IFNAME", "a b", "'a b'"),
        ("CNI_IFNAME", "a\nb", "'a\\nb'"),
        ("CNI_IFNAME", "a\u{85}b", "\\u{85}"),
        ("CNI_IFNAME", ".", "reserved"),
        ("CNI_IFNAME", "..", "reserved"),
        ("CNI_IFNAME", "lo", "reserved"),
        ("CNI_IFNAME", "all", "reserved"),
        ("CNI_IFNAME", "default", "reserved"),
        ("CNI_IFNAME", &huge, "1 to 15 octets"),
        ("CNI_NETNS", "run/netns/x", "absolute path"),
        ("CNI_NETNS", "../run/netns/x", "absolute path"),
        ("CNI_NETNS", "/run/netns/a\nb", "control characters"),
        ("CNI_NETNS", &deep, "at most 4096 octets"),
        ("CNI_ARGS", "garbage", "KEY=VALUE"),
        ("CNI_ARGS", "IgnoreUnknown=1;;=;garbage", "'garbage'"),
        ("CNI_ARGS", "IP=10.0.0.0/33", "IP='10.0.0.0/33'"),
        ("CNI_ARGS", "IP=10.0.0.5,10.0.0.6", "no address"),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=web", "without K8S_POD_NAME"),
        (
            "CNI_ARGS",
            "K8S_POD_NAMESPACE=../x;K8S_POD_NAME=a",
            "K8S_POD_NAMESPACE='../x'",
        ),
        (
            "CNI_ARGS",
            "K8S_POD_NAMESPACE=web;K8S_POD_NAME=a/b",
            "K8S_POD_NAME='a/b'",
        ),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=web;K8S_POD_NAME=a\nb", "'a\\nb'"),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=web;K8S_POD_NAME=Ä", "K8S_POD_NAME"),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=web;K8S_POD_NAME=-a", "'-a'"),
        ("CNI_ARGS", &long_pod, "at most 253"),
        ("CNI_ARGS", &pairs, "longer than 16384 octets"),
    ];
    for (variable, value, want) in cases {
        refused(&node, &run("ADD", &[(variable, value)], conf.as_bytes()), 4, want);
    }
    // What is no UTF-8 is not taken for absent: a pod would be attached as a container of no pod.
    for (variable, value) in [
        ("CNI_IFNAME", &b"eth\xff"[..]),
        ("CNI_NETNS", b"/run/netns/\xff"),
        ("CNI_CONTAINERID", b"c\xff"),
        ("CNI_ARGS", b"K8S_POD_NAMESPACE=web;K8S_POD_NAME=a\xff"),
    ] {
        let ran = run_with("ADD", &[(variable, OsStr::from_bytes(value))], conf.as_bytes());
        refused(&node, &ran, 4, variable);
    }
}

#[test]
fn standard_input_that_is_no_configuration() {
    let node = Node::new();
    let name = "x".repeat(1 << 20);
    let deep_array = format!(
        "{{\"cniVersion\":\"1.1.0\",\"name\":\"net\",\"x\":{}{}}}",
        "[".repeat(200),
        "]".repeat(200)
    );
    let cases: Vec<(Vec<u8>, u64, &str)> = vec![
        (b"\0".to_vec(), 6, "no JSON"),
        (b"\xff\xfe{}".to_vec(), 6, "no JSON"),
        (b"\xef\xbb\xbf{}".to_vec(), 6, "no JSON"),
        (b"{\"cniVersion\":\"1.1.0\",\"name\":\"a\xff\"}".to_vec(), 6, "no JSON"),
        (b"{\"cniVersion\":\"1.1.0\",\"name\":\"net\"}}".to_vec(), 6, "trailing"),
        (b"{\"cniVersion\":\"1.1.0\",\"name\":\"net\",}".to_vec(), 6, "no JSON"),
        (b"{\"cniVersion\":\"1.1.0\",\"mtu\":1e999}".to_vec(), 6, "no JSON"),
        (b"null".to_vec(), 6, "object"),
        (b"\"{}\"".to_vec(), 6, "object"),
        (vec![b'['; 1 << 20], 6, "recursion limit"),
        (deep_array.into_bytes(), 6, "recursion limit"),
        (vec![b' '; (4 << 20) + 1], 6, "more than 4194304 octets"),
        // Of fields that are there twice the last counts, as in Go.
        (
            b"{\"cniVersion\":\"1.1.0\",\"name\":\"net\",\"name\":\"a/b\"}".to_vec(),
            7,
            "'name' = 'a/b'",
        ),
        (
            b"{\"cniVersion\":\"1.0.0\",\"cniVersion\":\"9\",\"name\":\"net\"}".to_vec(),
            1,
            "'9'",
        ),
        (
            format!("{{\"cniVersion\":\"{name}\",\"name\":\"net\"}}").into_bytes(),
            1,
            "incompatible",
        ),
        (
            format!("{{\"cniVersion\":\"1.1.0\",\"name\":\"{name}\"}}").into_bytes(),
            7,
            "'name' = 'xxxx",
        ),
    ];
    for (stdin, code, want) in cases {
        refused(&node, &run("ADD", &[], &stdin), code, want);
    }
}

#[test]
fn fields_of_the_configuration() {
    let node = Node::new();
    let many: Vec<String> = (0..65).map(|n| format!("10.0.0.{n}")).collect();
    let nested = |field: &str, value: Value| json!({"runtimeConfig": {field: value}});
    let annotated = |name: &str, value: Value| {
        let annotations = json!({format!("cni.projectcalico.org/{name}"): value});
        json!({"runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations}})
    };
    let cases = [
        (json!({"cniVersion": "0.1.0"}), 1, "'0.1.0'"),
        (json!({"cniVersion": "1.1"}), 1, "'1.1'"),
        (json!({"cniVersion": "1.1.0 "}), 1, "'1.1.0 '"),
        (json!({"cniVersion": ["1.1.0"]}), 7, "'cniVersion'"),
        (json!({"name": "a\u{0}b"}), 7, "'a\\0b'"),
        (json!({"name": "a\nb"}), 7, "'a\\nb'"),
        (json!({"name": "../net"}), 7, "'../net'"),
        (json!({"name": "сеть"}), 7, "'name'"),
        (json!({"name": null}), 7, "'name' = ''"),
        (json!({"name": {"a": 1}}), 7, "want a text"),
        (json!({"felix": "unix:relative"}), 7, "'felix'"),
        (json!({"felix": "http://example.com"}), 7, "'felix'"),
        (json!({"felix": 7}), 7, "'felix'"),
        (json!({"mtu": 1.5}), 7, "'mtu'"),
        (json!({"mtu": 65536}), 7, "68 to 65535"),
        (json!({"mtu": 18446744073709551615u64}), 7, "68 to 65535"),
        (json!({"ipam": "calico-ipam"}), 7, "'ipam'"),
        (json!({"ipam": {"type": "../../bin/sh"}}), 2, "'../../bin/sh'"),
        (json!({"ipam": {"type": "host-local/../x"}}), 2, "'ipam.type'"),
        (json!({"ipam": {"type": 7}}), 7, "'ipam.type'"),
        (json!({"ipam": {"ipv4_pools": many}}), 7, "at most 64"),
        (
            json!({"container_settings": {"allow_ip_forwarding": "maybe"}}),
            7,
            "allow_ip_forwarding",
        ),
        (
            json!({"feature_control": {"floating_ips": 1}}),
            7,
            "feature_control.floating_ips",
        ),
        (json!({"prevResult": []}), 7, "'prevResult'"),
        (nested("ips", json!(["fe80::1%eth0"])), 7, "no address"),
        (nested("ips", json!(["10.0.0.256"])), 7, "'10.0.0.256'"),
        (nested("ips", json!([{"ip": "10.0.0.5"}])), 7, "'runtimeConfig.ips'"),
        (nested("ips", json!(many)), 7, "at most 64"),
        (annotated("ipAddrs", json!("[\"10.0.0.5\u{0}\"]")), 7, "ipAddrs"),
        (annotated("ipAddrs", json!("x".repeat(1 << 20))), 7, "ipAddrs"),
        (annotated("ipv4pools", json!("[".repeat(1000))), 7, "ipv4pools"),
        (annotated("ipFamilies", json!("[\"IPv4\", \"ipv6\"]")), 7, "ipFamilies"),
    ];
    for (more, code, want) in cases {
        let stdin = node.conf("1.1.0", more).to_string();
        refused(&node, &run("ADD", &[], stdin.as_bytes()), code, want);
    }
    for (more, want) in [
        (json!({"cni.dev/valid-attachments": {}}), "a list"),
        (
            json!({"cni.dev/valid-attachments": [{"containerID": "c1"}]}),
            "'ifname'",
        ),
        (
            json!({"cni.dev/valid-attachments": [{"containerID": "../c1", "ifname": "eth0"}]}),
            "'containerID'",
        ),
        (json!({"cni.dev/valid-attachments": [7]}), "entries with"),
    ] {
        let stdin = node.conf("1.1.0", more).to_string();
        refused(&node, &run("GC", &[], stdin.as_bytes()), 7, want);
    }
}

/// What is strange but allowed: it is passed on, or warned of in bounded words.
#[test]
fn what_means_nothing_here_does_no_harm() {
    let node = Node::new();
    let mut more = json!({"x\u{1b}[2J": 1, "ipam": {"y\n": 2}});
    for n in 0..1000 {
        more[format!("unknown-{n}")] = json!(n);
    }
    let ran = run(
        "ADD",
        &[(
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_UID=\u{1b};IP=;=;A==;K8S_POD_NAME=web-0",
        )],
        node.conf("1.0.0", more).to_string().as_bytes(),
    );
    assert!(ran.ok, "{}", ran.stdout);
    assert!(
        ran.stderr.lines().count() <= 64 && ran.stderr.len() < 16_384,
        "bounded: {}",
        ran.stderr
    );
    assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
    assert!(node.asked().contains(r#"orchestrator: "cni""#), "{}", node.asked());
}
