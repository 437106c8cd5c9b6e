//! Laboratory clusters in network namespaces, the demo, and the tests that use them.
