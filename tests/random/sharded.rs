//! A set of shards does what a single translator does: the same packets to both, and the same verdicts and the same
//! bytes for clients come out. What differs is who does it: the shard that the packet alone names.

mod alone;

use byway::{
    Config, Connection, Counters, Divert, DropReason, Heap, Owner, Prefix, Protocol, Redivert, Sharded, Sharding,
    ShardingError, Storage, Translator, Verdict, Weighted,
};
use byway_testing::talk::*;
use byway_testing::*;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;
use proptest::collection::vec;
use proptest::prelude::*;

const RANGE: core::ops::RangeInclusive<u16> = 1024..=65535;

/// Alternative addresses and numbers of shards: whole addresses (as they are, and cut), shared ones, and one shard.
fn settings() -> Vec<(Config, usize)> {
    let new = || Config::new([0x42; 32]).own(ip("10.10.9.9"));
    let (first, second) = (ip("10.10.10.10"), ip("10.10.10.11"));
    vec![
        (new().alternative(first, RANGE).alternative(second, RANGE), 2),
        (new().alternatives(first, ip("10.10.10.16"), RANGE), 3),
        (
            new().alternatives(first, ip("10.10.10.11"), 1..=300).alternatives(
                ip("10.10.10.12"),
                ip("10.10.10.13"),
                RANGE,
            ),
            3,
        ),
        (new().alternative(first, RANGE), 2),
        (new().alternative(first, RANGE).alternative(second, 2000..=9000), 5),
        (new().alternative(first, 1024..=4000).alternative(first, 6000..=9999), 2),
        (new().alternative(first, 0..=65535), 7),
        (new().alternative(first, RANGE), 1),
    ]
}

const GROUP: &str = "100.100.100.101";
const ANY_PORT: &str = "100.100.100.102:69";
/// A port forward: of the first alternative address, below and within the range that is given away.
const FORWARDS: [&str; 2] = ["10.10.10.10:22", "10.10.10.10:7000"];

/// A translator alone, and a set of shards, which are told the same.
struct Both {
    single: Translator<Heap>,
    set: Sharded<Heap>,
    now: byway::Instant,
    /// Whether each shard gets its own copy, as threads do it, rather than by `Sharded::translate`.
    by_hand: bool,
    /// What went to servers: from which client, as the single translator sent it, and as the set did.
    sent: Vec<(SocketAddrV4, Vec<u8>, Vec<u8>)>,
    /// What came to clients.
    received: Vec<Vec<u8>>,
    /// The identification of the next datagram to an alternative address. Which address that is differs between the
    /// two, so that an identification that came twice would meet its like with one of them and not with the other.
    identification: u16,
}

impl Both {
    fn new(setting: usize, by_hand: bool) -> Self {
        let settings = settings();
        let (config, shards) = settings[setting % settings.len()].clone();
        let storage = || Heap::new(1_000, 100).events(1_000);
        let single = Translator::new(config.clone(), storage()).expect("the configuration is good");
        let set = Sharded::new(config, (0..shards).map(|_| storage())).expect("it can be shared");
        let mut both =
            Self { single, set, now: s(10), by_hand, sent: Vec::new(), received: Vec::new(), identification: 0 };
        let servers = [Weighted::new(ip("123.45.67.1"), 1), Weighted::new(ip("123.45.67.2"), 2)];
        both.divert(Divert::new(at(ORIGINAL)).to(at(SERVER)));
        both.divert(Divert::new(ip(GROUP)).to_group(&servers));
        both.divert(Divert::new(at(ANY_PORT)).to(ip("123.45.67.3")).replies_from_any_port());
        both.divert(Divert::new(Prefix::new(ip("192.0.2.0"), 24).expect("a prefix")));
        for forward in FORWARDS {
            both.divert(Divert::new(at(forward)).to(at("123.45.67.4:22")));
        }
        // Of an address of our own without a port: echo requests to it are forwarded.
        both.divert(Divert::new(ip(ALTERNATIVE)).to(ip("123.45.67.5")));
        both
    }

