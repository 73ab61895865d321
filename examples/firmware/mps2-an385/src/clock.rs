//! Time from the board's free-running counter, in milliseconds. The processor's own timer only ends sleeps: ticks that
//! come while one is pending are lost, and a clock that counts them falls behind.

use core::ptr;

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;
use router::Instant;

/// The clock of the processor and of the counter, in Hz.
const FREQUENCY: u32 = 25_000_000;

/// Registers of the board (application note AN385, section 4.2): a counter, and by what its clock is divided, less one.
const COUNTER: usize = 0x4002_8018;
const PRESCALE: usize = 0x4002_801c;

/// Does nothing: that it came has ended the sleep.
#[exception]
fn SysTick() {}

defmt::timestamp!("{=u32:ms}", millis());

/// Milliseconds that the counter has counted. It wraps after 49 days; [`Clock`] does not.
fn millis() -> u32 {
    // SAFETY: the board has this register, and reading it does nothing else.
    unsafe { ptr::with_exposed_provenance::<u32>(COUNTER).read_volatile() }
}

pub(crate) struct Clock {
    last: u32,
    millis: i64,
}

impl Clock {
    pub(crate) fn start(mut timer: SYST) -> Self {
        // SAFETY: the board has this register, and nobody else sets it.
        unsafe { ptr::with_exposed_provenance_mut::<u32>(PRESCALE).write_volatile(FREQUENCY / 1000 - 1) };
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(FREQUENCY / 1000 - 1);
        timer.clear_current();
        timer.enable_counter();
        timer.enable_interrupt();
        Self { last: millis(), millis: 0 }
    }

    /// Time since the start. To be asked more often than every 49 days.
    pub(crate) fn now(&mut self) -> Instant {
        let now = millis();
        self.millis += i64::from(now.wrapping_sub(self.last));
        self.last = now;
        Instant::from_millis(self.millis)
    }
}
