//! One thing at a time for each endpoint; different endpoints do not wait for one another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Locks by name. A lock exists while somebody holds it or waits for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Lanes {
    locks: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Lanes {
    /// Waits for its turn; the lane is free again when the guard is dropped.
    pub(super) async fn enter(&self, name: String) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(name).or_default())
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn equal_names_wait_and_others_do_not() {
        let lanes = Lanes::default();
        let first = lanes.enter("a".into()).await;
        let _other = lanes.enter("b".into()).await;
        let waiting = tokio::spawn({
            let lanes = lanes.clone();
            async move { drop(lanes.enter("a".into()).await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
        drop(_other);
        drop(lanes.enter("c".into()).await);
        assert_eq!(lanes.locks.lock().unwrap().len(), 1, "unused lanes are forgotten");
    }
}
