//! One run: three translators and the model, and what must hold after each step.

use core::net::SocketAddrV4;

use byway::{
    Borrowed, Config, Connection, Event, Heap, Imported, Instant, Match, Prefix, Protocol, Storage, Target, Translator,
    Verdict, Weighted,
};

use super::super::checks;
use super::super::checks::Told;
use super::super::model::{Conn, Model};
use super::input::Operation;
use super::{ALTERNATIVE, EVENTS, FRAGMENTS, MIRRORS, ORIGINALS, RULES};

/// Packets that the third translator has not got yet, and what the others made of them.
#[derive(Default)]
pub(super) struct Burst {
    pub(super) left: u8,
    pub(super) at: u64,
    pub(super) packets: Vec<Vec<u8>>,
    pub(super) expected: Vec<(Vec<u8>, Verdict)>,
    pub(super) events: Vec<Event>,
}

pub(super) struct Run<'a, F: Storage> {
    pub(super) one: Translator<Borrowed<'a>>,
    pub(super) two: Translator<F>,
    pub(super) bursting: Translator<Heap>,
    /// Whether the third has an index of rules, and entries for servers that rules share.
    pub(super) large: bool,
    pub(super) config: Config,
    pub(super) model: Model,
    pub(super) told: Told,
    pub(super) last: Vec<u8>,
    pub(super) burst: Burst,
    pub(super) wanted: u64,
}

