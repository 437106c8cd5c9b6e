//! The datastore's objects this node needs, typed, as a snapshot that any task may read.
