//! How connections begin.

use crate::config::Midstream;
use crate::table::connection::{CLIENT_COUNTED, Entry, SERVER_COUNTED, SIBLINGS, SOURCE_KEPT, Which};
use crate::table::event_queue::News;
use crate::table::hash::Key;
use crate::table::rule::DivertSlot;
use crate::table::server;
use crate::track::claims::Claims;
use crate::track::measure::Seen;
use crate::track::phase::Phase;
use crate::translator::connection::expire::LOOKS;
use crate::translator::table::Table;
use crate::verdict::{DropReason, Verdict};
use crate::wire::flow::{Flow, ICMP, TCP, UDP};
use crate::wire::icmp;
use crate::wire::ipv4::{self, Parts};
use crate::wire::tcp::{ACK, RST, SYN, Segment};

impl Table<'_> {
    /// Opens the connection that a packet of a client begins, if there is a rule for it.
    ///
    /// # Errors
    /// The verdict on a packet that opens none.
    pub(crate) fn open_there(&mut self, flow: &Flow, parts: &Parts<'_>) -> Result<u32, Verdict> {
        let Some(rule) = self.rule_for(flow).copied() else {
            let shows = self.shows_server(flow);
            return Err(if shows { Verdict::Drop(DropReason::NoConnection) } else { Verdict::Pass });
        };
        let original = (flow.destination, flow.destination_port);
        let Some(member) = self.member_for(rule.servers, flow.source, original.0) else {
            return Err(Verdict::Drop(DropReason::TableFull));
        };
        let mut server = self.servers().get(member).map_or(original, |s| s.resolve(original));
        if flow.protocol == ICMP {
            // Zero for an echo request, and for a reply its identifier, which no rule changes.
            server.1 = original.1;
        }
        if rule.keeps_source() && server == original {
            // Neither address would change.
            return Err(Verdict::Pass);
        }
        if ipv4::is_martian(flow.source) {
            return Err(Verdict::Drop(DropReason::MartianSource));
        }
        if self.state.is_own(flow.source) {
            return Err(Verdict::Drop(DropReason::OwnSource));
        }
        let phase = match flow.protocol {
            TCP => self.phase_of_first(&rule, parts.payload)?,
            UDP => Phase::UdpUnanswered,
            _ if parts.payload.first() == Some(&icmp::ECHO_REQUEST) => Phase::IcmpUnanswered,
            _ if rule.masquerades() => return Err(Verdict::Drop(DropReason::Untranslatable)),
            _ => return Err(Verdict::Pass),
        };
        let mut flags = 0;
        if rule.keeps_source() {
            flags |= SOURCE_KEPT;
        }
        if rule.has_siblings() && flow.protocol == UDP {
            flags |= SIBLINGS;
        }
        let mut new = Entry::EMPTY;
        (new.client, new.client_port) = (flow.source, flow.source_port);
        (new.original, new.original_port) = original;
        // Where the source is kept.
        (new.alternative, new.alternative_port) = (flow.source, flow.source_port);
        (new.server, new.server_port) = server;
        (new.protocol, new.phase, new.flags, new.member) = (flow.protocol, phase, flags, member);
        self.open(&mut new, rule.keeps_source()).map_err(|reason| {
            self.state.say_prohibited(reason, flow, parts);
            Verdict::Drop(reason)
        })
    }

    /// The connection that says that what other ports of its server send belongs to its client too, if this packet may be
    /// such.
    pub(crate) fn parent(&mut self, flow: &Flow) -> Option<u32> {
        if self.state.siblings == 0 || flow.protocol != UDP {
            return None;
        }
        let alternative = (flow.destination, flow.destination_port);
        let parent = self.find_back(&Key::of_siblings(alternative, flow.source))?;
        if self.is_dead(parent) {
            return None;
        }
        self.catch_up(parent);
        Some(parent)
    }

    /// Opens the connection that a packet from another port of the server of `parent` begins. It may be `parent` itself.
    #[inline(never)]
    pub(crate) fn open_sibling(&mut self, parent: u32, flow: &Flow) -> Option<Result<u32, DropReason>> {
        let mut new = *self.slot(parent)?;
        // A re-divert that it has followed just now may have given it another server, or another port.
        let here = (new.alternative, new.alternative_port) == (flow.destination, flow.destination_port);
        if new.server != flow.source || !here || !new.phase.is_listed() {
            return None;
        }
        if new.server_port == flow.source_port {
            // It has come to that very port just now, by a re-divert.
            return Some(Ok(parent));
        }
        // The client may talk to that port already, by its own choice and from another alternative port.
        new.original_port = flow.source_port;
        new.server_port = flow.source_port;
        if let Some(known) = self.find_there(&new.key_there()) {
            if !self.is_dead(known) {
                return None;
            }
            self.bury(known);
        }
        new.flags &= SOURCE_KEPT;
        new.phase = Phase::UdpUnanswered;
        Some(self.open(&mut new, true))
    }

    /// Opens a connection that has everything but its alternative endpoint, unless that is `given` too.
    ///
    /// # Errors
    /// The reason why there is none, in which case nothing has changed, but for what was given up to make room.
    fn open(&mut self, new: &mut Entry, given: bool) -> Result<u32, DropReason> {
        self.tidy();
        self.check_client_limit(new.client)?;
        if new.has(SOURCE_KEPT) {
            // There is no other endpoint for it.
            self.unseat_dead(&new.key_back());
        }
        let mut again = true;
        while !self.find_alternative(new, given) {
            if !core::mem::take(&mut again) {
                return Err(DropReason::NoPort);
            }
            // Some may be held by connections that are dead and not swept yet.
            self.expire_all(LOOKS);
        }
        self.reclaim(new.key_back());
        new.last = self.state.tick;
        new.set_deltas(self.state.config.checksums);
        let slot = self.install(new)?;
        self.state.counters.opened = self.state.counters.opened.wrapping_add(1);
        Ok(slot)
    }

    fn check_client_limit(&mut self, client: u32) -> Result<(), DropReason> {
        let limit = self.state.config.client_limit;
        if limit == 0 {
            return Ok(());
        }
        if self.count_of(client) >= limit {
            // Some of them may be dead and not swept yet.
            self.expire_all(LOOKS);
            // The counts still hold what is forgotten and not swept yet, which must keep nobody out.
            if self.count_of(client) >= limit && !self.state.moves.is_forgetting() {
                return Err(DropReason::ClientLimit);
            }
        }
        Ok(())
    }

    /// Gives a connection that is complete a slot, and counts and tells it.
    ///
    /// # Errors
    /// [`DropReason::TableFull`], in which case nothing has changed, but for what was given up to make room.
    pub(crate) fn install(&mut self, new: &Entry) -> Result<u32, DropReason> {
        let slot = self.allocate().ok_or(DropReason::TableFull)?;
        if !self.place(slot, new) {
            self.give_back(slot);
            return Err(DropReason::TableFull);
        }
        if !new.phase.is_over() {
            let client_hash = self.state.keys.hash_client(new.client);
            self.count_in(slot, client_hash, new.member);
        }
        self.state.lingered |= new.phase.is_lingering();
        self.enqueue(slot);
        self.state.filter.add_diverted(new.original);
        if new.has(SOURCE_KEPT) {
            self.keep_source(new);
        }
        self.measure(slot, Seen::Start);
        Ok(slot)
    }

    /// Takes note that a connection keeps its source: its way back leads to the client's own address.
    #[inline]
    pub(crate) fn keep_source(&mut self, new: &Entry) {
        self.state.kept += 1;
        self.state.filter.add_near(new.client);
    }

    /// Counts a connection with its client, by the hash of that, and its server, and tells of it.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    pub(in crate::translator) fn count_in(&mut self, slot: u32, client_hash: u64, member: u16) {
        let mut counted = 0;
        if self.clients().add(client_hash) {
            counted |= CLIENT_COUNTED;
        }
        if server::count(self.memory.servers, member) {
            counted |= SERVER_COUNTED;
        }
        if let Some(connection) = self.slot_mut(slot) {
            connection.flags |= counted;
        }
        self.tell(slot, News::Opened);
    }

    /// Writes a connection into its slot and both indexes; false, and nothing changed but the slot, if there is no room
    /// in them.
    fn place(&mut self, slot: u32, new: &Entry) -> bool {
        let epoch = self.state.moves.epoch;
        if let Some(place) = self.slot_mut(slot) {
            *place = *new;
            place.epoch = epoch;
        }
        if new.protocol == TCP {
            self.set_claims(slot, Claims::default());
        }
        if !self.enter(slot, Which::There) {
            return false;
        }
        let listed = self.list_back(slot);
        if !listed {
            self.leave(slot, Which::There);
        }
        listed
    }

    /// Enters a connection into the index of the way back; false, and nothing changed, if there is no room.
    pub(crate) fn list_back(&mut self, slot: u32) -> bool {
        if !self.enter(slot, Which::Back) {
            return false;
        }
        let siblings = self.slot(slot).filter(|c| c.has(SIBLINGS)).map(|c| c.entry(Which::Siblings).1);
        if let Some(key) = siblings {
            // It would be hidden by one that is held, such as itself when it lived before, on another port of the server.
            if let Some(hiding) = self.held(&key) {
                self.unlist_siblings(hiding);
            }
            if !self.enter(slot, Which::Siblings) {
                self.leave(slot, Which::Back);
                return false;
            }
            self.state.siblings += 1;
        }
        true
    }

    /// Returns a slot that is in no list and no index.
    pub(crate) fn give_back(&mut self, slot: u32) {
        let free = self.state.free;
        if let Some(connection) = self.slot_mut(slot) {
            (connection.phase, connection.flags, connection.next) = (Phase::Free, 0, free);
        }
        self.state.free = slot;
        self.state.used -= 1;
    }

    /// What a connection starts as that this TCP segment begins.
    fn phase_of_first(&mut self, rule: &DivertSlot, payload: &[u8]) -> Result<Phase, Verdict> {
        let Some(segment) = Segment::of(payload) else {
            return Err(Verdict::Drop(DropReason::MalformedTransport));
        };
        if segment.has(SYN) && !segment.has(ACK) && !segment.has(RST) {
            return Ok(Phase::Opening);
        }
        let default = if rule.masquerades() { Midstream::Adopt } else { Midstream::Pass };
        match self.state.config.midstream.or(rule.midstream()).unwrap_or(default) {
            // Only what a client says inside a connection is adopted: a SYN+ACK answers somebody else's SYN, and a
            // RST ends what there is none of.
            Midstream::Adopt if segment.has(ACK) && !segment.has(SYN | RST) => Ok(Phase::Adopted),
            Midstream::Adopt if !rule.masquerades() => Err(Verdict::Pass),
            Midstream::Adopt | Midstream::Drop => Err(Verdict::Drop(DropReason::Midstream)),
            Midstream::Pass => Err(Verdict::Pass),
        }
    }
}
