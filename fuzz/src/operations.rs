//! Sequences of operations against the naive model: a stretch of 16 octets for each operation, read with `arbitrary`.
//!
//! Three translators are told the same: one over arrays, one over slices of the caller, and one over the heap, which
//! takes packets in bursts where the sequence says so. The second has measurements, so that no packet is plain to it:
//! what the shorter way of the others does is held against the longer one. After each operation they must agree with
//! each other and with the model.

use std::fmt::Write;

use arbitrary::{Arbitrary, Unstructured};
use byway::{
    Borrowed, Config, Connection, Divert, Event, Fixed, Heap, Imported, InexactReset, Instant, Match, Midstream,
    PortChoice, Prefix, Protocol, Record, Redivert, RedivertError, Storage, TRANSMIT_BUFFER, Target, Translator,
    Verdict, Weighted, slots,
};
use core::net::{Ipv4Addr, SocketAddrV4};

use super::checks::{self, Told};
use super::model::packet::{self, ACK, FIN, RST, SYN};
use super::model::rules::{Rule, place};
use super::model::tcp::Way;
use super::model::{Conn, Model, Move, Settings};

/// Octets of input that one operation takes.
pub const STRETCH: usize = 16;
/// More operations than this are not carried out.
const LONGEST: usize = 120;

/// Rules, and their servers, and re-diverts within one sweep.
const RULES: usize = 24;
const MANY_RULES: usize = 1_100;
/// In the octet that chooses the first rules.
const LARGE: u8 = 0x80;
const FRAGMENTS: usize = 160;
const EVENTS: usize = 256;

const ALTERNATIVE: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 10);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 10, 10, 11);
const CLIENTS: [Ipv4Addr; 6] = [
    Ipv4Addr::new(1, 2, 3, 4),
    Ipv4Addr::new(1, 2, 3, 5),
    Ipv4Addr::new(1, 2, 4, 4),
    Ipv4Addr::new(192, 168, 7, 7),
    Ipv4Addr::new(127, 0, 0, 1),
    OWN,
];
const ORIGINALS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(100, 100, 100, 100),
    Ipv4Addr::new(100, 100, 100, 101),
    Ipv4Addr::new(100, 100, 200, 1),
    ALTERNATIVE,
];
const PORTS: [u16; 4] = [80, 53, 69, 8080];
const MIRRORS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(123, 45, 67, 89), Ipv4Addr::new(123, 45, 67, 90), Ipv4Addr::new(100, 100, 100, 101)];
const ROUTER: Ipv4Addr = Ipv4Addr::new(5, 6, 7, 2);

/// What one step does.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Time goes on, by so many microseconds, or back.
    Wait {
        micros: i64,
    },
    /// The next so many packets come at once.
    Burst(u8),
    Packet(Packet),
    Divert {
        matches: Match,
        targets: Vec<Weighted>,
        keep_source: bool,
        siblings: bool,
        midstream: Option<Midstream>,
    },
    Remove(Match),
    Redivert {
        from: Target,
        to: Target,
        how: Redivert,
    },
    Poll,
    /// Every connection is forgotten.
    Forget,
    Transmit,
    /// A record of one of the current connections comes back from elsewhere, or a damaged one.
    Import {
        which: u8,
        place: u8,
        value: u8,
    },
}

/// A packet by what it is about. Connections are chosen among those that are there.
#[derive(Clone, Debug)]
pub enum Packet {
    /// From a client to an original destination.
    Client { protocol: Protocol, client: SocketAddrV4, original: SocketAddrV4, flags: u8, number: u8, size: u8 },
    /// On a connection that is there: the way there, or back.
    Known { which: u8, back: bool, flags: u8, number: u8, size: u8 },
    /// A TCP segment of a connection that is there, or one whose numbers are just beside what would be right.
    Segment(Chosen),
    /// From a server to where a connection has its alternative endpoint, from another port or another server.
    Astray { which: u8, server: SocketAddrV4, protocol: Protocol },
    /// An ICMP error about the last packet of a connection, on its way there or back.
    Error { which: u8, back: bool, kind: u8, from_router: bool, quoted: u8, options: bool, damage: u8 },
    /// A fragment.
    Fragment { which: u8, back: bool, identification: u8, start: u8, units: u8, more: bool },
    /// The last packet once more, with an octet changed, shortened, checksums right or not.
    Changed { place: u8, value: u8, cut: u8, right: bool },
    /// Anything at all.
    Raw([u8; 12]),
}

