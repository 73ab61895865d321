//! Which shard has got the first fragment of a datagram. Where shards share an address, nothing in a later fragment shows
//! whose it is, but its first has mostly come before it, out of the same queue.

use core::time::Duration;
use std::collections::{HashMap, VecDeque};

use byway::{DatagramId, Instant};

/// How many are remembered.
const MOST: usize = 1024;
/// For how long: a sender that counts its datagrams has all its identifications come round in a few seconds.
const LIFE: Duration = Duration::from_secs(1);

/// The latest first fragments, and the shards that own them. Whatever is not known here, every shard gets a copy of.
#[derive(Debug, Default)]
pub struct Firsts {
    owners: HashMap<DatagramId, (usize, Instant)>,
    /// In the order in which they came. What came again stands here twice.
    order: VecDeque<(DatagramId, Instant)>,
}

impl Firsts {
    /// The first fragment of this datagram belongs to this shard.
    pub fn add(&mut self, now: Instant, datagram: DatagramId, shard: usize) {
        self.owners.insert(datagram, (shard, now));
        self.order.push_back((datagram, now));
        while self.order.len() > MOST
            && let Some((oldest, since)) = self.order.pop_front()
        {
            if self.owners.get(&oldest).is_some_and(|(_, latest)| *latest == since) {
                self.owners.remove(&oldest);
            }
        }
    }

    /// The shard that has got the first fragment of this datagram.
    #[must_use]
    pub fn owner(&self, now: Instant, datagram: &DatagramId) -> Option<usize> {
        let (shard, since) = self.owners.get(datagram)?;
        (now.duration_since(*since) < LIFE).then_some(*shard)
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

    #[test]
    fn the_latest_are_known_for_a_while() {
        let (mut firsts, start) = (Firsts::default(), Instant::from_secs(9));
        firsts.add(start, datagram(1), 3);
        assert_eq!((firsts.owner(start, &datagram(1)), firsts.owner(start, &datagram(2))), (Some(3), None));
        let later = start + Duration::from_millis(999);
        assert_eq!(firsts.owner(later, &datagram(1)), Some(3));
        assert_eq!(firsts.owner(start + LIFE, &datagram(1)), None);
        // It came again, for another one.
        firsts.add(later, datagram(1), 2);
        assert_eq!(firsts.owner(start + LIFE, &datagram(1)), Some(2));
        (2..=MOST as u16).for_each(|other| firsts.add(later, datagram(other), 0));
        assert_eq!(firsts.owner(later, &datagram(1)), Some(2), "only the older entry was forgotten");
        firsts.add(later, datagram(9999), 1);
        assert_eq!((firsts.owner(later, &datagram(1)), firsts.owner(later, &datagram(9999))), (None, Some(1)));
        assert_eq!((firsts.owners.len(), firsts.order.len()), (MOST, MOST));
    }
}
