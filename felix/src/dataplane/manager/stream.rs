//! What bird-rs's stream says. The entries are the copy that is held of it.

use std::sync::Arc;

use tortie_net::Prefix;
use tortie_replica::Delta;

use super::Manager;
use crate::dataplane::class::RouteClass;
use crate::dataplane::fib::FibPath;

impl Manager {
    /// A new stream begins: what was told stays until it is in sync.
    pub(super) fn fib_begins(&mut self) {
        self.receiving = true;
        self.entries.iter_mut().for_each(|(_, entry)| entry.named = false);
    }

    pub(super) fn fib(&mut self, delta: Delta<Prefix, Arc<FibPath>>) {
        match delta {
            Delta::Set(prefix, path) => self.learn(prefix, &path),
            Delta::Delete(prefix) => self.withdraw(prefix),
            Delta::InSync => {
                if std::mem::take(&mut self.receiving) {
                    self.sweep();
                }
                self.synced.fib = true;
                self.withdrawn.clear();
                self.forget_inherited();
            }
        }
    }

    fn learn(&mut self, prefix: Prefix, path: &Arc<FibPath>) {
        let path = self.paths.acquire(path, &self.view);
        let entry = self.entries.or_default(prefix);
        entry.named = true;
        let before = entry.bgp.replace(path);
        if let Some(before) = before {
            self.paths.release(before);
        }
        self.withdrawn.remove(&prefix);
        if before != Some(path) {
            self.dirty.insert(prefix);
        }
    }

    /// Of what bird-rs has never told nothing is withdrawn: a route found at start, of which it has not heard yet, stays.
    fn withdraw(&mut self, prefix: Prefix) {
        let Some(entry) = self.entries.get_mut(&prefix) else {
            return;
        };
        let Some(before) = entry.bgp.take() else { return };
        if !self.synced.fib {
            self.withdrawn.insert(prefix);
            if entry.inherited().is_some_and(|(class, _)| *class == RouteClass::Bgp) {
                entry.disinherit();
            }
        }
        self.paths.release(before);
        self.dirty.insert(prefix);
    }

    /// What a complete stream did not name is gone.
    fn sweep(&mut self) {
        let (mut routes, mut removed) = (0u64, 0u64);
        for (prefix, entry) in self.entries.iter_mut() {
            if let Some(path) = entry.bgp.take_if(|_| !entry.named) {
                removed += 1;
                self.paths.release(path);
                self.dirty.insert(*prefix);
            }
            routes += u64::from(entry.bgp.is_some());
        }
        tracing::info!(routes, removed, "bird-rs's table is complete");
    }
}
