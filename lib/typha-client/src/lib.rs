//! A client of typha: the sync stream and the store.