    fn divert(&mut self, divert: Divert<'_>) {
        let (one, all) = (self.single.divert(divert).expect("a good rule"), self.set.divert(divert).expect("as good"));
        assert_eq!((one.updated, one.left_behind), (all.updated, all.left_behind));
    }

    /// One packet for the single translator, the one that stands for it for the set.
    fn translate(&mut self, packet: &[u8], of_set: &[u8]) -> Verdict {
        let (verdict, single) = run(&mut self.single, self.now, packet);
        let (of_shards, shared) = if self.by_hand { self.by_hand(of_set) } else { self.by_set(of_set) };
        assert_eq!(verdict, of_shards, "{packet:x?}, for the set {of_set:x?}");
        match verdict {
            Verdict::ToServer => {
                assert_eq!(single[16..20], shared[16..20], "another server");
                self.sent.push((ends(packet).0, single, shared));
            }
            Verdict::ToClient => {
                assert_eq!(single, shared, "the client sees a difference");
                self.received.push(single);
            }
            _ => {}
        }
        verdict
    }

    /// As threads do it: a copy for each shard that the packet may belong to.
    fn by_hand(&mut self, packet: &[u8]) -> (Verdict, Vec<u8>) {
        let owner = self.set.sharding().owner(packet);
        let now = self.now;
        let mut verdicts = Vec::new();
        for (number, shard) in self.set.shards_mut().enumerate() {
            if !owner.includes(number) {
                continue;
            }
            let before = connections(shard);
            let (verdict, bytes) = run(shard, now, packet);
            if matches!(verdict, Verdict::ToServer | Verdict::ToClient) && before != connections(shard) {
                assert_ne!(owner, Owner::Every, "a later fragment has opened a connection");
            }
            verdicts.push((verdict, bytes));
        }
        assert!(!verdicts.is_empty(), "nobody's packet");
        let ours = |verdict| !matches!(verdict, Verdict::Hold | Verdict::Drop(_));
        assert!(verdicts.iter().filter(|(verdict, _)| ours(*verdict)).count() <= 1, "sent twice");
        let place = verdicts.iter().position(|(verdict, _)| *verdict != Verdict::Hold).unwrap_or(0);
        verdicts.swap_remove(place)
    }

    fn by_set(&mut self, packet: &[u8]) -> (Verdict, Vec<u8>) {
        let mut copy = packet.to_vec();
        (self.set.translate(self.now, &mut copy), copy)
    }

    /// Pieces of a packet, in the order that `seed` says, and those that were to be held once more.
    fn translate_pieces(&mut self, pieces: &[Vec<u8>], of_set: &[Vec<u8>], seed: u16) {
        assert_eq!(pieces.len(), of_set.len());
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        let mut seed = usize::from(seed);
        for last in (1..order.len()).rev() {
            order.swap(last, seed % (last + 1));
            seed = seed.wrapping_mul(31).wrapping_add(7);
        }
        let held: Vec<usize> = order
            .into_iter()
            .filter(|&piece| self.translate(&pieces[piece], &of_set[piece]) == Verdict::Hold)
            .collect();
        for piece in held {
            let _ = self.translate(&pieces[piece], &of_set[piece]);
        }
    }

    /// The same packet for both, in pieces if `seed` says so.
    fn client_sends(&mut self, packet: &[u8], seed: u16) {
        let pieces = in_pieces(packet, seed, seed);
        self.translate_pieces(&pieces, &pieces, seed);
    }

    /// A packet that went to a server, as each of the two sent it. `None` if one of them has since given its endpoint to another
    /// client, which happens by chance about once in a million times.
    fn sent(&self, number: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        let (client, single, shared) = self.sent.get(number % self.sent.len().max(1)).cloned()?;
        let is_of_another = |packet: &[u8], all: &mut dyn Iterator<Item = Connection>| {
            let mut owners = all.filter(|c| (c.server_side.source, c.server_side.destination) == ends(packet));
            owners.any(|c| c.protocol != Protocol::Icmp && c.client_side.source != client)
        };
        let lost = is_of_another(&single, &mut self.single.connections())
            || is_of_another(&shared, &mut self.set.shards().flat_map(Translator::connections));
        (!lost).then_some((single, shared))
    }

