//! Re-diverting: the document's exchange of the current destination during a connection.
//!
//! The instruction changes the rules and adds a move to the redivert log; it examines no connection. `follow.rs` has
//! how each connection follows.

use core::fmt;
#[cfg(target_pointer_width = "64")]
use core::ops::Range;

use crate::table::connection::{ConnectionSlot, SERVER_COUNTED};
#[cfg(target_pointer_width = "64")]
use crate::table::groups::Groups;
use crate::table::redivert_log::{MoveSlot, Treatment};
#[cfg(target_pointer_width = "64")]
use crate::table::renewal::ALL_FOLLOWED;
use crate::table::rule::Target;
use crate::table::server::{self, Holder, Place, ServerSlot};
use crate::table::storage::Storage;
use crate::translator::Translator;
use crate::translator::redivert::how::Redivert;
use crate::translator::redivert::survey::Survey;
use crate::translator::state::{HIDES_SERVERS, State, Table};
#[cfg(target_pointer_width = "64")]
use crate::translator::table::rule_index;
use crate::wire::ipv4;

/// What a re-divert has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Rediverted {
    /// The table's generation after it.
    pub generation: u32,
    /// How many servers of rules were changed from the old server to the new one.
    pub servers: usize,
    /// How many connections stood on the old server, as counted for the rules that name it; with
    /// [`Redivert::Drain`] they still do. Connections that a rule without a target of its own brought there
    /// ([`Target::Same`], or a kept port where the re-divert names one) are moved too, and counted on the new server
    /// as they move. ICMP echoes and replies from other ports of the server are among them, although a re-divert that
    /// names a port does not move them. Dead ones are left out as in [`Translator::connections_on`].
    pub connections: u32,
}

/// Why a re-divert was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RedivertError {
    /// A side is [`Target::Same`], which names no server.
    NoServer {
        /// Which side: `"from"` or `"to"`.
        name: &'static str,
    },
    /// Old and new server are the same.
    SameServer {
        /// The server.
        target: Target,
    },
    /// The new server's address is one that no host can have (RFC 1812, section 5.3.7).
    MartianTarget {
        /// The new server.
        target: Target,
    },
    /// The new server's port is zero.
    TargetPortZero {
        /// The new server.
        target: Target,
    },
    /// The new server is one of the translator's own addresses.
    OwnTarget {
        /// The new server.
        target: Target,
    },
    /// There are not enough entries for servers: draining ones keep theirs until their last connection ends.
    ServersFull {
        /// How many entries there are in all.
        capacity: usize,
    },
    /// The redivert log is full: as many re-diverts as it has room for are still being followed. Call
    /// [`poll`](crate::Translator::poll) and [`poll_transmit`](crate::Translator::poll_transmit), then try again.
    Busy {
        /// How many re-diverts there is room for.
        capacity: usize,
    },
    /// Connections are to be handed over, and the storage has no room for what that needs
    /// ([`Borrowed::resumable`](crate::Borrowed::resumable), `Heap::resumable`).
    NotResumable {
        /// The new server.
        target: Target,
    },
}

impl fmt::Display for RedivertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServer { name } => write!(f, "{name}: \"the same\" names no server"),
            Self::SameServer { target } => write!(f, "from {target} to {target}: old and new server are the same"),
            Self::MartianTarget { target } => {
                write!(f, "target {target}: no host can have this address")
            }
            Self::TargetPortZero { target } => write!(f, "target {target}: nobody listens on port 0"),
            Self::OwnTarget { target } => {
                write!(f, "target {target} is an address of the translator itself")
            }
            Self::ServersFull { capacity } => write!(f, "no room for another server: {capacity} entries are in use"),
            Self::Busy { capacity } => write!(f, "{capacity} re-diverts are still being followed"),
            Self::NotResumable { target } => {
                write!(f, "hand-over to {target}: the storage has no room for resumable connections")
            }
        }
    }
}

impl core::error::Error for RedivertError {}