impl<F: Storage> Run<'_, F> {
    /// Rules that are there from the start, so that sequences need not find them first.
    pub(super) fn first_rules(&mut self, which: u8) {
        let [first, second, third, _] = ORIGINALS;
        let one = |target: Target| vec![Weighted { target, weight: 1 }];
        let endpoint = |address, port| Target::Endpoint(SocketAddrV4::new(address, port));
        let group = [MIRRORS[0], MIRRORS[1]].map(|m| Weighted { target: Target::Address(m), weight: 2 });
        for (bit, matches, targets, keep_source, siblings) in [
            (0, Match::from(first), one(endpoint(MIRRORS[0], 8080)), false, false),
            (1, Match::from(SocketAddrV4::new(first, 80)), group.to_vec(), false, false),
            (2, Match::from(second), one(Target::Address(MIRRORS[1])), false, true),
            (3, Match::from(third), one(Target::Address(MIRRORS[0])), true, false),
            (4, Match::from(third).protocol(Protocol::Udp), one(Target::Address(MIRRORS[1])), true, true),
            (5, Match::from(Prefix::ALL), one(Target::Same), false, false),
            (6, Match::from(SocketAddrV4::new(ALTERNATIVE, 80)), one(Target::Address(MIRRORS[1])), false, false),
        ] {
            if which >> bit & 1 != 0 {
                self.divert(matches, &targets, keep_source, siblings, None);
            }
        }
    }

    /// The time of the next step. It may lie before that of the last one.
    pub(super) fn now(&mut self) -> u64 {
        if self.wanted >= self.model.now {
            self.wanted = self.model.advance(self.wanted);
        }
        self.wanted
    }

    pub(super) fn step(&mut self, operation: &Operation) {
        if let Operation::Packet(packet) = operation {
            let now = self.now();
            if self.burst.at != now {
                self.flush();
            }
            let packet = self.build(packet);
            self.send(now, &packet);
            self.burst.left = self.burst.left.saturating_sub(1);
            if self.burst.left == 0 {
                self.flush();
            }
            return self.check();
        }
        self.flush();
        match operation {
            Operation::Wait { micros } => self.wanted = self.wanted.saturating_add_signed(*micros),
            Operation::Burst(length) => self.burst.left = *length,
            Operation::Packet(_) => {}
            Operation::Divert { matches, targets, keep_source, siblings, midstream } => {
                self.divert(*matches, targets, *keep_source, *siblings, *midstream);
            }
            Operation::Remove(matches) => self.remove(*matches),
            Operation::Redivert { from, to, how } => self.redivert(*from, *to, *how),
            Operation::Poll => self.poll(),
            Operation::Forget => self.forget(),
            Operation::Transmit => self.transmit(),
            Operation::Import { which, place, value } => self.import(*which, *place, *value),
        }
        self.check();
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.one.poll_event() {
            assert_eq!(self.two.poll_event(), Some(event));
            self.told.hear(&event);
            events.push(event);
        }
        assert_eq!(self.two.poll_event(), None);
        events
    }

    /// The events of a step that all three took at once.
    pub(super) fn events_of_all(&mut self) -> Vec<Event> {
        let events = self.events();
        for event in &events {
            assert_eq!(self.bursting.poll_event(), Some(*event));
        }
        assert_eq!(self.bursting.poll_event(), None);
        events
    }

    fn send(&mut self, now: u64, packet: &[u8]) {
        let at = Instant::from_micros(now);
        let (mut after, mut again) = (packet.to_vec(), packet.to_vec());
        let verdict = self.one.translate(at, &mut after);
        assert_eq!(self.two.translate(at, &mut again), verdict);
        assert_eq!(after, again, "two that were told the same differ");
        checks::packet(packet, &after, verdict, false);
        let events = self.events();
        self.burst.at = now;
        self.burst.packets.push(packet.to_vec());
        self.burst.expected.push((after.clone(), verdict));
        self.burst.events.extend(&events);
        self.model.packet(packet, &after, verdict, &events);
        self.last = packet.to_vec();
    }

    /// Gives the third translator what the others had one by one.
    fn flush(&mut self) {
        let Burst { at, mut packets, expected, events, left } = core::mem::take(&mut self.burst);
        let mut verdicts = vec![Verdict::Pass; packets.len()];
        if let [packet] = packets.as_mut_slice()
            && at % 2 == 0
        {
            verdicts[0] = self.bursting.translate(Instant::from_micros(at), packet);
        } else if !packets.is_empty() {
            let done = self.bursting.translate_burst(Instant::from_micros(at), &mut packets, &mut verdicts);
            assert_eq!(done, packets.len());
        }
        for ((packet, verdict), (after, one)) in packets.iter().zip(&verdicts).zip(&expected) {
            assert_eq!(verdict, one, "a burst gives another verdict");
            assert_eq!(packet, after, "a burst gives another packet");
        }
        for event in events {
            assert_eq!(self.bursting.poll_event(), Some(event), "a burst tells something else");
        }
        assert_eq!(self.bursting.poll_event(), None);
        (self.burst.left, self.burst.at) = (left, at);
    }

    fn check(&mut self) {
        checks::alike(&self.one, &self.two);
        if self.burst.packets.is_empty() {
            checks::alike(&self.one, &self.bursting);
        }
        let counters = self.one.counters();
        assert_eq!(checks::outcomes(counters), self.model.packets, "a packet was not counted once");
        assert_eq!(counters.events_lost, 0);
        assert_eq!(counters.fragments_evicted, 0);
        self.told.check(counters);
        assert_eq!(self.told.moved, counters.moved, "moved: events and counters differ");
        let listed: Vec<Connection> = self.one.connections().collect();
        let resetting = self.model.connections.iter().filter(|c| c.state == byway::State::Resetting);
        let find = |c: &Conn| self.one.connection(c.protocol, c.near.source, c.near.destination);
        let told: Vec<Connection> = resetting.filter_map(find).map(|(c, _)| c).collect();
        self.model.check_listing(&listed, &told, self.one.slots_in_use() as usize);
        let carried = listed.iter().filter(|c| c.state != byway::State::Resetting);
        assert!(self.one.records().map(|r| r.connection()).eq(carried.map(|c| Some(*c))));
        self.one.records().for_each(|record| self.model.check_record(&record));
        // Every connection was opened and has not ended, and each is counted once with its client and its server.
        let current = counters.opened + counters.imported - checks::ended(counters);
        let standing: u64 = self.one.diverts().flat_map(|d| d.servers()).map(|(_, n)| u64::from(n)).sum();
        assert!(standing <= current, "{standing} connections stand on servers, and there are {current}");
        let unended = self.model.connections.iter().filter(|c| !super::super::model::is_over(c.state)).count() as u64;
        assert_eq!(current, unended + self.model.forgotten.len() as u64, "connections that have not ended");
    }

    pub(super) fn check_rules(&self) {
        let theirs: Vec<_> = self.one.diverts().collect();
        assert_eq!(theirs.len(), self.model.rules.list.len());
        for entry in theirs {
            let rule = self.model.rules.list.iter().find(|r| r.matches == entry.matches());
            let rule = rule.unwrap_or_else(|| panic!("a rule that nobody entered: {}", entry.matches()));
            assert_eq!((entry.keeps_source(), entry.takes_replies_from_any_port()), (rule.keep_source, rule.siblings));
            assert_eq!(entry.midstream(), rule.midstream);
            assert!(entry.servers().map(|(w, _)| w).eq(rule.targets.iter().copied()), "{}", entry.matches());
            let same = self.bursting.find_divert(entry.matches()).expect("all have the same rules");
            assert_eq!(same.to_string(), entry.to_string());
        }
        assert_eq!(self.bursting.diverts().count(), self.model.rules.list.len());
    }

    pub(super) fn end(&mut self) {
        self.flush();
        let now = Instant::from_micros(self.model.now);
        // A snapshot restores everything that can be carried on elsewhere.
        let heap = Heap::new(self.one.capacity() * 2, RULES).fragments(FRAGMENTS).events(EVENTS);
        let mut restored = Translator::new(self.config.clone(), heap).expect("a good configuration");
        for record in self.one.records() {
            assert_eq!(restored.import(now, &record), Ok(Imported::New), "{record:?}");
        }
        let carried = |c: &Connection| c.state != byway::State::Resetting;
        assert_eq!(restored.connections().count(), self.one.connections().filter(carried).count());
        for connection in self.one.connections().filter(carried) {
            // What its record does not know (an acknowledged number of 0) is taken for acknowledged: a FIN, too.
            let record = self.one.record(&connection).expect("it can be carried on");
            let known = |range: core::ops::Range<usize>| record.as_bytes()[range] != [0; 4];
            let unsure = connection.protocol == Protocol::Tcp && !(known(44..48) && known(48..52));
            let same = |c: Connection| {
                let ends = |c: Connection| (c.protocol, c.client_side, c.server_side);
                if unsure { ends(c) == ends(connection) } else { c == connection }
            };
            assert!(restored.connections().any(same), "not restored: {connection}");
        }
        checks::both_halves(&mut restored, now);
        checks::both_halves(&mut self.one, now);
    }
}
