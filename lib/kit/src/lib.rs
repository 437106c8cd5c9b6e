//! The shell every daemon shares: logging, health, metrics, addresses of services, drain.
