//! `tortiectl node init`: run on a node before its daemons, and again whenever they start.
//!
//! It finds the node's addresses, registers its Node, creates the cluster's first pools, gets addresses for the tunnels
//! that pools ask for, and says what of the host stands in the way. A second run changes nothing.
//!
//! [`autodetect`], [`register`], [`pools`] and [`prerequisites`] are pure; [`host`] reads the host; this module does the
//! steps in order: everything is decided before the first write.

mod args;
mod autodetect;
mod host;
mod pools;
mod prerequisites;
mod register;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::Serialize;
use tortie_ipam::{IpFamily, Tunnel};
use tortie_ipam_client::{cluster, tunnel};
use tortie_kit::address::Target;
use tortie_model::resource::{IpPool, Node, NodeAddressType};
use tortie_model::{Key, Kind, Object};
use tortie_net::NodeName;
use tortie_typha_client::{Store, StoreError};

pub(crate) use args::NodeInitArgs;
use autodetect::{Hints, Interface, Method};
use register::{FamilyWish, Remarks, Wish};

use crate::output::{say, warn};
use crate::store::{connect, short_name};

/// How often a write is tried anew when somebody else changed the object meanwhile.
const ATTEMPTS: u32 = 5;

/// What is to be written.
struct Decided {
    node: Node,
    /// Of the Node there is.
    revision: Option<u64>,
    changed: bool,
    remarks: Remarks,
}

/// `tortiectl node init`.
pub(crate) async fn init(typha: Option<Target>, args: &NodeInitArgs) -> Result<()> {
    let store = connect(typha)?;
    let name = match &args.node {
        Some(name) => name.clone(),
        None => host::name()?
            .parse::<NodeName>()
            .context("the host's name is no node's name: say --node")?,
    };
    let interfaces = host::interfaces()?;
    let decided = decide(&store, &name, args, &interfaces).await?;
    let families = families(&decided.node);
    let existing = cluster::pools(&store).await?;
    let networks = host::networks(&interfaces);
    let new = pools::missing(&existing, &args.pools, (&families, &networks), host::chance()?)?;
    let all: Vec<IpPool> = existing.iter().chain(&new).cloned().collect();
    decided.remarks.warnings.iter().for_each(|w| warn(w));
    if !args.no_checks {
        prerequisites(&decided.node, &families, (&all, &interfaces))?;
    }
    if args.dry_run {
        return say_plan(&decided, &new);
    }
    let node = register(&store, &name, args, (&interfaces, decided)).await?;
    for pool in &new {
        create_pool(&store, pool).await?;
    }
    tunnels(&store, &name).await?;
    if let Some(file) = &args.nodename_file {
        tortie_kit::file::write_atomic(file, name.as_str().as_bytes(), 0o644)?;
    }
    nobody_else(&store, &node, args).await
}

/// The families the node has an address of.
fn families(node: &Node) -> Vec<IpFamily> {
    let family = |a: std::net::IpAddr| if a.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 };
    node.spec.bgp_addresses().map(family).collect()
}

async fn decide(store: &Store, name: &NodeName, args: &NodeInitArgs, interfaces: &[Interface]) -> Result<Decided> {
    let key = Key::resource(Kind::Node, None, name.as_str());
    let old = match cluster::object(store, &key).await? {
        Some((Object::Node(node), revision)) => Some((*node, revision)),
        _ => None,
    };
    let others = match args.no_conflict_check {
        true => Vec::new(),
        false => cluster::nodes(store).await?,
    };
    let wish = wish(name, args, old.as_ref().map(|(node, _)| node));
    let (node, remarks) = register::plan(old.as_ref().map(|(node, _)| node), &others, &wish, interfaces)?;
    Ok(Decided {
        changed: old.as_ref().is_none_or(|(old, _)| *old != node),
        revision: old.map(|(_, revision)| revision),
        node,
        remarks,
    })
}

fn wish(name: &NodeName, args: &NodeInitArgs, old: Option<&Node>) -> Wish {
    let family = |family, wanted, method: &Method| FamilyWish {
        family,
        wanted,
        method: method.clone(),
        hints: Hints {
            source: match method {
                Method::CanReach(host) => host::source_towards(host, family),
                Method::FirstFound
                | Method::Interface(_)
                | Method::SkipInterface(_)
                | Method::Cidr(_)
                | Method::KubernetesInternalIp => None,
            },
            internal: internal(args, old),
        },
    };
    Wish {
        name: name.to_string(),
        families: [
            family(IpFamily::V4, args.ip, &args.ip_autodetection_method),
            family(IpFamily::V6, args.ip6, &args.ip6_autodetection_method),
        ],
        change_address: args.change_address,
        conflict_check: !args.no_conflict_check,
        asn: args.asn,
        cluster_id: args.route_reflector_cluster_id,
        k8s_node: args.k8s_node.clone(),
    }
}

