//! Ejects failing servers from the groups of rules that ask for it, based on their measurements. A server is ejected by
//! changing its weight, so that a server is chosen as for other rules. Only measuring storages link this.

use crate::divert::Match;
#[cfg(target_pointer_width = "64")]
use crate::table::groups::{self, Groups, cluster_of};
use crate::table::rule::{DivertSlot, servers_of};
use crate::table::server::{self, NONE, ServerSlot};
use crate::track::ejection::{Ejection, GroupRule, Standing, Wait};
use crate::track::measure_server::MeasuredServerSlot;
use crate::translator::state::{RuleChange, Table};

/// What a connection shows about its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// The connection has come to the server.
    Began,
    /// The connection begins to wait.
    Waits(Wait),
    /// What the connection waited for has arrived.
    Heard(Wait),
    /// The server has failed the connection.
    Failed,
    /// The connection has ended without a failure.
    Ended,
}

/// The weights of a group are multiplied by one factor, so that a small weight can be divided into shares: the largest
/// factor that makes no weight greater than this, or one if a weight is greater already. In a group that goes by load,
/// the weight of a server that is being tried (`u16::MAX`, see [`Ejection::weight`]) is still many times as large.
const UNITS: u16 = 1 << 10;
/// How many servers of the queue are examined for each sign.
const LOOKS: usize = 2;

fn ejection(measured: &mut [MeasuredServerSlot], entry: u16) -> Option<&mut Ejection> {
    measured.get_mut(usize::from(entry)).map(|slot| &mut slot.ejection)
}

/// How many connections have come to the group with this first member, modulo 2^16.
fn came(measured: &[MeasuredServerSlot], leader: u16) -> u16 {
    measured.get(usize::from(leader)).map_or(0, |slot| slot.ejection.came)
}

/// Records what a connection shows about its server.
#[inline]
pub(super) fn note(table: &mut Table<'_>, slot: u32, sign: Sign) {
    let Some((member, client)) = table.slot(slot).map(|c| (c.member, c.client)) else {
        return;
    };
    if table.memory.measured_servers.get(usize::from(member)).is_some_and(|server| server.ejection.on) {
        note_member(table, slot, (member, client), sign);
    }
}

#[cold]
#[inline(never)]
fn note_member(table: &mut Table<'_>, slot: u32, from: (u16, u32), sign: Sign) {
    let now = table.state.now.as_micros();
    if sign == Sign::Began {
        let measured = &mut *table.memory.measured_servers;
        let leader = ejection(measured, from.0).map_or(NONE, |own| own.leader);
        if let Some(group) = ejection(measured, leader) {
            group.came = group.came.wrapping_add(1);
        }
    }
    // The result of a probe takes precedence over how long it took.
    take_sign(table, slot, from, sign, now);
    look_again(table, now);
}

fn take_sign(table: &mut Table<'_>, slot: u32, (member, client): (u16, u32), sign: Sign, now: u64) {
    let seed = table.memory.servers.get(usize::from(member)).map_or(0, |server| server.seed);
    let Some(measured) = table.memory.measured_servers.get_mut(usize::from(member)) else {
        return;
    };
    let client = Ejection::bit(client, seed);
    let own = &mut measured.ejection;
    if own.is_probe(slot) {
        let verdict = match sign {
            Sign::Began | Sign::Waits(_) | Sign::Heard(Wait::Syn) => return,
            Sign::Heard(Wait::Request) => Some(true),
            Sign::Failed => Some(false),
            Sign::Ended => None,
        };
        return judge_probe(table, member, verdict, now);
    }
    match sign {
        Sign::Began if own.standing == Standing::Trying => {
            own.probe(slot, now);
            return reweigh(table, member, now);
        }
        // Connections from before the ejection say nothing about new ones.
        _ if own.is_out() => return,
        Sign::Began | Sign::Ended => return,
        Sign::Heard(what) => {
            own.hear(what);
            if what == Wait::Request {
                own.succeed(client, now);
            }
            return;
        }
        Sign::Failed => {
            if !own.fail(client, now) {
                return;
            }
        }
        Sign::Waits(what) => {
            own.wait(what, client, now);
            if !own.is_suspect() {
                return;
            }
            // The server may get nothing more, so it must also be checked as time passes.
            let is_silent = is_silent(measured, now);
            enqueue(table.memory.measured_servers, member);
            if !is_silent {
                return;
            }
        }
    }
    eject(table, member, now);
}

/// Whether a server has left everything unanswered for too long.
fn is_silent(measured: &MeasuredServerSlot, now: u64) -> bool {
    [Wait::Syn, Wait::Request].into_iter().any(|what| {
        let (own, waiting) = (&measured.ejection, measured.waiting(what));
        own.silence(what, waiting, now).is_some_and(|silence| measured.is_too_long(what, silence))
    })
}

/// How many of the members may be out: half of them, and never all.
fn most_out(members: u16) -> u16 {
    members.div_ceil(2).min(members.saturating_sub(1))
}

