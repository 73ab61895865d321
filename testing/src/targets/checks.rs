//! What holds for every packet, whatever the state: contracts 1, 3, 8 and 9.

use byway::{
    Closed, Connection, Counters, Event, Instant, Pair, Protocol, Storage, TRANSMIT_BUFFER, Translator, Verdict,
};

use byway_testing::packet::{self, ICMP, UDP, layout, same_sum, sums, word};

/// Checks what became of one packet: contracts 1 and 3.
pub fn packet(before: &[u8], after: &[u8], verdict: Verdict, hardware: bool) {
    assert_eq!(before.len(), after.len(), "the length changed");
    if !matches!(verdict, Verdict::ToServer | Verdict::ToClient) {
        assert_eq!(before, after, "{verdict:?} changed the packet");
        return;
    }
    let layout = layout(before).expect("a malformed packet was translated");
    assert_eq!(before[layout.total..], after[layout.total..], "the padding changed");
    assert_eq!(before[..4], after[..4], "version, length or service changed");
    assert_eq!(before[6..10], after[6..10], "flags, time to live or protocol changed");
    assert_eq!(before[20..layout.header], after[20..layout.header], "the options changed");
    let later = word(before, 6) & 0x1fff != 0;
    if later {
        assert_eq!(before[layout.header..], after[layout.header..], "a later fragment's content changed");
    }
    let (b, a) = (&before[layout.header..layout.total], &after[layout.header..layout.total]);
    if before[9] == UDP && !later && b.len() >= 8 && !hardware {
        assert_eq!(b[6..8] == [0, 0], a[6..8] == [0, 0], "a UDP checksum of zero came or went");
    }
    let (old, new) = (sums(before, layout), sums(after, layout));
    if !hardware {
        assert!(
            same_sum(old.header, new.header),
            "the header's checksum went from {:#x} to {:#x}",
            old.header,
            new.header
        );
    }
    if !hardware || before[9] == ICMP {
        match (old.transport, new.transport) {
            (Some(old), Some(new)) => {
                assert!(
                    same_sum(old, new),
                    "the transport's sum went from {old:#x} to {new:#x}: {before:x?} {after:x?}"
                );
                // An echo reply of all zeros is right with the checksum 0xFFFF, and wrong with 0x0000.
                assert!(old != 0xffff || new == old, "a right checksum became wrong: {before:x?} {after:x?}");
            }
            (old, new) => assert_eq!(old, new),
        }
    }
}

/// How many packets the counters count.
pub fn outcomes(counters: &Counters) -> u64 {
    counters.to_server + counters.to_client + counters.passed + counters.held + counters.dropped_in_all()
}

/// How many connections have ended.
pub fn ended(counters: &Counters) -> u64 {
    counters.closed + counters.reset + counters.expired + counters.evicted + counters.stranded + counters.forgotten
}

/// How many events of each kind there were so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub opened: u64,
    pub moved: u64,
    pub finished: u64,
    pub reset: u64,
    pub expired: u64,
    pub evicted: u64,
    pub stranded: u64,
    pub forgotten: u64,
}

impl Told {
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Opened(_) => self.opened += 1,
            Event::Moved { .. } => self.moved += 1,
            Event::Closed { why, .. } => match why {
                Closed::Finished => self.finished += 1,
                Closed::Reset | Closed::Rediverted => self.reset += 1,
                Closed::Expired => self.expired += 1,
                Closed::Evicted => self.evicted += 1,
                Closed::Stranded => self.stranded += 1,
                Closed::Forgotten => self.forgotten += 1,
                other => panic!("an end that nobody counts: {other:?}"),
            },
            _ => {}
        }
    }

    /// Compares the events with the counters, if none was lost. Moves are left out: those that records have brought are told and
    /// not counted.
    pub fn check(&self, counters: &Counters) {
        if counters.events_lost != 0 {
            return;
        }
        assert_eq!(self.opened, counters.opened + counters.imported, "opened: events and counters differ");
        assert_eq!(self.finished, counters.closed, "closed: events and counters differ");
        assert_eq!(self.reset, counters.reset, "reset: events and counters differ");
        assert_eq!(self.expired, counters.expired, "expired: events and counters differ");
        assert_eq!(self.evicted, counters.evicted, "evicted: events and counters differ");
        assert_eq!(self.stranded, counters.stranded, "stranded: events and counters differ");
        assert_eq!(self.forgotten, counters.forgotten, "forgotten: events and counters differ");
    }
}

/// Whether a connection is over, so that only late segments of it are still translated.
pub fn is_over(state: byway::State) -> bool {
    matches!(state, byway::State::TimeWait | byway::State::Resetting)
}

/// Two translators that were given the same agree: contract 8.
pub fn alike<A: Storage, B: Storage>(a: &Translator<A>, b: &Translator<B>) {
    assert_eq!(a.counters(), b.counters());
    assert!(a.connections().eq(b.connections()));
    assert!(a.records().eq(b.records()));
    assert_eq!(a.generation(), b.generation());
    assert_eq!(a.slots_in_use(), b.slots_in_use());
}

/// Sends a packet each way on every connection that is listed, and checks that it comes out on the other side of that
/// very connection: contract 5. Returns how many packets that took.
pub fn both_halves<S: Storage>(byway: &mut Translator<S>, now: Instant) -> u64 {
    // Let everything follow its re-divert first: the listing shows the server of the last packet.
    let mut buffer = [0; TRANSMIT_BUFFER];
    for _ in 0..100 {
        byway.poll(now);
        while byway.poll_transmit(now, &mut buffer).is_some() {}
    }
    let mut packets = 0;
    let listed: Vec<Connection> = byway.connections().collect();
    for connection in &listed {
        let (near, far) = (connection.client_side, connection.server_side);
        let twisted = |other: &Connection| {
            // A connection whose server is another's client: a packet between the two can be meant for either.
            other.protocol == connection.protocol
                && (other.server_side.destination == near.source && other.server_side.source == near.destination
                    || other.client_side.source == far.destination && other.client_side.destination == far.source)
        };
        if connection.state == byway::State::Resetting || listed.iter().any(twisted) {
            continue;
        }
        for (sent, expected, verdict) in
            [(near, far, Verdict::ToServer), (turned(far), turned(near), Verdict::ToClient)]
        {
            let request = verdict == Verdict::ToServer;
            let mut packet = probe(connection.protocol, sent, request);
            assert_eq!(byway.translate(now, &mut packet), verdict, "{connection} ({:?})", connection.state);
            assert_eq!(packet, probe(connection.protocol, expected, request), "{connection}");
            packets += 1;
        }
    }
    packets
}

fn turned(pair: Pair) -> Pair {
    Pair { source: pair.destination, destination: pair.source }
}

fn probe(protocol: Protocol, pair: Pair, request: bool) -> Vec<u8> {
    let (source, destination) = (pair.source, pair.destination);
    match protocol {
        Protocol::Udp => packet::udp(source, destination, b"probe"),
        Protocol::Tcp => packet::tcp(source, destination, (packet::ACK, 1, 1), b""),
        _ if request => packet::echo(8, *source.ip(), *destination.ip(), source.port(), b"probe"),
        _ => packet::echo(0, *source.ip(), *destination.ip(), destination.port(), b"probe"),
    }
}
