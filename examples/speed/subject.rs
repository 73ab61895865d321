//! The translator under test, full of connections, and what each of its packets must look like.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use std::rc::Rc;

use ::byway::{Config, Divert, Heap, Instant, Prefix, Translator, Verdict};

use crate::labels::{Call, Direction};
use crate::packet::{Content, Pair, Slot};
use crate::timed::{Chunk, compare};
use crate::workload::{ALTERNATIVE, FEW, Flows, ORIGINALS, ORIGINALS_PREFIX, original, server};

/// More than any time-out: 2 h 4 min for established TCP connections, 2 min for what they hold.
pub(crate) const LONG: Duration = Duration::from_secs(3 * 3600);

/// Places for servers beyond one for each rule, which re-diverts may need for a while.
const SPARE: usize = 128;

/// Which rules there are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rules {
    /// One for each original, each to a server of its own.
    OwnServers,
    /// For 64 of the originals, no two of one address.
    Few,
    /// One for each original, all to this address, port kept. (Sixteen alternative addresses, since ports are scarce
    /// towards so few servers.)
    OneServer(Ipv4Addr),
    /// One for a prefix that holds all originals, to this address, port kept. (Sixteen alternative addresses too.)
    Prefix(Ipv4Addr),
    /// One for all destinations, which replaces the source alone.
    Masquerade,
}

/// How a translator is configured, besides its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settings {
    /// As little as possible.
    Usual,
    /// With another address of its own.
    OwnAddress,
    /// With a limit for each client that none reaches.
    ClientLimit,
    /// With three ranges of alternative addresses.
    Ranges,
    /// With measurements of all connections and servers.
    Measured,
    /// With rules whose connections can be handed over.
    Resumable,
}

/// Room for exactly so many connections, or for 256 if those are fewer, and for so many rules.
pub(crate) fn storage(connections: u32, rules: usize) -> Heap {
    Heap::new(connections.max(256) as usize, rules).servers(rules + SPARE).events(256)
}

/// All contracts on, measurements off.
pub(crate) struct Subject {
    pub(crate) translator: Translator<Heap>,
    pub(crate) flows: Rc<Flows>,
    pub(crate) now: Instant,
    rules: Rules,
    /// The first of its alternative addresses.
    alternative: Ipv4Addr,
    /// Of each flow, the port and the number of its alternative endpoint. (No addresses are kept where there is one.)
    ports: Vec<u16>,
    addresses: Vec<u8>,
}

impl Subject {
    /// Without connections, and with room for those of `flows`.
    pub(crate) fn new(flows: &Rc<Flows>, rules: Rules) -> Result<Self, String> {
        Self::with(flows, rules, Settings::Usual)
    }

