//! projectcalico.org/v3 resources: keys, values, selectors, defaults, validation.
