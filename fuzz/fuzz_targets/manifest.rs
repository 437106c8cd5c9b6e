//! Manifests: a file is read or refused with reasons.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_model::read_manifests;

fuzz_target!(|text: &str| {
    if let Err(problems) = read_manifests("fuzz.yaml", text, "default") {
        assert!(!problems.is_empty(), "refused without a reason");
    }
});
