//! Buffers that are kept between runs.

use crate::cpu::kernels::Buffer;
use std::ops::{Deref, DerefMut};

/// Times its size that a buffer for a passing value may have: a small value in the largest buffer would have the next
/// large one need another.
const WASTE: usize = 3;
/// Bytes of a buffer that are not waste.
const SMALL: usize = 1 << 16;

/// How long a value is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// Until its last reader of this pass.
    Short,
    /// Until the run ends.
    Long,
}

/// What a pool deals in: memory, or sizes of memory that nobody takes.
pub(super) trait Room {
    fn of_bytes(bytes: usize) -> Self;
    fn size(&self) -> usize;
}

impl Room for Buffer {
    fn of_bytes(bytes: usize) -> Self {
        let mut buffer = Self::default();
        buffer.reserve_bytes(bytes);
        buffer
    }
    fn size(&self) -> usize {
        self.len_bytes()
    }
}

impl Room for usize {
    fn of_bytes(bytes: usize) -> Self {
        bytes
    }
    fn size(&self) -> usize {
        *self
    }
}

/// A buffer in use, and which of a pool's it is.
#[derive(Debug)]
pub(super) struct Held<B = Buffer> {
    buffer: B,
    of: Stay,
}

impl Deref for Held {
    type Target = Buffer;
    fn deref(&self) -> &Buffer {
        &self.buffer
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Buffer {
        &mut self.buffer
    }
}

/// Buffers not in use. What a forward pass leaves for the way back has buffers of its own, which nothing else takes
/// meanwhile: a value that stays must not sit in a buffer much larger than itself.
#[derive(Debug)]
pub(super) struct Pool<B = Buffer> {
    passing: Vec<B>,
    staying: Vec<B>,
    /// Whether nothing stays in this run, so that those buffers serve too.
    lends: bool,
    /// Bytes of all buffers there are.
    pub(super) made: usize,
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self { passing: vec![], staying: vec![], lends: false, made: 0 }
    }
}

impl<B: Room> Pool<B> {
    /// For a run in which nothing stays, or something may.
    pub(super) fn lending(self, lends: bool) -> Self {
        Self { lends, ..self }
    }

    fn of(&mut self, stay: Stay) -> &mut Vec<B> {
        match stay {
            Stay::Short => &mut self.passing,
            Stay::Long => &mut self.staying,
        }
    }

    /// The smallest free buffer of at least this size, and of at most the other.
    fn fitting(&mut self, bytes: usize, most: usize, of: Stay) -> Option<Held<B>> {
        let free = self.of(of);
        let fits = free.iter().enumerate().filter(|(_, b)| (bytes..=most).contains(&b.size()));
        let i = fits.min_by_key(|(_, b)| b.size()).map(|(i, _)| i)?;
        Some(Held { buffer: free.swap_remove(i), of })
    }

    /// A free buffer of at least this size, or a new one. Its contents are left from earlier uses.
    pub(super) fn bytes(&mut self, bytes: usize, of: Stay) -> Held<B> {
        let short = of == Stay::Short;
        let most = if short { bytes.saturating_mul(WASTE).max(SMALL) } else { usize::MAX };
        if let Some(held) = self.fitting(bytes, most, of) {
            return held;
        }
        let lent = if self.lends && short { self.fitting(bytes, usize::MAX, Stay::Long) } else { None };
        if let Some(held) = lent {
            return held;
        }
        // Those that stay are all as large as their values were in some batch: a larger batch replaces them.
        if of == Stay::Long
            && let Some(i) = (0..self.staying.len()).max_by_key(|i| self.staying[*i].size())
        {
            self.made -= self.staying.swap_remove(i).size();
        }
        let buffer = B::of_bytes(bytes);
        self.made += buffer.size();
        Held { buffer, of }
    }

    /// Room that is needed for a while.
    pub(super) fn floats(&mut self, len: usize) -> Held<B> {
        self.bytes(len * size_of::<f32>(), Stay::Short)
    }

    pub(super) fn give(&mut self, held: Option<Held<B>>) {
        if let Some(Held { buffer, of }) = held {
            self.of(of).push(buffer);
        }
    }
}
