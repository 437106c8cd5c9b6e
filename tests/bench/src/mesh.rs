//! A full mesh of many daemons, each with an address of its own in one namespace, as the nodes of a cluster are.
//!
//! The tester has one eBGP session with each: over it that daemon's routes come in, and there it is counted what that
//! daemon knows of the others. What happens between the daemons is theirs alone.

use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};
use tortie_tests::lab::{Daemon, Lab, Netns};

use crate::daemon::{Prepared, Program, pids, usage};
use crate::goal::Goal;
use crate::record::{Measured, Row};
use crate::report::time;
use crate::scenario::{Run, measured};
use crate::tester::Tester;
use crate::workload::{DAEMON_AS, Workload};

/// Runs a mesh from the start of its first daemon, and lets all routes change once.
///
/// # Errors
/// When there is nothing to measure: files or addresses cannot be made.
pub(crate) fn measure(lab: &Lab, mut run: Run<'_>, ours: &Netns, until: Instant) -> Result<Vec<Row>> {
    let nodes = 0..run.workload.senders;
    let addresses: String = nodes
        .clone()
        .map(|node| format!("addr add {}/32 dev lo\n", run.workload.daemon_of(node)))
        .collect();
    let file = lab.folder("mesh")?.join("addresses");
    fs::write(&file, addresses)?;
    run.ns.ip(&["-batch", &file.display().to_string()])?;
    let prepared = nodes
        .map(|node| prepare(lab, run.program, run.workload, node))
        .collect::<Result<Vec<_>>>()?;
    ours.within(|| {
        let mut tester = Tester::new(run.workload, until)?;
        let mut daemons = Vec::new();
        let result = from_cold(&run, &mut tester, prepared, &mut daemons);
        if run
            .row("everyone has everything, from the first one's start", result)
            .is_some()
        {
            let all = run.everyone(2);
            let result = run.spent(|| Ok((tester.phase(Goal::all(run.workload, 2), all)?, ())));
            run.row("change", result.map(|(m, ())| m));
        }
        Ok(())
    })?;
    Ok(run.rows)
}

fn from_cold(
    run: &Run<'_>,
    tester: &mut Tester<'_>,
    prepared: Vec<Prepared>,
    daemons: &mut Vec<Daemon>,
) -> Result<Measured> {
    let hello = run.everyone(1);
    let clock = tester.clock();
    for node in prepared {
        daemons.push(node.start(run.ns)?);
    }
    let started = clock.start.elapsed();
    let (timing, _) = tester.recover(clock, Goal::all(run.workload, 1), hello)?;
    let sum = measured(usage(run.ns)?, std::time::Duration::ZERO, timing);
    Ok(Measured {
        note: format!(
            "CPU and memory of all {}; the last was started after {}; resident {:.0} MB, {:.0} MB with what they share \
             counted once",
            run.workload.senders,
            time(started),
            sum.resident_kb as f64 * 1024.0 / 1e6,
            proportional_kb(run.ns)? as f64 * 1024.0 / 1e6
        ),
        ..sum
    })
}

/// Memory of all processes in a namespace in KiB, a page of several processes as a part of one in each.
fn proportional_kb(ns: &Netns) -> Result<u64> {
    let mut sum = 0;
    for pid in pids(ns)? {
        let path = format!("/proc/{pid}/smaps_rollup");
        let rollup = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let pss = rollup.lines().find_map(|l| l.strip_prefix("Pss:")).context("Pss")?;
        sum += pss.trim().trim_end_matches("kB").trim().parse::<u64>()?;
    }
    Ok(sum)
}

fn prepare(lab: &Lab, program: Program, workload: &Workload, node: u32) -> Result<Prepared> {
    let dir = lab.folder(&format!("mesh/{node}"))?;
    let command = program.like_bird(&dir, &config(workload, node))?;
    Ok(Prepared::new(program, command, dir.join("log")))
}

/// What BIRD and bird-rs both read. The times are short, for the mesh to come up as fast as the daemons can: with the usual
/// ones a neighbour that is not there yet is tried again after a minute or two.
fn config(workload: &Workload, node: u32) -> String {
    let me = workload.daemon_of(node);
    let (tester, tester_as) = (workload.address_of(node), workload.asn_of(node));
    let mut text = format!(
        "router id {me};\nlog stderr {{ error, fatal }};\nprotocol device {{ }}\nprotocol direct {{ ipv4; }}\n\
         template bgp any {{\n  local {me} as {DAEMON_AS};\n  strict bind yes;\n  hold time 180;\n  connect delay time 1;\n  \
         connect retry time 1;\n  error wait time 1, 2;\n  error forget time 1;\n  \
         ipv4 {{ import all; export where source = RTS_BGP; }};\n}}\n\
         protocol bgp tester from any {{ neighbor {tester} as {tester_as}; passive on; }}\n"
    );
    for other in (0..workload.senders).filter(|other| *other != node) {
        let address = workload.daemon_of(other);
        let _ = writeln!(
            text,
            "protocol bgp m{other} from any {{ neighbor {address} as {DAEMON_AS}; }}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_a_session_with_every_other_and_the_tester() {
        let text = config(&Workload::mesh(3), 1);
        assert!(text.contains("local 10.99.254.2 as 65000;"), "{text}");
        let neighbours: Vec<&str> = text.lines().filter(|l| l.contains("neighbor")).collect();
        assert_eq!(
            neighbours,
            [
                "protocol bgp tester from any { neighbor 10.99.0.2 as 4200000001; passive on; }",
                "protocol bgp m0 from any { neighbor 10.99.254.1 as 65000; }",
                "protocol bgp m2 from any { neighbor 10.99.254.3 as 65000; }",
            ]
        );
    }
}
