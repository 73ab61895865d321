//! Carrying out changes: all of them or none.

use core::net::SocketAddrV4;

use super::authentication::Rights;
use super::code::{Code, Effect, Outcome, Refusal};
use super::instruction::{Instruction, MATCH, Rule, match_octets};
use super::request::Received;
use super::wire::Writer;
use crate::endpoint::Protocol;
use crate::table::divert::{DivertSlot, Match, Target, Weighted};
use crate::table::server::Place;
use crate::translator::{Ledger, RedivertError, State, Table, place_of};

/// How long a chain of rules is followed when looking for a loop.
const LONGEST_CHAIN: usize = 8;

/// Who changes what.
#[derive(Debug)]
pub(crate) struct Change<'a, 't> {
    pub(crate) request: &'a Received<'a>,
    pub(crate) table: &'a mut Table<'t>,
    pub(crate) rights: Rights,
    /// Where instructions come to, if the caller has said so.
    pub(crate) control: Option<SocketAddrV4>,
    /// Which of the changes would change nothing: a bit for each. They are not carried out, so that a repetition
    /// leaves the generation as it is.
    pub(crate) idle: u16,
}

impl Change<'_, '_> {
    /// Carries out the changes of a request whose form is right, or for a dry run finds out what they would do, and
    /// writes the effects. If one is refused, its place is told and nothing has changed.
    pub(crate) fn carry_out(&mut self, out: &mut Writer<'_>) -> Result<(), (Refusal, u8)> {
        for (place, raw) in (0..).zip(self.request.changes()) {
            let judged = raw.read().map_err(Refusal::from).and_then(|i| Ok(self.judge(&i)?));
            judged.map_err(|refusal| (refusal, place))?;
        }
        let start = out.go_to(0);
        let mut planned = Some(Ledger::new(self.table));
        loop {
            out.go_to(start);
            for (place, raw) in (0..).zip(self.request.changes()) {
                // What the plan has accepted is accepted when it is done; an error then would be our bug, and is told.
                let step = raw.read().map_err(Refusal::from).and_then(|i| self.step(&mut planned, place, &i));
                let effect = step.map_err(|refusal| (refusal, place))?;
                out.put(&effect.octets());
            }
            if planned.take().is_none() || self.request.dry_run {
                return Ok(());
            }
        }
    }

    /// What is refused whatever room there is: rights, loops, and the port of the instructions themselves.
    fn judge(&self, instruction: &Instruction) -> Result<(), Code> {
        match instruction {
            Instruction::Divert(rule) => {
                self.permit(self.rights.cover(rule.matches().destination()))?;
                if self.covers_control(rule) || rule.servers().iter().any(|s| self.is_control(s.target)) {
                    return Err(Code::ControlPort);
                }
                let goal = rule.matches();
                let loops = |target| way_to(target, goal.port()).is_some_and(|way| self.leads_back(&goal, way));
                if rule.servers().iter().any(|s| loops(s.target)) { Err(Code::Loop) } else { Ok(()) }
            }
            Instruction::Remove(matches) => self.permit(self.rights.cover(matches.destination())),
            Instruction::Redivert { from, to, .. } => self.judge_redivert(*from, *to),
            _ => self.permit(self.rights == Rights::All),
        }
    }

    fn permit(&self, permitted: bool) -> Result<(), Code> {
        if permitted { Ok(()) } else { Err(Code::NotPermitted) }
    }

    fn judge_redivert(&self, from: Target, to: Target) -> Result<(), Code> {
        self.permit(self.rights != Rights::Read)?;
        if self.is_control(to) {
            return Err(Code::ControlPort);
        }
        // What names no server is refused when it is planned.
        let Some(from) = place_of(from) else {
            return Ok(());
        };
        let mut own = 0_u32;
        for rule in self.table.rules() {
            let (mut touched, mut moved) = (false, false);
            for server in rule.chain(self.table.memory.servers).filter(|s| s.is_touched(from)) {
                touched = true;
                moved |= server.target() != Target::Same;
                own = own.saturating_add(server.connections);
            }
            if !touched {
                continue;
            }
            let matches = rule.matches();
            self.permit(self.rights.cover(matches.destination()))?;
            let way = way_to(to, matches.port()).filter(|_| moved);
            if way.is_some_and(|way| self.leads_back(&matches, way)) {
                return Err(Code::Loop);
            }
        }
        // Connections of rules that are gone cannot be told to lie within a prefix.
        if self.rights != Rights::All && self.table.standing_on(from) > own {
            return Err(Code::OthersStandThere);
        }
        Ok(())
    }

    fn is_control(&self, target: Target) -> bool {
        self.control.is_some_and(|control| target == Target::Endpoint(control))
    }

