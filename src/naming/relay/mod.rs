//! Queries for other names, relayed to DNS servers elsewhere (the document's last remark on the naming server: it and the
//! DNS server can be on different machines).
//!
//! ```text
//!   client                 this machine                              DNS servers
//!     | id 7, www.bt.org     |                                          |
//!     | -------------------> | id 40417, port 61002, wWW.Bt.oRG         |
//!     |                      | ---------------------------------------> |
//!     |                      | the same from another port, id and case  | where the first has not answered in time
//!     |                      | -----------------------------------------------------> |
//!     | id 7, www.bt.org     |        id, port, address, question: all of it right    |
//!     | <------------------- | <----------------------------------------------------- |
//! ```
//!
//! An off-path attacker, who cannot see the queries, has to guess what an answer must contain (RFC 5452, section 9):
//! identifier and port, 32 bits with all ports, and a bit for each letter of the name.

mod config;
mod counters;
mod message;
mod portions;
mod record;
mod servers;
mod storage;
mod work;

use core::fmt;
use core::net::SocketAddrV4;

pub use config::{MAX_RELAY_SERVERS, RelayConfig, RelayError};
pub use counters::{RelayCounters, RelayOutcome};
pub use record::{RelayNotice, RelayRecord, RelayRecordError};
use servers::Servers;
#[cfg(feature = "alloc")]
pub use storage::HeapRelay;
pub use storage::{BorrowedRelay, FixedRelay, RELAY_INDEX_WORDS, RelaySlot, RelayStorage};
use storage::{RelayParts, RelayView, flag};
use work::{State, Work};

use crate::endpoint::{Endpoint, Pair};
use crate::table::hash::Keys;
use crate::time::Instant;

/// The longest query that is relayed, in bytes: what every server accepts (RFC 1035, section 4.2.1).
pub const MAX_RELAY_QUERY: usize = 512;

/// What the caller has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use]
pub enum Relayed {
    /// Send the first `length` bytes of the buffer to this server, from this port.
    Ask {
        /// The DNS server.
        #[cfg_attr(feature = "defmt", defmt(Debug2Format))]
        server: SocketAddrV4,
        /// The port of this machine that the query comes from, and the answer comes to.
        port: u16,
        /// How many bytes.
        length: usize,
    },
    /// Send the first `length` bytes of the buffer to the client as an answer: back from `destination` to `source`.
    Answer {
        /// The client, and the endpoint that it has asked.
        client: Pair,
        /// How many bytes.
        length: usize,
    },
    /// Send nothing; the reason is counted.
    Drop(RelayOutcome),
}

/// Relays queries over UDP to DNS servers, and their answers to the clients.
///
/// It has no socket: it says what to send to which server from which port, and is given what comes to these ports. So it
/// runs with sockets of the caller, one for each port, or in the path of packets.
///
/// - An answer is accepted if everything is right: the server's endpoint, the port, the identifier, and the question
///   with each letter's case. All other answers are counted and change nothing, so the right one is still waited for.
/// - A server that does not answer in time is given up for this query, and the next one is asked, with a new
///   identifier, port and case. When all attempts are used up, the client gets SERVFAIL (RFC 1035, section 4.1.1; RFC
///   9520, section 2.3). A server that has not answered three times in a row is sent one query every ten seconds, until
///   it answers.
/// - An answer that is right except for the case is not accepted either. The query is sent again from another port and
///   with another identifier, as the client wrote it. A server that does so eight times in a row is no longer sent
///   random case. An answer with at least eight letters in the right case resets that count, so an attacker who does
///   not see the queries would have to guess 32 bits eight times in a row, each time before the server answers.
/// - The client gets the server's answer as it is, with its own identifier and its own letters in the question. There is one
///   answer to each query, however often the client repeats it while it waits.
/// - What does not fit into the table is not relayed, and counted.
///
/// The work of each call is bounded, however full the table is; no message makes it panic.
///
/// ```
/// use byway::{Instant, Pair};
/// use byway::naming::{FixedRelay, MAX_RELAY_QUERY, Relay, RelayConfig, Relayed};
///
/// let secret = [7; 32]; // from the machine's source of randomness
/// let config = RelayConfig::new(secret, "192.0.2.53:53".parse()?).server("198.51.100.53:53".parse()?);
/// let mut relay = Relay::new(config, FixedRelay::<8>::new())?;
///
/// let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03wWw\x02bt\x03cOm\0\0\x01\0\x01";
/// let client = Pair { source: "10.0.0.1:4000".parse()?, destination: "10.0.0.254:53".parse()? };
/// let mut out = [0; MAX_RELAY_QUERY];
/// let Relayed::Ask { server, port, length } = relay.query(Instant::ZERO, client, query, &mut out) else { panic!() };
/// assert_eq!((server, length), ("192.0.2.53:53".parse()?, query.len()));
///
/// let mut answer = out[..length].to_vec(); // the server's
/// answer[2] |= 0x80;
/// assert_eq!(relay.answer(Instant::ZERO, server, port, &mut answer), Some(client));
/// assert_eq!((&answer[..2], &answer[12..]), (&query[..2], &query[12..]));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub struct Relay<S> {
    state: State,
    storage: S,
}

