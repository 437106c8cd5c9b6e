//! The whole router without IO: configuration, peers, tables, and what each output is told.
