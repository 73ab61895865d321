//! Applying changes: all of them or none.

use super::answer::HEAD;
use super::authentication::Rights;
use super::code::{Code, Effect, Outcome, Refusal, check_timeouts};
use super::datagram::HEADER;
use super::forms::{match_bytes, target_of};
use super::instruction::Instruction;
use super::request::{Raw, Received};
use super::rule::Rule;
use super::wire::Writer;
use core::net::SocketAddrV4;

#[cfg(target_pointer_width = "64")]
use crate::divert::Match;
use crate::endpoint::Protocol;
use crate::table::rule::{DivertSlot, Target, Weighted};
use crate::table::server::{self, Place, ServerSlot};
use crate::translator::{MAX_CLIENT_LIMIT, RedivertError, Reservation, Table, place_of};

/// The longest chain of rules that is followed when looking for a loop.
const LONGEST_CHAIN: usize = 8;

/// How far a request has come. Each stage overwrites the results of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Can every instruction be parsed, and can they be combined?
    Form,
    /// Checks that do not depend on room: rights, loops, and the control port itself.
    Judge,
    /// What would happen?
    Plan,
    /// It is applied.
    Do,
}

/// An authentic request, and what it may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) request: &'a Received<'a>,
    pub(super) rights: &'a Rights,
    /// The endpoint that instructions arrive at, if the caller has set it.
    pub(super) control: &'a Option<SocketAddrV4>,
    /// The number of the key that authenticated it.
    #[cfg(feature = "naming")]
    pub(super) key: u16,
    /// Whether the agent speaks for a naming server.
    #[cfg(feature = "naming")]
    pub(super) names: bool,
}

/// A request on its way through the stages: all of it is applied or none of it.
#[derive(Debug)]
pub(super) struct Change<'a, 't> {
    pub(super) request: &'a Received<'a>,
    pub(super) table: &'a mut Table<'t>,
    pub(super) rights: &'a Rights,
    /// The endpoint that instructions arrive at, if the caller has set it.
    pub(super) control: &'a Option<SocketAddrV4>,
    #[cfg(feature = "naming")]
    names: bool,
    /// The instruction being examined: the one to report if there is an error.
    pub(super) place: &'a mut u8,
    /// Which of the changes would change nothing, one bit each. They are not applied, so that a repetition does not
    /// change the generation.
    pub(super) idle: u16,
}

impl<'a, 't> Change<'a, 't> {
    pub(super) const fn new(terms: Terms<'a>, table: &'a mut Table<'t>, place: &'a mut u8, idle: u16) -> Self {
        let Terms { request, rights, control, .. } = terms;
        Self {
            request,
            table,
            rights,
            control,
            #[cfg(feature = "naming")]
            names: terms.names,
            place,
            idle,
        }
    }
}

impl Change<'_, '_> {
    /// Applies the changes of a well-formed request, or in a dry run finds out what they would do, and writes their
    /// effects. If one is refused, nothing has changed.
    pub(super) fn apply(&mut self, out: &mut Writer<'_>) -> Result<(), Refusal> {
        self.go_through(Stage::Judge, out)?;
        self.go_through(Stage::Plan, out)?;
        if self.request.dry_run {
            return Ok(());
        }
        // Changes that the plan has accepted do not fail when applied; an error would be our bug, and is reported.
        self.go_through(Stage::Do, out)
    }

    /// Takes every instruction through one stage, and writes their effects after the head of the answer.
    #[inline(never)]
    pub(super) fn go_through(&mut self, stage: Stage, out: &mut Writer<'_>) -> Result<(), Refusal> {
        out.go_to(HEADER + HEAD);
        *self.place = 0;
        let mut reservation = Reservation::new(self.table);
        let mut instruction = Instruction::Close;
        for raw in self.request.instructions() {
            #[cfg(feature = "naming")]
            raw.check_subject(self.names)?;
            raw.read(&mut instruction)?;
            let effect = match stage {
                Stage::Form => self.check_form(raw)?,
                Stage::Judge => self.judge(&instruction)?,
                Stage::Plan => {
                    self.note_idle(&instruction);
                    self.step(Some(&mut reservation), &instruction)?
                }
                Stage::Do => self.step(None, &instruction)?,
            };
            out.put(&effect.bytes());
            *self.place += 1;
        }
        Ok(())
    }

    fn check_form(&self, raw: Raw<'_>) -> Result<Effect, Code> {
        let mut earlier = self.request.instructions().take(usize::from(*self.place));
        if earlier.all(|earlier| earlier.can_precede(raw)) { Ok(IDLE) } else { Err(Code::BadTransaction) }
    }

