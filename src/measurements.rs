//! What is measured of a server.

use core::time::Duration;

use crate::divert::Target;
use crate::histogram::Histogram;
use crate::time::Instant;

/// What was measured of one server, where the storage has room for it: the document's "performance information" for the
/// network monitor. From [`Translator::measurements`](crate::Translator::measurements).
///
/// Counters count from [`since`](Self::since) on and wrap around at 2^32; [`between`](Self::between) gives what an
/// interval has added. Everything is as seen at the translator, so the network between it and a server counts as the
/// server's.
///
/// An *exchange* begins with new data of the client while none is waiting, and ends with new data of the server that
/// acknowledges some of it. Its response time runs from the last byte of the request to the first byte of the response.
/// With UDP and ICMP echo it runs from the first unanswered datagram to the server's next one. For a protocol in which
/// the server never answers, only the counts of connections and traffic are meaningful.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Measurements {
    /// The server, as its rule names it.
    pub server: Target,
    /// When counting started. Later than in an earlier copy if the counters were restarted in between: a re-divert has
    /// put this server in the place of another, or its rule is new.
    pub since: Instant,
    /// Connections that are on it at present.
    pub connections: u32,
    /// Connections that were opened to it.
    pub started: u32,
    /// Connections that became established, or were answered.
    pub established: u32,
    /// How connections ended.
    pub ends: Ends,
    /// Connections whose first packet was answered with "destination unreachable" (ICMP type 3). They may
    /// go on.
    pub unreachable: u32,
    /// Segments with data, SYN or FIN that had been sent before, in both directions.
    pub retransmissions: u32,
    /// What was sent to it, IPv4 headers included.
    pub to_server: Traffic,
    /// What it sent.
    pub to_client: Traffic,
    /// TCP: from the client's SYN to the server's.
    pub server_handshake: Total,
    /// TCP: from the server's SYN to the client's acknowledgement.
    pub client_handshake: Total,
    /// TCP: connections whose SYN the server has not answered yet, and how long they have waited in all.
    pub connecting: Total,
    /// How long requests waited for their response.
    pub response: Histogram,
    /// Requests that wait for their response now, and how long they have waited in all. Each wait is a lower bound of a
    /// response time: a server that hangs shows up here, but not in `response`.
    pub waiting: Total,
    /// Requests that still had no response when their connection, or the server's side of it, ended, and how long they
    /// had waited in all.
    pub unanswered: Total,
    /// How long it has been since the last response while requests wait; `None` if none waits.
    pub silent: Option<Duration>,
    /// Whether it is ejected at present: it gets no new connections of its group, except for probes
    /// ([`Divert::ejecting`](crate::Divert::ejecting)). The control protocol does not report this.
    pub ejected: bool,
    /// How often it was ejected. The control protocol does not report this.
    pub ejections: u32,
}

/// How connections ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Ends {
    /// TCP: by the FINs of both sides.
    pub finished: u32,
    /// TCP: the server answered the SYN with a RST.
    pub refused: u32,
    /// TCP: by the server's RST, before it had sent any data.
    pub reset_before_data: u32,
    /// TCP: by the server's RST, after it had sent data.
    pub reset_after_data: u32,
    /// TCP: by the client's RST.
    pub aborted: u32,
    /// TCP: the server never answered the SYN.
    pub handshake_timeouts: u32,
    /// Another time-out.
    pub expired: u32,
    /// The translator ended it: evicted, stranded, reset by a re-divert, or forgotten.
    pub withdrawn: u32,
}

impl Ends {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.each().into_iter().fold(0, u32::wrapping_add)
    }

    /// The failures of the server: refused, reset before data, and SYNs without an answer.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.refused.wrapping_add(self.reset_before_data).wrapping_add(self.handshake_timeouts)
    }

    /// All counts, in the order of the fields.
    pub(crate) const fn each(&self) -> [u32; 8] {
        let Self { finished, refused, reset_before_data, reset_after_data, aborted, .. } = *self;
        let Self { handshake_timeouts, expired, withdrawn, .. } = *self;
        [finished, refused, reset_before_data, reset_after_data, aborted, handshake_timeouts, expired, withdrawn]
    }

    fn combine(&self, other: &Self, by: impl Fn(u32, u32) -> u32) -> Self {
        let mut both = self.each();
        for (mine, theirs) in both.iter_mut().zip(other.each()) {
            *mine = by(*mine, theirs);
        }
        Self::of(both)
    }

    /// The opposite of [`each`](Self::each).
    pub(crate) const fn of(each: [u32; 8]) -> Self {
        let [finished, refused, reset_before_data, reset_after_data, aborted, handshake_timeouts, expired, withdrawn] =
            each;
        Self { finished, refused, reset_before_data, reset_after_data, aborted, handshake_timeouts, expired, withdrawn }
    }
}

