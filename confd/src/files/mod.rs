//! `confd files`: any file from any template, as confd's users know it.
//!
//! ```text
//!  conf.d/*.toml ─▶ resource ─┐
//!  environment, etcd,         ├─▶ render ─▶ target: stage, compare, check, replace, reload
//!  files, typha ─▶ source ─▶ keys
//! ```
//!
//! * [`keys`], [`resource`] and rendering are pure: text is a function of template, keys and data.
//! * A resource that fails (a template's error, a check that says no) leaves its file as it was, is tried again with a
//!   growing delay, and does not stop the others.
//! * Without its source nothing is rendered anew: files stay as they are.
//!
//! The reference for users is docs/confd-files.md.

pub mod config;
pub mod etcd;
mod functions;
pub mod keys;
pub mod resource;
pub mod run;
pub mod source;
pub mod target;
