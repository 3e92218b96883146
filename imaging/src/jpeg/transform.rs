//! The accurate integer inverse cosine transform ("islow", after Loeffler, Ligtenberg and Moschytz 1989): 13-bit
//! constants, columns then rows, two extra bits between.

use std::num::Wrapping;

/// Place in the block, row by row, of the k-th coefficient of a zigzag walk.
pub const NATURAL_ORDER: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Hostile tables make sums overflow; they wrap, as in C.
type Int = Wrapping<i32>;

const fn int(v: i32) -> Int {
    Wrapping(v)
}

/// One block: quantised coefficients and their table, both row by row, to samples 0..=255.
pub fn inverse(coefficients: &[i16; 64], quant: &[u16; 64]) -> [u8; 64] {
    let mut work = [int(0); 64];
    for x in 0..8 {
        let at = |y: usize| int(i32::from(coefficients[8 * y + x])) * int(i32::from(quant[8 * y + x]));
        let column = if (1..8).all(|y| coefficients[8 * y + x] == 0) {
            [at(0) << 2; 8]
        } else {
            one_dimension([at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)], 11)
        };
        for (y, value) in column.into_iter().enumerate() {
            work[8 * y + x] = value;
        }
    }
    let mut samples = [0; 64];
    for (row, out) in work.as_chunks::<8>().0.iter().zip(samples.as_chunks_mut::<8>().0) {
        for (value, out) in one_dimension(*row, 18).into_iter().zip(out) {
            *out = (value + int(128)).0.clamp(0, 255) as u8;
        }
    }
    samples
}

/// Eight values, scaled by 2^13 and rounded down to `shift` bits fewer.
fn one_dimension(w: [Int; 8], shift: usize) -> [Int; 8] {
    let middle = (w[2] + w[6]) * int(4433);
    let (t2, t3) = (middle - w[6] * int(15137), middle + w[2] * int(6270));
    let (t0, t1) = ((w[0] + w[4]) << 13, (w[0] - w[4]) << 13);
    let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];

    let (z1, z2, z3, z4) = (w[7] + w[1], w[5] + w[3], w[7] + w[3], w[5] + w[1]);
    let z5 = (z3 + z4) * int(9633);
    let (z1, z2) = (z1 * int(-7373), z2 * int(-20995));
    let (z3, z4) = (z3 * int(-16069) + z5, z4 * int(-3196) + z5);
    let odd = [
        w[1] * int(12299) + z1 + z4,
        w[3] * int(25172) + z2 + z3,
        w[5] * int(16819) + z2 + z4,
        w[7] * int(2446) + z1 + z3,
    ];
    let mut out = [int(0); 8];
    let half = int(1) << (shift - 1);
    for i in 0..4 {
        out[i] = (even[i] + odd[i] + half) >> shift;
        out[7 - i] = (even[i] - odd[i] + half) >> shift;
    }
    out
}

/// One block of samples 0..=255, row by row, to coefficients eight times their size: rows then columns.
pub fn forward(samples: &[u8; 64]) -> [i32; 64] {
    let mut work = [0i32; 64];
    for (row, to) in samples.as_chunks::<8>().0.iter().zip(work.as_chunks_mut::<8>().0) {
        *to = forward_line(row.map(|v| i32::from(v) - 128), true);
    }
    let mut out = [0; 64];
    for x in 0..8 {
        let column = forward_line(std::array::from_fn(|y| work[8 * y + x]), false);
        column.into_iter().enumerate().for_each(|(y, v)| out[8 * y + x] = v);
    }
    out
}

/// Eight values: the first pass keeps two extra bits, the second takes them off again.
#[inline(always)]
fn forward_line(d: [i32; 8], first: bool) -> [i32; 8] {
    let shift = if first { 11 } else { 15 };
    let down = |v: i32, n: i32| (v + (1 << (n - 1))) >> n;
    let (s, t): ([i32; 4], [i32; 4]) =
        (std::array::from_fn(|i| d[i] + d[7 - i]), std::array::from_fn(|i| d[i] - d[7 - i]));
    let (e0, e3, e1, e2) = (s[0] + s[3], s[0] - s[3], s[1] + s[2], s[1] - s[2]);
    let ends = |v: i32| if first { v << 2 } else { down(v, 2) };
    let z = (e2 + e3) * 4433;
    let (x2, x6) = (down(z + e3 * 6270, shift), down(z - e2 * 15137, shift));
    let [d, c, b, a] = t;
    let z5 = (a + c + b + d) * 9633;
    let (z1, z2) = (-(a + d) * 7373, -(b + c) * 20995);
    let (z3, z4) = (-(a + c) * 16069 + z5, -(b + d) * 3196 + z5);
    [
        ends(e0 + e1),
        down(d * 12299 + z1 + z4, shift),
        x2,
        down(c * 25172 + z2 + z3, shift),
        ends(e0 - e1),
        down(b * 16819 + z2 + z4, shift),
        x6,
        down(a * 2446 + z1 + z3, shift),
    ]
}