impl<S: Storage> Translator<S> {
    /// Moves the rules and the live connections of the server `from` to the server `to`: the document's exchange of the
    /// current destination. The rules that point at `from` point at `to` afterwards, and every connection whose current
    /// destination is `from` is treated as [`Redivert`] says.
    ///
    /// An address without port stands for all of its ports, and as `to` keeps the port. A `from` with a port moves what
    /// is on that port alone: an ICMP echo, which has none, and a reply from another port
    /// ([`Divert::replies_from_any_port`](crate::Divert::replies_from_any_port)) stay on the old server until they end,
    /// and are counted on no server once the entry of their rule has moved. The work does not depend on the
    /// number of connections: each follows with its next packet, or when [`poll`](Self::poll) reaches it. Packets of
    /// the old server that are still in flight are dropped and counted ([`DropReason::OldServer`]). A connection keeps
    /// its alternative port if that is free towards the new server; otherwise it gets another, and if there is none it
    /// is closed ([`Closed::Stranded`]).
    ///
    /// With [`Redivert::HandOver`], a re-divert from a server's `address:port` to the address alone leads to the same
    /// server: rules and their counts stay as they are, and each of its connections goes where its rule would send it
    /// now, for example after weights were changed. Connections that this does not move stay.
    ///
    /// [`DropReason::OldServer`]: crate::DropReason::OldServer
    /// [`Closed::Stranded`]: crate::Closed::Stranded
    ///
    /// # Errors
    /// [`RedivertError`] says what is wrong; nothing has changed then.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # let udp = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest_udp.rs"));
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let mut byway = Translator::new(config, Fixed::<64, 4>::new())?;
    /// # let original = SocketAddrV4::new(Ipv4Addr::new(100, 100, 100, 100), 53);
    /// # let client = |port| SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), port);
    /// let [a, b, c, d] = [1, 2, 3, 4].map(|n| SocketAddrV4::new(Ipv4Addr::new(123, 45, 67, n), 53));
    /// byway.divert(Divert::new(original).to(a))?;
    /// byway.translate(Instant::ZERO, &mut udp(client(1), original));
    ///
    /// // Drained: the connection stays on the old server, a new one comes to the new server.
    /// let done = byway.redivert(a, b, Redivert::Drain)?;
    /// assert_eq!((done.servers, done.connections), (1, 1));
    /// byway.translate(Instant::ZERO, &mut udp(client(2), original));
    /// assert_eq!((byway.connections_on(a), byway.connections_on(b)), (1, 1));
    ///
    /// // Switched: the connection's next packet goes to the new server.
    /// byway.redivert(b, c, Redivert::Switch)?;
    /// let mut packet = udp(client(2), original);
    /// assert_eq!(byway.translate(Instant::ZERO, &mut packet), Verdict::ToServer);
    /// assert_eq!(packet[16..20], [123, 45, 67, 3]);
    ///
    /// // The same; and TCP's ends would be told to connect again, by what `poll_transmit` gives from now on.
    /// byway.redivert(c, d, Redivert::Reset)?;
    /// assert_eq!((byway.connections_on(a), byway.connections_on(d)), (1, 1));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn redivert(
        &mut self,
        from: impl Into<Target>,
        to: impl Into<Target>,
        how: Redivert,
    ) -> Result<Rediverted, RedivertError> {
        if S::MEASURES_SERVERS {
            return self.table().redivert_measured(from.into(), to.into(), how);
        }
        self.table().redivert(from.into(), to.into(), how)
    }

    /// How many connections are on a server now, as far as the targets of rules distinguish it; see
    /// [`Rediverted::connections`]. Connections that have ended are not counted. In a table of more than 256
    /// connections, dead ones that are not swept yet may be counted: to avoid that, call [`poll`](Self::poll) when
    /// [`poll_at`](Self::poll_at) says so.
    #[must_use]
    pub fn connections_on(&self, server: impl Into<Target>) -> u32 {
        let Some(place) = place_of(server.into()) else {
            return 0;
        };
        let view = self.storage.view();
        let used = view.servers.get(..self.state.unused.up_to().into()).unwrap_or_default();
        let counted = Survey::new(used, place).counted;
        counted.saturating_sub(counted_dead(&self.state, view.connections, used, Some(place)))
    }
}

/// How many of the connections that are counted on a server, or on any, are dead but not swept yet. Only the first
/// [`COUNTED`] slots are examined.
fn counted_dead(state: &State, connections: &[ConnectionSlot], servers: &[ServerSlot], on: Option<Place>) -> u32 {
    let used = connections.iter().take(state.fresh as usize).take(COUNTED).map(|c| &c.0);
    let dead = used.filter(|c| {
        c.has(SERVER_COUNTED)
            && !state.redivert_log.has_forgotten(c.epoch)
            && state.is_dead(c)
            && servers.get(usize::from(c.member)).is_some_and(|s| on.is_none_or(|on| s.lies_within(on)))
    });
    dead.count() as u32
}

/// How many slots are examined for dead connections when connections are counted.
const COUNTED: usize = 256;