/// A TCP segment by what its numbers are close to.
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    which: u8,
    back: bool,
    flags: u8,
    sequence: (Near, u32),
    acknowledgment: (Near, u32),
    data: u16,
}

/// A number that means something to a connection.
#[derive(Clone, Copy, Debug)]
enum Near {
    /// Behind the last that its side has used.
    Sent,
    /// What the other side expects of it.
    Expected,
    /// One that its side has tried to make valid.
    Tried,
    /// In a handshake, behind the data of the SYN.
    Data,
    /// One of nobody.
    Elsewhere(u8),
}

impl Near {
    fn arbitrary(u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        Ok(match u.int_in_range(0..=15)? {
            0..=5 => Self::Sent,
            6 => Self::Data,
            7 | 8 => Self::Expected,
            9..=12 => Self::Tried,
            place => Self::Elsewhere(place - 13),
        })
    }

    /// The number of the side that sends this way.
    fn number(self, conn: &Conn, way: Way) -> u32 {
        let Some(tcp) = &conn.tcp else {
            return 0;
        };
        let receiver = if way == Way::There { Way::Back } else { Way::There };
        let elsewhere = |place: u8| {
            let side = if way == Way::There { 0 } else { 0x0800_0000 };
            // Of the last the numbers beside it are zero, and those around that.
            [0x5000_0000_u32 + side, 0x9000_0000 + side, u32::MAX][usize::from(place) % 3]
        };
        let number = match self {
            Self::Sent => tcp.sent(way),
            Self::Expected => tcp.expected(receiver),
            Self::Data => tcp.behind_data(way),
            Self::Tried => tcp.tried(way).unwrap_or(0),
            Self::Elsewhere(place) => elsewhere(place),
        };
        if number == 0 { elsewhere(0) } else { number }
    }
}

impl Chosen {
    /// The packet.
    fn of(&self, conn: &Conn) -> Vec<u8> {
        let (way, other) = if self.back { (Way::Back, Way::There) } else { (Way::There, Way::Back) };
        let (source, destination) =
            if self.back { (conn.far.destination, conn.far.source) } else { (conn.near.source, conn.near.destination) };
        let number = |(near, beside): (Near, u32), way| near.number(conn, way).wrapping_add(beside);
        let sequence = number(self.sequence, way);
        // It is the number behind a SYN that is compared.
        let sequence = if self.flags & SYN != 0 { sequence.wrapping_sub(1) } else { sequence };
        let segment = (self.flags, sequence, number(self.acknowledgment, other));
        packet::tcp(source, destination, segment, &vec![0x55; usize::from(self.data)])
    }
}

impl<'a> Arbitrary<'a> for Chosen {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let window = 1_u32 << 24;
        let edges = [
            1,
            1_u32.wrapping_neg(),
            20,
            20_u32.wrapping_neg(),
            40,
            1_400,
            window - 1,
            window,
            window.wrapping_neg(),
            window.wrapping_neg() - 1,
            (1 << 20) - 1,
            1 << 20,
            1 << 14,
            (1 << 14) + 1,
            1 << 31,
        ];
        let beside = |u: &mut Unstructured<'a>| Ok(if u.ratio(3, 4)? { 0 } else { pick(u, &edges)? });
        let which = u.arbitrary()?;
        let back = u.arbitrary()?;
        let flags = [SYN, SYN, SYN | ACK, SYN | ACK, ACK, ACK, ACK, ACK, FIN | ACK, FIN | ACK, RST, RST | ACK, 0];
        Ok(Self {
            which,
            back,
            flags: pick(u, &flags)?,
            sequence: (Near::arbitrary(u)?, beside(u)?),
            acknowledgment: (Near::arbitrary(u)?, beside(u)?),
            data: pick(u, &[0, 0, 0, 0, 1, 20, 40, 1_400])?,
        })
    }
}

/// The lowest first octet of an operation that is a [`Packet::Segment`]; the fourth says which flags it has.
pub const SEGMENT: u8 = 0xec;
/// The fourth octet of one that has ACK alone.
pub const PLAIN: u8 = 4;

/// A client, seldom one that is none.
fn client(u: &mut Unstructured<'_>) -> arbitrary::Result<Ipv4Addr> {
    Ok(CLIENTS[pick(u, &[0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5])?])
}

fn pick<T: Copy>(u: &mut Unstructured<'_>, from: &[T]) -> arbitrary::Result<T> {
    u.choose(from).copied()
}

