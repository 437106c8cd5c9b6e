//! Neighbour entries.
