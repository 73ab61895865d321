//! Processor instructions that Rust has no safe access to: the only file of the library with `unsafe`. Where there is
//! no such instruction, or no known gain from it, plain Rust does the same.

/// Prefetches the cache line that contains `place` of `slice`. It has no effect that a program can see.
///
/// Bursts prefetch the lines of 32 packets before they touch the first, so that the misses overlap. Reading a word of
/// each line in safe code overlaps half as well, since a read waits in the reorder buffer until it has arrived and a
/// prefetch does not.
#[cfg(target_pointer_width = "64")]
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

/// Which of sixteen bytes equal `byte`, as one bit each; the lowest bit is the lowest byte of the first word.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn equal_bytes(words: &[u32; 4], byte: u8) -> u32 {
    use core::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi32, _mm_set1_epi32};
    let [a, b, c, d] = words.map(u32::cast_signed);
    let wanted = (u32::MAX / 255 * u32::from(byte)).cast_signed();
    // SAFETY: the only requirement of these is that the processor has SSE2, and every x86-64 has. They compute with
    // values and touch no memory.
    #[allow(unsafe_code, reason = "see above")]
    let marks = unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_set_epi32(d, c, b, a), _mm_set1_epi32(wanted))) };
    marks.cast_unsigned()
}

/// Which of four words equal `word` in the bits of `mask`, as one bit each; the lowest bit is the first word.
#[cfg(all(target_arch = "x86_64", feature = "naming"))]
#[inline(always)]
pub(crate) fn equal_words(words: &[u32; 4], mask: u32, word: u32) -> u32 {
    use core::arch::x86_64::{
        _mm_and_si128, _mm_castsi128_ps, _mm_cmpeq_epi32, _mm_movemask_ps, _mm_set_epi32, _mm_set1_epi32,
    };
    let [a, b, c, d] = words.map(u32::cast_signed);
    let [mask, word] = [mask, word].map(u32::cast_signed);
    // SAFETY: the only requirement of these is that the processor has SSE2, and every x86-64 has. They compute with
    // values and touch no memory.
    #[allow(unsafe_code, reason = "see above")]
    let marks = unsafe {
        let masked = _mm_and_si128(_mm_set_epi32(d, c, b, a), _mm_set1_epi32(mask));
        _mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(masked, _mm_set1_epi32(word))))
    };
    marks.cast_unsigned()
}
