//! Fragments that came before the first one of their datagram: only the first has ports.

use std::collections::VecDeque;

use byway::{DatagramId, Instant};

/// A few frames that wait. An attacker can send fragments whose first one never comes, so their number is bounded.
#[derive(Debug)]
pub struct Held {
    frames: VecDeque<Waiting>,
    most: usize,
}

#[derive(Debug)]
struct Waiting {
    datagram: DatagramId,
    until: Instant,
    frame: Vec<u8>,
}

impl Held {
    /// Room for `most` frames.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { frames: VecDeque::with_capacity(most.min(1024)), most }
    }

    /// Keeps a frame. Returns whether there was room for it.
    pub fn keep(&mut self, datagram: DatagramId, until: Instant, frame: &[u8]) -> bool {
        if self.frames.len() >= self.most {
            return false;
        }
        self.frames.push_back(Waiting { datagram, until, frame: frame.to_vec() });
        true
    }

    /// Takes all frames of a datagram, in the order in which they came.
    pub fn take(&mut self, datagram: DatagramId) -> Vec<Vec<u8>> {
        let (mut taken, mut place) = (Vec::new(), 0);
        while let Some(waiting) = self.frames.get(place) {
            if waiting.datagram == datagram {
                taken.extend(self.frames.remove(place).map(|waiting| waiting.frame));
            } else {
                place += 1;
            }
        }
        taken
    }

    /// Gives up those that have waited for too long; returns how many.
    pub fn expire(&mut self, now: Instant) -> usize {
        let before = self.frames.len();
        self.frames.retain(|waiting| waiting.until > now);
        before - self.frames.len()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    #[test]
    fn they_come_back_in_their_order_and_are_bounded() {
        let datagram = |identification| DatagramId {
            source: Ipv4Addr::LOCALHOST,
            destination: Ipv4Addr::LOCALHOST,
            protocol: 17,
            identification,
        };
        let mut held = Held::new(3);
        let until = Instant::from_secs(30);
        assert!(held.keep(datagram(1), until, &[1]) && held.keep(datagram(2), until, &[2]));
        assert!(held.keep(datagram(1), until + core::time::Duration::from_secs(1), &[3]));
        assert!(!held.keep(datagram(1), until, &[4]), "there is no room");
        assert_eq!(held.take(datagram(1)), [vec![1], vec![3]]);
        assert!(held.keep(datagram(1), until + core::time::Duration::from_secs(1), &[3]));
        assert_eq!(held.expire(Instant::from_secs(29)), 0);
        assert_eq!(held.expire(until), 1);
        assert_eq!((held.take(datagram(2)), held.take(datagram(1))), (vec![], vec![vec![3]]));
        assert!(held.is_empty());
    }
}
