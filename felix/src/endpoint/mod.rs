//! The endpoint service: what the CNI plugin asks for.
