//! Entries as they stand in the table.

use super::entry::WeightedAddress;
use super::name::{Name, Pattern};
use super::storage::NameSlot;
use crate::divert::Match;
use crate::endpoint::Prefix;

/// An entry as it stands in the table; see [`Names::entries`](super::Names::entries).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ListedName<'a> {
    pub(super) slot: &'a NameSlot,
}

impl<'a> ListedName<'a> {
    /// Which names it is for.
    #[must_use]
    pub fn pattern(&self) -> Pattern {
        let name = Name::from_wire(self.slot.name());
        if self.slot.is_suffix() { Pattern::below(name) } else { Pattern::exact(name) }
    }

    /// Which clients it is for.
    #[must_use]
    pub fn clients(&self) -> Prefix {
        self.slot.clients()
    }

    /// How long clients may keep the answer, in seconds.
    #[must_use]
    pub const fn ttl(&self) -> u32 {
        self.slot.ttl
    }

    /// The addresses that it is answered with.
    pub fn addresses(&self) -> impl Iterator<Item = WeightedAddress> + use<'a> {
        self.slot.addresses()
    }

    /// The match of the rule that it is tied to, if any.
    #[must_use]
    pub fn rule(&self) -> Option<Match> {
        self.slot.rule()
    }

    /// Whether its rule has been removed, but not the entry, so that its names are not answered; see
    /// [`Names::check_rules`](super::Names::check_rules).
    #[must_use]
    pub const fn is_suspended(&self) -> bool {
        self.slot.is_suspended()
    }
}
