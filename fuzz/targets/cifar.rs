#![no_main]

use libfuzzer_sys::fuzz_target;

// A batch as pickled by Python.
fuzz_target!(|bytes: &[u8]| {
    robust_fuzz::file("cifar/test_batch", bytes);
    robust_fuzz::dataset(&format!("cifar10:{}", robust_fuzz::folder("cifar")), bytes.len());
});
