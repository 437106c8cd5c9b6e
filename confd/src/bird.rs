//! bird-rs as confd sees it: three questions over gRPC, each with a deadline.

use std::time::Duration;

use serde::Serialize;
use tonic::transport::Channel;
use tortie_kit::address::ServiceAddr;
use tortie_proto::bird::bird_client::BirdClient;
use tortie_proto::bird::{Change, ConfigureRequest, ConfigureResponse, Diagnostic, StatusRequest};
use tortie_proto::common::Hello;

use crate::render::source_map::object_at;

/// An answer to `Status` takes no work.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Loading a mesh of thousands of sessions takes seconds on a busy machine.
const CONFIGURE_TIMEOUT: Duration = Duration::from_secs(60);
/// A configuration of 5,000 sessions has some megabytes.
const MAX_MESSAGE: usize = 256 << 20;

/// bird-rs does not answer, or not in our protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{0}")]
pub struct Away(pub String);

/// What bird-rs says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Running {
    /// Differs after a restart.
    pub instance: String,
    /// Its version.
    pub version: String,
    /// The revision of the configuration in force; empty when it did not come from confd.
    pub applied_revision: String,
}

/// What became of a configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is good; what applying did, or would do.
    Accepted(Vec<Change>),
    /// It is not; nothing was changed.
    Rejected(Vec<Finding>),
}

/// What bird-rs finds wrong with a configuration, and the stored object behind the line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file's name.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What might help; may be empty.
    pub hint: String,
    /// `KIND NAME, revision N`, when a comment of the template says so.
    pub object: Option<String>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        if let Some(object) = &self.object {
            write!(f, ", from {object}")?;
        }
        Ok(())
    }
}

impl Finding {
    fn new(d: Diagnostic, text: &str) -> Self {
        let line = usize::try_from(d.line).unwrap_or(usize::MAX);
        Finding {
            file: d.file,
            line: d.line,
            column: d.column,
            message: d.message,
            hint: d.hint,
            object: object_at(text, line).map(str::to_owned),
        }
    }
}

/// A client of bird-rs. Connects when used, reconnects by itself.
#[derive(Debug, Clone)]
pub struct Bird {
    client: BirdClient<Channel>,
    hello: Hello,
}

/// A text to check or apply.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The name used in findings.
    pub file: &'a str,
    /// The configuration.
    pub text: &'a str,
    /// What it will be known by.
    pub revision: &'a str,
}

impl Bird {
    /// Must be called inside a tokio runtime.
    pub fn new(addr: &ServiceAddr, hello: Hello) -> Self {
        let client = BirdClient::new(addr.channel_lazy())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        Bird { client, hello }
    }

    /// Is it there, and what is in force?
    ///
    /// # Errors
    /// [`Away`] with the reason.
    pub async fn status(&mut self) -> Result<Running, Away> {
        let mut request = tonic::Request::new(StatusRequest {
            hello: Some(self.hello.clone()),
        });
        request.set_timeout(STATUS_TIMEOUT);
        let response = bounded(STATUS_TIMEOUT, self.client.status(request)).await?;
        let hello = Hello::check(response.hello.as_ref()).map_err(|e| Away(e.to_string()))?;
        Ok(Running {
            instance: hello.instance.clone(),
            version: hello.version.clone(),
            applied_revision: response.applied_revision,
        })
    }

    /// Is this configuration good? Changes nothing.
    ///
    /// # Errors
    /// [`Away`] when it could not be asked.
    pub async fn check(&mut self, candidate: Candidate<'_>) -> Result<Verdict, Away> {
        self.configure(candidate, true).await
    }

    /// Puts this configuration in force if it is good.
    ///
    /// # Errors
    /// [`Away`] when it could not be asked; then it is unknown whether it is in force.
    pub async fn apply(&mut self, candidate: Candidate<'_>) -> Result<Verdict, Away> {
        self.configure(candidate, false).await
    }

    async fn configure(&mut self, candidate: Candidate<'_>, check_only: bool) -> Result<Verdict, Away> {
        let mut request = tonic::Request::new(ConfigureRequest {
            hello: Some(self.hello.clone()),
            file: candidate.file.to_owned(),
            text: Some(candidate.text.to_owned()),
            check_only,
            revision: candidate.revision.to_owned(),
            soft: false,
            undo_after_s: 0,
        });
        request.set_timeout(CONFIGURE_TIMEOUT);
        let response: ConfigureResponse = bounded(CONFIGURE_TIMEOUT, self.client.configure(request)).await?;
        Hello::check(response.hello.as_ref()).map_err(|e| Away(e.to_string()))?;
        if response.accepted {
            return Ok(Verdict::Accepted(response.changes));
        }
        let findings = response
            .diagnostics
            .into_iter()
            .map(|d| Finding::new(d, candidate.text));
        Ok(Verdict::Rejected(findings.collect()))
    }
}

/// The server gets the deadline too, but a connection attempt must not outlast it.
async fn bounded<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Away> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Away(tortie_kit::status::reason(&status))),
        Err(_) => Err(Away(format!("no answer within {} s", limit.as_secs()))),
    }
}
