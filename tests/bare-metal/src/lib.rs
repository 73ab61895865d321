//! The smallest users of byway: a packet path and a forwarder, linked by `scripts/image.sh` and never run.
#![no_std]

#[cfg(feature = "paths")]
mod control_names_paths;
#[cfg(feature = "paths")]
mod control_paths;
#[cfg(feature = "byway")]
mod memory;
#[cfg(feature = "byway")]
mod with_byway;
#[cfg(feature = "control")]
mod with_control;
#[cfg(feature = "handover")]
mod with_handover;
#[cfg(feature = "naming")]
mod with_naming;
#[cfg(feature = "paths")]
mod with_relay;
#[cfg(feature = "report")]
mod with_report;
#[cfg(feature = "rules")]
mod with_rules;

use core::hint::black_box;
use core::panic::PanicInfo;

/// The forwarder whose size is measured: it takes a packet, translates it if it has byway, and gives it away.
#[unsafe(no_mangle)]
pub extern "C" fn image() -> ! {
    let mut packet = [0; 1500];
    #[cfg(feature = "byway")]
    let translator = with_byway::start(black_box([0; 32]));
    #[cfg(feature = "control")]
    with_control::start(black_box([0; 32]));
    #[cfg(feature = "naming")]
    let names = with_naming::start(black_box([0; 32]));
    #[cfg(feature = "handover")]
    let hand_overs = with_handover::start();
    #[cfg(feature = "report")]
    let exporter = with_report::start();
    loop {
        let received = black_box(&mut packet);
        #[cfg(feature = "rules")]
        with_rules::take(translator);
        #[cfg(feature = "control")]
        with_control::take(translator, black_box(0), &received[..black_box(64).min(1500)]);
        #[cfg(feature = "naming")]
        with_naming::take(names, translator, black_box(0), received);
        #[cfg(feature = "handover")]
        with_handover::take(hand_overs, translator, black_box(0), received);
        #[cfg(feature = "report")]
        with_report::take(exporter, translator, black_box(0));
        // With hand-overs, packets take their way through those instead.
        #[cfg(all(feature = "byway", not(feature = "handover")))]
        if !with_byway::packet_path(translator, black_box(0), received) {
            continue;
        }
        black_box(received);
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
