//! JPEG files out of any bytes: markers, lengths, codes and references between segments are in order, so that what follows
//! them reaches the scans. A file of a real encoder can be said in these bytes too (`corpus/jpeg.tar.gz` began with such).

use super::{parts, side};

const KINDS: [u8; 12] = [0xDA, 0xC4, 0xDB, 0xDD, 0xDA, 0xEE, 0xE0, 0xFE, 0xDA, 0xC4, 0xDC, 0xDA];
/// Short codes for the commonest symbols, runs of blocks among them; an encoder's tables may replace them.
const DC: (&[u8], &[u8]) = (&[0, 1, 5, 1, 1, 1, 1, 1, 1], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
const AC: (&[u8], &[u8]) = (
    &[0, 0, 0, 8, 16],
    &[
        0x00, 0x01, 0x02, 0x11, 0xF0, 0x03, 0x12, 0x21, 0x10, 0x20, 0x40, 0x70, 0xE0, 0x31, 0x41, 0x13, 0x22, 0x05,
        0x0A, 0x51, 0x61, 0xA1, 0xF1, 0x08,
    ],
);

/// Four bytes say what the frame is, each of its colours takes one; then come parts.
///
/// The first byte: two bits for the kind of frame, then whether tables are there to begin with, whether it is JFIF, whether
/// the colours are called R, G and B; and two bits for the number of parts before the frame.
pub fn jpeg(bytes: &[u8]) -> Vec<u8> {
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let (flags, progressive) = (at(0), at(0) & 3 >= 2);
    let colours = [1, 3, 4, 3][usize::from(at(3) % 4)];
    let ids: &[u8] = if flags & 16 != 0 { b"RGBK" } else { &[1, 2, 3, 4] };
    let ids = &ids[..colours];
    let mut frame = vec![8];
    frame.extend([side(at(2)), side(at(1))].map(u16::to_be_bytes).concat());
    frame.push(colours as u8);
    for (i, id) in ids.iter().enumerate() {
        let own = at(4 + i);
        frame.extend([*id, ((own >> 2 & 3) + 1) << 4 | ((own & 3) + 1), own >> 4 & 3]);
    }
    let mut file = vec![0xFF, 0xD8];
    if flags & 4 != 0 {
        begin(&mut file);
    }
    if flags & 8 != 0 {
        segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0", &mut file);
    }
    let sof = [0xC0, 0xC1, 0xC2, 0xC2][usize::from(flags & 3)];
    let (early, mut framed) = (usize::from(flags >> 6), false);
    for (i, (kind, body)) in parts(bytes.get(4 + colours..).unwrap_or_default()).enumerate() {
        let kind = KINDS[usize::from(kind) % KINDS.len()];
        if !framed && (i >= early || kind == 0xDA) {
            segment(sof, &frame, &mut file);
            framed = true;
        }
        match kind {
            0xDA => scan(body, ids, progressive, &mut file),
            0xC4 => huffman(body, &mut file),
            0xDB => quantisation(body, &mut file),
            0xEE => segment(kind, &[b"Adobe\0\x64\0\0\0\0", body.get(..1).unwrap_or(&[1])].concat(), &mut file),
            _ => segment(kind, body, &mut file),
        }
    }
    if !framed {
        segment(sof, &frame, &mut file);
    }
    file.extend([0xFF, 0xD9]);
    file
}

fn segment(kind: u8, body: &[u8], file: &mut Vec<u8>) {
    let body = &body[..body.len().min(65_533)];
    file.extend([0xFF, kind]);
    file.extend((body.len() as u16 + 2).to_be_bytes());
    file.extend(body);
}

/// Tables for every slot that is used without being filled.
fn begin(file: &mut Vec<u8>) {
    for slot in 0..4u8 {
        segment(0xDB, &[&[slot][..], &[1 + 16 * slot; 64]].concat(), file);
    }
    for (class, (counts, symbols)) in [(0, DC), (0x10, AC)] {
        for slot in 0..2 {
            let mut body = vec![class | slot];
            body.extend(counts);
            body.resize(17, 0);
            body.extend(symbols);
            segment(0xC4, &body, file);
        }
    }
}

/// One table of whole entries.
fn quantisation(body: &[u8], file: &mut Vec<u8>) {
    let head = body.first().copied().unwrap_or(0) & 0x13;
    let mut table = vec![head];
    table.extend(body.iter().skip(1));
    table.resize(if head < 0x10 { 65 } else { 129 }, 1);
    segment(0xDB, &table, file);
}

/// One code: never more words of a length than are left, and a symbol for each.
fn huffman(body: &[u8], file: &mut Vec<u8>) {
    let mut table = vec![body.first().copied().unwrap_or(0) & 0x13];
    let (mut left, mut words) = (1usize, 0);
    for i in 0..16 {
        left *= 2;
        let count = usize::from(body.get(1 + i).copied().unwrap_or(0)).min(left).min(256 - words);
        (left, words) = (left - count, words + count);
        table.push(count as u8);
    }
    table.extend(body.iter().skip(17).chain(std::iter::repeat(&0)).take(words));
    segment(0xC4, &table, file);
}

/// The first byte: two bits for the number of colours, two for the first of them, and the highest for zeros behind the data.
/// Then a byte for each colour's tables, three for what the scan brings, and its data.
fn scan(body: &[u8], ids: &[u8], progressive: bool, file: &mut Vec<u8>) {
    let at = |i: usize| body.get(i).copied().unwrap_or(0);
    let (head, start) = (at(0), body.len().min(1));
    let mut count = usize::from(head & 3) % ids.len() + 1;
    let (low, high) = (at(start + count) % 64, at(start + count + 1) % 64);
    let bits = at(start + count + 2);
    if progressive && low > 0 {
        count = 1;
    }
    let mut header = vec![count as u8];
    for i in 0..count {
        header.extend([ids[(usize::from(head >> 2 & 3) + i) % ids.len()], at(start + i) & 0x33]);
    }
    let fine = (bits & 15).min(13);
    header.extend([low, if low == 0 && progressive { 0 } else { high.max(low) }]);
    header.push(if bits >> 4 == 0 { fine } else { (fine + 1) << 4 | fine });
    segment(0xDA, &header, file);
    let mut data = body.get(start + count + 3..).unwrap_or_default().iter();
    let mut restarts = 0;
    while let Some(&byte) = data.next() {
        match (byte, data.as_slice().first()) {
            // A marker: the next restart, or any of them.
            (0xFF, Some(&next)) if next < 0x80 => {
                data.next();
                file.extend([0xFF, 0xD0 + if next < 0x40 { restarts } else { next & 7 }]);
                restarts = (restarts + 1) % 8;
            }
            (0xFF, _) => file.extend([0xFF, 0]),
            _ => file.push(byte),
        }
    }
    if head & 0x80 != 0 {
        file.extend([0; 256]);
    }
}
