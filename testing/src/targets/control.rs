//! What a fuzzer runs: any bytes to both parsers, and any requests of a monitor that has the key.
//!
//! `cargo test` runs them on bytes that only look random; `fuzz/` on those that a fuzzer finds.

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::time::Duration;

use byway::control::{Agent, Answer, Client, Incoming, Key, MAX_ANSWER, MAX_REQUEST, Rights, ServerPage};
use byway::{Config, Divert, Fixed, Instant, Prefix, Translator};
use hmac::{KeyInit, Mac};

type Byway = Translator<Fixed<32, 6, 8, 8, 32, 0, 6>>;

const SECRET: [u8; 32] = [0x11; 32];

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key).expect("a key of any length will do");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

struct House {
    agent: Agent<3, 3, 2>,
    byway: Byway,
    #[cfg(feature = "naming")]
    names: byway::naming::Names<byway::naming::FixedNames<6, 1>>,
    now: Instant,
    answer: [u8; MAX_ANSWER],
}

fn peer() -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 40_000))
}

impl House {
    fn new() -> Self {
        let control = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 5213);
        let mut agent = Agent::sized([0xb0; 32]).listening_on(control).hashes_per_second(u32::MAX);
        let prefix = Prefix::new(Ipv4Addr::new(100, 0, 0, 0), 8).expect("8 bits are a prefix");
        for (id, rights) in [(1, Rights::All), (2, Rights::Read), (3, Rights::Divert(prefix))] {
            agent.add_key(Key::new(id, SECRET, rights)).expect("there is room");
        }
        let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=2047);
        let mut byway = Translator::new(config, Fixed::sized()).expect("the configuration is good");
        let rule = Divert::new(Ipv4Addr::new(100, 0, 0, 1)).to(Ipv4Addr::new(20, 0, 0, 1));
        byway.divert(rule).expect("there is room");
        #[cfg(feature = "naming")]
        let names = {
            use byway::naming::{FixedNames, NameEntry, Names, NamesConfig, Pattern};
            let mut names = Names::new(NamesConfig::new([7; 32]), FixedNames::new());
            let pattern: Pattern = "www.bt.com".parse().expect("it is a name");
            let entry = NameEntry::new(pattern).to(Ipv4Addr::new(203, 0, 113, 1));
            names.insert(entry).expect("there is room");
            names
        };
        #[cfg(feature = "naming")]
        return Self { agent, byway, names, now: Instant::from_secs(1), answer: [0; MAX_ANSWER] };
        #[cfg(not(feature = "naming"))]
        Self { agent, byway, now: Instant::from_secs(1), answer: [0; MAX_ANSWER] }
    }

    fn give(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        #[cfg(feature = "naming")]
        let rights = [byway::control::NameRights { key: 3, pattern: "*.bt.com".parse().expect("it is a pattern") }];
        #[cfg(feature = "naming")]
        let byway = &mut byway::control::WithNames::new(&mut self.byway, &mut self.names).rights(&rights);
        #[cfg(not(feature = "naming"))]
        let byway = &mut self.byway;
        let length = self.agent.handle(self.now, byway, peer(), datagram, &mut self.answer).ok()?;
        assert!(length <= MAX_ANSWER);
        Some(self.answer[..length].to_vec())
    }

    /// What instructions can change.
    fn table(&self) -> String {
        let rules: Vec<_> =
            self.byway.diverts().map(|e| (e.matches(), e.keeps_source(), e.servers().collect::<Vec<_>>())).collect();
        format!("{} {rules:?} {:?} {}", self.generation(), self.byway.timeouts(), self.byway.client_limit())
            + &self.names()
    }

    #[cfg(feature = "naming")]
    fn names(&self) -> String {
        let entries = self.names.entries().map(|e| {
            // An entry never outlives its rule, whatever a monitor says.
            assert!(e.rule().is_none_or(|rule| self.byway.find_divert(rule).is_some()) && !e.is_suspended());
            format!(
                " {} {} {} {:?} {:?}",
                e.pattern(),
                e.clients(),
                e.ttl(),
                e.addresses().collect::<Vec<_>>(),
                e.rule()
            )
        });
        entries.collect()
    }

    #[cfg(not(feature = "naming"))]
    fn names(&self) -> String {
        String::new()
    }

    fn generation(&self) -> u32 {
        #[cfg(feature = "naming")]
        return self.byway.generation().wrapping_add(self.names.generation());
        #[cfg(not(feature = "naming"))]
        self.byway.generation()
    }

    /// Opens a session; returns its number and its key.
    fn open(&mut self, key: u16) -> Option<([u8; 8], [u8; 32])> {
        let nonce = [9; 16];
        let mut client = Client::new(self.now, key, SECRET, nonce);
        let hello = client.poll_transmit(self.now).ok()??.to_vec();
        let challenge = self.give(&hello)?;
        client.handle(self.now, &challenge).ok()?;
        let open = client.poll_transmit(self.now).ok()??.to_vec();
        let opened = self.give(&open)?;
        client.handle(self.now, &opened).ok()?;
        let parts = [b"byway control 1 session", &challenge[4..6], &challenge[40..44], &nonce, &challenge[24..40]];
        Some((challenge[24..32].try_into().ok()?, hmac(&SECRET, &parts)))
    }
}

