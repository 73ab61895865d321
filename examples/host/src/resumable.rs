//! Hands TCP connections over to other servers, while their clients keep them: those of rules that say `resumable`, when a
//! re-divert asks for it.

use core::time::Duration;
use std::collections::{HashMap, HashSet, VecDeque};

use byway::{
    Checked, Direction, Greeted, HandOvers, Heap, HttpGet, Instant, Kept, Observed, Outcome, PacketMeta, Pair, Position,
    Resumed, Resumption, Transmit, Translator, Verdict,
};
use tracing::info;

use crate::counters::Counters;

/// Hand-overs at once, in each shard.
const AT_ONCE: usize = 16;
/// Bytes of memory for each: what the new server is sent, and the start of what it answers.
const BUFFER: usize = 32 << 10;
/// The longest head of a request that is remembered, in bytes.
const HEAD: usize = 2048;
/// How often a sweep over the connections goes on before packets have their turn.
const ROUNDS: usize = 64;
/// How many heads are looked at for one that is no longer used.
const LOOKS: usize = 8;

/// The settings of `[resumable]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// When a connection is at rest between two requests.
    pub at_rest: Greeted,
    /// For how many connections in each shard the protocol is remembered, with the last request if it is HTTP.
    pub remembered: usize,
    /// How long connections are tried.
    pub patience: Duration,
}

/// The hand-overs of a shard.
#[derive(Debug)]
pub struct Mover(HandOvers<'static, Protocols, AT_ONCE>);

impl Mover {
    /// Nothing is under way. The memory for it is never given back: there is one for each shard, as long as the process
    /// runs.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let buffer = Box::leak(vec![0; AT_ONCE * BUFFER].into_boxed_slice());
        let protocols = Protocols::new(settings.at_rest, settings.remembered);
        Self(HandOvers::new(protocols, buffer).patience(settings.patience))
    }

    /// A connection of the process before goes on: what its client sends next may be from the middle of a message.
    pub fn inherit(&mut self, client_side: Pair) {
        self.0.resumption().inherited.insert(client_side);
    }

    /// Translates a packet, also one of a connection that is being handed over.
    pub fn translate(
        &mut self,
        now: Instant,
        translator: &mut Translator<Heap>,
        packet: &mut [u8],
        meta: PacketMeta,
    ) -> Verdict {
        self.0.translate_with(now, translator, packet, meta)
    }

    /// Does what is due, and counts the outcomes of hand-overs.
    pub fn poll(&mut self, now: Instant, translator: &mut Translator<Heap>, counters: &mut Counters) {
        for _ in 0..ROUNDS {
            self.0.poll(now, translator);
            self.tell();
            if self.0.poll_at(now).is_none_or(|due| due > now) {
                break;
            }
        }
        counters.hand_overs_moved = self.0.moved();
        counters.hand_overs_kept = Kept::ALL.iter().map(|why| self.0.kept(*why)).sum();
    }

    /// Logs the outcomes of hand-overs.
    fn tell(&mut self) {
        while let Some(outcome) = self.0.poll_outcome() {
            match outcome {
                Outcome::Moved { connection, from, gap, replayed, dropped, .. } => {
                    let gap_ms = gap.as_secs_f64() * 1e3;
                    info!(connection = %connection, %from, gap_ms, replayed, dropped, "handed over");
                }
                Outcome::Kept { client_side, to, why } => {
                    info!(connection = %client_side, %to, %why, "not handed over");
                }
                _ => {}
            }
        }
    }

    /// When to poll next.
    #[must_use]
    pub fn poll_at(&self, now: Instant) -> Option<Instant> {
        self.0.poll_at(now)
    }

    /// Writes the next packet for an end.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        translator: &mut Translator<Heap>,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        self.0.poll_transmit(now, translator, buffer)
    }
}

/// What the protocols above TCP need. A connection whose client sends an HTTP request is taken for HTTP, any other for one that
/// can be handed over at rest. One whose client has not said anything yet is neither: after a restart it may be in the middle
/// of an answer.
#[derive(Debug)]
struct Protocols {
    at_rest: Greeted,
    known: HashMap<Pair, Known>,
    /// Connections of the process before, whose clients have not sent anything since.
    inherited: HashSet<Pair>,
    /// The connections that were not looked at for longest come first.
    order: VecDeque<Pair>,
    room: usize,
}

#[derive(Debug)]
struct Known {
    speaks: Speaks,
    /// Whether anything has passed since its turn came last.
    is_used: bool,
}

/// What a connection speaks, as its client's first bytes show it.
#[derive(Debug)]
enum Speaks {
    /// HTTP/1: the last request and its response.
    Http(Box<HttpGet<1, HEAD>>),
    /// Something that can be handed over at rest.
    Other,
    /// Something that cannot be handed over, or it is not clear what: TLS, SSH, HTTP/2, half a word.
    Unmoved,
}

impl Speaks {
    fn of(data: &[u8], at_rest: Greeted) -> Self {
        let data = data.trim_ascii_start();
        let is_word = !data.is_empty() && data.iter().all(u8::is_ascii_uppercase);
        let is_secret = data.starts_with(b"\x16\x03") || data.starts_with(b"SSH-") || data.starts_with(b"PRI * HTTP/2");
        match () {
            () if is_secret || is_word || data.is_empty() => Self::Unmoved,
            () if is_http(data) => Self::Http(Box::new(HttpGet::new(at_rest.at_rest))),
            () => Self::Other,
        }
    }
}

