//! The slow path, which can handle any packet: parse, find or open the connection, track, rewrite. The fast paths do
//! the same with less work.

use crate::connection::Direction;
use crate::event::Closed;
use crate::table::connection::ConnectionSlot;
use crate::table::hash::Key;
use crate::track::phase::Phase;
use crate::translator::path::plain::Left;
use crate::translator::path::track::Tracked;
use crate::translator::state::{Followed, Table};
use crate::verdict::{DropReason, Verdict};
use crate::wire::flow::{Flow, Shape};
use crate::wire::ipv4::{self, Header, ICMP, Parts, TCP};
use crate::wire::tcp::{ACK, RST, SYN, Segment};

/// The result of looking at a connection again.
pub(super) enum Revisit {
    /// Translate the packet.
    Carry,
    /// There is no such connection any more.
    Miss,
    /// The packet gets this verdict.
    Done(Verdict),
}

impl Table<'_> {
    /// Translates any packet, plain ones included.
    #[cold]
    #[inline(never)]
    pub(super) fn translate(&mut self, packet: &mut [u8], left: Left) -> Verdict {
        let verdict = self.decide(packet, left);
        self.state.count(verdict)
    }

    // The functions below, and all that they call in other files, only return the verdict: it is counted once, above.

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
            // A truncated packet is dropped if it could belong to a connection.
            Err(reason) if self.concerns(Header(parts.header)) => return Verdict::Drop(reason),
            Err(_) => return Verdict::Pass,
        };
        if ipv4::is_fragment(Header(parts.header).fragmentation()) {
            return self.fragment(&mut parts, &flow);
        }
        match flow.shape {
            Shape::IcmpError => self.icmp_error(&mut parts, &flow),
            Shape::Other => self.pass_or_drop(&flow, DropReason::Untranslatable),
            // Fragments have returned above.
            Shape::Whole | Shape::FirstFragment | Shape::LaterFragment => self.whole(&mut parts, &flow, left),
        }
    }

    /// Handles a packet with ports: a whole one, or a first fragment.
    pub(super) fn whole(&mut self, parts: &mut Parts<'_>, flow: &Flow, left: Left) -> Verdict {
        let near = self.state.is_alternative(flow.destination);
        let diverted = self.state.filter.may_hold(flow.destination);
        if near && let Some(verdict) = self.reply(parts, flow, left).or_else(|| self.unclaimed(parts.payload, flow)) {
            return verdict;
        }
        if !diverted && (near || self.state.kept == 0) {
            return Verdict::Pass;
        }
        if diverted && let Some(verdict) = self.along(Direction::ToServer, parts, flow, left) {
            return verdict;
        }
        // Where the source is kept, replies go to the client's own address.
        if !near
            && self.state.kept != 0
            && let Some(verdict) = self.reply(parts, flow, left)
        {
            return verdict;
        }
        self.first(parts, flow)
    }

    /// Handles the first packet of a connection, if a rule matches it.
    #[inline(never)]
    pub(in crate::translator) fn first(&mut self, parts: &mut Parts<'_>, flow: &Flow) -> Verdict {
        match self.open_forward(flow, parts) {
            Ok(slot) => self.carry(slot, Direction::ToServer, parts, flow),
            Err(verdict) => verdict,
        }
    }

    /// Handles a packet that may be a reply. `None` if it belongs to no connection.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn reply(&mut self, parts: &mut Parts<'_>, flow: &Flow, left: Left) -> Option<Verdict> {
        if let Some(verdict) = self.along(Direction::ToClient, parts, flow, left) {
            return Some(verdict);
        }
        let parent = self.parent(flow)?;
        Some(match self.open_any_port_reply(parent, flow)? {
            Ok(slot) => self.carry(slot, Direction::ToClient, parts, flow),
            Err(reason) => Verdict::Drop(reason),
        })
    }

    /// The connection of a packet in this direction.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn find_for(&self, flow: &Flow, direction: Direction) -> Option<u32> {
        self.find(direction, &Key::of(flow, direction))
    }

    /// Handles a packet that may belong to a connection in this direction. `None` if there is none.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn along(&mut self, direction: Direction, parts: &mut Parts<'_>, flow: &Flow, left: Left) -> Option<Verdict> {
        if left == Left::Unknown(direction) {
            // The fast path has already looked it up.
            return None;
        }
        let slot = self.find_for(flow, direction)?;
        match self.revisit(slot, direction, parts.payload, flow.protocol) {
            Revisit::Carry => Some(self.carry(slot, direction, parts, flow)),
            Revisit::Miss => None,
            Revisit::Done(verdict) => Some(verdict),
        }
    }

    /// Translates a packet of this connection.
    pub(super) fn carry(&mut self, slot: u32, direction: Direction, parts: &mut Parts<'_>, flow: &Flow) -> Verdict {
        let mut refreshing = direction == Direction::ToServer || self.state.config.refresh_from_server;
        if flow.protocol == TCP {
            if self.for_resumable(slot).is_some() {
                return self.carry_resumable(slot, direction, parts, flow);
            }
            let Some(segment) = Segment::of(parts.payload) else {
                return Verdict::Drop(DropReason::MalformedTransport);
            };
            match self.follow_segment(slot, direction, &segment, flow.shape != Shape::FirstFragment) {
                Tracked::Refreshing => {}
                Tracked::Quiet => refreshing = false,
                Tracked::Dropped(verdict) => return verdict,
            }
        } else {
            refreshing &= self.hear(slot, direction);
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

    /// Like [`carry`](Self::carry), for a resumable connection.
    #[cold]
    #[cfg_attr(target_pointer_width = "64", inline(never))]
    fn carry_resumable(&mut self, slot: u32, direction: Direction, parts: &mut Parts<'_>, flow: &Flow) -> Verdict {
        match self.state.for_resumable {
            Some(resumable) => (resumable.carry)(self, slot, direction, parts, flow),
            None => Verdict::Drop(DropReason::NoConnection),
        }
    }

    /// Looks again at a connection that may be dead, finished or stale.
    pub(super) fn revisit(&mut self, slot: u32, direction: Direction, payload: &[u8], protocol: u8) -> Revisit {
        if self.close_if_dead(slot) {
            return Revisit::Miss;
        }
        self.revisit_alive(slot, direction, || payload, protocol)
    }

    /// Like [`revisit`](Self::revisit), for a connection that is not dead.
    #[inline(always)]
    pub(super) fn revisit_alive<'p>(
        &mut self,
        slot: u32,
        direction: Direction,
        payload: impl FnOnce() -> &'p [u8],
        protocol: u8,
    ) -> Revisit {
        match self.follow_rediverts(slot) {
            Followed::Moved if direction == Direction::ToClient => {
                return Revisit::Done(Verdict::Drop(DropReason::OldServer));
            }
            Followed::Stayed | Followed::Reset | Followed::Moved => {}
            Followed::Home => return Revisit::Miss,
            Followed::Stranded => return Revisit::Done(Verdict::Drop(DropReason::NoPort)),
        }
        let phase = self.slot(slot).map_or(Phase::Quarantined, |c| c.phase);
        match phase {
            Phase::Quarantined => Revisit::Miss,
            Phase::Closing | Phase::TimeWait | Phase::Resetting if protocol == TCP => {
                self.revisit_late(slot, phase, direction, payload())
            }
            _ => Revisit::Carry,
        }
    }

    /// Looks at a segment of a connection that is closing, finished or being reset.
    fn revisit_late(&mut self, slot: u32, phase: Phase, direction: Direction, payload: &[u8]) -> Revisit {
        let Some(segment) = Segment::of(payload) else {
            return Revisit::Carry;
        };
        if direction == Direction::ToServer && segment.has(SYN) && !segment.has(RST | ACK) {
            // The client opens a new connection from the same port (RFC 9293, section 3.6.1). The server may still know
            // the old connection, so its alternative endpoint goes into quarantine.
            self.quarantine(slot, Closed::Finished);
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

    /// Handles a packet to an alternative address that belongs to no connection. `None` if a rule may match the
    /// address, or if the port is not given to connections: then the packet is for this machine itself.
    fn unclaimed(&mut self, payload: &[u8], flow: &Flow) -> Option<Verdict> {
        let echo_request = flow.protocol == ICMP && payload.first() == Some(&crate::wire::icmp::ECHO_REQUEST);
        let ours = !echo_request && self.state.gives_away(flow.destination_endpoint());
        let destination = flow.destination_endpoint();
        if !ours || (flow.protocol != ICMP && self.forwards(flow.protocol, destination)) {
            return None;
        }
        // A connection goes on after its rule has been removed.
        if self.find_for(flow, Direction::ToServer).is_some_and(|slot| !self.is_dead(slot)) {
            return None;
        }
        let left = self.state.redivert_log.left(self.memory.moves, flow.source_endpoint());
        Some(Verdict::Drop(if left { DropReason::OldServer } else { DropReason::NoConnection }))
    }
}
