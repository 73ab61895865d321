//! What is known of a server as a member of a group that ejects failing servers: successes and failures of its clients,
//! silence, and its return. Times are in microseconds.

use crate::divert::Match;

/// How many failures in a row, with no success in between, are needed for an ejection.
pub(crate) const FAILURES: u8 = 5;
/// How many different clients must have failed, if there has been no success for the time in which `OVERDUE` successes
/// usually come. Also how many different clients must wait for a silence to count, unless they are most of the known
/// ones.
const DIFFERENT: u32 = 3;
const OVERDUE: u64 = 20;
/// A silence counts only if at least this many wait.
pub(crate) const SILENT: u32 = 3;
/// How long clients are remembered: at least this long, and at most twice as long.
const WINDOW: u64 = 10_000_000;
/// How long a server may leave all SYNs unanswered, and all requests if it usually answers fast.
pub(crate) const PATIENCE: u64 = 1_000_000;
/// How long it may leave all requests unanswered while nothing is known of its response times.
const PATIENCE_UNKNOWN: u64 = 5_000_000;
/// How many times its mean response time a server may be silent.
const USUAL_TIMES: u64 = 8;
/// How many responses are needed for a mean.
const KNOWN: u64 = 8;
/// The first rest. It doubles with each failed probe, and with an ejection soon after a return.
const REST: u64 = 2_000_000;
/// How often the rest doubles, at most: to 64 s.
const MOST_DOUBLED: u8 = 5;
/// After a failed probe the rest also ends, but not before [`REST`], when this many connections have come to the group:
/// another failed probe is then one connection in a thousand, while the other servers may be overloaded.
const MANY: u16 = 1_000;
/// How many probes in a row must succeed.
const PROBES: u8 = 3;
/// How long a server's share takes to grow to what it was.
const RAMP: u64 = 10_000_000;
/// A server that has had its whole share for this long begins with the first rest again when it is ejected.
const GOOD_FOR: u64 = 60_000_000;

/// What waits for a server's sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A SYN for its answer.
    Syn = 0,
    /// A request for its response.
    Request = 1,
}

/// The standing of a member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) enum Standing {
    /// It has its whole share.
    In,
    /// It gets nothing until its rest is over.
    Resting,
    /// As `Resting`, but after a failed probe.
    Failed,
    /// The next connection that comes is its probe.
    Trying,
    /// It has one connection, which is its probe, and gets no more.
    Probed,
    /// Its share grows.
    Returning,
}

/// What has waited since the last sign of life of this kind.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Silence {
    since: u64,
    count: u32,
    clients: u64,
}

/// What the rule of a group matches, if known. Unlike an `Option`, it is all zeros if not.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub(crate) enum GroupRule {
    None,
    Some(Match),
}

/// A member of a group that ejects failing ones: all zeros when unused.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(crate) struct Ejection {
    /// In the member that was first when the group was entered: the rule. It is looked up again after a re-divert.
    pub(crate) rule: GroupRule,
    /// Whether its group ejects.
    pub(crate) on: bool,
    /// Whether new connections of its group go to the least loaded member.
    pub(crate) by_load: bool,
    /// Whether it is in the queue of members that will be examined again.
    pub(crate) queued: bool,
    /// The next member in that queue; and, in the first slot of all, the queue's head and tail. Each is a number plus
    /// one, or zero for none.
    pub(crate) next: u16,
    pub(crate) ends: [u16; 2],
    /// The member that was first when the group was entered; it counts the members and those that are out.
    pub(crate) leader: u16,
    pub(crate) members: u16,
    pub(crate) out: u16,
    /// In the first member: connections of the group, modulo 2^16. See [`MANY`].
    pub(crate) came: u16,
    /// Its weight in the rule, and the same weight in finer units, so that a share of it can be expressed.
    pub(crate) configured: u16,
    pub(crate) full: u16,
    pub(crate) standing: Standing,
    /// When it got this standing.
    since: u64,
    /// How often the rest has doubled.
    doubled: u8,
    /// Failures in a row, or probes that succeeded in a row.
    run: u8,
    /// The slot of the probe connection; after a failed probe, how many connections had come to the group by then.
    probe: u32,
    /// How often it was ejected.
    pub(crate) ejections: u32,
    /// Clients, by a hash of 6 bits: those whose last attempt failed; and those whose last attempt succeeded, since
    /// `window` and in the window before.
    failed: u64,
    succeeded: [u64; 2],
    window: u64,
    /// Successes since `window`, and in the window before, and how long that was.
    successes: [u32; 2],
    before: u64,
    /// The last success, and the clients that have failed since.
    last_success: u64,
    run_of: u64,
    silences: [Silence; 2],
}

