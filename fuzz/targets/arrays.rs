#![no_main]

use libfuzzer_sys::fuzz_target;

// Images and labels in one safetensors file or npz archive.
fuzz_target!(|bytes: &[u8]| {
    let (scheme, name) = if bytes.starts_with(b"PK") { ("npz", "a.npz") } else { ("safetensors", "a.safetensors") };
    let path = robust_fuzz::file(name, bytes);
    robust_fuzz::dataset(&format!("{scheme}:{path}"), bytes.len());
});
