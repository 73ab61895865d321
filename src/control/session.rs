//! The sessions of an agent: one key, one peer, and the number of its last request.

use super::MAX_INSTRUCTIONS;
use super::authentication::{Secret, TAG};
use super::code::Effect;
use super::instruction::Kinds;
use super::refused::Refused;
use super::standing::LEAD;
use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use heapless::Vec;

use crate::time::Instant;

/// The most bytes of an answer that are kept: the head, and an effect for each instruction.
const KEPT: usize = super::answer::HEAD + MAX_INSTRUCTIONS * Effect::LENGTH;

/// One session; all zeros when unused, so that an agent in a `static` takes no flash.
#[derive(Clone, Debug)]
pub(super) struct Session {
    used: bool,
    pub(super) id: [u8; 8],
    pub(super) secret: Secret,
    pub(super) key: u16,
    /// Where its requests come from and its answers go. No other address is answered, so that a copied datagram cannot
    /// be used against a third party.
    pub(super) peer: SocketAddr,
    /// When its newest request arrived for the first time.
    last: Instant,
    /// The number of its newest request, and that request's tag.
    pub(super) sequence: u32,
    tag: [u8; TAG],
    /// The body of the answer to that request, if a repetition gets the same answer because the request must not be
    /// applied twice.
    kept: Vec<u8, KEPT, u16>,
    pub(super) subscription: Subscription,
    /// Hashes spent in vain on apparent new requests, and on repetitions. They are separate, so that repeating a
    /// request does not block new ones; and each session has its own, so that seeing one session is not enough to block
    /// another.
    failures: Budget,
    repetitions: Budget,
}

/// The events that a session has subscribed to. It is kept after its end, because its datagram numbers must not be used
/// twice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscription {
    pub(super) until: Instant,
    pub(super) kinds: Kinds,
    /// The number of its last datagram of events.
    pub(super) sequence: u32,
}

/// What the number of an authentic request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// It is new.
    New,
    /// It repeats the newest one.
    Again,
    /// It is older than the newest one.
    Old,
    /// It has the number of the newest one, but differs from it.
    Conflicting,
}

impl Session {
    pub(super) const NONE: Self = {
        let nowhere = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        let mut none = Self::new([0; 8], Secret([0; 32]), 0, nowhere, Instant::ZERO);
        none.used = false;
        none
    };

    pub(super) const fn new(id: [u8; 8], secret: Secret, key: u16, peer: SocketAddr, now: Instant) -> Self {
        Self {
            used: true,
            id,
            secret,
            key,
            peer,
            last: now,
            sequence: 0,
            tag: [0; TAG],
            kept: Vec::new(),
            subscription: Subscription { until: Instant::ZERO, kinds: Kinds::NONE, sequence: 0 },
            failures: Budget::NEW,
            repetitions: Budget::NEW,
        }
    }

    /// Classifies a request by its number and tag. Strictly increasing numbers are a window of one: a monitor has one
    /// request in progress, so no valid request can overtake another, and instructions take effect in the order in
    /// which they were given.
    pub(super) fn order(&self, sequence: u32, tag: &[u8; TAG]) -> Order {
        match sequence {
            _ if sequence > self.sequence => Order::New,
            _ if sequence < self.sequence => Order::Old,
            _ if *tag == self.tag => Order::Again,
            _ => Order::Conflicting,
        }
    }

    /// Checks the source address of a datagram of this session, and its tag. A hash spent in vain is counted; beyond
    /// `limit` per second, datagrams are refused without being examined. Repetitions (`again`) are limited in the same
    /// way. A datagram from another address costs no hash.
    #[inline(never)]
    pub(super) fn authenticate(
        &mut self,
        limit: u32,
        now: Instant,
        again: bool,
        from: &SocketAddr,
        datagram: &[u8],
    ) -> Result<(), Refused> {
        if self.peer != *from {
            return Err(Refused::Peer);
        }
        let budget = if again { &mut self.repetitions } else { &mut self.failures };
        if !budget.is_left(limit, now) {
            return Err(Refused::Flooded);
        }
        let authentic = self.secret.verifies(datagram);
        if again || !authentic {
            budget.spend();
        }
        if authentic { Ok(()) } else { Err(Refused::BadTag) }
    }

    /// Counts an authentic request that cannot be parsed: since it is not recorded, it can be repeated.
    pub(super) const fn was_in_vain(&mut self) {
        self.failures.spend();
    }

    /// Records a new request. A repetition does not refresh the session: anyone who saw the request can send it.
    pub(super) fn begin(&mut self, sequence: u32, tag: &[u8; TAG], now: Instant) {
        self.last = now;
        self.sequence = sequence;
        self.tag = *tag;
        self.kept.clear();
    }

    /// Keeps the answer's body for repetitions of the request.
    pub(super) fn keep(&mut self, body: &[u8]) {
        self.kept.clear();
        // A body that does not fit is not kept: a repetition is answered anew.
        let _ = self.kept.extend_from_slice(body);
    }

    /// The body of the answer to the newest request; `None` if it has to be written anew.
    pub(super) fn kept(&self) -> Option<&[u8]> {
        Some(self.kept.as_slice()).filter(|kept| !kept.is_empty())
    }

    pub(super) fn is_idle(&self, now: Instant) -> bool {
        micros_since(self.last, now) > super::SESSION_IDLE.as_secs() * 1_000_000
    }
}

