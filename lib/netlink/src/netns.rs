//! Network namespaces by file descriptor, and work done inside them.
//!
//! A thread's namespace cannot be lent safely to an async runtime, so [`Netns::run`] does its work on a thread of its
//! own that enters the namespace and ends with the work. What reads "the current namespace" there (`/proc/sys/net`,
//! [`crate::request::Connection::open`]) reads the right one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

/// An open network namespace. It lives at least as long as this value.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
}

/// Why a namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Nothing is there.
    #[error("network namespace {0} does not exist")]
    Missing(PathBuf),
    /// It is there and is something else, such as the plain file that is left when a namespace's mount is gone.
    #[error("{0} is no network namespace")]
    NotANamespace(PathBuf),
    /// Any other refusal.
    #[error("{act} network namespace {path}: {source}")]
    Failed {
        /// "open" or "enter".
        act: &'static str,
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Netns {
    /// Opens the namespace at `path`.
    ///
    /// # Errors
    /// [`NetnsError`] naming the path.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NetnsError> {
        let path = path.as_ref().to_owned();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(NetnsError::Missing(path));
            }
            Err(source) => {
                return Err(NetnsError::Failed {
                    act: "open",
                    path,
                    source,
                });
            }
        };
        match fstatfs(&file) {
            Ok(stat) if stat.filesystem_type() == NSFS_MAGIC => Ok(Netns { file, path }),
            Ok(_) => Err(NetnsError::NotANamespace(path)),
            Err(e) => Err(NetnsError::Failed {
                act: "open",
                path,
                source: e.into(),
            }),
        }
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn current() -> Result<Self, NetnsError> {
        Netns::open("/proc/thread-self/ns/net")
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Are they one and the same namespace?
    ///
    /// # Errors
    /// When one cannot be examined.
    pub fn same_as(&self, other: &Netns) -> io::Result<bool> {
        let (a, b) = (self.file.metadata()?, other.file.metadata()?);
        Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
    }

    /// Runs `work` in this namespace, on a thread of its own, and waits for it.
    ///
    /// # Errors
    /// [`NetnsError`] when the namespace cannot be entered; `work` did not run then.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let failed = |source| NetnsError::Failed {
            act: "enter",
            path: self.path.clone(),
            source,
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("netns".to_owned())
                .spawn_scoped(scope, || {
                    setns(&self.file, CloneFlags::CLONE_NEWNET)?;
                    Ok::<T, nix::Error>(work())
                });
            match thread.map_err(failed)?.join() {
                Ok(Ok(result)) => Ok(result),
                Ok(Err(nix::Error::EINVAL)) => Err(NetnsError::NotANamespace(self.path.clone())),
                Ok(Err(errno)) => Err(failed(errno.into())),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Netns {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_namespace_is_named() {
        let missing = Netns::open("/nonexistent/ns").unwrap_err().to_string();
        assert_eq!(missing, "network namespace /nonexistent/ns does not exist");
        let plain = Netns::open("/proc/self/status").unwrap_err().to_string();
        assert_eq!(plain, "/proc/self/status is no network namespace");
        // A namespace, but not of the network: found out on entering.
        let other = Netns::open("/proc/self/ns/uts").unwrap();
        let e = other.run(|| ()).unwrap_err().to_string();
        assert_eq!(e, "/proc/self/ns/uts is no network namespace");
    }

    #[test]
    fn current_is_itself() {
        let (a, b) = (Netns::current().unwrap(), Netns::open("/proc/self/ns/net").unwrap());
        assert!(a.same_as(&b).unwrap());
    }
}
