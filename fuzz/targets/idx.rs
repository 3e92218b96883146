#![no_main]

use libfuzzer_sys::fuzz_target;

// The first two bytes say how long the file of images is; that of labels follows it.
fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, rest)) = bytes.split_first_chunk() else { return };
    let at = rest.len().min(usize::from(u16::from_le_bytes(cut)));
    robust_fuzz::file("mnist/t10k-images-idx3-ubyte", &rest[..at]);
    robust_fuzz::file("mnist/t10k-labels-idx1-ubyte", &rest[at..]);
    robust_fuzz::dataset(&format!("mnist:{}", robust_fuzz::folder("mnist")), bytes.len());
});
