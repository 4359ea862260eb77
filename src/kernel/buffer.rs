//! Memory on cache-line boundaries, scratch memory that a thread keeps, and rows that threads write side by side.

use std::cell::RefCell;
use std::marker::PhantomData;

/// One cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// f32 in a cache line.
const LINE: usize = 16;

/// f32 that begin on a cache-line boundary, so that a vector never straddles two lines.
#[derive(Debug, Clone, Default)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Buffer { lines: vec![Line([0.0; LINE]); len.div_ceil(LINE)], len }
    }

    /// At least `len` values; new ones are 0, old ones stay.
    fn grow(&mut self, len: usize) {
        if len > self.lines.len() * LINE {
            self.lines.resize(len.div_ceil(LINE), Line([0.0; LINE]));
        }
        self.len = len;
    }
}

impl std::ops::Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: a line is 16 f32 without padding (repr(C), size = alignment = 64), and len <= 16 lines.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`; `&mut self` makes it the only view.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Scratch memory that goes back to its thread when dropped. A guard and not a closure: closures are compiled without the
/// instruction set of the kernel around them.
#[derive(Debug)]
pub struct Scratch(Buffer);

impl Scratch {
    /// `len` values of any content.
    pub fn take(len: usize) -> Self {
        // Taken out while in use: a nested call gets another.
        let mut buffer = SCRATCH.with(|kept| kept.borrow_mut().pop()).unwrap_or_default();
        buffer.grow(len);
        Scratch(buffer)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        SCRATCH.with(|kept| kept.borrow_mut().push(buffer));
    }
}

impl std::ops::Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl std::ops::DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

/// A slice that several threads write at once, each its own places.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    start: *mut f32,
    len: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only followed by unsafe code, which must keep threads apart; f32 is Send.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    /// Borrows the slice for as long as the threads work.
    pub fn new(slice: &'a mut [f32]) -> Self {
        Shared { start: slice.as_mut_ptr(), len: slice.len(), life: PhantomData }
    }

    /// The place `at`, from which `n` values are about to be read or written.
    #[inline(always)]
    pub fn at(self, at: usize, n: usize) -> *mut f32 {
        debug_assert!(at + n <= self.len, "{at} + {n} of {}", self.len);
        self.start.wrapping_add(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_zero() {
        let mut buffer = Buffer::zeros(37);
        assert_eq!(buffer.as_ptr() as usize % 64, 0);
        assert_eq!(buffer.len(), 37);
        assert!(buffer.iter().all(|x| *x == 0.0));
        buffer[36] = 1.0;
        assert_eq!(buffer[36], 1.0);
    }

    #[test]
    fn nested_scratch_is_other_memory() {
        let mut a = Scratch::take(10);
        a.fill(1.0);
        let mut b = Scratch::take(20);
        b.fill(2.0);
        assert_eq!((a.len(), b.len()), (10, 20));
        assert!(a.iter().all(|x| *x == 1.0));
    }
}
