//! How connections begin.

use super::ending::LOOKS;
use super::state::{HIDES_SERVERS, State, Table};
use crate::config::Midstream;
use crate::connection::Direction;
use crate::table::connection::{CLIENT_COUNTED, Entry, NONE, SERVER_COUNTED, SIBLINGS, SOURCE_KEPT, Which};
use crate::table::divert::{self, DivertSlot};
use crate::table::events::News;
use crate::table::hash::{Key, Label};
use crate::table::ports::{self, Draws, Wanted};
use crate::table::server;
use crate::track::claims::Claims;
use crate::track::measure::Seen;
use crate::track::phase::{Class, Phase};
use crate::verdict::{DropReason, Verdict};
use crate::wire::flow::{Flow, ICMP, TCP, UDP};
use crate::wire::ipv4::Parts;
use crate::wire::tcp::{ACK, RST, SYN, Segment};
use crate::wire::{icmp, ipv4};

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

    /// What becomes of a packet that no connection carries over and that begins none.
    pub(crate) fn pass_or_drop(&mut self, flow: &Flow, reason: DropReason) -> Verdict {
        if self.hides_source(flow) { Verdict::Drop(reason) } else { Verdict::Pass }
    }

    /// Whether a packet must not leave with the source that it has.
    pub(crate) fn hides_source(&self, flow: &Flow) -> bool {
        match self.rule_for(flow) {
            Some(rule) => rule.masquerades(),
            None => self.shows_server(flow),
        }
    }

    /// Whether the packet would show the address of a server whose client knows another one: it belongs to a connection
    /// that kept its source and has ended, or comes from where a port forward that keeps the source leads to.
    ///
    /// The work grows with the number of rules, for packets from the address of such a server alone.
    fn shows_server(&self, flow: &Flow) -> bool {
        // The machine itself may talk to its servers, and nobody has a connection with a group.
        if self.state.kept == 0 || self.state.is_own(flow.destination) || ipv4::is_martian(flow.destination) {
            return false;
        }
        if self.held(&Key::of(flow, Direction::ToClient)).is_some() {
            return true;
        }
        if self.state.kept & HIDES_SERVERS == 0 || !self.state.filter.may_be_near(flow.source) {
            return false;
        }
        for rule in self.rules() {
            if !rule.hides_servers() || !rule.admits(flow.protocol, flow.destination) {
                continue;
            }
            let mut entry = rule.servers;
            while entry != server::NONE
                && let Some(server) = self.memory.servers.get(usize::from(entry))
            {
                if server.resolve((0, rule.port_or_zero())) == (flow.source, flow.source_port) {
                    return true;
                }
                entry = server.next;
            }
        }
        false
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
    pub(super) fn count_in(&mut self, slot: u32, client_hash: u64, member: u16) {
        let mut counted = 0;
        if self.clients().add(client_hash) {
            counted |= CLIENT_COUNTED;
        }
        if self.servers().count(member) {
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

    /// Sees to it that a connection that has everything else has a free alternative endpoint: the one that it has been
    /// `given`, or any. False if there is none.
    fn find_alternative(&mut self, new: &mut Entry, given: bool) -> bool {
        let server = (new.server, new.server_port);
        if given {
            return self.is_free(new, server, (new.alternative, new.alternative_port));
        }
        self.state.serial = self.state.serial.wrapping_add(1);
        #[cfg(target_pointer_width = "64")]
        let chosen = {
            // What is left of a value serves the next connections.
            let mut draws = self.state.draws;
            let chosen = self.choose_from(&mut draws, new, server);
            self.state.draws = draws;
            chosen
        };
        #[cfg(not(target_pointer_width = "64"))]
        let chosen = self.choose_alternative(new, server);
        let Some(alternative) = chosen else {
            return false;
        };
        (new.alternative, new.alternative_port) = alternative;
        true
    }

    /// A free alternative endpoint for a connection towards this server. The serial number has not been used before.
    pub(crate) fn choose_alternative(&self, new: &Entry, server: (u32, u16)) -> Option<(u32, u16)> {
        let mut draws = Draws::NONE;
        self.choose_from(&mut draws, new, server)
    }

    /// The same, by these draws. In the first half of them none is taken that another connection has left a short while
    /// ago.
    #[inline(always)]
    fn choose_from(&self, draws: &mut Draws, new: &Entry, server: (u32, u16)) -> Option<(u32, u16)> {
        let wanted = Wanted { client: (new.client, new.client_port), server, serial: self.state.serial };
        let State { config, keys, recent, .. } = &*self.state;
        ports::choose(keys, draws, &config.alternatives, config.port_choice, wanted, |candidate, late| {
            candidate.1 != 0
                && (late || !recent.may_hold(candidate, server.0))
                && !self.is_forwarded(new.protocol, candidate)
                && self.is_free(new, server, candidate)
        })
    }

    /// Whether no connection, and no held one, has this alternative endpoint towards this server. What this very
    /// connection has, or held when it lived before, does not count.
    pub(crate) fn is_free(&self, new: &Entry, server: (u32, u16), alternative: (u32, u16)) -> bool {
        let there = new.key_there();
        let taken = |key, by_itself_too: bool| {
            let found = self.find_back(&key).and_then(|slot| self.slot(slot));
            found.is_some_and(|c| c.key_there() != there || (by_itself_too && c.phase != Phase::Held))
        };
        let back = Key::new(new.protocol, alternative, server);
        let siblings = Key::of_siblings(alternative, server.0);
        !(taken(back, true) || (new.has(SIBLINGS) && taken(siblings, false)))
    }

    /// Frees the endpoint of a connection that is about to be listed from what it held when it lived before.
    pub(crate) fn reclaim(&mut self, key: Key) {
        let nothing_held = self.state.ages.head(Class::Held) == NONE;
        if !nothing_held && let Some(slot) = self.held(&key) {
            self.release(slot);
        }
    }

    /// Takes the endpoint with this key of the way back from a connection that is dead.
    pub(crate) fn unseat_dead(&mut self, key: &Key) {
        if let Some(slot) = self.find_back(key).filter(|slot| self.is_dead(*slot)) {
            self.bury(slot);
            self.release(slot);
        }
    }

    /// The connection that is held under this key of the way back.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn held(&self, key: &Key) -> Option<u32> {
        self.find_back(key).filter(|slot| self.slot(*slot).is_some_and(|c| c.phase == Phase::Held))
    }

    /// Whether a rule forwards this port of one of our own addresses: it must not be given away.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn is_forwarded(&self, protocol: u8, endpoint: (u32, u16)) -> bool {
        if protocol == ICMP || !self.state.forwards {
            return false;
        }
        divert::forwards(self.rules(), protocol, endpoint)
    }

    /// The rule for a packet that begins a connection.
    fn rule_for(&self, flow: &Flow) -> Option<&DivertSlot> {
        let destination = (flow.destination, flow.destination_port);
        let rule = divert::find(self.rules(), flow.protocol, flow.source, destination)?;
        // A prefix does not speak of this machine, nor of what is no host: multicast, broadcast, loopback.
        if rule.host().is_none() && (self.state.is_own(flow.destination) || ipv4::is_martian(flow.destination)) {
            return None;
        }
        // A packet to a port that we give away is an answer to somebody, unless a rule speaks of that very port.
        if !rule.has_port() && flow.protocol != ICMP && self.state.gives_away(destination) {
            return None;
        }
        Some(rule)
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

    /// The server of a rule for a client: the one with the lowest `-log(hash) / weight`, where the hash is of client,
    /// original address and server. Each server's share of the clients is its share of the weights, and a server that
    /// comes or goes moves no clients but its own (weighted rendezvous hashing).
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn member_for(&self, first: u16, client: u32, original: u32) -> Option<u16> {
        let mut entry = first;
        // Any server is better than none, which has no weight.
        let (mut best, mut least, mut of) = (server::NONE, 1, 0);
        while entry != server::NONE
            && let Some(slot) = self.memory.servers.get(usize::from(entry))
        {
            if entry == first && slot.next == server::NONE {
                return Some(first);
            }
            if slot.weight != 0 {
                let words = [u64::from(client) << 32 | u64::from(original), u64::from(slot.seed)];
                let hash = self.state.keys.choose(Label::Server, words);
                let cost = negative_log2(hash as u32);
                // cost / weight < least / of, without the division.
                let times = |cost: u32, weight: u16| u64::from(cost) * u64::from(weight);
                if times(cost, of) < times(least, slot.weight) {
                    (best, least, of) = (entry, cost, slot.weight);
                }
            }
            entry = slot.next;
        }
        (best != server::NONE).then_some(best)
    }
}

/// `-log2((hash + 1) / 2^32)` in units of 2^-16, by the position of the highest bit and a parabola between powers of two
/// (within 0.01 of the true value).
const fn negative_log2(hash: u32) -> u32 {
    let value = hash.saturating_add(1);
    let zeros = value.leading_zeros();
    let fraction = match value.checked_shl(zeros + 1) {
        Some(bits) => bits >> 16,
        None => 0,
    };
    // log2(1 + f) is about f + 0.3431 f (1 - f) for f in 0..1, in 16-bit fixed point.
    let bend = (fraction * (0x1_0000 - fraction)) >> 16;
    ((zeros + 1) << 16) - fraction - ((bend * 22_485) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_near_enough() {
        for hash in (0..=u32::MAX).step_by(65_537).chain([0, 1, 2, u32::MAX]) {
            let exact = 32.0 - (f64::from(hash) + 1.0).log2();
            let ours = f64::from(negative_log2(hash)) / f64::from(1 << 16);
            assert!((exact - ours).abs() < 0.01, "{hash}: {ours}, not {exact}");
        }
    }
}
