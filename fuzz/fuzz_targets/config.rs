//! Configurations: what is accepted prints to text that is the same configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tortie_bgp::config::{NoInclude, parse};

fuzz_target!(|text: &str| {
    match parse("fuzz.conf", text, &mut NoInclude) {
        Ok(config) => {
            let printed = config.to_string();
            match parse("printed.conf", &printed, &mut NoInclude) {
                Ok(again) => assert_eq!(config, again, "{printed}"),
                Err(errors) => panic!("{}\nin\n{printed}", errors[0]),
            }
        }
        Err(errors) => assert!(!errors.is_empty(), "refused without a reason"),
    }
});
