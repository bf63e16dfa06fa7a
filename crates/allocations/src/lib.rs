//! An allocator that counts, for tests of what must not allocate.
//!
//! A test program makes it its allocator, once; then each test asks what a piece of code allocates
//! on its own thread, whatever other tests do meanwhile.
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: rekindle_allocations::Counting = rekindle_allocations::Counting;
//!
//! let (list, count) = rekindle_allocations::count(|| vec![1, 2, 3]);
//! assert_eq!((list.len(), count), (3, 1));
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, with a counter for each thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn note() {
    // A thread that ends has no counter any more, and nobody who asks for it.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

/// What `body` returns, and how often it allocated on this thread: memory that was asked for, or
/// that was made larger or smaller. Freeing does not count.
///
/// # Panics
/// If the program's allocator is not [`Counting`].
pub fn count<R>(body: impl FnOnce() -> R) -> (R, u64) {
    let before = COUNT.get();
    drop(std::hint::black_box(Box::new(0_u8)));
    let start = COUNT.get();
    assert!(start > before, "nothing is counted: `Counting` is not this program's allocator");
    let result = body();
    (result, COUNT.get() - start)
}

// SAFETY: each call goes to the system's allocator as it is; the counter beside it allocates
// nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps what `GlobalAlloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}