impl<S> fmt::Debug for Relay<S> {
    /// Without the secret and the queries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("config", &self.state.config).field("queries", &self.state.used).finish()
    }
}

#[cfg(feature = "defmt")]
impl<S> defmt::Format for Relay<S> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Relay {{ config: {}, queries: {} }}", self.state.config, self.state.used);
    }
}

impl<S: RelayStorage> Relay<S> {
    /// A relay at which no query waits. Any previous contents of `storage` are cleared.
    ///
    /// # Errors
    /// Those of [`RelayConfig::check`].
    pub fn new(config: RelayConfig, mut storage: S) -> Result<Self, RelayError> {
        config.check()?;
        let RelayParts { slots, ports, clients } = storage.parts();
        slots.fill(RelaySlot::EMPTY);
        ports.fill(0);
        clients.fill(0);
        let words = ports.len().min(clients.len()) / RELAY_INDEX_WORDS;
        let capacity = slots.len().min(words).min(crate::naming::storage::MAX_NAMES);
        let (keys, servers) = (Keys::new(&config.secret), Servers::new(&config.servers));
        let state = State {
            config,
            keys,
            servers,
            counters: RelayCounters::ZERO,
            nonce: 0,
            now: Instant::ZERO,
            capacity,
            used: 0,
            fresh: 0,
            free: 0,
            first: 0,
            last: 0,
            notice: None,
        };
        Ok(Self { state, storage })
    }

    /// Takes a client's query: `client.source` has sent it to `client.destination`. `out` gets the query for a server, or an
    /// answer for the client.
    pub fn query(&mut self, now: Instant, client: Pair, query: &[u8], out: &mut [u8; MAX_RELAY_QUERY]) -> Relayed {
        self.work(now).query(client, query, out)
    }

    /// Takes what `from` has sent to a port of this machine. If it is an expected answer, it is changed in place into
    /// the answer for the client: [`Pair::source`] is the client, and [`Pair::destination`] the endpoint that it has
    /// asked, which the answer comes from. Otherwise nothing is changed, and the reason is counted.
    ///
    /// Look at [`poll_at`](Self::poll_at) afterwards: an answer can make a query be sent again at once.
    pub fn answer(&mut self, now: Instant, from: SocketAddrV4, port: u16, message: &mut [u8]) -> Option<Pair> {
        self.work(now).answer(from, port, message)
    }

    /// Does one thing that is due: sends a query again, or answers a client with SERVFAIL. Call it until there is nothing
    /// left. Late calls make clients wait longer; early ones do nothing.
    pub fn poll(&mut self, now: Instant, out: &mut [u8; MAX_RELAY_QUERY]) -> Option<Relayed> {
        self.work(now).poll(out)
    }

    /// When to call [`poll`](Self::poll) at the latest; `None` if no query waits.
    pub fn poll_at(&self) -> Option<Instant> {
        let first = work::slot(self.storage.view().slots, self.state.first)?;
        // A query that is to be sent again at once is the first in the list.
        Some(if first.is(flag::AGAIN) { self.state.now } else { Instant::from_micros(first.deadline) })
    }

    /// Whether a query waits for an answer at this port: if not, a caller with sockets closes the one for this port.
    #[must_use]
    pub fn waits_at(&self, port: u16) -> bool {
        let RelayView { slots, ports } = self.storage.view();
        self.state.waiting_at(slots, ports, port).is_some()
    }

