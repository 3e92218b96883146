//! SHA-256 (FIPS 180-4): the checksums that others have published are of this kind.

const fn constants() -> ([u32; 8], [u32; 64]) {
    // Fractional parts of the square and cube roots of the first primes, found by whole-number roots.
    let (mut h, mut k) = ([0; 8], [0; 64]);
    let (mut n, mut candidate) = (0, 2u128);
    while n < 64 {
        let mut d = 2;
        while d * d <= candidate && candidate % d != 0 {
            d += 1;
        }
        if d * d > candidate {
            if n < 8 {
                h[n] = root(candidate << 64, 2) as u32;
            }
            k[n] = root(candidate << 96, 3) as u32;
            n += 1;
        }
        candidate += 1;
    }
    (h, k)
}

/// The whole part of a square or cube root.
const fn root(v: u128, power: u32) -> u128 {
    let (mut low, mut high) = (0u128, 1u128 << 40);
    while high - low > 1 {
        let middle = (low + high) / 2;
        let fits = if power == 2 { middle * middle <= v } else { middle * middle <= v / middle };
        if fits {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

const CONSTANTS: ([u32; 8], [u32; 64]) = constants();

/// The digest in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut state = CONSTANTS.0;
    let mut tail = bytes[bytes.len() - bytes.len() % 64..].to_vec();
    tail.push(0x80);
    tail.resize((tail.len() + 8).next_multiple_of(64) - 8, 0);
    tail.extend((8 * bytes.len() as u64).to_be_bytes());
    bytes.as_chunks::<64>().0.iter().chain(tail.as_chunks::<64>().0).for_each(|block| compress(&mut state, block));
    state.iter().map(|word| format!("{word:08x}")).collect()
}

fn compress(state: &mut [u32; 8], block: &[u8; 64]) {
    let mut w = [0u32; 64];
    for (to, from) in w.iter_mut().zip(block.as_chunks::<4>().0) {
        *to = u32::from_be_bytes(*from);
    }
    for i in 16..64 {
        let (a, b) = (w[i - 15], w[i - 2]);
        let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
        let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
        w[i] = w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (w, k) in w.iter().zip(CONSTANTS.1) {
        let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let t1 = h.wrapping_add(s1).wrapping_add((e & f) ^ (!e & g)).wrapping_add(k).wrapping_add(*w);
        let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let t2 = s0.wrapping_add((a & b) ^ (a & c) ^ (b & c));
        (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(t2));
    }
    state.iter_mut().zip([a, b, c, d, e, f, g, h]).for_each(|(s, v)| *s = s.wrapping_add(v));
}

#[cfg(test)]
mod tests {
    #[test]
    fn digests_are_those_of_the_standard() {
        let long = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        for (text, digest) in [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (long, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
        ] {
            assert_eq!(super::hex(text.as_bytes()), digest);
        }
    }
}
