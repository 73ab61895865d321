//! What is measured of a server, where the storage has room for it.

use core::time::Duration;

use crate::divert::Target;
use crate::histogram::Histogram;
use crate::measurements::{Ends, Measurements, Total, Traffic};
use crate::time::Instant;
use crate::track::ejection::{self, Ejection, Wait};
use crate::track::measure::{Flags, MeasureSlot};

/// Room for the measurements of one server in a translator's storage: all zeros when unused.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MeasuredServerSlot {
    /// The server that the entry described when it was last counted; for another server everything starts again.
    server: Server,
    /// How often counting has started again, modulo 4.
    generation: u8,
    started: u32,
    established: u32,
    ends: Ends,
    unreachable: u32,
    retransmissions: u32,
    since: u64,
    /// To the server and to the client.
    traffic: [Traffic; 2],
    handshakes: [Total; 2],
    unanswered: Total,
    /// How many wait, and the sum of the times at which they began to wait.
    connecting: Total,
    waiting: Total,
    /// The last response, or the last time when nothing waited.
    quiet_until: u64,
    response: Histogram,
    pub(crate) ejection: Ejection,
}

/// How an entry describes its server: its kind, address and port as stored there.
pub(crate) type Server = (u8, u32, u16);

impl MeasuredServerSlot {
    /// An unused slot.
    pub const EMPTY: Self = Self {
        server: (0, 0, 0),
        generation: 0,
        started: 0,
        established: 0,
        ends: Measurements::none(Target::Same, Instant::ZERO).ends,
        unreachable: 0,
        retransmissions: 0,
        since: 0,
        traffic: [Traffic { packets: 0, bytes: 0 }; 2],
        handshakes: [Total { count: 0, micros: 0 }; 2],
        unanswered: Total { count: 0, micros: 0 },
        connecting: Total { count: 0, micros: 0 },
        waiting: Total { count: 0, micros: 0 },
        quiet_until: 0,
        response: Histogram::EMPTY,
        ejection: Ejection::EMPTY,
    };

    /// Starts again if another server was counted here.
    #[inline]
    pub(crate) fn be(&mut self, server: Server, now: Instant) {
        if self.server != server {
            self.begin(server, now);
        }
    }

    #[cold]
    fn begin(&mut self, server: Server, now: Instant) {
        let generation = self.generation.wrapping_add(1) & 3;
        // If the entry is no longer in a group that ejects, nothing of the previous server is kept.
        let mut ejection = self.ejection;
        if !ejection.on {
            ejection.forget();
        }
        *self = Self { server, generation, since: now.as_micros(), ejection, ..Self::EMPTY };
    }

