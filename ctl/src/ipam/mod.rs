//! ipam: who has which address, what does not agree, and giving back what was lost, as in calicoctl.

mod check;
mod json;
mod report;
mod split;
pub(crate) mod view;

use std::net::IpAddr;

use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;
use tortie_ipam::{Plan, Setting, release_address, release_handle};
use tortie_ipam_client::{cluster, drive};
use tortie_kit::address::Target;
use tortie_model::ipam::IpamConfig;
use tortie_model::{Key, Object, Owner};
use tortie_typha_client::{Store, StoreError};

use crate::cli::{
    IpamCheckArgs, IpamCommand, IpamConfigureArgs, IpamReleaseArgs, IpamShowArgs, IpamShown, TextFormat, Usage,
};
use crate::output::say;
use crate::store::connect;
use crate::table;

use view::{Allocation, Cluster};

/// How often a configuration that others change meanwhile is written anew.
const ATTEMPTS: usize = 5;

/// `tortiectl ipam ...`.
pub(crate) async fn run(typha: Option<Target>, command: &IpamCommand) -> Result<()> {
    let store = connect(typha)?;
    match command {
        IpamCommand::Show(args) => show(&Cluster::read(&store).await?, args),
        IpamCommand::Check(args) => check(&Cluster::read(&store).await?, args),
        IpamCommand::Split(args) => split::split(&store, args).await,
        IpamCommand::Release(args) => release(&store, args).await,
        IpamCommand::Configure(args) => configure(&store, args).await,
    }
}

fn show(cluster: &Cluster, args: &IpamShowArgs) -> Result<()> {
    if args.output == TextFormat::Json {
        return say(&format!("{:#}", json::shown(cluster, &args.what)));
    }
    match args.what {
        IpamShown { ip: Some(ip), .. } => say(&address(cluster, ip)),
        IpamShown {
            show_borrowed: true, ..
        } => say(&borrowed(cluster)),
        IpamShown {
            show_configuration: true,
            ..
        } => say(&configuration(&cluster.config)),
        IpamShown { show_blocks, .. } => say(&utilization(cluster, show_blocks)),
    }
}

/// What an address is used for.
fn address(cluster: &Cluster, ip: IpAddr) -> String {
    let Some(allocation) = cluster.allocation(ip) else {
        let pooled = cluster.pools.iter().any(|p| p.spec.cidr.contains(ip));
        let outside = if pooled { "" } else { " and is in no IP pool" };
        return format!("IP {ip} is not assigned{outside}");
    };
    if allocation.is_cooling() {
        let since = allocation.attribute.released_at.as_deref().unwrap_or_default();
        return format!("IP {ip} is not assigned: it was released at {since} and cools down");
    }
    let mut lines = vec![format!("IP {ip} is in use")];
    if let Some(handle) = &allocation.attribute.handle_id {
        lines.push(format!("Handle ID: {handle}"));
    }
    let said = allocation.attribute.secondary.iter().flatten();
    let said: Vec<String> = said.map(|(name, value)| format!("  {name}: {value}")).collect();
    if !said.is_empty() {
        lines.push("Attributes:".to_owned());
        lines.extend(said);
    }
    let users = cluster.users.get(&ip).into_iter().flatten();
    lines.extend(users.map(|who| format!("Used by: {who}")));
    lines.join("\n")
}

