//! Rendering once: `--once` checks and writes, `--dry-run` shows.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio_util::sync::CancellationToken;
use tortie_kit::file::write_atomic;
use tortie_replica::Delta;
use tortie_typha_client::{SyncEvent, SyncStatus, sync};

use crate::apply::{FILE_MODE, Rendered};
use crate::bird::{Bird, Candidate, Verdict};
use crate::config::Config;
use crate::daemon::{Before, hello, render, sync_options};
use crate::render::GoTemplates;
use crate::state::ClusterState;
use crate::view::BgpView;
use crate::{diff, secrets};

/// How long cluster state may take to arrive.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

/// Renders the current state.
async fn current(config: &Config, token: CancellationToken) -> Result<(ClusterState, BgpView, Rendered)> {
    let engine = GoTemplates::load(config.templates.as_deref())?;
    let mut state = config.empty_state();
    let mut events = sync(sync_options(config, hello(config), None), token);
    let mut last = "no answer".to_owned();
    let filled = tokio::time::timeout(SYNC_TIMEOUT, async {
        loop {
            match events.recv().await {
                Some(SyncEvent::Delta(Delta::Set(key, value))) => {
                    state.set(&key, &value.value, value.revision);
                }
                Some(SyncEvent::Delta(Delta::Delete(key))) => {
                    state.delete(&key);
                }
                Some(SyncEvent::Delta(Delta::InSync)) => return true,
                Some(SyncEvent::Status(SyncStatus::Disconnected { reason })) => last = reason,
                Some(SyncEvent::Status(_)) => {}
                None => return false,
            }
        }
    });
    let filled = filled.await;
    if filled == Ok(false) {
        bail!("stopped before typha at {} gave cluster state: {last}", config.typha);
    }
    if filled.is_err() {
        bail!(
            "no cluster state from typha at {} within {} s: {last}",
            config.typha,
            SYNC_TIMEOUT.as_secs()
        );
    }
    state.secrets = secrets::read(config.secrets_dir.as_deref(), secrets::wanted(&state));
    let (view, rendered) = render(&state, config.router_id, &engine, &mut Before::default())?;
    for problem in &view.problems {
        tracing::warn!(%problem, "an object has no effect as asked");
    }
    Ok((state, view, rendered))
}

/// Renders, has bird-rs check, and writes. With bird-rs away it writes unchecked, so that bird-rs can start with the file.
///
/// # Errors
/// No cluster state, nothing to render, a configuration that is rejected, or a file that cannot be written.
pub async fn write(config: &Config, token: CancellationToken) -> Result<()> {
    let (_, view, rendered) = current(config, token).await?;
    let file = config.output.display().to_string();
    let candidate = Candidate {
        file: &file,
        text: &rendered.text,
        revision: &rendered.revision,
    };
    match Bird::new(&config.bird, hello(config)).check(candidate).await {
        Ok(Verdict::Accepted(_)) => {}
        Ok(Verdict::Rejected(findings)) => {
            let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
            bail!(
                "bird-rs rejects the configuration, nothing is written:\n{}",
                all.join("\n")
            );
        }
        Err(away) => tracing::warn!(reason = %away, "bird-rs does not answer: the file is written unchecked"),
    }
    write_atomic(&config.output, rendered.text.as_bytes(), FILE_MODE).context("configuration not written")?;
    tracing::info!(
        revision = rendered.revision,
        peers = view.peers.len(),
        file,
        "configuration written"
    );
    Ok(())
}

/// Prints the text, and on stderr how it differs from the file. Passwords are not shown.
///
/// # Errors
/// No cluster state, nothing to render, or an output that cannot be written.
pub async fn show(config: &Config, token: CancellationToken) -> Result<()> {
    let (state, _, rendered) = current(config, token).await?;
    let hide = |text: &str| hidden(text, &state);
    let old = std::fs::read_to_string(&config.output).unwrap_or_default();
    let difference = diff::unified(&hide(&old), &hide(&rendered.text));
    std::io::stdout().write_all(hide(&rendered.text).as_bytes())?;
    let mut err = std::io::stderr();
    if difference.is_empty() {
        writeln!(err, "{}: unchanged", config.output.display())?;
    } else {
        write!(err, "{}: would change\n{difference}", config.output.display())?;
    }
    Ok(())
}

/// The text without passwords: those that are known, and any that an older file has.
fn hidden(text: &str, state: &ClusterState) -> String {
    let known: Vec<String> = state.secrets.values().map(|s| format!("\"{}\"", s.0)).collect();
    let mut out = String::new();
    for line in text.lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim_start().starts_with("password ") {
            out.push_str(indent);
            out.push_str("password \"***\";");
        } else {
            let shown = known
                .iter()
                .fold(line.to_owned(), |line, secret| line.replace(secret, "\"***\""));
            out.push_str(&shown);
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Secret;
    use crate::view::SecretRef;

    #[test]
    fn passwords_are_hidden_also_old_ones() {
        let mut state = ClusterState::new("n1".parse().unwrap());
        state.secrets.insert(
            SecretRef {
                name: "s".into(),
                key: "k".into(),
            },
            Secret("new".into()),
        );
        let text = "protocol bgp a {\n  password \"old\";\n  key = \"new\";\n}\n";
        let want = "protocol bgp a {\n  password \"***\";\n  key = \"***\";\n}\n";
        assert_eq!(hidden(text, &state), want);
    }
}
