#![no_main]

use libfuzzer_sys::fuzz_target;

// Weights of a model in a safetensors file.
fuzz_target!(|bytes: &[u8]| robust_fuzz::model("a.safetensors", bytes, robust_fuzz::ALLOWANCE));