    /// Whether a rule is about the port that instructions come to. A network that happens to hold it may be
    /// masqueraded: packets to the machine itself are none that it forwards.
    fn covers_control(&self, rule: &Rule) -> bool {
        let matches = rule.matches();
        let diverts = rule.servers().iter().any(|s| s.target != Target::Same);
        self.control.is_some_and(|control| {
            covers(&matches, Place { address: control.ip().to_bits(), port: Some(control.port()) })
                && matches.limited_to().is_none_or(|p| p == Protocol::Udp)
                && (diverts || matches.destination().length() == 32)
        })
    }

    /// Whether the rules, as they would be after the request, lead from a destination to what `goal` matches.
    ///
    /// Each rule that speaks of the destination is looked at; the chain goes on along the first server of the most
    /// specific one.
    #[inline(never)]
    fn leads_back(&self, goal: &Match, mut at: Place) -> bool {
        let goal_octets = match_octets(goal);
        for _ in 0..LONGEST_CHAIN {
            let mut next = None;
            let mut back = false;
            // One copy of it, called from two places.
            let look: &mut dyn FnMut(&Match, Target) = &mut |matches, target| {
                let way = way_to(target, at.port).filter(|_| together(matches, goal));
                back |= way.is_some_and(|way| covers(goal, way));
                next = next.or(way);
            };
            for rule in self.table.rules() {
                let matches = rule.matches();
                if covers(&matches, at) && self.stays(&match_octets(&matches), &goal_octets) {
                    rule.chain(self.table.memory.servers).for_each(|server| look(&matches, server.target()));
                }
            }
            for raw in self.request.changes() {
                if raw.named() != Some(&goal_octets)
                    && let Ok(Instruction::Divert(rule)) = raw.read()
                    && covers(&rule.matches(), at)
                {
                    rule.servers().iter().for_each(|server| look(&rule.matches(), server.target));
                }
            }
            match next {
                _ if back => return true,
                Some(way) if way != at => at = way,
                _ => return false,
            }
        }
        false
    }

    /// Whether a rule of the table is another than the goal, and the request does not name it.
    fn stays(&self, rule: &[u8; MATCH], goal: &[u8; MATCH]) -> bool {
        rule != goal && !self.request.changes().any(|raw| raw.named() == Some(rule))
    }

    /// Plans a change, or else does it.
    fn step(&mut self, planned: &mut Option<Ledger>, place: u8, change: &Instruction) -> Result<Effect, Refusal> {
        let table = &mut *self.table;
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
                match planned {
                    Some(_) => table.state.check_timeouts(timeouts),
                    None => table.state.set_timeouts(timeouts),
                }?;
                SET
            }
            (Instruction::SetClientLimit(limit), planned) => {
                match planned {
                    Some(_) => State::check_client_limit(*limit),
                    None => table.state.set_client_limit(*limit),
                }?;
                SET
            }
            _ => return Err(Code::BadTransaction.into()),
        };
        Ok(if idle { IDLE } else { effect })
    }
}

const IDLE: Effect = Effect::new(Outcome::Unchanged, 0, 0);
const SET: Effect = Effect::new(Outcome::Set, 0, 0);

/// Whether a change would change nothing. `so_far` says that those before it would not either.
fn is_idle(table: &mut Table<'_>, change: &Instruction, so_far: bool) -> bool {
    match change {
        Instruction::Divert(rule) => stands_so(table, rule),
        Instruction::Redivert { from, .. } => so_far && !table.may_redivert(*from),
        Instruction::SetTimeouts(timeouts) => table.state.config.timeouts == *timeouts,
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
    let servers = slot.chain(table.memory.servers).map(|s| Weighted { target: s.target(), weight: s.weight });
    *slot == DivertSlot::new(&rule.divert(), slot.servers) && servers.eq(rule.servers().iter().copied())
}

/// Where packets to a target go: a port is kept where the target has none.
fn way_to(target: Target, port: Option<u16>) -> Option<Place> {
    let place = place_of(target)?;
    Some(Place { port: place.port.or(port), ..place })
}

/// Whether a rule speaks of some packet that goes there.
fn covers(matches: &Match, to: Place) -> bool {
    let ports = matches.port().zip(to.port).is_none_or(|(a, b)| a == b);
    ports && matches.destination().holds(to.address)
}

/// Whether two rules can be about the same packets, as far as protocol and client tell.
fn together(a: &Match, b: &Match) -> bool {
    let protocols = a.limited_to().zip(b.limited_to()).is_none_or(|(a, b)| a == b);
    let (a, b) = (a.from_clients(), b.from_clients());
    protocols && (a.contains(b.network()) || b.contains(a.network()))
}