/// Avoids [`Duration`](core::time::Duration), which takes a division that a small processor does not have.
const fn micros_since(earlier: Instant, now: Instant) -> u64 {
    now.as_micros().saturating_sub(earlier.as_micros())
}

/// See [`Agent::hashes_per_second`](super::Agent::hashes_per_second).
pub(super) const DEFAULT_HASHES: u32 = 100;

/// Counts the hashes spent in vain: up to a limit per second, then none until the next second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    spent: u32,
    since: Instant,
}

impl Budget {
    pub(super) const NEW: Self = Self { spent: 0, since: Instant::ZERO };

    #[inline(never)]
    fn is_left(&mut self, limit: u32, now: Instant) -> bool {
        if micros_since(self.since, now) >= 1_000_000 {
            (self.since, self.spent) = (now, 0);
        }
        self.spent < limit
    }

    const fn spend(&mut self) {
        self.spent = self.spent.saturating_add(1);
    }

    /// Counts a hash that is about to be spent on a sender without a session. False if none is left.
    #[inline(never)]
    pub(super) fn spend_one(&mut self, limit: u32, now: Instant) -> bool {
        let left = self.is_left(limit, now);
        if left {
            self.spend();
        }
        left
    }
}

/// All sessions.
#[derive(Clone, Debug)]
pub(super) struct Sessions<const N: usize>([Session; N]);

impl<const N: usize> Sessions<N> {
    pub(super) const NONE: Self = Self([Session::NONE; N]);

    #[inline(never)]
    pub(super) fn find(&mut self, id: [u8; 8]) -> Option<&mut Session> {
        self.each().find(|s| s.id == id)
    }

    pub(super) fn end_those_of(&mut self, key: u16) {
        self.each().filter(|s| s.key == key).for_each(|s| *s = Session::NONE);
    }

    pub(super) fn each(&mut self) -> impl Iterator<Item = &mut Session> {
        self.0.iter_mut().filter(|s| s.used)
    }

    /// Whether any of them has subscribed to events.
    pub(super) fn have_subscriber(&self, now: Instant) -> bool {
        self.0.iter().any(|s| s.used && s.subscription.until > now)
    }

    pub(super) fn get(&mut self, place: usize) -> Option<&mut Session> {
        self.0.get_mut(place).filter(|s| s.used)
    }

    /// The place for a new session of this key: an unused one, or one whose session is idle; otherwise that of the
    /// session that has been silent longest: among those of this key if it has any, or else among those of keys that
    /// have more than one. So no key can displace another's only session, and each key has at least one if there are as
    /// many places as keys.
    pub(super) fn room_for(&mut self, key: u16, now: Instant) -> Option<&mut Session> {
        let own = self.count_of(key) != 0;
        let may_go = |s: &Session| if own { s.key == key } else { self.count_of(s.key) > 1 };
        let mut place = None;
        let mut silent_since = u64::MAX;
        for (at, session) in self.0.iter().enumerate() {
            if !session.used || session.is_idle(now) {
                place = Some(at);
                break;
            }
            let last = session.last.as_micros();
            if last < silent_since && may_go(session) {
                (place, silent_since) = (Some(at), last);
            }
        }
        self.0.get_mut(place?)
    }

    fn count_of(&self, key: u16) -> usize {
        self.0.iter().filter(|s| s.key == key).count()
    }
}

const _: () = assert!(super::answer::HEAD + LEAD <= KEPT, "a repeated LEAD must get the kept answer");

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn insert<const N: usize>(sessions: &mut Sessions<N>, session: Session) -> bool {
        sessions.room_for(session.key, session.last).map(|place| *place = session).is_some()
    }

    fn session(id: u8, key: u16, at: u64) -> Session {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        Session::new([id; 8], Secret([0; 32]), key, peer, Instant::from_secs(at))
    }

    #[test]
    fn no_key_drives_out_the_only_session_of_another() {
        let mut sessions = Sessions::<3>::NONE;
        for (id, key, at) in [(1, 1, 1), (2, 2, 2), (3, 2, 3)] {
            assert!(insert(&mut sessions, session(id, key, at)));
        }
        // A third key displaces the session that has been silent longest of the key that has two.
        assert!(insert(&mut sessions, session(4, 3, 4)));
        assert!(sessions.find([2; 8]).is_none() && sessions.find([1; 8]).is_some() && sessions.find([3; 8]).is_some());
        // A fourth finds none; the third replaces its own.
        assert!(!insert(&mut sessions, session(5, 4, 5)));
        assert!(insert(&mut sessions, session(6, 3, 6)));
        assert!(sessions.find([4; 8]).is_none() && sessions.find([1; 8]).is_some());
        // Once they are idle, any key may take a place.
        assert!(insert(&mut sessions, session(7, 4, 10_000)));
    }

    #[test]
    fn each_number_counts_once() {
        let mut session = session(1, 1, 0);
        session.begin(5, &[5; TAG], Instant::ZERO);
        assert_eq!(session.order(5, &[5; TAG]), Order::Again);
        assert_eq!(session.order(5, &[6; TAG]), Order::Conflicting);
        assert_eq!(session.order(4, &[5; TAG]), Order::Old);
        assert_eq!(session.order(6, &[5; TAG]), Order::New);
        assert_eq!(session.kept(), None);
        session.keep(&[1, 2]);
        assert_eq!(session.kept(), Some(&[1, 2][..]));
        session.begin(6, &[6; TAG], Instant::ZERO);
        assert_eq!(session.kept(), None);
    }
}