fn target(u: &mut Unstructured<'_>) -> arbitrary::Result<Target> {
    let address = pick(u, &MIRRORS)?;
    Ok(match u.int_in_range(0..=6)? {
        0 => Target::Same,
        1..=3 => Target::Address(address),
        _ => Target::Endpoint(SocketAddrV4::new(address, pick(u, &PORTS)?)),
    })
}

fn matches(u: &mut Unstructured<'_>) -> arbitrary::Result<Match> {
    let address = pick(u, &ORIGINALS)?;
    let port = pick(u, &PORTS)?;
    let length = pick(u, &[32, 32, 32, 24, 16, 0])?;
    let prefix = Prefix::new(address, length).expect("a length of at most 32");
    let mut matches = if u.ratio(1, 2)? { Match::from(prefix) } else { Match::from((prefix, port)) };
    if u.ratio(1, 4)? {
        matches = matches.protocol(protocol(u)?);
    }
    if u.ratio(1, 5)? {
        let length = pick(u, &[32, 24, 16])?;
        matches = matches.clients(Prefix::new(CLIENTS[0], length).expect("a length of at most 32"));
    }
    Ok(matches)
}

/// What a rule says of segments from the middle; mostly nothing.
fn midstream(u: &mut Unstructured<'_>) -> arbitrary::Result<Option<Midstream>> {
    pick(u, &[None, None, None, Some(Midstream::Pass), Some(Midstream::Adopt), Some(Midstream::Drop)])
}

fn protocol(u: &mut Unstructured<'_>) -> arbitrary::Result<Protocol> {
    pick(u, &[Protocol::Udp, Protocol::Tcp, Protocol::Tcp, Protocol::Icmp])
}

fn flags(u: &mut Unstructured<'_>) -> arbitrary::Result<u8> {
    pick(u, &[SYN, SYN, ACK, ACK, SYN | ACK, SYN | ACK, FIN | ACK, FIN | ACK, RST, RST | ACK, FIN, 0, SYN | FIN])
}

impl<'a> Arbitrary<'a> for Operation {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let kind: u8 = u.arbitrary()?;
        if (SEGMENT..SEGMENT + 13).contains(&kind) {
            return Ok(Self::Packet(Packet::Segment(u.arbitrary()?)));
        }
        Ok(match kind % 32 {
            0..=2 => {
                let micros = pick(
                    u,
                    &[
                        1,
                        65_536,
                        1_000_000,
                        31_000_000,
                        61_000_000,
                        121_000_000,
                        241_000_000,
                        301_000_000,
                        7_500_000_000,
                    ],
                )?;
                Self::Wait { micros: if u.ratio(1, 6)? { -micros } else { micros } }
            }
            3 => Self::Burst(u.int_in_range(1..=40)?),
            4 | 5 => {
                let matches = matches(u)?;
                let (keep_source, siblings) = (u.ratio(1, 5)?, u.ratio(1, 3)?);
                let count = pick(u, &[1, 1, 1, 2, 3, 0])?;
                let mut targets = Vec::new();
                for _ in 0..count {
                    targets.push(Weighted { target: target(u)?, weight: pick(u, &[1, 2, 7, 0])? });
                }
                let midstream = midstream(u)?;
                Self::Divert { matches, targets, keep_source, siblings, midstream }
            }
            6 => Self::Remove(matches(u)?),
            7 | 8 => {
                use Redivert::{Drain, HandOver, HandOverOrReset, Reset, Switch};
                let how = pick(u, &[Switch, Drain, Reset, Switch, Drain, Reset, HandOver, HandOverOrReset])?;
                Self::Redivert { from: target(u)?, to: target(u)?, how }
            }
            9 if u.int_in_range(0..=7)? == 7 => Self::Forget,
            9 => Self::Poll,
            10 => Self::Transmit,
            11 => Self::Import { which: u.arbitrary()?, place: u.arbitrary()?, value: u.arbitrary()? },
            12..=16 => Self::Packet(Packet::Client {
                protocol: protocol(u)?,
                client: SocketAddrV4::new(client(u)?, 1000 + u.int_in_range(0..=60)?),
                original: SocketAddrV4::new(pick(u, &ORIGINALS)?, pick(u, &PORTS)?),
                flags: if u.ratio(2, 3)? { SYN } else { flags(u)? },
                number: u.arbitrary()?,
                size: u.int_in_range(0..=40)?,
            }),
            17..=24 => Self::Packet(Packet::Known {
                which: u.arbitrary()?,
                back: u.arbitrary()?,
                flags: flags(u)?,
                number: u.arbitrary()?,
                size: u.int_in_range(0..=40)?,
            }),
            25 => Self::Packet(Packet::Astray {
                which: u.arbitrary()?,
                server: SocketAddrV4::new(pick(u, &MIRRORS)?, pick(u, &PORTS)?),
                protocol: protocol(u)?,
            }),
            26 | 27 => Self::Packet(Packet::Error {
                which: u.arbitrary()?,
                back: u.arbitrary()?,
                kind: pick(u, &[3, 11, 12, 4, 5])?,
                from_router: u.arbitrary()?,
                quoted: pick(u, &[28, 40, 60, 255, 27, 20])?,
                options: u.ratio(1, 4)?,
                damage: u.arbitrary()?,
            }),
            28 | 29 => Self::Packet(Packet::Fragment {
                which: u.arbitrary()?,
                back: u.arbitrary()?,
                identification: u.int_in_range(0..=2)?,
                start: pick(u, &[0, 0, 3, 4, 5, 6, 8, 10, 12, 1])?,
                units: pick(u, &[3, 1, 2, 4, 0])?,
                more: u.ratio(3, 4)?,
            }),
            30 => Self::Packet(Packet::Changed {
                place: u.arbitrary()?,
                value: u.arbitrary()?,
                cut: pick(u, &[0, 0, 0, 1, 8, 20, 21, 28])?,
                right: u.arbitrary()?,
            }),
            _ => Self::Packet(Packet::Raw(u.arbitrary()?)),
        })
    }
}

