//! Image files out of any bytes, with what a decoder checks first in order. Nothing but the standard library is used, so that
//! the tests of `imaging` include this folder as it is.

mod jpeg;
mod png;
mod webp;

pub use jpeg::jpeg;
pub use png::png;
pub use webp::webp;

/// Parts of the input: a byte for the kind, two for the length (the lower one first), and as many for the body.
fn parts(mut left: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [kind, low, high, rest @ ..] = left else { return None };
        let (body, after) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes([*low, *high]))));
        left = after;
        Some((*kind, body))
    })
}

/// Mostly sides of 1 to 64 pixels, now and then one that no small file can fill.
fn side(byte: u8) -> u16 {
    if byte < 240 { u16::from(byte % 64) + 1 } else { u16::from(byte) * 67 }
}
