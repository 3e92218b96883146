//! Huffman codes and the bits of a scan, which ends at the first marker.

use crate::limits::bad;
use robust_core::{Error, Result};

/// Codes up to this long are found by one look-up.
const SHORT: u32 = 9;

/// A canonical code (T.81, annex C).
#[derive(Debug)]
pub(super) struct Huffman {
    /// `length << 8 | symbol` by the next [`SHORT`] bits; 0 where the code is longer.
    short: Vec<u16>,
    /// First code of each length, how many there are, and where their symbols begin.
    long: [(u32, u32, usize); 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// `None` when the counts do not make a code.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self { short: vec![0; 1 << SHORT], long: [(0, 0, 0); 17], symbols: symbols.to_vec() };
        let (mut code, mut next) = (0u32, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            let count = u32::from(count);
            table.long[length as usize] = (code, count, next);
            if code + count > 1 << length {
                return None;
            }
            for symbol in symbols.get(next..next + count as usize)? {
                if length <= SHORT {
                    let from = (code << (SHORT - length)) as usize;
                    let entry = (length as u16) << 8 | u16::from(*symbol);
                    table.short[from..from + (1 << (SHORT - length))].fill(entry);
                }
                code += 1;
            }
            next += count as usize;
            code <<= 1;
        }
        (next == symbols.len()).then_some(table)
    }
}

pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, the first one highest.
    held: u64,
    count: u32,
    /// Bits held that are not in the file.
    made_up: u32,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, held: 0, count: 0, made_up: 0 }
    }

    /// Where reading stands: never beyond a marker.
    pub fn at(&self) -> usize {
        self.at
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let (byte, step) = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xFF), Some(0)) => (0xFF, 2),
                (Some(0xFF), _) | (None, _) => {
                    self.made_up += 8;
                    (0, 0)
                }
                (Some(&byte), _) => (byte, 1),
            };
            self.at += step;
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    fn take(&mut self, n: u32) {
        self.held <<= n;
        self.count -= n;
    }

    /// `n` bits, at most 16.
    pub fn bits(&mut self, n: u32) -> u32 {
        if self.count < 16 {
            self.fill();
        }
        if n == 0 {
            return 0;
        }
        let value = (self.held >> (64 - n)) as u32;
        self.take(n);
        value
    }

    /// A signed value of `n` bits (T.81, figure F.12).
    pub fn signed(&mut self, n: u32) -> i32 {
        let value = self.bits(n) as i32;
        if n > 0 && value < 1 << (n - 1) { value - (1 << n) + 1 } else { value }
    }

    pub fn symbol(&mut self, table: &Huffman) -> Result<u8> {
        if self.count < 16 {
            self.fill();
        }
        let entry = table.short[(self.held >> (64 - SHORT)) as usize];
        if entry != 0 {
            self.take(u32::from(entry >> 8));
            return Ok(entry as u8);
        }
        for length in SHORT + 1..=16 {
            let code = (self.held >> (64 - length)) as u32;
            let (first, count, start) = table.long[length as usize];
            if code >= first && code - first < count {
                self.take(length);
                return Ok(table.symbols[start + (code - first) as usize]);
            }
        }
        Err(corrupt())
    }

    /// Whether every bit taken so far was in the file.
    pub fn check(&self) -> Result<()> {
        if self.count < self.made_up { Err(corrupt()) } else { Ok(()) }
    }

    /// Drops what is left before a restart marker and steps over it.
    pub fn restart(&mut self) -> Result<()> {
        self.check()?;
        // Whole bytes before the marker mean that the data and the interval disagree.
        let (left, marker) = (self.count - self.made_up, self.bytes.get(self.at..self.at + 2));
        match marker {
            Some([0xFF, 0xD0..=0xD7]) if left < 8 => {
                *self = Self::new(self.bytes, self.at + 2);
                Ok(())
            }
            _ if left < 8 && marker == Some(&[0xFF, 0xFF]) => {
                self.at += 1;
                self.restart()
            }
            _ => Err(corrupt()),
        }
    }
}

pub(super) fn corrupt() -> Error {
    bad("corrupt or truncated JPEG data".to_string())
}
