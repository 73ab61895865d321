//! Forgetting every connection at once.
//!
//! It begins an epoch, like a re-divert: connections of epochs before it are dead to whatever looks them up. In each age
//! list they stand in front of those that are opened later, so that sweeping finds them at the heads.

use crate::event::Closed;
use crate::table::connection::{ConnectionSlot, SERVER_COUNTED};
use crate::table::storage::Storage;
use crate::track::phase::{Class, Phase};
use crate::translator::Translator;
use crate::translator::connection::expire::LOOKS;
use crate::translator::state::State;
use crate::translator::table::{Table, servers};

impl<S: Storage> Translator<S> {
    /// Ends every connection at once, of all clients and servers: no packet finds one of them from now on. The rules
    /// stay, and new connections open as ever.
    ///
    /// The work does not depend on the number of connections. Their slots are swept later, by [`poll`](Self::poll) and
    /// wherever a new connection needs one; each is then told and counted as [`Closed::Forgotten`], and its alternative
    /// endpoint is held for a while like that of any other connection that ended. Nothing is said to their ends. RSTs
    /// that an earlier re-divert has ordered are still said. While there is something left to sweep the limit of
    /// connections of a client ([`Config::client_limit`](crate::Config::client_limit)) is not enforced, since its counts
    /// still hold what was forgotten.
    ///
    /// Call [`poll`](Self::poll) when [`poll_at`](Self::poll_at) says so. Only after 190 calls, with new
    /// connections between them and without enough polls to sweep the table once, new connections are refused
    /// ([`DropReason::TableFull`](crate::DropReason::TableFull)) until it has been swept.
    ///
    /// [`Closed::Forgotten`]: crate::Closed::Forgotten
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # fn udp(from: SocketAddrV4, to: SocketAddrV4) -> [u8; 28] {
    /// #     let mut packet = [0; 28];
    /// #     (packet[0], packet[3], packet[8], packet[9], packet[25]) = (0x45, 28, 64, 17, 8);
    /// #     packet[12..16].copy_from_slice(&from.ip().octets());
    /// #     packet[16..20].copy_from_slice(&to.ip().octets());
    /// #     packet[20..22].copy_from_slice(&from.port().to_be_bytes());
    /// #     packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    /// #     packet
    /// # }
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

/// What [`Translator::forget`](crate::Translator::forget) has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Forgotten {
    /// How many connections there were, as far as rules tell: a connection that a record brought, and for which there is
    /// no rule, is forgotten and not counted here. Of more than 256 some may have been dead already.
    pub connections: u32,
}

impl Table<'_> {
    pub(crate) fn forget(&mut self) -> Forgotten {
        let connections = self.to_be_forgotten();
        self.forget_all();
        self.expire_all(LOOKS);
        self.check_forgotten();
        Forgotten { connections }
    }

    /// Forgets every connection that there is.
    fn forget_all(&mut self) {
        let counters = &self.state.counters;
        let begun = counters.opened.wrapping_add(counters.imported) as u32;
        // If none has begun since the last time, all have been forgotten.
        let any = begun != self.state.begun_before;
        self.state.begun_before = begun;
        if self.state.lingered || self.state.rotate != 0 {
            (self.state.rotate, self.state.lingered) = (self.state.used, false);
        }
        self.state.bury = Some(bury_forgotten);
        let now = any.then_some(self.state.tick);
        self.state.moves.forget(self.memory.moves, &mut servers!(self.state, self.memory), now);
        self.state.set_plain_epoch();
    }

    /// Takes note when no forgotten connection is left. In each age list they stand in front of all others, but for the
    /// list of those that are over, which is gone through once.
    pub(crate) fn check_forgotten(&mut self) {
        let moves = &self.state.moves;
        let is_left = |class| {
            let head = self.slot(self.state.ages.head(class));
            class != Class::Held && head.is_some_and(|c| moves.has_forgotten(c.epoch))
        };
        if self.state.rotate == 0 && !Class::ALL.into_iter().any(is_left) {
            self.state.bury = None;
            self.state.moves.forgot_all();
            self.state.set_plain_epoch();
        }
    }
}

/// Ends a connection that is dead, while there may be forgotten ones.
fn bury_forgotten(table: &mut Table<'_>, slot: u32) {
    let State { moves, timers, .. } = &*table.state;
    let Some(ConnectionSlot(connection)) = table.memory.connections.get_mut(slot as usize) else {
        return;
    };
    let phase = connection.phase;
    let forgotten = phase != Phase::Held && moves.has_forgotten(connection.epoch);
    if phase.is_over() && !forgotten {
        return table.release(slot);
    }
    let mut why = Closed::Expired;
    if forgotten {
        // The servers' counts have been forgotten with it.
        connection.flags &= !SERVER_COUNTED;
        // It may have been dead already when all that were alive were forgotten.
        if !timers.is_outlived(phase, moves.forgotten_at().since(connection.last)) {
            why = Closed::Forgotten;
        }
    }
    // What is over and forgotten still holds its endpoint for a while.
    table.hold(slot, why);
}
