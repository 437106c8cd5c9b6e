//! Routing tables: every route heard, the best of each prefix, and why.
