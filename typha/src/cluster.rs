//! The one object every datastore has: ClusterInformation `default`.
//!
//! As in Calico it is made when it is missing, and an existing `datastoreReady` is never flipped back.

use serde_json::json;
use tortie_model::{Key, Kind};

use crate::datastore::Backend;
use crate::store::{Change, Precondition, WriteError, Writer};

/// Makes ClusterInformation `default` unless it exists.
///
/// # Errors
/// [`WriteError`] when the datastore does not answer.
pub(crate) async fn ensure_information(backend: &dyn Backend, writer: &Writer) -> Result<(), WriteError> {
    let cluster_id = backend.history().await?.id;
    let key = Key::resource(Kind::ClusterInformation, None, "default");
    let information = json!({
        "kind": "ClusterInformation",
        "apiVersion": tortie_model::API_VERSION,
        "metadata": { "name": "default" },
        "spec": {
            "clusterGUID": cluster_id,
            "clusterType": "bgp",
            "calicoVersion": concat!("v", env!("CARGO_PKG_VERSION")),
            "datastoreReady": true,
        },
    });
    match writer
        .write(&Change::put(key, &information, Precondition::Absent))
        .await
    {
        Ok(_) => {
            tracing::info!(cluster_id, "cluster information created");
            Ok(())
        }
        Err(WriteError::AlreadyExists(_)) => Ok(()),
        Err(e) => Err(e),
    }
}
