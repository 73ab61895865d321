//! The listed connections and their records against the model.

use byway::{Connection, Record, State};
use byway_testing::packet::long;

use super::{Conn, Model, TICK, is_over, timeout};

impl Model {
    /// Compares the listing with the model; `told` are those that are not listed any more because both ends know.
    pub fn check_listing(&mut self, listed: &[Connection], told: &[Connection], in_use: usize) {
        // Connections with any-port replies take two places each, and fill the index before the slots are in use.
        let room = if self.siblings_seen { self.settings.capacity / 2 } else { self.settings.capacity };
        self.crowded |= in_use >= room;
        if self.crowded {
            // A connection that is over may give way without an event.
            let shown =
                |c: &Conn| listed.iter().chain(told).any(|l| l.protocol == c.protocol && l.client_side == c.near);
            self.connections.retain(|c| !is_over(c.state) || shown(c));
        }
        // Within two units after a time-out both are right.
        let doubtful = |c: &Conn| self.now - c.last > timeout(c) && self.now - c.last < timeout(c) + 2 * TICK;
        let of = |l: &Connection, c: &Conn| c.protocol == l.protocol && c.near == l.client_side;
        let mut ours: Vec<&Conn> = self.alive().collect();
        for l in listed {
            if self.connections.iter().any(|c| of(l, c) && doubtful(c)) {
                continue;
            }
            let place = ours.iter().position(|c| of(l, c));
            let conn = ours.swap_remove(place.unwrap_or_else(|| panic!("listed, and unknown: {l} {:?}", l.state)));
            assert_eq!((l.server_side, l.state), (conn.far, conn.state), "{l}");
        }
        // What is being reset is listed until both of its ends have been told.
        ours.retain(|c| c.state != State::Resetting || c.told != [true; 2]);
        assert!(ours.is_empty(), "known, and not listed: {ours:?}");
    }

    /// Compares the record of a connection with the model.
    pub fn check_record(&self, record: &Record) {
        let told = record.connection().expect("a record is well-formed");
        let Some(conn) = self.connections.iter().find(|c| c.protocol == told.protocol && c.near == told.client_side)
        else {
            return;
        };
        let bytes = record.as_bytes();
        let mut idle = self.silent_for(conn).map(|ticks| ticks * TICK / 1_000);
        let told_idle = u64::from(long(bytes, 32));
        assert!(idle.any(|idle| idle == told_idle), "{told}: idle for {told_idle} ms");
        let Some(tcp) = &conn.tcp else {
            return;
        };
        let (state, flags, numbers) = tcp.record();
        assert_eq!([36, 40, 44, 48].map(|at| long(bytes, at)), numbers, "{told}: sent and acknowledged");
        // What is over and left behind forgets the rest, sooner or later.
        if !is_over(conn.state) || conn.followed == self.moves.len() {
            assert_eq!((bytes[4], bytes[5] & 0b0111_1100), (state, flags), "{told}");
        }
    }
}
