//! Socket options the standard library and the safe crates do not offer.