impl Ejection {
    pub(crate) const EMPTY: Self = Self {
        rule: GroupRule::None,
        on: false,
        by_load: false,
        queued: false,
        next: 0,
        ends: [0; 2],
        leader: 0,
        members: 0,
        out: 0,
        came: 0,
        configured: 0,
        full: 0,
        standing: Standing::In,
        since: 0,
        doubled: 0,
        run: 0,
        probe: 0,
        ejections: 0,
        failed: 0,
        succeeded: [0; 2],
        window: 0,
        successes: [0; 2],
        before: 0,
        last_success: 0,
        run_of: 0,
        silences: [Silence { since: 0, count: 0, clients: 0 }; 2],
    };

    /// Forgets what is known of the server, since this is now another server.
    pub(crate) const fn forget(&mut self) {
        let Self { rule, on, by_load, queued, next, ends, leader, members, out, came, configured, full, .. } = *self;
        *self =
            Self { rule, on, by_load, queued, next, ends, leader, members, out, came, configured, full, ..Self::EMPTY };
    }

    /// The bit of a client, by a hash with the member's keyed seed.
    pub(crate) const fn bit(client: u32, seed: u32) -> u64 {
        let mixed = (client ^ seed).wrapping_mul(0x9e37_79b1);
        1 << ((mixed ^ mixed >> 15).wrapping_mul(0x85eb_ca6b) >> 26)
    }

    /// Its weight in the rule, if the rule ejects.
    pub(crate) fn weight_in_rule(&self) -> Option<u16> {
        self.on.then_some(self.configured)
    }

    /// Whether it has no share of the group's connections.
    pub(crate) const fn is_out(&self) -> bool {
        matches!(self.standing, Standing::Resting | Standing::Failed | Standing::Trying | Standing::Probed)
    }

    /// The weight by which new connections are distributed.
    pub(crate) fn weight(&self, now: u64) -> u16 {
        match self.standing {
            Standing::In => self.full,
            Standing::Resting | Standing::Failed | Standing::Probed => 0,
            // Connections that were left on it must not keep the probe away.
            Standing::Trying if self.by_load && self.full != 0 => u16::MAX,
            Standing::Trying => self.full,
            Standing::Returning if self.full == 0 => 0,
            Standing::Returning => {
                let lasted = now.saturating_sub(self.since).min(RAMP) as u32;
                let eighths = 1 + 7 * (lasted >> 10) / (RAMP >> 10) as u32;
                (u32::from(self.full) * eighths / 8).max(1) as u16
            }
        }
    }

    const fn stand(&mut self, standing: Standing, now: u64) {
        (self.standing, self.since) = (standing, now);
    }

    const fn roll(&mut self, now: u64) {
        let age = now.saturating_sub(self.window);
        if age >= WINDOW {
            let fresh = age < 2 * WINDOW;
            self.succeeded = [0, if fresh { self.succeeded[0] } else { 0 }];
            self.successes = [0, if fresh { self.successes[0] } else { 0 }];
            (self.before, self.failed, self.window) = (if fresh { age } else { 0 }, 0, now);
        }
    }

    /// A client was served.
    pub(crate) const fn succeed(&mut self, client: u64, now: u64) {
        self.roll(now);
        self.succeeded[0] |= client;
        self.failed &= !client;
        (self.run, self.run_of, self.last_success) = (0, 0, now);
        self.successes[0] = self.successes[0].saturating_add(1);
    }

    /// A client was not served, through the server's fault. True if the server must be ejected: there were too many
    /// failures in a row, and either most clients failed at their last attempt, or others should have been served in
    /// between.
    pub(crate) const fn fail(&mut self, client: u64, now: u64) -> bool {
        self.roll(now);
        self.failed |= client;
        self.succeeded[0] &= !client;
        self.run = self.run.saturating_add(1);
        self.run_of |= client;
        let clients = self.failed | self.succeeded[0] | self.succeeded[1];
        self.run >= FAILURES && (2 * self.failed.count_ones() > clients.count_ones() || self.is_overdue(now))
    }

    /// Whether several clients have failed, and there has been no success for many times the usual interval. Someone
    /// who makes connections fail cannot keep others from succeeding.
    const fn is_overdue(&self, now: u64) -> bool {
        let successes = self.successes[0] as u64 + self.successes[1] as u64;
        let time = now.saturating_sub(self.window).saturating_add(self.before);
        let quiet = now.saturating_sub(self.last_success);
        successes >= OVERDUE
            && self.run_of.count_ones() >= DIFFERENT
            && quiet.saturating_mul(successes) >= time.saturating_mul(OVERDUE)
    }

    /// A client begins to wait.
    pub(crate) fn wait(&mut self, what: Wait, client: u64, now: u64) {
        self.roll(now);
        if let Some(silence) = self.silences.get_mut(what as usize) {
            if silence.count == 0 {
                *silence = Silence { since: now, count: 0, clients: 0 };
            }
            silence.count = silence.count.saturating_add(1);
            silence.clients |= client;
        }
    }

