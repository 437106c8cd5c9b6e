//! Until when certificates are good: a metric, and a warning in time.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::{Expiry, ServerTls, Stamp, TlsFiles};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// From when on their end is warned of, in seconds: a week.
const WARNING: i64 = 7 * 86_400;

/// Which certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Certificate {
    Own,
    Authority,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    certificate: Certificate,
}

pub(super) type Ends = Family<Labels, Gauge<i64, AtomicI64>>;

/// Shows as `certificate_not_after_seconds` when the certificates end that a listener shows, and warns a week before. Also
/// while nobody connects, files that were replaced are read. Must be called inside a tokio runtime.
pub fn watch_server(tls: Arc<ServerTls>, registry: &mut Registry, token: CancellationToken) {
    watch(move || Some(tls.expiry()), registry, token);
}

/// The same for the certificate with which this program connects; nothing without files.
pub fn watch_client(files: Option<TlsFiles>, registry: &mut Registry, token: CancellationToken) {
    if let Some(files) = files {
        let mut client = Client::new(files);
        watch(move || client.expiry(), registry, token);
    }
}

fn watch(
    mut expiry: impl FnMut() -> Option<Expiry> + Send + 'static,
    registry: &mut Registry,
    token: CancellationToken,
) {
    let ends = register(registry);
    tokio::spawn(async move {
        let mut look = tokio::time::interval(LOOK);
        let mut said = None;
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = token.cancelled() => return,
            }
            let Some(expiry) = expiry() else { continue };
            show(&ends, expiry);
            let left = expiry.own.min(expiry.authority) - now();
            if left < WARNING && said != Some(expiry) {
                tracing::warn!(days = left / 86_400, "certificates are good for a few days only");
                said = Some(expiry);
            }
        }
    });
}

pub(super) fn register(registry: &mut Registry) -> Ends {
    let ends = Ends::default();
    let help = "When the certificates end, in seconds since the epoch";
    registry.register("certificate_not_after_seconds", help, ends.clone());
    ends
}

pub(super) fn show(ends: &Ends, expiry: Expiry) {
    let all = [
        (Certificate::Own, expiry.own),
        (Certificate::Authority, expiry.authority),
    ];
    for (certificate, end) in all {
        ends.get_or_create(&Labels { certificate }).set(end);
    }
}

/// Seconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A client's files: each connection reads them anew, this tells until when what it would find is good.
#[derive(Debug)]
pub(super) struct Client {
    files: TlsFiles,
    stamps: Option<[Stamp; 3]>,
    expiry: Option<Expiry>,
}

impl Client {
    pub(super) fn new(files: TlsFiles) -> Self {
        Client {
            files,
            stamps: None,
            expiry: None,
        }
    }

    /// Of the files as they are now; of those before while they cannot be used.
    pub(super) fn expiry(&mut self) -> Option<Expiry> {
        let stamps = self.files.stamps();
        if self.stamps != Some(stamps) {
            self.stamps = Some(stamps);
            match self.files.load() {
                Ok(material) => self.expiry = Some(material.expiry),
                Err(error) => tracing::error!(%error, "certificates cannot be used"),
            }
        }
        self.expiry
    }
}
