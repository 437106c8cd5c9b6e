//! The demo as a user runs it: to the end, interrupted, killed, without root.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tortie_tests::lab::{run, wait_for};

fn demo() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_demo"))
}

fn namespaces() -> Result<Vec<String>> {
    let text = run(&["ip", "netns", "list"])?;
    Ok(text
        .lines()
        .filter(|l| l.starts_with("tortie-"))
        .map(str::to_owned)
        .collect())
}

fn clean() -> Result<()> {
    let left = namespaces()?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    ensure!(
        !PathBuf::from("/run/tortie-lab/tortie").exists(),
        "the lab's folder is left behind"
    );
    Ok(())
}

fn command() -> Result<Command> {
    let mut command = Command::new(demo());
    let programs = tortie_tests::lab::binary("felix")?;
    command
        .env("TORTIE_BIN_DIR", programs.parent().context("a folder")?)
        .stdin(Stdio::null());
    Ok(command)
}

/// Reads what the run prints up to the line that has these words. The rest stays in the pipe.
fn read_until(child: &mut Child, words: &str) -> Result<()> {
    let stdout = child.stdout.as_mut().context("no stdout")?;
    let (mut said, mut byte) = (Vec::new(), [0]);
    while stdout.read(&mut byte)? == 1 {
        said.extend(byte);
        if byte == *b"\n" && String::from_utf8_lossy(&said).contains(words) {
            return Ok(());
        }
    }
    bail!("it ended before '{words}': {}", String::from_utf8_lossy(&said))
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn a_killed_run_an_interrupted_run_and_a_whole_run_one_after_the_other() -> Result<()> {
    // Killed in the middle: nothing can clean up, and the next run does.
    let mut killed = command()?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    wait_for("the demo to have made namespaces", Duration::from_secs(30), || {
        ensure!(namespaces()?.len() >= 5, "not yet");
        Ok(())
    })?;
    killed.kill()?;
    killed.wait()?;
    ensure!(!namespaces()?.is_empty(), "a killed run cannot have cleaned up");

    // Ctrl-C in the middle: it cleans up itself, and the rest of the killed run with it.
    // The rest counts namespaces too: what is there is its own only when it says that it begins.
    let mut interrupted = command()?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    read_until(&mut interrupted, "Bringing it up")?;
    wait_for("the demo to have made namespaces", Duration::from_secs(30), || {
        ensure!(namespaces()?.len() >= 5, "not yet");
        Ok(())
    })?;
    kill(Pid::from_raw(i32::try_from(interrupted.id())?), Signal::SIGINT)?;
    let output = interrupted.wait_with_output()?;
    ensure!(!output.status.success(), "an interrupted demo is no success");
    ensure!(text(&output).contains("interrupted"), "{}", text(&output));
    clean()?;

    // And a whole run, with everything it promises to show.
    let output = command()?.output()?;
    ensure!(output.status.success(), "{}", text(&output));
    for want in [
        "one L2 segment",
        "node-to-node mesh",
        "global",
        "Established",
        "proto bird",
        "blackhole 10.244.",
        "default via 169.254.1.1 dev eth0",
        "no NAT",
        "first answer",
        "resident memory",
        "All of it is removed again",
    ] {
        ensure!(
            text(&output).contains(want),
            "the demo does not show '{want}':\n{}",
            text(&output)
        );
    }
    clean()
}

#[test]
fn without_stock_bird_the_tor_runs_ours_and_a_kept_demo_can_be_stopped() -> Result<()> {
    let output = command()?.env("TORTIE_WITHOUT_BIRD", "1").arg("--keep").output()?;
    ensure!(output.status.success(), "{}", text(&output));
    for want in ["bird-rs, standalone", "no NAT", "It stays up", "make demo-stop"] {
        ensure!(
            text(&output).contains(want),
            "the demo does not show '{want}':\n{}",
            text(&output)
        );
    }
    // What it prints to look around works.
    let export = text(&output);
    let typha = export
        .lines()
        .find_map(|l| l.trim().strip_prefix("export TORTIE_TYPHA="))
        .context("no address")?;
    let ctl = tortie_tests::lab::binary("tortiectl")?;
    let nodes = Command::new(ctl)
        .args(["get", "nodes", "-o", "wide"])
        .env("TORTIE_TYPHA", typha)
        .output()?;
    ensure!(text(&nodes).contains("172.30.0.13/24"), "{}", text(&nodes));
    run(&[
        "ip",
        "netns",
        "exec",
        "tortie-pod-n1-web-1",
        "ping",
        "-c",
        "1",
        "-W",
        "2",
        "172.30.0.1",
    ])?;

    let stopped = command()?.arg("--stop").output()?;
    ensure!(text(&stopped).contains("is removed"), "{}", text(&stopped));
    clean()?;
    let nothing = command()?.arg("--stop").output()?;
    ensure!(
        nothing.status.success() && text(&nothing).contains("no demo is up"),
        "{}",
        text(&nothing)
    );
    Ok(())
}

#[test]
fn without_root_it_says_what_is_missing_in_one_line() -> Result<()> {
    let copy = tempfile::tempdir()?;
    let program = copy.path().join("demo");
    std::fs::copy(demo(), &program)?;
    run(&["chmod", "755", &copy.path().display().to_string()])?;
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .output()
        .context("run setpriv")?;
    ensure!(!output.status.success());
    let said = text(&output);
    ensure!(
        said.lines().count() == 1 && said.contains("need root") && said.contains("sudo"),
        "{said}"
    );

    let no_tools = Command::new(&program).env("PATH", "/nonexistent").output()?;
    let said = text(&no_tools);
    ensure!(!no_tools.status.success() && said.lines().count() == 1, "{said}");
    ensure!(said.contains("`ip` is not installed: run `make deps`"), "{said}");
    Ok(())
}
