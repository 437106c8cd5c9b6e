//! The configuration language: a documented subset of BIRD 2's grammar, and the difference of two configurations.
