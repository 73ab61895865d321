//! Carrying out changes: all of them or none.

use core::net::SocketAddrV4;

use super::MAX_INSTRUCTIONS;
use super::authentication::Rights;
use super::code::{Code, Effect, Outcome, Refusal};
use super::instruction::{Instruction, Rule};
use super::request::Received;
use crate::endpoint::{Prefix, Protocol};
use crate::table::divert::{DivertEntry, Match, Target};
use crate::table::storage::Storage;
use crate::translator::{Diverted, RedivertError, Removed, Translator};

/// How long a chain of rules is followed when looking for a loop.
const LONGEST_CHAIN: usize = 8;

/// What the changes of a request have done, one after the other.
#[derive(Debug)]
pub(crate) struct Effects {
    effects: [Option<Effect>; MAX_INSTRUCTIONS],
    count: usize,
}

impl Effects {
    const NONE: Self = Self { effects: [None; MAX_INSTRUCTIONS], count: 0 };

    fn push(&mut self, effect: Effect) {
        if let Some(place) = self.effects.get_mut(self.count) {
            *place = Some(effect);
            self.count += 1;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Effect> {
        self.effects.iter().flatten()
    }
}

/// Who changes what.
#[derive(Debug)]
pub(crate) struct Change<'a, S> {
    pub(crate) translator: &'a mut Translator<S>,
    pub(crate) rights: Rights,
    /// Where instructions come to, if the caller has said so.
    pub(crate) control: Option<SocketAddrV4>,
}

impl<S: Storage> Change<'_, S> {
    /// Carries out the changes of a request, or for a dry run says what they would do. If one is refused, its place
    /// is told and nothing has changed.
    pub(crate) fn carry_out(&mut self, request: &Received<'_>) -> Result<Effects, (Refusal, u8)> {
        check_form(request)?;
        for (place, instruction) in (0..).zip(request.changes()) {
            self.check(request, &instruction).map_err(|code| (code.into(), place))?;
        }
        let idle = self.idle(request);
        let planned = self.plan(request, idle)?;
        if request.dry_run {
            return Ok(planned);
        }
        let mut effects = Effects::NONE;
        for (place, instruction) in (0..).zip(request.changes()) {
            // The plan has accepted it, so that it is accepted now; an error here would be our bug, and is told.
            let done = if idle & 1 << place != 0 { Ok(IDLE) } else { self.apply(&instruction) };
            effects.push(done.map_err(|refusal| (refusal, place))?);
        }
        Ok(effects)
    }

    /// What is refused whatever room there is: rights, loops, and the port of the instructions themselves.
    fn check(&self, request: &Received<'_>, instruction: &Instruction) -> Result<(), Code> {
        match instruction {
            Instruction::Divert(rule) => {
                self.permit(self.rights.cover(rule.matches().destination()))?;
                let onto_control = rule.servers().iter().any(|s| self.is_control(s.target));
                if onto_control || self.covers_control(rule) {
                    return Err(Code::ControlPort);
                }
                let port = rule.matches().port();
                let mut ways = rule.servers().iter().filter_map(|s| destination_of(s.target, port));
                if ways.any(|at| self.leads_back(request, &rule.matches(), at)) { Err(Code::Loop) } else { Ok(()) }
            }
            Instruction::Remove(matches) => self.permit(self.rights.cover(matches.destination())),
            Instruction::Redivert { from, to, .. } => self.check_redivert(request, *from, *to),
            _ => self.permit(self.rights == Rights::All),
        }
    }

    fn permit(&self, permitted: bool) -> Result<(), Code> {
        if permitted { Ok(()) } else { Err(Code::NotPermitted) }
    }