    /// The same with these settings.
    pub(crate) fn with(flows: &Rc<Flows>, rules: Rules, settings: Settings) -> Result<Self, String> {
        let (numbers, addresses) = match rules {
            Rules::OwnServers => ((0..ORIGINALS).step_by(1), 1),
            Rules::Few => ((0..FEW * 4).step_by(4), 1),
            Rules::OneServer(_) => ((0..ORIGINALS).step_by(1), 16),
            Rules::Prefix(_) => ((0..1).step_by(1), 16),
            Rules::Masquerade => ((0..1).step_by(1), 1),
        };
        let addresses = if settings == Settings::Ranges { 3 } else { addresses };
        let count = numbers.len();
        let last = Ipv4Addr::from_bits(ALTERNATIVE.to_bits() + addresses - 1);
        let config = Config::new([0x5a; 32]);
        let config = match settings {
            Settings::Usual | Settings::Measured | Settings::Resumable => {
                config.alternatives(ALTERNATIVE, last, 1024..=65535)
            }
            Settings::OwnAddress => {
                config.alternatives(ALTERNATIVE, last, 1024..=65535).own(Ipv4Addr::new(192, 0, 2, 1))
            }
            Settings::ClientLimit => config.alternatives(ALTERNATIVE, last, 1024..=65535).client_limit(10_000),
            Settings::Ranges => (0..addresses).fold(config, |config, number| {
                config.alternative(Ipv4Addr::from_bits(ALTERNATIVE.to_bits() + number), 1024..=65535)
            }),
        };
        let storage = match (storage(flows.count(), count), settings) {
            (storage, Settings::Measured) => storage.measured(),
            (storage, Settings::Resumable) => storage.resumable(),
            (storage, _) => storage,
        };
        let mut translator = Translator::new(config, storage).map_err(|error| error.to_string())?;
        for number in numbers {
            let rule = match rules {
                Rules::OwnServers | Rules::Few => Divert::new(original(number)).to(server(number)),
                Rules::OneServer(address) => Divert::new(original(number)).to(address),
                Rules::Prefix(address) => Divert::new(ORIGINALS_PREFIX).to(address),
                Rules::Masquerade => Divert::new(Prefix::ALL),
            };
            let rule = if settings == Settings::Resumable { rule.resumable() } else { rule };
            translator.divert(rule).map_err(|error| error.to_string())?;
        }
        let addresses = vec![0; if addresses == 1 { 0 } else { flows.count() as usize }];
        Ok(Self { rules, addresses, ..Self::of_shard(translator, flows, ALTERNATIVE) })
    }

    /// One of a set of translators with a rule for each original, and this alternative address.
    pub(crate) fn of_shard(translator: Translator<Heap>, flows: &Rc<Flows>, alternative: Ipv4Addr) -> Self {
        Self {
            translator,
            flows: Rc::clone(flows),
            now: Instant::ZERO,
            rules: Rules::OwnServers,
            alternative,
            ports: vec![0; flows.count() as usize],
            addresses: Vec::new(),
        }
    }

    /// With a connection for each flow below `count`: UDP that was answered, TCP after its handshake.
    pub(crate) fn filled(flows: &Rc<Flows>, rules: Rules, count: u32) -> Result<Self, String> {
        Self::filled_with(flows, rules, Settings::Usual, count)
    }

    /// The same with these settings.
    pub(crate) fn filled_with(flows: &Rc<Flows>, rules: Rules, settings: Settings, count: u32) -> Result<Self, String> {
        let mut subject = Self::with(flows, rules, settings)?;
        subject.fill(count)?;
        Ok(subject)
    }

    /// Opens a connection for each flow below `count`.
    pub(crate) fn fill(&mut self, count: u32) -> Result<(), String> {
        (0..count).try_for_each(|flow| self.open(flow))
    }

    fn open(&mut self, flow: u32) -> Result<(), String> {
        let protocol = self.flows.protocol;
        let mut slot = Slot::EMPTY;
        slot.write(Content::first(flow, protocol), self.flows.client_side(flow));
        self.send(&mut slot, Verdict::ToServer)?;
        self.learn(flow, &slot);
        slot.write(Content::answer(flow, protocol), self.server_side(flow).reversed());
        self.send(&mut slot, Verdict::ToClient)?;
        slot.write(Content::middle(flow, protocol, Direction::ToServer), self.flows.client_side(flow));
        self.send(&mut slot, Verdict::ToServer)
    }

    fn send(&mut self, slot: &mut Slot, expected: Verdict) -> Result<(), String> {
        let verdict = self.translator.translate(self.now, slot.as_mut());
        self.hear();
        if verdict == expected { Ok(()) } else { Err(format!("{verdict:?} instead of {expected:?}: {slot:?}")) }
    }

    /// Takes note of the alternative endpoint that a flow got.
    pub(crate) fn learn(&mut self, flow: u32, slot: &Slot) {
        let source = slot.source();
        self.ports[flow as usize] = source.port();
        if let Some(address) = self.addresses.get_mut(flow as usize) {
            *address = source.ip().to_bits().wrapping_sub(self.alternative.to_bits()) as u8;
        }
    }

