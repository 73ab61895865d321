//! Which addresses and ports are the translator's own.

use super::state::State;
use crate::endpoint::Endpoint;

impl State {
    /// Whether `address` is an alternative address.
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    pub(super) fn is_alternative(&self, address: u32) -> bool {
        self.config.alternatives.as_slice().iter().any(|a| a.holds(address))
    }

    /// Whether every address in the span is an alternative address.
    #[inline(always)]
    pub(super) const fn has_one_range(&self) -> bool {
        #[cfg(target_pointer_width = "64")]
        return self.one_range;
        #[cfg(not(target_pointer_width = "64"))]
        return self.config.alternatives.len() == 1;
    }

    /// Whether this is an alternative address with a port that is given to connections.
    pub(super) fn gives_away(&self, Endpoint { address, port }: Endpoint) -> bool {
        let mut alternatives = self.config.alternatives.as_slice().iter();
        alternatives.any(|a| a.holds(address) && (a.ports.0..=a.ports.1).contains(&port))
    }

    pub(super) fn is_own(&self, address: u32) -> bool {
        self.is_alternative(address) || self.config.own.as_slice().contains(&address)
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::sharding::Sharding;
    use crate::table::index::Layout;
    use core::net::Ipv4Addr;

    /// The fast paths require exactly one range with ports; the translator's other own addresses do not matter.
    #[test]
    fn a_shard_with_an_address_of_its_own_has_one_range() {
        let [first, last] = [10, 13].map(|n| Ipv4Addr::new(10, 10, 10, n));
        let in_a_row = Config::new([7; 32]).alternatives(first, last, 1_024..=65_535);
        let apart = [10, 110, 60, 200]
            .into_iter()
            .fold(Config::new([7; 32]), |config, n| config.alternative(Ipv4Addr::new(n, 10, 10, 10), 1_024..=65_535));
        let layout = Layout::new(&[0; 256], 16);
        for config in [in_a_row, apart] {
            let sharding = Sharding::new(&config, 4).unwrap();
            assert!(sharding.has_whole_addresses());
            for shard in 0..4 {
                let (own, _, _) = sharding.alternatives(shard).next().unwrap();
                let state = State::new(sharding.config(&config, shard).unwrap(), layout, None, None);
                assert!(state.has_one_range());
                for (other, _, _) in (0..4).flat_map(|shard| sharding.alternatives(shard)) {
                    let address = other.to_bits();
                    assert!(state.own_span.holds(address) && state.is_own(address));
                    assert_eq!(state.span.holds(address), other == own);
                }
            }
        }
        let several = Config::new([7; 32]).alternative(first, 5..=6).alternative(last, 5..=6);
        assert!(!State::new(several, layout, None, None).has_one_range());
        assert!(!State::new(Config::new([7; 32]), layout, None, None).has_one_range());
    }
}
