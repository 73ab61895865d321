//! How many connections each client holds: one client must not take them all.

use core::net::{IpAddr, Ipv6Addr};
use std::collections::HashMap;

/// A client, as far as its address says: with IPv6 its network of 64 bits, since a host has all addresses in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder(IpAddr);

impl Holder {
    /// The holder that has this address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        })
    }
}

/// The number of connections of each.
#[derive(Clone, Debug, Default)]
pub struct Holders(HashMap<Holder, usize>);

impl Holders {
    /// How many it has.
    #[must_use]
    pub fn held(&self, holder: Holder) -> usize {
        self.0.get(&holder).copied().unwrap_or(0)
    }

    /// Counts one more connection of a holder.
    pub fn add(&mut self, holder: Holder) {
        *self.0.entry(holder).or_default() += 1;
    }

    /// Counts one connection of a holder fewer.
    pub fn remove(&mut self, holder: Holder) {
        if let Some(held) = self.0.get_mut(&holder) {
            *held -= 1;
            if *held == 0 {
                self.0.remove(&holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stands_for_who_can_have_it() {
        let of = |address: &str| Holder::of(address.parse().unwrap());
        assert_eq!(of("198.51.100.7"), of("::ffff:198.51.100.7"));
        assert_ne!(of("198.51.100.7"), of("198.51.100.8"));
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:2:ffff:1:2:3"));
        assert_ne!(of("2001:db8:1:2::3"), of("2001:db8:1:3::3"));
        let (mut holders, one) = (Holders::default(), of("198.51.100.7"));
        (0..3).for_each(|_| holders.add(one));
        (0..2).for_each(|_| holders.remove(one));
        assert_eq!((holders.held(one), holders.0.len()), (1, 1));
        holders.remove(one);
        assert_eq!((holders.held(one), holders.0.len()), (0, 0));
    }
}
