//! Routes: typed, dumped strictly, written in batches.
