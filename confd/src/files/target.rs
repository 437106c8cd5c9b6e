//! The file: compared, staged beside it, checked, put in its place, and whoever reads it told.

use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::process::Command;

use super::resource::Resource;

/// How long a command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How much of a command's output is shown: its end.
const SHOWN_OUTPUT: usize = 2048;

/// Why the file is not as wanted.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The file system.
    #[error("{dest}: {reason}")]
    File {
        /// The file.
        dest: String,
        /// What it said.
        reason: io::Error,
    },
    /// A command.
    #[error("{which} failed, {outcome}: {command}{output}")]
    Command {
        /// `check_cmd` or `reload_cmd`.
        which: &'static str,
        /// Its text.
        command: String,
        /// How it ended.
        outcome: String,
        /// The end of what it printed, each line indented, or nothing.
        output: String,
    },
}

/// Is the file there with this text, its mode and its owner?
///
/// # Errors
/// When it is there and cannot be read.
pub fn is_current(resource: &Resource, text: &str) -> Result<bool, Failure> {
    let failed = |reason| Failure::File {
        dest: resource.dest.display().to_string(),
        reason,
    };
    let meta = match std::fs::metadata(&resource.dest) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(failed(e)),
    };
    let same = |wanted: Option<u32>, is: u32| wanted.is_none_or(|w| w == is);
    if meta.mode() & 0o777 != resource.mode || !same(resource.owner, meta.uid()) || !same(resource.group, meta.gid()) {
        return Ok(false);
    }
    Ok(std::fs::read(&resource.dest).map_err(failed)? == text.as_bytes())
}

/// Checks the text and puts it in the file's place. The old file is untouched when this fails.
///
/// # Errors
/// [`Failure`] of the file system or of `check_cmd`.
pub async fn replace(resource: &Resource, text: &str) -> Result<(), Failure> {
    let failed = |reason| Failure::File {
        dest: resource.dest.display().to_string(),
        reason,
    };
    let staged = stage(resource, text).map_err(failed)?;
    if let Some(check) = &resource.check_cmd {
        command("check_cmd", check, resource, staged.path()).await?;
    }
    let folder = folder(&resource.dest);
    match staged.persist(&resource.dest) {
        Ok(_) => std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(failed),
        // A file that is mounted by itself, as into a container, cannot be replaced, only written.
        Err(e) if e.error.kind() == io::ErrorKind::ResourceBusy => std::fs::write(&resource.dest, text).map_err(failed),
        Err(e) => Err(failed(e.error)),
    }
}

/// Runs `reload_cmd`, if there is one.
///
/// # Errors
/// [`Failure::Command`].
pub async fn reload(resource: &Resource) -> Result<(), Failure> {
    match &resource.reload_cmd {
        Some(reload) => command("reload_cmd", reload, resource, &resource.dest).await,
        None => Ok(()),
    }
}

fn folder(dest: &Path) -> &Path {
    dest.parent().unwrap_or(Path::new("/"))
}

/// The new file, whole and on disk, beside the old one, so that putting it in its place is one step.
fn stage(resource: &Resource, text: &str) -> io::Result<NamedTempFile> {
    let name = resource.dest.file_name().unwrap_or_default().to_string_lossy();
    let mut staged = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .tempfile_in(folder(&resource.dest))?;
    staged.write_all(text.as_bytes())?;
    let file = staged.as_file();
    file.set_permissions(std::fs::Permissions::from_mode(resource.mode))?;
    if resource.owner.is_some() || resource.group.is_some() {
        chown(staged.path(), resource.owner, resource.group)?;
    }
    staged.as_file().sync_all()?;
    Ok(staged)
}

/// `{{.src}}` and `{{.dest}}` in a command are the new file and the file to keep.
fn filled(command: &str, resource: &Resource, src: &Path) -> String {
    let mut text = command.to_owned();
    for (name, path) in [("src", src), ("dest", &resource.dest)] {
        for hole in [format!("{{{{.{name}}}}}"), format!("{{{{ .{name} }}}}")] {
            text = text.replace(&hole, &path.display().to_string());
        }
    }
    text
}

async fn command(which: &'static str, text: &str, resource: &Resource, src: &Path) -> Result<(), Failure> {
    let text = filled(text, resource, src);
    let failure = |outcome: String, output: String| Failure::Command {
        which,
        command: text.clone(),
        outcome,
        output,
    };
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &text]).stdin(Stdio::null()).kill_on_drop(true);
    let done = tokio::time::timeout(COMMAND_LIMIT, shell.output()).await;
    let done = done.map_err(|_| failure(format!("not done within {} s", COMMAND_LIMIT.as_secs()), String::new()))?;
    let done = done.map_err(|e| failure(e.to_string(), String::new()))?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].concat();
    let end = String::from_utf8_lossy(&said[said.len().saturating_sub(SHOWN_OUTPUT)..]).into_owned();
    let lines: Vec<String> = end.trim_end().lines().map(|l| format!("\n    {l}")).collect();
    Err(failure(done.status.to_string(), lines.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::resource::parse;

    fn resource(dir: &Path, more: &str) -> Resource {
        let dest = dir.join("out.conf");
        let text = format!("[template]\nsrc = \"a\"\ndest = \"{}\"\n{more}", dest.display());
        parse(dir, Path::new("a.toml"), "", &text).unwrap()
    }

    #[tokio::test]
    async fn a_checked_file_takes_the_old_ones_place() {
        let dir = tempfile::tempdir().unwrap();
        let r = resource(
            dir.path(),
            "mode = \"0600\"\ncheck_cmd = \"grep -q good {{.src}} && test {{ .src }} != {{.dest}}\"",
        );
        assert!(!is_current(&r, "good\n").unwrap());
        replace(&r, "good\n").await.unwrap();
        assert!(is_current(&r, "good\n").unwrap());
        let e = replace(&r, "bad\n").await.unwrap_err();
        assert!(
            e.to_string().starts_with("check_cmd failed, exit status: 1: grep"),
            "{e}"
        );
        assert!(is_current(&r, "good\n").unwrap(), "the old file stays");
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
        std::fs::set_permissions(&r.dest, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(!is_current(&r, "good\n").unwrap(), "another mode");
    }

    #[tokio::test]
    async fn a_command_that_fails_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let r = resource(dir.path(), "reload_cmd = \"echo out; echo err >&2; exit 3\"");
        let e = reload(&r).await.unwrap_err();
        let want = "reload_cmd failed, exit status: 3: echo out; echo err >&2; exit 3\n    out\n    err";
        assert_eq!(e.to_string(), want);
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let r = resource(&dir.path().join("none"), "");
        let e = replace(&r, "x").await.unwrap_err().to_string();
        assert!(e.contains("none/out.conf: "), "{e}");
    }
}
