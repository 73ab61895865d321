//! The ways of instructions and events, for `no-panic.sh`: what is reachable from them must not panic.

use core::hint::black_box;
use core::net::{Ipv4Addr, SocketAddr};

use byway::control::{Agent, Client, Incoming, Instruction, MAX_ANSWER, Request, Rule};
use byway::{Divert, Fixed, Instant, Translator};

use super::with_byway::Storage;

/// From the datagram to the answer.
///
/// Returns how much of `answer` is to be sent.
#[unsafe(no_mangle)]
pub fn control_path(
    agent: &mut Agent<2, 4>,
    translator: &mut Translator<Storage>,
    micros: u64,
    from: SocketAddr,
    datagram: &[u8],
    answer: &mut [u8; MAX_ANSWER],
) -> usize {
    agent.handle(Instant::from_micros(micros), translator, from, datagram, answer).unwrap_or(0)
}

/// The same for the translators of two cores.
#[unsafe(no_mangle)]
pub fn control_path_of_two(
    agent: &mut Agent<2, 4>,
    translators: &mut [&mut Translator<Storage>; 2],
    micros: u64,
    from: SocketAddr,
    datagram: &[u8],
    answer: &mut [u8; MAX_ANSWER],
) -> usize {
    agent.handle(Instant::from_micros(micros), &mut translators[..], from, datagram, answer).unwrap_or(0)
}

/// The way of an event to the monitors. Returns how much of `answer` is to be sent, and to where.
#[unsafe(no_mangle)]
pub fn event_path(
    agent: &mut Agent<2, 4>,
    translator: &mut Translator<Storage>,
    micros: u64,
    answer: &mut [u8; MAX_ANSWER],
) -> Option<(SocketAddr, usize)> {
    let now = Instant::from_micros(micros);
    while agent.has_room()
        && let Some(event) = translator.poll_event()
    {
        agent.tell(now, &event);
    }
    agent.poll_transmit(now, answer)
}

/// Storage that measures connections and servers.
type Measured = Fixed<64, 4, 8, 8, 64, 0, 4>;

/// What was measured, for a monitor that asks for it, and for those that have subscribed. Returns how much of `answer` is
/// to be sent, and to where.
#[unsafe(no_mangle)]
pub fn report_path(
    agent: &mut Agent<2, 4, 4>,
    translator: &mut Translator<Measured>,
    micros: u64,
    from: SocketAddr,
    datagram: &[u8],
    answer: &mut [u8; MAX_ANSWER],
) -> Option<(SocketAddr, usize)> {
    let now = Instant::from_micros(micros);
    if let Ok(length) = agent.handle(now, translator, from, datagram, answer) {
        return Some((from, length));
    }
    black_box(agent.report_at());
    agent.poll_report(now, translator, answer)
}

/// The monitor's side: the same for what comes from a translator and for what is asked next.
///
/// Returns what is to be sent.
#[unsafe(no_mangle)]
pub fn monitor_path<'a>(client: &'a mut Client, micros: u64, datagram: &[u8]) -> Option<&'a [u8]> {
    let now = Instant::from_micros(micros);
    match client.handle(now, datagram) {
        Ok(Incoming::Opened(answer) | Incoming::Answer(answer)) => {
            black_box((answer.effects().count(), answer.counters().count(), answer.settings().is_some()));
            black_box((answer.rules().0.map(|rule| rule.servers().count()).sum::<usize>(), answer.refused()));
            black_box(answer.connections().0.count());
            black_box(answer.measurements().servers().map(|server| server.measured.started).sum::<u32>());
        }
        Ok(Incoming::Report(report)) => {
            black_box(report.page().servers().map(|server| server.measured.response.count()).sum::<u64>());
        }
        Ok(Incoming::Events(events)) => {
            black_box(events.events().count());
        }
        _ => {}
    }
    if client.is_ready() {
        let rule = Rule::new(&Divert::new(black_box(Ipv4Addr::LOCALHOST)).to(black_box(Ipv4Addr::BROADCAST)))?;
        let request = Request::one(Instruction::Divert(rule)).and(black_box(Instruction::Counters)).ok()?;
        client.send(now, &request.only_if(black_box(1))).ok()?;
    }
    client.poll_transmit(now).ok()?
}
