//! Laboratory clusters in network namespaces: what the demo and the end-to-end tests are made of.
//!
//! A [`lab::Lab`] owns everything it makes (namespaces, processes, one directory) and removes it when dropped; what a
//! killed run left behind is removed by the next one. Nothing outside the lab's namespaces is touched. Needs root.

pub mod demo;
pub mod lab;