#[cfg(feature = "control")]
impl Table<'_> {
    /// How many connections a re-divert from this server may move, at most: those on it, and those of rules without a
    /// target of their own, which may be on any server. `u32::MAX` if some connections are not counted on any server.
    pub(crate) fn standing_on(&mut self, server: Place) -> u32 {
        if self.state.used == 0 {
            self.state.adopt = None;
        }
        if self.state.adopt.is_some() {
            return u32::MAX;
        }
        self.used_servers().iter().filter(|s| s.is_touched(server)).map(|s| s.expected()).sum()
    }
}

pub(crate) fn place_of(target: Target) -> Option<Place> {
    match target {
        Target::Same => None,
        Target::Address(address) => Some(Place { address: address.to_bits(), port: None }),
        Target::Endpoint(e) => Some(Place { address: e.ip().to_bits(), port: Some(e.port()) }),
    }
}

impl Table<'_> {
    /// How many connections would be forgotten.
    #[cfg(feature = "control")]
    pub(crate) fn to_be_forgotten(&self) -> u32 {
        let counted: u32 = self.used_servers().iter().map(|s| s.connections).sum();
        counted.saturating_sub(self.counted_dead(None))
    }

    pub(in crate::translator) fn counted_dead(&self, on: Option<Place>) -> u32 {
        counted_dead(self.state, self.memory.connections, self.memory.servers, on)
    }

    /// How many connections are on the server that was surveyed.
    pub(in crate::translator) fn connections_on(&self, place: Place, survey: &Survey) -> u32 {
        survey.counted.saturating_sub(self.counted_dead(Some(place)))
    }

    pub(crate) fn redivert(
        &mut self,
        from: Target,
        target: Target,
        how: Redivert,
    ) -> Result<Rediverted, RedivertError> {
        let (old, new) = self.check_redivert(from, target, how)?;
        let survey = self.survey_move(old, new, how);
        let connections = self.connections_on(old, &survey);
        if how.is_followed() && self.state.redivert_log.is_full(self.memory.moves) {
            return Err(RedivertError::Busy { capacity: self.memory.moves.len() });
        }
        match how.treatment() {
            Some(treatment) if !how.drains() => self.switch(old, target, new, treatment, &survey)?,
            treatment => {
                self.drain(old, target, &survey)?;
                if let Some(treatment) = treatment {
                    self.state.hand_overs_wanted = true;
                    // The connections stay for now: the move leads to where they are.
                    let here = Place { address: old.address, port: None };
                    self.follow(MoveSlot::new(old, here, treatment, server::NONE));
                }
            }
        }
        if self.state.kept & HIDES_SERVERS != 0 {
            // The new server may be one that must not show its own address.
            self.state.filter.add_near(new.address);
            #[cfg(target_pointer_width = "64")]
            rule_index!(self.state, self.memory).note_hidden(new.address);
        }
        self.start_adopting();
        self.state.generation = self.state.generation.wrapping_add(1);
        Ok(Rediverted { generation: self.state.generation, servers: survey.rules, connections })
    }

    /// Refuses what no table could do, whatever its rules and connections.
    pub(in crate::translator) fn check_redivert(
        &self,
        from: Target,
        target: Target,
        how: Redivert,
    ) -> Result<(Place, Place), RedivertError> {
        let old = place_of(from).ok_or(RedivertError::NoServer { name: "from" })?;
        let new = place_of(target).ok_or(RedivertError::NoServer { name: "to" })?;
        if old == new {
            return Err(RedivertError::SameServer { target });
        }
        if ipv4::is_martian(new.address) {
            return Err(RedivertError::MartianTarget { target });
        }
        if new.port == Some(0) {
            return Err(RedivertError::TargetPortZero { target });
        }
        if self.state.is_own(new.address) {
            return Err(RedivertError::OwnTarget { target });
        }
        if how.hands_over() && self.state.for_resumable.is_none() {
            return Err(RedivertError::NotResumable { target });
        }
        Ok((old, new))
    }

    /// The entries for servers that may be in use.
    pub(in crate::translator) fn used_servers(&self) -> &[ServerSlot] {
        self.memory.servers.get(..self.state.unused.up_to().into()).unwrap_or_default()
    }

    /// Points every rule at the new server, and leaves the old entries to their connections.
    fn drain(&mut self, old: Place, target: Target, survey: &Survey) -> Result<(), RedivertError> {
        if survey.rules == 0 {
            return Ok(());
        }
        if survey.occupied > self.servers().free() {
            return Err(RedivertError::ServersFull { capacity: self.memory.servers.len() });
        }
        #[cfg(target_pointer_width = "64")]
        if self.state.directory.is_there() {
            self.drain_entries(old, target, survey);
            return Ok(());
        }
        for rule in 0..self.state.diverts {
            let Some(first) = self.memory.diverts.get(rule).map(|r| r.servers) else {
                break;
            };
            let mut before = server::NONE;
            let mut entry = first;
            while let Some(slot) = self.memory.servers.get(usize::from(entry)).copied() {
                let next = slot.next;
                if slot.lies_within(old) {
                    entry = self.replace_entry(rule, before, entry, target);
                }
                before = entry;
                entry = next;
            }
        }
        Ok(())
    }

    /// Like [`drain`](Self::drain), where there may be many rules: they follow later, one after the other.
    #[cfg(target_pointer_width = "64")]
    fn drain_entries(&mut self, old: Place, target: Target, survey: &Survey) {
        // Whether entries may have to be linked again: those of groups, and drained ones whose new entry was drained
        // too.
        let mut are_linked = self.state.renewal.following != ALL_FOLLOWED;
        let mut drained = false;
        for entry in survey.first..survey.end {
            let Some(&slot) = self.memory.servers.get(usize::from(entry)) else {
                break;
            };
            if slot.rules() == 0 || !slot.lies_within(old) {
                continue;
            }
            let target = slot.moved_to(target);
            if slot.connections == 0 {
                self.servers().set_target(entry, target);
            } else if let Some(new) = self.servers().drain(entry, target) {
                Groups(self.memory.group_index).replace(entry, new);
                are_linked |= drained || !slot.is_shared();
                drained = true;
            }
        }
        if drained && are_linked {
            self.servers().finish_draining();
        }
        if drained {
            self.state.renewal.start_following();
        }
    }

    /// Makes a rule's entry one for `target`: an entry with connections is replaced by another one, which is returned;
    /// otherwise `entry` itself is changed and returned.
    fn replace_entry(&mut self, rule: usize, before: u16, entry: u16, target: Target) -> u16 {
        let mut servers = self.servers();
        let Some(slot) = servers.get(entry).copied() else {
            return entry;
        };
        let target = slot.moved_to(target);
        if slot.connections == 0 {
            servers.set_target(entry, target);
            return entry;
        }
        #[cfg(target_pointer_width = "64")]
        let shared = slot.is_shared().then(|| servers.share(target)).flatten();
        #[cfg(not(target_pointer_width = "64"))]
        let shared = None;
        let Some(new) = shared.or_else(|| servers.take(target, Holder::Group, slot.seed)) else {
            return entry;
        };
        servers.detach(entry);
        if shared.is_none()
            && let Some(new) = servers.get_mut(new)
        {
            new.set_weight(slot.weight());
            new.next = slot.next;
        }
        #[cfg(target_pointer_width = "64")]
        Groups(self.memory.group_index).replace(entry, new);
        match self.servers().get_mut(before) {
            Some(slot) => slot.next = new,
            None => {
                if let Some(rule) = self.memory.diverts.get_mut(rule) {
                    rule.servers = new;
                }
            }
        }
        new
    }

    /// Points every entry at the new server, and adds the move to the redivert log for the connections.
    fn switch(
        &mut self,
        old: Place,
        target: Target,
        new: Place,
        treatment: Treatment,
        survey: &Survey,
    ) -> Result<(), RedivertError> {
        let entry = if survey.overlaps {
            let taken = self.servers().take(target, Holder::Redivert, 0);
            taken.ok_or(RedivertError::ServersFull { capacity: self.memory.servers.len() })?
        } else {
            server::NONE
        };
        let within = survey.first..survey.end;
        #[cfg(target_pointer_width = "64")]
        self.switch_shared(old, target, within.clone());
        // The entries in the index have been changed already.
        let within = self.memory.servers.get_mut(usize::from(within.start)..usize::from(within.end));
        for slot in within.unwrap_or_default().iter_mut().filter(|s| s.lies_within(old)) {
            slot.set_target(slot.moved_to(target));
        }
        self.follow(MoveSlot::new(old, new, treatment, entry));
        Ok(())
    }

    /// Adds a move to the redivert log, for connections to follow.
    fn follow(&mut self, new: MoveSlot) {
        self.state.redivert_log.push(self.memory.moves, new);
        #[cfg(not(target_pointer_width = "64"))]
        {
            self.state.follow_moves = Some(|table, slot| table.follow_moves(slot));
        }
        self.state.set_plain_epoch();
    }

    /// Points the entries that rules share at the new server.
    #[cfg(target_pointer_width = "64")]
    fn switch_shared(&mut self, old: Place, target: Target, within: Range<u16>) {
        let mut entries = self.servers();
        if !entries.are_shared() {
            return;
        }
        for entry in within {
            if let Some(slot) = entries.get(entry).filter(|s| s.is_shared() && s.lies_within(old)) {
                entries.set_target(entry, slot.moved_to(target));
            }
        }
    }
}
