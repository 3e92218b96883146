#![no_main]

use libfuzzer_sys::fuzz_target;

// The first two bytes say how long the file of images is; that of labels follows it.
fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, rest)) = bytes.split_first_chunk() else { return };
    let at = rest.len().min(usize::from(u16::from_le_bytes(cut)));
    let images = robust_fuzz::file("x.npy", &rest[..at]);
    let labels = robust_fuzz::file("y.npy", &rest[at..]);
    robust_fuzz::dataset(&format!("npy:{images},{labels}"), bytes.len());
});
