//! What typha refuses to start with: one clear line, an exit status, nothing touched.

use std::process::Command;

use crate::process::Typha;

fn run(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_typha_on_the_same_file_is_refused() {
    let typha = Typha::start().await;
    let mut second = Command::new(env!("CARGO_BIN_EXE_typha"));
    second.arg("--datastore").arg(typha.dir.join("store"));
    second
        .arg("--listen")
        .arg(format!("unix:{}", typha.dir.join("second.sock").display()));
    let (status, said) = run(&mut second);
    assert_eq!(status, 1, "{said}");
    assert!(
        said.contains("store: another process has it open; one typha per file"),
        "{said}"
    );
    assert!(!typha.dir.join("second.sock").exists(), "it never listened");
}

#[test]
fn wrong_command_lines_and_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let typha = |listen: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_typha"));
        command.arg("--datastore").arg(&store).args(["--listen", listen]);
        command
    };
    let (status, said) = run(&mut typha("tcp:127.0.0.1:5473"));
    assert_eq!(status, 64);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("--listen tcp:127.0.0.1:5473: tcp without TLS"), "{said}");
    let (status, said) = run(&mut typha("/run/x.sock"));
    assert_eq!(status, 64);
    assert!(said.contains("'/run/x.sock' is no service address"), "{said}");
    assert!(!store.exists(), "nothing was made");

    std::fs::write(&store, "not a datastore").unwrap();
    let (status, said) = run(&mut typha("unix:/nonexistent/s.sock"));
    assert_eq!(status, 1);
    assert!(said.contains("store: damaged or not a datastore"), "{said}");
    assert_eq!(std::fs::read(&store).unwrap(), b"not a datastore");

    std::fs::remove_file(&store).unwrap();
    let (status, said) = run(&mut typha("unix:/nonexistent/s.sock"));
    assert_eq!(status, 1);
    assert!(
        said.contains("listen on unix:/nonexistent/s.sock: there is no directory /nonexistent"),
        "{said}"
    );

    let mut missing = Command::new(env!("CARGO_BIN_EXE_typha"));
    missing.args(["--datastore", "/nonexistent/store", "--listen", "unix:/x.sock"]);
    let (status, said) = run(&mut missing);
    assert_eq!(status, 1);
    assert_eq!(said.matches("No such file").count(), 1, "the reason once: {said}");
}