fn utilization(cluster: &Cluster, with_blocks: bool) -> String {
    let header = [
        "GROUPING",
        "CIDR",
        "IPS TOTAL",
        "IPS IN USE",
        "IPS RESERVED",
        "IPS FREE",
    ];
    let row = |grouping: &str, cidr, cells: [String; 4]| {
        let mut row = vec![grouping.to_owned(), cidr];
        row.extend(cells);
        row
    };
    let mut rows = Vec::new();
    let block_row = |block: &tortie_model::ipam::Block| {
        let usage = cluster.usage(block.cidr, [block].into_iter());
        row("Block", block.cidr.to_string(), usage.cells())
    };
    for pool in &cluster.pools {
        let cidr = pool.spec.cidr;
        let its = || cluster.blocks.iter().filter(move |b| cidr.covers(b.cidr));
        rows.push(row("IP Pool", cidr.to_string(), cluster.usage(cidr, its()).cells()));
        if with_blocks {
            rows.extend(its().map(block_row));
        }
    }
    let in_pool = |b: &tortie_model::ipam::Block| cluster.pools.iter().any(|p| p.spec.cidr.covers(b.cidr));
    for orphan in cluster.blocks.iter().filter(|b| !in_pool(b)) {
        let usage = cluster.usage(orphan.cidr, [orphan].into_iter());
        rows.push(row("Orphaned block", orphan.cidr.to_string(), usage.cells()));
    }
    table::framed(&header, &rows)
}

/// Addresses that nodes have of others' blocks.
fn borrowed(cluster: &Cluster) -> String {
    let header = ["IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED-TO"];
    let rows: Vec<_> = cluster.allocated().filter_map(|a| Some(loan(a)?.to_vec())).collect();
    table::framed(&header, &rows)
}

/// An address that another node than its block's owner has: itself, that node, the block, its owner, what it is for, whose.
fn loan(a: Allocation<'_>) -> Option<[String; 6]> {
    let node = a.said("node")?;
    let owner = match a.block.affinity.as_ref()? {
        Owner::Host(owner) if owner.as_str() != node => owner.to_string(),
        Owner::Host(_) | Owner::Virtual(_) => return None,
    };
    let kind = match (a.said("type"), a.said("pod")) {
        (Some(kind), _) => kind,
        (None, Some(_)) => "pod",
        (None, None) => "",
    };
    Some([
        a.ip.to_string(),
        node.to_owned(),
        a.block.cidr.to_string(),
        owner,
        kind.to_owned(),
        a.whose(),
    ])
}

fn configuration(config: &IpamConfig) -> String {
    let rows = [
        ("StrictAffinity", config.strict_affinity.to_string()),
        ("AutoAllocateBlocks", config.auto_allocate_blocks.to_string()),
        ("MaxBlocksPerHost", config.max_blocks_per_host.to_string()),
        ("IPCooldownSeconds", config.ip_cooldown_seconds.to_string()),
    ];
    let rows: Vec<Vec<String>> = rows.map(|(name, value)| vec![name.to_owned(), value]).to_vec();
    table::framed(&["PROPERTY", "VALUE"], &rows)
}

fn check(cluster: &Cluster, args: &IpamCheckArgs) -> Result<()> {
    let listed = check::Listed {
        all: args.show_all_ips,
        problems: args.show_problem_ips,
    };
    say(&check::check(cluster, listed).join("\n"))?;
    match &args.output {
        Some(file) => report::write(cluster, file),
        None => Ok(()),
    }
}

async fn release(store: &Store, args: &IpamReleaseArgs) -> Result<()> {
    let cluster = Cluster::read(store).await?;
    let setting = cluster::setting(store, "tortiectl".parse()?, Timestamp::now()).await?;
    if !args.from_report.is_empty() {
        return report::release(store, (&cluster, setting), &args.from_report, args.force).await;
    }
    match (&args.ip, &args.handle) {
        (Some(ip), _) => release_ip(store, &cluster, setting, (*ip, args.force)).await,
        (None, Some(handle)) => release_by_handle(store, &cluster, setting, (handle, args.force)).await,
        (None, None) => Err(Usage::error(
            "nothing named: use --ip IP or --handle ID or --from-report FILE",
        )),
    }
}