    fn judge(&mut self, instruction: &Instruction) -> Result<Effect, Code> {
        match instruction {
            Instruction::Divert(rule) => {
                self.permit(self.rights.cover(rule.matches().destination()))?;
                let goal = DivertSlot::new(&rule.divert(), 0, false);
                if self.covers_control(&goal, rule) {
                    return Err(Code::ControlPort);
                }
                for server in rule.servers() {
                    self.judge_target(&goal, server.target)?;
                }
            }
            Instruction::Remove(matches) => self.permit(self.rights.cover(matches.destination()))?,
            Instruction::Redivert { from, to, .. } => self.judge_redivert(*from, *to)?,
            // Judged together with the names.
            #[cfg(feature = "naming")]
            Instruction::Name(_) | Instruction::RemoveName { .. } => {}
            _ => self.permit(*self.rights == Rights::All)?,
        }
        Ok(IDLE)
    }

    fn permit(&self, permitted: bool) -> Result<(), Code> {
        if permitted { Ok(()) } else { Err(Code::NotPermitted) }
    }

    fn judge_redivert(&mut self, from: Target, to: Target) -> Result<(), Code> {
        self.permit(*self.rights != Rights::Read)?;
        // A target without a server is refused by the plan.
        let Some(from) = place_of(from) else {
            return Ok(());
        };
        // No server listens on port zero, but ICMP echoes have no port and count as port zero, whatever port their rule
        // names.
        if from.port == Some(0) {
            return Err(Code::PortZero);
        }
        if self.is_control(self.way_to(to, from.port)) {
            return Err(Code::ControlPort);
        }
        let harmless = self.ends_there(from);
        if *self.rights != Rights::All || !harmless {
            for rule in self.table.rules() {
                for server in rule.chain(self.table.memory.servers).filter(|s| s.is_touched(from)) {
                    self.permit(self.rights.cover(rule.matches().destination()))?;
                    if !harmless {
                        self.judge_target(rule, target_of(server))?;
                    }
                }
            }
        }
        // Connections whose rule is gone, or that have no rule here, cannot be assigned to a prefix.
        let touched = self.table.memory.servers.iter().filter(|s| s.is_touched(from));
        let own = touched.map(|s| s.own()).sum();
        if *self.rights != Rights::All && self.table.standing_on(from) > own {
            return Err(Code::OthersStandThere);
        }
        Ok(())
    }

    /// Whether the targets of all re-diverts of the request are known to be harmless without examining the rules that
    /// lead to `from`: none has the address that instructions arrive at, and no rule leads on from any of them.
    /// Always false without an index of rules.
    #[inline]
    fn ends_there(&self, from: Place) -> bool {
        #[cfg(target_pointer_width = "64")]
        return self.request.instructions().all(|raw| {
            let Some(to) = raw.rediverted().and_then(|(_, to)| place_of(to)) else {
                return false;
            };
            // After another re-divert of the request the port may be a different one.
            let port = if self.request.count == 1 { to.port.or(from.port) } else { to.port };
            let is_control = self.control.is_some_and(|control| control.ip().to_bits() == to.address);
            !is_control && !self.table.may_lead_on_from(Place { port, ..to })
        });
        #[cfg(not(target_pointer_width = "64"))]
        {
            let _ = from;
            false
        }
    }

    /// Refuses a rule that leads to this target, or to where the request then moves it, if it reaches the control port
    /// or closes a loop.
    #[inline(never)]
    fn judge_target(&self, goal: &DivertSlot, target: Target) -> Result<(), Code> {
        let way = self.way_to(target, goal.port());
        if self.is_control(way) {
            return Err(Code::ControlPort);
        }
        if self.leads_back(goal, way) { Err(Code::Loop) } else { Ok(()) }
    }

    fn is_control(&self, way: Option<Place>) -> bool {
        self.control.is_some_and(|control| way == place_of(control.into()))
    }

    /// Where packets to a target go: the port is kept if the target has none. Then the re-diverts of the request apply,
    /// since they come last in it.
    #[inline(never)]
    fn way_to(&self, target: Target, port: Option<u16>) -> Option<Place> {
        let place = place_of(target)?;
        let mut way = Place { port: place.port.or(port), ..place };
        for (from, to) in self.request.instructions().filter_map(Raw::rediverted) {
            if let (Some(from), Some(to)) = (place_of(from), place_of(to))
                && from.address == way.address
                && (from.port.is_none() || from.port == way.port)
            {
                way = Place { port: to.port.or(way.port), ..to };
            }
        }
        Some(way)
    }

