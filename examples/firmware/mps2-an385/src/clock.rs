//! Time from the processor's own timer, in milliseconds.

use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;
use router::Instant;

/// The processor's clock in Hz.
const FREQUENCY: u32 = 25_000_000;

/// Milliseconds since the start. It wraps after 49 days; [`Clock`] does not.
static MILLIS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    MILLIS.fetch_add(1, Ordering::Relaxed);
}

defmt::timestamp!("{=u32:ms}", MILLIS.load(Ordering::Relaxed));

pub(crate) struct Clock {
    millis: i64,
}

impl Clock {
    pub(crate) fn start(mut timer: SYST) -> Self {
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(FREQUENCY / 1000 - 1);
        timer.clear_current();
        timer.enable_counter();
        timer.enable_interrupt();
        Self { millis: 0 }
    }

    /// Time since the start. To be asked more often than every 49 days.
    pub(crate) fn now(&mut self) -> Instant {
        let passed = MILLIS.load(Ordering::Relaxed).wrapping_sub(self.millis as u32);
        self.millis += i64::from(passed);
        Instant::from_millis(self.millis)
    }
}