    /// The answers to what the two have sent to the server.
    fn server_answers(&mut self, number: usize, port: Option<u16>, seed: u16) {
        let Some((single, shared)) = self.sent(number) else {
            return;
        };
        self.identification += 1;
        let answer = |packet: &[u8]| in_pieces(&answer(packet, port, self.identification), seed, self.identification);
        self.translate_pieces(&answer(&single), &answer(&shared), seed);
    }

    /// ICMP errors about what went to a server, by a router on the way or by the server itself.
    fn error_to_client(&mut self, number: usize, router: Option<Ipv4Addr>, kind: u8, seed: u16) {
        let Some((single, shared)) = self.sent(number) else {
            return;
        };
        self.identification += 1;
        let error = |about: &[u8]| {
            let error = icmp_error(kind, 1, router.unwrap_or(address(about, 16)), about, quoted(seed));
            in_pieces(&error, seed, self.identification)
        };
        self.translate_pieces(&error(&single), &error(&shared), seed);
    }

    /// The same about what came to a client.
    fn error_to_server(&mut self, number: usize, router: Option<Ipv4Addr>, kind: u8, seed: u16) {
        let Some(about) = self.received.get(number % self.received.len().max(1)).cloned() else {
            return;
        };
        self.client_sends(&icmp_error(kind, 1, router.unwrap_or(address(&about, 16)), &about, quoted(seed)), seed);
    }

    fn redivert(&mut self, from: &str, to: &str, how: Redivert) {
        let (from, to) = (at(from), at(to));
        match (self.single.redivert(from, to, how), self.set.redivert(from, to, how)) {
            (Ok(one), Ok(all)) => {
                assert_eq!(
                    (one.generation, one.servers, one.connections),
                    (all.generation, all.servers, all.connections)
                );
            }
            (one, all) => assert_eq!(one, all),
        }
        assert_eq!(self.single.connections_on(to), self.set.connections_on(to));
    }

    /// Lets both do what time brings, and checks that nothing differs but what must.
    fn settle(&mut self) {
        let mut buffer = [0; byway::TRANSMIT_BUFFER];
        for _ in 0..100 {
            self.single.poll(self.now);
            self.set.poll(self.now);
            while self.single.poll_transmit(self.now, &mut buffer).is_some() {}
            while self.set.poll_transmit(self.now, &mut buffer).is_some() {}
        }
        let single = core::iter::from_fn(|| self.single.poll_event()).count();
        let shared = core::iter::from_fn(|| self.set.poll_event()).count();
        assert_eq!(single, shared, "events");

        let mut ours = connections(&self.single);
        let mut theirs: Vec<_> = self.set.shards().flat_map(connections).collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs);
        let sharding = self.set.sharding();
        for (number, shard) in self.set.shards().enumerate() {
            for connection in shard.connections() {
                assert_eq!(sharding.shard_of(&connection), Some(number), "{connection}");
            }
        }

        let (one, all) = (self.single.counters(), &self.set.counters());
        if sharding.has_whole_addresses() {
            assert_eq!(one, all);
        }
        // Of a fragment that is offered to every shard, each counts what it makes of it.
        assert!(one.held <= all.held && one.dropped_in_all() <= all.dropped_in_all());
        let rest = |c: &Counters| [c.to_server, c.to_client, c.passed, c.opened, c.moved, c.expired, c.reset, c.closed];
        assert_eq!(rest(one), rest(all));
    }
}

