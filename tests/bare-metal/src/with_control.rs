//! An agent with two keys and four sessions: what comes is taken for an instruction.

use core::hint::black_box;
use core::net::{Ipv4Addr, SocketAddr};

use byway::control::{Agent, Key, MAX_ANSWER, Rights};
use byway::{Instant, Translator};

use super::memory::Memory;
use super::with_byway::Storage;

/// All zeros, so that it costs no flash.
static MEMORY: Memory<(Agent<2, 4>, [u8; MAX_ANSWER])> = Memory::new((Agent::new([0; 32]), [0; MAX_ANSWER]));

/// Gives the agent its entropy and a key. To be called once.
pub fn start(entropy: [u8; 32]) {
    // SAFETY: `image` calls this once, before anything else, so this is the only reference to the memory.
    let (agent, _) = unsafe { &mut *MEMORY.get() };
    *agent = Agent::new(entropy);
    let _ = agent.add_key(Key::new(1, black_box([0; 32]), Rights::All));
}

pub fn take(translator: &mut Translator<Storage>, micros: u64, datagram: &[u8]) {
    // SAFETY: this function does not call itself, so this is the only reference to the memory.
    let (agent, answer) = unsafe { &mut *MEMORY.get() };
    let now = Instant::from_micros(micros);
    let from = black_box(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    if let Ok(length) = agent.handle(now, translator, from, datagram, answer) {
        black_box(&answer[..length.min(MAX_ANSWER)]);
    }
    while agent.has_room()
        && let Some(event) = translator.poll_event()
    {
        agent.tell(now, &event);
    }
    while let Some((to, length)) = agent.poll_transmit(now, answer) {
        black_box((to, &answer[..length.min(MAX_ANSWER)]));
    }
}
