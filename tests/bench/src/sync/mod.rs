//! typha with a large cluster and thousands of sync clients: etcd, the typhas and the clients in one namespace, over its
//! loopback.

mod cluster;
mod stream;
mod swarm;
mod writer;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tortie_tests::lab::Lab;

use self::cluster::{Control, Size};
use self::swarm::Swarm;
use self::writer::{Load, Written, writes};
use crate::daemon::{Program, Usage, usage_of};
use crate::figures::percentile;
use crate::goal::{Timing, own_cpu};
use crate::record::{Measured, Row};
use crate::report::time;
use crate::scenario::measured;
use crate::workload::{Scenario, Workload};

/// Writes in a second, while it is looked at whether all clients keep up.
const RATE: u32 = 200;
/// Their first number: no single write has one as high.
const FIRST: u32 = 1_000_000;
/// Between single writes.
const APART: Duration = Duration::from_millis(100);
/// All clients have a write after this at the latest, or they do not keep up.
const PATIENCE: Duration = Duration::from_secs(20);
/// A typha that was told to end has so long, and is killed then.
const LEAVE: Duration = Duration::from_secs(15);
/// Typhas of a rolling restart.
const TYPHAS: usize = 3;

/// Runs typha through a workload, until `until` at most.
///
/// # Errors
/// When there is nothing to measure: etcd or typha cannot be started.
pub(crate) fn measure(lab: &Lab, workload: &Workload, until: Instant) -> Result<Vec<Row>> {
    let ns = lab.namespace("control")?;
    let (rounds, seconds, shrink, rolling) = match workload.scenario {
        Scenario::Sync {
            rounds,
            seconds,
            shrink,
        } => (rounds, seconds, shrink, false),
        Scenario::Rolling { shrink } => (0, 0, shrink, true),
        _ => (0, 0, 1, false),
    };
    let size = Size::of(shrink);
    let typhas = if rolling { TYPHAS } else { 1 };
    let mut control = Control::start(lab, &ns, size)?;
    control.add_typhas(typhas)?;
    let ports: Vec<u16> = (0..typhas).map(Control::port).collect();
    let mut run = Run {
        workload,
        size,
        control,
        rows: Vec::new(),
    };
    ns.within(|| {
        let mut swarm = Swarm::new(workload.senders as usize, &ports, cluster::prefixes(), until)?;
        // A phase that failed has its row.
        let _ = run.all(&mut swarm, rounds, seconds, rolling);
        Ok(())
    })?;
    Ok(run.rows)
}

struct Run<'a> {
    workload: &'a Workload,
    size: Size,
    control: Control,
    rows: Vec<Row>,
}

