//! A table of 16 names that uses all that there is: packets, a TCP connection, instructions, rules.

use core::hint::black_box;
use core::mem::MaybeUninit;
use core::net::Ipv4Addr;

use byway::naming::{Answered, FixedNames, MAX_ANSWER_PACKET, Name, NameEntry, Names, NamesConfig, Pattern};
#[cfg(feature = "names-tied")]
use byway::{Divert, Redivert};
use byway::{Instant, Prefix, Translator};

use super::memory::Memory;
use super::with_byway::Storage;

pub type Table = Names<FixedNames<16, 64>>;

static MEMORY: Memory<(MaybeUninit<Table>, [u8; MAX_ANSWER_PACKET])> =
    Memory::new((MaybeUninit::uninit(), [0; MAX_ANSWER_PACKET]));

/// Sets the table up, in static memory. To be called once.
pub fn start(secret: [u8; 32]) -> &'static mut Table {
    // SAFETY: `image` calls this once, so this is the only reference to the memory.
    unsafe { (*MEMORY.get()).0.write(Names::new(NamesConfig::new(secret), FixedNames::new())) }
}

/// The way of a packet. Returns how much of `out` is to be sent.
#[cfg_attr(feature = "paths", unsafe(no_mangle))]
pub fn names_path(names: &mut Table, micros: u64, packet: &[u8], out: &mut [u8]) -> usize {
    match names.intercept(Instant::from_micros(micros), packet, out) {
        Answered::Answer { length } => length,
        _ => 0,
    }
}

/// The way of what a TCP connection brings. Returns how much of `out` is to be sent.
#[cfg_attr(feature = "paths", unsafe(no_mangle))]
pub fn names_stream_path(names: &mut Table, micros: u64, input: &[u8], out: &mut [u8]) -> usize {
    let client = black_box(Ipv4Addr::LOCALHOST);
    let done = names.answer_stream(Instant::from_micros(micros), client, input, out);
    black_box((done.taken, done.next));
    done.written
}

/// The ways of instructions.
#[cfg_attr(feature = "paths", unsafe(no_mangle))]
pub fn names_instruction_path(names: &mut Table, translator: &mut Translator<Storage>, name: &str) {
    let Ok(pattern) = name.parse::<Pattern>() else { return };
    let address = || black_box(Ipv4Addr::LOCALHOST);
    let entry = || NameEntry::new(pattern).to(address()).ttl(black_box(60));
    black_box(names.insert(entry()).is_ok());
    black_box(names.remove(&pattern, black_box(Prefix::ALL)).is_ok());
    #[cfg(feature = "names-tied")]
    tie(names, translator, &pattern);
    #[cfg(not(feature = "names-tied"))]
    let _ = translator;
    black_box(names.entries().filter_map(|entry| entry.addresses().next()).count());
    black_box::<Option<Name>>(names.entries().next().map(|entry| *entry.pattern().name()));
    black_box(names.counters().in_all());
}

#[cfg(feature = "names-tied")]
fn tie(names: &mut Table, translator: &mut Translator<Storage>, pattern: &Pattern) {
    let address = || black_box(Ipv4Addr::LOCALHOST);
    let (entry, rule) = (NameEntry::new(*pattern), Divert::new(address()).to(address()));
    black_box(names.divert(translator, entry, rule).is_ok());
    black_box(names.redivert(translator, pattern, Prefix::ALL, address(), black_box(Redivert::Switch)).is_ok());
    black_box(names.remove_both(translator, pattern, Prefix::ALL).is_ok());
    black_box(names.untie(pattern, Prefix::ALL).is_ok());
    black_box(names.check_rules(translator));
}

pub fn take(names: &mut Table, translator: &mut Translator<Storage>, micros: u64, packet: &[u8]) {
    // SAFETY: this function does not call itself, and nothing else refers to this half of the memory.
    let out = unsafe { &mut (*MEMORY.get()).1 };
    black_box(names_path(names, micros, packet, out));
    black_box(names_stream_path(names, micros, packet, out));
    names_instruction_path(names, translator, black_box("www.bt.com"));
}
