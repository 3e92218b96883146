//! Buffers that are kept between runs.

use crate::cpu::kernels::Buffer;

/// Buffers not in use. What a forward pass leaves for the way back has buffers of its own, which nothing else takes: a
/// value that stays must not sit in a buffer much larger than itself.
#[derive(Debug, Default)]
pub(super) struct Pool {
    passing: Vec<Buffer>,
    staying: Vec<Buffer>,
    /// Bytes of all buffers there are.
    pub(super) made: usize,
}

/// How long a value is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// Until its last reader of this pass.
    Short,
    /// Until the run ends.
    Long,
}

impl Pool {
    fn of(&mut self, stay: Stay) -> &mut Vec<Buffer> {
        match stay {
            Stay::Short => &mut self.passing,
            Stay::Long => &mut self.staying,
        }
    }

    /// The smallest free buffer of at least this size, or a new one. Its contents are left from earlier uses.
    pub(super) fn bytes(&mut self, bytes: usize, stay: Stay) -> Buffer {
        let free = self.of(stay);
        let fits = free.iter().enumerate().filter(|(_, b)| b.len_bytes() >= bytes);
        if let Some(i) = fits.min_by_key(|(_, b)| b.len_bytes()).map(|(i, _)| i) {
            return free.swap_remove(i);
        }
        // Those that stay are all as large as their values were in some batch: a larger batch replaces them.
        if stay == Stay::Long
            && let Some(i) = (0..free.len()).max_by_key(|i| free[*i].len_bytes())
        {
            let dropped = free.swap_remove(i);
            self.made -= dropped.len_bytes();
        }
        let mut buffer = Buffer::default();
        buffer.reserve_bytes(bytes);
        self.made += buffer.len_bytes();
        buffer
    }

    /// Room that is needed for a while.
    pub(super) fn floats(&mut self, len: usize) -> Buffer {
        self.bytes(len * size_of::<f32>(), Stay::Short)
    }

    pub(super) fn give(&mut self, buffer: Option<Buffer>, stay: Stay) {
        self.of(stay).extend(buffer);
    }
}
