#![no_main]

use libfuzzer_sys::fuzz_target;

// Loaded, run and differentiated, or refused.
fuzz_target!(|bytes: &[u8]| robust_fuzz::network(&robust_fuzz::quantised(bytes)));
