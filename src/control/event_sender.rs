//! Sending events to the monitors that have subscribed to them.

use super::answer::LISTED_EVENT;
use super::authentication::TAG;
use super::datagram::{HEADER, Header, MAX_ANSWER, kind, seal};
use super::instruction::Kinds;
use super::pages;
use super::session::{Session, Sessions};
use super::wire::Writer;
use core::net::SocketAddr;
use heapless::Vec;

use crate::event::Event;
use crate::time::Instant;

/// How many events wait for their datagram.
const BATCH: usize = 16;

/// Bytes before the events.
const HEAD: usize = 8;

/// The events that wait for their datagram.
#[derive(Clone, Debug)]
pub(super) struct EventSender {
    /// In the form that they have in the datagram.
    batch: Vec<[u8; LISTED_EVENT], BATCH>,
    /// The session that the batch is sent to next. Unless this is the first one, the batch must not change.
    cursor: usize,
    lost: u32,
}

impl EventSender {
    pub(super) const EMPTY: Self = Self { batch: Vec::new(), cursor: 0, lost: 0 };

    /// Whether there is room for another event.
    pub(super) fn has_room(&self) -> bool {
        self.cursor == 0 && !self.batch.is_full()
    }

    /// Adds an event to the batch, if there are subscribers for its kind. It is counted as lost if there is no room.
    pub(super) fn push<const N: usize>(&mut self, sessions: &mut Sessions<N>, now: Instant, event: &Event) {
        let bytes = pages::event(event);
        let kind = pages::kind_of(&bytes);
        if !sessions.each().any(|s| s.wants(kind, now)) {
            return;
        }
        if !self.has_room() || self.batch.push(bytes).is_err() {
            self.lost = self.lost.wrapping_add(1);
        }
    }

    /// Writes the batch for the next session that has subscribed to any of it. `None` when it has been sent to all of
    /// them.
    pub(super) fn next<const N: usize>(
        &mut self,
        sessions: &mut Sessions<N>,
        now: Instant,
        buffer: &mut [u8; MAX_ANSWER],
    ) -> Option<(SocketAddr, usize)> {
        let waiting = Some(&self.batch).filter(|batch| !batch.is_empty())?;
        while self.cursor < N {
            let place = self.cursor;
            self.cursor += 1;
            let wanted = |s: &Session| waiting.iter().filter(|e| s.wants(pages::kind_of(e), now)).count();
            let Some(session) = sessions.get(place).filter(|s| wanted(s) != 0) else {
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
            out.u32(self.lost);
            out.u16(count);
            out.u16(0);
            for bytes in waiting.iter().filter(|bytes| kinds.overlap(pages::kind_of(bytes))) {
                out.put(bytes);
            }
            if let Some(length) = seal(out, &session.secret) {
                return Some((session.peer, length));
            }
        }
        self.cursor = 0;
        self.batch.clear();
        None
    }
}

impl Session {
    fn wants(&self, kind: Kinds, now: Instant) -> bool {
        self.subscription.until > now && self.subscription.kinds.overlap(kind)
    }
}

const _: () = assert!(HEADER + HEAD + BATCH * LISTED_EVENT + TAG <= MAX_ANSWER, "a batch of events is one datagram");
