//! PNG files out of any bytes, with everything right that a decoder checks first: signature, header, lengths, checksums and
//! zlib's framing. What is behind the checks is reached by every input then, not by one of a million.

const CHUNKS: [&[u8; 4]; 10] =
    [b"IDAT", b"PLTE", b"tRNS", b"IDAT", b"gAMA", b"cHRM", b"iCCP", b"acTL", b"fcTL", b"fdAT"];

/// Six bytes say what the header does; then each chunk takes one for its kind, one for its length, and its body.
pub fn png(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes.iter().copied();
    let mut next = || rest.next().unwrap_or(0);
    let side = |b: u8| u32::from(b % 40) + u32::from(b >= 40);
    let (width, height) = (side(next()), side(next()));
    let depth = [1, 2, 4, 8, 16, 8, 8, 3][usize::from(next() % 8)];
    let colour = [0, 2, 3, 4, 6, 3, 2, 5][usize::from(next() % 8)];
    let interlaced = next() % 2;
    let stored = next() % 4 != 0;
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([depth, colour, 0, 0, interlaced]);
    chunk(b"IHDR", &header, &mut file);
    let mut left = bytes.get(6..).unwrap_or_default();
    while let [kind, len, body @ ..] = left {
        let kind = CHUNKS[usize::from(kind % 10)];
        let (body, after) = body.split_at(body.len().min(usize::from(*len)));
        match kind == b"IDAT" && stored {
            true => chunk(kind, &zlib(body), &mut file),
            false => chunk(kind, body, &mut file),
        }
        left = after;
    }
    chunk(b"IEND", &[], &mut file);
    file
}

fn chunk(kind: &[u8; 4], body: &[u8], file: &mut Vec<u8>) {
    file.extend((body.len() as u32).to_be_bytes());
    let checked = [kind.as_slice(), body].concat();
    file.extend(&checked);
    let crc = !checked.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 })
    });
    file.extend(crc.to_be_bytes());
}

/// A stream of one stored block.
fn zlib(body: &[u8]) -> Vec<u8> {
    let (a, b) = body.iter().fold((1u32, 0u32), |(a, b), &v| {
        let a = (a + u32::from(v)) % 65521;
        (a, (a + b) % 65521)
    });
    let len = body.len() as u16;
    [&[0x78, 1, 1][..], &len.to_le_bytes(), &(!len).to_le_bytes(), body, &(b << 16 | a).to_be_bytes()].concat()
}
