//! How this node is, written back through typha, so that one look at the datastore shows every node.
//!
//! Calico's two keys (`tortie_model::report`): `status`, which the datastore removes when it is not renewed, and
//! `last_reported_status`, which stays. What Calico's report does not have is under a field of its own ([`NodeReport`]). It is
//! written when something about the node changes, and every `reportingInterval` all the same. A report that cannot be
//! written is no harm: nothing depends on it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tortie_kit::address::ServiceAddr;
use tortie_kit::health::Health;
use tortie_model::Extra;
use tortie_model::node_report::{BgpReport, FailingReport, NodeReport, PeerReport, RouteCount};
use tortie_model::report::{ReportKey, ReportOf, StatusReport};
use tortie_proto::bird::bird_client::BirdClient;
use tortie_proto::bird::{Protocol, ShowProtocolsRequest, StatusRequest};
use tortie_proto::common::Hello;
use tortie_typha_client::{Store, StoreError, Write};

use crate::dataplane::class::RouteClass;
use crate::dataplane::manager::ClassCount;
use crate::failures::Failing;
use crate::show::Show;

/// How often it is looked whether something changed: no node writes more often.
const LOOK: Duration = Duration::from_secs(5);
/// How long bird-rs may take to answer.
const BIRD_PATIENCE: Duration = Duration::from_secs(2);
/// How long typha may.
const TYPHA_PATIENCE: Duration = Duration::from_secs(4);
/// The longest time that typha lets a report count.
const TTL_MAX: Duration = Duration::from_secs(86_400);

/// The task's state.
#[derive(Debug)]
pub struct Reporter {
    /// What there is to say.
    pub show: Show,
    /// What is not ready.
    pub health: Health,
    /// Where bird-rs is.
    pub bird: ServiceAddr,
    /// Where it is written.
    pub store: Store,
}

/// What was written last, and when.
#[derive(Debug)]
struct Written {
    report: NodeReport,
    at: Instant,
}

