//! Static memory, as firmware has it.

use core::cell::UnsafeCell;

/// A value in static memory. If it is all zeros or not initialised, it is in `.bss`, so it costs no flash.
pub struct Memory<T>(UnsafeCell<T>);

// SAFETY: the image has one thread and no interrupts.
unsafe impl<T> Sync for Memory<T> {}

impl<T> Memory<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Where the value is.
    pub const fn get(&self) -> *mut T {
        self.0.get()
    }
}
