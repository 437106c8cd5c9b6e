//! One token that ends the program.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token cancelled by the first SIGTERM or SIGINT. A second one ends the process at once with status 130, so that an
/// operator is never stuck behind a drain that hangs. Call once, inside the runtime.
///
/// # Errors
/// When the process may not install signal handlers.
pub fn token() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let mut first = true;
        loop {
            let name = tokio::select! {
                Some(()) = terminate.recv() => "SIGTERM",
                Some(()) = interrupt.recv() => "SIGINT",
                else => return,
            };
            if !first {
                tracing::warn!(signal = name, "second signal, leaving at once");
                std::process::exit(130);
            }
            first = false;
            tracing::info!(signal = name, "stopping");
            cancelled.cancel();
        }
    });
    Ok(token)
}
