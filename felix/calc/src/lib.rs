//! From cluster state to one node's desired dataplane, as a pure function.
