//! Carrying out changes: all of them or none.

use super::answer::HEAD;
use super::authentication::Rights;
use super::code::{Code, Effect, Outcome, Refusal, check_timeouts};
use super::datagram::HEADER;
use super::instruction::{Instruction, Rule, match_octets};
use super::request::{Raw, Received};
use super::wire::Writer;
use core::net::SocketAddrV4;

use crate::endpoint::Protocol;
use crate::table::rule::{DivertSlot, Target};
use crate::table::server::Place;
use crate::translator::{Ledger, MAX_CLIENT_LIMIT, RedivertError, Table, place_of};

/// How long a chain of rules is followed when looking for a loop.
const LONGEST_CHAIN: usize = 8;

/// How far a request has come. What is found out in one stage is written over in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Can every instruction be read, and can they stand together?
    Form,
    /// What is refused whatever room there is: rights, loops, and the port of the instructions themselves.
    Judge,
    /// What would happen?
    Plan,
    /// It happens.
    Do,
}

/// A request on its way through the stages: all of it is carried out or nothing.
#[derive(Debug)]
pub(crate) struct Change<'a, 't> {
    pub(crate) request: &'a Received<'a>,
    pub(crate) table: &'a mut Table<'t>,
    pub(crate) rights: &'a Rights,
    /// Where instructions come to, if the caller has said so.
    pub(crate) control: &'a Option<SocketAddrV4>,
    /// Which instruction is looked at: the one to blame if there is an error.
    pub(crate) place: &'a mut u8,
    /// Which of the changes would change nothing: a bit for each. They are not carried out, so that a repetition
    /// leaves the generation as it is.
    pub(crate) idle: u16,
}

impl Change<'_, '_> {
    /// Carries out the changes of a request whose form is right, or for a dry run finds out what they would do, and
    /// writes the effects. If one is refused, nothing has changed.
    pub(crate) fn carry_out(&mut self, out: &mut Writer<'_>) -> Result<(), Refusal> {
        self.go_through(Stage::Judge, out)?;
        self.go_through(Stage::Plan, out)?;
        if self.request.dry_run {
            return Ok(());
        }
        // What the plan has accepted is accepted when it is done; an error then would be our bug, and is told.
        self.go_through(Stage::Do, out)
    }

    /// Takes every instruction through one stage, and writes their effects behind the front of the answer.
    #[inline(never)]
    pub(crate) fn go_through(&mut self, stage: Stage, out: &mut Writer<'_>) -> Result<(), Refusal> {
        out.go_to(HEADER + HEAD);
        *self.place = 0;
        let mut ledger = Ledger::new(self.table);
        let mut instruction = Instruction::Close;
        for raw in self.request.instructions() {
            raw.read(&mut instruction)?;
            let effect = match stage {
                Stage::Form => self.check_form(raw)?,
                Stage::Judge => self.judge(&instruction)?,
                Stage::Plan => self.step(Some(&mut ledger), &instruction)?,
                Stage::Do => self.step(None, &instruction)?,
            };
            out.put(&effect.octets());
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
            _ => self.permit(*self.rights == Rights::All)?,
        }
        Ok(IDLE)
    }

    fn permit(&self, permitted: bool) -> Result<(), Code> {
        if permitted { Ok(()) } else { Err(Code::NotPermitted) }
    }

    fn judge_redivert(&mut self, from: Target, to: Target) -> Result<(), Code> {
        self.permit(*self.rights != Rights::Read)?;
        // What names no server is refused when it is planned.
        let Some(from) = place_of(from) else {
            return Ok(());
        };
        // No server listens there, but echoes, which have no port, stand there whatever port their rule names.
        if from.port == Some(0) {
            return Err(Code::PortZero);
        }
        if self.is_control(self.way_to(to, from.port)) {
            return Err(Code::ControlPort);
        }
        for rule in self.table.rules() {
            for server in rule.chain(self.table.memory.servers).filter(|s| s.is_touched(from)) {
                self.permit(self.rights.cover(rule.matches().destination()))?;
                self.judge_target(rule, server.target())?;
            }
        }
        // Connections of rules that are gone, or of no rule here, cannot be told to lie within a prefix.
        let touched = self.table.memory.servers.iter().filter(|s| s.is_touched(from));
        let own = touched.map(|s| s.own()).sum();
        if *self.rights != Rights::All && self.table.standing_on(from) > own {
            return Err(Code::OthersStandThere);
        }
        Ok(())
    }

    /// What is wrong with a rule whose packets go to this target, or to what the request makes of it.
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

    /// Where packets to a target go: a port is kept where the target has none, and the re-diverts of the request, which
    /// come last in it, have the last word.
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

