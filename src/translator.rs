//! The way that a packet takes. Read first.
//!
//! ```text
//!                      wire::ipv4, wire::flow: what does it say?
//!                                      |
//!              to an alternative address?  ----- no -----> may a rule speak of its destination?
//!                         | yes                                |  no: Pass
//!             index of the way back                 index of the way there
//!              |               |                       |            |
//!            found         not found                 found      not found
//!              |               |                       |            |
//!              |        a sibling? else drop           |     a rule? open a connection; else Pass
//!              |                                       |
//!       dead? behind a re-divert? over? (revisit, rarely)
//!              |                                       |
//!       track: TCP state, sequence numbers, time of last packet
//!              |                                       |
//!       wire::rewrite: both addresses, both ports, checksums by one delta
//!              |                                       |
//!           ToClient                                ToServer
//! ```
//!
//! This file has the part that every packet takes; the folder has the rest, a file for each thing that can happen.

#[cfg(target_pointer_width = "64")]
mod ahead;
#[cfg(target_pointer_width = "64")]
mod begin;
#[cfg(target_pointer_width = "64")]
mod behind;
mod burst;
#[cfg(all(test, feature = "alloc"))]
mod consistency;
mod ending;
#[cfg(target_pointer_width = "64")]
mod fast;
mod following;
mod forgetting;
mod fragments;
mod icmp;
#[cfg(target_pointer_width = "64")]
mod late;
mod listing;
mod moving;
mod offload;
mod opening;
mod plain;
mod plan;
mod rebuilding;
mod record;
mod records;
mod rules;
#[cfg(not(target_pointer_width = "64"))]
mod small;
mod state;
mod tracking;
mod transmit;

use crate::config::{Config, ConfigError};
use crate::connection::Direction;
use crate::event::Closed;
use crate::table::connection::ConnectionSlot;
use crate::table::divert;
use crate::table::hash::Key;
use crate::table::index::Layout;
use crate::table::storage::Storage;
use crate::time::Instant;
use crate::track::measure::{Measure, measure};
use crate::track::phase::Phase;
use crate::verdict::{DropReason, Verdict};
use crate::wire::flow::{Flow, ICMP, Shape, TCP};
use crate::wire::ipv4::{self, Header, Parts};
use crate::wire::tcp::{ACK, RST, SYN, Segment};

pub use forgetting::Forgotten;
pub use listing::Connections;
pub use moving::{Redivert, RedivertError, Rediverted};
pub use plan::Plan;
pub use record::{RECORD_LENGTH, Record, RecordError};
pub use records::Imported;
pub use rules::{Diverted, Removed};
pub use transmit::{TRANSMIT_BUFFER, Transmit};

pub(crate) use state::Table;
#[cfg(feature = "control")]
pub(crate) use {listing::MAX_CLIENT_LIMIT, moving::place_of, plan::Ledger};

use following::CaughtUp;
use plain::Left;
use state::State;
use tracking::Tracked;

/// Moves clients' traffic from the servers that they asked for to other ones, and back: the document's proxy process
/// 205 with its address table 207.
///
/// It has no clock, no sockets and no threads. Hand it each packet that the machine forwards, starting at the IPv4
/// header, and do what the [`Verdict`] says; see the [crate's documentation](crate) for the loop around it.
///
/// All methods do a bounded amount of work, whatever the number of connections.
#[derive(Debug)]
// What each packet reads of the state lies at short distances from the start, in front of the tables.
#[repr(C)]
pub struct Translator<S> {
    state: State,
    storage: S,
}

impl<S: Storage> Translator<S> {
    /// Makes a translator without rules and connections. Whatever was in `storage` is cleared.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting that cannot be used and its value.
    pub fn new(config: Config, mut storage: S) -> Result<Self, ConfigError> {
        config.check()?;
        let view = storage.view();
        view.check()?;
        let layout = Layout::new(view.index, view.connections.len());
        let measure = if S::MEASURES && !view.measured.is_empty() { Some(measure as Measure) } else { None };
        storage.parts().clear();
        Ok(Self { state: State::new(config, layout, measure), storage })
    }

