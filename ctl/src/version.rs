//! version: of this program and of the cluster.

use anyhow::Result;
use tortie_kit::address::Target;
use tortie_model::{Key, Kind, Object, decode};
use tortie_typha_client::StoreError;

use crate::cli::VersionArgs;
use crate::output::say;
use crate::store::connect;

/// `tortiectl version`.
pub(crate) async fn show(typha: Option<Target>, args: &VersionArgs) -> Result<()> {
    say(&format!("Client Version:    {}", env!("CARGO_PKG_VERSION")))?;
    if args.client || typha.is_none() {
        return Ok(());
    }
    let key = Key::resource(Kind::ClusterInformation, None, "default");
    let object = match connect(typha)?.get(&key.to_string()).await {
        Ok(entry) => decode(&key, &entry.value)?,
        Err(StoreError::NotFound(_)) => return say("Cluster Version:   unknown"),
        Err(e) => return Err(e.into()),
    };
    if let Object::ClusterInformation(info) = object {
        let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
        say(&format!("Cluster Version:   {}", or_unknown(info.spec.calico_version)))?;
        say(&format!("Cluster Type:      {}", or_unknown(info.spec.cluster_type)))?;
        say(&format!("Cluster GUID:      {}", or_unknown(info.spec.cluster_guid)))?;
    }
    Ok(())
}