impl Reporter {
    /// Runs until the token is cancelled. The last report stays until its time is over: a felix that restarts is not gone.
    pub async fn run(self, token: CancellationToken) {
        let started = Instant::now();
        let work = async {
            let mut written = None;
            let mut told = false;
            loop {
                match self.pass(&mut written, started).await {
                    Ok(()) => told = false,
                    Err(error) if std::mem::replace(&mut told, true) => {
                        tracing::debug!(%error, "this node's status cannot be written");
                    }
                    Err(error) => tracing::warn!(%error, "this node's status cannot be written"),
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        token.run_until_cancelled(work).await;
    }

    /// Writes a report if there is reason to.
    async fn pass(&self, written: &mut Option<Written>, started: Instant) -> Result<(), StoreError> {
        let state = self.show.state.current();
        let interval = state.settings.report_interval;
        if interval.is_zero() || !state.is_known() {
            return Ok(());
        }
        let report = self.look().await;
        let known = |w: &Written| w.at.elapsed() < interval && !report.differs(&w.report);
        if written.as_ref().is_some_and(known) {
            return Ok(());
        }
        let ttl = state.settings.report_ttl.max(interval * 2).min(TTL_MAX);
        let at = Instant::now();
        self.write(&report, (started.elapsed(), written.is_none()), ttl).await?;
        *written = Some(Written { report, at });
        Ok(())
    }

    async fn look(&self) -> NodeReport {
        let summary = self.show.summary.borrow().clone();
        let failing = self.show.failing(&summary);
        let waits = self.health.not_ready();
        let mut versions = BTreeMap::from([("felix".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
        let bgp = match self.bgp().await {
            Ok((bgp, version)) => {
                versions.insert("bird-rs".to_owned(), version);
                Some(bgp)
            }
            Err(error) => {
                tracing::debug!(error, "bird-rs says nothing of its sessions");
                None
            }
        };
        let count = |(class, count): (&RouteClass, &ClassCount)| {
            let (wanted, programmed) = (count.wanted, count.programmed);
            (class.to_string(), RouteCount { wanted, programmed })
        };
        NodeReport {
            ready: waits.is_empty(),
            waits: waits.iter().map(|w| format!("{}: {}", w.part, w.reason)).collect(),
            versions,
            revision: self.show.state.current().revision,
            routes: summary.classes.iter().map(count).collect(),
            failing: failing.all().map(failing_report).collect(),
            failing_total: failing.counts().iter().map(|(_, n)| n).sum(),
            bgp,
        }
    }

    /// bird-rs's sessions and version.
    async fn bgp(&self) -> Result<(BgpReport, String), String> {
        let channel = self.bird.connect(BIRD_PATIENCE).await.map_err(|e| e.to_string())?;
        let mut bird = BirdClient::new(channel);
        let hello = || Some(self.show.hello.clone());
        let mut request = tonic::Request::new(StatusRequest { hello: hello() });
        request.set_timeout(BIRD_PATIENCE);
        let status = bird.status(request).await.map_err(|e| e.to_string())?.into_inner();
        Hello::check(status.hello.as_ref()).map_err(|e| e.to_string())?;
        let mut request = tonic::Request::new(ShowProtocolsRequest {
            hello: hello(),
            name: String::new(),
        });
        request.set_timeout(BIRD_PATIENCE);
        let shown = bird.show_protocols(request).await.map_err(|e| e.to_string())?;
        let mut peers: Vec<PeerReport> = shown.get_ref().protocols.iter().filter_map(peer).collect();
        peers.sort();
        let report = BgpReport {
            router_id: status.router_id,
            running_since: time(status.boot_unix_ms),
            peers,
        };
        Ok((report, status.hello.map(|h| h.version).unwrap_or_default()))
    }

    async fn write(
        &self,
        report: &NodeReport,
        (uptime, first_update): (Duration, bool),
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let value = serde_json::to_value(report).expect("invariant: a report is plain data");
        let extra = Extra::from_iter([(NodeReport::FIELD.to_owned(), value)]);
        let status = StatusReport {
            time: Timestamp::now().to_string(),
            uptime: uptime.as_secs_f64(),
            first_update,
            extra,
        };
        let json = serde_json::to_vec(&status).expect("invariant: a report is plain data");
        let key = |of| ReportKey::new(self.show.node.clone(), of).to_string();
        let writes = [
            Write::put_for(&key(ReportOf::Status), json.clone(), ttl),
            Write::put(&key(ReportOf::LastStatus), json),
        ];
        self.store
            .with_timeout(TYPHA_PATIENCE)
            .write_many(writes)
            .await
            .map(drop)
    }
}

fn failing_report(f: &Failing) -> FailingReport {
    FailingReport {
        object: f.object.clone(),
        error: f.error.clone(),
        attempts: f.attempts,
        since: f.since.map(|t| t.to_string()),
        next_try: f.next_try.map(|t| t.to_string()),
    }
}

fn time(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string()
}

/// A BGP protocol as a peer; other protocols are none.
fn peer(protocol: &Protocol) -> Option<PeerReport> {
    let bgp = protocol.bgp.as_ref()?;
    // BIRD pads the state to a column of its own.
    let info = match protocol.info.split_whitespace().collect::<Vec<_>>().join(" ") {
        unsaid if unsaid.is_empty() => bgp.state.clone(),
        info => info,
    };
    Some(PeerReport {
        address: bgp.neighbor_address.clone(),
        name: protocol.name.clone(),
        state: protocol.state.clone(),
        since: time(protocol.since_unix_ms),
        info,
        neighbor_as: bgp.neighbor_as,
        local_as: bgp.local_as,
    })
}

#[cfg(test)]
mod tests {
    use tortie_proto::bird::BgpSession;

    use super::*;

    fn protocol(info: &str, bgp: bool) -> Protocol {
        Protocol {
            name: "Mesh_172_30_0_12".into(),
            kind: "BGP".into(),
            state: "up".into(),
            info: info.into(),
            since_unix_ms: 1_500,
            bgp: bgp.then(|| BgpSession {
                neighbor_address: "172.30.0.12".into(),
                neighbor_as: 64_512,
                local_as: 64_513,
                state: "Connect".into(),
                ..BgpSession::default()
            }),
            ..Protocol::default()
        }
    }

    #[test]
    fn a_session_is_reported_as_birdc_shows_it() {
        let of = |info| peer(&protocol(info, true)).unwrap();
        let report = of("Established   ");
        assert_eq!((report.info.as_str(), report.state.as_str()), ("Established", "up"));
        assert_eq!(report.since, "1970-01-01T00:00:01.5Z");
        assert_eq!((report.neighbor_as, report.local_as), (64_512, 64_513));
        assert_eq!(
            of("Active        Socket: Connection refused").info,
            "Active Socket: Connection refused"
        );
        assert_eq!(of("  ").info, "Connect", "unsaid: the session's own state");
        assert_eq!(peer(&protocol("up", false)), None, "no BGP: no peer");
    }

    #[test]
    fn a_time_that_is_none_is_the_beginning() {
        assert_eq!(time(i64::MAX), "1970-01-01T00:00:00Z");
    }
}