/// Reads the operations of an input: the first stretch is the settings.
pub fn operations(data: &[u8]) -> Vec<Operation> {
    data.chunks(STRETCH)
        .skip(1)
        .take(LONGEST)
        .filter_map(|stretch| Operation::arbitrary(&mut Unstructured::new(stretch)).ok())
        .collect()
}

fn settings(data: &[u8]) -> (Settings, PortChoice) {
    let byte = |n: usize| data.get(n).copied().unwrap_or(0);
    let settings = Settings {
        alternative: ALTERNATIVE,
        ports: if byte(0) % 3 == 0 { 1020..=1027 } else { 600..=65_535 },
        own: OWN,
        // With a byte of its own, so that sequences that were found before mean what they meant.
        midstream: (byte(9) & 3 != 3)
            .then_some([Midstream::Pass, Midstream::Adopt, Midstream::Drop][usize::from(byte(1) % 3)]),
        inexact_reset: if byte(2) & 1 == 0 { InexactReset::Pass } else { InexactReset::Drop },
        client_limit: [0, 0, 4][usize::from(byte(3) % 3)],
        refresh_from_server: byte(4) & 1 == 0,
        rewrite_identification: byte(5) & 1 != 0,
        keep_port: byte(6) % 3 == 2,
        capacity: if byte(7) & 1 == 0 { 8 } else { 32 },
    };
    (settings, [PortChoice::Random, PortChoice::SameRange, PortChoice::Keep][usize::from(byte(6) % 3)])
}

fn config(settings: &Settings, choice: PortChoice) -> Config {
    let config = Config::new([0x42; 32]).alternative(settings.alternative, settings.ports.clone()).own(settings.own);
    settings
        .midstream
        .map_or(config.clone(), |midstream| config.midstream(midstream))
        .inexact_reset(settings.inexact_reset)
        .client_limit(settings.client_limit)
        .refresh_from_server(settings.refresh_from_server)
        .rewrite_identification(settings.rewrite_identification)
        .port_choice(choice)
}

/// Carries out the operations of an input.
pub fn run(data: &[u8]) {
    run_watched(data, &mut |_| {});
}

/// Looks into a translator.
pub type Watch<'a> = dyn FnMut(&mut Translator<Heap>) + 'a;

/// The same; `watch` sees the third translator after each step.
pub fn run_watched(data: &[u8], watch: &mut Watch<'_>) {
    if std::env::var_os("BYWAY_EXPLAIN").is_some() {
        eprint!("{}", explain(data));
    }
    let (settings, choice) = settings(data);
    let rules = data.get(8).copied().unwrap_or(0);
    if settings.capacity == 8 {
        sequence::<8>(settings, choice, rules, &operations(data), watch);
    } else {
        sequence::<32>(settings, choice, rules, &operations(data), watch);
    }
}

