//! The smallest users of byway: a packet path and a forwarder, linked by `scripts/image.sh` and never run.
#![no_std]

use core::hint::black_box;
use core::panic::PanicInfo;

/// The forwarder whose size is measured: it takes a packet, translates it if it has byway, and gives it away.
#[unsafe(no_mangle)]
pub extern "C" fn image() -> ! {
    let mut packet = [0; 1500];
    #[cfg(feature = "byway")]
    let translator = with_byway::start(black_box([0; 32]));
    loop {
        let received = black_box(&mut packet);
        #[cfg(feature = "byway")]
        if !with_byway::packet_path(translator, black_box(0), received) {
            continue;
        }
        black_box(received);
    }
}

#[cfg(feature = "byway")]
mod with_byway {
    use core::cell::UnsafeCell;
    use core::mem::MaybeUninit;
    use core::net::Ipv4Addr;

    use byway::{Config, Fixed, Instant, Translator, Verdict};

    type Storage = Fixed<1024, 64>;

    /// The path of a packet and nothing else: what is reachable from here must not panic.
    ///
    /// Returns whether the packet is to be sent.
    #[unsafe(no_mangle)]
    pub fn packet_path(translator: &mut Translator<Storage>, micros: u64, packet: &mut [u8]) -> bool {
        let verdict = translator.translate(Instant::from_micros(micros), packet);
        !matches!(verdict, Verdict::Drop(_))
    }

    /// Static memory for the translator, as firmware has it. It is in `.bss`, so it costs no flash.
    struct Memory(UnsafeCell<MaybeUninit<Translator<Storage>>>);

    // SAFETY: the image has one thread and no interrupts.
    unsafe impl Sync for Memory {}

    static MEMORY: Memory = Memory(UnsafeCell::new(MaybeUninit::uninit()));

    /// Sets the translator up, in static memory. To be called once.
    pub fn start(secret: [u8; 32]) -> &'static mut Translator<Storage> {
        let config = Config::new(secret).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
        let Ok(translator) = Translator::new(config, Storage::new()) else { loop {} };
        // SAFETY: `image` calls this once, so this is the only reference to the memory.
        unsafe { (*MEMORY.0.get()).write(translator) }
    }
}

/// A packet path that can panic.
#[cfg(feature = "panics")]
#[unsafe(no_mangle)]
pub fn packet_path_that_panics(packet: &mut [u8], at: usize) {
    packet[at] = 1;
}

/// Never inlined, so that the image of whatever can panic has its symbol.
#[panic_handler]
#[inline(never)]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
