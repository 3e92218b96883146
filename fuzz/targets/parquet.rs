#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = robust_fuzz::file("a.parquet", bytes);
    robust_fuzz::dataset(&format!("parquet:{path}"), bytes.len());
});