/// What an input says, for whoever has to find out why it fails.
pub fn explain(data: &[u8]) -> String {
    let mut text = format!("{:?}\n", settings(data));
    for operation in operations(data) {
        let _ = writeln!(text, "{operation:?}");
    }
    text
}

fn sequence<const C: usize>(
    settings: Settings,
    choice: PortChoice,
    rules: u8,
    operations: &[Operation],
    watch: &mut Watch<'_>,
) {
    let mut connections = [slots::Connection::EMPTY; C];
    let mut index = vec![0; C * byway::INDEX_WORDS];
    let mut diverts = [slots::Divert::EMPTY; RULES];
    let mut servers = [slots::Server::EMPTY; RULES];
    let mut moves = [slots::Move::EMPTY; RULES];
    let mut fragments = vec![slots::Fragment::EMPTY; FRAGMENTS];
    let mut events = vec![slots::Event::EMPTY; EVENTS];
    let mut measured = [slots::Measure::EMPTY; C];
    let borrowed = Borrowed::new(&mut connections, &mut index, &mut diverts, &mut servers, &mut moves)
        .fragments(&mut fragments)
        .events(&mut events)
        .measured(&mut measured);
    // The third has, for every other input, room for so many rules that they are found in another way.
    let large = rules & LARGE != 0;
    let heap = Heap::new(C, if large { MANY_RULES } else { RULES }).fragments(FRAGMENTS).events(EVENTS);
    let mut fixed = Box::new(Fixed::<C, RULES, FRAGMENTS, EVENTS>::sized());
    let config = config(&settings, choice);
    let mut run = Run {
        one: Translator::new(config.clone(), borrowed).expect("a good configuration"),
        two: Translator::new(config.clone(), &mut *fixed).expect("a good configuration"),
        bursting: Translator::new(config.clone(), heap).expect("a good configuration"),
        large,
        config,
        model: Model::new(settings),
        told: Told::default(),
        last: Vec::new(),
        burst: Burst::default(),
        wanted: 0,
    };
    run.first_rules(rules);
    for operation in operations {
        run.step(operation);
        watch(&mut run.bursting);
    }
    run.end();
}

/// Packets that the third translator has not got yet, and what the others made of them.
#[derive(Default)]
struct Burst {
    left: u8,
    at: u64,
    packets: Vec<Vec<u8>>,
    expected: Vec<(Vec<u8>, Verdict)>,
    events: Vec<Event>,
}

struct Run<'a, F: Storage> {
    one: Translator<Borrowed<'a>>,
    two: Translator<F>,
    bursting: Translator<Heap>,
    /// Whether the third has an index of rules, and entries for servers that rules share.
    large: bool,
    config: Config,
    model: Model,
    told: Told,
    last: Vec<u8>,
    burst: Burst,
    wanted: u64,
}