/// Ejects a server, unless too many of its group are out already: then the group stays as it is.
fn eject(table: &mut Table<'_>, member: u16, now: u64) {
    let measured = &mut *table.memory.measured_servers;
    let Some(leader) = ejection(measured, member).filter(|own| own.configured != 0).map(|own| own.leader) else {
        return;
    };
    let Some(group) = ejection(measured, leader) else {
        return;
    };
    if group.out >= most_out(group.members) {
        return;
    }
    group.out += 1;
    if let Some(own) = ejection(measured, member) {
        own.eject(now);
    }
    enqueue(measured, member);
    reweigh(table, member, now);
}

fn judge_probe(table: &mut Table<'_>, member: u16, well: Option<bool>, now: u64) {
    let measured = &mut *table.memory.measured_servers;
    let Some(leader) = ejection(measured, member).map(|own| own.leader) else {
        return;
    };
    let came = came(measured, leader);
    let Some(own) = ejection(measured, member) else {
        return;
    };
    if own.judge_probe(well, came, now)
        && let Some(group) = ejection(measured, leader)
    {
        group.out = group.out.saturating_sub(1);
    }
    reweigh(table, member, now);
}

/// Gives a server its current weight.
fn reweigh(table: &mut Table<'_>, member: u16, now: u64) {
    let Some((weight, leader)) = ejection(table.memory.measured_servers, member).map(|e| (e.weight(now), e.leader))
    else {
        return;
    };
    let Some(slot) = table.memory.servers.get_mut(usize::from(member)) else {
        return;
    };
    #[cfg(target_pointer_width = "64")]
    Groups(table.memory.group_index).reweigh(leader, cluster_of(slot.seed), slot.weight(), weight);
    let _ = leader;
    slot.set_weight(weight);
}

/// Examines some of the servers that are out, returning or suspected: whether a rest is over, a probe has taken too
/// long, a share has grown, or nothing has been heard for too long.
fn look_again(table: &mut Table<'_>, now: u64) {
    for _ in 0..LOOKS {
        let Some(member) = dequeue(table.memory.measured_servers) else {
            return;
        };
        let Some(measured) = table.memory.measured_servers.get_mut(usize::from(member)) else {
            return;
        };
        if !measured.ejection.on {
            continue;
        }
        if let Some((slot, lasted)) = measured.ejection.probe_so_far(now)
            && measured.is_too_long(Wait::Request, lasted)
        {
            let is_there = table.slot(slot).is_some_and(|c| c.member == member && !c.phase.is_over());
            let connection = table.memory.measured.get(slot as usize).filter(|_| is_there);
            let waited = connection.and_then(|connection| connection.waited(table.state.now));
            let measured = table.memory.measured_servers.get(usize::from(member));
            let is_too_long = |waited| measured.is_some_and(|server| server.is_too_long(Wait::Request, waited));
            match waited.map(is_too_long) {
                // The client is waiting for nothing, so the probe shows nothing about the server.
                None => judge_probe(table, member, None, now),
                Some(true) => judge_probe(table, member, Some(false), now),
                Some(false) => {}
            }
        }
        let leader = ejection(table.memory.measured_servers, member).map_or(NONE, |own| own.leader);
        let came = came(table.memory.measured_servers, leader);
        let Some(measured) = table.memory.measured_servers.get_mut(usize::from(member)) else {
            return;
        };
        measured.ejection.pass_time(came, now);
        if !measured.ejection.is_out() && is_silent(measured, now) {
            eject(table, member, now);
        }
        let Some(own) = ejection(table.memory.measured_servers, member) else {
            return;
        };
        if own.standing != Standing::In || own.is_suspect() {
            enqueue(table.memory.measured_servers, member);
        }
        reweigh(table, member, now);
    }
}

/// The first slot holds both ends of the queue.
fn enqueue(measured: &mut [MeasuredServerSlot], member: u16) {
    let Some([_, tail]) = ejection(measured, 0).map(|first| first.ends) else {
        return;
    };
    match ejection(measured, member) {
        Some(own) if !own.queued => (own.queued, own.next) = (true, 0),
        _ => return,
    }
    if let Some(before) = tail.checked_sub(1).and_then(|tail| ejection(measured, tail)) {
        before.next = member + 1;
    }
    if let Some(first) = ejection(measured, 0) {
        let head = if first.ends[0] == 0 { member + 1 } else { first.ends[0] };
        first.ends = [head, member + 1];
    }
}

fn dequeue(measured: &mut [MeasuredServerSlot]) -> Option<u16> {
    let member = ejection(measured, 0)?.ends[0].checked_sub(1)?;
    let own = ejection(measured, member)?;
    own.queued = false;
    let next = core::mem::take(&mut own.next);
    let first = ejection(measured, 0)?;
    first.ends = if next == 0 { [0; 2] } else { [next, first.ends[1]] };
    Some(member)
}

