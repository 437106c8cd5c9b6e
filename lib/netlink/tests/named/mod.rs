//! A network namespace with a name, for tests that look into it with `ip`.

use std::process::Command;

use tortie_netlink::netns::Netns;

/// It goes with this value. Its name begins with `tt-`.
pub(crate) struct Named(pub(crate) String);

impl Named {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("tt-{name}-{}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status().unwrap();
        assert!(made.success());
        Named(name)
    }

    pub(crate) fn open(&self) -> Netns {
        Netns::open(format!("/run/netns/{}", self.0)).unwrap()
    }

    pub(crate) fn ip(&self, args: &[&str]) -> String {
        let out = Command::new("ip").args(["-n", &self.0]).args(args).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}
