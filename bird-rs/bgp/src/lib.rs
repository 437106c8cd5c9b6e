//! BGP without IO: packets, state machine, tables, policy, configuration.
