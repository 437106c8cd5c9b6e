//! What is asked of the kernel, and its refusals.

use std::fmt;
use std::sync::Arc;

use super::Route;
use super::object::ObjectChange;

/// A change of the kernel's routes, or of the objects they name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Add it; refused with EEXIST when the key is taken.
    Create(Arc<Route>),
    /// Put it in the place of the one with the same key, without a gap; refused with ENOENT when there is none.
    Replace(Arc<Route>),
    /// Remove exactly this one; refused with ESRCH when it is not there.
    Delete(Arc<Route>),
    /// See there.
    Object(ObjectChange),
}

impl Change {
    /// The route it is about, if it is about one.
    pub fn route(&self) -> Option<&Route> {
        match self {
            Change::Create(r) | Change::Replace(r) | Change::Delete(r) => Some(r),
            Change::Object(_) => None,
        }
    }
}

/// A change the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which of the changes given to [`Kernel::apply`], from 0.
    pub index: usize,
    /// The kernel's error number.
    pub errno: i32,
    /// The kernel's own words, when it has any ("Nexthop has invalid gateway").
    pub message: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = nix::errno::Errno::from_raw(self.errno);
        match &self.message {
            Some(message) => write!(f, "{message} ({errno:?})"),
            None => write!(f, "{} ({errno:?})", errno.desc()),
        }
    }
}
