//! The servers that rules point at, and how many connections each has.
//!
//! Each target of a rule has an entry of its own. A connection remembers the entry that chose its server, and the entry
//! counts it; so a re-divert that moves every connection of an entry at once moves its count too, by changing the
//! entry. An entry that no rule points at any more stays until its last connection has ended.
//!
//! In a large storage, rules that have only one server share its entry, so that there can be more rules than entries.
//! An index finds the entry: a list for each value of a keyed hash of the server.

use core::net::{Ipv4Addr, SocketAddrV4};

use crate::divert::Target;
use crate::endpoint::Endpoint;
use crate::table::hash::{Keys, Label};

/// No entry: the end of a rule's list, or a connection that is not counted.
pub(crate) const NONE: u16 = u16::MAX;

/// The most entries that one translator can have.
pub(crate) const MAX_SERVERS: usize = NONE as usize - 1;

/// Room for one server of rules in a translator's storage.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ServerSlot {
    pub(crate) address: u32,
    /// In a group: determines which clients this entry gets. A re-divert keeps it, so that it moves only this server's
    /// clients. In a shared entry: how many rules share it.
    pub(crate) seed: u32,
    pub(crate) connections: u32,
    pub(crate) port: u16,
    /// In a group: its weight. In a shared entry: the next one in the same list of the index.
    pub(in crate::table) weight: u16,
    /// The next entry of the same group; in an unused entry, the next unused one.
    pub(crate) next: u16,
    pub(crate) kind: Kind,
    pub(crate) holder: Holder,
}

/// What points at an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub(crate) enum Holder {
    /// Nothing: it is unused, or stays for its connections.
    Nobody = 0,
    /// One rule, in whose group it is.
    Group,
    /// A re-divert that is being followed.
    Redivert,
    /// Its own server is drained: the rules that still point at it (`seed` of them) mean the entry in `next`.
    #[cfg(target_pointer_width = "64")]
    Drained,
    /// Rules that have only this server, `seed` of them. There may be none left while it still has connections.
    #[cfg(target_pointer_width = "64")]
    Rules,
    /// As `Rules`, but some of its connections may be those of a rule that was removed.
    #[cfg(target_pointer_width = "64")]
    RulesAndOthers,
}

/// How an entry describes its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub(crate) enum Kind {
    /// The entry is not in use.
    Free = 0,
    /// The original destination.
    Same,
    /// This address, and the original port.
    Address,
    /// This address and port.
    Endpoint,
}

/// The first of the holders that mean a shared entry.
#[cfg(target_pointer_width = "64")]
const SHARED: u8 = Holder::Rules as u8;
#[cfg(not(target_pointer_width = "64"))]
const SHARED: u8 = u8::MAX;

impl ServerSlot {
    /// An unused entry.
    pub const EMPTY: Self = Self {
        address: 0,
        seed: 0,
        connections: 0,
        port: 0,
        weight: 0,
        next: 0,
        kind: Kind::Free,
        holder: Holder::Nobody,
    };

    /// Whether rules with only this server share the entry.
    pub(crate) const fn is_shared(&self) -> bool {
        cfg!(target_pointer_width = "64") && self.holder as u8 >= SHARED
    }

    /// Whether just one rule points at it.
    pub(crate) const fn is_of_one_rule(&self) -> bool {
        !self.is_shared() || self.seed == 1
    }

    pub(crate) const fn weight(&self) -> u16 {
        if self.is_shared() { 1 } else { self.weight }
    }

    /// Its connections and one more, and its weight.
    pub(crate) const fn load(&self) -> (u32, u32) {
        (self.connections + 1, self.weight() as u32)
    }

    pub(crate) const fn set_weight(&mut self, weight: u16) {
        self.weight = weight;
    }

    /// How many rules point at it.
    pub(crate) const fn rules(&self) -> u32 {
        match self.holder {
            Holder::Nobody | Holder::Redivert => 0,
            #[cfg(target_pointer_width = "64")]
            Holder::Drained => 0,
            Holder::Group => 1,
            #[cfg(target_pointer_width = "64")]
            Holder::Rules | Holder::RulesAndOthers => self.seed,
        }
    }

    pub(crate) const fn set_target(&mut self, target: Target) {
        (self.kind, self.address, self.port) = match target {
            Target::Same => (Kind::Same, 0, 0),
            Target::Address(address) => (Kind::Address, address.to_bits(), 0),
            Target::Endpoint(endpoint) => (Kind::Endpoint, endpoint.ip().to_bits(), endpoint.port()),
        };
    }

    pub(crate) const fn target(&self) -> Target {
        match self.kind {
            Kind::Free | Kind::Same => Target::Same,
            Kind::Address => Target::Address(Ipv4Addr::from_bits(self.address)),
            Kind::Endpoint => Target::Endpoint(Endpoint::new(self.address, self.port).socket()),
        }
    }

    /// The kind, address and port of its server, for comparison.
    pub(crate) const fn identity(&self) -> (u8, u32, u16) {
        (self.kind as u8, self.address, self.port)
    }

    /// The server for a connection to this original destination.
    pub(crate) const fn resolve(&self, original: Endpoint) -> Endpoint {
        match self.kind {
            Kind::Free | Kind::Same => original,
            Kind::Address => Endpoint::new(self.address, original.port),
            Kind::Endpoint => Endpoint::new(self.address, self.port),
        }
    }