/// Somebody who has the address would go on using it, and the next one gets it too.
fn nobody_uses(cluster: &Cluster, ips: &[IpAddr], force: bool) -> Result<()> {
    let used = ips.iter().find_map(|ip| Some((ip, cluster.users.get(ip)?.first()?)));
    match used {
        Some((ip, who)) if !force => {
            bail!("IP address {ip} is used by {who}: delete that first, or use --force")
        }
        Some(_) | None => Ok(()),
    }
}

async fn release_ip(store: &Store, cluster: &Cluster, setting: Setting, (ip, force): (IpAddr, bool)) -> Result<()> {
    let allocation = cluster.allocation(ip).filter(|a| !a.is_cooling());
    let allocation = allocation.ok_or_else(|| anyhow!("IP address {ip} is not assigned"))?;
    nobody_uses(cluster, &[ip], force)?;
    // Only while it is still whose it was when it was looked at.
    let whose = allocation.attribute.handle_id.clone();
    let plan = release_address(setting, allocation.block.cidr, ip, whose);
    if drive(store, plan).await? {
        say(&format!("Successfully released IP address {ip}"))
    } else {
        bail!("IP address {ip} is not assigned")
    }
}

async fn release_by_handle(
    store: &Store,
    cluster: &Cluster,
    setting: Setting,
    (handle, force): (&str, bool),
) -> Result<()> {
    if !cluster.handles.contains_key(handle) {
        bail!("there is no handle {}", handle.escape_debug());
    }
    let its = cluster
        .allocated()
        .filter(|a| a.attribute.handle_id.as_deref() == Some(handle));
    let ips: Vec<IpAddr> = its.map(|a| a.ip).collect();
    nobody_uses(cluster, &ips, force)?;
    let plan: Plan<_> = release_handle(setting, handle.to_owned());
    for ip in drive(store, plan).await? {
        say(&format!("Successfully released IP address {ip}"))?;
    }
    say(&format!("Successfully released handle {handle}"))
}

async fn configure(store: &Store, args: &IpamConfigureArgs) -> Result<()> {
    if *args == IpamConfigureArgs::default() {
        return Err(Usage::error(
            "nothing to configure: use --strictaffinity, --max-blocks-per-host or --ip-cooldown-seconds",
        ));
    }
    for _ in 0..ATTEMPTS {
        let stored = cluster::object(store, &Key::IpamConfig).await?;
        let (mut config, revision) = match stored {
            Some((Object::IpamConfig(config), revision)) => (config, Some(revision)),
            Some(_) | None => (IpamConfig::default(), None),
        };
        change(&mut config, args);
        let json = serde_json::to_vec(&config).context("cannot write the configuration")?;
        let key = Key::IpamConfig.to_string();
        let written = match revision {
            Some(revision) => store.update(&key, json, revision).await,
            None => store.create(&key, json).await,
        };
        match written {
            Ok(_) => return changed(args),
            Err(StoreError::Conflict(_) | StoreError::AlreadyExists(_) | StoreError::NotFound(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    bail!("IPAMConfig(default) was changed by others {ATTEMPTS} times while it was being written")
}

fn change(config: &mut IpamConfig, args: &IpamConfigureArgs) {
    config.strict_affinity = args.strict_affinity.unwrap_or(config.strict_affinity);
    config.max_blocks_per_host = args.max_blocks_per_host.unwrap_or(config.max_blocks_per_host);
    config.ip_cooldown_seconds = args.ip_cooldown_seconds.unwrap_or(config.ip_cooldown_seconds);
}

fn changed(args: &IpamConfigureArgs) -> Result<()> {
    let set = [
        ("StrictAffinity", args.strict_affinity.map(|v| v.to_string())),
        ("MaxBlocksPerHost", args.max_blocks_per_host.map(|v| v.to_string())),
        ("IPCooldownSeconds", args.ip_cooldown_seconds.map(|v| v.to_string())),
    ];
    for (name, value) in set {
        if let Some(value) = value {
            say(&format!("Successfully set {name} to: {value}"))?;
        }
    }
    Ok(())
}
