//! An allocator that counts, and stops the target where an input makes it hold too much.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Once;

/// Bytes that may be held for each byte of the input ...
const FOR_EACH: usize = 4;
/// ... and in any case.
const ALLOWED: usize = 64 << 20;

#[global_allocator]
static COUNTED: Counted = Counted;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// The highest peak of any input.
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

struct Counted;

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        System.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        System.alloc_zeroed(layout)
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        System.dealloc(place, layout);
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() {
            grow(size - layout.size());
        } else {
            HELD.fetch_sub(layout.size() - size, Relaxed);
        }
        System.realloc(place, layout, size)
    }
}

fn grow(size: usize) {
    let held = HELD.fetch_add(size, Relaxed).wrapping_add(size);
    if held > PEAK.load(Relaxed) {
        PEAK.store(held, Relaxed);
        let limit = LIMIT.load(Relaxed);
        if held > limit {
            LIMIT.store(usize::MAX, Relaxed);
            eprintln!("fuzz: {size} bytes more make {held}, over the limit of {limit}");
            std::process::abort(); // libFuzzer keeps the input and shows where
        }
    }
}

extern "C" {
    fn atexit(last: extern "C" fn()) -> i32;
}

extern "C" fn report() {
    eprintln!("fuzz: peak {:.1} MB", HIGHEST.load(Relaxed) as f64 / 1e6);
}

/// Does the work for an input of `size` bytes; ends the process where it holds more than that allows.
pub fn bounded(size: usize, work: impl FnOnce()) {
    static ONCE: Once = Once::new();
    // SAFETY: `report` only reads a number and writes to standard error.
    ONCE.call_once(|| unsafe {
        let _ = atexit(report); // without it only the report is missing
    });
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    LIMIT.store(before.saturating_add(size.saturating_mul(FOR_EACH)).saturating_add(ALLOWED), Relaxed);
    work();
    LIMIT.store(usize::MAX, Relaxed);
    HIGHEST.fetch_max(PEAK.load(Relaxed).saturating_sub(before), Relaxed);
}
