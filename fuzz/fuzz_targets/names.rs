//! Selectors and names: what is accepted has a canonical form that is accepted and canonical.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_model::{Selector, WorkloadName};

fuzz_target!(|text: &str| {
    if let Ok(selector) = text.parse::<Selector>() {
        let canonical = selector.canonical();
        match canonical.parse::<Selector>() {
            Ok(again) => assert_eq!(again.canonical(), canonical),
            Err(e) => panic!("{canonical:?}: {e}"),
        }
    }
    if let Ok(name) = text.parse::<WorkloadName>() {
        assert_eq!(name.to_string(), text);
    }
});