/// Traffic in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes in them, IPv4 headers included.
    pub bytes: u64,
}

/// A number of times and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Total {
    /// How many.
    pub count: u32,
    /// Their sum in microseconds.
    pub micros: u64,
}

impl Total {
    /// The mean; `None` if there are none.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.micros.checked_div(u64::from(self.count)).map(Duration::from_micros)
    }

    pub(crate) const fn add(&mut self, micros: u64) {
        *self = self.plus(&Self { count: 1, micros });
    }

    const fn plus(&self, other: &Self) -> Self {
        Self { count: self.count.wrapping_add(other.count), micros: self.micros.wrapping_add(other.micros) }
    }

    const fn minus(&self, other: &Self) -> Self {
        Self { count: self.count.wrapping_sub(other.count), micros: self.micros.wrapping_sub(other.micros) }
    }
}

impl Measurements {
    /// Nothing measured yet.
    #[must_use]
    pub const fn none(server: Target, since: Instant) -> Self {
        const NONE: Total = Total { count: 0, micros: 0 };
        const NO_TRAFFIC: Traffic = Traffic { packets: 0, bytes: 0 };
        Self {
            server,
            since,
            connections: 0,
            started: 0,
            established: 0,
            ends: Ends {
                finished: 0,
                refused: 0,
                reset_before_data: 0,
                reset_after_data: 0,
                aborted: 0,
                handshake_timeouts: 0,
                expired: 0,
                withdrawn: 0,
            },
            unreachable: 0,
            retransmissions: 0,
            to_server: NO_TRAFFIC,
            to_client: NO_TRAFFIC,
            server_handshake: NONE,
            client_handshake: NONE,
            connecting: NONE,
            response: Histogram::EMPTY,
            waiting: NONE,
            unanswered: NONE,
            silent: None,
            ejected: false,
            ejections: 0,
        }
    }

    /// What was counted after `earlier`, an earlier copy: the counters are differences, and the states (`connections`,
    /// `connecting`, `waiting`, `silent` and `ejected`) are the present ones. If the counters were restarted in
    /// between, everything since then.
    #[must_use]
    pub fn between(&self, earlier: &Self) -> Self {
        if earlier.since != self.since || earlier.server != self.server {
            return *self;
        }
        let traffic = |now: &Traffic, before: &Traffic| Traffic {
            packets: now.packets.wrapping_sub(before.packets),
            bytes: now.bytes.wrapping_sub(before.bytes),
        };
        Self {
            started: self.started.wrapping_sub(earlier.started),
            established: self.established.wrapping_sub(earlier.established),
            ends: self.ends.combine(&earlier.ends, u32::wrapping_sub),
            unreachable: self.unreachable.wrapping_sub(earlier.unreachable),
            retransmissions: self.retransmissions.wrapping_sub(earlier.retransmissions),
            to_server: traffic(&self.to_server, &earlier.to_server),
            to_client: traffic(&self.to_client, &earlier.to_client),
            server_handshake: self.server_handshake.minus(&earlier.server_handshake),
            client_handshake: self.client_handshake.minus(&earlier.client_handshake),
            response: self.response.since(&earlier.response),
            unanswered: self.unanswered.minus(&earlier.unanswered),
            ejections: self.ejections.wrapping_sub(earlier.ejections),
            ..*self
        }
    }

    /// Adds what was measured of the same server elsewhere: in the group of another rule, or by another translator.
    pub fn merge(&mut self, other: &Self) {
        let traffic = |mine: &Traffic, theirs: &Traffic| Traffic {
            packets: mine.packets.wrapping_add(theirs.packets),
            bytes: mine.bytes.wrapping_add(theirs.bytes),
        };
        self.since = self.since.max(other.since);
        self.connections = self.connections.saturating_add(other.connections);
        self.started = self.started.wrapping_add(other.started);
        self.established = self.established.wrapping_add(other.established);
        self.ends = self.ends.combine(&other.ends, u32::wrapping_add);
        self.unreachable = self.unreachable.wrapping_add(other.unreachable);
        self.retransmissions = self.retransmissions.wrapping_add(other.retransmissions);
        self.to_server = traffic(&self.to_server, &other.to_server);
        self.to_client = traffic(&self.to_client, &other.to_client);
        self.server_handshake = self.server_handshake.plus(&other.server_handshake);
        self.client_handshake = self.client_handshake.plus(&other.client_handshake);
        self.connecting = self.connecting.plus(&other.connecting);
        self.response.merge(&other.response);
        self.waiting = self.waiting.plus(&other.waiting);
        self.unanswered = self.unanswered.plus(&other.unanswered);
        self.ejected |= other.ejected;
        self.ejections = self.ejections.wrapping_add(other.ejections);
        self.silent = match (self.silent, other.silent) {
            // The latest answer counts.
            (Some(mine), Some(theirs)) => Some(mine.min(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
    }
}
