//! Keeps the file and bird-rs at the wanted configuration.
//!
//! A level-triggered loop: it compares what is wanted with the file and with what bird-rs says is in force, and acts on the
//! difference. So a restarted bird-rs, a lost answer and a hand-made change all heal the same way.
//!
//! * With bird-rs there: check, then write, then apply. A configuration that is rejected is neither written nor applied; it
//!   is tried again when another one is wanted, when bird-rs restarts, and after a growing delay.
//! * With bird-rs away: the file is kept current without a check, unless this very configuration was rejected before, so that
//!   bird-rs starts with it. Should it be rejected then, the last accepted one takes its place again.
//!
//! Texts that differ in comments only are the same configuration.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tortie_kit::backoff::Backoff;
use tortie_kit::file::write_atomic;

use crate::bird::{Away, Bird, Candidate, Finding, Running, Verdict};
use crate::render::source_map::without_comments;

/// How often bird-rs is asked what is in force.
const POLL: Duration = Duration::from_secs(1);
/// Between attempts to apply a configuration that was rejected.
const RETRY_MIN: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The file may hold passwords.
pub(crate) const FILE_MODE: u32 = 0o640;

/// A rendered configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The whole text.
    pub text: String,
    /// What it is known by: a hash of what a speaker sees of it.
    pub revision: String,
}

impl Rendered {
    /// Names the text.
    pub fn new(text: String) -> Self {
        let mut hash = Sha256::new();
        for line in without_comments(&text) {
            hash.update(line.as_bytes());
            hash.update(b"\n");
        }
        let revision = hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
        Rendered { text, revision }
    }
}

/// Where the wanted configuration stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ApplyStatus {
    /// The wanted revision.
    pub desired_revision: Option<String>,
    /// What the file holds.
    pub file_revision: Option<String>,
    /// What bird-rs says is in force.
    pub applied_revision: Option<String>,
    /// bird-rs, when it answers.
    pub bird: Option<Running>,
    /// Why it does not.
    pub bird_away: Option<String>,
    /// The wanted configuration was rejected.
    pub rejection: Option<Rejection>,
    /// The file could not be written.
    pub write_error: Option<String>,
}

impl ApplyStatus {
    /// Is the wanted configuration in force?
    pub fn in_force(&self) -> bool {
        self.desired_revision.is_some() && self.desired_revision == self.applied_revision
    }

    /// Why it is not, in words.
    pub fn lag(&self) -> Option<String> {
        if let Some(rejection) = &self.rejection {
            let first = rejection
                .findings
                .first()
                .map_or_else(|| "no reason given".to_owned(), ToString::to_string);
            return Some(format!("bird-rs rejects the configuration: {first}"));
        }
        if let Some(error) = &self.write_error {
            return Some(error.clone());
        }
        if let Some(away) = &self.bird_away {
            return Some(format!("bird-rs does not answer: {away}"));
        }
        (!self.in_force()).then(|| "bird-rs has not applied the configuration yet".to_owned())
    }
}

/// A configuration that bird-rs rejects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// Its revision.
    pub revision: String,
    /// How often it was rejected.
    pub attempts: u32,
    /// Why.
    pub findings: Vec<Finding>,
}

/// What the loop counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A configuration was put in force.
    Applied,
    /// bird-rs rejected one.
    Rejected,
    /// bird-rs did not answer.
    Unanswered,
    /// The file was written.
    Written,
    /// The file could not be written.
    WriteFailed,
}

/// Paths and partners of an [`Applier`].
pub struct ApplierParts {
    /// The file to keep current. Its name is what findings carry.
    pub output: PathBuf,
    /// Where the last accepted text is kept.
    pub accepted: PathBuf,
    /// Whom to ask.
    pub bird: Bird,
    /// What is wanted.
    pub desired: watch::Receiver<Option<Arc<Rendered>>>,
    /// Told after every step.
    pub count: Arc<dyn Fn(Outcome) + Send + Sync>,
}

