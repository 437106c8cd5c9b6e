//! Every node of a large cluster claims its first block at the same moment, at one typha.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use tortie_ipam::{Pool, Setting, Want, auto_assign};
use tortie_ipam_client::drive;
use tortie_typha_client::Store;

use crate::Row;
use crate::plugin::percentile;
use crate::site::Site;

/// All are served within this.
const WITHIN: Duration = Duration::from_secs(10);
/// What one node may wait: above [`WITHIN`], so that a slow row is measured and not cut.
const PATIENCE: Duration = Duration::from_secs(120);

const POOL: &str = "\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: claims}
spec: {cidr: 10.64.0.0/14, blockSize: 26, ipipMode: Never, vxlanMode: Never, natOutgoing: false}
";

pub(crate) fn run(site: &Site, nodes: usize) -> Result<Row> {
    site.cluster.apply(POOL)?;
    let mut row = Row::new(format!(
        "claims: {nodes} nodes take their first address at once from one pool"
    ));
    let mut stores = Vec::with_capacity(nodes);
    for _ in 0..nodes {
        stores.push(site.store()?.with_timeout(PATIENCE));
    }
    let before = site.transactions()?;
    let started = Instant::now();
    let given = site.runtime.block_on(async {
        // Connected before: a node's connection is there when its first pod comes.
        futures::future::try_join_all(stores.iter().map(|s| s.list("/calico/ipam/v2/config"))).await?;
        let started = Instant::now();
        let claims = stores
            .into_iter()
            .enumerate()
            .map(|(n, store)| tokio::spawn(claim(store, n)));
        let mut given = Vec::with_capacity(nodes);
        for claim in futures::future::join_all(claims).await {
            given.push(claim??);
        }
        Ok::<_, anyhow::Error>((given, started.elapsed()))
    });
    let (given, all) = given.with_context(|| format!("after {} s", started.elapsed().as_secs()))?;
    let transactions = site.transactions()? - before;

    let times: Vec<Duration> = given.iter().map(|(_, took)| *took).collect();
    let addresses: BTreeSet<IpAddr> = given.iter().map(|(ip, _)| *ip).collect();
    let owners = owners(site)?;
    row.figure(
        "all have one",
        format!("{:.2} s, to reach {} s", all.as_secs_f64(), WITHIN.as_secs()),
    );
    for percent in [50, 99] {
        row.figure(
            &format!("one node, p{percent}"),
            format!("{:.0} ms", percentile(&times, percent)),
        );
    }
    row.figure("datastore transactions", transactions.to_string());
    row.must(addresses.len() == nodes, || {
        format!("{} addresses for {nodes} nodes", addresses.len())
    });
    row.must(owners.len() == nodes, || {
        format!("{} nodes have blocks, want {nodes}", owners.len())
    });
    row.must(all <= WITHIN, || {
        format!("all were served after {:.1} s", all.as_secs_f64())
    });
    Ok(row)
}

async fn claim(store: Store, n: usize) -> Result<(IpAddr, Duration)> {
    let node = format!("sim-{n}");
    let setting = Setting {
        node: node.parse()?,
        now: Timestamp::now(),
        config: tortie_model::ipam::IpamConfig::default(),
        reservations: Vec::new(),
    };
    let pool = Pool {
        name: "claims".to_owned(),
        cidr: "10.64.0.0/14".parse()?,
        block_size: 26,
    };
    let want = Want {
        handle: format!("claims.{node}"),
        attributes: [("node".to_owned(), node.clone())].into(),
    };
    let started = Instant::now();
    let assigned = drive(&store, auto_assign(setting, vec![pool], vec![want])).await;
    let assigned = assigned.with_context(|| node.clone())?;
    ensure!(assigned.shortage.is_none(), "{node}: {:?}", assigned.shortage);
    let ip = assigned.addresses.first().context("no address")?;
    Ok((*ip, started.elapsed()))
}

/// The owners of the pool's blocks, each of which has one. Fails when one address is in use and its block nobody's.
fn owners(site: &Site) -> Result<BTreeSet<String>> {
    let store = site.store()?;
    let blocks = site
        .runtime
        .block_on(store.list("/calico/ipam/v2/assignment/ipv4/block/10.6"))?;
    let mut owners = BTreeSet::new();
    for entry in blocks.entries {
        let block: Value = serde_json::from_slice(&entry.value)?;
        let owner = block["affinity"].as_str();
        let owner = owner.with_context(|| format!("{} is nobody's", entry.key))?;
        owners.insert(owner.to_owned());
    }
    Ok(owners)
}