    /// The server has given a sign of life.
    pub(crate) fn hear(&mut self, what: Wait) {
        if let Some(silence) = self.silences.get_mut(what as usize) {
            silence.count = 0;
        }
    }

    /// Whether enough has waited since the last sign of life for its silence to become a reason to eject it.
    pub(crate) fn is_suspect(&self) -> bool {
        !self.is_out() && self.silences.iter().any(|silence| silence.count >= SILENT)
    }

    /// For how many microseconds nothing has been heard, if that may be a reason to eject the server: enough are
    /// `waiting` at present, and enough have started to wait since its last sign of life, from several clients or from
    /// most of the known ones.
    pub(crate) fn silence(&self, what: Wait, waiting: u32, now: u64) -> Option<u64> {
        let silence = self.silences.get(what as usize)?;
        let others = self.succeeded[0] | self.succeeded[1];
        let (clients, all) = (silence.clients.count_ones(), (silence.clients | others).count_ones());
        let lasted = now.saturating_sub(silence.since);
        let counts = waiting >= SILENT && silence.count >= SILENT && (clients >= DIFFERENT || 2 * clients > all);
        (counts && lasted >= PATIENCE).then_some(lasted)
    }

    /// Ejects the server.
    pub(crate) fn eject(&mut self, now: u64) {
        let lasted = now.saturating_sub(self.since);
        let soon = match self.standing {
            Standing::In => lasted < GOOD_FOR && self.ejections != 0,
            _ => true,
        };
        self.doubled = if soon { (self.doubled + 1).min(MOST_DOUBLED) } else { 0 };
        self.ejections = self.ejections.wrapping_add(1);
        self.rest(Standing::Resting, now);
    }

    fn rest(&mut self, standing: Standing, now: u64) {
        self.run = 0;
        self.silences.iter_mut().for_each(|silence| silence.count = 0);
        self.stand(standing, now);
    }

    /// Makes the connection in this slot the probe.
    pub(crate) const fn probe(&mut self, slot: u32, now: u64) {
        self.probe = slot;
        self.stand(Standing::Probed, now);
    }

    /// Whether the connection in this slot is its probe.
    pub(crate) fn is_probe(&self, slot: u32) -> bool {
        self.standing == Standing::Probed && self.probe == slot
    }

    /// The slot of the probe, and for how many microseconds it has gone on.
    pub(crate) fn probe_so_far(&self, now: u64) -> Option<(u32, u64)> {
        (self.standing == Standing::Probed).then(|| (self.probe, now.saturating_sub(self.since)))
    }

    /// Ends the probe: it went `well` or not, or showed nothing (`None`). `came` is the group's count of connections.
    /// True if the server is no longer out.
    pub(crate) fn judge_probe(&mut self, well: Option<bool>, came: u16, now: u64) -> bool {
        match well {
            Some(true) if self.run + 1 >= PROBES => {
                (self.run, self.run_of, self.failed, self.succeeded) = (0, 0, 0, [0; 2]);
                (self.successes, self.before, self.window, self.last_success) = ([0; 2], 0, now, now);
                self.stand(Standing::Returning, now);
                return true;
            }
            Some(true) => self.run += 1,
            Some(false) => {
                self.doubled = (self.doubled + 1).min(MOST_DOUBLED);
                self.rest(Standing::Failed, now);
                self.probe = came.into();
                return false;
            }
            None => {}
        }
        self.stand(Standing::Trying, now);
        false
    }

    /// Changes the standing if enough time has passed, or if the group's count of connections, `came`, allows it.
    pub(crate) fn pass_time(&mut self, came: u16, now: u64) {
        let lasted = now.saturating_sub(self.since);
        match self.standing {
            Standing::Resting | Standing::Failed if lasted >= REST << self.doubled => self.stand(Standing::Trying, now),
            Standing::Failed if lasted >= REST && came.wrapping_sub(self.probe as u16) >= MANY => {
                // A rest that was cut short does not double the next one.
                self.doubled = self.doubled.saturating_sub(1);
                self.stand(Standing::Trying, now);
            }
            Standing::Returning if lasted >= RAMP => self.stand(Standing::In, now),
            _ => {}
        }
    }
}

/// Whether `silence` microseconds are too long for a server that has given this many responses, in `micros`
/// microseconds in all.
pub(crate) const fn is_too_long(silence: u64, responses: u64, micros: u64) -> bool {
    if responses < KNOWN {
        return silence >= PATIENCE_UNKNOWN;
    }
    silence >= PATIENCE && silence.saturating_mul(responses) >= micros.saturating_mul(USUAL_TIMES)
}
