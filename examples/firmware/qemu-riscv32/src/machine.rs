//! QEMU's `virt` machine, as far as it is used: console, clock, interrupts, and where its virtio devices are.

use core::fmt;
use core::ptr::{self, NonNull};

use router::Instant;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};

/// The test device: what is written here ends QEMU.
const FINISHER: usize = 0x0010_0000;
/// The core-local interruptor: when the timer is due, and the time.
const TIMER_COMPARE: usize = 0x0200_4000;
const TIMER: usize = 0x0200_bff8;
/// Ticks of the timer in a microsecond (10 MHz).
const TICKS_PER_MICRO: u64 = 10;
/// The platform-level interrupt controller, seen from machine mode of the first hart.
const PLIC_PRIORITY: usize = 0x0c00_0000;
const PLIC_ENABLE: usize = 0x0c00_2000;
const PLIC_THRESHOLD: usize = 0x0c20_0000;
const PLIC_CLAIM: usize = 0x0c20_0004;
/// A 16550.
const UART: usize = 0x1000_0000;
const UART_LINE_STATUS: usize = UART + 5;
const UART_CAN_SEND: u8 = 0x20;
/// Eight places for virtio devices; the first one has interrupt 1.
const VIRTIO: usize = 0x1000_1000;
const VIRTIO_SIZE: usize = 0x1000;
const VIRTIO_SLOTS: usize = 8;
const VIRTIO_INTERRUPT: u32 = 1;

pub(crate) type Transport = MmioTransport<'static>;

fn read<T>(address: usize) -> T {
    // SAFETY: every caller names a register of the machine above, of this width, which is always there. Reading one
    // touches no memory that Rust knows of.
    unsafe { ptr::with_exposed_provenance::<T>(address).read_volatile() }
}

fn write<T>(address: usize, value: T) {
    // SAFETY: as for `read`; none of these registers makes the machine write to memory.
    unsafe { ptr::with_exposed_provenance_mut::<T>(address).write_volatile(value) }
}

/// The serial line.
pub(crate) struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while read::<u8>(UART_LINE_STATUS) & UART_CAN_SEND == 0 {}
            write(UART, byte);
        }
        Ok(())
    }
}

/// Ends QEMU with an error.
pub(crate) fn fail() -> ! {
    write::<u32>(FINISHER, (1 << 16) | 0x3333);
    loop {
        riscv::asm::wfi();
    }
}

/// The clock and the interrupts.
///
/// Interrupts are never taken: they stay disabled as a whole, and end the sleep of `wfi` all the same.
pub(crate) struct Machine {
    start: u64,
}

impl Machine {
    pub(crate) fn take() -> Self {
        // SAFETY: `mstatus.MIE` is clear after a reset and stays so, so enabling single interrupts starts no handler.
        unsafe {
            riscv::register::mie::set_mext();
            riscv::register::mie::set_mtimer();
        }
        write::<u32>(PLIC_THRESHOLD, 0);
        Self { start: ticks() }
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Instant {
        let micros = ticks().wrapping_sub(self.start) / TICKS_PER_MICRO;
        Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// The virtio devices that are there, each with the number of its place.
    pub(crate) fn virtio(&mut self) -> impl Iterator<Item = (usize, Transport)> + use<> {
        (0..VIRTIO_SLOTS).filter_map(|slot| {
            let header = ptr::with_exposed_provenance_mut::<VirtIOHeader>(VIRTIO + slot * VIRTIO_SIZE);
            // SAFETY: the machine has these registers, aligned to a page, for as long as it runs; every place is made
            // a transport once, because `main` calls this once.
            unsafe { MmioTransport::new(NonNull::new(header)?, VIRTIO_SIZE) }.ok().map(|transport| (slot, transport))
        })
    }

    /// Lets the device in this place end a sleep.
    pub(crate) fn listen(&mut self, slot: usize) {
        let interrupt = VIRTIO_INTERRUPT + slot as u32;
        write::<u32>(PLIC_PRIORITY + 4 * interrupt as usize, 1);
        write(PLIC_ENABLE, read::<u32>(PLIC_ENABLE) | 1 << interrupt);
    }

    /// Takes note of every interrupt that is pending; `acknowledge` tells the device in that place.
    pub(crate) fn interrupts(&mut self, mut acknowledge: impl FnMut(usize)) {
        loop {
            let interrupt: u32 = read(PLIC_CLAIM);
            if interrupt == 0 {
                return;
            }
            acknowledge(interrupt.wrapping_sub(VIRTIO_INTERRUPT) as usize);
            write(PLIC_CLAIM, interrupt);
        }
    }

    /// Sleeps until a device calls, but not longer than this.
    pub(crate) fn sleep_until(&mut self, until: Instant) {
        let micros = u64::try_from(until.total_micros()).unwrap_or(0);
        let ticks = self.start.wrapping_add(micros.saturating_mul(TICKS_PER_MICRO));
        // Two halves: first one that never comes (privileged specification, section 3.2.1).
        write(TIMER_COMPARE, u32::MAX);
        write(TIMER_COMPARE + 4, (ticks >> 32) as u32);
        write(TIMER_COMPARE, ticks as u32);
        riscv::asm::wfi();
    }
}

/// The timer's 64 bits, read in halves until no carry came between.
fn ticks() -> u64 {
    loop {
        let high: u32 = read(TIMER + 4);
        let low: u32 = read(TIMER);
        if read::<u32>(TIMER + 4) == high {
            return u64::from(high) << 32 | u64::from(low);
        }
    }
}