    /// Translates one packet in place, if it is one to translate.
    ///
    /// `packet` begins with the IPv4 header; what lies behind its total length is padding and is left alone. Its
    /// bytes change if and only if the verdict is [`Verdict::ToServer`] or [`Verdict::ToClient`], and its length never
    /// does. A packet of another IP version passes.
    ///
    /// `now` is the time at which the packet came. Early or late by a few milliseconds does not matter; a connection
    /// lives as much too short or too long as the times are wrong.
    ///
    /// ```
    /// # use byway::*;
    /// # use core::net::{Ipv4Addr, SocketAddrV4};
    /// # let config = Config::new([7; 32]).alternative(Ipv4Addr::new(10, 10, 10, 10), 1024..=65535);
    /// # let mut byway = Translator::new(config, Fixed::<64, 4>::new())?;
    /// # let mut packet = [
    /// #     0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0, 1, 2, 3, 4, 100, 100, 100, 100, // addresses
    /// #     0x0d, 0x80, 0, 53, 0, 8, 0, 0, // ports, length, no checksum
    /// # ];
    /// byway.divert(Divert::new(Ipv4Addr::new(100, 100, 100, 100)).to(Ipv4Addr::new(123, 45, 67, 89)))?;
    ///
    /// // The packet goes from 1.2.3.4:3456 to 100.100.100.100:53.
    /// assert_eq!(byway.translate(Instant::ZERO, &mut packet), Verdict::ToServer);
    /// assert_eq!(packet[12..20], [10, 10, 10, 10, 123, 45, 67, 89]);
    ///
    /// // The server's answer goes the other way round, and the client sees it come from 100.100.100.100.
    /// packet[12..20].rotate_left(4);
    /// packet[20..24].rotate_left(2);
    /// assert_eq!(byway.translate(Instant::from_millis(20), &mut packet), Verdict::ToClient);
    /// assert_eq!(packet[12..20], [100, 100, 100, 100, 1, 2, 3, 4]);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    #[inline]
    pub fn translate(&mut self, now: Instant, packet: &mut [u8]) -> Verdict {
        let late = self.state.advance(now);
        #[cfg(target_pointer_width = "64")]
        if late {
            return self.translate_late(packet);
        }
        #[cfg(target_pointer_width = "64")]
        return self.fast(packet);
        #[cfg(not(target_pointer_width = "64"))]
        self.fast(packet, late)
    }

    /// Translates a packet that comes after nobody has polled for long.
    #[cfg(target_pointer_width = "64")]
    #[cold]
    #[inline(never)]
    fn translate_late(&mut self, packet: &mut [u8]) -> Verdict {
        self.table().translate(packet, Left::Late)
    }

    #[inline(always)]
    pub(crate) fn table(&mut self) -> Table<'_> {
        Table { state: &mut self.state, memory: self.storage.parts() }
    }
}

/// What looking again at a connection has shown.
enum Revisit {
    /// The packet is carried over.
    Carry,
    /// There is no such connection any more.
    Miss,
    /// The packet ends here.
    Done(Verdict),
}