impl Run<'_> {
    fn all(&mut self, swarm: &mut Swarm, rounds: u32, seconds: u32, rolling: bool) -> Option<()> {
        self.in_sync(swarm)?;
        if rounds > 0 {
            self.deliver(swarm, rounds)?;
        }
        if seconds > 0 {
            self.keep_up(swarm, seconds)?;
        }
        if rolling {
            let result = self.roll(swarm);
            self.row("rolling restart, until all are in sync again", result)?;
            let result = self.spread(swarm);
            self.row("after it, until clients are spread evenly again", result)?;
        }
        Some(())
    }

    fn row(&mut self, phase: &'static str, result: Result<Measured>) -> Option<Measured> {
        let found = result.as_ref().ok().cloned();
        self.rows.push(Row {
            row: self.workload.row().to_owned(),
            workload: self.workload.title.clone(),
            phase: phase.to_owned(),
            daemon: Program::Typha.name().to_owned(),
            result: result.map_err(|e| format!("{e:#}")),
        });
        found
    }

    fn clients(&self) -> u64 {
        self.workload.senders.into()
    }

    /// What all typhas used so far.
    fn usage(&self) -> Result<Usage> {
        usage_of(self.control.typhas.iter().filter_map(tortie_tests::lab::Daemon::pid))
    }

    /// What typhas used while something was done.
    fn spent<T>(&self, swarm: &mut Swarm, work: impl FnOnce(&mut Swarm) -> Result<T>) -> Result<(Measured, T)> {
        let before = self.usage()?.cpu;
        let (start, cpu, batches) = (Instant::now(), own_cpu(), swarm.batches);
        let done = work(swarm)?;
        let timing = Timing {
            wall: start.elapsed(),
            own_cpu: own_cpu().saturating_sub(cpu),
            updates: swarm.batches - batches,
        };
        Ok((measured(self.usage()?, before, timing), done))
    }

    fn in_sync(&mut self, swarm: &mut Swarm) -> Option<()> {
        let spent = self.spent(swarm, |swarm| {
            swarm.work("all in sync", |s| Ok(s.behind() == 0))?;
            let (snapshots, _) = self.control.encoded(0)?;
            let once = self.control.typhas.len() > 1 || snapshots == 1;
            ensure!(once, "the snapshot was encoded {snapshots} times");
            Ok(())
        });
        let (documents, octets) = self.control.documents;
        let clients = self.clients();
        let result = spent.map(|(m, ())| Measured {
            note: format!(
                "{documents} documents of {:.1} MB, encoded once; each client read {:.2} MB and cost {:.2} ms of CPU time; {:.1} MB \
                 resident at the end",
                octets as f64 / 1e6,
                swarm.octets as f64 / clients as f64 / 1e6,
                1e3 * m.cpu.as_secs_f64() / clients as f64,
                m.resident_kb as f64 * 1024.0 / 1e6,
            ),
            ..m
        });
        self.row("all in sync", result).map(drop)
    }

    /// One document changes again and again; each time it is waited until all have it.
    fn deliver(&mut self, swarm: &mut Swarm, rounds: u32) -> Option<()> {
        let socket = self.control.socket(0);
        let nodes = self.size.nodes;
        let result = self.spent(swarm, |swarm| {
            let (mut each, mut last, mut writes) = (Vec::new(), Vec::new(), Vec::new());
            let (_, encoded) = self.control.encoded(0)?;
            for round in 0..rounds {
                let written = one(&socket, nodes, round, swarm)?;
                writes.push(written.answered.saturating_duration_since(written.asked));
                swarm.expect(written.revision);
                let mut arrived = None;
                swarm.work("one update", |s| {
                    arrived = s.arrived(written.revision);
                    Ok(arrived.is_some())
                })?;
                let times = arrived.unwrap_or_default();
                let waited = times.iter().map(|t| t.saturating_duration_since(written.asked));
                let waited: Vec<Duration> = waited.collect();
                last.extend(waited.iter().max().copied());
                each.extend(waited);
                swarm.idle(APART)?;
            }
            let encoded = self.control.encoded(0)?.1 - encoded;
            ensure!(
                encoded <= rounds.into(),
                "{rounds} updates were encoded {encoded} times"
            );
            Ok((each, last, writes))
        });
        let (sum, (mut each, mut last, mut writes)) = match result {
            Ok(found) => found,
            Err(e) => return self.row("one update, to one client, p50", Err(e)).map(drop),
        };
        let note = format!(
            "{} deliveries of {rounds} updates, from the write's beginning; worst {}; the writes alone were answered after {} (p50), \
             {} (p99); CPU time of all",
            each.len(),
            time(percentile(&mut each, 1.0)),
            time(percentile(&mut writes, 0.5)),
            time(percentile(&mut writes, 0.99)),
        );
        let of = |wall, note: &str| {
            Ok(Measured {
                wall,
                note: note.to_owned(),
                ..sum.clone()
            })
        };
        self.row("one update, to one client, p50", of(percentile(&mut each, 0.5), &note))?;
        self.row("one update, to one client, p99", of(percentile(&mut each, 0.99), ""))?;
        self.row("one update, to all clients, p50", of(percentile(&mut last, 0.5), ""))
            .map(drop)
    }

    /// Many writes, one after the other; how far behind the last of the clients is.
    fn keep_up(&mut self, swarm: &mut Swarm, seconds: u32) -> Option<()> {
        let socket = self.control.socket(0);
        let nodes = self.size.nodes;
        let octets = swarm.octets;
        let result = self.spent(swarm, |swarm| {
            let (written, thread) = writes(
                &socket,
                Load {
                    per_second: RATE,
                    count: RATE * seconds,
                    first: FIRST,
                    nodes,
                },
            )?;
            let (mut missed, mut lags, mut ended) = (Vec::<Written>::new(), Vec::new(), false);
            let (_, encoded) = self.control.encoded(0)?;
            let mut count = 0;
            swarm.work("all keep up", |swarm| {
                loop {
                    match written.try_recv() {
                        Ok(done) => {
                            missed.push(done?);
                            count += 1;
                        }
                        Err(std::sync::mpsc::TryRecvError::Empty) => break,
                        Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                            ended = true;
                            break;
                        }
                    }
                }
                let oldest = swarm.oldest();
                missed.retain(|w| w.revision > oldest);
                let first = missed.iter().map(|w| w.asked).min();
                let lag = first.map_or(Duration::ZERO, |asked| asked.elapsed());
                ensure!(lag < PATIENCE, "a client lacks what was written {} ago", time(lag));
                lags.push(lag);
                Ok(ended && missed.is_empty())
            })?;
            ensure!(thread.join().is_ok(), "the writer failed");
            let encoded = self.control.encoded(0)?.1 - encoded;
            ensure!(encoded <= count, "{count} updates were encoded {encoded} times");
            Ok((count, encoded, lags))
        });
        let clients = self.clients();
        let result = result.map(|(m, (count, encoded, mut lags))| Measured {
            note: format!(
                "{count} writes, {:.0} a second, in {encoded} batches, each encoded once; the last of the clients was behind by {} (p50), {} (p99), {} (worst); \
                 CPU share {:.0} %; {:.2} kB a second to each client",
                count as f64 / m.wall.as_secs_f64(),
                time(percentile(&mut lags, 0.5)),
                time(percentile(&mut lags, 0.99)),
                time(percentile(&mut lags, 1.0)),
                100.0 * m.cpu.as_secs_f64() / m.wall.as_secs_f64(),
                (swarm.octets - octets) as f64 / 1e3 / clients as f64 / m.wall.as_secs_f64(),
            ),
            ..m
        });
        self.row("200 updates a second, until all have all", result).map(drop)
    }

    /// Clients move until no typha has far more than the others: a fifth more than the mean, and 50.
    fn spread(&self, swarm: &mut Swarm) -> Result<Measured> {
        let near = (self.clients() as usize).div_ceil(TYPHAS) * 6 / 5 + 50;
        let (first, octets, snapshots) = (swarm.spread(), swarm.octets, swarm.snapshots);
        let (measured, ()) = self.spent(swarm, |swarm| {
            swarm.work("clients spread evenly", |s| {
                Ok(s.behind() == 0 && s.spread().iter().all(|clients| *clients <= near))
            })
        })?;
        let snapshots = swarm.snapshots - snapshots;
        ensure!(snapshots == 0, "{snapshots} snapshots were sent to clients that moved");
        Ok(Measured {
            note: format!(
                "clients of each typha at first {first:?}, in the end {:?}; {:.2} MB were sent, no snapshot",
                swarm.spread(),
                (swarm.octets - octets) as f64 / 1e6,
            ),
            ..measured
        })
    }

    /// Each of the typhas is ended and started; the next one follows when all clients are in sync.
    fn roll(&mut self, swarm: &mut Swarm) -> Result<Measured> {
        let full = swarm.octets;
        let (start, cpu, used_before) = (Instant::now(), own_cpu(), self.usage()?.cpu);
        let (octets, snapshots, batches) = (swarm.octets, swarm.snapshots, swarm.batches);
        let mut used = Duration::ZERO;
        let (mut peak_kb, mut killed) = (0, 0);
        for n in 0..self.control.typhas.len() {
            let before = usage_of(self.control.typhas[n].pid())?;
            (used, peak_kb) = (used + before.cpu, peak_kb.max(before.peak_kb));
            self.control.end(n)?;
            let typha = &mut self.control.typhas[n];
            let told = Instant::now();
            let mut ended = false;
            swarm.work("a typha's end", |_| {
                ended = typha.check().is_err();
                Ok(ended || told.elapsed() > LEAVE)
            })?;
            killed += u32::from(!ended);
            typha.kill()?;
            typha.start_again()?;
            self.control.serves(n)?;
            swarm.work("all in sync again", |s| Ok(s.behind() == 0))?;
        }
        let timing = Timing {
            wall: start.elapsed(),
            own_cpu: own_cpu().saturating_sub(cpu),
            updates: swarm.batches - batches,
        };
        let now = self.usage()?;
        let again = (swarm.octets - octets) as f64 / full as f64;
        let used = (used + now.cpu).saturating_sub(used_before);
        Ok(Measured {
            cpu: used,
            peak_kb: peak_kb.max(now.peak_kb / TYPHAS as u64),
            again: Some(again),
            note: format!(
                "{:.2} MB were sent to all {} clients, {:.2} % of their full snapshots; {} snapshots; clients of each \
                 typha in the end: {:?}; {killed} had to be killed; peak memory of one typha",
                (swarm.octets - octets) as f64 / 1e6,
                self.clients(),
                100.0 * again,
                swarm.snapshots - snapshots,
                swarm.spread()
            ),
            ..measured(now, Duration::ZERO, timing)
        })
    }
}

/// One write, while the clients are served.
fn one(socket: &std::path::Path, nodes: u32, first: u32, swarm: &mut Swarm) -> Result<Written> {
    let load = Load {
        per_second: 1,
        count: 1,
        first,
        nodes,
    };
    let (written, thread) = writes(socket, load)?;
    let mut done = None;
    swarm.work("a write", |_| {
        done = written.try_recv().ok();
        Ok(done.is_some())
    })?;
    ensure!(thread.join().is_ok(), "the writer failed");
    done.context("a write")?
}
