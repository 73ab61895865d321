//! The servers that rules point at, and how many connections stand on each.
//!
//! Each target of a rule has an entry of its own. A connection remembers the entry that chose its server, and the
//! entry counts it; so a re-divert that moves every connection of an entry at once moves its count too, by changing
//! the entry. An entry that no rule points at any more stays until its last connection has gone.

use core::net::{Ipv4Addr, SocketAddrV4};

use crate::divert::Target;
use crate::endpoint::endpoint;

/// No entry: the end of a rule's list, or a connection that is not counted.
pub(crate) const NONE: u16 = u16::MAX;

/// Room for one target of a rule in a translator's storage.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ServerSlot {
    pub(crate) address: u32,
    /// Of the group's choice: what this entry's share of the clients hangs on. A re-divert keeps it, so that it moves
    /// this server's clients and nobody else's.
    pub(crate) seed: u32,
    pub(crate) connections: u32,
    port: u16,
    pub(crate) weight: u16,
    /// The next entry of the same rule.
    pub(crate) next: u16,
    pub(crate) kind: Kind,
    /// Whether a rule points at it.
    pub(crate) attached: bool,
}

/// What an entry says of the server.
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

impl ServerSlot {
    /// An unused entry.
    pub const EMPTY: Self =
        Self { address: 0, seed: 0, connections: 0, port: 0, weight: 0, next: 0, kind: Kind::Free, attached: false };

    pub(crate) fn set_target(&mut self, target: Target) {
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
            Kind::Endpoint => Target::Endpoint(endpoint(self.address, self.port)),
        }
    }

    /// The server for a connection to this original destination.
    pub(crate) const fn resolve(&self, original: (u32, u16)) -> (u32, u16) {
        match self.kind {
            Kind::Free | Kind::Same => original,
            Kind::Address => (self.address, original.1),
            Kind::Endpoint => (self.address, self.port),
        }
    }

    /// What the entry's target becomes when its server is exchanged: an address alone keeps the port.
    pub(crate) const fn moved_to(&self, target: Target) -> Target {
        match (self.kind, target) {
            (Kind::Endpoint, Target::Address(address)) => Target::Endpoint(SocketAddrV4::new(address, self.port)),
            _ => target,
        }
    }

    /// Whether every connection of the entry stands on a server that `place` names.
    pub(crate) fn lies_within(&self, place: Place) -> bool {
        match self.kind {
            Kind::Free | Kind::Same => false,
            Kind::Address => place.port.is_none() && place.address == self.address,
            Kind::Endpoint => place.holds((self.address, self.port)),
        }
    }

    /// Whether the entry's connections stand on several servers, of which `place` may name some.
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
    /// How many connections stand on the entry; one more if it waits for some that a re-divert is bringing.
    pub(crate) fn expected(&self) -> u32 {
        self.connections + u32::from(self.is_awaiting())
    }

    /// Whether it is the entry of a re-divert that is still being followed: no rule's has neither weight nor share.
    const fn is_awaiting(&self) -> bool {
        self.attached && self.weight == 0 && self.seed == 0
    }

    /// Whether a re-divert from this server may move connections of the entry.
    pub(crate) fn is_touched(&self, server: Place) -> bool {
        self.lies_within(server) || self.may_overlap(server)
    }
}

/// A server by address and port, or by address with any port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: u32,
    pub(crate) port: Option<u16>,
}

impl Place {
    pub(super) fn holds(self, server: (u32, u16)) -> bool {
        self.address == server.0 && self.port.is_none_or(|port| port == server.1)
    }

    /// Where a connection goes that is moved here from a server with this port.
    pub(super) fn resolve(self, port: u16) -> (u32, u16) {
        (self.address, self.port.unwrap_or(port))
    }
}

/// The entries, over the storage.
#[derive(Debug)]
pub(crate) struct Servers<'a>(pub(crate) &'a mut [ServerSlot]);

impl Servers<'_> {
    pub(crate) fn get(&self, entry: u16) -> Option<&ServerSlot> {
        self.0.get(usize::from(entry))
    }

    pub(crate) fn get_mut(&mut self, entry: u16) -> Option<&mut ServerSlot> {
        self.0.get_mut(usize::from(entry))
    }

    /// Unused entries.
    pub(crate) fn free(&self) -> usize {
        self.0.iter().filter(|s| s.kind == Kind::Free).count()
    }

    /// Takes an unused entry for `target`.
    pub(crate) fn take(&mut self, target: Target, weight: u16, seed: u32) -> Option<u16> {
        let place = self.0.iter().position(|s| s.kind == Kind::Free)?;
        let entry = u16::try_from(place).ok().filter(|e| *e != NONE)?;
        let slot = self.0.get_mut(place)?;
        *slot = ServerSlot { weight, seed, next: NONE, attached: true, ..ServerSlot::EMPTY };
        slot.set_target(target);
        Some(entry)
    }

    /// Lets go of an entry that a rule pointed at; it stays as long as connections stand on it.
    pub(crate) fn detach(&mut self, entry: u16) {
        if let Some(slot) = self.get_mut(entry) {
            slot.attached = false;
            slot.next = NONE;
            if slot.connections == 0 {
                *slot = ServerSlot::EMPTY;
            }
        }
    }

    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(crate) fn count(&mut self, entry: u16) -> bool {
        match self.get_mut(entry) {
            Some(slot) if slot.kind != Kind::Free => {
                slot.connections += 1;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn discount(&mut self, entry: u16) {
        if let Some(slot) = self.get_mut(entry) {
            slot.connections = slot.connections.saturating_sub(1);
            if slot.connections == 0 && !slot.attached {
                *slot = ServerSlot::EMPTY;
            }
        }
    }
}
