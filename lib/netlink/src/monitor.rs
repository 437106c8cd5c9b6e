//! What changes in the kernel, as events.
