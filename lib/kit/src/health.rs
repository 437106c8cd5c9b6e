//! Readiness by named guards, and what a program that is ready has to tell all the same.
//!
//! Every part of a program that must work before the program is of use takes a [`Guard`]; the program is ready when
//! every guard is, and `/readyz` names those that are not, with the reason each gave. A part that ends drops its guard
//! and no longer counts. Before the first guard was taken the program is starting and not ready: it may answer HTTP
//! before its parts exist.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// The readiness of a program. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health {
    parts: Arc<Mutex<Parts>>,
}

/// The parts there are, by name.
#[derive(Debug, Default)]
struct Parts {
    by_name: BTreeMap<String, Part>,
    /// A guard was taken once.
    any_yet: bool,
}

/// One part.
#[derive(Debug, Clone, Default)]
struct Part {
    /// Why it is not ready, if it is not.
    waits: Option<String>,
    /// What is wrong and does not make the program useless.
    notes: Vec<String>,
}

/// What one part says of itself. Not ready until it says so.
#[derive(Debug)]
pub struct Guard {
    health: Health,
    name: String,
}

/// A part and why it is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotReady {
    /// Which part.
    pub part: String,
    /// What it waits for or what is wrong, in words.
    pub reason: String,
}

impl Health {
    /// A program that has no part yet: not ready.
    pub fn new() -> Self {
        Self::default()
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        // The map is whole at every moment: a panic elsewhere does not spoil it.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part that is not ready yet. Names are unique: the same name again replaces the earlier part.
    pub fn guard(&self, name: &str) -> Guard {
        let part = Part {
            waits: Some("starting".to_owned()),
            notes: Vec::new(),
        };
        let mut parts = self.parts();
        parts.by_name.insert(name.to_owned(), part);
        parts.any_yet = true;
        drop(parts);
        Guard {
            health: self.clone(),
            name: name.to_owned(),
        }
    }

    /// The parts that are not ready, sorted by name.
    pub fn not_ready(&self) -> Vec<NotReady> {
        let parts = self.parts();
        if !parts.any_yet {
            return vec![NotReady {
                part: "program".to_owned(),
                reason: "starting".to_owned(),
            }];
        }
        let waiting = parts
            .by_name
            .iter()
            .filter_map(|(name, part)| Some((name.clone(), part.waits.clone()?)));
        waiting.map(|(part, reason)| NotReady { part, reason }).collect()
    }

    /// Is every part ready?
    pub fn is_ready(&self) -> bool {
        let parts = self.parts();
        parts.any_yet && parts.by_name.values().all(|part| part.waits.is_none())
    }

    /// What the parts have to tell, ready or not; by part, in the order each gave.
    pub fn notes(&self) -> Vec<String> {
        self.parts()
            .by_name
            .values()
            .flat_map(|part| part.notes.clone())
            .collect()
    }
}

impl Guard {
    /// The part works.
    pub fn ready(&self) {
        self.waits(None);
    }

    /// The part does not work (any more), and why.
    pub fn not_ready(&self, reason: &str) {
        self.waits(Some(reason.to_owned()));
    }

    /// What is wrong of the part now and does not make the program useless: `/readyz` shows it line by line, in place
    /// of what was noted before.
    pub fn note(&self, notes: Vec<String>) {
        self.health.parts().by_name.entry(self.name.clone()).or_default().notes = notes;
    }

    fn waits(&self, reason: Option<String>) {
        self.health.parts().by_name.entry(self.name.clone()).or_default().waits = reason;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.health.parts().by_name.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_part_is() {
        let health = Health::new();
        assert!(!health.is_ready(), "nothing runs yet");
        assert_eq!(health.not_ready().first().map(|n| n.reason.as_str()), Some("starting"));
        let (a, b) = (health.guard("a"), health.guard("b"));
        a.ready();
        b.not_ready("typha: connection refused");
        let waiting = [NotReady {
            part: "b".into(),
            reason: "typha: connection refused".into(),
        }];
        assert_eq!(health.not_ready(), waiting);
        drop(b);
        assert!(health.is_ready());
        a.note(vec!["failing: a route".into()]);
        assert!(health.is_ready(), "a note keeps nobody from being ready");
        assert_eq!(health.notes(), ["failing: a route"]);
        a.not_ready("again");
        assert!(!health.is_ready());
        assert_eq!(health.notes().len(), 1);
        drop(a);
        assert!(health.notes().is_empty(), "they go with the part");
    }
}
