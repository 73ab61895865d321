//! An agent and its translator, and a monitor that talks to them without a network.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test uses a part of it")]

pub use byway_testing::udp;

use core::net::SocketAddr;

use byway::control::{
    Agent, Answer, Client, Incoming, Instruction, Key, MAX_ANSWER, Refused, Request, Rights, Rule, Translators,
};
use byway::{Config, Divert, Heap, Instant, Match, Target, Translator};

pub const ADMIN: (u16, [u8; 32]) = (1, [0x11; 32]);
pub const READER: (u16, [u8; 32]) = (2, [0x22; 32]);
/// May divert within 100.0.0.0/8.
pub const TENANT: (u16, [u8; 32]) = (3, [0x33; 32]);

/// HMAC-SHA-256, from the same crates as the library's.
pub fn hmac(key: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    use hmac::{KeyInit, Mac};
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}

/// The key of a session, as the protocol's page derives it.
pub fn session_key(secret: &[u8; 32], id: u16, number: u32, monitor: &[u8], translator: &[u8]) -> [u8; 32] {
    let (id, number) = (id.to_be_bytes(), number.to_be_bytes());
    hmac(secret, &[&b"byway control 1 session"[..], &id, &number, monitor, translator].concat())
}

pub fn peer(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 40_000))
}

pub struct House<T = Translator<Heap>> {
    pub agent: Agent<4, 4, 2>,
    pub byway: T,
    pub now: Instant,
    nonces: u8,
}

impl House {
    pub fn new() -> Self {
        Self::with(byway_testing::config().own("10.0.0.1".parse().unwrap()), [0xb0; 32])
    }

    pub fn with(config: Config, entropy: [u8; 32]) -> Self {
        Self::over(config, entropy, 100)
    }

    /// With room for so many rules.
    pub fn with_room(rules: usize) -> Self {
        Self::over(byway_testing::config().own("10.0.0.1".parse().unwrap()), [0xb0; 32], rules)
    }

    fn over(config: Config, entropy: [u8; 32], rules: usize) -> Self {
        let byway = Translator::new(config, Heap::new(1000, rules).measured().events(64)).unwrap();
        Self::of(byway, entropy)
    }

    /// What can be seen of the rules and of the settings that instructions change.
    pub fn table(&self) -> String {
        table(&self.byway)
    }
}

/// What can be seen of the rules and of the settings that instructions change.
pub fn table(byway: &Translator<Heap>) -> String {
    let rules = byway.diverts().map(|e| {
        let servers: Vec<_> = e.servers().collect();
        format!("{} {} {} {servers:?}\n", e.matches(), e.keeps_source(), e.takes_replies_from_any_port())
    });
    let rules: String = rules.collect();
    let (timeouts, limit) = (byway.timeouts(), byway.client_limit());
    format!("{rules}{timeouts:?} {limit}")
}

impl<T: Translators> House<T> {
    pub fn of(byway: T, entropy: [u8; 32]) -> Self {
        let agent = Agent::sized(entropy).listening_on("10.0.0.1:5213".parse().unwrap());
        // Tests send more rubbish in a second than an agent likes.
        let mut agent = agent.hashes_per_second(u32::MAX);
        let prefix = byway::Prefix::new("100.0.0.0".parse().unwrap(), 8).unwrap();
        for ((id, secret), rights) in [(ADMIN, Rights::All), (READER, Rights::Read), (TENANT, Rights::Divert(prefix))] {
            agent.add_key(Key::new(id, secret, rights)).unwrap();
        }
        Self { agent, byway, now: Instant::from_secs(1), nonces: 0 }
    }

    /// Hands a datagram to the agent; returns what it answers.
    pub fn give(&mut self, from: SocketAddr, datagram: &[u8]) -> Result<Vec<u8>, Refused> {
        let mut answer = [0; MAX_ANSWER];
        let length = self.agent.handle(self.now, &mut self.byway, from, datagram, &mut answer)?;
        Ok(answer[..length].to_vec())
    }

    /// A monitor with an open session.
    pub fn open(&mut self, (id, secret): (u16, [u8; 32]), from: SocketAddr) -> Client {
        let mut client = self.client((id, secret));
        let challenge = self.give(from, &sent(&mut client, self.now)).unwrap();
        assert!(matches!(client.handle(self.now, &challenge), Ok(Incoming::Challenged)));
        let opened = self.give(from, &sent(&mut client, self.now)).unwrap();
        assert!(matches!(client.handle(self.now, &opened), Ok(Incoming::Opened(a)) if a.refused().is_none()));
        client
    }

    /// A monitor that has said nothing yet.
    pub fn client(&mut self, (id, secret): (u16, [u8; 32])) -> Client {
        self.nonces += 1;
        Client::new(self.now, id, secret, [self.nonces; 16])
    }

    /// Asks for something, without loss on the way; `read` reads the answer.
    #[track_caller]
    pub fn ask<R>(
        &mut self,
        client: &mut Client,
        from: SocketAddr,
        request: &Request,
        read: impl FnOnce(&Answer<'_>) -> R,
    ) -> R {
        client.send(self.now, request).unwrap();
        let answer = self.give(from, &sent(client, self.now)).unwrap();
        match client.handle(self.now, &answer) {
            Ok(Incoming::Answer(answer)) => read(&answer),
            other => panic!("{other:?}"),
        }
    }

    pub fn refused_in_all(&self) -> u64 {
        Refused::ALL.iter().map(|r| self.agent.refused(*r)).sum()
    }
}

/// What a monitor wants to send now.
#[track_caller]
pub fn sent(client: &mut Client, now: Instant) -> Vec<u8> {
    client.poll_transmit(now).unwrap().expect("it has something to send").to_vec()
}

pub fn divert(original: impl Into<Match>, target: impl Into<Target>) -> Instruction {
    Instruction::Divert(Rule::new(&Divert::new(original).to(target)).unwrap())
}
