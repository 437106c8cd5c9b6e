//! Address management of this node.
