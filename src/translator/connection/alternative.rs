//! The alternative endpoint of a connection: one that is free towards its server.

use crate::table::connection::{Entry, NONE, SIBLINGS};
use crate::table::hash::Key;
use crate::table::ports::{self, Draws, Wanted};
use crate::track::phase::{Class, Phase};
use crate::translator::state::State;
use crate::translator::table::Table;
use crate::wire::flow::ICMP;

impl Table<'_> {
    /// Sees to it that a connection that has everything else has a free alternative endpoint: the one that it has been
    /// `given`, or any. False if there is none.
    pub(super) fn find_alternative(&mut self, new: &mut Entry, given: bool) -> bool {
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
    pub(in crate::translator) fn held(&self, key: &Key) -> Option<u32> {
        self.find_back(key).filter(|slot| self.slot(*slot).is_some_and(|c| c.phase == Phase::Held))
    }

    /// Whether a rule forwards this port of one of our own addresses: it must not be given away.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn is_forwarded(&self, protocol: u8, endpoint: (u32, u16)) -> bool {
        if protocol == ICMP || !self.state.forwards {
            return false;
        }
        self.forwards(protocol, endpoint)
    }
}