/// What the orchestrator calls internal: as it was said here, else as the Node has it.
fn internal(args: &NodeInitArgs, old: Option<&Node>) -> Vec<std::net::IpAddr> {
    if !args.internal_ip.is_empty() {
        return args.internal_ip.clone();
    }
    let known = old.iter().flat_map(|n| &n.spec.addresses);
    let internal = known.filter(|a| a.kind == Some(NodeAddressType::InternalIp));
    let address = |text: &str| text.split('/').next().and_then(|a| a.parse().ok());
    internal.filter_map(|a| address(&a.address)).collect()
}

/// Says what is wrong with the host, and fails when the node would not work.
fn prerequisites(node: &Node, families: &[IpFamily], (pools, interfaces): (&[IpPool], &[Interface])) -> Result<()> {
    let address = node.spec.bgp.as_ref().and_then(|b| b.ipv4_address);
    let interface = address.and_then(|a| autodetect::find(interfaces, a.addr));
    let facts = host::facts(families, interface.as_ref().map(|c| c.interface.as_str()))?;
    let findings = prerequisites::check(&facts, pools);
    let (fatal, others): (Vec<_>, Vec<_>) = findings.iter().partition(|f| f.fatal);
    others.iter().for_each(|f| warn(&f.to_string()));
    if fatal.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = fatal.iter().map(ToString::to_string).collect();
    bail!("this host cannot be a node, nothing was changed\n{}", lines.join("\n"))
}

fn say_plan(decided: &Decided, new: &[IpPool]) -> Result<()> {
    decided.remarks.notes.iter().try_for_each(|n| say(n))?;
    say(&format!(
        "{} {} (dry run)",
        short_name(&decided.node.key()),
        outcome(decided)
    ))?;
    new.iter()
        .try_for_each(|p| say(&format!("{} {} created (dry run)", short_name(&p.key()), p.spec.cidr)))
}

fn outcome(decided: &Decided) -> &'static str {
    match (decided.revision, decided.changed) {
        (None, _) => "created",
        (Some(_), true) => "configured",
        (Some(_), false) => "unchanged",
    }
}

fn json<T: Serialize>(of: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(of).context("cannot encode")
}

/// Writes the Node; decides anew when somebody else wrote it meanwhile.
async fn register(
    store: &Store,
    name: &NodeName,
    args: &NodeInitArgs,
    (interfaces, first): (&[Interface], Decided),
) -> Result<Node> {
    let mut decided = first;
    for _ in 0..ATTEMPTS {
        let key = decided.node.key();
        let text = key.to_string();
        let written = match decided.revision {
            _ if !decided.changed => Ok(()),
            None => store.create(&text, json(&decided.node)?).await.map(|_| ()),
            Some(revision) => store.update(&text, json(&decided.node)?, revision).await.map(|_| ()),
        };
        match written {
            Ok(()) => {
                decided.remarks.notes.iter().try_for_each(|n| say(n))?;
                say(&format!("{} {}", short_name(&key), outcome(&decided)))?;
                return Ok(decided.node);
            }
            Err(StoreError::Conflict(_) | StoreError::AlreadyExists(_) | StoreError::NotFound(_)) => {
                decided = decide(store, name, args, interfaces).await?;
            }
            Err(e) => return Err(e.into()),
        }
    }
    bail!("Node({name}): others change it all the time: gave up after {ATTEMPTS} attempts")
}

async fn create_pool(store: &Store, pool: &IpPool) -> Result<()> {
    let key = pool.key();
    match store.create(&key.to_string(), json(pool)?).await {
        Ok(_) => say(&format!("{} {} created", short_name(&key), pool.spec.cidr)),
        // Another node was faster: its pool is as good.
        Err(StoreError::AlreadyExists(_)) => say(&format!("{} created by another node meanwhile", short_name(&key))),
        Err(e) => Err(e).with_context(|| short_name(&key)),
    }
}

/// Addresses of the tunnel devices that the cluster's pools ask for.
async fn tunnels(store: &Store, name: &NodeName) -> Result<()> {
    let pools = cluster::pools(store).await?;
    let setting = cluster::setting(store, name.clone(), Timestamp::now()).await?;
    for of in Tunnel::ALL {
        let kept = tunnel::keep(store, &setting, &pools, of)
            .await
            .with_context(|| format!("Node({name}) {}", of.field()))?;
        if let tunnel::Kept::Changed { to, .. } = kept {
            let shown = to.map_or_else(|| "none: no pool asks for it".to_owned(), |ip| ip.to_string());
            say(&format!("{} {shown}", of.field()))?;
        }
    }
    Ok(())
}

/// Two nodes that registered the same address at the same moment both see it here, if not before.
async fn nobody_else(store: &Store, node: &Node, args: &NodeInitArgs) -> Result<()> {
    if args.no_conflict_check {
        return Ok(());
    }
    let nodes = cluster::nodes(store).await?;
    for address in node.spec.bgp_addresses() {
        if let Some(other) = register::claimant(&nodes, node.name(), address) {
            bail!(
                "Node({other}) was given address {address} at the same moment: give one of the two another one (--ip)"
            );
        }
    }
    Ok(())
}
