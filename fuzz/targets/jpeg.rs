#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| robust_fuzz::image(&robust_fuzz::jpeg(bytes)));
