//! Waking a thread that waits for packets.

use core::sync::atomic::{AtomicBool, Ordering};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes one thread. It costs a system call only if that thread sleeps.
#[derive(Debug)]
pub struct Waker {
    event: OwnedFd,
    sleeps: AtomicBool,
}

impl Waker {
    /// For a thread that is awake.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        Ok(Self { event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?, sleeps: AtomicBool::new(false) })
    }

    /// Wakes the thread. What it is woken for must be there already.
    pub fn wake(&self) {
        if self.sleeps.swap(false, Ordering::SeqCst) {
            // It cannot fail before 2^64 others have gone unread.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }

    /// Says that the thread is about to sleep. After that it must look once more whether anything is there.
    pub fn will_sleep(&self) {
        self.sleeps.store(true, Ordering::SeqCst);
    }

    /// Says that the thread is awake again.
    pub fn is_awake(&self) {
        self.sleeps.store(false, Ordering::SeqCst);
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
