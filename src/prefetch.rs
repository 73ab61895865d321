//! Asks the processor to fetch a cache line before it is needed: the one `unsafe` of the library.
//!
//! Bursts ask for the lines of 32 packets before they touch the first, so that the misses overlap. Reading a word of
//! each line in safe code overlaps half as well (the figures are in `docs/performance.md`), since a read waits in the
//! reorder buffer until it has arrived and a prefetch does not. Where there is no such instruction, or nothing is known
//! to be gained, this does nothing.

/// Asks for the line that `place` of `slice` lies in. It changes nothing that a program can see.
#[inline(always)]
pub(crate) fn prefetch<T>(slice: &[T], place: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        if let Some(item) = slice.get(place) {
            // SAFETY: the only requirement of `_mm_prefetch` is that the processor has SSE, and every x86-64 has. It
            // is a hint about an address, here that of a live reference: it reads and writes nothing, and it does not
            // fault.
            #[allow(unsafe_code, reason = "see above")]
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(item).cast());
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (slice, place);
    }
}
