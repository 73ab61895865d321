//! What instructions would do, without doing it.

use crate::error::ConfigError;
use crate::table::rule::{Divert, DivertError, Match, Target};
use crate::table::storage::Storage;
use crate::timeouts::Timeouts;
use crate::translator::Translator;
use crate::translator::connection::list::check_client_limit;
use crate::translator::redivert::how::Redivert;
use crate::translator::redivert::instruction::{RedivertError, Rediverted};
use crate::translator::rules::cost::Leaving;
use crate::translator::rules::instruction::{Diverted, Removed};
use crate::translator::state::Table;

/// Instructions that are tried one after the other and change nothing; from [`Translator::plan`].
///
/// Each is judged as if those before it had been applied. If all are accepted, then the translator accepts the same
/// instructions in the same order too, provided that nothing else has happened to it in between; so several can take
/// effect at once or not at all. In return a plan is a little stricter than the translator:
///
/// - each match may be named once: a plan has no memory for what an earlier instruction has made of it;
/// - re-diverts come last, after the rules;
/// - a second re-divert is refused where only recounting the connections would show that there is room for it.
#[derive(Debug)]
pub struct Plan<'a> {
    table: Table<'a>,
    reservation: Reservation,
}

#[cfg(feature = "defmt")]
impl defmt::Format for Plan<'_> {
    /// What would be in use after the instructions.
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Plan {}", self.reservation);
    }
}

impl<S: Storage> Translator<S> {
    /// Asks what instructions would do. Nothing changes.
    pub fn plan(&mut self) -> Plan<'_> {
        let mut table = self.table();
        let reservation = Reservation::new(&mut table);
        Plan { table, reservation }
    }
}

impl Plan<'_> {
    /// What [`Translator::divert`] would do.
    ///
    /// # Errors
    /// Those of [`Translator::divert`].
    pub fn divert(&mut self, divert: &Divert<'_>) -> Result<Diverted, DivertError> {
        self.table.check_ejecting(divert)?;
        self.reservation.divert(&mut self.table, divert)
    }

    /// What [`Translator::remove`] would do.
    pub fn remove(&mut self, matches: impl Into<Match>) -> Option<Removed> {
        self.reservation.remove(&mut self.table, &matches.into())
    }

    /// What [`Translator::redivert`] would do. Its counts are those of the current tables, without the effects of the
    /// instructions before it.
    ///
    /// # Errors
    /// Those of [`Translator::redivert`].
    pub fn redivert(
        &mut self,
        from: impl Into<Target>,
        to: impl Into<Target>,
        how: Redivert,
    ) -> Result<Rediverted, RedivertError> {
        self.reservation.redivert(&mut self.table, from.into(), to.into(), how)
    }

    /// Whether a re-divert from this server could find anything to move: a rule that points at it, a connection on
    /// it, or a rule without a target of its own, whose connections may stand anywhere.
    pub fn concerns(&mut self, from: impl Into<Target>) -> bool {
        self.table.may_redivert(from.into())
    }

    /// What [`Translator::set_timeouts`] would return.
    ///
    /// # Errors
    /// Those of [`Translator::set_timeouts`].
    pub fn set_timeouts(&self, timeouts: &Timeouts) -> Result<(), ConfigError> {
        timeouts.check(self.table.state.config.short_timeouts)
    }

    /// What [`Translator::set_client_limit`] would return.
    ///
    /// # Errors
    /// Those of [`Translator::set_client_limit`].
    pub const fn set_client_limit(&self, connections: u32) -> Result<(), ConfigError> {
        check_client_limit(connections)
    }

    /// The generation that the table would have after the instructions.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.reservation.generation
    }
}

/// The room that the instructions so far would leave in a table.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct Reservation {
    /// Rules that would be in use.
    rules: usize,
    /// Entries for servers that would be unused.
    servers: usize,
    /// Re-diverts that would still have room in the redivert log.
    moves: usize,
    generation: u32,
    rediverted: bool,
    /// Whether an instruction needs no entry because one other rule has its server.
    joined: bool,
    /// Whether an instruction frees an entry that such an instruction could have joined.
    left: bool,
}

impl Reservation {
    pub(crate) fn new(table: &mut Table<'_>) -> Self {
        let servers = table.servers().free();
        let moves = table.state.redivert_log.room(table.memory.moves);
        let (rules, generation) = (table.state.diverts, table.state.generation);
        Self { rules, servers, moves, generation, rediverted: false, joined: false, left: false }
    }

    pub(crate) fn divert(&mut self, table: &mut Table<'_>, divert: &Divert<'_>) -> Result<Diverted, DivertError> {
        let cost = table.weigh(divert)?;
        let capacity = table.memory.diverts.len();
        let rules = self.rules + usize::from(!cost.updates());
        if rules > capacity {
            return Err(DivertError::TableFull { capacity });
        }
        let (needed, freed) = (cost.needed + self.joining(cost.joins), self.leaving(cost.leaves, cost.freed));
        let Some(servers) = (self.servers + freed).checked_sub(needed) else {
            return Err(DivertError::ServersFull { capacity: table.memory.servers.len() });
        };
        (self.rules, self.servers) = (rules, servers);
        (self.joined, self.left) = (self.joined | cost.joins, self.left | cost.leaves);
        let generation = self.next_generation();
        Ok(Diverted { generation, updated: cost.updates(), left_behind: cost.left_behind })
    }

    pub(crate) fn remove(&mut self, table: &mut Table<'_>, matches: &Match) -> Option<Removed> {
        let Leaving { freed, left_behind, leaves } = table.weigh_removal(matches)?;
        self.rules = self.rules.saturating_sub(1);
        self.servers += self.leaving(leaves, freed);
        self.left |= leaves;
        Some(Removed { generation: self.next_generation(), left_behind })
    }

    pub(crate) fn redivert(
        &mut self,
        table: &mut Table<'_>,
        from: Target,
        to: Target,
        how: Redivert,
    ) -> Result<Rediverted, RedivertError> {
        let (old, new) = table.check_redivert(from, to, how)?;
        let survey = table.survey_move(old, new, how);
        if how.is_followed() {
            let capacity = table.memory.moves.len();
            self.moves = self.moves.checked_sub(1).ok_or(RedivertError::Busy { capacity })?;
        }
        let needed = if !how.drains() {
            usize::from(self.rediverted || survey.overlaps)
        } else if self.rediverted {
            // What an earlier re-divert moved there is overestimated: every server that has connections.
            table.used_servers().iter().filter(|s| s.rules() != 0 && s.connections != 0).count()
        } else {
            survey.occupied
        };
        let capacity = table.memory.servers.len();
        self.servers = self.servers.checked_sub(needed).ok_or(RedivertError::ServersFull { capacity })?;
        self.rediverted = true;
        let connections = table.connections_on(old, &survey);
        Ok(Rediverted { generation: self.next_generation(), servers: survey.rules, connections })
    }

    /// How many additional entries an instruction may need that `joins` another rule: that rule may be gone.
    const fn joining(&self, joins: bool) -> usize {
        if joins && self.left { 1 } else { 0 }
    }

    /// How many entries an instruction gives back, if it `leaves` one that another rule may have joined.
    const fn leaving(&self, leaves: bool, freed: usize) -> usize {
        if leaves && self.joined { freed - 1 } else { freed }
    }

    const fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }
}

impl Table<'_> {
    pub(crate) fn may_redivert(&self, from: Target) -> bool {
        let old = crate::translator::redivert::instruction::place_of(from);
        old.is_some_and(|old| self.survey(old).finds_something())
    }
}
