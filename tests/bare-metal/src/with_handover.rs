//! Two hand-overs at once, at rest; packets, an instruction for one connection and one for all.

use core::hint::black_box;
use core::mem::MaybeUninit;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;

use byway::{AtRest, HandOvers, Instant, Pair, Translator};
#[cfg(feature = "handover-paths")]
use byway::{Divert, Redivert};

use super::memory::Memory;
use super::with_byway::Storage;

type Mover = HandOvers<'static, AtRest, 2>;

static MEMORY: Memory<(MaybeUninit<Mover>, [u8; 2048])> = Memory::new((MaybeUninit::uninit(), [0; 2048]));

/// Sets it up, in static memory. To be called once.
pub fn start() -> &'static mut Mover {
    // SAFETY: `image` calls this once, so these are the only references to the memory.
    let (place, buffer) = unsafe {
        let memory = MEMORY.get();
        (&mut (*memory).0, &mut (*memory).1)
    };
    place.write(HandOvers::new(AtRest::after(black_box(Duration::from_millis(500))), buffer))
}

/// The way of a packet, and after that of what the hand-overs have to say.
#[cfg_attr(feature = "handover-paths", unsafe(no_mangle))]
pub fn handover_path(mover: &mut Mover, translator: &mut Translator<Storage>, micros: u64, packet: &mut [u8]) -> usize {
    let _ = black_box(mover.translate(Instant::from_micros(micros), translator, packet));
    poll(mover, translator, micros, packet)
}

/// Apart, so that a packet's way does not have an outcome on its stack.
#[cfg_attr(feature = "handover-paths", inline(never))]
fn poll(mover: &mut Mover, translator: &mut Translator<Storage>, micros: u64, packet: &mut [u8]) -> usize {
    let now = Instant::from_micros(micros);
    mover.poll(now, translator);
    black_box(mover.poll_at(now));
    black_box(mover.poll_outcome());
    mover.poll_transmit(now, translator, packet).map_or(0, |own| own.length)
}

/// The ways of instructions.
#[cfg_attr(feature = "handover-paths", unsafe(no_mangle))]
pub fn handover_instruction_path(mover: &mut Mover, translator: &mut Translator<Storage>, micros: u64) {
    let pair = Pair { source: end(), destination: end() };
    black_box(mover.begin(Instant::from_micros(micros), translator, &pair, end()).is_ok());
    #[cfg(feature = "handover-paths")]
    {
        black_box(translator.divert(Divert::new(end()).to(end()).resumable()).is_ok());
        black_box(translator.redivert(end(), end(), black_box(Redivert::HandOver)).is_ok());
    }
}

fn end() -> SocketAddrV4 {
    SocketAddrV4::new(black_box(Ipv4Addr::LOCALHOST), black_box(80))
}

pub fn take(mover: &mut Mover, translator: &mut Translator<Storage>, micros: u64, packet: &mut [u8]) {
    black_box(handover_path(mover, translator, micros, packet));
    handover_instruction_path(mover, translator, micros);
}
