//! One of several monitors with the same key leads. The agent decides which one, by granting a lease.

use super::agent::Agent;
use super::code::Refusal;
use super::standing::{Lead, Note, Standing};
use core::time::Duration;

use crate::time::Instant;

impl<const KEYS: usize, const SESSIONS: usize, const REPORTS: usize> Agent<KEYS, SESSIONS, REPORTS> {
    /// A monitor stands for the lead, or, with a lease of zero milliseconds, stops standing.
    ///
    /// A free lead goes to the monitor with the lowest number that stands. A lead that is taken goes to a monitor with
    /// a lower number once that one has stood for a whole lease, but never before the leader knows it: either the
    /// leader's lease has ended, or an answer has refused it the lead and it has asked again. So no two monitors lead
    /// at the same time.
    pub(super) fn stand(&mut self, session: [u8; 8], number: u64, lease: u16, note: Note) -> Result<Lead, Refusal> {
        let now = self.now;
        let place = self.place_for_reports(session)?;
        let key = self.sessions.find(session).map(|session| session.key);
        let end = Instant::from_micros(now.as_micros().saturating_add(u64::from(lease) * 1_000));
        let sessions = &mut self.sessions;
        for subscriber in &mut self.reports {
            if subscriber.standing.until <= now || sessions.find(subscriber.session).is_none() {
                subscriber.standing = Standing::NONE;
            }
        }
        if let Some(mine) = self.reports.get_mut(place).map(|subscriber| &mut subscriber.standing) {
            if lease == 0 {
                *mine = Standing::NONE;
            } else {
                if mine.until == Instant::ZERO || mine.number != number {
                    *mine = Standing { number, settled: end, ..Standing::NONE };
                }
                // A shorter lease does not shorten the one already granted: the answer that says so may get lost.
                (mine.until, mine.note) = (end.max(mine.leads_until), note);
            }
        }
        let (mut leader, mut standing) = (None, 0);
        // Whether a monitor with a lower number stands, and whether one of these has stood long enough to take the lead
        // from another.
        let (mut is_lower, mut is_settled) = (false, false);
        for (at, subscriber) in self.reports.iter().enumerate() {
            let other = &subscriber.standing;
            if other.until <= now || sessions.find(subscriber.session).map(|session| session.key) != key {
                continue;
            }
            standing += 1;
            if other.leads_until > now {
                leader = Some(at);
            }
            if other.number < number {
                is_lower = true;
                is_settled |= other.settled <= now;
            }
        }
        let mut granted = None;
        if let Some(mine) = self.reports.get_mut(place).map(|subscriber| &mut subscriber.standing)
            && lease != 0
            && leader.is_none_or(|leader| leader == place)
        {
            if if leader.is_none() { is_lower } else { is_settled } {
                if mine.yields {
                    (mine.leads_until, leader) = (Instant::ZERO, None);
                }
                mine.yields = leader.is_some();
            } else {
                (mine.leads_until, mine.yields, leader) = (end.max(mine.leads_until), false, Some(place));
                granted = Some(Duration::from_millis(u64::from(lease)));
            }
        }
        let leader = leader.and_then(|leader| self.reports.get(leader)).map(|subscriber| &subscriber.standing);
        Ok(Lead {
            leader: leader.map(|leader| leader.number),
            lease: granted,
            standing,
            note: leader.map_or(Note::EMPTY, |leader| leader.note),
        })
    }
}