    /// What the entry's target becomes when its server is exchanged: an address alone keeps the port.
    pub(crate) const fn moved_to(&self, target: Target) -> Target {
        match (self.kind, target) {
            (Kind::Endpoint, Target::Address(address)) => Target::Endpoint(SocketAddrV4::new(address, self.port)),
            _ => target,
        }
    }

    /// Whether every connection of the entry is on a server that `place` names.
    pub(crate) fn lies_within(&self, place: Place) -> bool {
        match self.kind {
            Kind::Free | Kind::Same => false,
            Kind::Address => place.port.is_none() && place.address == self.address,
            Kind::Endpoint => place.holds(Endpoint::new(self.address, self.port)),
        }
    }

    /// Whether the entry's connections are on several servers, of which `place` may name some.
    pub(crate) const fn may_overlap(&self, place: Place) -> bool {
        match self.kind {
            Kind::Free | Kind::Endpoint => false,
            Kind::Same => true,
            Kind::Address => place.port.is_some() && place.address == self.address,
        }
    }
}

#[cfg(feature = "control")]
impl ServerSlot {
    /// How many connections the entry has; one more if it waits for some that a re-divert is bringing.
    pub(crate) fn expected(&self) -> u32 {
        self.connections + u32::from(self.is_awaiting())
    }

    /// Whether it is the entry of a re-divert that is still being followed.
    fn is_awaiting(&self) -> bool {
        self.holder == Holder::Redivert
    }

    /// Whether its connections are those of the rules that point at it.
    const fn is_own(&self) -> bool {
        #[cfg(target_pointer_width = "64")]
        if matches!(self.holder, Holder::Rules) {
            return true;
        }
        matches!(self.holder, Holder::Group)
    }

    /// How many of its connections certainly belong to the rules that point at it.
    pub(crate) const fn own(&self) -> u32 {
        if self.is_own() && self.rules() != 0 { self.connections } else { 0 }
    }

    /// Whether a re-divert from this server may move connections of the entry.
    pub(crate) fn is_touched(&self, server: Place) -> bool {
        self.lies_within(server) || self.may_overlap(server)
    }
}

#[cfg(target_pointer_width = "64")]
impl ServerSlot {
    /// One rule fewer points at it.
    pub(super) fn leave_shared(&mut self) {
        self.seed = self.seed.saturating_sub(1);
        if self.connections != 0 {
            self.holder = Holder::RulesAndOthers;
        }
    }
}

/// A server by address and port, or by address with any port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: u32,
    pub(crate) port: Option<u16>,
}

impl Place {
    pub(super) fn holds(self, server: Endpoint) -> bool {
        self.address == server.address && self.port.is_none_or(|port| port == server.port)
    }

    /// Where a connection goes that is moved here from a server with this port.
    pub(super) fn resolve(self, port: u16) -> Endpoint {
        Endpoint::new(self.address, self.port.unwrap_or(port))
    }
}

/// Which entries are unused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unused {
    /// The first of those that were used before, linked by `next`.
    pub(super) first: u16,
    /// The first entry that was never used.
    pub(super) fresh: u16,
    /// How many are in use.
    pub(super) used: u16,
}

impl Unused {
    /// How many entries, from the first on, may be in use.
    pub(crate) const fn up_to(&self) -> u16 {
        self.fresh
    }

    pub(crate) const ALL: Self = Self { first: NONE, fresh: 0, used: 0 };
}

/// The entry that is meant by a rule that points at this one.
#[inline(always)]
pub(crate) fn meant(slots: &[ServerSlot], entry: u16) -> u16 {
    #[cfg(target_pointer_width = "64")]
    if let Some(slot) = slots.get(usize::from(entry)).filter(|slot| slot.holder == Holder::Drained) {
        return slot.next;
    }
    let _ = slots;
    entry
}

/// Counts a connection on an entry. False if that is unused.
#[cfg_attr(target_pointer_width = "64", inline)]
pub(crate) fn count(slots: &mut [ServerSlot], entry: u16) -> bool {
    match slots.get_mut(usize::from(entry)) {
        Some(slot) if slot.kind != Kind::Free => {
            slot.connections += 1;
            true
        }
        _ => false,
    }
}

/// Counts one connection less on an entry. True if the entry may no longer be needed.
#[cfg_attr(target_pointer_width = "64", inline)]
#[must_use]
pub(crate) fn discount(slots: &mut [ServerSlot], entry: u16) -> bool {
    slots.get_mut(usize::from(entry)).is_some_and(|slot| {
        slot.connections = slot.connections.saturating_sub(1);
        slot.connections == 0 && slot.holder != Holder::Group
    })
}

/// The number that determines which clients a server gets, and its place in the index.
pub(crate) fn seed(keys: &Keys, target: Target) -> u32 {
    let words = match target {
        Target::Same => [0, 0],
        Target::Address(address) => [u64::from(address.to_bits()), 1 << 16],
        Target::Endpoint(e) => [u64::from(e.ip().to_bits()), u64::from(e.port())],
    };
    keys.choose(Label::Server, words) as u32
}