impl Table<'_> {
    /// Any packet, the plain ones included.
    #[cold]
    #[inline(never)]
    fn translate(&mut self, packet: &mut [u8], left: Left) -> Verdict {
        let verdict = self.decide(packet, left);
        self.state.count(verdict)
    }

    // What follows, and all that it calls in other files, only says what becomes of the packet: that is counted once, above.

    fn decide(&mut self, packet: &mut [u8], left: Left) -> Verdict {
        if left == Left::Late {
            self.catch_up_with_time();
        }
        if packet.first().is_some_and(|first| first >> 4 != 4) {
            return Verdict::Pass;
        }
        let mut parts = match ipv4::split(packet) {
            Ok(parts) => parts,
            Err(reason) => return Verdict::Drop(reason),
        };
        let flow = match Flow::read(&parts) {
            Ok(flow) => flow,
            // What is cut short is dropped if it could be one of ours.
            Err(reason) if self.concerns(Header(parts.header)) => return Verdict::Drop(reason),
            Err(_) => return Verdict::Pass,
        };
        if ipv4::is_fragment(Header(parts.header).fragmentation()) {
            return self.fragment(&mut parts, &flow);
        }
        match flow.shape {
            Shape::IcmpError => self.icmp_error(&mut parts, &flow),
            Shape::Other => self.pass_or_drop(&flow, DropReason::Untranslatable),
            Shape::Whole | Shape::FirstFragment | Shape::LaterFragment => self.whole(&mut parts, &flow, left),
        }
    }

    /// A packet with ports: a whole one, or a first fragment.
    fn whole(&mut self, parts: &mut Parts<'_>, flow: &Flow, left: Left) -> Verdict {
        let near = self.state.is_alternative(flow.destination);
        let diverted = self.state.filter.may_hold(flow.destination);
        if near && let Some(verdict) = self.back(parts, flow, left).or_else(|| self.unclaimed(parts.payload, flow)) {
            return verdict;
        }
        if !diverted && (near || self.state.kept == 0) {
            return Verdict::Pass;
        }
        if diverted && let Some(verdict) = self.along(Direction::ToServer, parts, flow, left) {
            return verdict;
        }
        // Where the source is kept the way back leads to the client's own address.
        if !near
            && self.state.kept != 0
            && let Some(verdict) = self.back(parts, flow, left)
        {
            return verdict;
        }
        self.first(parts, flow)
    }

    /// The first packet of a connection, if there is a rule for it.
    #[inline(never)]
    fn first(&mut self, parts: &mut Parts<'_>, flow: &Flow) -> Verdict {
        match self.open_there(flow, parts) {
            Ok(slot) => self.carry(slot, Direction::ToServer, parts, flow),
            Err(verdict) => verdict,
        }
    }

    /// A packet that may be on the way back. `None` if it belongs to nobody.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn back(&mut self, parts: &mut Parts<'_>, flow: &Flow, left: Left) -> Option<Verdict> {
        if let Some(verdict) = self.along(Direction::ToClient, parts, flow, left) {
            return Some(verdict);
        }
        let parent = self.parent(flow)?;
        Some(match self.open_sibling(parent, flow)? {
            Ok(slot) => self.carry(slot, Direction::ToClient, parts, flow),
            Err(reason) => Verdict::Drop(reason),
        })
    }

    /// A packet that may belong to a connection if it goes this way. `None` if there is none.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn along(&mut self, direction: Direction, parts: &mut Parts<'_>, flow: &Flow, left: Left) -> Option<Verdict> {
        if left == Left::Unknown(direction) {
            // It need not be looked for again.
            return None;
        }
        let slot = self.find(direction, &Key::of(flow, direction))?;
        match self.revisit(slot, direction, parts.payload, flow.protocol) {
            Revisit::Carry => Some(self.carry(slot, direction, parts, flow)),
            Revisit::Miss => None,
            Revisit::Done(verdict) => Some(verdict),
        }
    }

    /// Carries a packet over, on a connection that it belongs to.
    fn carry(&mut self, slot: u32, direction: Direction, parts: &mut Parts<'_>, flow: &Flow) -> Verdict {
        let mut refreshing = direction == Direction::ToServer || self.state.config.refresh_from_server;
        if flow.protocol == TCP {
            let Some(segment) = Segment::of(parts.payload) else {
                return Verdict::Drop(DropReason::MalformedTransport);
            };
            match self.follow_segment(slot, direction, &segment, flow.shape != Shape::FirstFragment) {
                Tracked::Refreshing => {}
                Tracked::Quiet => refreshing = false,
                Tracked::Dropped(verdict) => return verdict,
            }
        } else if direction == Direction::ToClient {
            self.answered(slot);
        }
        let Some(ConnectionSlot(connection)) = self.memory.connections.get_mut(slot as usize) else {
            return Verdict::Drop(DropReason::NoConnection);
        };
        if refreshing {
            connection.last = self.state.tick;
        }
        let whole = flow.shape != Shape::FirstFragment;
        self.state.change(connection, direction, whole).apply(parts, flow.protocol);
        if self.state.extras {
            self.do_extras(slot, direction, parts);
        }
        Verdict::carried(direction)
    }

    /// Looks again at a connection that may be dead, over, or behind a re-divert.
    fn revisit(&mut self, slot: u32, direction: Direction, payload: &[u8], protocol: u8) -> Revisit {
        if self.is_dead(slot) {
            self.bury(slot);
            return Revisit::Miss;
        }
        self.revisit_alive(slot, direction, || payload, protocol)
    }

    /// The same of one that is not dead.
    #[inline(always)]
    fn revisit_alive<'p>(
        &mut self,
        slot: u32,
        direction: Direction,
        payload: impl FnOnce() -> &'p [u8],
        protocol: u8,
    ) -> Revisit {
        match self.catch_up(slot) {
            CaughtUp::Moved if direction == Direction::ToClient => {
                return Revisit::Done(Verdict::Drop(DropReason::OldServer));
            }
            CaughtUp::Stayed | CaughtUp::Reset | CaughtUp::Moved => {}
            CaughtUp::Home => return Revisit::Miss,
            CaughtUp::Stranded => return Revisit::Done(Verdict::Drop(DropReason::NoPort)),
        }
        let phase = self.slot(slot).map_or(Phase::Held, |c| c.phase);
        match phase {
            Phase::Held => Revisit::Miss,
            Phase::Closing | Phase::TimeWait | Phase::Resetting if protocol == TCP => {
                self.revisit_late(slot, phase, direction, payload())
            }
            _ => Revisit::Carry,
        }
    }

    /// Looks at a segment of a connection that has come to its end.
    fn revisit_late(&mut self, slot: u32, phase: Phase, direction: Direction, payload: &[u8]) -> Revisit {
        let Some(segment) = Segment::of(payload) else {
            return Revisit::Carry;
        };
        if direction == Direction::ToServer && segment.has(SYN) && !segment.has(RST | ACK) {
            // The client begins anew on the same port (RFC 9293, section 3.6.1). Its server may still know the old
            // connection: nobody else gets that endpoint yet.
            self.hold(slot, Closed::Finished);
            return Revisit::Miss;
        }
        if phase != Phase::Resetting {
            return Revisit::Carry;
        }
        if let Some(ConnectionSlot(connection)) = self.memory.connections.get(slot as usize) {
            self.state.answer_with_reset(connection, direction, &segment);
        }
        Revisit::Done(Verdict::Drop(DropReason::Resetting))
    }

    /// A packet to an alternative address that nobody waits for. `None` if a rule may speak of the address, or if the
    /// port is not one that we give away: then it is for this machine itself.
    fn unclaimed(&mut self, payload: &[u8], flow: &Flow) -> Option<Verdict> {
        let echo_request = flow.protocol == ICMP && payload.first() == Some(&crate::wire::icmp::ECHO_REQUEST);
        let ours = !echo_request && self.state.gives_away((flow.destination, flow.destination_port));
        let destination = (flow.destination, flow.destination_port);
        if !ours || (flow.protocol != ICMP && divert::forwards(self.rules(), flow.protocol, destination)) {
            return None;
        }
        // The rule of a connection may be gone, and its packets go on.
        if self.find_there(&Key::of(flow, Direction::ToServer)).is_some_and(|slot| !self.is_dead(slot)) {
            return None;
        }
        let left = self.state.moves.left(self.memory.moves, (flow.source, flow.source_port));
        Some(Verdict::Drop(if left { DropReason::OldServer } else { DropReason::NoConnection }))
    }
}
