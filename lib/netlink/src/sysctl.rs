//! Sysctls by `/proc/sys`, of the calling thread's network namespace.

use std::io;
use std::path::PathBuf;

use crate::request::RequestError;

/// A sysctl by its path below `/proc/sys`: `net/ipv4/ip_forward`.
///
/// Interface names go through [`Sysctl::interface`], which refuses what would lead elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl(String);

impl Sysctl {
    /// A sysctl with a fixed name.
    pub fn global(name: &'static str) -> Self {
        Sysctl(name.to_owned())
    }

    /// `net/<family>/<table>/<interface>/<name>`, for example of `ipv4`, `conf`, `eth0`, `proxy_arp`.
    ///
    /// # Errors
    /// When the interface's name is no single path component.
    pub fn interface(path: [&str; 2], interface: &str, name: &str) -> Result<Self, RequestError> {
        if interface.is_empty() || interface == "." || interface == ".." || interface.contains(['/', '\0']) {
            let invalid = io::Error::new(io::ErrorKind::InvalidInput, "no interface name");
            return Err(RequestError::new(
                "address sysctl of interface",
                interface.escape_debug(),
                invalid,
            ));
        }
        let [family, table] = path;
        Ok(Sysctl(format!("net/{family}/{table}/{interface}/{name}")))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/proc/sys").join(&self.0)
    }

    /// Its value, without the line end.
    ///
    /// # Errors
    /// `NotFound` when the kernel has no such sysctl here.
    pub fn read(&self) -> Result<String, RequestError> {
        let read = std::fs::read_to_string(self.path());
        read.map(|v| v.trim_end().to_owned())
            .map_err(|e| RequestError::new("read sysctl", &self.0, e))
    }

    /// Sets it. A value that is there already is not written again, so that a read-only `/proc/sys` with the right values
    /// is good enough.
    ///
    /// # Errors
    /// Naming the sysctl.
    pub fn write(&self, value: &str) -> Result<(), RequestError> {
        if self.read()? == value {
            return Ok(());
        }
        std::fs::write(self.path(), value).map_err(|e| RequestError::new("write sysctl", &self.0, e))
    }

    /// Does the kernel have it here?
    pub fn exists(&self) -> bool {
        self.path().exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for bad in ["", ".", "..", "../all", "a/b"] {
            assert!(Sysctl::interface(["ipv4", "conf"], bad, "proxy_arp").is_err(), "{bad}");
        }
        let lo = Sysctl::interface(["ipv4", "conf"], "lo", "forwarding").unwrap();
        assert!(matches!(lo.read().unwrap().as_str(), "0" | "1"));
        let none = Sysctl::interface(["ipv4", "conf"], "lo", "no_such").unwrap();
        assert!(!none.exists());
        assert!(
            none.read()
                .unwrap_err()
                .to_string()
                .starts_with("read sysctl net/ipv4/conf/lo/no_such: ")
        );
    }
}
