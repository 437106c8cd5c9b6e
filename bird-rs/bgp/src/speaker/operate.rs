//! An operator's commands: enable, disable, restart, reload.
//!
//! What an operator took down stays down over a reconfiguration, until enabled by hand or until the configuration's own
//! `disabled` changes. The reason that goes with it is sent to the peer (RFC 9003).

use std::sync::Arc;

use super::Speaker;
use super::instance::Instance;
use super::io::{Command, Output};
use crate::fsm::StopReason;
use crate::rib::SourceId;

/// The longest reason that can be sent to a peer, in octets (RFC 9003 section 2).
pub const MAX_REASON: usize = 255;

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operated {
    /// It is enabled now.
    Enabled,
    /// Nothing to do.
    AlreadyEnabled,
    /// It is disabled now.
    Disabled,
    /// Nothing to do; a restart or reload of a disabled protocol also does nothing.
    AlreadyDisabled,
    /// It went down and comes up again.
    Restarted,
    /// Its filters are applied anew.
    Reloading,
    /// It has no routes to reload: its session is not up.
    NotUp,
    /// There is no such protocol.
    Unknown,
}

impl Operated {
    /// In BIRD's words.
    pub fn as_str(self) -> &'static str {
        match self {
            Operated::Enabled => "enabled",
            Operated::AlreadyEnabled => "already enabled",
            Operated::Disabled => "disabled",
            Operated::AlreadyDisabled => "already disabled",
            Operated::Restarted => "restarted",
            Operated::Reloading => "reloading",
            Operated::NotUp => "not up",
            Operated::Unknown => "unknown",
        }
    }
}

impl Speaker {
    /// Does what an operator wants with one protocol. The reason goes to the peer when its session ends by this; at
    /// most [`MAX_REASON`] octets of it.
    pub fn operate(
        &mut self,
        now: std::time::Duration,
        (protocol, command): (&str, Command),
        reason: &str,
        out: &mut Vec<Output>,
    ) -> Operated {
        self.now = self.now.max(now);
        out.append(&mut self.early);
        self.unflushed = true;
        let Some((source, enabled)) = self
            .find(protocol)
            .and_then(|source| Some((source, self.instance(source)?.enabled)))
        else {
            return Operated::Unknown;
        };
        match command {
            Command::Enable => {
                self.note(source, None);
                // A session may have given up by itself while its protocol was enabled.
                self.enable(source, out);
                if enabled {
                    Operated::AlreadyEnabled
                } else {
                    Operated::Enabled
                }
            }
            Command::Disable if !enabled => {
                self.note(source, Some(reason));
                Operated::AlreadyDisabled
            }
            Command::Disable => {
                self.disable(source, StopReason::AdministrativeShutdown(reason.to_owned()), out);
                self.note(source, Some(reason));
                Operated::Disabled
            }
            _ if !enabled => Operated::AlreadyDisabled,
            Command::Restart => {
                self.disable(source, StopReason::AdministrativeReset(reason.to_owned()), out);
                self.enable(source, out);
                Operated::Restarted
            }
            Command::Reload => self.reload(source, true, true),
            Command::ReloadIn => self.reload(source, true, false),
            Command::ReloadOut => self.reload(source, false, true),
        }
    }

    /// Tells changes of these protocols' states whatever the log's level, or does so no longer, until the next
    /// configuration.
    pub fn trace(&mut self, protocols: &[Arc<str>], on: bool) {
        let named = |instance: &&mut Instance| protocols.contains(instance.name());
        for instance in self.instances.iter_mut().flatten().filter(named) {
            instance.traced = on;
        }
    }

    fn note(&mut self, source: SourceId, taken_down: Option<&str>) {
        if let Some(instance) = self.instance_mut(source) {
            instance.taken_down = taken_down.map(Into::into);
        }
    }

    fn reload(&mut self, source: SourceId, import: bool, export: bool) -> Operated {
        let down = |instance: &Instance| instance.session().is_some_and(|session| session.up.is_none());
        if self.instance(source).is_none_or(down) {
            return Operated::NotUp;
        }
        self.refeed(usize::from(source.0), import, export);
        if export {
            self.announce_again(source);
        }
        Operated::Reloading
    }
}
