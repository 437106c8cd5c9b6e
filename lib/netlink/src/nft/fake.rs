//! Tables for tests: what the kernel answers, and faults on demand. A handle: clones share the state.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::wire::Batch;
use super::{Seen, Table, TableId, Tables};
use crate::request::RequestError;
use crate::route::Frames;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct FakeTables {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<TableId, Seen>,
    refuse: BTreeMap<TableId, (Errno, u32)>,
    refuse_reads: u32,
    lose_answers: u32,
    writes: u32,
}

impl FakeTables {
    /// A kernel without tables.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody makes the table hold this.
    pub fn put(&self, id: TableId, table: &Table) {
        self.state().tables.insert(id, written(id, table));
    }

    /// Somebody removes the table.
    pub fn delete(&self, id: TableId) {
        self.state().tables.remove(&id);
    }

    /// Refuses the next `times` writes of this table.
    pub fn refuse(&self, id: TableId, errno: Errno, times: u32) {
        self.state().refuse.insert(id, (errno, times));
    }

    /// Interrupts the next `times` reads.
    pub fn refuse_reads(&self, times: u32) {
        self.state().refuse_reads = times;
    }

    /// Makes the next `times` changes, but loses the answers.
    pub fn lose_answers(&self, times: u32) {
        self.state().lose_answers = times;
    }

    /// Does the table hold exactly this?
    pub fn holds(&self, id: TableId, table: &Table) -> bool {
        let there = self.state().tables.get(&id).cloned();
        there.is_some_and(|seen| table.difference(id.family, &seen).is_none())
    }

    /// The tables there are.
    pub fn ids(&self) -> Vec<TableId> {
        self.state().tables.keys().copied().collect()
    }

    /// How many changes were asked for.
    pub fn writes(&self) -> u32 {
        self.state().writes
    }
}

impl State {
    fn write(&mut self, id: TableId, seen: Option<Seen>) -> io::Result<()> {
        self.writes += 1;
        if let Some((errno, times)) = self.refuse.get_mut(&id)
            && *times > 0
        {
            *times -= 1;
            return Err(io::Error::from_raw_os_error(*errno as i32));
        }
        match seen {
            Some(seen) => self.tables.insert(id, seen),
            None => self.tables.remove(&id),
        };
        if self.lose_answers > 0 {
            self.lose_answers -= 1;
            return Err(io::Error::from_raw_os_error(Errno::ENOBUFS as i32));
        }
        Ok(())
    }
}

/// What is there after a transaction: what its messages say, for a listing has the same.
fn written(id: TableId, table: &Table) -> Seen {
    let (octets, _) = Batch::replace(id, table).encode(1);
    let mut seen = Seen::default();
    for frame in Frames(&octets) {
        seen.take(id, frame.kind, frame.body);
    }
    seen
}

impl Tables for FakeTables {
    fn read(&mut self, id: TableId) -> Result<Option<Seen>, RequestError> {
        let mut state = self.state();
        if state.refuse_reads > 0 {
            state.refuse_reads -= 1;
            return Err(RequestError::new("read", id, io::ErrorKind::Interrupted.into()));
        }
        Ok(state.tables.get(&id).cloned())
    }

    fn replace(&mut self, id: TableId, table: &Table) -> Result<(), RequestError> {
        let done = self.state().write(id, Some(written(id, table)));
        done.map_err(|e| RequestError::new("write", id, e))
    }

    fn remove(&mut self, id: TableId) -> Result<(), RequestError> {
        let done = self.state().write(id, None);
        done.map_err(|e| RequestError::new("remove", id, e))
    }
}
