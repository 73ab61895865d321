//! Forgetting every connection at once.
//!
//! It starts a new epoch, like a re-divert: connections of earlier epochs count as dead in every lookup. In each age
//! list they stand before those that are opened later, so that sweeping finds them at the heads.

use crate::event::Closed;
use crate::table::connection::{ConnectionSlot, NONE, SERVER_COUNTED};
use crate::table::storage::Storage;
use crate::track::phase::{Class, Phase};
use crate::translator::Translator;
use crate::translator::connection::expire::LOOKS;
use crate::translator::state::{State, Table};
use crate::translator::table::servers;

impl<S: Storage> Translator<S> {
    /// Ends every connection at once, for all clients and servers: from now on no packet finds one of them. The rules
    /// stay, and new connections open as before.
    ///
    /// The work does not depend on the number of connections. Their slots are swept later, by [`poll`](Self::poll) and
    /// whenever a new connection needs one. Each is then reported and counted as [`Closed::Forgotten`], and its
    /// alternative endpoint is quarantined like that of any other connection that ended. The ends of a forgotten
    /// connection are not notified. RSTs that an earlier re-divert has ordered are still sent. Until the sweep is
    /// complete, the limit of connections per client ([`Config::client_limit`](crate::Config::client_limit)) is not
    /// enforced, since its counts still include forgotten connections.
    ///
    /// Call [`poll`](Self::poll) when [`poll_at`](Self::poll_at) says so. New connections are refused
    /// ([`DropReason::TableFull`](crate::DropReason::TableFull)) only after 190 calls, with new connections between
    /// them and without enough polls to sweep the table once, and only until it has been swept.
    ///
    /// [`Closed::Forgotten`]: crate::Closed::Forgotten
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # let udp = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest_udp.rs"));
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let mut byway = Translator::new(config, Fixed::<64, 4>::new())?;
    /// # let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 53);
    /// # let server = SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, 89), 53);
    /// # let client = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 3456);
    /// byway.divert(Divert::new(original).to(server))?;
    /// byway.translate(Instant::ZERO, &mut udp(client, original));
    ///
    /// assert_eq!(byway.forget().connections, 1);
    /// assert_eq!((byway.connections().count(), byway.connections_on(server)), (0, 0));
    /// assert_eq!(byway.translate(Instant::ZERO, &mut udp(client, original)), Verdict::ToServer); // a new one
    /// assert_eq!((byway.counters().opened, byway.counters().forgotten), (2, 1));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn forget(&mut self) -> Forgotten {
        self.table().forget()
    }
}

/// The result of [`Translator::forget`](crate::Translator::forget).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Forgotten {
    /// How many connections were forgotten, as far as the rules count them: an imported connection without a rule is
    /// forgotten but not counted here. If there were more than 256, some may have been dead already.
    pub connections: u32,
}

impl Table<'_> {
    pub(crate) fn forget(&mut self) -> Forgotten {
        let dead = self.counted_dead(None);
        let connections = self.forget_all().saturating_sub(dead);
        self.expire_all(LOOKS, false);
        self.check_forgotten();
        Forgotten { connections }
    }

    /// Forgets every connection. Returns how many were counted.
    fn forget_all(&mut self) -> u32 {
        let counters = &self.state.counters;
        let begun = counters.opened.wrapping_add(counters.imported) as u32;
        // If none has been opened since the last time, all have already been forgotten.
        let any = begun != self.state.begun_before;
        self.state.begun_before = begun;
        if self.state.lingered || self.state.rotate != 0 {
            (self.state.rotate, self.state.lingered) = (self.state.used, false);
        }
        self.state.close_dead = Some(close_forgotten);
        let mut servers = servers!(self.state, self.memory);
        let counted = self.state.redivert_log.forget(self.memory.moves, &mut servers, self.state.tick, any);
        self.state.set_plain_epoch();
        counted
    }

    /// Records when no forgotten connection is left. In each age list they stand before all others, except in the list of
    /// finished connections, which is gone through once.
    pub(super) fn check_forgotten(&mut self) {
        if self.state.ages.head(Class::Quarantined) == NONE {
            // There is nothing to go through, so no look at it will count.
            self.state.rotate = 0;
        }
        let moves = &self.state.redivert_log;
        let is_left = |class| {
            let head = self.slot(self.state.ages.head(class));
            class != Class::Quarantined && head.is_some_and(|c| moves.has_forgotten(c.epoch))
        };
        if self.state.rotate == 0 && !Class::all().any(is_left) {
            self.state.close_dead = self.state.for_measured.map(|measured| measured.close_dead);
            self.state.redivert_log.forgot_all();
            self.state.set_plain_epoch();
        }
    }
}

/// Ends a connection that is dead, while there may be forgotten ones.
fn close_forgotten(table: &mut Table<'_>, slot: u32) {
    let State { redivert_log: moves, timers, .. } = &*table.state;
    let Some(ConnectionSlot(connection)) = table.memory.connections.get_mut(slot as usize) else {
        return;
    };
    let phase = connection.phase;
    let forgotten = phase != Phase::Quarantined && moves.has_forgotten(connection.epoch);
    if phase.is_over() && !forgotten {
        return;
    }
    let mut why = Closed::Expired;
    if forgotten {
        // The servers' counts were reset when everything was forgotten.
        connection.flags &= !SERVER_COUNTED;
        // It may already have been dead at the last `forget`.
        if !timers.is_outlived(phase, moves.forgotten_at().since_past(connection.last)) {
            why = Closed::Forgotten;
        }
    }
    // A finished connection that is forgotten still goes into quarantine.
    table.quarantine(slot, why);
}
