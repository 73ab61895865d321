//! Requests that are sent again: for want of an acknowledgement, and after an instruction.

use core::time::Duration;
use std::collections::VecDeque;

use byway::Instant;
use smoltcp::phy;

use super::{Exchanges, Failure, Peer, State};
use crate::coap::message::{Message, option};
use crate::counters::{Counters, Reason};
use crate::far::Far;

/// How long a notification without Max-Age is fresh (RFC 7252, section 5.10.5), in seconds.
const MAX_AGE: u32 = 60;
/// How much later an observer registers again, in milliseconds.
const SLACK: core::ops::Range<u64> = 5000..15_000;
/// The least time between two registrations of an observer, whatever time-outs byway has.
const LEAST_SILENCE: Duration = Duration::from_secs(5);

impl Exchanges {
    /// Sends again, or gives up, what has waited long enough.
    pub(super) fn work<D: phy::Device>(&mut self, now: Instant, far: &mut Far<D>, counters: &mut Counters) {
        let (mut earliest, mut failed, mut stale) = (None::<Instant>, Vec::new(), Vec::new());
        for (number, exchange) in &mut self.exchanges {
            let next = match exchange.state {
                State::Queued => continue,
                State::Observing { until, heard } if until.min(heard + self.silence) <= now => {
                    // Until its turn comes.
                    let until = now + self.settings.response_timeout;
                    exchange.state = State::Observing { until, heard: until };
                    stale.push(*number);
                    until
                }
                State::Observing { until, heard } => until.min(heard + self.silence),
                State::Acknowledged { until } if until <= now => {
                    failed.push((*number, Failure::TimedOut));
                    continue;
                }
                State::Acknowledged { until } => until,
                State::Sent { again, .. } if again > now => again,
                State::Sent { times, .. } if times >= self.settings.max_retransmit => {
                    failed.push((*number, Failure::TimedOut));
                    continue;
                }
                State::Sent { .. }
                    if !exchange.is_idempotent
                        && exchange.generation != far.generation()
                        // It stays at its server, which knows it.
                        && exchange.place.is_none() =>
                {
                    failed.push((*number, Failure::Ambiguous));
                    continue;
                }
                State::Sent { timeout, times, .. } => {
                    if timeout >= self.settings.ack_timeout {
                        counters.count(Reason::Retransmissions);
                    }
                    if let Err(why) = exchange.send(now, *number, &mut self.by_id, far) {
                        failed.push((*number, why));
                        continue;
                    }
                    exchange.generation = far.generation();
                    if let Some(origin) = self.origins.get_mut(&exchange.peer) {
                        origin.sent(now, exchange.bytes.len());
                    }
                    let timeout = timeout * 2;
                    exchange.state = State::Sent { again: now + timeout, timeout, times: times + 1 };
                    now + timeout
                }
            };
            earliest = Some(earliest.map_or(next, |earliest| earliest.min(next)));
        }
        self.earliest = earliest;
        for number in stale {
            self.register_again(number, counters);
        }
        for (number, why) in failed {
            let waiting = if why == Failure::TimedOut { self.fall_silent(number) } else { VecDeque::new() };
            self.give_up(number, why, counters);
            for number in waiting {
                self.fail(number, Failure::Silent);
            }
        }
    }

    /// This request has timed out. If nothing was heard of its origin since it was sent, the origin is silent. Takes and
    /// returns those that wait for their turn there.
    fn fall_silent(&mut self, number: u64) -> VecDeque<u64> {
        let exchange = self.exchanges.get(&number);
        let origin = exchange.and_then(|exchange| Some((exchange.first, self.origins.get_mut(&exchange.peer)?)));
        let Some((_, origin)) = origin.filter(|(first, origin)| origin.is_unheard_since(*first)) else {
            return VecDeque::new();
        };
        origin.is_silent = true;
        core::mem::take(&mut origin.queue)
    }