/// The client's side of each connection, which does not depend on who translates.
fn connections<S: Storage>(t: &Translator<S>) -> Vec<(Protocol, byway::Pair, SocketAddrV4)> {
    t.connections().map(|c| (c.protocol, c.client_side, c.server_side.destination)).collect()
}

/// How much of a packet an ICMP error quotes.
const fn quoted(seed: u16) -> usize {
    if seed.is_multiple_of(5) { 1_000 } else { 28 }
}

/// A packet whole, or cut into fragments with this identification.
fn in_pieces(packet: &[u8], seed: u16, identification: u16) -> Vec<Vec<u8>> {
    if seed.is_multiple_of(4) && packet[0] == 0x45 && packet.len() > 20 + 48 {
        return fragments(packet, identification, if seed.is_multiple_of(8) { 24 } else { 40 });
    }
    vec![packet.to_vec()]
}

/// What the receiver of a packet answers, from another port if one is given.
fn answer(packet: &[u8], port: Option<u16>, identification: u16) -> Vec<u8> {
    let mut answer = packet.to_vec();
    if packet.len() < 28 || answer[6] & 0x3f != 0 || answer[7] != 0 {
        // Whatever comes of a fragment in our own name must come of it for both. Two clients whose datagrams have the same
        // identification may have the same alternative address with one of them alone.
        answer[4..6].copy_from_slice(&identification.to_be_bytes());
        fill_checksums(&mut answer);
        return answer;
    }
    answer[12..16].copy_from_slice(&packet[16..20]);
    answer[16..20].copy_from_slice(&packet[12..16]);
    let at = usize::from(packet[0] & 15) * 4;
    if packet[9] == 1 {
        answer[at] = if packet[at] == 8 { 0 } else { packet[at] };
    } else {
        answer[at..at + 2].copy_from_slice(&packet[at + 2..at + 4]);
        answer[at + 2..at + 4].copy_from_slice(&packet[at..at + 2]);
        if let Some(port) = port {
            answer[at..at + 2].copy_from_slice(&port.to_be_bytes());
        }
    }
    if packet[9] == 6 && packet[at + 13] & SYN != 0 {
        answer[at + 13] |= ACK;
    }
    fill_checksums(&mut answer);
    answer
}

/// The same packet with an IP option.
fn with_option(packet: &[u8]) -> Vec<u8> {
    let mut bytes = [&packet[..20], &[1, 1, 1, 0], &packet[20..]].concat();
    bytes[0] = 0x46;
    let total = bytes.len() as u16;
    bytes[2..4].copy_from_slice(&total.to_be_bytes());
    fill_checksums(&mut bytes);
    bytes
}

