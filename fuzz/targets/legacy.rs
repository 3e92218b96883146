#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| robust_fuzz::model("a.pth", &robust_fuzz::legacy(bytes), robust_fuzz::ALLOWANCE));
