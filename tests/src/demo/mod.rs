//! The demonstration: what a person sees of `make demo`, and what it asserts. The same checks run in `make test`.

mod checks;
mod print;

pub use checks::{Matrix, check_matrix, check_pod, check_routes, matrix};

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::lab::{Add, Cluster, Lab, Pod, Spec, first_reply, stop_left_over, wait_for};

/// The name of the demo's lab: its namespaces begin with it.
pub const NAME: &str = "tortie";

/// How long a route may take from one node to another before the demo calls it broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the user asked for.
#[derive(Debug, Default)]
pub struct Options {
    /// Leave the cluster up at the end.
    pub keep: bool,
}

/// A pod and how long it took to be reachable.
#[derive(Debug)]
pub struct Timed {
    /// The pod.
    pub pod: Pod,
    /// What the plugin took.
    pub add: Duration,
    /// From the start of the plugin to the first answer to another node.
    pub reachable: Duration,
    /// Which node asked.
    pub asked_from: String,
}

/// Brings the cluster up, shows it, proves it and removes it.
///
/// # Errors
/// When anything does not work as it must; everything is removed also then.
pub fn run(options: &Options) -> Result<()> {
    let begin = Instant::now();
    stop_left_over(NAME)?;
    let spec = Spec::demo();
    print::topology(&spec);

    print::heading("Bringing it up");
    let lab = Lab::new(NAME)?;
    let mut cluster = Cluster::start(lab, &spec)?;
    let result = show(&mut cluster, begin);
    finish(cluster, options, begin, result.is_ok());
    result
}

fn show(cluster: &mut Cluster, begin: Instant) -> Result<()> {
    print::step(
        begin,
        "typha, 3 x (felix, confd, bird-rs) and the ToR are started; examples/ is applied",
    );
    cluster.settle()?;
    print::step(begin, "every BGP session is established, every node takes pods");

    let cluster = &*cluster;
    let pods = make_pods(cluster)?;
    print::step(begin, &format!("{} pods made by executing the CNI plugin", pods.len()));
    settle_routes(cluster, &pods)?;

    for node in cluster.nodes() {
        print::heading(&format!("tortiectl node status, on {}", node.name()));
        println!("{}", node.status()?.trim_end());
    }
    for node in cluster.nodes() {
        print::heading(&format!("ip route, on {}", node.name()));
        println!("{}", node.ns().ip(&["route"])?.trim_end());
        check_routes(cluster, node, pods.iter().map(|t| &t.pod))?;
    }
    show_a_pod(&pods)?;

    print::heading("Every pod to every pod, pod to ToR, ToR to pod: TTL on arrival (64 where sent), round trip");
    let all: Vec<&Pod> = pods.iter().map(|t| &t.pod).collect();
    let matrix = matrix(cluster, &all)?;
    print::matrix(&matrix);
    check_matrix(cluster, &all, &matrix)?;
    println!(
        "{} echo requests answered, {} TCP connections whose receiver saw the sender's own address: no NAT.",
        matrix.pings(),
        matrix.connections()
    );

    print::heading("From the CNI ADD to the first answer to another node");
    print::timings(&pods);
    print::heading("What it costs");
    print::usage(cluster)
}

fn make_pods(cluster: &Cluster) -> Result<Vec<Timed>> {
    let names: Vec<String> = cluster.nodes().map(|n| n.name().to_owned()).collect();
    let mut pods = Vec::new();
    for (i, node) in names.iter().enumerate() {
        for app in ["web", "db"] {
            let asked_from = names[(i + 1) % names.len()].clone();
            pods.push(time_pod(
                cluster,
                node,
                &format!("default/{app}-{}", i + 1),
                asked_from,
            )?);
        }
    }
    Ok(pods)
}

/// Attaches a pod and measures until another node reaches it.
///
/// # Errors
/// When the plugin refuses or the pod stays unreachable.
pub fn time_pod(cluster: &Cluster, node: &str, name: &str, asked_from: String) -> Result<Timed> {
    let Add { pod, started, took } = cluster.add_pod(node, name)?;
    let answered = first_reply(cluster.node(&asked_from)?.ns(), pod.ipv4()?, PATIENCE)
        .with_context(|| format!("{} on {node} is not reachable from {asked_from}", pod.name))?;
    Ok(Timed {
        pod,
        add: took,
        reachable: answered - started,
        asked_from,
    })
}

/// Every node and the ToR have learned every block: what was announced a moment ago has arrived everywhere.
fn settle_routes(cluster: &Cluster, pods: &[Timed]) -> Result<()> {
    for node in cluster.nodes() {
        wait_for(&format!("the routes of {}", node.name()), PATIENCE, || {
            check_routes(cluster, node, pods.iter().map(|t| &t.pod))
        })?;
    }
    let Some(tor) = &cluster.tor else { return Ok(()) };
    for timed in pods {
        first_reply(&tor.ns, timed.pod.ipv4()?, PATIENCE)
            .with_context(|| format!("{} is not reachable from the ToR", timed.pod.name))?;
    }
    Ok(())
}

fn show_a_pod(pods: &[Timed]) -> Result<()> {
    for timed in pods {
        check_pod(&timed.pod)?;
    }
    let Some(Timed { pod, .. }) = pods.first() else {
        return Ok(());
    };
    print::heading(&format!("Inside a pod: {} on {}", pod.name, pod.node));
    println!("{}", pod.ns.ip(&["-br", "addr"])?.trim_end());
    println!("{}", pod.ns.ip(&["route"])?.trim_end());
    Ok(())
}

fn finish(mut cluster: Cluster, options: &Options, begin: Instant, proven: bool) {
    if !options.keep {
        drop(cluster);
        let failed = if proven { "" } else { "It failed. " };
        let seconds = begin.elapsed().as_secs_f64();
        println!("\n{failed}All of it is removed again; {seconds:.1} s in all.");
        return;
    }
    print::look_around(&cluster);
    cluster.lab.keep();
    // The processes must outlive this one: their handles are dropped without being killed.
    std::mem::forget(cluster);
}
