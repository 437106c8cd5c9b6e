//! Collects the facts. Thin: it asks, and decides nothing.

mod bird;
mod cluster;
mod felix;
mod kernel;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use tortie_kit::address::{ServiceAddr, Target};
use tortie_net::Prefix;

use super::args::{At, ExplainArgs};
use super::facts::{ClusterFacts, Fact, Facts, NodeFacts, Subject, TyphaFacts};
use crate::cli::Usage;
use crate::store::connect;

/// How long each of those who are asked may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whom to ask about a node.
#[derive(Debug, Default)]
struct Sources {
    bird: Option<ServiceAddr>,
    felix: Option<ServiceAddr>,
    /// `Some(None)`: the namespace that this program runs in.
    kernel: Option<Option<PathBuf>>,
}

/// What is looked for.
#[derive(Debug, Clone)]
struct Wanted {
    /// The address; of a prefix its first.
    address: IpAddr,
    /// Prefixes under which it may travel.
    prefixes: BTreeSet<Prefix>,
    /// BGP addresses of nodes: what is announced to these is asked for.
    nodes: BTreeSet<IpAddr>,
}

/// Everything about each address that the subject stands for: one, or those of a pod.
///
/// # Errors
/// A subject that is nothing, and sockets of which it is not known whose they are.
pub(super) async fn collect(typha: Option<Target>, args: &ExplainArgs) -> Result<Vec<Facts>> {
    let named = Named::parse(&args.subject)?;
    let (typha, cluster) = stored(typha, &named).await;
    let sources = sources(args, cluster.known()).await?;
    let subjects = match (&named, cluster.known()) {
        (Named::Net(net), _) => vec![Subject::Net(*net)],
        (Named::Pod(pod), Some(cluster)) => of_pod(pod, cluster),
        (Named::Pod(pod), None) => vec![Subject::LostPod(pod.clone())],
    };
    let mut all = Vec::new();
    for subject in subjects {
        let nodes = match &subject {
            Subject::Net(net) => nodes(&sources, &wanted(*net, cluster.known(), &sources)).await,
            Subject::LostPod(_) => sources.keys().map(|n| (n.clone(), NodeFacts::default())).collect(),
        };
        let from = match &args.node {
            Some(node) => vec![node.clone()],
            None => nodes.keys().cloned().collect(),
        };
        all.push(Facts {
            subject,
            from,
            typha: typha.clone(),
            cluster: cluster.clone(),
            nodes,
        });
    }
    Ok(all)
}

/// What the command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Net(Prefix),
    /// `namespace/name`.
    Pod(String),
}

impl Named {
    fn parse(text: &str) -> Result<Named> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Named::Net(Prefix::host(ip)));
        }
        if let Ok((address, _)) = Prefix::parse_with_address(text) {
            return text
                .parse()
                .map(Named::Net)
                .map_err(|e| Usage::error(format!("{text}: {e} (to ask about {address}, leave the length out)")));
        }
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        if namespace.is_empty() || name.is_empty() || name.contains('/') {
            return Err(Usage::error(format!("'{text}' is no address, no prefix and no pod")));
        }
        Ok(Named::Pod(format!("{namespace}/{name}")))
    }
}

async fn stored(typha: Option<Target>, named: &Named) -> (Fact<TyphaFacts>, Fact<ClusterFacts>) {
    let Ok(store) = connect(typha) else {
        return (Fact::NotAsked, Fact::NotAsked);
    };
    let store = store.with_timeout(PATIENCE);
    let typha = match store.status().await {
        Ok(status) => Fact::Known(TyphaFacts {
            revision: status.revision,
            stale: status.stale,
        }),
        Err(e) => return (Fact::Failed(e.to_string()), Fact::Failed(e.to_string())),
    };
    match cluster::read(&store, named).await {
        Ok(cluster) => (typha, Fact::Known(cluster)),
        Err(e) => (typha, Fact::Failed(format!("{e:#}"))),
    }
}

fn of_pod(pod: &str, cluster: &ClusterFacts) -> Vec<Subject> {
    let its = cluster.endpoints.iter().filter(|e| e.name == pod);
    let nets: BTreeSet<Prefix> = its.flat_map(|e| e.addresses.iter().copied()).collect();
    if nets.is_empty() {
        return vec![Subject::LostPod(pod.to_owned())];
    }
    nets.into_iter().map(Subject::Net).collect()
}

fn wanted(net: Prefix, cluster: Option<&ClusterFacts>, sources: &BTreeMap<String, Sources>) -> Wanted {
    let blocks = cluster.into_iter().flat_map(|c| c.blocks.iter().map(|b| b.cidr));
    let claims = cluster.into_iter().flat_map(|c| c.affinities.iter().map(|a| a.block));
    let service = cluster.and_then(|c| c.service_network(net)).map(|s| s.cidr);
    let covering = blocks.chain(claims).filter(|b| b.covers(net)).chain(service);
    let involved = |name: &&String| sources.contains_key(*name);
    let nodes = cluster
        .into_iter()
        .flat_map(|c| c.nodes.keys().filter(involved).map(|n| c.addresses(n)));
    Wanted {
        address: net.addr(),
        prefixes: covering.chain([net]).collect(),
        nodes: nodes.flatten().collect(),
    }
}