impl<F: Storage> Run<'_, F> {
    /// Rules that are there from the start, so that sequences need not find them first.
    fn first_rules(&mut self, which: u8) {
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
    fn now(&mut self) -> u64 {
        if self.wanted >= self.model.now {
            self.wanted = self.model.advance(self.wanted);
        }
        self.wanted
    }

    fn step(&mut self, operation: &Operation) {
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

    fn events(&mut self) -> Vec<Event> {
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
    fn events_of_all(&mut self) -> Vec<Event> {
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
        let unended = self.model.connections.iter().filter(|c| !super::model::is_over(c.state)).count() as u64;
        assert_eq!(current, unended + self.model.forgotten.len() as u64, "connections that have not ended");
    }

    fn check_rules(&self) {
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

    fn divert(
        &mut self,
        matches: Match,
        targets: &[Weighted],
        keep_source: bool,
        siblings: bool,
        midstream: Option<Midstream>,
    ) {
        let mut divert = Divert::new(matches);
        divert = match targets {
            [one] if one.weight == 1 => divert.to(one.target),
            group => divert.to_group(group),
        };
        if keep_source {
            divert = divert.keep_source();
        }
        if siblings {
            divert = divert.replies_from_any_port();
        }
        if let Some(midstream) = midstream {
            divert = divert.midstream(midstream);
        }
        let generation = self.one.generation();
        let done = self.one.divert(divert);
        assert_eq!(self.two.divert(divert), done);
        match done {
            Err(byway::DivertError::TableFull { .. } | byway::DivertError::ServersFull { .. }) if self.large => {}
            Ok(done) if self.large => {
                let theirs = self.bursting.divert(divert).expect("there is room for more");
                assert_eq!((theirs.generation, theirs.updated), (done.generation, done.updated));
            }
            done => assert_eq!(self.bursting.divert(divert), done),
        }
        let twice = targets.iter().enumerate().any(|(n, t)| targets[..n].iter().any(|o| o.target == t.target));
        let to_itself = |t: Target| {
            let place = place(t);
            let same = |p: super::model::Place| Prefix::host(p.address) == matches.destination();
            place.is_some_and(|p| same(p) && (p.port.is_none() || p.port == matches.port()))
        };
        let own = [ALTERNATIVE, OWN].map(Prefix::host).contains(&matches.destination());
        let wrong = targets.is_empty()
            || targets.iter().all(|t| t.weight == 0)
            || twice
            || (own && targets.iter().any(|t| t.target == Target::Same))
            || matches!(targets, [one] if to_itself(one.target));
        match done {
            Ok(done) => {
                assert!(!wrong, "a rule was taken that makes no sense");
                assert_eq!(done.generation, generation.wrapping_add(1));
                let rule = Rule { matches, targets: targets.to_vec(), keep_source, siblings, midstream };
                assert_eq!(done.updated, self.model.rules.divert(rule));
            }
            Err(byway::DivertError::TableFull { .. } | byway::DivertError::ServersFull { .. }) => {}
            Err(error) => assert!(wrong, "a rule was refused: {error}"),
        }
        self.check_rules();
    }

    fn remove(&mut self, matches: Match) {
        let done = self.one.remove(matches);
        assert_eq!(self.two.remove(matches), done);
        let theirs = self.bursting.remove(matches);
        assert_eq!(theirs.map(|r| r.generation), done.map(|r| r.generation));
        assert!(self.large || theirs == done);
        assert_eq!(done.is_some(), self.model.rules.remove(matches));
        self.check_rules();
    }

    fn redivert(&mut self, from: Target, to: Target, how: Redivert) {
        let generation = self.one.generation();
        let done = self.one.redivert(from, to, how);
        assert_eq!(self.two.redivert(from, to, how), done);
        match done {
            Err(RedivertError::Busy { .. } | RedivertError::ServersFull { .. }) if self.large => {}
            done => assert_eq!(self.bursting.redivert(from, to, how), done),
        }
        match (place(from), place(to), done) {
            (None, _, done) => assert_eq!(done, Err(RedivertError::NoServer { name: "from" })),
            (_, None, done) => assert_eq!(done, Err(RedivertError::NoServer { name: "to" })),
            (Some(old), Some(new), done) if old == new => {
                assert_eq!(done, Err(RedivertError::SameServer { target: to }));
            }
            (Some(from_place), Some(to_place), Ok(done)) => {
                assert_eq!(done.generation, generation.wrapping_add(1));
                assert_eq!(done.servers, self.model.rules.redivert(from, to, how));
                if how != Redivert::Drain {
                    let reset = how == Redivert::Reset;
                    self.model.moves.push(Move { from: from_place, to: to_place, reset });
                }
            }
            (_, _, Err(RedivertError::Busy { .. } | RedivertError::ServersFull { .. })) => {}
            // There is no room for connections that can be handed over.
            (_, _, Err(RedivertError::NotResumable { .. }))
                if matches!(how, Redivert::HandOver | Redivert::HandOverOrReset) => {}
            (_, _, Err(error)) => panic!("a re-divert was refused: {error}"),
        }
        self.check_rules();
    }

    fn poll(&mut self) {
        let now = Instant::from_micros(self.now());
        self.one.poll(now);
        self.two.poll(now);
        self.bursting.poll(now);
        let next = self.one.poll_at();
        assert_eq!(self.two.poll_at(), next);
        // One with an index of rules has that to build anew besides, after rules have gone.
        let theirs = self.bursting.poll_at();
        let comes_early = self.large && theirs.is_some_and(|theirs| next.is_none_or(|next| theirs < next));
        assert!(theirs == next || comes_early, "it wants to be called at {theirs:?}, not {next:?}");
        for next in [next, theirs] {
            assert!(next.is_none_or(|next| next >= now), "it wants to be called in the past");
        }
        let events = self.events_of_all();
        self.model.quiet_step(&events);
    }

    fn forget(&mut self) {
        let done = self.one.forget();
        assert_eq!(self.two.forget(), done);
        assert_eq!(self.bursting.forget(), done);
        assert!(done.connections as usize <= self.model.alive().count());
        assert_eq!(self.one.connections().count(), 0);
        self.model.forget();
        let events = self.events_of_all();
        self.model.quiet_step(&events);
    }

    fn transmit(&mut self) {
        let now = Instant::from_micros(self.now());
        let mut buffers = [[0; TRANSMIT_BUFFER]; 3];
        let [a, b, c] = &mut buffers;
        loop {
            let transmit = self.one.poll_transmit(now, a);
            assert_eq!(self.two.poll_transmit(now, b), transmit);
            assert_eq!(self.bursting.poll_transmit(now, c), transmit);
            let events = self.events_of_all();
            self.model.quiet_step(&events);
            let Some(transmit) = transmit else {
                break;
            };
            let said = &a[..transmit.length];
            assert!(said == &b[..transmit.length] && said == &c[..transmit.length]);
            self.model.said(said, transmit.direction == byway::Direction::ToClient);
        }
    }

    /// A record of our own changes nothing; a damaged one is none.
    fn import(&mut self, which: u8, place: u8, value: u8) {
        let now = Instant::from_micros(self.now());
        self.one.poll(now);
        self.two.poll(now);
        self.bursting.poll(now);
        let events = self.events_of_all();
        self.model.quiet_step(&events);
        let records: Vec<Record> = self.one.records().collect();
        let Some(record) = records.get(usize::from(which) % records.len().max(1)) else {
            return;
        };
        let mut octets = *record.as_bytes();
        if let Some(octet) = octets.get_mut(usize::from(place))
            && value != 0
        {
            *octet ^= value;
            assert!(Record::from_bytes(&octets).is_err(), "a damaged record was read");
            return;
        }
        assert_eq!(Record::from_bytes(&octets), Ok(*record));
        let told = record.connection().expect("a record is well-formed");
        if self.model.alive().any(|c| c.near == told.client_side && self.model.is_behind(c)) {
            return;
        }
        for done in [self.one.import(now, record), self.two.import(now, record), self.bursting.import(now, record)] {
            assert_eq!(done, Ok(Imported::Updated));
        }
        self.model.imported(told.protocol, told.client_side);
        let events = self.events_of_all();
        self.model.quiet_step(&events);
    }

    fn end(&mut self) {
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

    /// A connection among those that are alive.
    fn choose(&self, which: u8) -> Option<Conn> {
        let alive: Vec<&Conn> = self.model.alive().collect();
        alive.get(usize::from(which) % alive.len().max(1)).map(|c| (*c).clone())
    }

    /// A packet of a connection as its sender sends it.
    fn of(&self, conn: &Conn, back: bool, flags: u8, number: u8, size: u8) -> Vec<u8> {
        let (source, destination) =
            if back { (conn.far.destination, conn.far.source) } else { (conn.near.source, conn.near.destination) };
        let data = vec![number; usize::from(size)];
        match conn.protocol {
            Protocol::Udp => packet::udp(source, destination, &data),
            Protocol::Tcp => {
                let (way, other) = if back { (Way::Back, Way::There) } else { (Way::There, Way::Back) };
                let tcp = conn.tcp.as_ref();
                let (mine, theirs) = tcp.map_or((0, 0), |tcp| (tcp.sent(way), tcp.sent(other)));
                let expected = tcp.map_or(0, |tcp| tcp.expected(other));
                let mine = if mine == 0 { 0x1000_0000 } else { mine };
                let far = u32::from(number) << 22;
                let (sequence, acknowledgment) = match number {
                    0..=150 => (mine, theirs),
                    151..=180 => (expected, theirs),
                    181..=200 => (mine.wrapping_sub(u32::from(size)), theirs.wrapping_sub(3)),
                    201..=220 => (mine.wrapping_add(7), theirs.wrapping_add(9)),
                    221..=230 => (0, 0),
                    _ => (mine.wrapping_add(far), theirs.wrapping_sub(far)),
                };
                let data = if flags & (SYN | RST) != 0 { &[] } else { data.as_slice() };
                packet::tcp(source, destination, (flags, sequence, acknowledgment), data)
            }
            _ if back => packet::echo(0, *source.ip(), *destination.ip(), destination.port(), &data),
            _ => packet::echo(8, *source.ip(), *destination.ip(), source.port(), &data),
        }
    }

    fn build(&self, packet: &Packet) -> Vec<u8> {
        match packet {
            Packet::Client { protocol, client, original, flags, number, size } => {
                let data = vec![*number; usize::from(*size)];
                match protocol {
                    Protocol::Udp => packet::udp(*client, *original, &data),
                    Protocol::Tcp => {
                        let sequence = u32::from(*number) << 24 | 0x00ff_fff0;
                        packet::tcp(
                            *client,
                            *original,
                            (*flags, sequence, 77),
                            if flags & SYN != 0 { &[] } else { &data },
                        )
                    }
                    _ => packet::echo(
                        if *flags == 0 { 0 } else { 8 },
                        *client.ip(),
                        *original.ip(),
                        client.port(),
                        &data,
                    ),
                }
            }
            Packet::Known { which, back, flags, number, size } => match self.choose(*which) {
                Some(conn) => self.of(&conn, *back, *flags, *number, *size),
                None => self.last.clone(),
            },
            Packet::Segment(chosen) => match self.choose(chosen.which) {
                Some(conn) if conn.protocol == Protocol::Tcp => chosen.of(&conn),
                _ => self.last.clone(),
            },
            Packet::Astray { which, server, protocol } => {
                let source = self.choose(*which).map_or(SocketAddrV4::new(ALTERNATIVE, 1023), |c| c.far.source);
                match protocol {
                    Protocol::Udp => packet::udp(*server, source, b"from elsewhere"),
                    Protocol::Tcp => packet::tcp(*server, source, (ACK, 5, 5), b""),
                    _ => packet::echo(0, *server.ip(), *source.ip(), source.port(), b"reply"),
                }
            }
            Packet::Error { which, back, kind, from_router, quoted, options, damage } => {
                let Some(conn) = self.choose(*which) else {
                    return packet::icmp_error(*kind, ROUTER, ALTERNATIVE, &self.last, usize::from(*quoted));
                };
                // Back: the server's side complains about what it got, which went out from the alternative endpoint.
                let mut about = self.of(&conn, !back, ACK, 7, 30);
                about = packet::mirrored(&about);
                if *options {
                    about.splice(20..20, [1, 1, 1, 0]);
                    about[0] = 0x46;
                    let total = about.len() as u16;
                    about[2..4].copy_from_slice(&total.to_be_bytes());
                    packet::fill_checksums(&mut about);
                }
                let from = if *from_router { ROUTER } else { packet::address(&about, 16) };
                let mut error =
                    packet::icmp_error(*kind, from, packet::address(&about, 12), &about, usize::from(*quoted));
                if *damage > 200
                    && let Some(octet) = error.get_mut(usize::from(*damage) - 180)
                {
                    *octet ^= 0x10;
                    if damage & 1 != 0 {
                        packet::fill_checksums(&mut error);
                    }
                }
                error
            }
            Packet::Fragment { which, back, identification, start, units, more } => {
                let flags = if *identification == 2 { FIN | ACK } else { ACK };
                let whole = match self.choose(*which) {
                    Some(conn) => self.of(&conn, *back, flags, 7, 4),
                    None => {
                        packet::udp(SocketAddrV4::new(CLIENTS[0], 1000), SocketAddrV4::new(ORIGINALS[0], 53), b"1234")
                    }
                };
                let mut fragment = whole[..20].to_vec();
                if *start == 0 {
                    fragment.extend(&whole[20..]);
                }
                fragment.resize(20 + usize::from(*units) * 8 - usize::from(!more && *units > 3), 0xf7);
                let total = fragment.len() as u16;
                fragment[2..4].copy_from_slice(&total.to_be_bytes());
                fragment[4..6].copy_from_slice(&u16::from(*identification).to_be_bytes());
                let field = u16::from(*start) | if *more { 0x2000 } else { 0 };
                fragment[6..8].copy_from_slice(&field.to_be_bytes());
                packet::fill_checksums(&mut fragment);
                fragment
            }
            Packet::Changed { place, value, cut, right } => {
                let mut packet = self.last.clone();
                let length = packet.len();
                packet.truncate(length - usize::from(*cut).min(length));
                if let Some(octet) = packet.get_mut(usize::from(*place) % 64) {
                    *octet = *value;
                }
                if *right {
                    packet::fill_checksums(&mut packet);
                }
                packet
            }
            Packet::Raw(octets) => octets.to_vec(),
        }
    }
}
