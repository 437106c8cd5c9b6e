//! The filter language: typed programs over a route.
