//! Aligned memory that is kept and reused, and slices that several threads fill in disjoint places.

use std::cell::RefCell;
use std::marker::PhantomData;

/// One cache line.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
struct Line([u8; 64]);

/// Zeroed memory that starts at a cache line; seen as floats or as bytes.
#[derive(Debug, Default, Clone)]
pub(crate) struct Buffer(Vec<Line>);

impl Buffer {
    /// Grows to at least `len` floats; new memory is zero.
    pub(crate) fn reserve(&mut self, len: usize) {
        self.reserve_bytes(len * size_of::<f32>());
    }
    pub(crate) fn reserve_bytes(&mut self, bytes: usize) {
        let lines = bytes.div_ceil(64);
        if lines > self.0.len() {
            // What was there is not needed: a fresh zeroed block costs no copy.
            self.0 = vec![];
            self.0 = vec![Line([0; 64]); lines];
        }
    }
    pub(crate) fn len_bytes(&self) -> usize {
        self.0.len() * 64
    }
    pub(crate) fn floats(&self) -> &[f32] {
        // SAFETY: lines are 64 initialised bytes without padding, aligned above f32; any bits are a float.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 16) }
    }
    pub(crate) fn floats_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `floats`, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 16) }
    }
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: as in `floats`.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 64) }
    }
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `floats`, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 64) }
    }
}

thread_local! {
    static SPARE: RefCell<Vec<Buffer>> = const { RefCell::new(vec![]) };
}

/// Calls `f` with `len` floats of this thread's memory, whose contents are left from earlier uses.
pub(super) fn scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
    buffer.reserve(len);
    let result = f(&mut buffer.floats_mut()[..len]);
    SPARE.with_borrow_mut(|spare| spare.push(buffer));
    result
}

/// A mutable slice handed to several threads, each of which writes entries of its own.
pub(super) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Shared<'_, T> {}
// SAFETY: access goes through unsafe functions whose callers keep the threads' entries apart.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrowed: PhantomData }
    }
    pub(super) fn len(&self) -> usize {
        self.len
    }
    /// A pointer to entry `i`, for `n` entries.
    ///
    /// # Safety
    /// `i + n` is at most the length, and no other thread touches these entries meanwhile.
    #[inline(always)]
    pub(super) unsafe fn at(self, i: usize, n: usize) -> *mut T {
        debug_assert!(i + n <= self.len, "{i} + {n} of {}", self.len);
        // SAFETY: the caller's promise.
        unsafe { self.start.add(i) }
    }
}

/// A pointer to entry `i` of `slice`, for `n` entries; checked in builds with debug assertions.
///
/// # Safety
/// `i + n` is at most the length.
#[inline(always)]
pub(super) unsafe fn from(slice: &[f32], i: usize, n: usize) -> *const f32 {
    debug_assert!(i + n <= slice.len(), "{i} + {n} of {}", slice.len());
    // SAFETY: the caller's promise.
    unsafe { slice.as_ptr().add(i) }
}
