//! Certificates: whose one is, is said or refused with a reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;
use tortie_kit::tls::Name;

fuzz_target!(|data: &[u8]| {
    let certificate = CertificateDer::from(data);
    match Name::of(&certificate) {
        Ok(name) => assert_eq!(Name::of(&certificate), Ok(name)),
        Err(why) => assert!(!why.is_empty(), "refused without a reason"),
    }
});
