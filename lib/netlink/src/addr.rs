//! Addresses of interfaces.
