//! BIRD's command line, understood by bird-rs: giving up root, recovery from a restart.

use std::process::{Command, Output};

use crate::lab::{Lab, eventually};

const OURS: &str = "router id 10.77.0.1;
protocol device { }
protocol static { ipv4; route 10.1.0.0/24 blackhole; }
protocol bgp up { local 10.77.0.1 as 65001; neighbor 10.77.0.2 as 65002; direct; password \"secret\";
  connect delay time 1; connect retry time 2; graceful restart on;
  ipv4 { import all; export all; }; ipv6 { import all; export all; }; }
";

const THEIRS: &str = "router id 10.77.0.2;
protocol device { }
protocol bgp up { local 10.77.0.2 as 65002; neighbor 10.77.0.1 as 65001; direct; password \"secret\"; passive;
  graceful restart on; ipv4 { import all; export all; }; ipv6 { import all; export all; }; }
";

/// What the kernel says of a process.
fn status_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

fn row<'a>(status: &'a str, name: &str) -> Vec<&'a str> {
    let row = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default();
    row.split_whitespace().collect()
}

#[test]
fn root_is_given_up_but_for_what_a_router_needs() {
    let lab = Lab::new();
    let _neighbour = lab.bird("b", THEIRS, false);
    let daemon = lab.bird_rs_with("a", OURS, &["-u", "nobody", "-g", "nogroup"]);
    // It listens below 1024 and connects with a TCP MD5 key.
    lab.client("a").established("up");
    let status = status_of(daemon.0.id());
    let ids = row(&status, "Uid:");
    assert!(ids.len() == 4 && ids.iter().all(|id| *id == "65534"), "{status}");
    assert!(row(&status, "Gid:").iter().all(|id| *id == "65534"), "{status}");
    // NET_BIND_SERVICE, NET_ADMIN, NET_RAW.
    for set in ["CapEff:", "CapPrm:"] {
        assert_eq!(row(&status, set), ["0000000000003400"], "{status}");
    }
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.0.id())).unwrap();
    for thread in threads.flatten() {
        // A thread may have ended meanwhile.
        let Ok(status) = std::fs::read_to_string(thread.path().join("status")) else {
            continue;
        };
        assert_eq!(row(&status, "CapPrm:"), ["0000000000003400"], "{status}");
    }
    assert!(lab.birdc_of("a", "show status").contains("Daemon is up"));
    // The file is read again by a user that may.
    lab.write("a.conf", &OURS.replace("10.1.0.0/24", "10.3.0.0/24"));
    assert!(lab.birdc_of("a", "configure").contains("Reconfigured"));
    eventually("the neighbour has the other route", || {
        lab.birdc("show route").contains("10.3.0.0/24").then_some(())
    });
}

/// What the neighbour was told of our past.
fn told(arguments: &[&str]) -> (bool, bool) {
    let lab = Lab::new();
    let _neighbour = lab.bird("b", THEIRS, false);
    let _daemon = lab.bird_rs_with("a", OURS, arguments);
    lab.client("a").established("up");
    let shown = lab.birdc("show protocols all up");
    let theirs = shown.split("Neighbor capabilities").nth(1).unwrap_or_default();
    (
        theirs.contains("Restart recovery"),
        theirs.contains("AF preserved: ipv4 ipv6"),
    )
}

#[test]
fn recovery_is_claimed_when_it_is_wanted() {
    assert_eq!(told(&["-R"]), (true, true));
    assert_eq!(told(&[]), (false, false));
}

/// A file without sessions.
const SMALL: &str = "router id 10.77.0.1;
protocol device { }
protocol static { ipv4; route 10.1.0.0/24 blackhole; }
";

