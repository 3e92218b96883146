//! WebP files out of any bytes: the lengths of RIFF and its chunks, the signatures and the sizes of the three kinds of frame
//! are in order, so that every input reaches a decoder of pixels.

use super::{parts, side};

const KINDS: [&[u8; 4]; 8] = [b"VP8L", b"VP8 ", b"ALPH", b"ANMF", b"ANIM", b"ICCP", b"EXIF", b"XMP "];

/// Three bytes say what the canvas is: the lowest bit whether the file is an extended one and the others its flags, then the
/// sides. Then come parts.
pub fn webp(bytes: &[u8]) -> Vec<u8> {
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let (flags, size) = (at(0), [side(at(1)), side(at(2))]);
    let mut body = b"WEBP".to_vec();
    if flags & 1 == 1 {
        let canvas = [&[flags & 0x3E, 0, 0, 0][..], &less_one(size[0]), &less_one(size[1])].concat();
        chunk(b"VP8X", &canvas, &mut body);
    }
    for (kind, part) in parts(bytes.get(3..).unwrap_or_default()) {
        let kind = KINDS[usize::from(kind % 8)];
        chunk(kind, &content(kind, part, size), &mut body);
    }
    let mut file = b"RIFF".to_vec();
    file.extend((body.len() as u32).to_le_bytes());
    file.extend(body);
    file
}

fn chunk(kind: &[u8; 4], body: &[u8], file: &mut Vec<u8>) {
    file.extend(kind);
    file.extend((body.len() as u32).to_le_bytes());
    file.extend(body);
    file.extend(&[0][..body.len() % 2]);
}

fn less_one(side: u16) -> [u8; 3] {
    let [a, b, ..] = (u32::from(side) - 1).to_le_bytes();
    [a, b, 0]
}

fn content(kind: &[u8; 4], part: &[u8], size: [u16; 2]) -> Vec<u8> {
    match kind {
        b"VP8L" => lossless(part, size),
        b"VP8 " => lossy(part, size),
        b"ANMF" => frame(part, size),
        b"ANIM" => part.iter().copied().chain([0; 6]).take(6).collect(),
        _ => part.to_vec(),
    }
}

/// The first byte says whether there is transparency.
fn lossless(part: &[u8], [width, height]: [u16; 2]) -> Vec<u8> {
    let (alpha, stream) = part.split_first().unwrap_or((&0, &[]));
    let header = u32::from(width - 1) & 0x3FFF | (u32::from(height - 1) & 0x3FFF) << 14 | u32::from(alpha & 1) << 28;
    [&[0x2F][..], &header.to_le_bytes(), stream].concat()
}

/// The first byte holds the version, the next two the length of the first partition.
fn lossy(part: &[u8], [width, height]: [u16; 2]) -> Vec<u8> {
    let at = |i: usize| part.get(i).copied().unwrap_or(0);
    let stream = part.get(3..).unwrap_or_default();
    let first = usize::from(u16::from_le_bytes([at(1), at(2)])).min(stream.len()) as u32;
    let [a, b, c, _] = (u32::from(at(0) & 0x0E) | 0x10 | first << 5).to_le_bytes();
    let [w, h] = [width & 0x3FFF, height & 0x3FFF].map(u16::to_le_bytes);
    [&[a, b, c, 0x9D, 1, 0x2A][..], &w, &h, stream].concat()
}

/// Six bytes place a frame of an animation on its canvas and say what is inside; a mask goes before it where they say so.
fn frame(part: &[u8], canvas: [u16; 2]) -> Vec<u8> {
    let at = |i: usize| u16::from(part.get(i).copied().unwrap_or(0));
    let size = [0, 1].map(|i| if at(i) == 0 { canvas[i] } else { (at(i) - 1) % canvas[i] + 1 });
    let place = [0, 1].map(|i| at(2 + i) % ((canvas[i] - size[i]) / 2 + 1));
    let mut body = place.map(|p| [p.to_le_bytes()[0], p.to_le_bytes()[1], 0]).concat();
    body.extend([less_one(size[0]), less_one(size[1]), [1, 0, 0]].concat());
    body.push(at(4) as u8 & 3);
    let mut inner = part.get(6..).unwrap_or_default();
    if at(5) & 0x80 != 0 {
        let (len, rest) = inner.split_first().unwrap_or((&0, &[]));
        let (mask, after) = rest.split_at(rest.len().min(usize::from(*len)));
        chunk(b"ALPH", mask, &mut body);
        inner = after;
    }
    let kind = KINDS[usize::from(at(5) & 1)];
    chunk(kind, &content(kind, inner, size), &mut body);
    body
}