/// Reads everything that an answer may tell.
fn read_all(answer: &Answer<'_>) {
    assert!(answer.effects().count() <= MAX_ANSWER);
    assert!(answer.rules().0.map(|r| r.servers().count()).sum::<usize>() <= MAX_ANSWER);
    assert!(answer.connections().0.count() <= MAX_ANSWER);
    assert!(answer.counters().count() <= MAX_ANSWER);
    read_servers(&answer.measurements());
    #[cfg(feature = "naming")]
    {
        assert!(answer.names().0.map(|e| e.addresses().count()).sum::<usize>() <= MAX_ANSWER);
        let _ = answer.name_sizes();
    }
    let _ = (answer.settings(), answer.lead(), answer.translator_time(), answer.refused());
}

fn read_servers(page: &ServerPage<'_>) {
    let all: Vec<_> = page.servers().collect();
    assert!(all.len() <= page.len() && all.len() * 193 <= MAX_ANSWER);
    for server in &all {
        let _ = (server.measured.between(&all[0].measured), server.measured.response.percentile(99.0));
    }
    let _ = (page.next(), page.translator_time(), page.is_empty());
}

/// Any bytes to an agent and to a monitor: nothing happens.
pub fn parsers(data: &[u8]) {
    let mut house = House::new();
    let before = house.table();
    let mut client = Client::new(house.now, 1, SECRET, [9; 16]);
    assert!(house.give(data).is_none() || data.len() == 64, "only HELLO could be true, and it is 64 bytes long");
    assert!(client.handle(house.now, data).is_err());
    let (session, _) = house.open(1).expect("nothing keeps it from opening");
    // With the number of a session in it, so that it gets further.
    let mut inside = data.to_vec();
    if let Some(place) = inside.get_mut(8..16) {
        place.copy_from_slice(&session);
    }
    assert!(house.give(&inside).is_none() || data.len() == 64);
    assert_eq!(house.table(), before);
}

/// A monitor that has the key says what the fuzzer wants: every request is answered, what is refused changes nothing,
/// and what comes twice is carried out once.
pub fn session(data: &[u8]) {
    let mut house = House::new();
    let mut data = data;
    let mut take = |wanted: usize| {
        let (first, rest) = data.split_at(wanted.min(data.len()));
        data = rest;
        first
    };
    let mut sequence = 0_u32;
    let Some(mut open) = house.open(1) else { return };
    while let [what, length] = *take(2) {
        match what % 8 {
            0 => house.now = house.now + Duration::from_millis(u64::from(length) << 4),
            1 => {
                let mut packet = take(usize::from(length)).to_vec();
                let _ = house.byway.translate(house.now, &mut packet);
            }
            2 => {
                if let Some(new) = house.open(1 + u16::from(length % 3)) {
                    (open, sequence) = (new, 0);
                }
            }
            3 => events(&mut house),
            7 => handshake(&mut house, open, length, take(45)),
            _ => {
                sequence += 1;
                let body = take(usize::from(length) * 2).to_vec();
                request(&mut house, open, sequence, &body);
            }
        }
    }
}

