//! How numbers lie in the files of arrays.

/// How one element is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElementKind {
    Unsigned,
    Signed,
    Float,
    Bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dtype {
    pub kind: ElementKind,
    /// Bytes: 1, 2, 4 or 8 for integers, 2, 4 or 8 for floats, 1 for booleans.
    pub size: usize,
    pub big_endian: bool,
}

impl Dtype {
    pub const U8: Self = Self { kind: ElementKind::Unsigned, size: 1, big_endian: false };

    pub fn little(kind: ElementKind, size: usize) -> Self {
        Self { kind, size, big_endian: false }
    }

    /// The low 64 bits, sign-extended where signed.
    pub fn bits(self, bytes: &[u8]) -> u64 {
        let mut wide = [0u8; 8];
        for (to, from) in wide.iter_mut().zip(bytes) {
            *to = *from;
        }
        if self.big_endian {
            wide[..self.size].reverse();
        }
        let bits = u64::from_le_bytes(wide);
        let unused = 64 - 8 * self.size as u32;
        if self.kind == ElementKind::Signed { ((bits << unused) as i64 >> unused) as u64 } else { bits }
    }

    /// One element as it was stored. Integers beyond 2^53 are rounded.
    pub fn number(self, bytes: &[u8]) -> f64 {
        match (self.kind, self.size) {
            (ElementKind::Float, 2) => half(self.bits(bytes) as u16),
            (ElementKind::Float, 4) => f64::from(f32::from_bits(self.bits(bytes) as u32)),
            (ElementKind::Float, _) => f64::from_bits(self.bits(bytes)),
            (ElementKind::Signed, _) => self.bits(bytes) as i64 as f64,
            (ElementKind::Bool, _) => f64::from(u8::from(self.bits(bytes) != 0)),
            (ElementKind::Unsigned, _) => self.bits(bytes) as f64,
        }
    }
}

/// An IEEE half: a sign, five bits of exponent, ten of fraction.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1F), f64::from(bits & 0x3FF) / 1024.);
    let size = match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0. => f64::INFINITY,
        31 => f64::NAN,
        _ => (1. + fraction) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_width_and_sign_are_read() {
        for size in [1, 2, 4, 8] {
            for big_endian in [false, true] {
                let value = (-2i64).to_le_bytes();
                let mut raw = value[..size].to_vec();
                if big_endian {
                    raw.reverse();
                }
                let signed = Dtype { kind: ElementKind::Signed, size, big_endian };
                assert_eq!(signed.bits(&raw) as i64, -2);
                let unsigned = Dtype { kind: ElementKind::Unsigned, ..signed };
                assert_eq!(unsigned.bits(&raw), u64::MAX >> (64 - 8 * size) & !1);
            }
        }
    }

    #[test]
    fn halves_are_read_to_the_last_bit() {
        // As numpy gives them: a third, the largest, the least normal and the least of all.
        for (bits, value) in [
            (0x3555u16, 0.333251953125),
            (0xC000, -2.),
            (0x7BFF, 65504.),
            (0x0400, 6.103515625e-5),
            (0x0001, 5.960464477539063e-8),
            (0x8000, 0.),
        ] {
            assert_eq!(half(bits), value, "{bits:#x}");
        }
        assert!(half(0x7C00) == f64::INFINITY && half(0xFC00) == f64::NEG_INFINITY && half(0x7E00).is_nan());
    }
}