impl Protocols {
    fn new(at_rest: Greeted, room: usize) -> Self {
        Self { at_rest, known: HashMap::new(), inherited: HashSet::new(), order: VecDeque::new(), room }
    }

    /// Forgets a connection on which nothing has passed for long, or one of those that have waited longest.
    fn forget_one(&mut self) {
        for look in 1.. {
            let Some(pair) = self.order.pop_front() else {
                return;
            };
            match self.known.get_mut(&pair) {
                Some(known) if known.is_used && look < LOOKS => {
                    known.is_used = false;
                    self.order.push_back(pair);
                }
                _ => {
                    self.known.remove(&pair);
                    return;
                }
            }
        }
    }
}

/// Whether a client's bytes are the start of an HTTP/1 request. Redis has a `GET` too.
fn is_http(data: &[u8]) -> bool {
    let mut lines = data.split(|byte| *byte == b'\n');
    let line = lines.next().unwrap_or_default();
    if lines.next().is_some() {
        return line.windows(8).any(|word| word == b" HTTP/1.");
    }
    let method = line.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    method >= 3 && line.get(method..).is_some_and(|rest| rest.starts_with(b" /") || rest.starts_with(b" http"))
}

impl Resumption for Protocols {
    const OBSERVES: bool = true;

    fn observe(&mut self, observed: &Observed<'_>) {
        let pair = observed.client_side;
        if !self.known.contains_key(&pair) {
            if observed.direction == Direction::ToClient || self.room == 0 {
                return;
            }
            while self.known.len() >= self.room {
                self.forget_one();
            }
            let mut speaks = Speaks::of(observed.data, self.at_rest);
            if self.inherited.remove(&pair) && matches!(speaks, Speaks::Other) {
                // These may be bytes from the middle of anything.
                speaks = Speaks::Unmoved;
            }
            if let Speaks::Http(http) = &mut speaks {
                http.observe(observed);
            }
            self.known.insert(pair, Known { speaks, is_used: false });
            self.order.push_back(pair);
            return;
        }
        if let Some(known) = self.known.get_mut(&pair) {
            known.is_used = true;
            if let Speaks::Http(http) = &mut known.speaks {
                http.observe(observed);
            }
        }
    }

    fn resume(&mut self, position: &Position, buffer: &mut [u8]) -> Resumed {
        match self.known.get_mut(&position.client_side).map(|known| &mut known.speaks) {
            Some(Speaks::Http(http)) => http.resume(position, buffer),
            Some(Speaks::Other) => self.at_rest.resume(position, buffer),
            Some(Speaks::Unmoved) | None => Resumed::Refuse,
        }
    }

    fn check(&mut self, position: &Position, received: &[u8]) -> Checked {
        match self.known.get_mut(&position.client_side).map(|known| &mut known.speaks) {
            Some(Speaks::Http(http)) => http.check(position, received),
            Some(Speaks::Other) => self.at_rest.check(position, received),
            Some(Speaks::Unmoved) | None => Checked::Refuse,
        }
    }
}

#[cfg(test)]
mod tests {
    use byway::AtRest;

    use super::*;

    fn observed(port: u16, data: &[u8]) -> Observed<'_> {
        let ends = |port| core::net::SocketAddrV4::new([1, 2, 3, 4].into(), port);
        let client_side = Pair { source: ends(port), destination: ends(80) };
        Observed::new(client_side, Direction::ToServer, 1, 1, data)
    }

    #[test]
    fn http_is_told_from_others() {
        for data in [&b"GET / HTTP/1.1\r\nHost: a\r\n"[..], b"POST /x?y HTTP/1.0\r\n", b"GET /a/path/that/is/long", b"HEAD http://a/"] {
            assert!(is_http(data), "{}", data.escape_ascii());
        }
        for data in [&b"GET who\r\n"[..], b"get who\r\n", b"*2\r\n$3\r\nGET\r\n$1\r\nx\r\n", b"SELECT", b"\x16\x03\x01", b""] {
            assert!(!is_http(data), "{}", data.escape_ascii());
        }
    }

    #[test]
    fn a_flood_of_connections_forgets_those_that_are_silent() {
        let mut protocols = Protocols::new(Greeted { at_rest: AtRest::after(Duration::from_millis(200)), greeting: 0 }, 8);
        let get: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
        protocols.observe(&observed(1, get));
        for port in 2..1_000 {
            protocols.observe(&observed(port, if port % 2 == 0 { get } else { b"get x\r\n" }));
            // This one goes on.
            protocols.observe(&observed(1, get));
            assert!(protocols.known.len() <= 8 && protocols.order.len() == protocols.known.len());
        }
        let is_http = |port| {
            let known = protocols.known.get(&observed(port, b"").client_side);
            known.map(|known| matches!(known.speaks, Speaks::Http(_)))
        };
        assert_eq!([1, 998, 999, 2].map(is_http), [Some(true), Some(true), Some(false), None]);
        // A connection from before a restart is HTTP when it says so, and nothing else for certain.
        for (port, data, expected) in [(2_001, get, Some(true)), (2_002, &b"rest of a body"[..], Some(false))] {
            protocols.inherited.insert(observed(port, b"").client_side);
            protocols.observe(&observed(port, data));
            let speaks = protocols.known.get(&observed(port, b"").client_side).map(|known| &known.speaks);
            assert_eq!(speaks.map(|speaks| matches!(speaks, Speaks::Http(_))), expected);
            assert!(!speaks.is_some_and(|speaks| matches!(speaks, Speaks::Other)));
        }
    }
}
