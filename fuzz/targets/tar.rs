#![no_main]

use libfuzzer_sys::fuzz_target;

// One archive, read as a folder of classes and as a WebDataset shard.
fuzz_target!(|bytes: &[u8]| {
    let path = robust_fuzz::file("a.tar", bytes);
    robust_fuzz::dataset(&format!("folder:{path}"), bytes.len());
    robust_fuzz::dataset(&format!("wds:{path}"), bytes.len());
});
