//! Tables dumped to files (MRT): on command, and by `protocol mrt` again and again.
//!
//! The engine gives pages; between two of them it goes on routing. A page is all that is held. The file appears under its
//! name when it is complete, and not at all when it cannot be: a full disk is an error of this dump, and of nothing else.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;
use tortie_bgp::config::MrtConfig;
use tortie_bgp::mrt::{self, Record};
use tortie_bgp::speaker::Speaker;

use crate::engine::{Clock, Engine, Stopped};

/// Prefixes of one page: a millisecond of the engine's time.
const PAGE: usize = 1024;

/// What a dump wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Dumped {
    pub(crate) prefixes: u64,
    pub(crate) octets: u64,
    /// Prefixes that the format cannot hold.
    pub(crate) left_out: u64,
}

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DumpError {
    #[error("there is no table '{0}'")]
    NoTable(String),
    #[error("{act} {}: {error}", path.display())]
    File {
        act: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    #[error("the file name '{name}' cannot be made: {error}")]
    Name { name: String, error: jiff::Error },
    #[error(transparent)]
    Format(#[from] mrt::EncodeError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A file that goes unless it was renamed.
struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // It may never have been made.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Dumps a table. Whoever drops this in between leaves no file.
///
/// # Errors
/// See [`DumpError`]; a file that was there before is untouched then.
pub(crate) async fn dump(
    engine: &Engine,
    clock: Clock,
    table: &str,
    always_add_path: bool,
    path: &Path,
) -> Result<Dumped, DumpError> {
    let name = table.to_owned();
    let begun = engine
        .query(move |speaker| speaker.dump(&name, always_add_path))
        .await?;
    let (index, mut cursor) = begun.ok_or_else(|| DumpError::NoTable(table.to_owned()))?;
    let temporary = temporary_name(path);
    let failed = |act, error| DumpError::File {
        act,
        path: path.to_owned(),
        error,
    };
    let mut guard = Temporary(Some(temporary.clone()));
    let mut file = File::create(&temporary).await.map_err(|e| failed("create", e))?;
    let boot = Duration::from_millis(u64::try_from(clock.unix_ms(Duration::ZERO)).unwrap_or_default());
    let time = u32::try_from((boot + clock.now()).as_secs()).unwrap_or(u32::MAX);
    let mut dumped = Dumped::default();
    let mut buffer = Vec::new();
    mrt::encode(time, &Record::PeerIndex(index), &mut buffer)?;
    loop {
        let page;
        (page, cursor) = engine
            .query(move |speaker| {
                let page = speaker.dump_page(&mut cursor, PAGE, boot);
                (page, cursor)
            })
            .await?;
        for rib in page.ribs {
            match mrt::encode(time, &Record::Rib(rib), &mut buffer) {
                Ok(()) => dumped.prefixes += 1,
                Err(error) => {
                    tracing::debug!(%error, "a prefix is left out of a dump");
                    dumped.left_out += 1;
                }
            }
        }
        dumped.octets += buffer.len() as u64;
        file.write_all(&buffer).await.map_err(|e| failed("write", e))?;
        buffer.clear();
        if !page.more {
            break;
        }
    }
    file.flush().await.map_err(|e| failed("write", e))?;
    file.sync_all().await.map_err(|e| failed("write", e))?;
    fs::rename(&temporary, path).await.map_err(|e| failed("write", e))?;
    guard.0 = None;
    Ok(dumped)
}

/// In the same folder, of nobody else.
fn temporary_name(path: &Path) -> PathBuf {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.{serial}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// The name of a dump that begins now, in UTC.
fn file_name(format: &str, table: &str, unix_ms: i64) -> Result<PathBuf, DumpError> {
    let mut pattern = String::with_capacity(format.len());
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '%') {
            (_, false) => pattern.push(letter),
            (_, true) => match letters.next() {
                // A table's name may have any letter; a slash must not lead elsewhere.
                Some('N') => pattern.push_str(&table.replace('%', "%%").replace('/', "_")),
                sequence => {
                    pattern.push('%');
                    pattern.extend(sequence);
                }
            },
        }
    }
    let made = Timestamp::from_millisecond(unix_ms)
        .map(|time| time.to_zoned(jiff::tz::TimeZone::UTC))
        .and_then(|time| jiff::fmt::strtime::format(&pattern, &time));
    match made {
        Ok(name) => Ok(name.into()),
        Err(error) => Err(DumpError::Name {
            name: format.to_owned(),
            error,
        }),
    }
}

/// Runs a `protocol mrt` until it is dropped. As in BIRD the first dump is made after the first period.
pub(crate) async fn periodic(protocol: std::sync::Arc<str>, config: MrtConfig, engine: Engine, clock: Clock) {
    let mut ticks = tokio::time::interval(config.period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Ok(tables) = engine.query(Speaker::table_names).await else {
            return;
        };
        for table in tables.iter().filter(|table| config.table.has(table)) {
            let outcome = match file_name(&config.filename, table, clock.unix_ms(clock.now())) {
                Ok(path) => dump(&engine, clock, table, config.always_add_path, &path)
                    .await
                    .map(|dumped| (path, dumped)),
                Err(error) => Err(error),
            };
            match outcome {
                Err(DumpError::Stopped(_)) => return,
                Err(error) => tracing::error!(%protocol, %table, %error, "a table cannot be dumped"),
                Ok((path, dumped)) => {
                    let Dumped {
                        prefixes,
                        octets,
                        left_out,
                    } = dumped;
                    tracing::info!(%protocol, %table, path = %path.display(), prefixes, octets, left_out, "table dumped");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_table_and_the_time() {
        let name = file_name("/d/%N-%Y%m%d-%H%M%S%%.mrt", "a%S/b", 1_700_000_000_123).unwrap();
        assert_eq!(name, Path::new("/d/a%S_b-20231114-221320%.mrt"));
    }
}
