//! Fragments that came before the first one of their datagram: only the first has ports.

use core::time::Duration;
use std::collections::VecDeque;

use byway::{DatagramId, Instant};

use crate::counters::Counters;

/// How long a copy of a fragment waits that every shard got, whichever has the first one. All copies but one wait in vain, and one
/// that is still there when the sender uses the identification again would follow another client's datagram. On a path that
/// reorders packets the others are behind by its queues' delay, some tens of milliseconds.
const COPY_PATIENCE: Duration = Duration::from_millis(200);

/// To whom a frame was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// To this shard alone: it owns the packet.
    Alone,
    /// To every shard, since it does not show which of them owns it.
    ToEvery,
}

/// Frames that wait. An attacker can send fragments whose first one never comes, so their number is bounded, and the newest have
/// more hope than the oldest. Copies of what every shard got have room of their own.
#[derive(Debug)]
pub struct Held {
    own: VecDeque<Waiting>,
    copies: VecDeque<Waiting>,
    most: usize,
}

#[derive(Debug)]
struct Waiting {
    datagram: DatagramId,
    until: Instant,
    frame: Vec<u8>,
}

impl Held {
    /// Room for `most` frames, and for as many copies.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { own: VecDeque::with_capacity(most.min(1024)), copies: VecDeque::new(), most }
    }

    /// Keeps a frame, a copy for a shorter time than `until`. If there is no room the oldest makes way.
    pub fn keep(
        &mut self,
        now: Instant,
        datagram: DatagramId,
        until: Instant,
        frame: &[u8],
        given: Given,
        counters: &mut Counters,
    ) {
        let (waiting, until, kept) = match given {
            Given::Alone => (&mut self.own, until, &mut counters.fragments_kept),
            Given::ToEvery => (&mut self.copies, until.min(now + COPY_PATIENCE), &mut counters.copies_kept),
        };
        if self.most == 0 {
            counters.fragments_refused += 1;
            return;
        }
        if waiting.len() >= self.most {
            waiting.pop_front();
            counters.fragments_displaced += 1;
        }
        waiting.push_back(Waiting { datagram, until, frame: frame.to_vec() });
        *kept += 1;
    }

    /// Takes all frames of a datagram, in the order in which they came, but none whose time is over.
    pub fn take(&mut self, now: Instant, datagram: DatagramId) -> Vec<(Vec<u8>, Given)> {
        let mut taken = Vec::new();
        for (waiting, given) in [(&mut self.own, Given::Alone), (&mut self.copies, Given::ToEvery)] {
            let mut place = 0;
            while let Some(one) = waiting.get(place) {
                if one.datagram == datagram && one.until > now {
                    taken.extend(waiting.remove(place).map(|one| (one.frame, given)));
                } else {
                    place += 1;
                }
            }
        }
        taken
    }

    /// Gives up those that have waited for too long.
    pub fn expire(&mut self, now: Instant, counters: &mut Counters) {
        for (waiting, expired) in
            [(&mut self.own, &mut counters.fragments_expired), (&mut self.copies, &mut counters.copies_expired)]
        {
            let before = waiting.len();
            waiting.retain(|one| one.until > now);
            *expired += (before - waiting.len()) as u64;
        }
    }

    /// When the first copy is to be given up, if there are any.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.copies.front().map(|one| one.until)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.own.len() + self.copies.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    fn datagram(identification: u16) -> DatagramId {
        let (source, destination) = (Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
        DatagramId { source, destination, protocol: 17, identification }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn they_come_back_in_their_order_and_the_oldest_makes_way() {
        let (mut held, mut counters) = (Held::new(3), Counters::default());
        let mut keep = |held: &mut Held, identification, until, byte: u8| {
            held.keep(at(0), datagram(identification), at(until), &[byte], Given::Alone, &mut counters);
        };
        for (identification, until, byte) in [(1, 30_000, 1), (2, 30_000, 2), (1, 31_000, 3)] {
            keep(&mut held, identification, until, byte);
        }
        let of = |bytes: &[u8]| bytes.iter().map(|byte| (vec![*byte], Given::Alone)).collect::<Vec<_>>();
        assert_eq!(held.take(at(0), datagram(1)), of(&[1, 3]));
        for byte in 4..7 {
            keep(&mut held, 1, 31_000, byte);
        }
        assert_eq!((held.len(), held.take(at(0), datagram(2))), (3, of(&[])), "the oldest has made way");
        keep(&mut held, 3, 30_000, 7);
        assert_eq!((held.take(at(30_000), datagram(3)), held.len()), (of(&[]), 3), "its time is over");
        held.expire(at(29_999), &mut counters);
        assert_eq!(held.len(), 3);
        held.expire(at(30_000), &mut counters);
        assert_eq!(held.take(at(30_000), datagram(1)), of(&[5, 6]));
        assert!(held.is_empty());
        let Counters { fragments_kept, fragments_displaced, fragments_expired, fragments_refused, .. } = counters;
        assert_eq!((fragments_kept, fragments_displaced, fragments_expired, fragments_refused), (7, 2, 1, 0));
    }

    #[test]
    fn copies_have_room_of_their_own_and_wait_briefly() {
        let (mut held, mut counters) = (Held::new(3), Counters::default());
        held.keep(at(0), datagram(7), at(30_000), &[7], Given::Alone, &mut counters);
        for identification in 0..10 {
            held.keep(at(0), datagram(identification), at(30_000), &[9], Given::ToEvery, &mut counters);
        }
        assert_eq!((held.len(), held.due()), (4, Some(at(200))));
        let both = [(vec![7], Given::Alone), (vec![9], Given::ToEvery)];
        assert_eq!(held.take(at(199), datagram(7)), both);
        assert_eq!(held.take(at(200), datagram(8)), []);
        held.keep(at(150), datagram(7), at(160), &[9], Given::ToEvery, &mut counters);
        held.expire(at(200), &mut counters);
        assert_eq!((held.len(), held.due()), (0, None));
        let Counters { fragments_kept, fragments_displaced, copies_kept, copies_expired, .. } = counters;
        assert_eq!((fragments_kept, fragments_displaced, copies_kept, copies_expired), (1, 7, 11, 3));
        let mut none = Held::new(0);
        none.keep(at(0), datagram(7), at(30_000), &[7], Given::Alone, &mut counters);
        assert_eq!((none.len(), counters.fragments_refused), (0, 1));
    }
}
