//! Checkpoints of before PyTorch 1.6. Nothing but the standard library is used, so that the tests of `models` include this file as
//! it is.

/// Magic number, version and machine: what comes behind them is to be fuzzed.
const START: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

/// The input as such a file: behind the start that every one has, unless it has it already.
pub fn legacy(bytes: &[u8]) -> Vec<u8> {
    if bytes.starts_with(&START[..14]) { bytes.to_vec() } else { [START, bytes].concat() }
}
