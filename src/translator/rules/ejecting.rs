//! Instructions about rules and servers where some rules may eject servers that fail.

use crate::divert::Target;
use crate::divert::{Divert, DivertError, Match};
use crate::translator::redivert::how::Redivert;
use crate::translator::redivert::instruction::{RedivertError, Rediverted};
use crate::translator::rules::instruction::{Diverted, Removed};
use crate::translator::state::{RuleChange, Table};

impl Table<'_> {
    /// Refuses a rule that ejects if servers are not measured.
    pub(crate) fn check_ejecting(&self, divert: &Divert<'_>) -> Result<(), DivertError> {
        if divert.options.ejecting && (self.state.for_measured.is_none() || self.memory.measured_servers.is_empty()) {
            return Err(DivertError::NotMeasured { destination: divert.matches.destination() });
        }
        Ok(())
    }

    /// The same as [`divert`](Self::divert), for rules that may eject.
    pub(crate) fn divert_measured(&mut self, divert: &Divert<'_>) -> Result<Diverted, DivertError> {
        self.check_ejecting(divert)?;
        let before = self.announce(RuleChange::Before(&divert.matches));
        let done = self.divert(divert);
        if if done.is_ok() { divert.options.ejecting } else { before } {
            self.announce(RuleChange::After(&divert.matches));
        } else if before {
            self.announce(RuleChange::Gone);
        }
        done
    }

    /// The same as [`remove`](Self::remove), for rules that may eject.
    pub(crate) fn remove_measured(&mut self, matches: &Match) -> Option<Removed> {
        let before = self.announce(RuleChange::Before(matches));
        let removed = self.remove(matches);
        if before {
            self.announce(RuleChange::Gone);
        }
        removed
    }

    /// The same as [`redivert`](Self::redivert), where there may be rules that eject.
    pub(crate) fn redivert_measured(
        &mut self,
        from: Target,
        to: Target,
        how: Redivert,
    ) -> Result<Rediverted, RedivertError> {
        self.announce(RuleChange::BeforeAll);
        let done = self.redivert(from, to, how);
        self.announce(RuleChange::AfterAll);
        done
    }

    /// The weight that a rule gives to the server of an entry, if the rule ejects: its current weight may be less.
    #[cfg(feature = "control")]
    #[inline(never)]
    pub(crate) fn weight_in_rule(&self, entry: u16) -> Option<u16> {
        self.memory.measured_servers.get(usize::from(entry))?.ejection.weight_in_rule()
    }

    #[inline(never)]
    fn announce(&mut self, change: RuleChange<'_>) -> bool {
        if self.memory.measured_servers.is_empty() {
            return false;
        }
        self.state.for_measured.is_some_and(|measured| (measured.rules)(self, change))
    }
}