    /// Whether a rule is about the port that instructions come to. A network that happens to hold it may be
    /// masqueraded: packets to the machine itself are none that it forwards.
    fn covers_control(&self, slot: &DivertSlot, rule: &Rule) -> bool {
        let diverts = rule.servers().iter().any(|s| s.target != Target::Same);
        self.control.and_then(|control| place_of(control.into())).is_some_and(|control| {
            slot.speaks_of(control)
                && rule.matches().limited_to().is_none_or(|p| p == Protocol::Udp)
                && (diverts || slot.host().is_some())
        })
    }

    /// Whether the rules, as they would be after the request, lead from here to what `goal` matches.
    ///
    /// Each rule that speaks of the destination is looked at; the chain goes on along the first server of the most
    /// specific one.
    #[inline(never)]
    fn leads_back(&self, goal: &DivertSlot, mut next: Option<Place>) -> bool {
        let goal_octets = match_octets(&goal.matches());
        let mut instruction = Instruction::Close;
        for _ in 0..LONGEST_CHAIN {
            let Some(at) = next else {
                return false;
            };
            let mut walk = Walk { goal, next: None, back: false };
            for rule in self.table.rules().iter().filter(|rule| rule.speaks_of(at)) {
                let octets = match_octets(&rule.matches());
                if octets != goal_octets && !self.request.instructions().any(|raw| raw.named() == Some(&octets)) {
                    rule.chain(self.table.memory.servers)
                        .for_each(|s| walk.look(rule, self.way_to(s.target(), at.port)));
                }
            }
            for raw in self.request.instructions().filter(|raw| raw.named() != Some(&goal_octets)) {
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

    /// Plans a change, or else does it.
    fn step(&mut self, planned: Option<&mut Ledger>, change: &Instruction) -> Result<Effect, Refusal> {
        let (table, place) = (&mut *self.table, *self.place);
        let before = (1_u16 << place) - 1;
        if planned.is_some() && is_idle(table, change, self.idle & before == before) {
            self.idle |= 1 << place;
        }
        let idle = self.idle & 1 << place != 0;
        if idle && planned.is_none() {
            return Ok(IDLE);
        }
        let effect = match (change, planned) {
            (Instruction::Divert(_), _) if idle => IDLE,
            (Instruction::Divert(rule), planned) => {
                let rule = rule.divert();
                let done = match planned {
                    Some(ledger) => ledger.divert(table, &rule),
                    None => table.divert(&rule),
                }?;
                let outcome = if done.updated { Outcome::Updated } else { Outcome::Inserted };
                Effect::new(outcome, 0, done.left_behind)
            }
            (Instruction::Remove(matches), planned) => {
                let done = match planned {
                    Some(ledger) => ledger.remove(table, matches),
                    None => table.remove(matches),
                };
                done.map_or(Effect::new(Outcome::Absent, 0, 0), |d| Effect::new(Outcome::Removed, 0, d.left_behind))
            }
            // What would be idle is judged all the same: a re-divert from a server to itself is an error, always.
            (&Instruction::Redivert { from, to, how }, planned) => {
                let done = match planned {
                    Some(ledger) => ledger.redivert(table, from, to, how),
                    None => table.redivert(from, to, how),
                };
                match done {
                    Ok(done) => Effect::new(Outcome::Rediverted, done.servers, done.connections),
                    // It needs no room if it does nothing.
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

const IDLE: Effect = Effect::new(Outcome::Unchanged, 0, 0);
const SET: Effect = Effect::new(Outcome::Set, 0, 0);

/// One step along a chain of rules.
struct Walk<'a> {
    goal: &'a DivertSlot,
    /// Where the first of the rules leads.
    next: Option<Place>,
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
            self.next = self.next.or(Some(way));
        }
    }
}

/// Whether a change would change nothing. `so_far` says that those before it would not either.
fn is_idle(table: &mut Table<'_>, change: &Instruction, so_far: bool) -> bool {
    match change {
        Instruction::Divert(rule) => stands_so(table, rule),
        Instruction::Redivert { from, .. } => so_far && !table.may_redivert(*from),
        Instruction::SetTimeouts(timeouts) => table.state.config.timeouts.all() == timeouts.all(),
        Instruction::SetClientLimit(limit) => table.state.config.client_limit == *limit,
        _ => false,
    }
}

/// Whether just this rule is in the table.
fn stands_so(table: &mut Table<'_>, rule: &Rule) -> bool {
    let place = table.diverts().place(&rule.matches()).ok();
    let Some(slot) = place.and_then(|place| table.rules().get(place)) else {
        return false;
    };
    let servers = || slot.chain(table.memory.servers);
    *slot == table.slot_for(&rule.divert(), slot.servers)
        && servers().count() == rule.servers().len()
        && servers().zip(rule.servers()).all(|(a, b)| a.weight() == b.weight && a.target() == b.target)
}
