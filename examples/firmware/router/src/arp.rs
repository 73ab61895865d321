//! The cache of next hops: who has been found, and who is being asked for (RFC 826; RFC 1122, section 2.3.2).
//!
//! Two tables, so that a stranger who scans the subnet cannot push out the hosts that are there: an address that is
//! only asked for takes a place among the few that wait, each of which holds the latest packet for it; an address
//! enters the cache when its host has spoken.

use core::net::Ipv4Addr;

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::EthernetAddress;

use crate::MAX_FRAME;
use crate::icmp::Quote;

/// Hosts that are known at a time, on both subnets together. When one more speaks, the one that was heard least recently goes.
const HOSTS: usize = 32;
/// Hosts that are asked for at a time.
const WAITING: usize = 8;
/// How long a host is believed to be where it was heard (RFC 1122, section 2.3.2.1: of the order of a minute).
const LIFETIME: Duration = Duration::from_secs(60);
/// A host that is used this shortly before its end is asked again, so that a busy connection does not stumble.
const REFRESH: Duration = Duration::from_secs(10);
/// Between two questions for the same address: at most one a second (RFC 1122, section 2.3.2.1).
const INTERVAL: Duration = Duration::from_secs(1);
/// Questions before a packet is given up.
const TRIES: u8 = 3;

/// An address on one of the two subnets. On a stick, both share a wire, and an address still belongs to one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) interface: usize,
    pub(crate) address: Ipv4Addr,
}

#[derive(Clone, Copy, Debug)]
struct Host {
    hop: Hop,
    mac: EthernetAddress,
    expires: Instant,
    ask_again: Instant,
}

/// A packet that waits for its next hop: a frame whose link addresses are still to be filled in.
#[derive(Debug)]
struct Waiting {
    hop: Option<Hop>,
    tries: u8,
    next: Instant,
    frame: [u8; MAX_FRAME],
    len: usize,
    quote: Option<Quote>,
}

impl Waiting {
    const FREE: Self = Self { hop: None, tries: 0, next: Instant::ZERO, frame: [0; MAX_FRAME], len: 0, quote: None };
}

/// What to do about a packet for a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Send it there.
    Known(EthernetAddress),
    /// Send it there, and ask that host whether it is still there.
    Aging(EthernetAddress),
    /// Nobody has been heard there.
    Unknown,
}

/// What became of a packet that was left in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deposit {
    /// It is the first for its next hop: ask now.
    Ask,
    /// It took the place of an older one.
    Displaced,
    /// There is no place: the packet is not kept.
    Full,
}

/// What is due.
#[derive(Debug)]
pub(crate) enum Due {
    /// Ask for this hop once more.
    Ask(Hop),
    /// Nobody answered: the packet is given up, and this was its beginning.
    GaveUp(Option<Quote>),
}

#[derive(Debug)]
pub(crate) struct Cache {
    hosts: [Option<Host>; HOSTS],
    waiting: [Waiting; WAITING],
}

impl Cache {
    pub(crate) const fn new() -> Self {
        Self { hosts: [None; HOSTS], waiting: [const { Waiting::FREE }; WAITING] }
    }

    pub(crate) fn lookup(&mut self, now: Instant, hop: Hop) -> Lookup {
        let Some(host) = self.hosts.iter_mut().flatten().find(|host| host.hop == hop && now < host.expires) else {
            return Lookup::Unknown;
        };
        if now < host.ask_again {
            return Lookup::Known(host.mac);
        }
        host.ask_again = now + INTERVAL;
        Lookup::Aging(host.mac)
    }

    /// Keeps a frame until its next hop is known.
    pub(crate) fn deposit(&mut self, now: Instant, hop: Hop, frame: &[u8], quote: Option<&Quote>) -> Deposit {
        let found = self.waiting.iter().position(|place| place.hop == Some(hop));
        let place = found.or_else(|| self.waiting.iter().position(|place| place.hop.is_none()));
        let Some(place) = place.and_then(|index| self.waiting.get_mut(index)) else { return Deposit::Full };
        let Some(room) = place.frame.get_mut(..frame.len()) else { return Deposit::Full };
        room.copy_from_slice(frame);
        place.len = frame.len();
        place.quote = quote.copied();
        if found.is_some() {
            return Deposit::Displaced;
        }
        place.hop = Some(hop);
        place.tries = 1;
        place.next = now + INTERVAL;
        Deposit::Ask
    }

    /// A host has spoken. It enters the cache if it spoke `to_us` or is waited for, and is brought up to date if it
    /// is there (RFC 826: "merge"). Returns the packet that waited for it.
    pub(crate) fn heard(&mut self, now: Instant, hop: Hop, mac: EthernetAddress, to_us: bool) -> Option<&mut [u8]> {
        let waited = self.waiting.iter().position(|place| place.hop == Some(hop));
        let known = self.hosts.iter().position(|host| host.is_some_and(|host| host.hop == hop));
        if let Some(index) = known.or_else(|| (to_us || waited.is_some()).then(|| self.oldest(now))) {
            let expires = now + LIFETIME;
            self.hosts[index] = Some(Host { hop, mac, expires, ask_again: expires - REFRESH });
        }
        let place = &mut self.waiting[waited?];
        place.hop = None;
        place.frame.get_mut(..place.len)
    }

