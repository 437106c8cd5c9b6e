//! Giving up root, but for what a router needs of it: listening below port 1024, routes and TCP options, raw sockets.
//!
//! Capabilities belong to threads: this is done while there is only one. What was opened before stays open.

use anyhow::{Context, bail};
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::unistd::{Gid, Group, Uid, User};

/// What is kept: ports below 1024; routes, TCP MD5; binding to interfaces.
const KEPT: [Capability; 3] = [
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
];

/// Whom to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: Uid,
    pub(crate) group: Gid,
}

impl Identity {
    /// A user by name or number, and a group, else the user's own.
    ///
    /// # Errors
    /// There is no such user or group.
    pub(crate) fn find(user: &str, group: Option<&str>) -> anyhow::Result<Self> {
        let known = match user.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number)),
            Err(_) => User::from_name(user),
        };
        let Some(user) = known.with_context(|| format!("look up the user '{user}'"))? else {
            bail!("there is no user '{user}'");
        };
        let group = match group {
            None => user.gid,
            Some(group) => {
                let known = match group.parse() {
                    Ok(number) => Group::from_gid(Gid::from_raw(number)),
                    Err(_) => Group::from_name(group),
                };
                let known = known.with_context(|| format!("look up the group '{group}'"))?;
                known.with_context(|| format!("there is no group '{group}'"))?.gid
            }
        };
        Ok(Identity { user: user.uid, group })
    }

    /// Becomes it, for good.
    ///
    /// # Errors
    /// The kernel's: most likely who starts the program is not root.
    pub(crate) fn assume(self) -> anyhow::Result<()> {
        prctl::set_keepcaps(true).context("keep capabilities")?;
        nix::unistd::setgroups(&[self.group]).context("give up other groups")?;
        nix::unistd::setresgid(self.group, self.group, self.group).context("change the group")?;
        nix::unistd::setresuid(self.user, self.user, self.user).context("change the user")?;
        let held = caps::read(None, CapSet::Permitted).context("read the capabilities")?;
        let kept: CapsHashSet = KEPT
            .into_iter()
            .filter(|capability| held.contains(capability))
            .collect();
        caps::set(None, CapSet::Effective, &kept).context("keep what a router needs")?;
        caps::set(None, CapSet::Permitted, &kept).context("give up other capabilities")?;
        caps::clear(None, CapSet::Inheritable).context("give up other capabilities")?;
        prctl::set_keepcaps(false).context("keep capabilities")?;
        Ok(())
    }
}
