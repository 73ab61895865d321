//! A translator in static memory, and the ways of a packet into it.

use core::mem::MaybeUninit;
use core::net::Ipv4Addr;

use super::memory::Memory;
use byway::{Config, Fixed, Instant, Owner, Sharding, Translator, Verdict};

#[cfg(not(any(feature = "handover", feature = "measured")))]
pub type Storage = Fixed<1024, 64>;
/// Each connection, server and event is measured.
#[cfg(feature = "measured")]
pub type Storage = Fixed<1024, 64, 8, 8, 1032, 0, 64>;
/// Each connection can be handed over.
#[cfg(feature = "handover")]
pub type Storage = Fixed<1024, 64, 8, 8, 0, 1024>;

/// The path of a packet and nothing else: what is reachable from here must not panic.
///
/// Returns whether the packet is to be sent.
#[unsafe(no_mangle)]
pub fn packet_path(translator: &mut Translator<Storage>, micros: u64, packet: &mut [u8]) -> bool {
    let verdict = translator.translate(Instant::from_micros(micros), packet);
    !matches!(verdict, Verdict::Drop(_))
}

/// The same with what the driver knows of the packet.
#[cfg(feature = "paths")]
#[unsafe(no_mangle)]
pub fn packet_meta_path(
    translator: &mut Translator<Storage>,
    micros: u64,
    packet: &mut [u8],
    meta: byway::PacketMeta,
) -> bool {
    let verdict = translator.translate_with(Instant::from_micros(micros), packet, meta);
    !matches!(verdict, Verdict::Drop(_))
}

/// What a core asks before that, where there are several.
#[unsafe(no_mangle)]
pub fn packet_owner(sharding: &Sharding, packet: &[u8]) -> Owner {
    sharding.owner(packet)
}

/// Static memory for the translator, as firmware has it. It is in `.bss`, so it costs no flash.
static MEMORY: Memory<MaybeUninit<Translator<Storage>>> = Memory::new(MaybeUninit::uninit());

/// Sets the translator up, in static memory. To be called once.
pub fn start(secret: [u8; 32]) -> &'static mut Translator<Storage> {
    let config = Config::new(secret).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    let Ok(translator) = Translator::new(config, Storage::sized()) else { loop {} };
    // SAFETY: `image` calls this once, so this is the only reference to the memory.
    unsafe { (*MEMORY.get()).write(translator) }
}