    /// Whether a rule matches the port that instructions arrive at. A network that happens to contain it may be
    /// masqueraded: packets to the machine itself are not forwarded.
    fn covers_control(&self, slot: &DivertSlot, rule: &Rule) -> bool {
        let diverts = rule.servers().iter().any(|s| s.target != Target::Same);
        self.control.and_then(|control| place_of(control.into())).is_some_and(|control| {
            slot.speaks_of(control)
                && rule.matches().limited_to().is_none_or(|p| p == Protocol::Udp)
                && (diverts || slot.host().is_some())
        })
    }

    /// Whether the rules, as they would be after the request, lead from `next` to what `goal` matches.
    ///
    /// Each rule that matches the destination is examined; the chain continues with the first server of the most
    /// specific one.
    #[inline(never)]
    fn leads_back(&self, goal: &DivertSlot, mut next: Option<Place>) -> bool {
        let goal_bytes = match_bytes(&goal.matches());
        let mut instruction = Instruction::Close;
        for _ in 0..LONGEST_CHAIN {
            let Some(at) = next else {
                return false;
            };
            let mut walk = Walk {
                goal,
                next: None,
                #[cfg(target_pointer_width = "64")]
                first: None,
                back: false,
            };
            let look = |rule: &DivertSlot| {
                let bytes = match_bytes(&rule.matches());
                if bytes != goal_bytes && !self.request.instructions().any(|raw| raw.named() == Some(&bytes)) {
                    rule.chain(self.table.memory.servers)
                        .for_each(|s| walk.look(rule, self.way_to(target_of(s), at.port)));
                }
            };
            #[cfg(target_pointer_width = "64")]
            let mut look = look;
            #[cfg(target_pointer_width = "64")]
            let has_looked = self.table.each_that_speaks_of(at, &mut look);
            #[cfg(not(target_pointer_width = "64"))]
            let has_looked = false;
            if !has_looked {
                self.table.rules().iter().filter(|rule| rule.speaks_of(at)).for_each(look);
            }
            #[cfg(target_pointer_width = "64")]
            (walk.first = None);
            for raw in self.request.instructions().filter(|raw| raw.named() != Some(&goal_bytes)) {
                if raw.read(&mut instruction).is_ok()
                    && let Instruction::Divert(rule) = &instruction
                {
                    let slot = DivertSlot::new(&rule.divert(), 0, false);
                    if slot.speaks_of(at) {
                        rule.servers().iter().for_each(|s| walk.look(&slot, self.way_to(s.target, at.port)));
                    }
                }
            }
            if walk.back {
                return true;
            }
            next = walk.next.filter(|next| *next != at);
        }
        false
    }

    /// Records whether a change would change nothing.
    fn note_idle(&mut self, change: &Instruction) {
        let place = *self.place;
        let before = (1_u16 << place) - 1;
        if is_idle(self.table, change, self.idle & before == before) {
            self.idle |= 1 << place;
        }
    }

    /// Plans the changes, and writes their effects. `idle` must already say which of them would change nothing.
    pub(super) fn plan(&mut self, out: &mut Writer<'_>) -> Result<(), Refusal> {
        out.go_to(HEADER + HEAD);
        *self.place = 0;
        let mut reservation = Reservation::new(self.table);
        let mut instruction = Instruction::Close;
        for raw in self.request.instructions() {
            raw.read(&mut instruction)?;
            out.put(&self.step(Some(&mut reservation), &instruction)?.bytes());
            *self.place += 1;
        }
        Ok(())
    }