/// Called before and after a change of rules or servers. Returns whether the rule in question ejects.
pub(super) fn rules(table: &mut Table<'_>, change: RuleChange<'_>) -> bool {
    match change {
        RuleChange::Before(matches) => {
            let rule = rule_of(table, matches);
            let first = rule.map_or(NONE, |rule| server::meant(table.memory.servers, rule.servers));
            let ejects = is_on(table, first);
            if ejects {
                let mut entry = first;
                while let Some(next) = table.memory.servers.get(usize::from(entry)).map(|slot| slot.next) {
                    restore(table, entry);
                    if let Some(own) = ejection(table.memory.measured_servers, entry) {
                        own.rule = GroupRule::None;
                    }
                    entry = next;
                }
                enter_weights(table, first);
            }
            ejects
        }
        RuleChange::After(matches) => {
            arrange(table, matches);
            true
        }
        RuleChange::Gone => {
            // A server in no ejecting group counts as new when it joins one.
            for entry in 0..table.state.unused.up_to() {
                if let Some(own) = ejection(table.memory.measured_servers, entry).filter(|own| !own.on) {
                    own.forget();
                }
            }
            false
        }
        RuleChange::BeforeAll => {
            (0..table.state.unused.up_to()).for_each(|entry| restore(table, entry));
            false
        }
        RuleChange::AfterAll => {
            for entry in 0..table.state.unused.up_to() {
                // Members of groups that are set up already are on.
                let own = ejection(table.memory.measured_servers, entry).filter(|own| !own.on);
                let rule = own.map(|own| core::mem::replace(&mut own.rule, GroupRule::None));
                if let Some(GroupRule::Some(matches)) = rule {
                    arrange(table, &matches);
                }
            }
            false
        }
    }
}

fn is_on(table: &Table<'_>, entry: u16) -> bool {
    table.memory.measured_servers.get(usize::from(entry)).is_some_and(|slot| slot.ejection.on)
}

/// The rule with this match.
fn rule_of(table: &mut Table<'_>, matches: &Match) -> Option<DivertSlot> {
    let place = table.diverts().place(matches).ok()?;
    table.rules().get(place).copied()
}

/// Gives a server the weight that its rule says. It is not in an ejecting group until its rule is arranged again.
fn restore(table: &mut Table<'_>, entry: u16) {
    if let Some(own) = ejection(table.memory.measured_servers, entry).filter(|own| own.on)
        && let Some(slot) = table.memory.servers.get_mut(usize::from(entry))
    {
        slot.set_weight(own.configured);
        own.on = false;
    }
}

/// Updates the weights of clusters in the index of large groups.
fn enter_weights(table: &mut Table<'_>, first: u16) {
    #[cfg(target_pointer_width = "64")]
    if groups::find(table.memory.group_index, first).is_some() {
        Groups(table.memory.group_index).leave(first);
        Groups(table.memory.group_index).enter(table.memory.servers, first);
    }
    let _ = (table, first);
}

/// Makes a rule eject from now on, or updates its group after a change of servers or weights. Servers that stay in the
/// group keep their standing.
fn arrange(table: &mut Table<'_>, matches: &Match) {
    let Some(rule) = rule_of(table, matches) else {
        return;
    };
    let now = table.state.now;
    let first = server::meant(table.memory.servers, rule.servers);
    let slots = &*table.memory.servers;
    let weights = servers_of(slots, first).filter_map(|entry| slots.get(usize::from(entry))).map(ServerSlot::weight);
    let factor = (UNITS / weights.max().unwrap_or(1).max(1)).max(1);
    let (mut members, mut out) = (0_u16, 0_u16);
    let mut entry = first;
    while let Some(slot) = table.memory.servers.get(usize::from(entry)).copied()
        && let Some(measured) = table.memory.measured_servers.get_mut(usize::from(entry))
    {
        if !measured.is(slot.identity()) {
            measured.be(slot.identity(), now);
            measured.ejection.forget();
        }
        let own = &mut measured.ejection;
        (own.on, own.rule, own.by_load, own.leader) = (true, GroupRule::None, rule.is_least_loaded(), first);
        (own.configured, own.full) = (slot.weight(), slot.weight().saturating_mul(factor));
        if own.configured != 0 {
            (members, out) = (members + 1, out + u16::from(own.is_out()));
        }
        entry = slot.next;
    }
    // If the servers that were in use have left the group, it needs some that were out.
    for entry in servers_of(table.memory.servers, first) {
        if out > most_out(members)
            && let Some(own) = ejection(table.memory.measured_servers, entry)
            && own.configured != 0
            && own.is_out()
        {
            let ejections = own.ejections;
            own.forget();
            own.ejections = ejections;
            out -= 1;
        }
    }
    let mut entry = first;
    while let Some(slot) = table.memory.servers.get_mut(usize::from(entry)) {
        let next = slot.next;
        if let Some(own) = ejection(table.memory.measured_servers, entry) {
            slot.set_weight(own.weight(now.as_micros()));
            if own.standing != Standing::In {
                enqueue(table.memory.measured_servers, entry);
            }
        }
        entry = next;
    }
    if let Some(own) = ejection(table.memory.measured_servers, first) {
        (own.rule, own.members, own.out) = (GroupRule::Some(*matches), members, out);
    }
    enter_weights(table, first);
}
