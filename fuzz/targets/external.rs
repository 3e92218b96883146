#![no_main]

use libfuzzer_sys::fuzz_target;

// A graph and the weights beside it.
fuzz_target!(|bytes: &[u8]| robust_fuzz::outside(&robust_fuzz::external(bytes)));
