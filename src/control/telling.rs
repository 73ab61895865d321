//! Telling subscribers what happened.

use super::agent::Agent;
use super::answer::LISTED_EVENT;
use super::authentication::TAG;
use super::datagram::{HEADER, Header, MAX_ANSWER, kind, seal};
use super::instruction::Kinds;
use super::pages;
use super::session::Session;
use super::wire::Writer;
use core::net::SocketAddr;

use crate::event::Event;
use crate::time::Instant;

/// How many events wait for their datagram.
const BATCH: usize = 16;

/// Octets in front of the events.
const HEAD: usize = 8;

/// Events that wait for their datagram.
#[derive(Clone, Debug)]
pub(crate) struct Telling {
    /// As they stand in it.
    batch: [[u8; LISTED_EVENT]; BATCH],
    waiting: u8,
    /// The session that is told of them next; the batch is being told if it is not the first.
    cursor: usize,
    lost: u32,
}

impl Telling {
    pub(crate) const NOTHING: Self = Self { batch: [[0; LISTED_EVENT]; BATCH], waiting: 0, cursor: 0, lost: 0 };

    /// While a batch is being told it must stay as it is.
    const fn has_room(&self) -> bool {
        self.cursor == 0 && (self.waiting as usize) < BATCH
    }
}

impl<const KEYS: usize, const SESSIONS: usize> Agent<KEYS, SESSIONS> {
    /// Whether there is room for another event ([`Agent::tell`]).
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.telling.has_room()
    }

    /// Tells the subscribers of an event, with the next [`Agent::poll_transmit`]. What nobody has subscribed to is
    /// ignored; what there is no room for is counted, and the subscribers are told how many those were.
    pub fn tell(&mut self, now: Instant, event: &Event) {
        self.now = self.now.max(now);
        let (now, octets) = (self.now, pages::event(event));
        let kind = pages::kind_of(&octets);
        if !self.sessions.each().any(|s| s.wants(kind, now)) {
            return;
        }
        let telling = &mut self.telling;
        if !telling.has_room() {
            telling.lost = telling.lost.wrapping_add(1);
        } else if let Some(place) = telling.batch.get_mut(usize::from(telling.waiting)) {
            *place = octets;
            telling.waiting += 1;
        }
    }

    /// Writes the next datagram of events into `buffer`; returns where it goes and its length. To be called until it
    /// returns `None`, after each round of [`Agent::tell`].
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut [u8; MAX_ANSWER]) -> Option<(SocketAddr, usize)> {
        self.now = self.now.max(now);
        let now = self.now;
        let telling = &mut self.telling;
        let waiting = telling.batch.get(..usize::from(telling.waiting)).filter(|batch| !batch.is_empty())?;
        while telling.cursor < SESSIONS {
            let place = telling.cursor;
            telling.cursor += 1;
            let wanted = |s: &Session| waiting.iter().filter(|e| s.wants(pages::kind_of(e), now)).count();
            let Some(session) = self.sessions.get(place).filter(|s| wanted(s) != 0) else {
                continue;
            };
            let count = wanted(session) as u16;
            let Some(sequence) = session.subscription.sequence.checked_add(1) else {
                continue;
            };
            session.subscription.sequence = sequence;
            let kinds = session.subscription.kinds;
            let mut out = Writer::new(buffer);
            Header { kind: kind::EVENTS, sequence, session: session.id }.write(&mut out);
            out.u32(telling.lost);
            out.u16(count);
            out.u16(0);
            for octets in waiting.iter().filter(|octets| kinds.overlap(pages::kind_of(octets))) {
                out.put(octets);
            }
            if let Some(length) = seal(out, &session.secret) {
                return Some((session.peer, length));
            }
        }
        (telling.cursor, telling.waiting) = (0, 0);
        None
    }
}

impl Session {
    fn wants(&self, kind: Kinds, now: Instant) -> bool {
        self.subscription.until > now && self.subscription.kinds.overlap(kind)
    }
}

const _: () = assert!(HEADER + HEAD + BATCH * LISTED_EVENT + TAG <= MAX_ANSWER, "a batch of events is one datagram");
