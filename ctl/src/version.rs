//! version: of this program, of the cluster, and of the daemons that are named.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::{Map, Value};
use tortie_kit::address::{ServiceAddr, Target};
use tortie_model::{Key, Kind, Object, decode};
use tortie_proto::bird::StatusRequest;
use tortie_proto::bird::bird_client::BirdClient;
use tortie_proto::common::Hello;
use tortie_proto::felix::felix_client::FelixClient;
use tortie_typha_client::StoreError;

use crate::cli::{TextFormat, VersionArgs};
use crate::output::say;
use crate::store::{connect, hello};

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// `tortiectl version`.
pub(crate) async fn show(typha: Option<Target>, args: &VersionArgs) -> Result<()> {
    let mut lines = vec![("Client Version", env!("CARGO_PKG_VERSION").to_owned())];
    let mut failed = Vec::new();
    if !args.client {
        if let Some(typha) = typha {
            cluster(typha, &mut lines).await?;
        }
        for (title, found) in [
            ("bird-rs Version", bird(args.bird.as_ref()).await),
            ("felix Version", felix(args.felix.as_ref()).await),
        ] {
            match found {
                Ok(None) => {}
                Ok(Some(version)) => lines.push((title, version)),
                Err(e) => failed.push(e),
            }
        }
    }
    match args.output {
        TextFormat::Text => lines.iter().try_for_each(|(title, value)| {
            let title = format!("{title}:");
            say(&format!("{title:<19}{value}"))
        })?,
        TextFormat::Json => {
            let fields = lines
                .into_iter()
                .map(|(title, value)| (title.to_owned(), Value::from(value)));
            say(&format!("{:#}", Value::Object(fields.collect::<Map<_, _>>())))?;
        }
    }
    match failed.into_iter().next() {
        None => Ok(()),
        Some(e) => Err(e),
    }
}

async fn cluster(typha: Target, lines: &mut Vec<(&'static str, String)>) -> Result<()> {
    let store = connect(typha.into())?;
    let key = Key::resource(Kind::ClusterInformation, None, "default");
    match store.get(&key.to_string()).await {
        Ok(entry) => {
            if let Object::ClusterInformation(info) = decode(&key, &entry.value)? {
                let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
                lines.push(("Cluster Version", or_unknown(info.spec.calico_version)));
                lines.push(("Cluster Type", or_unknown(info.spec.cluster_type)));
                lines.push(("Cluster GUID", or_unknown(info.spec.cluster_guid)));
            }
        }
        Err(StoreError::NotFound(_)) => lines.push(("Cluster Version", "unknown".to_owned())),
        Err(e) => return Err(e.into()),
    }
    match store.status().await {
        Ok(status) => lines.push(("typha Version", status.version)),
        // A typha that is too old to say is told by its silence.
        Err(StoreError::Incompatible(_)) => lines.push(("typha Version", "unknown".to_owned())),
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

async fn bird(addr: Option<&ServiceAddr>) -> Result<Option<String>> {
    let Some(addr) = addr else { return Ok(None) };
    let channel = addr.connect(PATIENCE).await.context("bird-rs does not answer")?;
    let mut request = tonic::Request::new(StatusRequest { hello: Some(hello()) });
    request.set_timeout(PATIENCE);
    let said = |status: tonic::Status| anyhow!("bird-rs at {addr}: {}", tortie_kit::status::reason(&status));
    let answer = BirdClient::new(channel)
        .status(request)
        .await
        .map_err(said)?
        .into_inner();
    Ok(Some(Hello::check(answer.hello.as_ref())?.version.clone()))
}

async fn felix(addr: Option<&ServiceAddr>) -> Result<Option<String>> {
    let Some(addr) = addr else { return Ok(None) };
    let channel = addr.connect(PATIENCE).await.context("felix does not answer")?;
    let mut request = tonic::Request::new(tortie_proto::felix::StatusRequest { hello: Some(hello()) });
    request.set_timeout(PATIENCE);
    let said = |status: tonic::Status| anyhow!("felix at {addr}: {}", tortie_kit::status::reason(&status));
    let answer = FelixClient::new(channel)
        .status(request)
        .await
        .map_err(said)?
        .into_inner();
    Ok(Some(Hello::check(answer.hello.as_ref())?.version.clone()))
}