/// Whom to ask, by node.
async fn sources(args: &ExplainArgs, cluster: Option<&ClusterFacts>) -> Result<BTreeMap<String, Sources>> {
    fn local<T>(all: &[At<T>]) -> Result<Option<&T>> {
        let mut of_here = all.iter().filter(|a| a.node.is_none());
        match (of_here.next(), of_here.next()) {
            (Some(_), Some(_)) => Err(Usage::error("two sockets of this node: say NODE=ADDR")),
            (first, _) => Ok(first.map(|a| &a.what)),
        }
    }
    let mut sources: BTreeMap<String, Sources> = BTreeMap::new();
    let (bird, felix) = (local(&args.bird)?, local(&args.felix)?);
    if bird.is_some() || felix.is_some() {
        let here = sources.entry(this_node(bird, felix, cluster).await?).or_default();
        (here.bird, here.felix, here.kernel) = (bird.cloned(), felix.cloned(), Some(None));
    }
    for (at, node) in args.bird.iter().filter_map(|at| Some((at, at.node.clone()?))) {
        sources.entry(node).or_default().bird = Some(at.what.clone());
    }
    for (at, node) in args.felix.iter().filter_map(|at| Some((at, at.node.clone()?))) {
        sources.entry(node).or_default().felix = Some(at.what.clone());
    }
    for (at, node) in args.netns.iter().filter_map(|at| Some((at, at.node.clone()?))) {
        sources.entry(node).or_default().kernel = Some(Some(at.what.clone()));
    }
    Ok(sources)
}

/// The name of the node that this program runs on: felix knows it, bird-rs has its address for an id, and the host may
/// be called so.
async fn this_node(
    bird: Option<&ServiceAddr>,
    felix: Option<&ServiceAddr>,
    cluster: Option<&ClusterFacts>,
) -> Result<String> {
    if let Some(felix) = felix
        && let Ok(name) = felix::name(felix).await
    {
        return Ok(name);
    }
    if let Some(bird) = bird
        && let Ok(id) = bird::router_id(bird).await
        && let Some(node) = cluster.and_then(|c| c.node_at(id))
    {
        return Ok(node.to_owned());
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().to_ascii_lowercase();
    match cluster.is_none_or(|c| c.nodes.contains_key(&host)) && !host.is_empty() {
        true => Ok(host),
        false => Err(Usage::error(
            "which node is this? say --bird NODE=ADDR and --felix NODE=ADDR",
        )),
    }
}

async fn nodes(sources: &BTreeMap<String, Sources>, wanted: &Wanted) -> BTreeMap<String, NodeFacts> {
    let mut nodes = BTreeMap::new();
    for (name, from) in sources {
        let mut facts = NodeFacts::default();
        if let Some(addr) = &from.bird {
            facts.bird = fact(bird::ask(addr, wanted).await);
        }
        if let Some(addr) = &from.felix {
            facts.felix = fact(felix::ask(addr, wanted).await);
        }
        if let Some(namespace) = &from.kernel {
            facts.kernel = fact(kernel::ask(namespace.as_deref(), wanted.address));
        }
        nodes.insert(name.clone(), facts);
    }
    watch_signatures(sources, &mut nodes).await;
    nodes
}

/// A session that nobody answers may have another password: the kernels say so while the peers go on trying.
async fn watch_signatures(sources: &BTreeMap<String, Sources>, nodes: &mut BTreeMap<String, NodeFacts>) {
    let unanswered = |n: &NodeFacts| {
        n.bird
            .known()
            .is_some_and(|b| b.sessions.iter().any(super::facts::Session::is_unanswered))
    };
    if !nodes.values().any(unanswered) {
        return;
    }
    let watched: Vec<(&String, Option<&std::path::Path>)> = sources
        .iter()
        .filter_map(|(name, s)| Some((name, s.kernel.as_ref()?.as_deref())))
        .collect();
    for name in kernel::bad_signatures(&watched).await {
        if let Some(NodeFacts {
            kernel: Fact::Known(kernel),
            ..
        }) = nodes.get_mut(&name)
        {
            kernel.bad_signatures = true;
        }
    }
}

fn fact<T>(answer: Result<T>) -> Fact<T> {
    match answer {
        Ok(known) => Fact::Known(known),
        Err(e) => Fact::Failed(format!("{e:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_about() {
        let net = |s: &str| Named::Net(s.parse().unwrap());
        let pod = |s: &str| Named::Pod(s.to_owned());
        for (text, named) in [
            ("10.0.0.1", net("10.0.0.1/32")),
            ("fd00::1", net("fd00::1/128")),
            ("10.0.0.0/26", net("10.0.0.0/26")),
            ("web/a", pod("web/a")),
            ("a", pod("default/a")),
        ] {
            assert_eq!(Named::parse(text).unwrap(), named);
        }
        for wrong in ["10.0.0.1/26", "a/b/c", "", "/a", "a/"] {
            assert!(Named::parse(wrong).unwrap_err().is::<Usage>(), "{wrong}");
        }
    }
}