    /// An instruction has changed where requests go: those in flight are sent at once, with all their repetitions before
    /// them. One that its server has not moved from gets a repetition, which it recognises.
    pub(super) fn send_again<D: phy::Device>(&mut self, now: Instant, far: &mut Far<D>, counters: &mut Counters) {
        for (peer, origin) in &mut self.origins {
            // It may be another server.
            if matches!(peer, Peer::Origin(_)) {
                origin.heard();
            }
        }
        self.part(far);
        let (mut waking, mut observing) = (Vec::new(), Vec::new());
        for (number, exchange) in &mut self.exchanges {
            let is_out = matches!(exchange.state, State::Acknowledged { .. } | State::Observing { .. });
            if matches!(exchange.state, State::Queued) || !exchange.is_idempotent {
                continue;
            }
            if is_out {
                waking.push(exchange.peer);
            }
            if exchange.observes {
                observing.push(*number);
                // It may wait for its turn to register again.
                if let Some(origin) = self.origins.get_mut(&exchange.peer) {
                    origin.queue.retain(|queued| queued != number);
                }
            }
            counters.count(Reason::Resent);
            let timeout = self.settings.ack_timeout;
            // Due now, and then from the first time-out on. Below `ack_timeout` it is not counted as a retransmission.
            exchange.state = State::Sent { again: now, timeout: timeout / 2, times: 0 };
            exchange.first = now;
            self.earliest = Some(now);
        }
        for peer in waking {
            self.origins.entry(peer).or_default().outstanding += 1;
        }
        for number in observing {
            // A server that has known this observer before must not take it for a repetition.
            self.renew_id(number);
        }
    }

    /// Separates requests that stay where they are from those that an instruction has moved: they wait for turns of their own,
    /// since another server is another endpoint.
    fn part<D: phy::Device>(&mut self, far: &Far<D>) {
        for (number, exchange) in &mut self.exchanges {
            let Some(place) = exchange.place.filter(|place| place.generation != far.generation()) else {
                continue;
            };
            let (before, peer) = (exchange.peer, Peer::Server(place.server));
            if before == peer {
                continue;
            }
            exchange.peer = peer;
            if let Some(origin) = self.origins.get_mut(&before) {
                origin.queue.retain(|queued| queued != number);
                origin.outstanding -= usize::from(matches!(exchange.state, State::Sent { .. }));
            }
            let server = self.origins.entry(peer).or_default();
            match exchange.state {
                State::Queued => server.queue.push_back(*number),
                State::Sent { .. } => server.outstanding += 1,
                State::Acknowledged { .. } | State::Observing { .. } => {}
            }
            self.is_due = true;
        }
    }

    /// Notes when to register again: when the representation is not fresh any more, and 5 to 15 s later (RFC 7641,
    /// section 3.3.1), but in any case before byway forgets the connection ([`Exchanges::heed`]).
    pub(super) fn observe(&mut self, now: Instant, number: u64, message: &Message<'_>) {
        let max_age = message.uint(option::MAX_AGE, 4).unwrap_or(MAX_AGE);
        let slack = SLACK.start + (SLACK.end - SLACK.start) * (number >> 48) / (1 << 16);
        let until = now + Duration::from_secs(u64::from(max_age)) + Duration::from_millis(slack);
        if let Some(exchange) = self.exchanges.get_mut(&number) {
            exchange.state = State::Observing { until, heard: now };
            let due = until.min(now + self.silence);
            self.earliest = Some(self.earliest.map_or(due, |earliest| earliest.min(due)));
        }
    }

    /// Takes over how long byway keeps a connection on which nothing passes. RFC 7641 recommends no registration while the
    /// representation is fresh, and permits one at any time; without it the next notification would find no way (RFC 8085,
    /// section 3.5). A quarter of the time is left for the registration's turn and its repetitions.
    pub(super) fn heed(&mut self, now: Instant, timeout: Duration) {
        let silence = (timeout / 4 * 3).max(LEAST_SILENCE);
        if silence != self.silence {
            self.silence = silence;
            // Some may be due earlier than was noted.
            self.earliest = self.earliest.map(|earliest| earliest.min(now));
        }
    }

    /// Nothing was heard of an observed resource for so long that its server may have forgotten the observer.
    fn register_again(&mut self, number: u64, counters: &mut Counters) {
        let Some(peer) = self.exchanges.get(&number).map(|exchange| exchange.peer) else {
            return;
        };
        if self.origins.entry(peer).or_default().queue.contains(&number) {
            // Its turn has not come yet.
            return;
        }
        counters.count(Reason::RegisteredAgain);
        self.renew_id(number);
        self.origins.entry(peer).or_default().queue.push_back(number);
        self.is_due = true;
    }

    /// `ACK_TIMEOUT` times a factor between 1 and `ACK_RANDOM_FACTOR`, 1.5.
    pub(super) fn first_timeout(&self, number: u64) -> Duration {
        let base = self.settings.ack_timeout;
        let random = u32::try_from(number >> 32).unwrap_or(0);
        base + Duration::from_micros((base.as_micros() as u64 / 2).saturating_mul(u64::from(random)) >> 32)
    }
}
