//! The alternative endpoint of a connection: one that is free towards its server.

use crate::endpoint::Endpoint;
use crate::table::connection::{ANY_PORT_REPLIES, Entry, NONE};
use crate::table::hash::Key;
use crate::table::ports::{self, RandomPool, Wanted};
use crate::track::phase::{Class, Phase};
use crate::translator::state::{State, Table};
use crate::wire::ipv4::ICMP;

impl Table<'_> {
    /// Finds a free alternative endpoint for a connection that is otherwise complete: with `given` the one that it
    /// already has, otherwise any. False if there is none.
    pub(super) fn find_alternative(&mut self, new: &mut Entry, given: bool) -> bool {
        let server = new.server_endpoint();
        if given {
            return self.is_free(new, server, new.alternative_endpoint());
        }
        self.state.serial = self.state.serial.wrapping_add(1);
        #[cfg(target_pointer_width = "64")]
        let chosen = {
            // Unused bits of a random value serve the next connections.
            let mut random_pool = self.state.random_pool;
            let chosen = self.choose_from(&mut random_pool, new, server);
            self.state.random_pool = random_pool;
            chosen
        };
        #[cfg(not(target_pointer_width = "64"))]
        let chosen = self.choose_alternative(new, server);
        let Some(alternative) = chosen else {
            return false;
        };
        new.set_alternative(alternative);
        true
    }

    /// A free alternative endpoint for a connection towards this server. The serial number must not have been used
    /// before.
    pub(in crate::translator) fn choose_alternative(&self, new: &Entry, server: Endpoint) -> Option<Endpoint> {
        let mut random_pool = RandomPool::NONE;
        self.choose_from(&mut random_pool, new, server)
    }

    /// Like [`choose_alternative`](Self::choose_alternative), drawing from this pool. The first half of the attempts
    /// skip endpoints that another connection has left recently.
    #[inline(always)]
    fn choose_from(&self, random_pool: &mut RandomPool, new: &Entry, server: Endpoint) -> Option<Endpoint> {
        let wanted = Wanted { client: new.client_endpoint(), server, serial: self.state.serial };
        let State { config, keys, recent, .. } = &*self.state;
        ports::choose(keys, random_pool, &config.alternatives, config.port_choice, wanted, |candidate, late| {
            candidate.port != 0
                && (late || !recent.may_hold(candidate, server.address))
                && !self.is_forwarded(new.protocol, candidate)
                && self.is_free(new, server, candidate)
        })
    }

    /// Whether no connection, current or in quarantine, has this alternative endpoint towards this server. What an
    /// earlier instance of this same connection has in quarantine does not count.
    pub(in crate::translator) fn is_free(&self, new: &Entry, server: Endpoint, alternative: Endpoint) -> bool {
        let back = Key::new(new.protocol, alternative, server);
        if self.is_taken(new, &back, true) {
            return false;
        }
        let of_any_port = Key::of_any_port_replies(alternative, server.address);
        !(new.has(ANY_PORT_REPLIES) && self.is_taken(new, &of_any_port, false))
    }

    /// Whether another connection has this reply key; with `by_itself_too` also whether this same connection has it
    /// outside of quarantine.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn is_taken(&self, new: &Entry, key: &Key, by_itself_too: bool) -> bool {
        let found = self.find_reply(key).and_then(|slot| self.slot(slot));
        found.is_some_and(|c| c.forward_key() != new.forward_key() || (by_itself_too && c.phase != Phase::Quarantined))
    }

    /// Frees the quarantined endpoint of an earlier instance of a connection that is about to be indexed.
    pub(in crate::translator) fn reclaim(&mut self, key: Key) {
        let nothing_held = self.state.ages.head(Class::Quarantined) == NONE;
        if !nothing_held && let Some(slot) = self.quarantined(&key) {
            self.release(slot);
        }
    }

    /// Closes the connection with this reply key if it is dead.
    pub(in crate::translator) fn free_if_dead(&mut self, key: &Key) {
        if let Some(slot) = self.find_reply(key) {
            self.close_if_dead(slot);
        }
    }

    /// The quarantined connection with this reply key.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(in crate::translator) fn quarantined(&self, key: &Key) -> Option<u32> {
        self.find_reply(key).filter(|slot| self.slot(*slot).is_some_and(|c| c.phase == Phase::Quarantined))
    }

    /// Whether a rule forwards this port of one of our own addresses: such a port must not be given to a connection.
    pub(super) fn is_forwarded(&self, protocol: u8, endpoint: Endpoint) -> bool {
        if protocol == ICMP || !self.state.forwards {
            return false;
        }
        self.forwards(protocol, endpoint)
    }
}
