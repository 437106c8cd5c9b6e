//! The Linux kernel's network state: links, addresses, routes, neighbours, sysctls.
