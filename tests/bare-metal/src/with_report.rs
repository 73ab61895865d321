//! An exporter with all that it reports.

use core::hint::black_box;
use core::mem::MaybeUninit;

use byway::report::{Exporter, Settings, Totals};
use byway::{Instant, Translator};

use super::memory::Memory;
use super::with_byway::Storage;

type Reporter = Exporter<&'static mut [u8]>;

static MEMORY: Memory<(MaybeUninit<Reporter>, [u8; 1472])> = Memory::new((MaybeUninit::uninit(), [0; 1472]));

/// Sets it up, in static memory. To be called once.
pub fn start() -> &'static mut Reporter {
    // SAFETY: `image` calls this once, so these are the only references to the memory.
    let (place, buffer) = unsafe {
        let memory = MEMORY.get();
        (&mut (*memory).0, &mut (*memory).1)
    };
    let Ok(exporter) = Exporter::new(Settings::new(black_box(32_473)), &mut buffer[..]) else { loop {} };
    place.write(exporter)
}

/// From events and measurements to messages. Returns how long the last one is.
#[cfg_attr(feature = "report-paths", unsafe(no_mangle))]
pub fn report_path(exporter: &mut Reporter, translator: &mut Translator<Storage>, micros: u64) -> usize {
    let now = Instant::from_micros(micros);
    while let Some(report) = translator.poll_report() {
        if exporter.report(now, &report).is_err() {
            exporter.lost(1);
        }
    }
    for server in translator.measurements() {
        black_box(exporter.server(now, Instant::ZERO, &server).is_ok());
    }
    black_box(exporter.counters(now, &Totals::of(translator)).is_ok());
    exporter.restart();
    exporter.flush();
    black_box(exporter.poll_at());
    let mut length = 0;
    while let Some(message) = exporter.poll_transmit(now) {
        length = black_box(message).len();
    }
    length
}

pub fn take(exporter: &mut Reporter, translator: &mut Translator<Storage>, micros: u64) {
    black_box(report_path(exporter, translator, micros));
}