    /// Fetches what the translator has to tell, as its caller would.
    pub(crate) fn hear(&mut self) {
        while self.translator.poll_event().is_some() {}
    }

    /// A millisecond goes by.
    pub(crate) fn step(&mut self) {
        self.now = self.now + Duration::from_millis(1);
    }

    /// All connections stand on this server now.
    pub(crate) fn moved(&mut self, to: Ipv4Addr) {
        self.rules = Rules::OneServer(to);
    }

    /// What the server sees.
    pub(crate) fn server_side(&self, flow: u32) -> Pair {
        let address = self.addresses.get(flow as usize).copied().unwrap_or(0);
        let alternative = Ipv4Addr::from_bits(self.alternative.to_bits() + u32::from(address));
        let destination = match self.rules {
            Rules::OwnServers | Rules::Few => self.flows.server(flow),
            Rules::OneServer(address) | Rules::Prefix(address) => {
                SocketAddrV4::new(address, self.flows.client_side(flow).destination.port())
            }
            Rules::Masquerade => self.flows.client_side(flow).destination,
        };
        Pair { source: SocketAddrV4::new(alternative, self.ports[flow as usize]), destination }
    }

    /// What a packet in the middle of the flow bears before it is translated.
    pub(crate) fn before(&self, flow: u32, direction: Direction) -> Pair {
        match direction {
            Direction::ToServer => self.flows.client_side(flow),
            Direction::ToClient => self.server_side(flow).reversed(),
        }
    }

    /// And after.
    pub(crate) fn after(&self, flow: u32, direction: Direction) -> Pair {
        match direction {
            Direction::ToServer => self.server_side(flow),
            Direction::ToClient => self.flows.client_side(flow).reversed(),
        }
    }

    /// Nothing was dropped, and all connections are there.
    pub(crate) fn intact(&self, connections: u32) -> Result<(), String> {
        let dropped = self.translator.counters().dropped_in_all();
        let listed = self.translator.connections().count();
        if dropped == 0 && listed == connections as usize {
            return Ok(());
        }
        Err(format!("{listed} connections of {connections}, {dropped} packets dropped"))
    }
}

/// The calls under test, with a verdict for each packet of a chunk.
pub(crate) struct Calls {
    pub(crate) call: Call,
    pub(crate) verdicts: Vec<Verdict>,
}

impl Calls {
    pub(crate) fn new(call: Call) -> Self {
        Self { call, verdicts: vec![Verdict::Pass; crate::timed::CHUNK] }
    }

    #[inline(never)]
    pub(crate) fn translate(&mut self, translator: &mut Translator<Heap>, now: Instant, chunk: &mut Chunk) {
        if self.call == Call::Burst {
            translator.translate_burst(now, &mut chunk.slots, &mut self.verdicts);
            return;
        }
        for (slot, verdict) in chunk.slots.iter_mut().zip(&mut self.verdicts) {
            *verdict = translator.translate(now, slot.as_mut());
        }
    }

    /// Every packet got this verdict. They are overwritten, so that none of an earlier chunk counts.
    pub(crate) fn all(&mut self, chunk: &Chunk, expected: Verdict) -> Result<(), String> {
        for (verdict, (slot, flow)) in self.verdicts.iter_mut().zip(chunk.slots.iter().zip(&chunk.flows)) {
            if *verdict != expected {
                return Err(format!("flow {flow}: {verdict:?} instead of {expected:?}: {slot:?}"));
            }
            *verdict = Verdict::Hold;
        }
        Ok(())
    }
}

/// Every packet of the chunk is in the middle of its flow and came out as it must.
pub(crate) fn verify_middle(
    subject: &Subject,
    chunk: &Chunk,
    label: crate::labels::Label,
    direction: Direction,
) -> Result<(), String> {
    compare(chunk, label, |flow, slot| {
        slot.write(Content::middle(flow, subject.flows.protocol, direction), subject.after(flow, direction));
    })
}
