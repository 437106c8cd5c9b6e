//! Address management decisions: blocks, affinities, handles.
