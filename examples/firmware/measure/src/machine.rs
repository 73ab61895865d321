//! What differs between the two processors: where the stack ends, and how instructions are counted.

/// The counter of instructions. It counts them only under QEMU's `-icount shift=0`, where each takes a nanosecond.
pub(crate) struct Counter {
    #[cfg(target_arch = "arm")]
    timer: cortex_m::peripheral::SYST,
}

#[cfg(target_arch = "arm")]
impl Counter {
    /// The timer runs at the processor's 25 MHz, so one tick of it is 40 instructions.
    const PER_TICK: u32 = 40;
    /// It counts 24 bits down.
    const LAST: u32 = 0x00ff_ffff;

    pub(crate) fn start(mut timer: cortex_m::peripheral::SYST) -> Self {
        timer.set_clock_source(cortex_m::peripheral::syst::SystClkSource::Core);
        timer.set_reload(Self::LAST);
        timer.clear_current();
        timer.enable_counter();
        Self { timer }
    }

    /// The instructions that `run` takes, to within 40; at most 671 million of them.
    pub(crate) fn count(&mut self, run: impl FnOnce()) -> u32 {
        self.timer.clear_current();
        let start = cortex_m::peripheral::SYST::get_current();
        run();
        let end = cortex_m::peripheral::SYST::get_current();
        assert!(!self.timer.has_wrapped(), "too much to count");
        (start.wrapping_sub(end) & Self::LAST) * Self::PER_TICK
    }
}

#[cfg(target_arch = "riscv32")]
impl Counter {
    pub(crate) const fn start() -> Self {
        Self {}
    }

    /// The instructions that `run` takes, modulo 2^32.
    pub(crate) fn count(&mut self, run: impl FnOnce()) -> u32 {
        let start = riscv::register::minstret::read();
        run();
        (riscv::register::minstret::read().wrapping_sub(start)) as u32
    }
}

/// Where the stack of the caller ends now; what lies below is free.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let pointer: usize;
    // SAFETY: a register is copied, nothing else.
    #[cfg(target_arch = "arm")]
    unsafe {
        core::arch::asm!("mov {}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "riscv32")]
    unsafe {
        core::arch::asm!("mv {}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    pointer
}