fn request(house: &mut House, (session, key): ([u8; 8], [u8; 32]), sequence: u32, body: &[u8]) {
    let mut datagram = [&[0x42, 0x57, 1, 4][..], &sequence.to_be_bytes(), &session, body].concat();
    let tag = hmac(&key, &[&datagram]);
    datagram.extend(&tag[..16]);
    let (before, generation) = (house.table(), house.generation());
    let Some(answer) = house.give(&datagram) else {
        assert_eq!(house.table(), before, "what is not answered does nothing");
        return;
    };
    assert!(datagram.len() <= MAX_REQUEST);
    let (said, tag) = answer.split_at(answer.len() - 16);
    assert_eq!(tag, &hmac(&key, &[said])[..16]);
    assert_eq!(said[4..16], datagram[4..16], "it says which request it answers");
    let code = u16::from_be_bytes([said[16], said[17]]);
    let after = house.table();
    assert!(code == 0 || after == before, "code {code}, and something has changed: {before} {after}");
    if said[19] & 1 != 0 {
        assert_eq!(after, before, "a dry run");
    }
    if let [flags, count, _, _, g0, g1, g2, g3, first, ..] = *body
        && code == 0
    {
        let demanded = u32::from_be_bytes([g0, g1, g2, g3]);
        assert!(flags & 2 == 0 || demanded == generation, "it wanted generation {demanded}, not {generation}");
        if (1..=8).contains(&first) {
            assert_eq!(said.len(), 16 + 12 + 8 * usize::from(count), "an effect for each change");
        }
    }
    // Read as a monitor reads it: with another session's key it would not get this far.
    let mut answered = Client::new(house.now, 1, SECRET, [0; 16]);
    assert!(answered.handle(house.now, &answer).is_err());
    let again = house.give(&datagram);
    assert_eq!(house.table(), after, "carried out twice");
    // A session that is closed has no more answers; reads may have changed with time, but not without.
    assert!(again.is_none() || again == Some(answer), "another answer to the same request");
}

/// Opening a session, with any contents and a right tag: it changes nothing, and the answer is never larger.
fn handshake(house: &mut House, (session, key): ([u8; 8], [u8; 32]), version: u8, data: &[u8]) {
    let Some((kind, body)) = data.split_first_chunk::<1>() else { return };
    let mut datagram = [&[0x42, 0x57, version, kind[0]][..], body].concat();
    datagram.resize(48, 0);
    // HELLO is said with the key itself, OPEN with the one of a session.
    let hello = kind[0] == 1;
    if !hello {
        datagram[8..16].copy_from_slice(&session);
    }
    let tag = hmac(if hello { &SECRET } else { &key }, &[&datagram]);
    datagram.extend(&tag[..16]);
    let before = house.table();
    if let Some(answer) = house.give(&datagram) {
        assert!(kind[0] == 4 || answer.len() <= datagram.len(), "an answer of {} bytes", answer.len());
    }
    assert!(kind[0] == 4 || house.table() == before);
}

fn events(house: &mut House) {
    while house.agent.has_room()
        && let Some(event) = house.byway.poll_event()
    {
        house.agent.tell(house.now, &event);
    }
    let mut told = 0;
    while let Some((to, length)) = house.agent.poll_transmit(house.now, &mut house.answer) {
        assert!(to == peer() && length <= MAX_ANSWER);
        told += 1;
    }
    assert!(told <= 3, "one datagram a session");
    let mut pages = 0;
    while let Some((to, length)) = house.agent.poll_report(house.now, &mut house.byway, &mut house.answer) {
        assert!(to == peer() && length <= MAX_ANSWER);
        pages += 1;
    }
    assert!(pages <= 2 * 3, "three pages of two servers to each of two monitors");
    assert!(house.agent.report_at().is_none_or(|at| at > house.now));
}

/// Any bytes as the body of an authentic answer: a monitor reads them without harm, whatever it asked.
pub fn answers(data: &[u8]) {
    let mut house = House::new();
    let mut client = Client::new(house.now, 1, SECRET, [9; 16]);
    let now = house.now;
    let hello = client.poll_transmit(now).ok().flatten().map(<[u8]>::to_vec).unwrap_or_default();
    let challenge = house.give(&hello).unwrap_or_default();
    assert!(matches!(client.handle(now, &challenge), Ok(Incoming::Challenged)));
    let parts = [b"byway control 1 session", &challenge[4..6], &challenge[40..44], &[9; 16], &challenge[24..40]];
    let key = hmac(&SECRET, &parts);
    for kind in [5, 6, 8] {
        let sequence = if kind == 5 { 0 } else { 1_u32 };
        let said = [&[0x42, 0x57, 1, kind][..], &sequence.to_be_bytes(), &challenge[24..32], data].concat();
        let datagram = [&said[..], &hmac(&key, &[&said])[..16]].concat();
        match client.handle(now, &datagram) {
            Ok(Incoming::Opened(answer) | Incoming::Answer(answer)) => read_all(&answer),
            Ok(Incoming::Report(report)) => read_servers(&report.page()),
            Ok(Incoming::Events(events)) => assert!(events.events().count() <= MAX_ANSWER),
            _ => {}
        }
    }
}