/// One thing that happens, of random numbers.
fn happen(both: &mut Both, what: u8, who: u8, which: u16, seed: u16) {
    let client = SocketAddrV4::new(Ipv4Addr::from_bits(0xc0a8_0000 + u32::from(who % 40)), 40_000 + u16::from(who % 3));
    let originals =
        [ORIGINAL, "100.100.100.101:8080", ANY_PORT, "192.0.2.7:123", FORWARDS[0], FORWARDS[1], "8.8.8.8:53"];
    let original = at(originals[usize::from(which) % originals.len()]);
    let router = (!seed.is_multiple_of(3)).then(|| ip("172.16.5.5"));
    let kind = [3, 4, 5, 11, 12][usize::from(which) % 5];
    let data = vec![seed as u8; usize::from(seed % 200)];
    let from_client = |packet: Vec<u8>| if seed.is_multiple_of(7) { with_option(&packet) } else { packet };
    match what % 20 {
        0..=3 => both.client_sends(&from_client(udp(client, original, &data)), seed),
        4 => both.client_sends(&from_client(tcp(client, original, (SYN, 7, 0), &data)), seed),
        5 => both.client_sends(&from_client(tcp(client, original, (ACK, 8, 9), &data)), seed),
        6 => both.client_sends(&from_client(echo(8, *client.ip(), *original.ip(), u16::from(who % 3), &data)), seed),
        7..=11 => both.server_answers(usize::from(which), None, seed),
        12 => both.server_answers(usize::from(which), Some(seed), seed),
        13 => both.error_to_client(usize::from(which), router, kind, seed),
        14 => both.error_to_server(usize::from(which), router, kind, seed),
        15 => {
            // A stranger, to whatever port of an alternative address; or one that speaks in our own name.
            let source = if seed.is_multiple_of(5) { at("10.10.10.11:5000") } else { at("172.16.9.9:99") };
            let to = SocketAddrV4::new(Ipv4Addr::from_bits(0x0a0a_0a0a + u32::from(who % 8)), which);
            both.client_sends(&udp(source, to, &data), seed);
        }
        16 => {
            let payload = [&[which as u8, 0, 0, 0, 0, 0, 0, 1][..], &data].concat();
            let to = if seed.is_multiple_of(2) { ip("10.10.10.10") } else { *original.ip() };
            both.client_sends(&ipv4([1, 50, 47][usize::from(which % 3)], *client.ip(), to, &payload), seed);
        }
        17 => {
            let servers = [SERVER, OTHER];
            let (from, to) = (usize::from(which % 2), usize::from(which.is_multiple_of(2)));
            let how = [Redivert::Switch, Redivert::Drain, Redivert::Reset][usize::from(seed % 3)];
            both.redivert(servers[from], servers[to], how);
        }
        18 => {
            let (one, all) = (both.single.remove(at(ORIGINAL)), both.set.remove(at(ORIGINAL)));
            assert_eq!(one.map(|r| r.left_behind), all.map(|r| r.left_behind));
            both.divert(Divert::new(at(ORIGINAL)).to(at(SERVER)));
        }
        // How late a sweep comes depends on what else there is; so either nothing can be dead, or everything is.
        _ if !seed.is_multiple_of(16) => both.now = both.now + Duration::from_millis(u64::from(seed) % 400),
        _ => {
            for _ in 0..2 {
                both.now = both.now + Duration::from_hours(4);
                both.settle();
            }
            assert_eq!(both.single.slots_in_use(), 0);
            // Whose alternative endpoint that was is up to chance from now on.
            both.sent.clear();
            both.received.clear();
            assert!(both.set.shards().all(|shard| shard.slots_in_use() == 0));
        }
    }
    both.settle();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(400), ..ProptestConfig::default() })]

    /// All protocols, both ways, in pieces in and out of order, errors both ways, siblings, forwards, re-diverts.
    #[test]
    fn a_set_does_what_a_single_translator_does(
        setting in any::<usize>(),
        by_hand in any::<bool>(),
        steps in vec(any::<(u8, u8, u16, u16)>(), 1..120),
    ) {
        let mut both = Both::new(setting, by_hand);
        for (what, who, which, seed) in steps {
            happen(&mut both, what, who, which, seed);
        }
    }

    /// Whatever the bytes, the owner is one of the shards, and nothing panics.
    #[test]
    fn anything_at_all_has_an_owner(
        setting in any::<usize>(),
        mut bytes in vec(any::<u8>(), 0..120),
        start in prop_oneof![Just(None), (1_u8..18, any::<u16>()).prop_map(Some)],
    ) {
        if let Some((protocol, fragmentation)) = start {
            bytes.resize(bytes.len().max(20), 0);
            bytes = ipv4(protocol, ip("192.168.0.1"), ip("10.10.10.10"), &bytes);
            bytes[6..8].copy_from_slice(&(fragmentation & fragmentation.rotate_left(3)).to_be_bytes());
        }
        let settings = settings();
        let (config, shards) = &settings[setting % settings.len()];
        let sharding = Sharding::new(config, *shards).expect("it can be shared");
        match sharding.owner(&bytes) {
            Owner::One(one) => prop_assert!(one < *shards),
            Owner::Every => prop_assert!(!sharding.has_whole_addresses() && bytes[16..20] == [10, 10, 10, 10]),
        }
    }
}
