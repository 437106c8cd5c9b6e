//! Configurations on trial, soft changes and the way back, over gRPC.

use tortie_proto::bird::bird_client::BirdClient;
use tortie_proto::bird::bird_operator_client::BirdOperatorClient;
use tortie_proto::bird::{ConfigureRequest, ConfigureResponse, ConfirmRequest, UndoRequest};

use crate::lab::{Client, Lab, PATIENCE, eventually, hello};

/// A router with one static route of this number, of which a filter takes those with this metric.
fn numbered(number: u8, med: u8) -> String {
    format!(
        "router id 10.77.0.1;\nprotocol device {{ }}\nprotocol static own {{ ipv4 {{ import filter {{ bgp_med = {med}; \
         accept; }}; }}; route 10.{number}.0.0/16 blackhole; }}\n"
    )
}

struct Asking<'a> {
    lab: &'a Lab,
    client: Client,
}

impl Asking<'_> {
    fn configure(&self, text: String, revision: &str, soft: bool, undo_after_s: u32) -> ConfigureResponse {
        let addr: tortie_kit::address::ServiceAddr = self.lab.grpc("a").parse().unwrap();
        let request = ConfigureRequest {
            hello: hello(),
            file: "given.conf".to_owned(),
            text: Some(text),
            check_only: false,
            revision: revision.to_owned(),
            soft,
            undo_after_s,
        };
        self.client.runtime.block_on(async {
            let mut bird = BirdClient::new(addr.connect(PATIENCE).await.unwrap());
            bird.configure(request).await.unwrap().into_inner()
        })
    }

    async fn operator(&self) -> BirdOperatorClient<tonic::transport::Channel> {
        let addr: tortie_kit::address::ServiceAddr = self.lab.grpc("a").parse().unwrap();
        BirdOperatorClient::new(addr.connect(PATIENCE).await.unwrap())
    }

    fn confirm(&self) -> bool {
        let answer = self
            .client
            .runtime
            .block_on(async { self.operator().await.confirm(ConfirmRequest { hello: hello() }).await });
        answer.unwrap().into_inner().confirmed
    }

    /// The revision that is in force then.
    fn undo(&self) -> Option<String> {
        let answer = self
            .client
            .runtime
            .block_on(async { self.operator().await.undo(UndoRequest { hello: hello() }).await });
        let answer = answer.unwrap().into_inner();
        answer.undone.then_some(answer.applied_revision)
    }

    fn has(&self, number: u8, med: u8) -> bool {
        let shown = self
            .lab
            .birdc_of("a", &format!("show route 10.{number}.0.0/16 where bgp_med = {med}"));
        shown.contains(&format!("10.{number}.0.0/16"))
    }

    /// The revisions asked for and in force, and whether that is on trial.
    fn revisions(&mut self) -> (String, String, bool) {
        let status = self.client.status();
        (
            status.desired_revision,
            status.applied_revision,
            status.undo_in_s.is_some(),
        )
    }
}

fn state(desired: &str, applied: &str, on_trial: bool) -> (String, String, bool) {
    (desired.to_owned(), applied.to_owned(), on_trial)
}

#[test]
fn trials_and_soft_changes_are_asked_for_over_grpc() {
    let lab = Lab::new();
    let _daemon = lab.bird_rs("a", &numbered(1, 1));
    let client = lab.client("a");
    let mut asking = Asking { lab: &lab, client };
    assert!(asking.undo().is_none() && !asking.confirm());
    assert!(asking.configure(numbered(2, 1), "r2", false, 0).accepted);

    // Nobody confirms.
    let answer = asking.configure(numbered(3, 1), "r3", false, 1);
    assert_eq!(answer.applied_revision, "r3");
    eventually("the trial ends by its time", || {
        (asking.revisions() == state("r3", "r2", false)).then_some(())
    });
    assert!(asking.has(2, 1) && !asking.has(3, 1));

    asking.configure(numbered(4, 1), "r4", false, 3600);
    assert_eq!(asking.revisions(), state("r4", "r4", true));
    assert!(asking.confirm() && !asking.confirm());
    assert_eq!(asking.revisions(), state("r4", "r4", false));
    assert!(asking.has(4, 1));
    assert_eq!(asking.undo().as_deref(), Some("r2"));
    assert_eq!(asking.undo(), None);
    assert!(asking.has(2, 1) && !asking.has(4, 1));

    // A filter that changes softly is not asked about what is there.
    let answer = asking.configure(numbered(2, 7), "r5", true, 0);
    assert!(
        answer.changes.iter().any(|change| change.protocol == "own"),
        "{:?}",
        answer.changes
    );
    assert!(asking.has(2, 1));
    lab.birdc_of("a", "reload own");
    assert!(asking.has(2, 7));
    // What is wrong is not on trial.
    let answer = asking.configure("protocol nonsense { }".to_owned(), "r6", true, 60);
    assert!(!answer.accepted && !answer.diagnostics.is_empty());
    assert_eq!(asking.revisions(), state("r6", "r5", false));
}