/// Runs bird-rs where it cannot start, as a user or as root: its status and what it says.
fn refused(lab: &Lab, user: Option<&str>, arguments: &[&str]) -> (Option<i32>, String) {
    let program = env!("CARGO_BIN_EXE_bird-rs");
    let mut command = Command::new("timeout");
    command.args(["20", "ip", "netns", "exec", &lab.netns("a")]);
    if let Some(user) = user {
        command.args(["setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups"]);
    }
    let Output { status, stderr, .. } = command.arg(program).args(arguments).output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn wrong_command_lines_are_told_and_leave_nothing() {
    let lab = Lab::new();
    let path = |name: &str| lab.path(name).display().to_string();
    let good = lab.write("good.conf", SMALL).display().to_string();
    let include = lab
        .write("include.conf", "include \"none.conf\";\n")
        .display()
        .to_string();
    std::fs::write(lab.path("octets.conf"), b"router id 1.1.1.1;\n\xff").unwrap();
    lab.write("plain", "a file\n");
    let (missing, octets, plain) = (path("missing.conf"), path("octets.conf"), path("plain"));
    let (socket, nowhere) = (path("x.ctl"), path("none/x"));
    for (arguments, status, says) in [
        (vec!["-c", &missing], 1, "missing.conf: No such file or directory"),
        (vec!["-p", "-c", "/"], 1, "/: Is a directory"),
        (vec!["-p", "-c", &octets], 1, "octets.conf: This is no text in UTF-8"),
        (vec!["-p", "-c", &include], 1, "include.conf:1:8 include \"none.conf\""),
        (vec!["-x"], 64, "unexpected argument '-x'"),
        (vec!["-c", &good, "more"], 64, "unexpected argument 'more'"),
        (vec!["-c", &good, "-g", "nogroup"], 64, "--user"),
        (
            vec!["-c", &good, "-s", &socket, "-u", "nobody-here"],
            1,
            "there is no user 'nobody-here'",
        ),
        (vec!["-c", &good, "-s", &nowhere], 1, "there is no directory"),
        (
            vec!["-c", &good, "-s", &plain],
            1,
            "a file that is no socket is in the way",
        ),
        (vec!["-c", &good, "-D", &nowhere], 1, "open the log file"),
        (vec!["-c", &good, "-P", &nowhere], 1, "write the process id"),
    ] {
        let (code, said) = refused(&lab, None, &arguments);
        assert_eq!(code, Some(status), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    assert_eq!(std::fs::read_to_string(&plain).unwrap(), "a file\n");
    assert!(!lab.path("x.ctl").exists());
    let (code, said) = refused(&lab, Some("nobody"), &["-c", "/etc/shadow"]);
    assert_eq!((code, &*said), (Some(1), "/etc/shadow: Permission denied\n"));
    let (code, said) = refused(&lab, Some("nobody"), &["-c", &good, "-s", &socket]);
    assert!(code == Some(1) && said.contains("Permission denied"), "{said}");
}

#[test]
fn a_second_start_disturbs_nobody_and_a_killed_one_leaves_a_place() {
    let lab = Lab::new();
    let mut first = lab.bird_rs("a", SMALL);
    let answers = || lab.birdc_of("a", "show route").contains("10.1.0.0/24").then_some(());
    eventually("the first answers", answers);
    let (config, socket) = (lab.path("a.conf"), lab.path("a.ctl"));
    let arguments = ["-c", &config.display().to_string(), "-s", &socket.display().to_string()];
    let (code, said) = refused(&lab, None, &arguments);
    assert!(
        code == Some(1) && said.contains("another process answers on this socket"),
        "{said}"
    );
    answers().expect("the first still answers");
    first.signal("-KILL");
    first.ended();
    assert!(socket.exists(), "a process that is killed leaves its socket");
    let mut second = lab.bird_rs("a", SMALL);
    eventually("the second answers", answers);
    let pid = std::fs::read_to_string(lab.path("a.pid")).unwrap();
    assert!(std::path::Path::new(&format!("/proc/{}", pid.trim())).exists());
    second.signal("-TERM");
    assert!(second.ended().success());
    assert!(
        !socket.exists() && !lab.path("a.pid").exists(),
        "a process that ends cleans up"
    );
}
