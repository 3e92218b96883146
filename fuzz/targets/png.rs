#![no_main]

use libfuzzer_sys::fuzz_target;

// A PNG whose checksums are right, whatever else is wrong.
fuzz_target!(|bytes: &[u8]| robust_fuzz::image(&robust_fuzz::png(bytes)));
