//! Opening connections.

use crate::config::Midstream;
use crate::event::Closed;
use crate::table::connection::{
    ANY_PORT_REPLIES, CLIENT_COUNTED, Entry, IndexKey, RESUMABLE, SERVER_COUNTED, SOURCE_KEPT,
};
use crate::table::event_queue::EventKind;
use crate::table::hash::Key;
use crate::table::rule::DivertSlot;
use crate::table::server;
use crate::track::claims::Claims;
use crate::track::phase::Phase;
use crate::track::resume::ResumeSlot;
use crate::track::sequence::Sequences;
use crate::translator::connection::expire::LOOKS;
use crate::translator::state::{Beginning, Table};
use crate::verdict::{DropReason, Verdict};
use crate::wire::flow::Flow;
use crate::wire::icmp;
use crate::wire::ipv4::{self, ICMP, Parts, TCP, UDP};
use crate::wire::tcp::{ACK, RST, SYN, Segment};

/// How often a connection is tried in the indexes, with another one evicted each time. Two evicted connections leave as many
/// places as any other needs, or three in a small table whose slots were all in use. The rest is for bad luck with the
/// buckets, which is rare.
const TRIES: u32 = 6;

impl Table<'_> {
    /// Opens the connection of a client's first packet, if a rule matches.
    ///
    /// # Errors
    /// The verdict for a packet that opens no connection.
    pub(in crate::translator) fn open_forward(&mut self, flow: &Flow, parts: &Parts<'_>) -> Result<u32, Verdict> {
        let Some(rule) = self.rule_for(flow).copied() else {
            let shows = self.shows_server(flow);
            return Err(if shows { Verdict::Drop(DropReason::NoConnection) } else { Verdict::Pass });
        };
        let original = flow.destination_endpoint();
        let Some(member) = self.choose_member(&rule, flow.source, original.address) else {
            return Err(Verdict::Drop(DropReason::TableFull));
        };
        let mut server = self.servers().get(member).map_or(original, |s| s.resolve(original));
        if flow.protocol == ICMP {
            // Zero for an echo request, and the identifier for an echo reply, which no rule changes.
            server.port = original.port;
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
        if rule.has_any_port_replies() && flow.protocol == UDP {
            flags |= ANY_PORT_REPLIES;
        }
        if rule.is_resumable() && flow.protocol == TCP {
            flags |= RESUMABLE;
        }
        let mut new = Entry::EMPTY;
        (new.client, new.client_port) = (flow.source, flow.source_port);
        (new.original, new.original_port) = (original.address, original.port);
        // Valid if the source is kept.
        (new.alternative, new.alternative_port) = (flow.source, flow.source_port);
        new.set_server(server);
        (new.protocol, new.phase, new.flags, new.member) = (flow.protocol, phase, flags, member);
        self.open(&mut new, rule.keeps_source()).map_err(|reason| {
            self.state.say_prohibited(reason, flow, parts);
            Verdict::Drop(reason)
        })
    }

    /// The connection with any-port replies to which this packet may belong.
    pub(in crate::translator) fn parent(&mut self, flow: &Flow) -> Option<u32> {
        if self.state.any_port_replies == 0 || flow.protocol != UDP {
            return None;
        }
        let alternative = flow.destination_endpoint();
        let parent = self.find_reply(&Key::of_any_port_replies(alternative, flow.source))?;
        if self.is_dead(parent) {
            return None;
        }
        self.follow_rediverts(parent);
        Some(parent)
    }

    /// Opens a connection for a packet from another port of the server of `parent`. The result may be `parent` itself.
    ///
    /// Until the client has sent to that port, such a connection is cheap, and the server alone does not keep it alive.
    /// There are at most four of them: the parent remembers their slots where a TCP connection has its sequence
    /// numbers, and the oldest one goes if it still waits for the client.
    #[cfg_attr(target_pointer_width = "64", inline(never))]
    pub(in crate::translator) fn open_any_port_reply(
        &mut self,
        parent: u32,
        flow: &Flow,
    ) -> Option<Result<u32, DropReason>> {
        let mut new = *self.slot(parent)?;
        // A re-divert that it has just followed may have changed its server or its alternative port.
        let here = new.alternative_endpoint() == flow.destination_endpoint();
        if new.server != flow.source || !here || !new.phase.is_listed() {
            return None;
        }
        if new.server_port == flow.source_port {
            // A re-divert has just moved it to that very port.
            return Some(Ok(parent));
        }
        // The client may already have a connection to that port, from another alternative port.
        new.original_port = flow.source_port;
        new.server_port = flow.source_port;
        if let Some(known) = self.find_forward(&new.forward_key())
            && !self.close_if_dead(known)
        {
            return None;
        }
        // Each is one more than the slot, so that zero is none.
        let [first, second, third, oldest] = new.sequences.to_words();
        // A re-divert changes the server, but not the original.
        let is_waiting = |c: &Entry| {
            c.phase == Phase::UdpUnconfirmed
                && c.client_endpoint() == new.client_endpoint()
                && c.original == new.original
                && !self.state.is_dead(c)
        };
        // If a later one has its slot, it is gone.
        let is_latest = oldest != first && oldest != second && oldest != third;
        let oldest = oldest.wrapping_sub(1);
        if is_latest && self.slot(oldest).is_some_and(is_waiting) {
            // Its endpoint is the parent's too, and so not one that is left.
            self.finish(oldest, Closed::Evicted);
            self.release(oldest);
        }
        new.flags &= SOURCE_KEPT;
        new.phase = Phase::UdpUnconfirmed;
        let opened = self.open(&mut new, true);
        if let (Ok(slot), Some(parent)) = (opened, self.slot_mut(parent)) {
            parent.sequences = Sequences::from_words([slot + 1, first, second, third]);
        }
        Some(opened)
    }

    /// Opens a connection that is complete except for its alternative endpoint; with `given` it has that too.
    ///
    /// # Errors
    /// The reason why it could not be opened. Nothing has changed then, except that connections may have been closed to
    /// make room.
    fn open(&mut self, new: &mut Entry, given: bool) -> Result<u32, DropReason> {
        self.tidy();
        self.check_client_limit(new.client)?;
        if new.has(SOURCE_KEPT) {
            // It can use no other endpoint.
            self.free_if_dead(&new.reply_key());
        }
        let mut again = true;
        while !self.find_alternative(new, given) {
            if !core::mem::take(&mut again) {
                return Err(DropReason::NoPort);
            }
            // Dead connections that have not been swept yet may occupy endpoints.
            self.expire_all(LOOKS, false);
        }
        self.reclaim(new.reply_key());
        new.last = self.state.tick;
        new.set_deltas(self.state.config.checksums);
        let slot = self.install(new)?;
        if let Some(measured) = self.state.for_measured {
            (measured.start)(self, slot, Beginning::Seen);
        }
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
            self.expire_all(LOOKS, false);
            // The counts still include forgotten connections that are not swept yet; these must not block a client.
            if self.count_of(client) >= limit && !self.state.redivert_log.is_forgetting() {
                return Err(DropReason::ClientLimit);
            }
        }
        Ok(())
    }

    /// Puts a complete connection into a slot, counts it and notifies the caller.
    ///
    /// # Errors
    /// [`DropReason::TableFull`]. Nothing has changed then, except that connections may have been closed to make room.
    pub(in crate::translator) fn install(&mut self, new: &Entry) -> Result<u32, DropReason> {
        if self.state.redivert_log.is_closed() {
            return Err(DropReason::TableFull);
        }
        let mut free = self.take_free();
        let mut tries = TRIES;
        let slot = loop {
            let slot = free.or_else(|| self.make_room()).ok_or(DropReason::TableFull)?;
            if self.place(slot, new) {
                break slot;
            }
            self.give_back(slot);
            tries -= 1;
            if tries == 0 {
                return Err(DropReason::TableFull);
            }
            // A slot alone is no use: the connection that is evicted has places in the indexes too.
            free = None;
        };
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
        Ok(slot)
    }

    /// Records that a connection keeps its source: its replies go to the client's own address.
    #[inline]
    pub(in crate::translator) fn keep_source(&mut self, new: &Entry) {
        self.state.kept += 1;
        self.state.filter.add_near(new.client);
    }

    /// Counts a connection with its client, given the hash of the client, and with its server, and notifies the caller.
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
        self.notify(slot, EventKind::Opened);
    }

    /// Writes a connection into its slot and both indexes. False, with only the slot changed, if an index has no room.
    fn place(&mut self, slot: u32, new: &Entry) -> bool {
        if self.is_crowded(u32::from(new.has(ANY_PORT_REPLIES)), 0) {
            return false;
        }
        let epoch = self.state.redivert_log.epoch;
        if let Some(place) = self.slot_mut(slot) {
            *place = *new;
            place.epoch = epoch;
        }
        if new.protocol == TCP {
            self.set_claims(slot, Claims::default());
        }
        if new.has(RESUMABLE)
            && let Some(resume) = self.memory.resumable.get_mut(slot as usize)
        {
            *resume = ResumeSlot::EMPTY;
        }
        let listed = self.enter(slot, IndexKey::Forward)
            && self.list_reply(slot)
            && self.slot(slot).is_some_and(|c| c.flags == new.flags);
        if !listed {
            self.leave(slot, IndexKey::Reply);
            self.leave(slot, IndexKey::Forward);
        }
        listed
    }

    /// Whether the reply index would be too full with this many more connections and any-port replies. Without any-port
    /// replies there are fewer slots than places.
    #[inline]
    pub(super) const fn is_crowded(&self, more_any_port_replies: u32, more: u32) -> bool {
        let any_port_replies = self.state.any_port_replies + more_any_port_replies;
        any_port_replies != 0 && self.state.used + more + any_port_replies > self.state.layout.most_entries()
    }

    /// Enters a connection into the reply index, without its any-port replies if there is no room for them. False, with
    /// nothing changed, if there is no room at all.
    pub(in crate::translator) fn list_reply(&mut self, slot: u32) -> bool {
        if !self.enter(slot, IndexKey::Reply) {
            return false;
        }
        let any_port_replies =
            self.slot(slot).filter(|c| c.has(ANY_PORT_REPLIES)).map(|c| c.entry(IndexKey::AnyPortReply).1);
        if let Some(key) = any_port_replies {
            // A quarantined connection, such as an earlier instance of this one on another port of the server, would
            // hide it.
            if let Some(hiding) = self.quarantined(&key) {
                self.unlist_any_port_replies(hiding);
            }
            if self.enter(slot, IndexKey::AnyPortReply) {
                self.state.any_port_replies += 1;
            } else if let Some(connection) = self.slot_mut(slot) {
                connection.flags &= !ANY_PORT_REPLIES;
            }
        }
        true
    }

    /// Frees a slot that is in no list and no index.
    pub(in crate::translator) fn give_back(&mut self, slot: u32) {
        let free = self.state.free;
        if let Some(connection) = self.slot_mut(slot) {
            (connection.phase, connection.flags, connection.next) = (Phase::Free, 0, free);
        }
        self.state.free = slot;
        self.state.used -= 1;
    }

    /// The initial phase of a connection whose first TCP segment this is.
    fn phase_of_first(&mut self, rule: &DivertSlot, payload: &[u8]) -> Result<Phase, Verdict> {
        let Some(segment) = Segment::of(payload) else {
            return Err(Verdict::Drop(DropReason::MalformedTransport));
        };
        if segment.has(SYN) && !segment.has(ACK) && !segment.has(RST) {
            return Ok(Phase::Opening);
        }
        let default = if rule.masquerades() { Midstream::Adopt } else { Midstream::Pass };
        match self.state.config.midstream.or(rule.midstream()).unwrap_or(default) {
            // Only a client's segment from the middle of a connection is adopted: a SYN+ACK answers another host's SYN,
            // and a RST ends a connection that does not exist here.
            Midstream::Adopt if segment.has(ACK) && !segment.has(SYN | RST) => Ok(Phase::Adopted),
            Midstream::Adopt if !rule.masquerades() => Err(Verdict::Pass),
            Midstream::Adopt | Midstream::Drop => Err(Verdict::Drop(DropReason::Midstream)),
            Midstream::Pass => Err(Verdict::Pass),
        }
    }
}
