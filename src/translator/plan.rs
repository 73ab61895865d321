//! What instructions would do, without doing it.

use super::Translator;
use super::moving::{Redivert, RedivertError, Rediverted};
use super::rules::{Diverted, Removed};
use super::state::Table;
use crate::config::ConfigError;
use crate::table::divert::{Divert, DivertError, Match, Target};
use crate::table::storage::Storage;
use crate::timeouts::Timeouts;

/// Instructions that are tried one after the other and change nothing; from [`Translator::plan`].
///
/// Each is judged as if those before it had been carried out. If all are accepted, then the same instructions in the
/// same order are accepted by the translator too, provided that nothing else has happened to it in between; so several
/// can take effect at once or not at all. In return a plan is a little stricter than the translator:
///
/// - each match may be named once: a plan has no memory of its own to tell what an earlier instruction made of it;
/// - re-diverts come last, after the rules;
/// - a second re-divert is refused where only counting the connections anew would show that there is room for it.
#[derive(Debug)]
pub struct Plan<'a> {
    table: Table<'a>,
    /// Rules in use by then.
    rules: usize,
    /// Servers unused by then.
    servers: usize,
    /// Re-diverts that can still be written down by then.
    moves: usize,
    generation: u32,
    rediverted: bool,
}

impl<S: Storage> Translator<S> {
    /// Asks what instructions would do. Nothing changes.
    pub fn plan(&mut self) -> Plan<'_> {
        let mut table = self.table();
        let servers = table.servers().free();
        let moves = table.state.moves.room(table.memory.moves);
        let (rules, generation) = (table.state.diverts, table.state.generation);
        Plan { table, rules, servers, moves, generation, rediverted: false }
    }
}

impl Plan<'_> {
    /// What [`Translator::divert`] would do.
    ///
    /// # Errors
    /// Those of [`Translator::divert`].
    pub fn divert(&mut self, divert: &Divert<'_>) -> Result<Diverted, DivertError> {
        let cost = self.table.weigh(divert)?;
        let capacity = self.table.memory.diverts.len();
        let rules = self.rules + usize::from(!cost.updates());
        if rules > capacity {
            return Err(DivertError::TableFull { capacity });
        }
        let Some(servers) = (self.servers + cost.freed).checked_sub(cost.needed) else {
            return Err(DivertError::ServersFull { capacity: self.table.memory.servers.len() });
        };
        (self.rules, self.servers) = (rules, servers);
        let generation = self.next_generation();
        Ok(Diverted { generation, updated: cost.updates(), left_behind: cost.left_behind })
    }

    /// What [`Translator::remove`] would do.
    pub fn remove(&mut self, matches: impl Into<Match>) -> Option<Removed> {
        let (freed, left_behind) = self.table.weigh_removal(&matches.into())?;
        self.rules = self.rules.saturating_sub(1);
        self.servers += freed;
        Some(Removed { generation: self.next_generation(), left_behind })
    }

    /// What [`Translator::redivert`] would do. What it counts is counted as the tables are, without what the
    /// instructions before it would make of them.
    ///
    /// # Errors
    /// Those of [`Translator::redivert`].
    pub fn redivert(
        &mut self,
        from: impl Into<Target>,
        to: impl Into<Target>,
        how: Redivert,
    ) -> Result<Rediverted, RedivertError> {
        let (old, _) = self.table.check_redivert(from.into(), to.into())?;
        let needed = match how {
            // What an earlier re-divert moved there is counted generously: every server that has connections.
            Redivert::Drain if self.rediverted => self.table.servers_to_drain(None),
            Redivert::Drain => self.table.servers_to_drain(Some(old)),
            Redivert::Switch | Redivert::Reset => {
                let capacity = self.table.memory.moves.len();
                self.moves = self.moves.checked_sub(1).ok_or(RedivertError::Busy { capacity })?;
                usize::from(self.rediverted || self.table.needs_entry(old))
            }
        };
        let capacity = self.table.memory.servers.len();
        self.servers = self.servers.checked_sub(needed).ok_or(RedivertError::ServersFull { capacity })?;
        self.rediverted = true;
        let connections = self.table.servers().connections_on(old);
        let servers = self.table.servers_within(old);
        Ok(Rediverted { generation: self.next_generation(), servers, connections })
    }

    /// Whether a re-divert from this server could find anything to move: a rule that points at it, a connection on
    /// it, or a rule without a target of its own, whose connections may stand anywhere.
    pub fn concerns(&mut self, from: impl Into<Target>) -> bool {
        let Some(old) = super::moving::place_of(from.into()) else {
            return false;
        };
        let concerned = self.table.memory.servers.iter().any(|s| s.lies_within(old));
        concerned || self.table.needs_entry(old)
    }

    /// What [`Translator::set_timeouts`] would say.
    ///
    /// # Errors
    /// Those of [`Translator::set_timeouts`].
    pub fn set_timeouts(&self, timeouts: &Timeouts) -> Result<(), ConfigError> {
        timeouts.check(self.table.state.config.short_timeouts)
    }

    /// What [`Translator::set_client_limit`] would say.
    ///
    /// # Errors
    /// Those of [`Translator::set_client_limit`].
    pub const fn set_client_limit(&self, connections: u32) -> Result<(), ConfigError> {
        if connections > 65_534 { Err(ConfigError::ClientLimit { value: connections }) } else { Ok(()) }
    }

    /// The generation that the table would have by then.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    const fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }
}
