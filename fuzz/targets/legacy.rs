#![no_main]

use libfuzzer_sys::fuzz_target;

/// Magic number, version and machine of files of before PyTorch 1.6: what comes behind them is to be fuzzed.
const START: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

fuzz_target!(|bytes: &[u8]| {
    let whole = if bytes.starts_with(&START[..14]) { bytes.to_vec() } else { [START, bytes].concat() };
    robust_fuzz::model("a.pth", &whole, robust_fuzz::ALLOWANCE);
});
