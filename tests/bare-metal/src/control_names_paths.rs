//! The ways of instructions about names, for `no-panic.sh`.

use core::hint::black_box;
use core::net::{Ipv4Addr, SocketAddr};

use byway::Translator;
use byway::control::{Agent, Answer, Instruction, MAX_ANSWER, NameRights, NamedEntry, Request, WithNames};
use byway::naming::{NameEntry, Pattern};
use byway::{Instant, Match, Prefix};

use super::with_byway::Storage;
use super::with_naming::Table;

/// From the datagram to the answer, for a translator with names.
///
/// Returns how much of `answer` is to be sent.
#[unsafe(no_mangle)]
pub fn control_names_path(
    agent: &mut Agent<2, 4>,
    translator: &mut Translator<Storage>,
    names: &mut Table,
    rights: &[NameRights],
    micros: u64,
    from: SocketAddr,
    datagram: &[u8],
    answer: &mut [u8; MAX_ANSWER],
) -> usize {
    let mut both = WithNames::new(translator, names).rights(rights);
    agent.handle(Instant::from_micros(micros), &mut both, from, datagram, answer).unwrap_or(0)
}

/// The monitor's side: instructions, and what an answer tells.
#[unsafe(no_mangle)]
pub fn monitor_names_path(pattern: Pattern, rule: Match, answer: &Answer<'_>) -> Option<Request> {
    let own = NamedEntry::new(&NameEntry::new(pattern).to(black_box(Ipv4Addr::LOCALHOST)))?;
    let request = Request::one(Instruction::Name(own)).and(Instruction::Name(NamedEntry::tied(pattern, rule))).ok()?;
    let gone = Instruction::RemoveName { pattern, clients: Prefix::ALL };
    let (names, next) = answer.names();
    let told =
        |entry: byway::control::ListedEntry<'_>| black_box((entry.addresses().count(), entry.rule(), entry.clients()));
    black_box((names.map(told).count(), next, answer.name_sizes()));
    request.and(gone).ok()
}
