//! Kernel parameters under `/proc/sys/net`.