    /// The place of a host that is gone, or else of the one that was heard least recently.
    fn oldest(&self, now: Instant) -> usize {
        let expires = |host: &Option<Host>| host.map_or(Instant::ZERO, |host| host.expires.max(now));
        let places = self.hosts.iter().enumerate();
        places.min_by_key(|(_, host)| expires(host)).map_or(0, |(index, _)| index)
    }

    /// The next thing that is due; to be called until nothing is.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Due> {
        let place = self.waiting.iter_mut().find(|place| place.hop.is_some() && place.next <= now)?;
        let hop = place.hop?;
        if place.tries < TRIES {
            place.tries += 1;
            place.next = now + INTERVAL;
            return Some(Due::Ask(hop));
        }
        place.hop = None;
        Some(Due::GaveUp(place.quote))
    }

    /// When [`poll`](Self::poll) has something to do.
    pub(crate) fn poll_at(&self) -> Option<Instant> {
        self.waiting.iter().filter(|place| place.hop.is_some()).map(|place| place.next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);

    fn hop(last: u8) -> Hop {
        Hop { interface: 0, address: Ipv4Addr::new(10, 1, 0, last) }
    }

    fn at(secs: i64) -> Instant {
        Instant::from_secs(secs)
    }

    #[test]
    fn a_packet_waits_for_its_answer() {
        let mut cache = Cache::new();
        assert_eq!(cache.lookup(at(0), hop(9)), Lookup::Unknown);
        assert_eq!(cache.deposit(at(0), hop(9), b"first", None), Deposit::Ask);
        assert_eq!(cache.deposit(at(0), hop(9), b"latest", None), Deposit::Displaced);
        let frame = cache.heard(at(0), hop(9), MAC, true).expect("it waited");
        assert_eq!(frame, b"latest");
        assert_eq!(cache.lookup(at(0), hop(9)), Lookup::Known(MAC));
        assert!(cache.heard(at(0), hop(9), MAC, true).is_none());
        assert!(cache.poll_at().is_none());
    }

    #[test]
    fn it_asks_three_times_and_gives_up() {
        let mut cache = Cache::new();
        assert_eq!(cache.deposit(at(0), hop(9), b"packet", None), Deposit::Ask);
        assert_eq!(cache.poll_at(), Some(at(1)));
        assert!(cache.poll(at(0)).is_none());
        assert!(matches!(cache.poll(at(1)), Some(Due::Ask(asked)) if asked == hop(9)));
        assert!(cache.poll(at(1)).is_none());
        assert!(matches!(cache.poll(at(2)), Some(Due::Ask(_))));
        assert!(matches!(cache.poll(at(3)), Some(Due::GaveUp(None))));
        assert!(cache.poll(at(9)).is_none());
        assert_eq!(cache.lookup(at(9), hop(9)), Lookup::Unknown);
    }

    #[test]
    fn a_host_ages_is_asked_once_a_second_and_expires() {
        let mut cache = Cache::new();
        assert!(cache.heard(at(0), hop(9), MAC, true).is_none());
        assert_eq!(cache.lookup(at(49), hop(9)), Lookup::Known(MAC));
        assert_eq!(cache.lookup(at(50), hop(9)), Lookup::Aging(MAC));
        assert_eq!(cache.lookup(at(50), hop(9)), Lookup::Known(MAC));
        assert_eq!(cache.lookup(at(51), hop(9)), Lookup::Aging(MAC));
        assert_eq!(cache.lookup(at(60), hop(9)), Lookup::Unknown);
        assert!(cache.heard(at(61), hop(9), MAC, false).is_none());
        assert_eq!(cache.lookup(at(61), hop(9)), Lookup::Known(MAC));
    }

    #[test]
    fn what_is_not_for_us_brings_no_new_host() {
        let mut cache = Cache::new();
        assert!(cache.heard(at(0), hop(9), MAC, false).is_none());
        assert_eq!(cache.lookup(at(0), hop(9)), Lookup::Unknown);
    }

    #[test]
    fn a_scan_of_the_subnet_pushes_nobody_out() {
        let mut cache = Cache::new();
        assert!(cache.heard(at(0), hop(9), MAC, true).is_none());
        for last in 100..200 {
            let full = last >= 100 + WAITING as u8;
            let expected = if full { Deposit::Full } else { Deposit::Ask };
            assert_eq!(cache.deposit(at(0), hop(last), b"scan", None), expected);
        }
        assert_eq!(cache.lookup(at(0), hop(9)), Lookup::Known(MAC));
    }

    #[test]
    fn the_least_recently_heard_makes_room() {
        let mut cache = Cache::new();
        for last in 0..HOSTS as u8 {
            assert!(cache.heard(at(i64::from(last) / 8), hop(last), MAC, true).is_none());
        }
        assert!(cache.heard(at(5), hop(0), MAC, false).is_none());
        assert!(cache.heard(at(6), hop(200), MAC, true).is_none());
        assert_eq!(cache.lookup(at(6), hop(0)), Lookup::Known(MAC));
        assert_eq!(cache.lookup(at(6), hop(1)), Lookup::Unknown);
        assert_eq!(cache.lookup(at(6), hop(200)), Lookup::Known(MAC));
    }

    #[test]
    fn a_frame_that_is_too_long_is_not_kept() {
        let mut cache = Cache::new();
        assert_eq!(cache.deposit(at(0), hop(9), &[0; MAX_FRAME + 1], None), Deposit::Full);
        assert!(cache.poll_at().is_none());
    }
}