    /// The query that waits for an answer at this port, for the machine that the answer comes to.
    ///
    /// Queries may leave through one machine and their answers arrive at another. Each has a relay then, with the same
    /// [`RelayConfig`], secret included. One takes queries and asks; after each [`Relayed::Ask`] its record goes to the
    /// other, which [imports](Self::import) it, takes the answers, and sends back its [notices](Self::take_notice).
    ///
    /// ```
    /// # use byway::{Instant, Pair};
    /// # use byway::naming::{FixedRelay, MAX_RELAY_QUERY, Relay, RelayConfig, RelayNotice, RelayRecord, Relayed};
    /// # let now = Instant::ZERO;
    /// let config = RelayConfig::new([7; 32], "192.0.2.53:53".parse()?);
    /// let mut asks = Relay::new(config.clone(), FixedRelay::<8>::new())?; // on one machine
    /// let mut takes = Relay::new(config, FixedRelay::<8>::new())?; // on the other
    ///
    /// # let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03wWw\x02bt\x03cOm\0\0\x01\0\x01";
    /// # let client = Pair { source: "10.0.0.1:4000".parse()?, destination: "10.0.0.254:53".parse()? };
    /// # let mut out = [0; MAX_RELAY_QUERY];
    /// let Relayed::Ask { server, port, length } = asks.query(now, client, query, &mut out) else { panic!() };
    /// let mut bytes = [0; RelayRecord::MAX_LENGTH];
    /// let taken = asks.record(port).expect("it waits").write(&mut bytes);
    /// // over a stream that is authenticated and encrypted, before the query is sent
    /// takes.import(now, &RelayRecord::read(&bytes[..taken])?)?;
    ///
    /// # let mut answer = out[..length].to_vec();
    /// # answer[2] |= 0x80;
    /// assert_eq!(takes.answer(now, server, port, &mut answer), Some(client));
    /// let notice = takes.take_notice().expect("the answer was for the other's query").to_bytes();
    /// // and back
    /// assert!(asks.apply(now, RelayNotice::from_bytes(notice).expect("a notice")));
    /// assert!(asks.is_empty() && takes.is_empty());
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ///
    /// Whoever reads such a record can forge an answer.
    #[must_use]
    pub fn record(&self, port: u16) -> Option<RelayRecord> {
        let RelayView { slots, ports } = self.storage.view();
        let slot = work::slot(slots, self.state.waiting_at(slots, ports, port)?)?;
        Some(RelayRecord::of(slot, Endpoint::from(self.state.servers.endpoint(slot.server)?)))
    }

    /// Takes over a query that another relay has asked, so that [`answer`](Self::answer) knows its answer. The record of
    /// its next attempt replaces it. It is never sent from here: when its answer has not come in time, it is forgotten, and
    /// [`poll`](Self::poll) returns [`Relayed::Drop`] with [`RelayOutcome::ImportExpired`].
    ///
    /// # Errors
    /// [`RelayRecordError`] says what is wrong.
    pub fn import(&mut self, now: Instant, record: &RelayRecord) -> Result<(), RelayRecordError> {
        self.work(now).import(record)
    }

    /// What the last call of [`answer`](Self::answer) has to tell the relay that has asked: ask for it after each, since
    /// the next one replaces it. If it is lost, that relay asks again in vain, until it tells the client SERVFAIL.
    pub const fn take_notice(&mut self) -> Option<RelayNotice> {
        self.state.notice.take()
    }

    /// Takes what the relay says that this one's answers come to. Returns whether a query waits for it. Look at
    /// [`poll_at`](Self::poll_at) afterwards, as after [`answer`](Self::answer).
    pub fn apply(&mut self, now: Instant, notice: RelayNotice) -> bool {
        self.work(now).apply(notice)
    }

    /// The server that the next query would be sent to first.
    #[must_use]
    pub fn server(&self) -> SocketAddrV4 {
        self.state.servers.preferred(self.state.now)
    }

    /// How many queries wait for an answer.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.state.used
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.state.used == 0
    }

    /// How many there is room for.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.state.capacity
    }

    /// What has become of queries and answers.
    #[must_use]
    pub const fn counters(&self) -> &RelayCounters {
        &self.state.counters
    }

    fn work(&mut self, now: Instant) -> Work<'_> {
        self.state.now = self.state.now.max(now);
        Work { state: &mut self.state, parts: self.storage.parts() }
    }
}