    fn check_redivert(&self, request: &Received<'_>, from: Target, to: Target) -> Result<(), Code> {
        self.permit(self.rights != Rights::Read)?;
        if self.is_control(to) {
            return Err(Code::ControlPort);
        }
        let mut own = 0_u32;
        for entry in self.translator.diverts() {
            let touched = || entry.servers().filter(|(server, _)| touches(from, server.target));
            if touched().next().is_none() {
                continue;
            }
            self.permit(self.rights.cover(entry.matches().destination()))?;
            own = touched().fold(own, |sum, (_, connections)| sum.saturating_add(connections));
            let port = entry.matches().port();
            if touched().any(|(server, _)| server.target != Target::Same)
                && destination_of(to, port).is_some_and(|at| self.leads_back(request, &entry.matches(), at))
            {
                return Err(Code::Loop);
            }
        }
        // Connections of rules that are gone cannot be told to lie within a prefix.
        if self.rights != Rights::All && self.translator.standing_on(from) > own {
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
            covers(&matches, (Prefix::host(*control.ip()), Some(control.port())))
                && matches.limited_to().is_none_or(|p| p == Protocol::Udp)
                && (diverts || matches.destination().length() == 32)
        })
    }

    /// Whether the rules, as they would be after the request, lead from a destination to what `goal` matches.
    ///
    /// Each rule that speaks of the destination is looked at; the chain goes on along the first server of the most
    /// specific one.
    fn leads_back(&self, request: &Received<'_>, goal: &Match, mut at: Destination) -> bool {
        for _ in 0..LONGEST_CHAIN {
            let mut next = None;
            let mut back = false;
            // One copy of it, called from two places.
            let look: &mut dyn FnMut(&Match, Target) = &mut |matches, target| {
                let way = destination_of(target, at.1).filter(|_| together(matches, goal));
                back |= way.is_some_and(|way| covers(goal, way));
                next = next.or(way);
            };
            for entry in self.translator.diverts() {
                let matches = entry.matches();
                let speaks = covers(&matches, at) && matches != *goal;
                if speaks && !request.changes().any(|i| match_of(&i) == Some(matches)) {
                    entry.servers().for_each(|(server, _)| look(&matches, server.target));
                }
            }
            for instruction in request.changes() {
                if let Instruction::Divert(rule) = &instruction
                    && covers(&rule.matches(), at)
                    && rule.matches() != *goal
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

    /// Which of the changes would change nothing: a bit for each. They are not carried out, so that a repetition
    /// leaves the generation as it is.
    fn idle(&mut self, request: &Received<'_>) -> u16 {
        let mut idle = 0;
        let mut moved = false;
        for (place, instruction) in (0..u16::BITS).zip(request.changes()) {
            let same = match &instruction {
                Instruction::Divert(rule) => {
                    self.translator.find_divert(rule.matches()).is_some_and(|entry| says_the_same(&entry, rule))
                }
                Instruction::Redivert { from, .. } => !moved && !self.translator.plan().concerns(*from),
                Instruction::SetTimeouts(timeouts) => self.translator.timeouts() == *timeouts,
                Instruction::SetClientLimit(limit) => self.translator.client_limit() == *limit,
                _ => false,
            };
            moved |= !same;
            idle |= u16::from(same) << place;
        }
        idle
    }

    /// What the changes would do, if all can be done.
    fn plan(&mut self, request: &Received<'_>, idle: u16) -> Result<Effects, (Refusal, u8)> {
        let mut effects = Effects::NONE;
        let mut plan = self.translator.plan();
        for (place, instruction) in (0..).zip(request.changes()) {
            let at = |refusal| (refusal, place);
            // What was idle is judged all the same: a re-divert from a server to itself is an error, always.
            let effect = match &instruction {
                Instruction::Divert(_) if idle & 1 << place != 0 => IDLE,
                Instruction::Divert(rule) => {
                    let done = plan.divert(&rule.divert()).map_err(|e| at(e.into()))?;
                    diverted(&done)
                }
                Instruction::Remove(matches) => removed(plan.remove(*matches)),
                Instruction::Redivert { from, to, how } => match plan.redivert(*from, *to, *how) {
                    Ok(done) => Effect::new(Outcome::Rediverted, done.servers, done.connections),
                    // It needs no room if it does nothing.
                    Err(RedivertError::Busy { .. } | RedivertError::ServersFull { .. }) if idle & 1 << place != 0 => {
                        IDLE
                    }
                    Err(error) => return Err(at(error.into())),
                },
                Instruction::SetTimeouts(timeouts) => {
                    plan.set_timeouts(timeouts).map_err(|e| at(e.into()))?;
                    SET
                }
                Instruction::SetClientLimit(limit) => {
                    plan.set_client_limit(*limit).map_err(|e| at(e.into()))?;
                    SET
                }
                _ => return Err(at(Code::BadTransaction.into())),
            };
            effects.push(if idle & 1 << place != 0 { IDLE } else { effect });
        }
        Ok(effects)
    }

    fn apply(&mut self, instruction: &Instruction) -> Result<Effect, Refusal> {
        Ok(match instruction {
            Instruction::Divert(rule) => diverted(&self.translator.divert(rule.divert())?),
            Instruction::Remove(matches) => removed(self.translator.remove(*matches)),
            Instruction::Redivert { from, to, how } => {
                let done = self.translator.redivert(*from, *to, *how)?;
                Effect::new(Outcome::Rediverted, done.servers, done.connections)
            }
            Instruction::SetTimeouts(timeouts) => {
                self.translator.set_timeouts(*timeouts)?;
                SET
            }
            Instruction::SetClientLimit(limit) => {
                self.translator.set_client_limit(*limit)?;
                SET
            }
            _ => return Err(Code::BadTransaction.into()),
        })
    }
}

const IDLE: Effect = Effect::new(Outcome::Unchanged, 0, 0);
const SET: Effect = Effect::new(Outcome::Set, 0, 0);

const fn diverted(done: &Diverted) -> Effect {
    Effect::new(if done.updated { Outcome::Updated } else { Outcome::Inserted }, 0, done.left_behind)
}

fn removed(done: Option<Removed>) -> Effect {
    done.map_or(Effect::new(Outcome::Absent, 0, 0), |done| Effect::new(Outcome::Removed, 0, done.left_behind))
}

/// What can be judged from the request alone. After it every instruction can be read, and is a change.
fn check_form(request: &Received<'_>) -> Result<(), (Refusal, u8)> {
    let mut rediverts = false;
    for (place, instruction) in (0..).zip(request.instructions()) {
        let instruction = instruction.map_err(|u| (u.into(), place))?;
        let follows = rediverts && matches!(instruction, Instruction::Divert(_) | Instruction::Remove(_));
        rediverts |= matches!(instruction, Instruction::Redivert { .. });
        let twice = request.changes().take(usize::from(place)).any(|earlier| collide(&earlier, &instruction));
        if follows || twice || !instruction.is_change() {
            return Err((Code::BadTransaction.into(), place));
        }
    }
    Ok(())
}

/// Whether two instructions speak of the same rule or setting, so that the second would undo the first.
fn collide(a: &Instruction, b: &Instruction) -> bool {
    use Instruction::{SetClientLimit, SetTimeouts};
    let settings = matches!((a, b), (SetTimeouts(_), SetTimeouts(_)) | (SetClientLimit(_), SetClientLimit(_)));
    settings || match_of(a).is_some_and(|matches| Some(matches) == match_of(b))
}

const fn match_of(instruction: &Instruction) -> Option<Match> {
    match instruction {
        Instruction::Divert(rule) => Some(rule.matches()),
        Instruction::Remove(matches) => Some(*matches),
        _ => None,
    }
}

fn says_the_same(entry: &DivertEntry<'_>, rule: &Rule) -> bool {
    let divert = rule.divert();
    entry.keeps_source() == divert.keep_source
        && entry.takes_replies_from_any_port() == divert.siblings
        && entry.servers().map(|(server, _)| server).eq(rule.servers().iter().copied())
}

/// Where packets go: one address or several, and a port if it is known.
type Destination = (Prefix, Option<u16>);

fn destination_of(target: Target, port: Option<u16>) -> Option<Destination> {
    match target {
        Target::Same => None,
        Target::Address(address) => Some((Prefix::host(address), port)),
        Target::Endpoint(endpoint) => Some((Prefix::host(*endpoint.ip()), Some(endpoint.port()))),
    }
}

/// Whether a rule speaks of some packet that goes there.
fn covers(matches: &Match, (to, port): Destination) -> bool {
    let ports = matches.port().zip(port).is_none_or(|(a, b)| a == b);
    ports && matches.destination().contains(to.network())
}

/// Whether two rules can be about the same packets, as far as protocol and client tell.
fn together(a: &Match, b: &Match) -> bool {
    let protocols = a.limited_to().zip(b.limited_to()).is_none_or(|(a, b)| a == b);
    let (a, b) = (a.from_clients(), b.from_clients());
    protocols && (a.contains(b.network()) || b.contains(a.network()))
}

/// Whether a re-divert from there may move connections of a rule with this target.
fn touches(from: Target, target: Target) -> bool {
    match (from, target) {
        (Target::Same, _) => false,
        (_, Target::Same) => true,
        (Target::Address(a), Target::Address(b)) => a == b,
        (Target::Address(a), Target::Endpoint(b)) | (Target::Endpoint(b), Target::Address(a)) => a == *b.ip(),
        (Target::Endpoint(a), Target::Endpoint(b)) => a == b,
    }
}