/// The loop.
pub struct Applier {
    parts: ApplierParts,
    status: watch::Sender<ApplyStatus>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    /// What the file with the last accepted text holds, once it was read or written.
    accepted: Option<String>,
}

impl Applier {
    /// Nothing happens before [`Applier::run`]. The receiver always holds the newest status.
    pub fn new(parts: ApplierParts) -> (Self, watch::Receiver<ApplyStatus>) {
        let held = std::fs::read_to_string(&parts.output)
            .ok()
            .map(|text| Rendered::new(text).revision);
        let (status, receiver) = watch::channel(ApplyStatus {
            file_revision: held,
            ..ApplyStatus::default()
        });
        let backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        (
            Applier {
                parts,
                status,
                backoff,
                retry_at: None,
                accepted: None,
            },
            receiver,
        )
    }

    /// Runs until the token is cancelled.
    pub async fn run(mut self, token: CancellationToken) {
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                _ = poll.tick() => {}
                changed = self.parts.desired.changed() => if changed.is_err() { return },
            }
            let desired = self.parts.desired.borrow_and_update().clone();
            if let Some(desired) = desired {
                tokio::select! {
                    () = token.cancelled() => return,
                    () = self.step(&desired) => {}
                }
            }
        }
    }

    async fn step(&mut self, desired: &Rendered) {
        self.status.send_if_modified(|s| {
            let new = s.desired_revision.as_ref() != Some(&desired.revision);
            if new {
                s.desired_revision = Some(desired.revision.clone());
                s.rejection = None;
            }
            new
        });
        match self.parts.bird.status().await {
            Ok(running) => self.with_bird(desired, running).await,
            Err(away) => self.without_bird(desired, away),
        }
    }

    fn without_bird(&mut self, desired: &Rendered, Away(reason): Away) {
        if self.status.borrow().bird_away.is_none() {
            tracing::warn!(%reason, "bird-rs does not answer");
            (self.parts.count)(Outcome::Unanswered);
        }
        self.status.send_modify(|s| {
            s.bird = None;
            s.applied_revision = None;
            s.bird_away = Some(reason);
        });
        if !self.is_rejected(&desired.revision) {
            self.write(desired);
        }
    }

    async fn with_bird(&mut self, desired: &Rendered, running: Running) {
        let (was_away, restarted) = {
            let s = self.status.borrow();
            (
                s.bird_away.is_some(),
                s.bird.as_ref().is_none_or(|b| b.instance != running.instance),
            )
        };
        if restarted {
            tracing::info!(
                instance = running.instance,
                version = running.version,
                was_away,
                "bird-rs answers"
            );
            self.retry_at = None;
        }
        let in_force = running.applied_revision == desired.revision;
        self.status.send_modify(|s| {
            s.bird_away = None;
            s.applied_revision = Some(running.applied_revision.clone());
            s.bird = Some(running);
        });
        if in_force {
            self.settled(desired);
        } else if !self.must_wait(&desired.revision) {
            self.converge(desired).await;
        }
    }

    /// Check, write, apply.
    async fn converge(&mut self, desired: &Rendered) {
        let file = self.parts.output.display().to_string();
        let candidate = Candidate {
            file: &file,
            text: &desired.text,
            revision: &desired.revision,
        };
        match self.parts.bird.check(candidate).await {
            Err(away) => return self.without_bird(desired, away),
            Ok(Verdict::Rejected(findings)) => return self.rejected(desired, findings),
            Ok(Verdict::Accepted(_)) => {}
        }
        if !self.write(desired) {
            return;
        }
        match self.parts.bird.apply(candidate).await {
            // Whether it took effect shows at the next poll.
            Err(away) => self.without_bird(desired, away),
            Ok(Verdict::Rejected(findings)) => self.rejected(desired, findings),
            Ok(Verdict::Accepted(changes)) => {
                for c in &changes {
                    tracing::info!(
                        protocol = c.protocol,
                        action = c.action,
                        reason = c.reason,
                        "protocol changed"
                    );
                }
                tracing::info!(
                    revision = desired.revision,
                    changes = changes.len(),
                    "configuration applied"
                );
                (self.parts.count)(Outcome::Applied);
                self.status
                    .send_modify(|s| s.applied_revision = Some(desired.revision.clone()));
                self.settled(desired);
            }
        }
    }

    /// The wanted configuration is in force: the file and the copy of what was accepted follow.
    fn settled(&mut self, desired: &Rendered) {
        self.backoff.reset();
        self.retry_at = None;
        if self.status.borrow().rejection.is_some() {
            self.status.send_modify(|s| s.rejection = None);
        }
        self.write(desired);
        self.keep_accepted(desired);
    }

    /// Asked every second: the text, megabytes in a large mesh, is read once.
    fn keep_accepted(&mut self, desired: &Rendered) {
        let path = &self.parts.accepted;
        if self.accepted.is_none() {
            let kept = std::fs::read_to_string(path).ok();
            self.accepted = kept.map(|text| Rendered::new(text).revision);
        }
        if self.accepted.as_ref() == Some(&desired.revision) && path.exists() {
            return;
        }
        match write_atomic(path, desired.text.as_bytes(), FILE_MODE) {
            Ok(()) => self.accepted = Some(desired.revision.clone()),
            Err(error) => {
                self.accepted = None;
                tracing::warn!(%error, "the accepted configuration is not kept");
            }
        }
    }

    fn rejected(&mut self, desired: &Rendered, findings: Vec<Finding>) {
        (self.parts.count)(Outcome::Rejected);
        let again = self.is_rejected(&desired.revision);
        if !again {
            self.backoff.reset();
            for f in &findings {
                tracing::error!(
                    file = f.file,
                    line = f.line,
                    column = f.column,
                    reason = f.message,
                    hint = f.hint,
                    object = f.object,
                    "bird-rs rejects the configuration; the one before stays in force"
                );
            }
        }
        self.retry_at = Some(Instant::now() + self.backoff.next());
        let attempts = self.backoff.attempts();
        let rejection = Rejection {
            revision: desired.revision.clone(),
            attempts,
            findings,
        };
        self.status.send_modify(|s| s.rejection = Some(rejection));
        self.restore(desired);
    }

    /// Puts the last accepted text back when the file holds the rejected one.
    fn restore(&mut self, rejected: &Rendered) {
        if self.status.borrow().file_revision.as_ref() != Some(&rejected.revision) {
            return;
        }
        if let Ok(text) = std::fs::read_to_string(&self.parts.accepted) {
            let accepted = Rendered::new(text);
            tracing::warn!(
                revision = accepted.revision,
                "the last accepted configuration is put back into the file"
            );
            self.write(&accepted);
        }
    }

    /// Makes the file hold this text. True when it does.
    fn write(&mut self, wanted: &Rendered) -> bool {
        let there = self.parts.output.exists();
        if there && self.status.borrow().file_revision.as_ref() == Some(&wanted.revision) {
            return true;
        }
        let result = write_atomic(&self.parts.output, wanted.text.as_bytes(), FILE_MODE);
        (self.parts.count)(if result.is_ok() {
            Outcome::Written
        } else {
            Outcome::WriteFailed
        });
        match result {
            Ok(()) => {
                tracing::info!(
                    revision = wanted.revision,
                    bytes = wanted.text.len(),
                    "configuration written"
                );
                self.status.send_modify(|s| {
                    s.file_revision = Some(wanted.revision.clone());
                    s.write_error = None;
                });
                true
            }
            Err(error) => {
                let error = error.to_string();
                let known = self.status.borrow().write_error.as_ref() == Some(&error);
                if !known {
                    tracing::error!(error, "configuration not written");
                }
                self.status.send_modify(|s| s.write_error = Some(error));
                false
            }
        }
    }

    fn is_rejected(&self, revision: &str) -> bool {
        self.status
            .borrow()
            .rejection
            .as_ref()
            .is_some_and(|r| r.revision == revision)
    }

    fn must_wait(&self, revision: &str) -> bool {
        self.is_rejected(revision) && self.retry_at.is_some_and(|at| Instant::now() < at)
    }
}
