#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| robust_fuzz::model("a.pth", bytes, robust_fuzz::ALLOWANCE));