    /// Whether this server was counted here.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn is(&self, server: Server) -> bool {
        self.server == server
    }

    /// How many SYNs or requests wait.
    pub(crate) const fn waiting(&self, what: Wait) -> u32 {
        match what {
            Wait::Syn => self.connecting.count,
            Wait::Request => self.waiting.count,
        }
    }

    /// Whether `silence` microseconds are too long to leave all of them unanswered.
    pub(crate) fn is_too_long(&self, what: Wait, silence: u64) -> bool {
        match what {
            Wait::Syn => silence >= ejection::PATIENCE,
            Wait::Request => ejection::is_too_long(silence, self.response.count(), self.response.sum()),
        }
    }

    /// A connection was opened to it. `syn` says that it begins with a SYN.
    pub(crate) fn open(&mut self, connection: &mut MeasureSlot, syn: bool, now: Instant) {
        let mut flags = connection.flags();
        flags.set(Flags::ESTABLISHED | Flags::ANSWERED | Flags::ENDED | Flags::UNREACHABLE, false);
        connection.set_flags(flags);
        self.started = self.started.wrapping_add(1);
        if syn {
            self.connect(connection, now);
        }
    }

    /// A connection waits for its SYN to be answered.
    pub(crate) fn connect(&mut self, connection: &mut MeasureSlot, now: Instant) {
        let mut flags = connection.flags();
        flags.set(Flags::CONNECTING, true);
        flags.set_generation(self.generation);
        connection.set_flags(flags);
        connection.wait(now);
        self.connecting.add(now.as_micros());
    }

    /// Whether this server was asked for what a connection waits for, if it waits.
    #[cfg(target_pointer_width = "64")]
    #[inline(always)]
    pub(crate) const fn has_asked(&self, connection: &MeasureSlot) -> bool {
        connection.flags().generation() == self.generation || !connection.is_waiting()
    }

    /// Ends a connection's wait if it is for the previous server, since the answer will not come from this one. A SYN
    /// that was not answered comes again.
    #[inline]
    pub(crate) fn take_over(&mut self, connection: &mut MeasureSlot, opening: bool, now: Instant) {
        if connection.flags().generation() != self.generation && self.withdraw(connection, now).is_some() && opening {
            self.connect(connection, now);
        }
    }

    /// A connection has become established, or its first datagram was answered.
    pub(crate) fn establish(&mut self, connection: &mut MeasureSlot) {
        let mut flags = connection.flags();
        flags.set(Flags::ESTABLISHED, true);
        connection.set_flags(flags);
        self.established = self.established.wrapping_add(1);
    }

    /// Counts a packet of a connection. `direction` is its number.
    #[inline]
    pub(crate) fn count(&mut self, direction: usize, bytes: usize) {
        if let Some(traffic) = self.traffic.get_mut(direction) {
            traffic.packets = traffic.packets.wrapping_add(1);
            traffic.bytes = traffic.bytes.wrapping_add(bytes as u64);
        }
    }

    /// A leg of the handshake, the server's or the client's, took this many microseconds.
    pub(crate) fn shake(&mut self, leg: usize, micros: u32) {
        if let Some(total) = self.handshakes.get_mut(leg) {
            total.add(u64::from(micros));
        }
    }

    pub(crate) const fn note_retransmission(&mut self) {
        self.retransmissions = self.retransmissions.wrapping_add(1);
    }

    pub(crate) const fn note_unreachable(&mut self) {
        self.unreachable = self.unreachable.wrapping_add(1);
    }

    /// A request waits for its response; if one was waiting already, the wait restarts at `now`.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn ask(&mut self, connection: &mut MeasureSlot, now: Instant) {
        if self.withdraw(connection, now).is_none() && self.waiting.count == 0 {
            self.quiet_until = now.as_micros();
        }
        let mut flags = connection.flags();
        flags.set_generation(self.generation);
        connection.set_flags(flags);
        connection.wait(now);
        self.waiting.add(now.as_micros());
    }

    /// The server has sent data in response to what waits, if anything does.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn answer(&mut self, connection: &mut MeasureSlot, now: Instant) {
        let mut flags = connection.flags();
        flags.set(Flags::ANSWERED, true);
        connection.set_flags(flags);
        if let Some(micros) = self.withdraw(connection, now) {
            self.response.add_micros(micros);
            self.quiet_until = now.as_micros();
        }
    }

    /// What waits will not be answered any more.
    pub(crate) fn give_up(&mut self, connection: &mut MeasureSlot, now: Instant) {
        let connecting = connection.flags().has(Flags::CONNECTING);
        if let Some(micros) = self.withdraw(connection, now)
            && !connecting
        {
            self.unanswered.add(micros);
        }
    }

    /// Ends a connection's wait for this server. Returns how long it has waited, in microseconds.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(crate) fn withdraw(&mut self, connection: &mut MeasureSlot, now: Instant) -> Option<u64> {
        let micros = connection.waited(now)?;
        connection.stop_waiting();
        let mut flags = connection.flags();
        let connecting = flags.has(Flags::CONNECTING);
        flags.set(Flags::CONNECTING, false);
        connection.set_flags(flags);
        if flags.generation() == self.generation {
            let total = if connecting { &mut self.connecting } else { &mut self.waiting };
            let since = now.as_micros().wrapping_sub(micros);
            let count = total.count.saturating_sub(1);
            // Times are rounded; where nothing waits, the sum starts again.
            *total = Total { count, micros: if count == 0 { 0 } else { total.micros.wrapping_sub(since) } };
        }
        Some(micros)
    }

    /// A connection has ended; `how` selects the counter.
    pub(crate) fn end(&mut self, connection: &mut MeasureSlot, how: fn(&mut Ends) -> &mut u32) {
        let mut flags = connection.flags();
        flags.set(Flags::ENDED, true);
        connection.set_flags(flags);
        let count = how(&mut self.ends);
        *count = count.wrapping_add(1);
    }

    /// What was measured of the server that the entry is for now.
    pub(crate) fn report(&self, entry: Server, target: Target, connections: u32, now: Instant) -> Measurements {
        let mut report = Measurements::none(target, now);
        report.connections = connections;
        if self.server != entry {
            return report;
        }
        let since = |total: &Total| Total {
            count: total.count,
            micros: now.as_micros().wrapping_mul(u64::from(total.count)).wrapping_sub(total.micros),
        };
        let [to_server, to_client] = self.traffic;
        let [server_handshake, client_handshake] = self.handshakes;
        Measurements {
            since: Instant::from_micros(self.since),
            started: self.started,
            established: self.established,
            ends: self.ends,
            unreachable: self.unreachable,
            retransmissions: self.retransmissions,
            to_server,
            to_client,
            server_handshake,
            client_handshake,
            connecting: since(&self.connecting),
            response: self.response,
            ejected: self.ejection.on && self.ejection.is_out(),
            ejections: self.ejection.ejections,
            waiting: since(&self.waiting),
            unanswered: self.unanswered,
            silent: (self.waiting.count != 0)
                .then(|| Duration::from_micros(now.as_micros().saturating_sub(self.quiet_until))),
            ..report
        }
    }
}