    /// Plans a change, or applies it.
    fn step(&mut self, planned: Option<&mut Reservation>, change: &Instruction) -> Result<Effect, Refusal> {
        let (table, place) = (&mut *self.table, *self.place);
        let idle = self.idle & 1 << place != 0;
        if idle && planned.is_none() {
            return Ok(IDLE);
        }
        let effect = match (change, planned) {
            (Instruction::Divert(_), _) if idle => IDLE,
            #[cfg(feature = "naming")]
            (Instruction::Name(_) | Instruction::RemoveName { .. }, _) => IDLE,
            (Instruction::Divert(rule), planned) => {
                let rule = rule.divert();
                table.check_ejecting(&rule)?;
                let done = match planned {
                    Some(reservation) => reservation.divert(table, &rule),
                    None => table.divert_measured(&rule),
                }?;
                let outcome = if done.updated { Outcome::Updated } else { Outcome::Inserted };
                Effect::new(outcome, 0, done.left_behind)
            }
            (Instruction::Remove(matches), planned) => {
                let done = match planned {
                    Some(reservation) => reservation.remove(table, matches),
                    None => table.remove_measured(matches),
                };
                done.map_or(Effect::new(Outcome::Absent, 0, 0), |d| Effect::new(Outcome::Removed, 0, d.left_behind))
            }
            // Checked even if it would change nothing: a re-divert from a server to itself is always an error.
            (&Instruction::Redivert { from, to, how }, planned) => {
                let done = match planned {
                    Some(reservation) => reservation.redivert(table, from, to, how),
                    None => table.redivert_measured(from, to, how),
                };
                match done {
                    Ok(done) => Effect::new(Outcome::Rediverted, done.servers, done.connections),
                    // It needs no room if it changes nothing.
                    Err(RedivertError::Busy { .. } | RedivertError::ServersFull { .. }) if idle => IDLE,
                    Err(error) => return Err(error.into()),
                }
            }
            (Instruction::SetTimeouts(timeouts), planned) => {
                check_timeouts(timeouts, table.state.config.short_timeouts)?;
                if planned.is_none() {
                    table.state.set_timeouts(timeouts);
                }
                SET
            }
            (&Instruction::SetClientLimit(limit), planned) => {
                if limit > MAX_CLIENT_LIMIT {
                    return Err(Code::ClientLimit.into());
                }
                if planned.is_none() {
                    table.state.config.client_limit = limit;
                }
                SET
            }
            (Instruction::Forget, planned) => {
                let connections = match planned {
                    Some(_) => table.to_be_forgotten(),
                    None => table.forget().connections,
                };
                Effect::new(Outcome::Forgotten, 0, connections)
            }
            _ => return Err(Code::BadTransaction.into()),
        };
        Ok(if idle { IDLE } else { effect })
    }
}

pub(super) const IDLE: Effect = Effect::new(Outcome::Unchanged, 0, 0);
const SET: Effect = Effect::new(Outcome::Set, 0, 0);

/// One step along a chain of rules.
struct Walk<'a> {
    goal: &'a DivertSlot,
    /// Where the first of the rules leads.
    next: Option<Place>,
    /// What that rule matches, as long as later rules may be more specific: a table with an index has its rules in no
    /// particular order.
    #[cfg(target_pointer_width = "64")]
    first: Option<Match>,
    /// Whether one of them leads to what the goal matches.
    back: bool,
}

impl Walk<'_> {
    #[inline(never)]
    fn look(&mut self, rule: &DivertSlot, way: Option<Place>) {
        if let Some(way) = way
            && rule.meets(self.goal)
        {
            self.back |= self.goal.speaks_of(way);
            #[cfg(target_pointer_width = "64")]
            if self.first.is_some_and(|first| rule.matches() < first) {
                self.next = None;
            }
            #[cfg(target_pointer_width = "64")]
            if self.next.is_none() {
                self.first = Some(rule.matches());
            }
            self.next = self.next.or(Some(way));
        }
    }
}

/// Whether a change would change nothing. `so_far` says whether all changes before it would change nothing either.
#[inline(never)]
pub(super) fn is_idle(table: &mut Table<'_>, change: &Instruction, so_far: bool) -> bool {
    match change {
        Instruction::Divert(rule) => stands_so(table, rule),
        Instruction::Redivert { from, .. } => so_far && !table.may_redivert(*from),
        Instruction::SetTimeouts(timeouts) => table.state.config.timeouts.all() == timeouts.all(),
        Instruction::SetClientLimit(limit) => table.state.config.client_limit == *limit,
        // They change only the table of names.
        #[cfg(feature = "naming")]
        Instruction::Name(_) | Instruction::RemoveName { .. } => true,
        _ => false,
    }
}

/// Whether exactly this rule is in the table.
fn stands_so(table: &mut Table<'_>, rule: &Rule) -> bool {
    let place = table.diverts().place(&rule.matches()).ok();
    let Some(slot) = place.and_then(|place| table.rules().get(place)) else {
        return false;
    };
    let servers = || slot.chain(table.memory.servers);
    // The entry of the next server to compare: the first one, then the `next` of the one before.
    let mut entry = server::meant(table.memory.servers, slot.servers);
    let ejects = table.weight_in_rule(entry).is_some();
    let mut is_so = |a: &ServerSlot, b: &Weighted| {
        let weight = table.weight_in_rule(core::mem::replace(&mut entry, a.next)).unwrap_or(a.weight());
        weight == b.weight && target_of(a) == b.target
    };
    ejects == rule.options().ejecting
        && *slot == table.slot_for(&rule.divert(), slot.servers)
        && servers().count() == rule.servers().len()
        && servers().zip(rule.servers()).all(|(a, b)| is_so(a, b))
}
