//! bgp view, peers, filters, announced: what the cluster's state asks of each node's BGP speaker, computed as confd does.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};
use tortie_bgp_view::all_nodes::ClusterDocuments;
use tortie_bgp_view::announce::announced;
use tortie_bgp_view::state::ClusterState;
use tortie_bgp_view::{BgpView, Direction, FilterFunction};
use tortie_kit::address::Target;
use tortie_net::NodeName;

use crate::cli::{BgpComputedArgs, BgpViewArgs, DocumentFormat, TableFormat};
use crate::output::{Progress, say};
use crate::store::{Snapshot, connect};
use crate::table;

/// `tortiectl bgp view`.
pub(crate) async fn view(typha: Option<Target>, args: &BgpViewArgs) -> Result<()> {
    let mut documents = read(typha).await?;
    let view = documents.view(&args.node)?;
    say(&match args.output {
        DocumentFormat::Yaml => yaml(&view)?,
        DocumentFormat::Json => format!("{:#}", serde_json::to_value(&view)?),
    })
}

fn yaml(value: &impl Serialize) -> Result<String> {
    let text = serde_saphyr::to_string(value).context("cannot write YAML")?;
    Ok(text.trim_end().to_owned())
}

async fn read(typha: Option<Target>) -> Result<ClusterDocuments> {
    let store = connect(typha)?;
    let state = Snapshot::load(&store, ClusterState::key_prefixes()).await?;
    Ok(ClusterDocuments::new(state.documents()))
}

/// A row, and the same as JSON.
type Row = (Vec<String>, Value);

/// What a list of all nodes is made of.
#[derive(Clone, Copy)]
pub(crate) struct Listing {
    header: &'static [&'static str],
    rows: fn(&BgpView) -> Vec<Row>,
}

/// Sessions.
pub(crate) const PEERS: Listing = Listing {
    header: &[
        "NODE",
        "SESSION",
        "PEER ADDRESS",
        "AS",
        "TYPE",
        "REMOTE NODE",
        "FILTERS",
        "FROM",
    ],
    rows: peers,
};

/// Filters in use.
pub(crate) const FILTERS: Listing = Listing {
    header: &["NODE", "FILTER", "FUNCTION", "DIRECTION", "RULES", "SESSIONS"],
    rows: filters,
};

/// Prefixes of a node's own.
pub(crate) const ANNOUNCED: Listing = Listing {
    header: &["NODE", "PREFIX", "AS", "SESSIONS"],
    rows: announcements,
};

/// `tortiectl bgp peers|filters|announced`.
pub(crate) async fn list(typha: Option<Target>, args: &BgpComputedArgs, listing: Listing) -> Result<()> {
    let mut documents = read(typha).await?;
    let nodes = match &args.node {
        Some(node) => vec![node.clone()],
        None => documents.nodes(),
    };
    let progress = Progress::new("computing nodes");
    let mut all = Vec::new();
    for (done, node) in nodes.iter().enumerate() {
        progress.show(done, nodes.len());
        all.extend(
            (listing.rows)(&documents.view(node)?)
                .into_iter()
                .map(|row| with_node(node, row)),
        );
    }
    progress.show(nodes.len(), nodes.len());
    let (rows, values): (Vec<Vec<String>>, Vec<Value>) = all.into_iter().unzip();
    say(&match args.output {
        TableFormat::Table => table::aligned(listing.header, &rows),
        TableFormat::Yaml => yaml(&values)?,
        TableFormat::Json => format!("{:#}", Value::Array(values)),
    })
}

fn with_node(node: &NodeName, (mut row, value): Row) -> Row {
    row.insert(0, node.to_string());
    let mut said = json!({"node": node});
    if let (Value::Object(said), Value::Object(fields)) = (&mut said, value) {
        said.extend(fields);
    }
    (row, said)
}

fn peers(view: &BgpView) -> Vec<Row> {
    let each = view.peers.iter().map(|peer| {
        let mut names: Vec<&str> = Vec::new();
        for channel in &peer.channels {
            let both = [&channel.import, &channel.export];
            let policies = view.policies.iter().filter(|p| both.contains(&&p.name));
            names.extend(policies.flat_map(|p| &p.calls).map(|c| c.origin.name.as_str()));
        }
        names.sort_unstable();
        names.dedup();
        let kind = if peer.internal { "iBGP" } else { "eBGP" };
        let remote = peer.remote_node.as_ref().map(ToString::to_string).unwrap_or_default();
        let row = vec![
            peer.name.clone(),
            peer.address.to_string(),
            peer.asn.to_string(),
            kind.to_owned(),
            remote,
            names.join(","),
            format!("{} {}", peer.origin.kind, peer.origin.name),
        ];
        let mut value = serde_json::to_value(peer.as_ref()).unwrap_or_default();
        value["filters"] = json!(names);
        (row, value)
    });
    each.collect()
}

/// Sessions whose policies call a function.
fn users(view: &BgpView, function: &FilterFunction) -> Vec<String> {
    let calling = view
        .policies
        .iter()
        .filter(|p| p.calls.iter().any(|c| c.function == function.name));
    let names: Vec<&String> = calling.map(|p| &p.name).collect();
    let uses = |name: &String| names.contains(&name);
    let peers = view
        .peers
        .iter()
        .filter(|p| p.channels.iter().any(|c| uses(&c.import) || uses(&c.export)));
    peers.map(|p| p.name.clone()).collect()
}

fn filters(view: &BgpView) -> Vec<Row> {
    let each = view.filters.iter().map(|function| {
        let sessions = users(view, function);
        let direction = match function.direction {
            Direction::Import => "import",
            Direction::Export => "export",
        };
        let row = vec![
            function.origin.name.clone(),
            function.name.clone(),
            direction.to_owned(),
            function.rules.len().to_string(),
            sessions.join(","),
        ];
        let mut value = serde_json::to_value(function).unwrap_or_default();
        value["sessions"] = json!(sessions);
        (row, value)
    });
    each.collect()
}

fn announcements(view: &BgpView) -> Vec<Row> {
    let told = announced(view);
    let originated = view.families.iter().flat_map(|f| &f.originated);
    let each = originated.map(|own| {
        let to: Vec<(&String, _)> = told
            .iter()
            .filter_map(|(session, prefixes)| Some((session, prefixes.get(&own.prefix)?)))
            .collect();
        let names: Vec<&str> = to.iter().map(|(session, _)| session.as_str()).collect();
        let what = serde_json::to_value(own.what).unwrap_or_default();
        let row = vec![
            own.prefix.to_string(),
            what.as_str().unwrap_or_default().to_owned(),
            if names.is_empty() {
                "(none)".to_owned()
            } else {
                names.join(",")
            },
        ];
        let sessions: Vec<Value> = to
            .iter()
            .map(|(session, attributes)| json!({"session": session, "attributes": attributes}))
            .collect();
        let value = json!({"prefix": own.prefix, "as": what, "origin": own.origin, "sessions": sessions});
        (row, value)
    });
    each.collect()
}
